"""Names the steps of a job: in its lines of progress, and in Spark's user interface."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

_GROUP, _DESCRIPTION = "spark.jobGroup.id", "spark.job.description"
# The names of all steps so far.
STEPS: set[str] = set()


@contextmanager
def step(spark: SparkSession, name: str) -> Iterator[None]:
    """Give the Spark jobs that this thread starts within the block a name, as in ``growing trees``."""
    context = spark.sparkContext
    previous = {key: context.getLocalProperty(key) for key in (_GROUP, _DESCRIPTION)}
    STEPS.add(name)
    context.setJobGroup(name, name)
    try:
        yield
    finally:
        for key, value in previous.items():
            context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None removes it
