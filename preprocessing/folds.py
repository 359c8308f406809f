"""Training pictures with one source or signer left out."""

from typing import Literal

from pyspark.sql import DataFrame
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
