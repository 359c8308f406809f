"""What the readers of all formats have in common: what they need, and the rows that they return."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession

from preprocessing.data_settings import Preprocessing
from preprocessing.schema import INPUT_TABLE
from preprocessing.storage import Storage


@dataclass(frozen=True)
class ReadContext:
    """What every reader needs.

    Args:
        spark: Spark session.
        storage: file systems of the session.
        work: absolute path of a folder for temporary files, which every executor sees and which exists as long as the
            job.
        settings: size and color that pictures are converted to.
        class_names: names of classes beyond the built-in ones.
    """

    spark: SparkSession
    storage: Storage
    work: str
    settings: Preprocessing
    class_names: list[str]


@dataclass(frozen=True)
class ReadRows:
    """The rows read from a source or from an input for prediction.

    Args:
        table: table with the columns of ``PARSED_TABLE`` or ``INPUT_TABLE``.
        count: expected number of rows, counted while the source was listed or read.
        kept: persisted tables, to be released with ``unpersist``.
        notes: messages for the user, one line each.
        convert: brings pixels to the size and color of the settings. None: they are so already.
    """

    table: DataFrame
    count: int
    kept: list[DataFrame]
    notes: list[str] = field(default_factory=list)
    convert: Callable[[DataFrame], DataFrame] | None = None


def with_id(rows: DataFrame, row_id: Column) -> DataFrame:
    """The columns of ``INPUT_TABLE`` for rows of ``PARSED_TABLE``."""
    return rows.withColumn("id", row_id).select(INPUT_TABLE.names)
