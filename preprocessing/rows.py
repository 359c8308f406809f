"""The rows read from a source."""

from dataclasses import dataclass, field

from pyspark.sql import DataFrame


@dataclass(frozen=True)
class ReadRows:
    """The rows read from a source.

    Args:
        table: table with the columns of ``PARSED_TABLE`` or ``INPUT_TABLE``.
        count: expected number of rows, counted while the source was listed or read.
        kept: persisted tables, to be released with ``unpersist``.
        notes: messages for the user, one line each.
    """

    table: DataFrame
    count: int
    kept: list[DataFrame]
    notes: list[str] = field(default_factory=list)
