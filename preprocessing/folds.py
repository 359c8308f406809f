"""Datasets for cross-validation: one source, one signer or one fold is left out of the training pictures."""

from collections.abc import Mapping
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.data_settings import Split
from preprocessing.errors import InputError
from preprocessing.schema import TEST, TRAIN
from preprocessing.splitting import divide

By = Literal["source", "signer"]


def left_out(images: DataFrame, by: By) -> list[str]:
    """The names of the sources or signers that can be left out, one at a time.

    Raises:
        InputError: there are fewer than two, or there are pictures whose signer is unknown.
    """
    rows = images.where(F.col("split") != TEST).select(by).distinct().orderBy(by).collect()
    names = [row[by] for row in rows]
    if None in names:
        raise InputError("--by signer: there are pictures whose signer is not known: give each source a pattern")
    if len(names) < 2:
        raise InputError(f"--by {by}: there is only {names[0]}; leaving it out leaves nothing to train on")
    return names


def leave_out(
    images: DataFrame, by: By, name: str, split: Split, seed: int, assigned: Mapping[str, str] | None = None
) -> DataFrame:
    """Replace the test pictures of a table with those of one source or signer, which is left out of training.

    Pictures left out whose class has no remaining training pictures are dropped.

    Args:
        images: an image table.
        by: ``source`` or ``signer``.
        name: the name of the source or signer to leave out.
        split: the settings by which validation pictures are held out from the remaining ones.
        seed: the seed of the split.
        assigned: the split of each source whose pictures all belong to one split.

    Raises:
        InputError: the remaining pictures have fewer groups than splits.
    """
    not_test = images.where(F.col("split") != TEST)
    others = not_test.where(F.col(by) != name).withColumn("split", F.lit(TRAIN))
    remaining = divide(others, split, seed, assigned or {})
    remaining = remaining.select(images.columns)
    trained = remaining.where(F.col("split") == TRAIN).select("label").distinct()
    evaluation = not_test.where(F.col(by) == name).withColumn("split", F.lit(TEST))
    evaluation = evaluation.join(F.broadcast(trained), "label", how="left_semi")
    return remaining.unionByName(evaluation.select(images.columns))


def with_folds(images: DataFrame, folds: int, seed: int) -> DataFrame:
    """Divide the training and validation pictures into folds by group, with equal numbers of groups of each class.

    The groups of a class are assigned to the folds in turn, in the order of a hash; each class starts at another fold.
    If a group has pictures of several classes (a signer's), all groups are assigned together.

    Args:
        images: an image table.
        folds: the number of folds.
        seed: the seed of the hash; another seed gives other folds.

    Returns:
        The rows that are not test rows, with ``fold``, 0 to ``folds`` - 1.

    Raises:
        InputError: a class has fewer groups than there are folds.
    """
    not_test = images.where(F.col("split") != TEST)
    groups = not_test.groupBy("group").agg(F.min("label").alias("label"), F.max("label").alias("other"))
    mixed = groups.where(F.col("label") != F.col("other")).head() is not None
    groups = groups.withColumn("stratum", F.lit("all classes") if mixed else F.col("label"))
    too_few = groups.groupBy("stratum").count().where(F.col("count") < folds).orderBy("stratum").limit(5).collect()
    if too_few:
        strata = ", ".join(f"{row['stratum']} {row['count']}" for row in too_few)
        raise InputError(f"search.folds {folds}: there are fewer groups than that: {strata}")
    order = Window.partitionBy("stratum").orderBy(F.xxhash64(F.lit(seed), "group"), "group")
    position = F.row_number().over(order) + F.pmod(F.xxhash64("stratum"), F.lit(folds))
    assigned = groups.select("group", (position % folds).cast("int").alias("fold"))
    return not_test.join(assigned, "group")
