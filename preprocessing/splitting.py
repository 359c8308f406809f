"""Divides pictures into training, validation and test sets: the same ones in every run, on any number of executors."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.data_settings import Split
from preprocessing.errors import InputError
from preprocessing.schema import TEST, TRAIN, VALIDATION

SplitFractions = dict[str, float]
# Rows that a source publishes in these splits stay there.
PUBLISHED = (VALIDATION, TEST)
# Groups with the same values in these columns are divided together.
_STRATUM_COLUMNS = ("source", "stratum", "needs_test", "has_validation")


def divide(rows: DataFrame, settings: Split, seed: int, assigned: Mapping[str, str]) -> DataFrame:
    """Divide the pictures by row or by group, as the settings say.

    Args:
        rows: see :func:`split_by_row` and :func:`split_by_group`.
        settings: the fractions, and what is divided.
        seed: the seed of the hash.
        assigned: the split of each source whose pictures all belong to one split.

    Raises:
        InputError: see :func:`split_by_group`.
    """
    split = split_by_group if settings.by == "group" else split_by_row
    if not assigned:
        return split(rows, settings, seed)
    is_assigned = F.col("source").isin(*assigned)
    split_of_source = F.create_map(*[F.lit(value) for pair in assigned.items() for value in pair])
    undivided = rows.where(is_assigned).withColumn("split", split_of_source[F.col("source")])
    if settings.by == "row":
        undivided = undivided.withColumn("group", F.col("id"))
    return split(rows.where(~is_assigned), settings, seed).unionByName(undivided)


def split_by_row(rows: DataFrame, settings: Split, seed: int) -> DataFrame:
    """Divide the pictures of each class and source, independently of their groups.

    The rows of a class are sorted by a hash of their id, and the first ones are held out. The result depends only on
    the rows and the seed, and every class gives the same fraction, rounded to whole rows. A source with validation rows
    of its own gives none to validation, and only rows whose split is null are held out for test.

    Args:
        rows: the columns ``id``, ``label``, ``source`` and ``split``, which is the split published by the source, or
            null.
        settings: the fractions.
        seed: the seed of the hash; another seed holds out other rows.

    Returns:
        The rows with every ``split`` filled in, and ``group``, which is the id.
    """
    stratum = Window.partitionBy("source", "split", "label")
    rank = F.row_number().over(stratum.orderBy(F.xxhash64(F.lit(seed), "id"), "id"))
    count = F.count(F.lit(1)).over(stratum)
    published = F.col("split")
    test = F.when(published.isNull(), F.round(count * settings.test)).otherwise(0)
    validation = F.when(_has_validation(rows), 0).otherwise(F.round(count * settings.validation))
    split = (
        F.when(published.isin(*PUBLISHED), published)
        .when(rank <= test, TEST)
        .when(rank <= test + validation, VALIDATION)
        .otherwise(TRAIN)
    )
    return rows.withColumn("split", split).withColumn("group", F.col("id"))


def rows_to_divide(rows: DataFrame) -> DataFrame:
    """The rows that are not in a published validation or test set."""
    return rows.where(F.col("split").isNull() | ~F.col("split").isin(*PUBLISHED))


def _has_validation(rows: DataFrame) -> Column:
    """Whether the source of a row publishes validation rows."""
    sources = rows.where(F.col("split") == VALIDATION).select("source").distinct().collect()
    return F.col("source").isin(*(row["source"] for row in sources))


def split_by_group(rows: DataFrame, settings: Split, seed: int) -> DataFrame:
    """Divide the pictures so that all pictures of a group are in the same split.

    Groups of one class are divided class by class; groups with pictures of several classes (a signer's) are divided
    together. In the order of a hash, each group goes to the split that lacks the most pictures, and every split gets
    at least one group. Published validation and test rows keep their split and do not constrain the groups.

    Args:
        rows: the columns of :func:`split_by_row` and ``group``.
        settings: the fractions.
        seed: the seed of the hash; another seed holds out other groups.

    Raises:
        InputError: there are fewer groups than splits.
    """
    groups = (
        rows_to_divide(rows.withColumn("has_validation", _has_validation(rows)))
        .groupBy("group")
        .agg(
            F.count(F.lit(1)).alias("size"),
            # near-duplicates in two sources are divided with the source that comes first
            F.min("source").alias("source"),
            F.max("split").alias("split"),
            F.max("has_validation").alias("has_validation"),
            F.min("label").alias("label"),
            (F.min("label") != F.max("label")).alias("mixed"),
        )
    )
    # if one signer of a source shows several classes, its signers who show a single class are divided with them
    mixed = F.max("mixed").over(Window.partitionBy("source"))
    stratum = F.when(mixed, F.lit(None)).otherwise(F.col("label"))
    order = F.xxhash64(F.lit(seed), "group")
    groups = groups.select(
        "source", "group", "size", "has_validation", F.col("split").isNull().alias("needs_test"),
        stratum.alias("stratum"), order.alias("hash"),
    )  # fmt: skip
    _check_groups(groups)
    assign = functools.partial(_assign, {TRAIN: 1.0, VALIDATION: settings.validation, TEST: settings.test})
    assigned = groups.groupBy(*_STRATUM_COLUMNS).applyInPandas(assign, "group string, assigned string")
    split = F.when(F.col("split").isin(*PUBLISHED), F.col("split")).otherwise(F.col("assigned"))
    return rows.join(assigned, "group", how="left").withColumn("split", split).drop("assigned")


def _check_groups(groups: DataFrame) -> None:
    needed = F.lit(1) + F.col("needs_test").cast("int") + (~F.col("has_validation")).cast("int")
    counted = groups.groupBy(*_STRATUM_COLUMNS).agg(F.count(F.lit(1)).alias("groups"))
    too_few = counted.where(F.col("groups") < needed).orderBy("source", "stratum").limit(5).collect()
    if too_few:
        strata = ", ".join(f"{row['stratum'] or 'all classes'} of {row['source']} {row['groups']}" for row in too_few)
        raise InputError(
            f"split.by group: there are fewer groups than splits, {strata}: each split needs at least one group."
            " --split.by row divides the pictures without regard to groups"
        )


def _assign(fractions: SplitFractions, groups: pd.DataFrame) -> pd.DataFrame:
    """Assign each group of a stratum to a split."""
    groups = groups.sort_values(["hash", "group"])
    first = groups.iloc[0]
    is_needed = {TEST: first["needs_test"], VALIDATION: not first["has_validation"], TRAIN: True}
    fractions = {name: fraction for name, fraction in fractions.items() if is_needed[name]}
    fractions[TRAIN] = 1 - sum(fraction for name, fraction in fractions.items() if name != TRAIN)
    missing = {name: fraction * groups["size"].sum() for name, fraction in fractions.items()}
    empty = set(fractions)
    assigned = []
    for remaining, size in zip(range(len(groups), 0, -1), groups["size"], strict=True):
        # the last groups are reserved for splits that are still empty
        candidates = empty if remaining <= len(empty) else fractions
        split = max(sorted(candidates), key=lambda name: missing[name])
        missing[split] -= size
        empty.discard(split)
        assigned.append(split)
    return groups[["group"]].assign(assigned=pd.Series(assigned, index=groups.index))


def keep_fractions(rows: DataFrame, fractions: Mapping[str, float], seed: int) -> DataFrame:
    """Keep a fraction of each class's training pictures; a smaller fraction is a subset of a larger one.

    Args:
        rows: the columns ``id``, ``label``, ``source`` and ``split``.
        fractions: the fraction of the training pictures to keep, 0..1, by source. Sources that are not in it are kept
            whole.
        seed: the seed of the hash; another seed keeps other pictures.
    """
    stratum = Window.partitionBy("source", "split", "label")
    rank = F.row_number().over(stratum.orderBy(F.xxhash64(F.lit(seed + 1), "id"), "id"))
    fraction = F.lit(1.0)
    for source, kept_of_source in fractions.items():
        fraction = F.when(F.col("source") == source, kept_of_source).otherwise(fraction)
    kept = F.greatest(F.lit(1), F.round(F.count(F.lit(1)).over(stratum) * fraction))
    rows = rows.withColumn("kept", (F.col("split") != TRAIN) | (rank <= kept))
    return rows.where("kept").drop("kept")


Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class CountedImages:
    """Row counts and fingerprints, computed in one pass over all rows.

    Args:
        class_counts: the number of rows by split and, within it, by class in alphabetical order.
        sources: the number of rows by source and, within it, by split.
        fingerprint: a checksum of the rows and their splits that does not depend on their order.
        test_fingerprint: a checksum of the test rows that does not depend on their order.
        hands: the numbers of pictures that were ``searched`` for a hand and in which one was ``found``, by source and,
            within it, by class.
    """

    class_counts: Counts
    sources: Counts
    fingerprint: str
    test_fingerprint: str
    hands: dict[str, Counts]


def count_images(images: DataFrame) -> CountedImages:
    """Count the rows and compute their fingerprints, which are sums of hashes of their ids and splits."""
    class_counts: Counts = {TRAIN: {}, VALIDATION: {}, TEST: {}}
    sources: Counts = {}
    hands: dict[str, Counts] = {}
    fingerprint = test_fingerprint = 0
    # decimals do not overflow, unlike sums in the hashes' own 64 bits
    sums = [F.sum(F.xxhash64(*columns).cast("decimal(20,0)")) for columns in (("id", "split"), ("id",))]
    searched, found = F.count("hand_confidence"), F.count_if(F.col("hand_confidence") > 0)
    counted = images.groupBy("source", "split", "label").agg(F.count(F.lit(1)), *sums, searched, found)
    rows = counted.orderBy("source", "label").collect()
    for source, split, label, count, row_hashes, id_hashes, num_searched, num_found in rows:
        class_counts[split][label] = class_counts[split].get(label, 0) + count
        sources.setdefault(source, {TRAIN: 0, VALIDATION: 0, TEST: 0})[split] += count
        fingerprint += int(row_hashes)
        test_fingerprint += int(id_hashes) if split == TEST else 0
        if num_searched:
            counts = hands.setdefault(source, {}).setdefault(label, {"searched": 0, "found": 0})
            counts["searched"] += num_searched
            counts["found"] += num_found
    alphabetical = {split: dict(sorted(labels.items())) for split, labels in class_counts.items()}
    return CountedImages(alphabetical, sources, str(fingerprint), str(test_fingerprint), hands)


def check_classes(counts: Counts) -> None:
    """Check that every split has rows, and that the classes of the splits match.

    Raises:
        InputError: a split is empty, a class has training rows but no validation rows, or a class has validation or
            test rows but no training rows.
    """
    for split, class_counts in counts.items():
        if not class_counts:
            rows = ", ".join(f"{sum(classes.values()):,} for {name}" for name, classes in counts.items())
            raise InputError(f"no usable row is left for {split}: the rows are {rows}; add pictures")
    unvalidated = sorted(set(counts[TRAIN]) - set(counts[VALIDATION]))
    if unvalidated:
        details = ", ".join(f"{label} ({counts[TRAIN][label]} training rows)" for label in unvalidated)
        raise InputError(
            f"no validation row for class {details}: raise --split.validation or add pictures, to the validation folder"
            " if there is one"
        )
    only_validated = sorted(set(counts[VALIDATION]) - set(counts[TRAIN]))
    if only_validated:
        raise InputError(
            f"all pictures of class {', '.join(only_validated)} are in validation: add training pictures, or use"
            " another --seed"
        )
    untrained = sorted(set(counts[TEST]) - set(counts[TRAIN]))
    if untrained:
        raise InputError(f"the test set has class {', '.join(untrained)}, which the training set lacks")


def check_sources_agree(images: DataFrame) -> None:
    """Check that each source shares a class with another source.

    Otherwise a network would learn to distinguish the sources instead of the signs.

    Raises:
        InputError: a source has no class in common with any other source.
    """
    labels_by_source = {
        row["source"]: set(row["labels"])
        for row in images.groupBy("source").agg(F.collect_set("label").alias("labels")).collect()
    }
    names = sorted(labels_by_source)
    for name in names:
        other_names = [other for other in names if other != name]
        labels = labels_by_source[name]
        if other_names and not any(labels & labels_by_source[other] for other in other_names):
            raise InputError(
                f"sources: {name} has the classes {', '.join(sorted(labels))}, and no other source has one of them"
            )
