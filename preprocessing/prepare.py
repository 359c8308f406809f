"""Turns folders of files into one image table for training and evaluation, and fits its pipeline."""

import functools
import math
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from preprocessing.cleansing import (
    Rejections,
    check_counts,
    check_rejected_fraction,
    check_sources,
    count_rejections,
    mark_unusable,
    rejected_rows,
)
from preprocessing.data_settings import Source
from preprocessing.features import fit_pipeline
from preprocessing.hand_notes import hand_notes
from preprocessing.listing import Listing
from preprocessing.normalization import Normalization, by_channel, by_range
from preprocessing.read_rows import ReadRows
from preprocessing.schema import HAND_COLUMNS, IMAGE_TABLE, TRAIN
from preprocessing.similarity import count_near_duplicates, similar_groups
from preprocessing.sources import Sources, list_sources, read_sources
from preprocessing.splitting import (
    CountedImages,
    Counts,
    check_classes,
    check_sources_agree,
    count_images,
    divide,
    keep_fractions,
    rows_to_divide,
)
from preprocessing.steps import step
from preprocessing.storage import Storage, reader

BATCH_BYTES = 8 * 1024 * 1024
# A split with at most this many bytes of pixels is read by one task.
TASK_BYTES = 8 * 1024 * 1024
# The bytes of pixels per partition when pixels are joined with their labels and splits.
PARTITION_BYTES = 128 * 1024 * 1024
NearDuplicates = dict[str, dict[str, int]]


@dataclass(frozen=True)
class PreparedImages:
    """Cleansed images, divided into splits.

    Args:
        images: the image table.
        rejected: the rejected rows, with the columns of ``REJECTED_TABLE``.
        rejections: the number of rejected rows by reason.
        counted: the numbers of images, and their fingerprints.
        load_near_duplicates: returns the near-duplicates of validation and test pictures in the training set, see
            :func:`count_near_duplicates`, under ``split``. For a split by group, ``split_by_row`` has the counts that
            a split by row would give.
        normalization: the normalization, measured on the training rows or fixed by the value range.
        class_names: the class names in the order of ``label_index``.
        shape: ``(height, width, channels)`` of every picture.
        load_pipeline: returns the pipeline, fitted on the training rows.
        folder: the folder in the store that holds the rows as Parquet, one subfolder per split; see
            :mod:`preprocessing.features_store`.
        notes: messages about the sources for the user, one line each.
        persisted: the DataFrames that :meth:`release` removes from memory.
    """

    images: DataFrame
    rejected: DataFrame
    rejections: Rejections
    counted: CountedImages
    load_near_duplicates: Callable[[], dict[str, NearDuplicates]]
    normalization: Normalization
    class_names: list[str]
    shape: tuple[int, int, int]
    load_pipeline: Callable[[], PipelineModel]
    folder: str | None = None
    notes: list[str] = field(default_factory=list)
    persisted: tuple[DataFrame, ...] = ()

    @property
    def counts(self) -> Counts:
        """Rows by split and class."""
        return self.counted.class_counts

    @property
    def sources(self) -> Counts:
        """Rows by source and split."""
        return self.counted.sources

    def rows(self, split: str) -> int:
        return sum(self.counts[split].values())

    def split(self, name: str) -> DataFrame:
        if self.folder is not None:
            # Spark would also schedule tasks for the folders of the other splits, some of them with nothing to do
            rows = reader(self.images.sparkSession).schema(IMAGE_TABLE).parquet(f"{self.folder}/{name}")
            # one worker finishes a small split before a second one has started
            return rows.coalesce(1) if self.rows(name) * self.picture_bytes <= TASK_BYTES else rows
        return self.images.where(F.col("split") == name)

    @property
    def balance(self) -> Counts:
        """Row counts by source: ``read`` is the sum of ``used``, ``rejected`` and ``left out``."""
        balance: Counts = {}
        for source, read in self.rejections.rows.items():
            used, usable = sum(self.sources.get(source, {}).values()), self.rejections.usable.get(source, 0)
            balance[source] = {"read": read, "used": used, "rejected": read - usable}
            balance[source]["left out"] = usable - used
        return balance

    @property
    def picture_bytes(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def near_duplicates(self) -> dict[str, NearDuplicates]:
        """The counts of validation and test pictures with near-duplicates in the training set."""
        return self.load_near_duplicates()

    @cached_property
    def pipeline(self) -> PipelineModel:
        """The pipeline, fitted on the training rows."""
        return self.load_pipeline()

    def of(self, images: DataFrame) -> "PreparedImages":
        """A copy for a subset of the rows, or for other splits of them."""
        images = images.persist()
        counted = count_images(images)
        check_classes(counted.class_counts)
        class_names, channels = list(counted.class_counts[TRAIN]), self.shape[2]
        training = images.where(F.col("split") == TRAIN)
        measured = self.normalization != by_range(channels)
        normalization = by_channel(training, channels) if measured else self.normalization
        pipeline = fit_pipeline(training, class_names, normalization, self.shape)
        return replace(
            self, images=images, counted=counted, load_near_duplicates=dict, normalization=normalization,
            class_names=class_names, load_pipeline=lambda: pipeline, folder=None, persisted=(images,),
        )  # fmt: skip

    @cached_property
    def samples(self) -> dict[str, list[np.ndarray]]:
        """A few training pictures of every class from the store, the same ones in every run, as arrays of ``shape``.

        They are read without a Spark job, because a running training may occupy all task slots.
        """
        with tempfile.TemporaryDirectory() as local:
            copy = Path(local) / "samples"
            Storage(self.images.sparkSession).download(f"{self.folder}/samples", copy)
            rows = pd.read_parquet(copy).sort_values(["label", "position"])
        return {
            name: [to_array(pixels, self.shape) for pixels in rows.loc[rows["label"] == name, "pixels"]]
            for name in self.class_names
        }

    def release(self) -> None:
        """Remove the persisted DataFrames from memory."""
        for table in self.persisted:
            table.unpersist()


def to_array(pixels: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The pixels of a row as a ``uint8`` array of ``shape``."""
    return np.frombuffer(pixels, dtype=np.uint8).reshape(shape)


def prepare_images(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing] | None = None
) -> PreparedImages:
    """Read, cleanse, split and index the images of all sources.

    Args:
        spark: the Spark session.
        storage: the file systems of the session.
        sources: the sources to read.
        listings: the files of each source, see :func:`list_sources`. None: the folders are listed.

    Raises:
        InputError: a file cannot be read, too many rows are rejected, a class has no validation rows or no training
            rows, there are too few groups, the sources have no class in common, or row counts do not match.
    """
    shape = sources.preprocessing.shape
    # Python workers hold one batch at a time, both as bytes and as numbers of eight bytes
    batch_rows = max(16, min(10_000, BATCH_BYTES // math.prod(shape)))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(batch_rows))
    with step(spark, "reading the pictures"):
        sources_read = read_sources(spark, storage, sources, listings or list_sources(storage, sources))
        parsed = functools.reduce(DataFrame.unionByName, [rows.table for rows in sources_read.values()])
        # the line comes first, because Spark compares the first eight bytes of a string faster than the rest
        parsed = parsed.withColumn("position", F.concat_ws(":", "line", "source", "file"))
        marked = mark_unusable(parsed, sources.preprocessing.allow_duplicates).persist()
        rejections = count_rejections(marked)
    check_counts("read", {source: rows.count for source, rows in sources_read.items()}, rejections.rows)
    rejected = rejected_rows(marked)
    check_sources(rejections, rejected, [source.title for source in sources.folders])
    check_rejected_fraction(rejections, rejected, sources.max_rejected)
    divided = _divide(marked.where(F.col("reason").isNull()), sources).persist()
    partitions = sum(rejections.usable.values()) * math.prod(shape) // PARTITION_BYTES
    shuffle_partitions = str(spark.conf.get("spark.sql.shuffle.partitions"))
    if shuffle_partitions.isdecimal() and partitions > int(shuffle_partitions):  # "auto" on Databricks
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
    images = _convert(_image_table(parsed, divided, shape), sources_read).persist()
    # runs in parallel with the following steps, to use the cores while they wait for the driver; it may last until the
    # rows are written
    pool = ThreadPoolExecutor(1)
    near_duplicates = pool.submit(_near_duplicates, marked.where(F.col("reason").isNull()), divided, sources)
    pool.shutdown(wait=False)
    counted = count_images(images)
    used = {source: sum(rows.values()) for source, rows in counted.sources.items()}
    if not sources.fractions and not sources.excluded_classes:
        check_counts("used", rejections.usable, used)
    check_classes(counted.class_counts)
    if len(sources.folders) > 1:
        check_sources_agree(divided)
    for table in (table for rows in sources_read.values() for table in rows.kept):
        table.unpersist()
    training, class_names = images.where(F.col("split") == TRAIN), list(counted.class_counts[TRAIN])
    if sources.preprocessing.normalization == "channel":
        normalization = by_channel(training, shape[2])
    else:
        normalization = by_range(shape[2])
    pipeline = fit_pipeline(training, class_names, normalization, shape, sources.components)
    return PreparedImages(
        images, rejected, rejections, counted, near_duplicates.result, normalization, class_names, shape,
        lambda: pipeline,
        notes=[*(note for rows in sources_read.values() for note in rows.notes), *hand_notes(counted.hands)],
        persisted=(images, marked, divided),
    )  # fmt: skip


def _divide(usable: DataFrame, sources: Sources) -> DataFrame:
    """Assign a split and a group to every usable row that is not left out."""
    if sources.excluded_classes:
        usable = usable.where(~F.col("label").isin(sources.excluded_classes))
    if sources.split.by == "group":
        usable.sparkSession.sparkContext.setCheckpointDir(sources.work)
        usable = _with_groups(usable, sources)
    divided = divide(usable, sources.split, sources.seed, sources.assigned)
    return keep_fractions(divided, sources.fractions, sources.seed) if sources.fractions else divided


def _near_duplicates(usable: DataFrame, divided: DataFrame, sources: Sources) -> dict[str, NearDuplicates]:
    """Count the near-duplicates of the split and, if it is by group, those that a split by row would have."""
    with step(usable.sparkSession, "counting near-duplicates"):
        counts = {"split": count_near_duplicates(divided, sources.seed)}
        if sources.split.by == "group":
            by_row = divide(usable, replace(sources.split, by="row"), sources.seed, sources.assigned)
            counts["split_by_row"] = count_near_duplicates(by_row, sources.seed)
        return counts


def _with_groups(usable: DataFrame, sources: Sources) -> DataFrame:
    """Add the group of each row: the first known one of its signer, its block of frames and its near-duplicates."""
    ungrouped = usable.where(F.col("signer").isNull() & F.col("frame").isNull())
    frames = F.concat_ws(":", "label", F.floor(F.col("frame") / sources.split.frames))
    has_name = F.col("signer").isNotNull() | F.col("frame").isNotNull()
    # the same name in two sources means two groups
    named = F.when(has_name, F.concat_ws(":", "source", F.coalesce("signer", frames)))
    # published validation and test rows keep their split and do not constrain the groups
    divisible = rows_to_divide(ungrouped)
    groups = similar_groups(divisible.select("id", "label", "descriptor"), sources.seed)
    return usable.join(groups, "id", how="left").withColumn("group", F.coalesce(named, "group", "id"))


def _convert(images: DataFrame, sources_read: dict[str, ReadRows]) -> DataFrame:
    """Convert the pixels of sources whose rows were read in another size; rows that are left out need no conversion."""
    converters = {title: rows.convert for title, rows in sources_read.items() if rows.convert is not None}
    if not converters:
        return images
    others = [images.where(~F.col("source").isin(list(converters)))] if len(converters) < len(sources_read) else []
    parts = others + [convert(images.where(F.col("source") == title)) for title, convert in converters.items()]
    return functools.reduce(DataFrame.unionByName, parts)


def _image_table(parsed: DataFrame, divided: DataFrame, shape: tuple[int, int, int]) -> DataFrame:
    height, width, channels = shape
    content = parsed.select("position", "source", "pixels", *(column.name for column in HAND_COLUMNS))
    # with the source, so that rows of one source are not joined with all pixels
    rows = content.join(divided.drop("descriptor"), ["position", "source"], how="inner")
    return (
        rows.withColumn("height", F.lit(height))
        .withColumn("width", F.lit(width))
        .withColumn("channels", F.lit(channels))
        .select(IMAGE_TABLE.names)
    )
