"""From a folder of files to a table of images that can be trained and judged on, and its fitted pipeline."""

from dataclasses import dataclass

import numpy as np
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from preprocessing.cleansing import (
    Rejections,
    check_share,
    count_rejections,
    image_table,
    mark_duplicates,
    rejected_rows,
)
from preprocessing.features import class_names, fit_pipeline
from preprocessing.schema import TEST, TRAIN
from preprocessing.sign_mnist import read_sign_mnist
from preprocessing.splitting import Counts, check_classes, count_classes, split_validation
from preprocessing.storage import Storage


@dataclass(frozen=True)
class PreparedImages:
    """Cleansed, split images.

    Args:
        images: an image table, kept in memory as far as it fits.
        rejected: the rows set aside, with the columns of ``REJECTED_TABLE``.
        rejections: how many, and why.
        counts: rows by split and class.
        pipeline: fitted on the training rows.
        classes: in the order of ``label_index``.
        shape: ``(height, width, channels)`` of every picture.
    """

    images: DataFrame
    rejected: DataFrame
    rejections: Rejections
    counts: Counts
    pipeline: PipelineModel
    classes: list[str]
    shape: tuple[int, int, int]

    def rows(self, split: str) -> int:
        return sum(self.counts[split].values())

    def split(self, name: str) -> DataFrame:
        return self.images.where(F.col("split") == name)

    def samples(self, a_class: int) -> dict[str, list[np.ndarray]]:
        """The same few training pictures of every class, in every run, as arrays of ``shape``."""
        place = F.row_number().over(Window.partitionBy("label").orderBy("id"))
        rows = self.split(TRAIN).withColumn("place", place).where(F.col("place") <= a_class)
        samples: dict[str, list[np.ndarray]] = {name: [] for name in self.classes}
        for row in rows.orderBy("label", "place").select("label", "pixels").collect():
            samples[row["label"]].append(to_array(row["pixels"], self.shape))
        return samples

    def test_fingerprint(self) -> str:
        """The same for the same test rows, in whatever order: runs with different ones cannot be compared."""
        return _fingerprint(self.split(TEST), "id")

    def fingerprint(self) -> str:
        """The same for the same rows in the same splits: a training cannot go on with others."""
        return _fingerprint(self.images, "id", "split")


def _fingerprint(rows: DataFrame, *columns: str) -> str:
    # a sum of hashes as decimals, which do not overflow as the hashes' own 64 bits would
    total = F.sum(F.xxhash64(*columns).cast("decimal(20,0)"))
    return str(rows.select(total).head()[0])  # type: ignore[index]


def to_array(pixels: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture of a row, ``uint8``."""
    return np.frombuffer(pixels, dtype=np.uint8).reshape(shape)


def prepare_images(
    spark: SparkSession, storage: Storage, folder: str, *, max_rejected: float, validation: float, seed: int
) -> PreparedImages:
    """Read, cleanse, split and index the images of a folder.

    Args:
        spark: the session.
        storage: its file systems.
        folder: with Sign-MNIST's two files.
        max_rejected: the share of rows that may be set aside.
        validation: the share of each class's training rows that is kept back.
        seed: of the split.

    Raises:
        InputError: a file or a row is at fault, or too many rows are; a class cannot be validated or was not trained.
    """
    rows, texts = read_sign_mnist(spark, storage, folder)
    marked = mark_duplicates(rows).persist()
    rejections = count_rejections(marked)
    for text in texts:
        text.unpersist()
    rejected = rejected_rows(marked)
    check_share(rejections, rejected, max_rejected)
    images = split_validation(image_table(marked), validation, seed).persist()
    counts = count_classes(images)
    check_classes(counts)
    pipeline = fit_pipeline(images.where(F.col("split") == TRAIN))
    first = images.select("height", "width", "channels").head()
    assert first is not None
    return PreparedImages(images, rejected, rejections, counts, pipeline, class_names(pipeline), tuple(first))
