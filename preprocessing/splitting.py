"""Which training rows are kept back for validation: the same ones in every run, on any number of executors."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.schema import TEST, TRAIN, VALIDATION


def split_validation(images: DataFrame, share: float, seed: int) -> DataFrame:
    """Move a share of each class's training rows to validation.

    The rows of a class are put in the order of a hash of their group, and the first ones go: which ones depends on the
    rows and the seed alone, and every class gives the same share, to the row.

    Args:
        images: an image table.
        share: 0..1.
        seed: another seed keeps back other rows.
    """
    order = F.xxhash64(F.lit(seed), "group")
    by_class = Window.partitionBy("split", "label")
    rank = F.row_number().over(by_class.orderBy(order, "id"))
    kept_back = rank <= F.round(F.count(F.lit(1)).over(by_class) * share)
    validation = (F.col("split") == TRAIN) & kept_back
    return images.withColumn("split", F.when(validation, F.lit(VALIDATION)).otherwise(F.col("split"))).select(
        images.columns
    )


Counts = dict[str, dict[str, int]]


def count_classes(images: DataFrame) -> Counts:
    """Rows by split and, within it, by class in alphabetical order."""
    counts: Counts = {TRAIN: {}, VALIDATION: {}, TEST: {}}
    for row in images.groupBy("split", "label").count().orderBy("label").collect():
        counts[row["split"]][row["label"]] = row["count"]
    return counts


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
        raise InputError(f"no validation row for class {few}: raise --preprocessing.validation or add pictures")
    untrained = sorted(set(counts[TEST]) - set(counts[TRAIN]))
    if untrained:
        raise InputError(f"the test file has class {', '.join(untrained)}, which the training file lacks")
