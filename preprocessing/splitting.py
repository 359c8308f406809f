"""Which pictures train, choose the epoch and judge: the same ones in every run, on any number of executors."""

import functools
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.schema import TEST, TRAIN, VALIDATION
from preprocessing.settings import Split

Shares = dict[str, float]
# A source's own: they stay as they are published.
PUBLISHED = (VALIDATION, TEST)
# Groups that are alike in these are divided together.
_ALIKE = ("source", "stratum", "whole", "validated")


def split_by_row(rows: DataFrame, settings: Split, seed: int) -> DataFrame:
    """Divide the pictures of each class and source, each picture by itself.

    The rows of a class are put in the order of a hash of their id, and the first ones go: which ones depends on the
    rows and the seed alone, and every class gives the same share, to the row. Nothing is kept back for validation where
    a source has validation rows of its own, and for test only rows whose split is null are.

    Args:
        rows: the columns ``id``, ``label``, ``source`` and ``split``, the source's own or null.
        settings: the shares.
        seed: another seed keeps back other rows.

    Returns:
        The rows with every ``split`` filled in, and ``group``, which is the id.
    """
    stratum = Window.partitionBy("source", "split", "label")
    rank = F.row_number().over(stratum.orderBy(F.xxhash64(F.lit(seed), "id"), "id"))
    count = F.count(F.lit(1)).over(stratum)
    own = F.col("split")
    test = F.when(own.isNull(), F.round(count * settings.test)).otherwise(0)
    kept_back = F.when(_has_validation(rows), 0).otherwise(F.round(count * settings.validation))
    split = (
        F.when(own.isin(*PUBLISHED), own)
        .when(rank <= test, TEST)
        .when(rank <= test + kept_back, VALIDATION)
        .otherwise(TRAIN)
    )
    return rows.withColumn("split", split).withColumn("group", F.col("id"))


def to_divide(rows: DataFrame) -> DataFrame:
    """The rows that are in no published validation or test set."""
    return rows.where(F.col("split").isNull() | ~F.col("split").isin(*PUBLISHED))


def _has_validation(rows: DataFrame) -> Column:
    """Whether a row's source has validation rows of its own."""
    sources = rows.where(F.col("split") == VALIDATION).select("source").distinct().collect()
    return F.col("source").isin(*(row["source"] for row in sources))


def split_by_group(rows: DataFrame, settings: Split, seed: int) -> DataFrame:
    """Divide the pictures so that those of one group stay on one side.

    Groups of one class are divided class by class, groups with pictures of several classes (a signer's) together. In
    the order of a hash each goes where most pictures are still missing, and every split gets one group at least. What
    is published as validation or test stays so, and binds no group.

    Args:
        rows: the columns of :func:`split_by_row` and ``group``.
        settings: the shares.
        seed: another seed keeps back other groups.

    Raises:
        InputError: there are fewer groups than splits.
    """
    groups = (
        to_divide(rows.withColumn("validated", _has_validation(rows)))
        .groupBy("group")
        .agg(
            F.count(F.lit(1)).alias("size"),
            # near-copies in two sources are divided with the first one
            F.min("source").alias("source"),
            F.max("split").alias("split"),
            F.max("validated").alias("validated"),
            F.min("label").alias("label"),
            (F.min("label") != F.max("label")).alias("mixed"),
        )
    )
    # where one signer shows several classes, those who show one are divided with him
    mixed = F.max("mixed").over(Window.partitionBy("source"))
    stratum = F.when(mixed, F.lit(None)).otherwise(F.col("label"))
    order = F.xxhash64(F.lit(seed), "group")
    groups = groups.select(
        "source", "group", "size", "validated", F.col("split").isNull().alias("whole"), stratum.alias("stratum"),
        order.alias("hash"),
    )  # fmt: skip
    _check_groups(groups)
    assign = functools.partial(_assign, {TRAIN: 1.0, VALIDATION: settings.validation, TEST: settings.test})
    assigned = groups.groupBy(*_ALIKE).applyInPandas(assign, "group string, assigned string")
    split = F.when(F.col("split").isin(*PUBLISHED), F.col("split")).otherwise(F.col("assigned"))
    return rows.join(assigned, "group", how="left").withColumn("split", split).drop("assigned")


def _check_groups(groups: DataFrame) -> None:
    needed = F.lit(1) + F.col("whole").cast("int") + (~F.col("validated")).cast("int")
    counted = groups.groupBy(*_ALIKE).agg(F.count(F.lit(1)).alias("groups"))
    few = counted.where(F.col("groups") < needed).orderBy("source", "stratum").limit(5).collect()
    if few:
        named = ", ".join(f"{row['stratum'] or 'all classes'} of {row['source']} {row['groups']}" for row in few)
        raise InputError(
            f"split.by group: there are fewer groups than splits, {named}: each split needs one."
            " --split.by row divides the groups themselves"
        )


def _assign(shares: Shares, groups: pd.DataFrame) -> pd.DataFrame:
    """Each group of a stratum to a split."""
    groups = groups.sort_values(["hash", "group"])
    first = groups.iloc[0]
    taken = {TEST: first["whole"], VALIDATION: not first["validated"], TRAIN: True}
    shares = {name: share for name, share in shares.items() if taken[name]}
    shares[TRAIN] = 1 - sum(share for name, share in shares.items() if name != TRAIN)
    missing = {name: share * groups["size"].sum() for name, share in shares.items()}
    empty = set(shares)
    assigned = []
    for left, size in zip(range(len(groups), 0, -1), groups["size"], strict=True):
        # the last ones go where nothing is yet
        candidates = empty if left <= len(empty) else shares
        split = max(sorted(candidates), key=lambda name: missing[name])
        missing[split] -= size
        empty.discard(split)
        assigned.append(split)
    return groups[["group"]].assign(assigned=pd.Series(assigned, index=groups.index))


def keep_fraction(rows: DataFrame, fraction: float, seed: int) -> DataFrame:
    """Only so much of each class's training pictures; a smaller fraction's are among a larger one's.

    Args:
        rows: the columns ``id``, ``label``, ``source`` and ``split``.
        fraction: a share 0..1.
        seed: another seed keeps other pictures.
    """
    stratum = Window.partitionBy("source", "split", "label")
    rank = F.row_number().over(stratum.orderBy(F.xxhash64(F.lit(seed + 1), "id"), "id"))
    kept = F.greatest(F.lit(1), F.round(F.count(F.lit(1)).over(stratum) * fraction))
    rows = rows.withColumn("kept", (F.col("split") != TRAIN) | (rank <= kept))
    return rows.where("kept").drop("kept")


Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class CountedImages:
    """What one look at all rows tells.

    Args:
        classes: rows by split and, within it, by class in alphabetical order.
        sources: rows by source and, within it, by split.
        fingerprint: the same for the same rows in the same splits, in whatever order.
        test_fingerprint: the same for the same test rows.
    """

    classes: Counts
    sources: Counts
    fingerprint: str
    test_fingerprint: str


def count_images(images: DataFrame) -> CountedImages:
    """Count rows, and give them fingerprints: sums of hashes of their ids and splits."""
    classes: Counts = {TRAIN: {}, VALIDATION: {}, TEST: {}}
    sources: Counts = {}
    total = test = 0
    # as decimals, which do not overflow as the hashes' own 64 bits would
    sums = [F.sum(F.xxhash64(*columns).cast("decimal(20,0)")) for columns in (("id", "split"), ("id",))]
    counted = images.groupBy("source", "split", "label").agg(F.count(F.lit(1)), *sums)
    for source, split, label, count, of_rows, of_ids in counted.orderBy("source", "label").collect():
        classes[split][label] = classes[split].get(label, 0) + count
        sources.setdefault(source, {TRAIN: 0, VALIDATION: 0, TEST: 0})[split] += count
        total += int(of_rows)
        test += int(of_ids) if split == TEST else 0
    alphabetical = {split: dict(sorted(found.items())) for split, found in classes.items()}
    return CountedImages(alphabetical, sources, str(total), str(test))


def check_classes(counts: Counts) -> None:
    """Refuse splits that cannot be trained or judged on.

    Raises:
        InputError: a split is empty, a trained class has no validation row, or a test class was never trained on.
    """
    for split, classes in counts.items():
        if not classes:
            raise InputError(f"no usable row is left for {split}")
    unvalidated = sorted(set(counts[TRAIN]) - set(counts[VALIDATION]))
    if unvalidated:
        few = ", ".join(f"{label} ({counts[TRAIN][label]} training rows)" for label in unvalidated)
        raise InputError(
            f"no validation row for class {few}: raise --split.validation or add pictures, to the validation folder if"
            " there is one"
        )
    only_validated = sorted(set(counts[VALIDATION]) - set(counts[TRAIN]))
    if only_validated:
        raise InputError(
            f"all pictures of class {', '.join(only_validated)} are in validation: add training pictures, or give"
            " another --seed"
        )
    untrained = sorted(set(counts[TEST]) - set(counts[TRAIN]))
    if untrained:
        raise InputError(f"the test set has class {', '.join(untrained)}, which the training set lacks")


def check_sources_agree(images: DataFrame) -> None:
    """Refuse sources that have no class in common: a network would tell the sources apart, and not the signs.

    Raises:
        InputError: naming two of them.
    """
    found = {
        row["source"]: set(row["labels"])
        for row in images.groupBy("source").agg(F.collect_set("label").alias("labels")).collect()
    }
    names = sorted(found)
    for name in names:
        others = [other for other in names if other != name]
        if others and not any(found[name] & found[other] for other in others):
            raise InputError(
                f"sources: {name} has the classes {', '.join(sorted(found[name]))}, and no other source has one of them"
            )
