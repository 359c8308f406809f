"""Prepared images in the store: written once, and read again by every job that wants the same of the same files."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from preprocessing.cleansing import Rejections
from preprocessing.normalisation import Normalisation
from preprocessing.prepare import PreparedImages, Sources, prepare_images
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.schema import IMAGE_TABLE, REJECTED_TABLE, TEST, TRAIN, VALIDATION
from preprocessing.splitting import CountedImages
from preprocessing.storage import Storage

# A piece is what a process reads at a time. So many at least, for they can be shared out equally among 1, 2, 3, 4, 6 or
# 12 processes.
PIECES = 12
# A piece is one row group, which a process holds at a time: files of so many bytes, and groups that none outgrows.
PIECE_BYTES, ROW_GROUP_BYTES = 8 * 1024 * 1024, 128 * 1024 * 1024
SAMPLES_A_CLASS = 6
# So many files of a folder are asked one by one, for a tenth of a millisecond each; more are Spark's to list.
FEW_FILES = 1000
_ABOUT = "prepared.json"


def stored_images(spark: SparkSession, storage: Storage, sources: Sources, store: str | None) -> PreparedImages:
    """The images, read from the store where it has them, and put there where it has not.

    What is stored goes by the name of all it is made of: the files with their sizes and times, the settings, this
    package's code and the libraries it uses. Other files, other settings or other code are another name.

    Args:
        spark: the session.
        storage: its file systems.
        sources: what is read; its ``work`` holds what is half-written.
        store: where they stay for other jobs, absolute; none: they go with ``sources.work``.

    Raises:
        InputError: see :func:`preprocessing.prepare.prepare_images`.
    """
    half = f"{sources.work}/features"
    folder = half if store is None else f"{store}/features-{_key(spark, storage, sources)}"
    if storage.exists(f"{folder}/{_ABOUT}"):
        return _read(spark, storage, folder)
    prepared = prepare_images(spark, storage, sources)
    _write(prepared, half)
    if not storage.exists(f"{folder}/{_ABOUT}"):  # another job may have been as quick
        if folder != half:
            storage.delete(folder)
            storage.rename(half, folder)
        # the last of it, and not renamed with the rest: S3 moves one file after the other
        _write_about(storage, prepared, folder)
    prepared.release()
    # fitted already: it need not be loaded
    return replace(_read(spark, storage, folder), load_pipeline=prepared.load_pipeline)


def write_pieces(rows: DataFrame, path: str, pieces: int) -> None:
    """Write rows as so many Parquet files, mixed, whose numbers of rows differ by a few at most."""
    writer = rows.repartition(pieces).write.mode("overwrite")
    writer.option("parquet.block.size", ROW_GROUP_BYTES).parquet(path)


def _key(spark: SparkSession, storage: Storage, sources: Sources) -> str:
    """A name made of all that the features are made of."""
    files = {source.title: _listing(spark, storage, folder) for source, folder in sources.folders.items()}
    settings = asdict(replace(sources, folders={}, work="")) | {
        "sources": [(asdict(source), folder) for source, folder in sources.folders.items()]
    }
    versions = [version(package) for package in ("pyspark", "numpy", "pandas", "pillow", "scipy")]
    about = json.dumps([files, settings, versions, _code()], sort_keys=True, default=str)
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def _code() -> str:
    """A digest of this package."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _listing(spark: SparkSession, storage: Storage, folder: str) -> list[Any]:
    """The names, sizes and times of its files; of many their number, a digest, and those of no bytes."""
    if not storage.is_folder(folder):
        return []
    if storage.count_files(folder) <= FEW_FILES:  # Spark's first query of a session takes two seconds
        return storage.files(folder)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(folder)
    digest = F.xxhash64("path", "length", "modificationTime").cast("decimal(20,0)")
    count, total = files.agg(F.count(F.lit(1)), F.sum(digest)).head()  # type: ignore[misc]
    return [count, str(total), storage.empty_files(folder, count)]


def _write(prepared: PreparedImages, folder: str) -> None:
    """All tables that :func:`_read` finds again."""
    places = {name: place for place, name in enumerate(prepared.classes)}
    numbers = F.create_map(*[F.lit(value) for pair in places.items() for value in pair])
    images = prepared.images.withColumn("label_index", numbers[F.col("label")])

    def split_writer(name: str) -> Callable[[], None]:
        large = prepared.rows(name) * prepared.picture_bytes // PIECE_BYTES
        pieces = PIECES * max(1, -(-large // PIECES))
        return lambda: write_pieces(images.where(F.col("split") == name), f"{folder}/{name}", pieces)

    # side by side: each is a chain of small Spark jobs, between which the cores have nothing to do
    steps = [
        lambda: prepared.pipeline.write().save(f"{folder}/pipeline"),
        lambda: prepared.rejected.coalesce(1).write.csv(f"{folder}/rejected", header=True),
        lambda: _samples(prepared).coalesce(1).write.parquet(f"{folder}/samples"),
        *(split_writer(name) for name in (TRAIN, TEST, VALIDATION)),
        lambda: prepared.near_copies,
    ]
    with ThreadPoolExecutor(len(steps)) as pool:
        for step in [pool.submit(step) for step in steps]:
            step.result()


def _write_about(storage: Storage, prepared: PreparedImages, folder: str) -> None:
    """What else there is to know of them; that it is there tells that all is."""
    about = {
        "rejections": asdict(prepared.rejections),
        "counted": asdict(prepared.counted),
        "near_copies": prepared.near_copies,
        "normalisation": asdict(prepared.normalisation),
        "classes": prepared.classes,
        "shape": prepared.shape,
    }
    with tempfile.TemporaryDirectory() as local:
        file = Path(local) / _ABOUT
        file.write_text(json.dumps(about))
        storage.upload(file, f"{folder}/{_ABOUT}")


def _samples(prepared: PreparedImages) -> DataFrame:
    """The same few training pictures of every class, in every run."""
    place = F.row_number().over(Window.partitionBy("label").orderBy("id"))
    training = prepared.split(TRAIN)
    first = training.select("id", "label").withColumn("place", place).where(F.col("place") <= SAMPLES_A_CLASS)
    return training.select("id", "pixels").join(F.broadcast(first), "id", how="inner")


def _read(spark: SparkSession, storage: Storage, folder: str) -> PreparedImages:
    about = json.loads(storage.read_text(f"{folder}/{_ABOUT}"))
    splits = [f"{folder}/{name}" for name in (TRAIN, VALIDATION, TEST)]
    normalisation = {name: tuple(values) for name, values in about["normalisation"].items()}
    return PreparedImages(
        images=spark.read.schema(IMAGE_TABLE).parquet(*splits),
        rejected=spark.read.schema(REJECTED_TABLE).csv(f"{folder}/rejected", header=True),
        rejections=Rejections(**about["rejections"]),
        counted=CountedImages(**about["counted"]),
        load_near_copies=lambda: about["near_copies"],
        normalisation=Normalisation(**normalisation),
        classes=about["classes"],
        shape=tuple(about["shape"]),
        load_pipeline=lambda: load_pipeline(storage, f"{folder}/pipeline"),
        folder=folder,
    )
