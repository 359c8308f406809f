"""One source or signer left out in turn."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from preprocessing.errors import InputError
from preprocessing.folds import leave_out, left_out, with_folds
from preprocessing.settings import Split

COLUMNS = "id string, source string, split string, label string, signer string, group string"


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> DataFrame:
    """Source a has ten pictures of A, b four of A and four of B; two of each are test pictures."""
    rows = [("a", "A", number) for number in range(12)] + [("b", "AB"[number % 2], number) for number in range(10)]
    table = [
        (f"{source}{number}", source, "test" if number < 2 else "validation" if number == 2 else "train", label,
         f"{source}-{number % 2}", f"{source}-{number % 4}")
        for source, label, number in rows
    ]  # fmt: skip
    return spark.createDataFrame(table, COLUMNS)


def test_what_is_left_out_takes_the_place_of_the_test_set_as_far_as_it_can_be_judged(images: DataFrame) -> None:
    assert left_out(images, "source") == ["a", "b"]
    assert left_out(images, "signer") == ["a-0", "a-1", "b-0", "b-1"]
    fold = leave_out(images, "source", "b", Split(validation=0.2), 0)
    assert fold.columns == images.columns
    found = {row["id"]: row["split"] for row in fold.collect()}
    # b's B was never trained on, and no test picture is there
    assert {name for name, split in found.items() if split == "test"} == {"b2", "b4", "b6", "b8"}
    assert sorted(split for name, split in found.items() if name.startswith("a")) == ["train"] * 8 + ["validation"] * 2
    assert not {"a0", "a1", "b0", "b1"} & set(found)


def test_the_others_are_divided_anew_by_group_where_the_experiment_says_so(images: DataFrame) -> None:
    fold = leave_out(images, "source", "b", Split("group", validation=0.3), 0)
    splits = fold.where("source = 'a'").groupBy("group").agg({"split": "collect_set"}).collect()
    assert len(splits) == 4
    assert all(len(row["collect_set(split)"]) == 1 for row in splits)
    assert {row["collect_set(split)"][0] for row in splits} == {"train", "validation"}


def test_one_source_alone_and_unknown_signers_are_refused(spark: SparkSession) -> None:
    rows = [("1", "a", "train", "A", "x", "g"), ("2", "a", "train", "A", None, "g")]
    alone = spark.createDataFrame(rows, COLUMNS)
    with pytest.raises(InputError, match="--by source: there is only a"):
        left_out(alone, "source")
    with pytest.raises(InputError, match="--by signer: there are pictures whose signer is not known"):
        left_out(alone, "signer")


def test_folds_have_equal_shares_of_every_class_tear_no_group_and_leave_the_test_set_out(spark: SparkSession) -> None:
    rows = [
        (f"{label}{number}", "a", "test" if number >= 60 else "train", label, None, f"{label}-{number // 4}")
        for label in "AB"
        for number in range(64)
    ]
    dealt = with_folds(spark.createDataFrame(rows, COLUMNS), 5, 0).collect()
    assert len(dealt) == 120
    for label in "AB":
        assert [sum(row["fold"] == fold and row["label"] == label for row in dealt) for fold in range(5)] == [12] * 5
    of_group: dict[str, set[int]] = {}
    for row in dealt:
        of_group.setdefault(row["group"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in of_group.values())


def test_more_folds_than_groups_of_a_class_are_refused(images: DataFrame) -> None:
    with pytest.raises(InputError, match=r"search.folds 9: there are fewer groups than that: A \d, B \d"):
        with_folds(images, 9, 0)
