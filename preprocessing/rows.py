"""What reading a source gives."""

from dataclasses import dataclass, field

from pyspark.sql import DataFrame


@dataclass(frozen=True)
class ReadRows:
    """What was read of a source.

    Args:
        table: the columns of ``PARSED_TABLE``, or of ``INPUT_TABLE``.
        count: how many rows there have to be, as the reading itself counted them.
        kept: what is kept of it in memory, to be let go.
        notes: what the user should know of it, a line each.
    """

    table: DataFrame
    count: int
    kept: list[DataFrame]
    notes: list[str] = field(default_factory=list)
