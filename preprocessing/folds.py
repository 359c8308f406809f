"""Training pictures with one source, one signer or one fold left out."""

from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.schema import TEST, TRAIN
from preprocessing.settings import Split
from preprocessing.splitting import split_by_group, split_by_row

By = Literal["source", "signer"]


def left_out(images: DataFrame, by: By) -> list[str]:
    """What can be left out in turn.

    Raises:
        InputError: there are fewer than two, or pictures whose signer is not known.
    """
    rows = images.where(F.col("split") != TEST).select(by).distinct().orderBy(by).collect()
    names = [row[by] for row in rows]
    if None in names:
        raise InputError("--by signer: there are pictures whose signer is not known: give each source a pattern")
    if len(names) < 2:
        raise InputError(f"--by {by}: there is only {names[0]}; leaving it out leaves nothing to train on")
    return names


def leave_out(images: DataFrame, by: By, name: str, split: Split, seed: int) -> DataFrame:
    """The table without its test pictures; what is left out takes their place, as far as the others have its classes.

    Args:
        images: an image table.
        by: ``source`` or ``signer``.
        name: which of them.
        split: how validation pictures are kept back from the others.
        seed: of the split.

    Raises:
        InputError: the others are in fewer groups than splits.
    """
    known = images.where(F.col("split") != TEST)
    divide = split_by_group if split.by == "group" else split_by_row
    others = divide(known.where(F.col(by) != name).withColumn("split", F.lit(TRAIN)), split, seed).select(
        images.columns
    )
    trained = others.where(F.col("split") == TRAIN).select("label").distinct()
    judged = known.where(F.col(by) == name).withColumn("split", F.lit(TEST))
    return others.unionByName(judged.join(F.broadcast(trained), "label", how="left_semi").select(images.columns))


def with_folds(images: DataFrame, folds: int, seed: int) -> DataFrame:
    """Divide the pictures that are no test pictures into folds, group by group: as many groups of a class in each.

    The groups of a class are dealt out in the order of a hash, each class from another fold on. Where a group has
    pictures of several classes (a signer's), all groups are dealt out together.

    Args:
        images: an image table.
        folds: how many.
        seed: another seed deals otherwise.

    Returns:
        The rows with ``fold``, 0 to ``folds`` - 1.

    Raises:
        InputError: a class has fewer groups than there are folds.
    """
    known = images.where(F.col("split") != TEST)
    groups = known.groupBy("group").agg(F.min("label").alias("label"), F.max("label").alias("other"))
    mixed = groups.where(F.col("label") != F.col("other")).head() is not None
    groups = groups.withColumn("stratum", F.lit("all classes") if mixed else F.col("label"))
    few = groups.groupBy("stratum").count().where(F.col("count") < folds).orderBy("stratum").limit(5).collect()
    if few:
        named = ", ".join(f"{row['stratum']} {row['count']}" for row in few)
        raise InputError(f"search.folds {folds}: there are fewer groups than that: {named}")
    order = Window.partitionBy("stratum").orderBy(F.xxhash64(F.lit(seed), "group"), "group")
    place = F.row_number().over(order) + F.pmod(F.xxhash64("stratum"), F.lit(folds))
    dealt = groups.select("group", (place % folds).cast("int").alias("fold"))
    return known.join(dealt, "group")
