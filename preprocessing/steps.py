"""Names the steps of a job: in its lines of progress, and in Spark's user interface."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

_GROUP, _DESCRIPTION = "spark.jobGroup.id", "spark.job.description"
_PROPERTIES = (_GROUP, _DESCRIPTION, "spark.job.interruptOnCancel")
# The names of all steps so far.
STEPS: set[str] = set()


@contextmanager
def step(spark: SparkSession, name: str) -> Iterator[None]:
    """Give the Spark jobs that this thread starts within the block a name, as in ``growing trees``.

    They also become a group of this name, unless the caller has given them another one, by which they can be canceled.
    """
    context = spark.sparkContext
    previous = {key: context.getLocalProperty(key) for key in _PROPERTIES}
    if previous[_GROUP] is None:
        STEPS.add(name)
        context.setJobGroup(name, name)
    else:
        context.setJobDescription(name)
    try:
        yield
    finally:
        with suppress(Py4JError, OSError):  # Spark has ended, and the exception that is raised says why
            for key, value in previous.items():
                context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None removes it
