"""Whole groups to splits."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from preprocessing.settings import Split
from preprocessing.splitting import (
    CountedImages,
    _assign,
    count_images,
    keep_fraction,
    split_by_group,
    split_by_row,
)

SHARES = {"train": 1.0, "validation": 0.2, "test": 0.1}


def assign(sizes: list[int], whole: bool = True, validated: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    groups = pd.DataFrame(
        {"source": "s", "group": [f"g{i}" for i in range(len(sizes))], "size": sizes, "whole": whole,
         "validated": validated, "hash": rng.permutation(len(sizes))}
    )  # fmt: skip
    return groups.merge(_assign(SHARES, groups), on="group")


def test_the_shares_are_met_to_within_a_group() -> None:
    sizes = np.random.default_rng(1).integers(5, 40, 300).tolist()
    found = assign(sizes).groupby("assigned")["size"].sum() / sum(sizes)
    assert found["train"] == pytest.approx(0.7, abs=0.02)
    assert found["validation"] == pytest.approx(0.2, abs=0.02)
    assert found["test"] == pytest.approx(0.1, abs=0.02)


def test_a_source_with_a_test_set_of_its_own_gives_only_to_validation() -> None:
    found = assign([10] * 50, whole=False).groupby("assigned")["size"].sum()
    assert found.to_dict() == {"train": 400, "validation": 100}


def test_a_source_with_a_validation_set_of_its_own_gives_only_to_test() -> None:
    found = assign([10] * 50, validated=True).groupby("assigned")["size"].sum()
    assert found.to_dict() == {"train": 450, "test": 50}
    assert set(assign([10] * 5, whole=False, validated=True)["assigned"]) == {"train"}


def test_every_split_gets_a_group_however_few_and_large_they_are() -> None:
    assert sorted(assign([100, 90, 80])["assigned"]) == ["test", "train", "validation"]
    assert set(assign([1000, 1, 1, 1])["assigned"]) == {"train", "validation", "test"}


def test_the_order_of_the_rows_makes_no_difference() -> None:
    groups = pd.DataFrame(
        {"source": "s", "group": list("abcdefgh"), "size": 5, "whole": True, "validated": False, "hash": range(8)}
    )
    once, again = _assign(SHARES, groups), _assign(SHARES, groups.sample(frac=1, random_state=1))
    assert once.set_index("group")["assigned"].to_dict() == again.set_index("group")["assigned"].to_dict()


# A source of each kind: how many rows it has of each split of its own, and how many it gives each split with 20 % for
# validation and 10 % for test.
OWN = {
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
    """The sources of ``OWN``, one class; groups of two rows each, which span a source's own splits."""
    rows = [
        (f"{source}{split}{number}", "A", source, split, f"{source}{number // 2}")
        for source, own in OWN.items()
        for split, count in own.items()
        for number in range(count)
    ]
    return spark.createDataFrame(rows, "id string, label string, source string, split string, group string")


@pytest.mark.parametrize("divide", [split_by_row, split_by_group])
def test_what_a_source_publishes_stays_and_only_what_it_lacks_is_kept_back(
    published: DataFrame, divide: Callable[[DataFrame, Split, int], DataFrame]
) -> None:
    found = divide(published, Split("group", validation=0.2, test=0.1), 0).toPandas()
    assert {source: rows["split"].value_counts().to_dict() for source, rows in found.groupby("source")} == DIVIDED
    own = published.where("split in ('validation', 'test')").toPandas().set_index("id")["split"]
    assert found.set_index("id")["split"][own.index].to_dict() == own.to_dict()


def test_near_copies_of_a_source_with_a_validation_set_are_not_kept_back_with_those_of_another(
    spark: SparkSession,
) -> None:
    rows = [(f"{source}{i}", "A", source, "train", f"g{i}") for source in ("a", "b") for i in range(20)]
    rows.append(("own", "A", "b", "validation", "own"))
    table = spark.createDataFrame(rows, "id string, label string, source string, split string, group string")
    found = split_by_group(table, Split("group", validation=0.4), 0)
    assert [row["id"] for row in found.where("split = 'validation'").collect()] == ["own"]


def test_a_fraction_keeps_so_much_of_every_class_and_a_smaller_one_is_within(spark: SparkSession) -> None:
    rows = [(f"{i}", "AB"[i % 2], "s", "train" if i % 10 else "test") for i in range(400)]
    table = spark.createDataFrame(rows, "id string, label string, source string, split string")

    def kept(fraction: float) -> set[str]:
        found = keep_fraction(table, fraction, 0).toPandas()
        counts = found.groupby(["label", "split"]).size()
        assert counts["A"].to_dict() == {"test": 40, "train": round(160 * fraction)}
        assert counts["B"].to_dict() == {"train": round(200 * fraction)}
        return set(found["id"])

    assert kept(1 / 3) < kept(2 / 3)


def test_the_same_rows_have_one_fingerprint_in_any_order_and_others_another(spark: SparkSession) -> None:
    def counted(*rows: tuple[str, str, str]) -> CountedImages:
        data = [(name, split, label, "one") for name, split, label in rows]
        return count_images(spark.createDataFrame(data, "id string, split string, label string, source string"))

    first = counted(("a", "train", "A"), ("b", "test", "B"))
    assert counted(("b", "test", "B"), ("a", "train", "A")) == first
    assert first.classes == {"train": {"A": 1}, "validation": {}, "test": {"B": 1}}
    assert first.sources == {"one": {"train": 1, "validation": 0, "test": 1}}
    other = counted(("a", "validation", "A"), ("b", "test", "B"))
    assert other.fingerprint != first.fingerprint
    assert other.test_fingerprint == first.test_fingerprint


def test_classes_are_in_alphabetical_order_whatever_their_counts(spark: SparkSession) -> None:
    rows = [(str(i), "train", label, "one") for i, label in enumerate("YYYCBBY")]
    counted = count_images(spark.createDataFrame(rows, "id string, split string, label string, source string"))
    assert list(counted.classes["train"].items()) == [("B", 2), ("C", 1), ("Y", 4)]
