"""Rows that cannot be used are set aside, each with its reason."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.schema import REJECTED_TABLE, TEST, VALIDATION


@dataclass(frozen=True)
class Rejections:
    """How many rows were read of each source, how many of them can be used, and why the others were set aside."""

    rows: dict[str, int]
    usable: dict[str, int]
    reasons: dict[str, int]

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


def mark_unusable(parsed: DataFrame, allow_duplicates: bool) -> DataFrame:
    """Give each usable row its id, and each that repeats or contradicts another one a reason.

    Of exact repetitions (letter and pixels) the first one stays. Where a picture is in the test set and in the training
    set, the training set's copy is the repetition: the test set stays as published, and nothing in it was trained on.
    So it is with the test and the validation set, and with the validation and the training set.
    A picture under two labels is set aside under both.

    Args:
        parsed: the columns of ``PARSED_TABLE`` and ``place``, which tells every row.
        allow_duplicates: repetitions stay, under ids of their own.

    Returns:
        The columns of ``parsed`` without ``pixels``, and ``id``.
    """
    # a copy has the picture and the label: one shuffle serves both windows
    same_picture = Window.partitionBy("picture")
    # published sets first, then what is still to be divided, and may be tested on
    split = F.col("split")
    rank = F.when(split == TEST, 0).when(split == VALIDATION, 1).when(split.isNull(), 2).otherwise(3)
    copies = Window.partitionBy("picture", "label").orderBy("rank", "source", "file", "line")
    usable = F.col("reason").isNull()
    rows = (
        parsed.withColumn("picture", F.md5("pixels"))
        .withColumn("id", F.md5(F.concat(F.col("label").cast("binary"), "pixels")))
        .drop("pixels")
        .withColumn("rank", rank)  # a column: as an expression it would be sorted by twice
        .withColumn("copy", F.row_number().over(copies))
        .withColumn("original", F.first(F.concat_ws(":", "source", "file", "line")).over(copies))
        .withColumn("labels", F.array(F.min("label").over(same_picture), F.max("label").over(same_picture)))
    )
    contradicting = usable & (F.col("labels")[0] != F.col("labels")[1])
    rows = rows.withColumn("detail", F.when(contradicting, F.concat_ws(" and ", "labels")).otherwise(F.col("detail")))
    rows = rows.withColumn(
        "reason", F.when(contradicting, F.lit("one picture under two labels")).otherwise(F.col("reason"))
    )
    repeated = F.col("reason").isNull() & (F.col("copy") > 1)
    if allow_duplicates:
        rows = rows.withColumn("id", F.when(repeated, F.concat_ws("-", "id", "copy")).otherwise(F.col("id")))
    else:
        rows = rows.withColumn(
            "detail", F.when(repeated, F.concat(F.lit("of "), "original")).otherwise(F.col("detail"))
        )
        rows = rows.withColumn("reason", F.when(repeated, F.lit("exact duplicate")).otherwise(F.col("reason")))
    return rows.drop("picture", "labels", "rank", "copy", "original")


def count_rejections(marked: DataFrame) -> Rejections:
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


def check_share(rejections: Rejections, rejected: DataFrame, max_rejected: float) -> None:
    """Stop where more than ``max_rejected`` of the rows, a share 0..1, were set aside.

    Raises:
        InputError: with the counts by reason and the first few rows.
    """
    total = sum(rejections.rows.values())
    if rejections.rejected and (rejections.rejected == total or rejections.rejected / total > max_rejected):
        share = f"{rejections.rejected:,} of {total:,} rows cannot be used"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejections.reasons.items())
        limit = "no row is left" if rejections.rejected == total else f"--max-rejected is {max_rejected:g}"
        raise InputError(f"{share} ({reasons}), {limit}. {_examples(rejected)}")


def check_counts(what: str, expected: dict[str, int], found: dict[str, int]) -> None:
    """Make sure that no row was lost or doubled on the way.

    Args:
        what: was done with the rows.
        expected: how many there have to be of each source.
        found: how many there are.

    Raises:
        InputError: naming the source and both numbers.
    """
    for source in sorted(set(expected) | set(found)):
        wanted, there = expected.get(source, 0), found.get(source, 0)
        if wanted != there:
            raise InputError(
                f"{source}: {there:,} rows were {what}, and there are {wanted:,}: did its files change meanwhile?"
            )


def check_sources(rejections: Rejections, rejected: DataFrame, sources: list[str]) -> None:
    """Refuse a source of which no row is left.

    Raises:
        InputError: naming it.
    """
    for source in sources:
        if source not in rejections.rows:
            raise InputError(f"{source}: there is no picture in it")
        if source not in rejections.usable:
            examples = _examples(rejected.where(F.col("source") == source))
            raise InputError(f"{source}: no picture in it can be used: {examples}")


def rejected_rows(marked: DataFrame) -> DataFrame:
    """The rows set aside, with the columns of ``REJECTED_TABLE``."""
    return marked.where(F.col("reason").isNotNull()).select(REJECTED_TABLE.names)


def _examples(rejected: DataFrame) -> str:
    rows = rejected.orderBy("source", "file", "line").limit(3).collect()
    places = [row["file"] if row["line"] is None else f"{row['file']}:{row['line']}" for row in rows]
    return "; ".join(f"{place}: {row['reason']}: {row['detail']}" for place, row in zip(places, rows, strict=True))
