"""One source or signer left out in turn."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from preprocessing.errors import InputError
from preprocessing.folds import leave_out, left_out


def table(spark: SparkSession, *rows: tuple[str, str, str, str, str | None]) -> DataFrame:
    return spark.createDataFrame(list(rows), "id string, source string, split string, label string, signer string")


def test_what_is_left_out_takes_the_place_of_the_test_set_as_far_as_it_can_be_judged(spark: SparkSession) -> None:
    images = table(
        spark,
        ("1", "a", "train", "A", "x"), ("2", "a", "validation", "A", "x"), ("3", "a", "test", "A", "x"),
        ("4", "b", "train", "A", "y"), ("5", "b", "validation", "B", "y"), ("6", "b", "test", "B", "y"),
    )  # fmt: skip
    assert left_out(images, "source") == ["a", "b"]
    assert left_out(images, "signer") == ["x", "y"]
    fold = {row["id"]: row["split"] for row in leave_out(images, "source", "b").collect()}
    # b's B was never trained on, and no test picture is there
    assert fold == {"1": "train", "2": "validation", "4": "test"}
    assert leave_out(images, "signer", "x").columns == images.columns


def test_one_source_alone_and_unknown_signers_are_refused(spark: SparkSession) -> None:
    alone = table(spark, ("1", "a", "train", "A", "x"), ("2", "a", "train", "A", None))
    with pytest.raises(InputError, match="--by source: there is only a"):
        left_out(alone, "source")
    with pytest.raises(InputError, match="--by signer: there are pictures whose signer is not known"):
        left_out(alone, "signer")
