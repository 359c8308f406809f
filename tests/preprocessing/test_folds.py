"""Tests of cross-validation by source or signer, and of folds."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from preprocessing.data_settings import Split
from preprocessing.errors import InputError
from preprocessing.folds import leave_out, left_out, with_folds

COLUMNS = "id string, source string, split string, label string, signer string, group string"


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> DataFrame:
    """Source a has 12 pictures of A, b five of A and five of B; the first two of each source are test pictures."""
    rows = [("a", "A", number) for number in range(12)] + [("b", "AB"[number % 2], number) for number in range(10)]
    table = [
        (f"{source}{number}", source, "test" if number < 2 else "validation" if number == 2 else "train", label,
         f"{source}-{number % 2}", f"{source}-{number % 4}")
        for source, label, number in rows
    ]  # fmt: skip
    return spark.createDataFrame(table, COLUMNS)


def test_the_left_out_source_becomes_the_test_set_without_classes_that_were_not_trained_on(images: DataFrame) -> None:
    assert left_out(images, "source") == ["a", "b"]
    assert left_out(images, "signer") == ["a-0", "a-1", "b-0", "b-1"]
    fold = leave_out(images, "source", "b", Split(validation=0.2), 0)
    assert fold.columns == images.columns
    splits = {row["id"]: row["split"] for row in fold.collect()}
    # b's class B was not trained on, and the original test pictures are dropped
    assert {name for name, split in splits.items() if split == "test"} == {"b2", "b4", "b6", "b8"}
    assert sorted(split for name, split in splits.items() if name.startswith("a")) == ["train"] * 8 + ["validation"] * 2
    assert not {"a0", "a1", "b0", "b1"} & set(splits)


def test_the_remaining_pictures_are_divided_by_group_if_the_experiment_is(images: DataFrame) -> None:
    fold = leave_out(images, "source", "b", Split("group", validation=0.3), 0)
    splits = fold.where("source = 'a'").groupBy("group").agg({"split": "collect_set"}).collect()
    assert len(splits) == 4
    assert all(len(row["collect_set(split)"]) == 1 for row in splits)
    assert {row["collect_set(split)"][0] for row in splits} == {"train", "validation"}


def test_a_single_source_and_unknown_signers_are_refused(spark: SparkSession) -> None:
    rows = [("1", "a", "train", "A", "x", "g"), ("2", "a", "train", "A", None, "g")]
    single_source = spark.createDataFrame(rows, COLUMNS)
    with pytest.raises(InputError, match="--by source: there is only a"):
        left_out(single_source, "source")
    with pytest.raises(InputError, match="--by signer: there are pictures whose signer is not known"):
        left_out(single_source, "signer")


def test_folds_have_equal_numbers_of_every_class_keep_groups_together_and_exclude_the_test_set(
    spark: SparkSession,
) -> None:
    rows = [
        (f"{label}{number}", "a", "test" if number >= 60 else "train", label, None, f"{label}-{number // 4}")
        for label in "AB"
        for number in range(64)
    ]
    assigned = with_folds(spark.createDataFrame(rows, COLUMNS), 5, 0).collect()
    assert len(assigned) == 120
    for label in "AB":
        assert [sum(row["fold"] == fold and row["label"] == label for row in assigned) for fold in range(5)] == [12] * 5
    folds_by_group: dict[str, set[int]] = {}
    for row in assigned:
        folds_by_group.setdefault(row["group"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in folds_by_group.values())


def test_more_folds_than_groups_of_a_class_are_refused(images: DataFrame) -> None:
    with pytest.raises(InputError, match=r"search.folds 9: there are fewer groups than that: A \d, B \d"):
        with_folds(images, 9, 0)
