"""Rejects rows that cannot be used, each with a reason."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.schema import HAND_COLUMNS, REJECTED_TABLE, TEST, VALIDATION


@dataclass(frozen=True)
class Rejections:
    """Numbers of rows: ``rows`` read and ``usable`` rows by source, and rejected rows by their ``reasons``."""

    rows: dict[str, int]
    usable: dict[str, int]
    reasons: dict[str, int]

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


def mark_unusable(parsed: DataFrame, allow_duplicates: bool) -> DataFrame:
    """Add the id of each row, and reject rows that duplicate or contradict another row.

    Of exact duplicates (same label and pixels) the first one is kept. If a picture is in the test set and in the
    training set, the copy in the training set is rejected, so that the test set stays as published and is not trained
    on. Likewise, the test set takes precedence over the validation set, and the validation set over the training set.
    A picture with two labels is rejected under both.

    Args:
        parsed: the columns of ``PARSED_TABLE`` and ``position``, which identifies each row.
        allow_duplicates: whether exact duplicates are kept, with ids of their own.

    Returns:
        The columns of ``parsed`` without ``pixels`` and those of the hand, and ``id``.
    """
    # one shuffle serves both windows, because copies share the picture as well as the label
    same_picture = Window.partitionBy("picture")
    # published test and validation rows first, then rows without a split, which may become test rows
    split = F.col("split")
    rank = F.when(split == TEST, 0).when(split == VALIDATION, 1).when(split.isNull(), 2).otherwise(3)
    copies = Window.partitionBy("picture", "label").orderBy("rank", "source", "file", "line")
    usable = F.col("reason").isNull()
    rows = (
        parsed.withColumn("picture", F.md5("pixels"))
        .withColumn("id", F.md5(F.concat(F.col("label").cast("binary"), "pixels")))
        .drop("pixels", *(column.name for column in HAND_COLUMNS))
        .withColumn("rank", rank)  # a column, because Spark would sort by an expression twice
        .withColumn("copy", F.row_number().over(copies))
        .withColumn("original", F.first(F.concat_ws(":", "source", "file", "line")).over(copies))
        .withColumn("labels", F.array(F.min("label").over(same_picture), F.max("label").over(same_picture)))
    )
    conflicting = usable & (F.col("labels")[0] != F.col("labels")[1])
    rows = rows.withColumn("detail", F.when(conflicting, F.concat_ws(" and ", "labels")).otherwise(F.col("detail")))
    rows = rows.withColumn(
        "reason", F.when(conflicting, F.lit("one picture under two labels")).otherwise(F.col("reason"))
    )
    duplicate = F.col("reason").isNull() & (F.col("copy") > 1)
    if allow_duplicates:
        rows = rows.withColumn("id", F.when(duplicate, F.concat_ws("-", "id", "copy")).otherwise(F.col("id")))
    else:
        rows = rows.withColumn(
            "detail", F.when(duplicate, F.concat(F.lit("of "), "original")).otherwise(F.col("detail"))
        )
        rows = rows.withColumn("reason", F.when(duplicate, F.lit("exact duplicate")).otherwise(F.col("reason")))
    return rows.drop("picture", "labels", "rank", "copy", "original")


def count_rejections(marked: DataFrame) -> Rejections:
    """Count the rows of :func:`mark_unusable` by source and reason."""
    rows: dict[str, int] = {}
    usable: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for row in marked.groupBy("source", "reason").count().collect():
        rows[row["source"]] = rows.get(row["source"], 0) + row["count"]
        if row["reason"] is None:
            usable[row["source"]] = row["count"]
        else:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["count"]
    return Rejections(rows, usable, dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))))


def check_rejected_fraction(rejections: Rejections, rejected: DataFrame, max_rejected: float) -> None:
    """Check that at most the fraction ``max_rejected`` (0..1) of the rows were rejected, and that rows are left.

    Raises:
        InputError: too many rows were rejected. The message has the counts by reason and the first few rows.
    """
    total = sum(rejections.rows.values())
    if rejections.rejected and (rejections.rejected == total or rejections.rejected / total > max_rejected):
        fraction = f"{rejections.rejected:,} of {total:,} rows cannot be used"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejections.reasons.items())
        limit = "no row is left" if rejections.rejected == total else f"--max-rejected is {max_rejected:g}"
        raise InputError(f"{fraction} ({reasons}), {limit}. {_examples(rejected)}")


def check_counts(action: str, expected: dict[str, int], actual: dict[str, int]) -> None:
    """Check that no row was lost or duplicated.

    Args:
        action: what was done with the rows, as a past participle such as "read".
        expected: the expected number of rows by source.
        actual: the actual number of rows by source.

    Raises:
        InputError: the numbers of a source differ.
    """
    for source in sorted(set(expected) | set(actual)):
        expected_rows, actual_rows = expected.get(source, 0), actual.get(source, 0)
        if expected_rows != actual_rows:
            raise InputError(
                f"{source}: {actual_rows:,} rows were {action}, but it has {expected_rows:,}: did its files change"
                " during the job?"
            )


def check_sources(rejections: Rejections, rejected: DataFrame, sources: list[str]) -> None:
    """Check that every source has usable rows.

    Raises:
        InputError: a source has no rows, or none of its rows can be used.
    """
    for source in sources:
        if source not in rejections.rows:
            raise InputError(f"{source}: there is no picture in it")
        if source not in rejections.usable:
            examples = _examples(rejected.where(F.col("source") == source))
            raise InputError(f"{source}: no picture in it can be used: {examples}")


def rejected_rows(marked: DataFrame) -> DataFrame:
    """The rejected rows, with the columns of ``REJECTED_TABLE``."""
    return marked.where(F.col("reason").isNotNull()).select(REJECTED_TABLE.names)


def _examples(rejected: DataFrame) -> str:
    rows = rejected.orderBy("source", "file", "line").limit(3).collect()
    names = [row["file"] if row["line"] is None else f"{row['file']}:{row['line']}" for row in rows]
    return "; ".join(f"{name}: {row['reason']}: {row['detail']}" for name, row in zip(names, rows, strict=True))
