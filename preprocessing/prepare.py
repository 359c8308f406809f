"""From folders of files to one table of images that can be trained and judged on, and its fitted pipeline."""

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
    check_share,
    check_sources,
    count_rejections,
    mark_unusable,
    rejected_rows,
)
from preprocessing.features import fit_pipeline
from preprocessing.listing import Listing
from preprocessing.normalisation import Normalisation, by_channel, by_range
from preprocessing.schema import IMAGE_TABLE, TRAIN
from preprocessing.settings import Source
from preprocessing.similarity import count_near_copies, similar_groups
from preprocessing.sources import Sources, list_sources, read_sources
from preprocessing.splitting import (
    CountedImages,
    Counts,
    check_classes,
    check_sources_agree,
    count_images,
    keep_fraction,
    split_by_group,
    split_by_row,
    to_divide,
)
from preprocessing.storage import Storage, reader

BATCH_BYTES = 8 * 1024 * 1024
# Less of a split's pixels is one task.
TASK_BYTES = 8 * 1024 * 1024
# What a task is given of pictures that are joined with what is known of them.
PARTITION_BYTES = 128 * 1024 * 1024
NearCopies = dict[str, dict[str, int]]


@dataclass(frozen=True)
class PreparedImages:
    """Cleansed, split images.

    Args:
        images: an image table.
        rejected: the rows set aside, with the columns of ``REJECTED_TABLE``.
        rejections: how many, and why.
        counted: how many they are, and their fingerprints.
        load_near_copies: gives those of validation and test pictures in training, see :func:`count_near_copies`;
            ``before`` is what a split by row would have, where it is by group.
        normalisation: measured on the training rows, or that of the range.
        classes: in the order of ``label_index``.
        shape: ``(height, width, channels)`` of every picture.
        load_pipeline: gives the pipeline, fitted on the training rows.
        folder: of the store, where the rows lie as Parquet, a folder a split; see :mod:`preprocessing.features_store`.
        notes: what the user should know of the sources, a line each.
        kept: what was put into memory for it, to be let go.
    """

    images: DataFrame
    rejected: DataFrame
    rejections: Rejections
    counted: CountedImages
    load_near_copies: Callable[[], dict[str, NearCopies]]
    normalisation: Normalisation
    classes: list[str]
    shape: tuple[int, int, int]
    load_pipeline: Callable[[], PipelineModel]
    folder: str | None = None
    notes: list[str] = field(default_factory=list)
    kept: tuple[DataFrame, ...] = ()

    @property
    def counts(self) -> Counts:
        """Rows by split and class."""
        return self.counted.classes

    @property
    def sources(self) -> Counts:
        """Rows by source and split."""
        return self.counted.sources

    def rows(self, split: str) -> int:
        return sum(self.counts[split].values())

    def split(self, name: str) -> DataFrame:
        if self.folder is not None:
            # of all folders Spark would make tasks too, some of which then have nothing to do
            found = reader(self.images.sparkSession).schema(IMAGE_TABLE).parquet(f"{self.folder}/{name}")
            # little is done by one worker before a second one has imported TensorFlow
            return found.coalesce(1) if self.rows(name) * self.picture_bytes <= TASK_BYTES else found
        return self.images.where(F.col("split") == name)

    @property
    def balance(self) -> Counts:
        """By source: the rows ``read``, which are those ``used``, ``set aside`` and ``left out by --fraction``."""
        found: Counts = {}
        for source, read in self.rejections.rows.items():
            used, usable = sum(self.sources.get(source, {}).values()), self.rejections.usable.get(source, 0)
            found[source] = {"read": read, "used": used, "set aside": read - usable}
            found[source]["left out by --fraction"] = usable - used
        return found

    @property
    def picture_bytes(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def near_copies(self) -> dict[str, NearCopies]:
        """Of validation and test pictures in training."""
        return self.load_near_copies()

    @cached_property
    def pipeline(self) -> PipelineModel:
        """Fitted on the training rows."""
        return self.load_pipeline()

    def of(self, images: DataFrame) -> "PreparedImages":
        """The same with other rows of the table, or other splits of them."""
        images = images.persist()
        counted = count_images(images)
        check_classes(counted.classes)
        classes, channels = list(counted.classes[TRAIN]), self.shape[2]
        training = images.where(F.col("split") == TRAIN)
        measured = self.normalisation != by_range(channels)
        normalisation = by_channel(training, channels) if measured else self.normalisation
        pipeline = fit_pipeline(training, classes, normalisation, self.shape)
        return replace(
            self, images=images, counted=counted, load_near_copies=dict, normalisation=normalisation, classes=classes,
            load_pipeline=lambda: pipeline, folder=None, kept=(images,),
        )  # fmt: skip

    @cached_property
    def samples(self) -> dict[str, list[np.ndarray]]:
        """The same few training pictures of every class, in every run, as arrays of ``shape``; from the store.

        Spark is not asked for them: a training may have all of its task slots.
        """
        with tempfile.TemporaryDirectory() as local:
            copy = Path(local) / "samples"
            Storage(self.images.sparkSession).download(f"{self.folder}/samples", copy)
            rows = pd.read_parquet(copy).sort_values(["label", "place"])
        return {
            name: [to_array(pixels, self.shape) for pixels in rows.loc[rows["label"] == name, "pixels"]]
            for name in self.classes
        }

    def release(self) -> None:
        """Let go what is in memory."""
        for table in self.kept:
            table.unpersist()


def to_array(pixels: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The picture of a row, ``uint8``."""
    return np.frombuffer(pixels, dtype=np.uint8).reshape(shape)


def prepare_images(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing] | None = None
) -> PreparedImages:
    """Read, cleanse, split and index the images of all sources.

    Args:
        spark: the session.
        storage: its file systems.
        sources: what is read.
        listings: see :func:`list_sources`; None: the folders are listed.

    Raises:
        InputError: a file or a row is at fault, or too many rows are; a class cannot be validated or was not trained;
            groups are too few, or sources have nothing in common; or the rows do not add up.
    """
    shape = sources.preprocessing.shape
    # what Python is given at a time, as it is and as numbers of eight bytes
    rows = max(16, min(10_000, BATCH_BYTES // math.prod(shape)))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(rows))
    read = read_sources(spark, storage, sources, listings or list_sources(storage, sources))
    parsed = functools.reduce(DataFrame.unionByName, [rows.table for rows in read.values()])
    # the line first: Spark compares the first eight bytes sooner than the rest
    parsed = parsed.withColumn("place", F.concat_ws(":", "line", "source", "file"))
    marked = mark_unusable(parsed, sources.preprocessing.allow_duplicates).persist()
    rejections = count_rejections(marked)
    check_counts("read", {source: rows.count for source, rows in read.items()}, rejections.rows)
    rejected = rejected_rows(marked)
    check_sources(rejections, rejected, [source.title for source in sources.folders])
    check_share(rejections, rejected, sources.max_rejected)
    divided = _divide(marked.where(F.col("reason").isNull()), sources).persist()
    partitions = sum(rejections.usable.values()) * math.prod(shape) // PARTITION_BYTES
    now = str(spark.conf.get("spark.sql.shuffle.partitions"))
    if now.isdecimal() and partitions > int(now):  # "auto" on Databricks
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
    images = _image_table(parsed, divided, shape).persist()
    # while the one waits for the driver, the other has the cores; it may take until the rows are written
    pool = ThreadPoolExecutor(1)
    near_copies = pool.submit(_near_copies, marked.where(F.col("reason").isNull()), divided, sources)
    pool.shutdown(wait=False)
    counted = count_images(images)
    used = {source: sum(rows.values()) for source, rows in counted.sources.items()}
    if sources.fraction == 1:
        check_counts("used", rejections.usable, used)
    check_classes(counted.classes)
    if len(sources.folders) > 1:
        check_sources_agree(divided)
    for table in (table for rows in read.values() for table in rows.kept):
        table.unpersist()
    training, classes = images.where(F.col("split") == TRAIN), list(counted.classes[TRAIN])
    if sources.preprocessing.normalisation == "channel":
        normalisation = by_channel(training, shape[2])
    else:
        normalisation = by_range(shape[2])
    pipeline = fit_pipeline(training, classes, normalisation, shape, sources.components)
    return PreparedImages(
        images, rejected, rejections, counted, near_copies.result, normalisation, classes, shape, lambda: pipeline,
        notes=[note for rows in read.values() for note in rows.notes], kept=(images, marked, divided),
    )  # fmt: skip


def _divide(usable: DataFrame, sources: Sources) -> DataFrame:
    """Give every usable row its split and group."""
    if sources.split.by == "group":
        usable.sparkSession.sparkContext.setCheckpointDir(sources.work)
        divided = split_by_group(_with_groups(usable, sources), sources.split, sources.seed)
    else:
        divided = split_by_row(usable, sources.split, sources.seed)
    return divided if sources.fraction == 1 else keep_fraction(divided, sources.fraction, sources.seed)


def _near_copies(usable: DataFrame, divided: DataFrame, sources: Sources) -> dict[str, NearCopies]:
    """Those of the split, and, where it is by group, those that one by row would have."""
    found = {"now": count_near_copies(divided, sources.seed)}
    if sources.split.by == "group":
        found["before"] = count_near_copies(split_by_row(usable, sources.split, sources.seed), sources.seed)
    return found


def _with_groups(usable: DataFrame, sources: Sources) -> DataFrame:
    """The group of each row: its signer, its stretch of frames, or its near-copies, whichever is known first."""
    unknown = usable.where(F.col("signer").isNull() & F.col("frame").isNull())
    frames = F.concat_ws(":", "label", F.floor(F.col("frame") / sources.split.frames))
    has_name = F.col("signer").isNotNull() | F.col("frame").isNotNull()
    # one name in two sources is two groups
    named = F.when(has_name, F.concat_ws(":", "source", F.coalesce("signer", frames)))
    # what is published as validation or test stays so, and binds nothing
    divisible = to_divide(unknown)
    groups = similar_groups(divisible.select("id", "label", "descriptor"), sources.seed)
    return usable.join(groups, "id", how="left").withColumn("group", F.coalesce(named, "group", "id"))


def _image_table(parsed: DataFrame, divided: DataFrame, shape: tuple[int, int, int]) -> DataFrame:
    height, width, channels = shape
    rows = parsed.select("place", "pixels").join(divided.drop("descriptor"), "place", how="inner")
    return (
        rows.withColumn("height", F.lit(height))
        .withColumn("width", F.lit(width))
        .withColumn("channels", F.lit(channels))
        .select(IMAGE_TABLE.names)
    )
