"""Rows that cannot be used are set aside, each with its reason; the others become the image table."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.parsing import SIDE
from preprocessing.schema import IMAGE_TABLE, REJECTED_TABLE


@dataclass(frozen=True)
class Rejections:
    """How many rows were read and set aside, and why."""

    rows: int
    reasons: dict[str, int]

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())


def mark_duplicates(parsed: DataFrame) -> DataFrame:
    """Give each usable row its id, and each exact repetition of a row (letter and pixels) a reason.

    Where a picture is in the test file and in the training file, the training file's copy is the repetition: the test
    set stays as published, and nothing in it was trained on.
    """
    key = F.md5(F.concat(F.col("label").cast("binary"), "pixels"))
    first = Window.partitionBy("id").orderBy("split", "line")  # "test" sorts before "train"
    place = F.concat_ws(":", "source", "line")
    repeated = F.col("id").isNotNull() & (F.row_number().over(first) > 1)
    return (
        parsed.withColumn("id", key)
        .withColumn("original", F.when(repeated, F.first(place).over(first)))
        .withColumn("reason", F.when(F.col("original").isNull(), F.col("reason")).otherwise("exact duplicate"))
        .withColumn("detail", F.coalesce(F.concat(F.lit("of "), "original"), "detail"))
        .drop("original")
    )


def count_rejections(marked: DataFrame) -> Rejections:
    counts = {row["reason"]: row["count"] for row in marked.groupBy("reason").count().collect()}
    rows = sum(counts.values())
    counts.pop(None, None)
    return Rejections(rows, dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))


def check_share(rejections: Rejections, rejected: DataFrame, max_rejected: float) -> None:
    """Stop where more than ``max_rejected`` of the rows, a share 0..1, were set aside.

    Raises:
        InputError: with the counts by reason and the first few rows.
    """
    if rejections.rejected and (
        rejections.rejected == rejections.rows or rejections.rejected / rejections.rows > max_rejected
    ):
        share = f"{rejections.rejected:,} of {rejections.rows:,} rows cannot be used"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejections.reasons.items())
        examples = rejected.orderBy("source", "line").limit(3).collect()
        shown = "; ".join(f"{row['source']}:{row['line']}: {row['reason']}: {row['detail']}" for row in examples)
        limit = "no row is left" if rejections.rejected == rejections.rows else f"--max-rejected is {max_rejected:g}"
        raise InputError(f"{share} ({reasons}), {limit}. {shown}")


def rejected_rows(marked: DataFrame) -> DataFrame:
    """The rows set aside, with the columns of ``REJECTED_TABLE``."""
    return marked.where(F.col("reason").isNotNull()).select(REJECTED_TABLE.names)


def image_table(marked: DataFrame) -> DataFrame:
    """The rows that can be used, with the columns of ``IMAGE_TABLE``; each row is a group of its own."""
    return (
        marked.where(F.col("reason").isNull())
        .withColumn("height", F.lit(SIDE))
        .withColumn("width", F.lit(SIDE))
        .withColumn("channels", F.lit(1))
        .withColumn("group", F.col("id"))
        .select(IMAGE_TABLE.names)
    )
