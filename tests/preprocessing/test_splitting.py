"""Tests of the division of rows and groups into splits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from preprocessing.data_settings import Split
from preprocessing.splitting import (
    CountedImages,
    _assign,
    count_images,
    divide,
    keep_fractions,
    split_by_group,
    split_by_row,
)

FRACTIONS = {"train": 1.0, "validation": 0.2, "test": 0.1}


def assign(sizes: list[int], needs_test: bool = True, has_validation: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    groups = pd.DataFrame(
        {"source": "s", "group": [f"g{i}" for i in range(len(sizes))], "size": sizes, "needs_test": needs_test,
         "has_validation": has_validation, "hash": rng.permutation(len(sizes))}
    )  # fmt: skip
    return groups.merge(_assign(FRACTIONS, groups), on="group")


def test_the_fractions_are_met_to_within_a_group() -> None:
    sizes = np.random.default_rng(1).integers(5, 40, 300).tolist()
    fractions = assign(sizes).groupby("assigned")["size"].sum() / sum(sizes)
    assert fractions["train"] == pytest.approx(0.7, abs=0.02)
    assert fractions["validation"] == pytest.approx(0.2, abs=0.02)
    assert fractions["test"] == pytest.approx(0.1, abs=0.02)


def test_a_source_with_a_test_set_of_its_own_gives_only_to_validation() -> None:
    counts = assign([10] * 50, needs_test=False).groupby("assigned")["size"].sum()
    assert counts.to_dict() == {"train": 400, "validation": 100}


def test_a_source_with_a_validation_set_of_its_own_gives_only_to_test() -> None:
    counts = assign([10] * 50, has_validation=True).groupby("assigned")["size"].sum()
    assert counts.to_dict() == {"train": 450, "test": 50}
    assert set(assign([10] * 5, needs_test=False, has_validation=True)["assigned"]) == {"train"}


def test_every_split_gets_a_group_however_few_and_large_they_are() -> None:
    assert sorted(assign([100, 90, 80])["assigned"]) == ["test", "train", "validation"]
    assert set(assign([1000, 1, 1, 1])["assigned"]) == {"train", "validation", "test"}


def test_the_order_of_the_rows_makes_no_difference() -> None:
    groups = pd.DataFrame(
        {"source": "s", "group": list("abcdefgh"), "size": 5, "needs_test": True, "has_validation": False,
         "hash": range(8)}
    )  # fmt: skip
    in_order, shuffled = _assign(FRACTIONS, groups), _assign(FRACTIONS, groups.sample(frac=1, random_state=1))
    assert in_order.set_index("group")["assigned"].to_dict() == shuffled.set_index("group")["assigned"].to_dict()


# One source of each kind: the number of its rows by published split (None: not assigned), and by the split that results
# with 20 % for validation and 10 % for test.
PUBLISHED = {
    "none": {None: 100},
    "tested": {"train": 100, "test": 7},
    "validated": {None: 100, "validation": 7},
    "both": {"train": 100, "validation": 7, "test": 9},
}
DIVIDED = {
    "none": {"train": 70, "validation": 20, "test": 10},
    "tested": {"train": 80, "validation": 20, "test": 7},
    "validated": {"train": 90, "validation": 7, "test": 10},
    "both": {"train": 100, "validation": 7, "test": 9},
}


@pytest.fixture(scope="module")
def published(spark: SparkSession) -> DataFrame:
    """The sources of ``PUBLISHED``, with one class and groups of two rows, which span the published splits."""
    rows = [
        (f"{source}{split}{number}", "A", source, split, f"{source}{number // 2}")
        for source, split_counts in PUBLISHED.items()
        for split, count in split_counts.items()
        for number in range(count)
    ]
    return spark.createDataFrame(rows, "id string, label string, source string, split string, group string")


@pytest.mark.parametrize("split_by", [split_by_row, split_by_group])
def test_published_splits_are_kept_and_only_missing_ones_are_held_out(
    published: DataFrame, split_by: Callable[[DataFrame, Split, int], DataFrame]
) -> None:
    divided = split_by(published, Split("group", validation=0.2, test=0.1), 0).toPandas()
    assert {source: rows["split"].value_counts().to_dict() for source, rows in divided.groupby("source")} == DIVIDED
    splits = published.where("split in ('validation', 'test')").toPandas().set_index("id")["split"]
    assert divided.set_index("id")["split"][splits.index].to_dict() == splits.to_dict()


def test_near_duplicates_of_a_source_with_a_validation_set_are_not_held_out_with_those_of_another(
    spark: SparkSession,
) -> None:
    rows = [(f"{source}{i}", "A", source, "train", f"g{i}") for source in ("a", "b") for i in range(20)]
    rows.append(("own", "A", "b", "validation", "own"))
    table = spark.createDataFrame(rows, "id string, label string, source string, split string, group string")
    divided = split_by_group(table, Split("group", validation=0.4), 0)
    assert [row["id"] for row in divided.where("split = 'validation'").collect()] == ["own"]


@pytest.mark.parametrize("by", ["row", "group"])
def test_a_source_may_be_in_one_split_as_a_whole(spark: SparkSession, by: Any) -> None:
    rows = [(f"{source}{i}", "A", source, None, f"{source}{i // 2}") for source in ("a", "b", "c") for i in range(20)]
    table = spark.createDataFrame(rows, "id string, label string, source string, split string, group string")
    divided = divide(table, Split(by, validation=0.2, test=0.2), 0, {"a": "train", "b": "validation"}).toPandas()
    splits = divided.groupby("source")["split"].agg(lambda values: sorted(set(values)))
    assert splits.to_dict() == {"a": ["train"], "b": ["validation"], "c": ["test", "train", "validation"]}
    assert len(divided) == 60
    assert divided["group"].notna().all()


def test_sources_may_keep_different_fractions(spark: SparkSession) -> None:
    rows = [(f"{source}{i}", "A", source, "train") for source in "abc" for i in range(40)]
    table = spark.createDataFrame(rows, "id string, label string, source string, split string")
    kept = keep_fractions(table, {"a": 0.5, "b": 0.1}, 0).toPandas()
    assert kept["source"].value_counts().to_dict() == {"a": 20, "b": 4, "c": 40}


def test_a_fraction_applies_to_every_class_and_a_smaller_one_is_a_subset(spark: SparkSession) -> None:
    rows = [(f"{i}", "AB"[i % 2], "s", "train" if i % 10 else "test") for i in range(400)]
    table = spark.createDataFrame(rows, "id string, label string, source string, split string")

    def kept_ids(fraction: float) -> set[str]:
        kept = keep_fractions(table, {"s": fraction}, 0).toPandas()
        counts = kept.groupby(["label", "split"]).size()
        assert counts["A"].to_dict() == {"test": 40, "train": round(160 * fraction)}
        assert counts["B"].to_dict() == {"train": round(200 * fraction)}
        return set(kept["id"])

    assert kept_ids(1 / 3) < kept_ids(2 / 3)


COUNTED = "id string, split string, label string, source string, hand_confidence float"


def test_a_fingerprint_depends_on_the_rows_and_not_on_their_order(spark: SparkSession) -> None:
    def counted(*rows: tuple[str, str, str]) -> CountedImages:
        data = [(name, split, label, "one", None) for name, split, label in rows]
        return count_images(spark.createDataFrame(data, COUNTED))

    first = counted(("a", "train", "A"), ("b", "test", "B"))
    assert counted(("b", "test", "B"), ("a", "train", "A")) == first
    assert first.class_counts == {"train": {"A": 1}, "validation": {}, "test": {"B": 1}}
    assert first.sources == {"one": {"train": 1, "validation": 0, "test": 1}}
    other = counted(("a", "validation", "A"), ("b", "test", "B"))
    assert other.fingerprint != first.fingerprint
    assert other.test_fingerprint == first.test_fingerprint


def test_classes_are_in_alphabetical_order_regardless_of_their_counts(spark: SparkSession) -> None:
    rows = [(str(i), "train", label, "one", None) for i, label in enumerate("YYYCBBY")]
    counted = count_images(spark.createDataFrame(rows, COUNTED))
    assert list(counted.class_counts["train"].items()) == [("B", 2), ("C", 1), ("Y", 4)]
