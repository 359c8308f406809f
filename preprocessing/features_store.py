"""A cache of prepared images: written once, and reused by every job with the same files and the same settings."""

import hashlib
import json
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from preprocessing.cleansing import Rejections
from preprocessing.data_settings import Source
from preprocessing.features import fit_pipeline
from preprocessing.file_systems import local_path
from preprocessing.listing import Listing
from preprocessing.normalization import Normalization
from preprocessing.prepare import PreparedImages, prepare_images
from preprocessing.publishing import BusyError, claimed, clear
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.schema import IMAGE_TABLE, REJECTED_TABLE, TEST, TRAIN, VALIDATION
from preprocessing.sources import Sources, list_sources
from preprocessing.splitting import CountedImages
from preprocessing.steps import step
from preprocessing.storage import Storage, reader

LOGGER = logging.getLogger("handshape")

# A process reads one part file at a time. Of the splits that Horovod's processes read there are at least 12, which can
# be divided equally among 1, 2, 3, 4, 6 or 12 processes.
PART_FILES = 12
# The target size of a part file, and a row group size that no part file exceeds: each part file is one row group, which
# a process holds in memory.
PART_FILE_BYTES, ROW_GROUP_BYTES = 8 * 1024 * 1024, 128 * 1024 * 1024
SAMPLES_PER_CLASS = 6
_MARKER = "prepared.json"
# The packages whose versions may change the features.
_PACKAGES = ("ai-edge-litert", "mediapipe", "numpy", "pandas", "pillow", "pyspark", "scipy")


def stored_images(spark: SparkSession, storage: Storage, sources: Sources, store: str | None) -> PreparedImages:
    """Read the prepared images from the store, or prepare them and write them there.

    The folder's name is a hash of everything the images depend on: the input files with their sizes and modification
    times, the settings, the code of this package and the versions of its libraries. A change to any of them gives
    another folder.

    Args:
        spark: the Spark session.
        storage: the file systems of the session.
        sources: the sources to read.
        store: the absolute path of the store, which jobs share. None: the images are deleted with ``sources.work``.

    Raises:
        InputError: see :func:`preprocessing.prepare.prepare_images`.
    """
    listings = list_sources(storage, sources)
    if store is None:
        return _prepare(spark, storage, sources, listings, f"{sources.work}/features")
    folder = f"{store}/features-{_key(sources, listings)}"
    if _is_intact(spark, storage, folder):
        return _read(spark, storage, folder, sources.components)

    waited = []

    def wait() -> None:
        waited.append(True)
        LOGGER.info("waiting for another job that prepares the same images")

    try:
        with claimed(storage, folder, wait):
            if waited and _is_intact(spark, storage, folder):  # written by the other job
                return _read(spark, storage, folder, sources.components)
            clear(storage, folder)
            try:
                return _prepare(spark, storage, sources, listings, folder)
            except BaseException:
                clear(storage, folder)
                raise
    except BusyError as error:
        LOGGER.warning(f"the prepared images are not stored for other jobs: {error}")
        return _prepare(spark, storage, sources, listings, f"{sources.work}/features")
    finally:
        storage.delete_empty(folder)


def _prepare(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing], folder: str
) -> PreparedImages:
    prepared = prepare_images(spark, storage, sources, listings)
    _write(prepared, folder)
    # written last: its presence marks the folder as complete
    _write_metadata(spark, storage, prepared, folder)
    prepared.release()
    # the pipeline is already fitted and need not be loaded
    return replace(_read(spark, storage, folder, sources.components), load_pipeline=prepared.load_pipeline)


def write_part_files(rows: DataFrame, path: str, part_files: int) -> None:
    """Write rows to this many Parquet files, shuffled; the row counts of the files differ by a few at most."""
    writer = rows.repartition(part_files).write.mode("overwrite")
    writer.option("parquet.block.size", ROW_GROUP_BYTES).parquet(path)


def _key(sources: Sources, listings: dict[Source, Listing]) -> str:
    """A hash of everything the features depend on."""
    files = {source.title: listing.digest for source, listing in listings.items()}
    settings = asdict(replace(sources, folders={}, work="")) | {
        "sources": [(asdict(source), folder) for source, folder in sources.folders.items()]
    }
    versions = [version(package) for package in _PACKAGES]
    inputs = json.dumps([files, settings, versions, _code_digest()], sort_keys=True, default=str)
    return hashlib.sha256(inputs.encode()).hexdigest()[:16]


def _code_digest() -> str:
    """The SHA-256 of this package's source code."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _write(prepared: PreparedImages, folder: str) -> None:
    """Write all tables that :func:`_read` reads."""
    class_indices = {name: index for index, name in enumerate(prepared.class_names)}
    index_by_label = F.create_map(*[F.lit(value) for pair in class_indices.items() for value in pair])
    images = prepared.images.withColumn("label_index", index_by_label[F.col("label")])

    def split_writer(name: str) -> Callable[[], None]:
        files_by_size = math.ceil(prepared.rows(name) * prepared.picture_bytes / PART_FILE_BYTES)
        multiple = 1 if name == TEST else PART_FILES
        part_files = multiple * max(1, math.ceil(files_by_size / multiple))

        def write() -> None:
            with step(images.sparkSession, "writing the pictures"):
                write_part_files(images.where(F.col("split") == name), f"{folder}/{name}", part_files)

        return write

    # in parallel: each step is a chain of small Spark jobs, and the cores are idle between them
    # repartition(1), because with coalesce(1) one task would search all rows
    writes = [
        lambda: prepared.pipeline.write().save(f"{folder}/pipeline"),
        lambda: prepared.rejected.repartition(1).write.csv(f"{folder}/rejected", header=True),
        lambda: _samples(prepared).repartition(1).write.parquet(f"{folder}/samples"),
        *(split_writer(name) for name in (TRAIN, TEST, VALIDATION)),
        lambda: prepared.near_duplicates,
    ]
    with ThreadPoolExecutor(len(writes)) as pool:
        for write in [pool.submit(write) for write in writes]:
            write.result()


def _write_metadata(spark: SparkSession, storage: Storage, prepared: PreparedImages, folder: str) -> None:
    metadata = {
        "rejections": asdict(prepared.rejections),
        "counted": asdict(prepared.counted),
        "near_duplicates": prepared.near_duplicates,
        "normalization": asdict(prepared.normalization),
        "class_names": prepared.class_names,
        "shape": prepared.shape,
        "notes": prepared.notes,
        "parts": _checksums(spark, storage, folder),
    }
    content = json.dumps(metadata)
    marker = {"sha256": hashlib.sha256(content.encode()).hexdigest(), "about": content}
    storage.write_text(f"{folder}/{_MARKER}", json.dumps(marker))


def _read_metadata(storage: Storage, folder: str) -> dict[str, Any]:
    """Read what :func:`_write_metadata` wrote.

    Raises:
        ValueError, KeyError, OSError: the file is damaged.
    """
    marker = json.loads(storage.read_text(f"{folder}/{_MARKER}"))
    if hashlib.sha256(marker["about"].encode()).hexdigest() != marker["sha256"]:
        raise ValueError(_MARKER)
    return dict(json.loads(marker["about"]))


def _checksums(spark: SparkSession, storage: Storage, folder: str) -> dict[str, list[Any]]:
    """The bytes and SHA-256 of each file, by its path within the folder; markers like ``_SUCCESS`` are skipped."""
    files = {
        entry.name: entry.size or 0
        for entry in storage.walk(folder)
        if not entry.is_folder and not entry.name.rpartition("/")[2].startswith((".", "_")) and entry.name != _MARKER
    }
    if folder.startswith("file:"):

        def digest(name: str) -> str:
            with (local_path(folder) / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        with ThreadPoolExecutor() as pool:  # takes one second per gigabyte
            digests = dict(zip(files, pool.map(digest, files), strict=True))
    else:
        content = reader(spark).format("binaryFile").option("recursiveFileLookup", "true").load(folder)
        name = F.expr(f"substring(path, {len(folder) + 2})").alias("name")
        rows = content.select(name, F.sha2("content", 256).alias("sha256")).collect()
        # Spark lists no empty files
        digests = dict.fromkeys(files, hashlib.sha256().hexdigest()) | {row["name"]: row["sha256"] for row in rows}
    return {name: [size, digests[name]] for name, size in sorted(files.items())}


def _is_intact(spark: SparkSession, storage: Storage, folder: str) -> bool:
    """Whether the folder is complete and no file has changed since it was written; prints one line about damage."""
    if not storage.exists(f"{folder}/{_MARKER}"):
        return False
    try:
        expected = _read_metadata(storage, folder)["parts"]
        actual = _checksums(spark, storage, folder)
    except (ValueError, KeyError, TypeError, OSError, AttributeError):
        expected, actual = {_MARKER: []}, {}
    damaged = [name for name in sorted(set(expected) | set(actual)) if expected.get(name) != actual.get(name)]
    if damaged:
        differ = f" and {len(damaged) - 1:,} other files differ" if len(damaged) > 1 else " differs"
        LOGGER.warning(f"{folder}: {damaged[0]}{differ} from what was written; the images are prepared again")
    return not damaged


def _samples(prepared: PreparedImages) -> DataFrame:
    """A few training pictures of every class, the same ones in every run."""
    rank = F.row_number().over(Window.partitionBy("label").orderBy("id"))
    training = prepared.split(TRAIN)
    first = training.select("id", "label").withColumn("position", rank).where(F.col("position") <= SAMPLES_PER_CLASS)
    return training.select("id", "pixels").join(F.broadcast(first), "id", how="inner")


def _read(spark: SparkSession, storage: Storage, folder: str, components: int | None) -> PreparedImages:
    metadata = _read_metadata(storage, folder)
    splits = [f"{folder}/{name}" for name in (TRAIN, VALIDATION, TEST)]
    normalization = Normalization(**{name: tuple(values) for name, values in metadata["normalization"].items()})
    images = reader(spark).schema(IMAGE_TABLE).parquet(*splits)
    class_names, shape = metadata["class_names"], tuple(metadata["shape"])

    def read_pipeline() -> PipelineModel:
        if components is not None:
            return load_pipeline(storage, f"{folder}/pipeline")
        # without principal components it is fitted again from what is known, without the dozen Spark jobs of a load
        return fit_pipeline(images, class_names, normalization, shape)

    return PreparedImages(
        images=images,
        rejected=reader(spark).schema(REJECTED_TABLE).csv(f"{folder}/rejected", header=True),
        rejections=Rejections(**metadata["rejections"]),
        counted=CountedImages(**metadata["counted"]),
        load_near_duplicates=lambda: metadata["near_duplicates"],
        normalization=normalization,
        class_names=class_names,
        shape=shape,
        load_pipeline=read_pipeline,
        folder=folder,
        notes=metadata["notes"],
    )
