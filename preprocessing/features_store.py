"""Prepared images in the store: written once, and read again by every job that wants the same of the same files."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from preprocessing.cleansing import Rejections
from preprocessing.listing import Listing
from preprocessing.normalisation import Normalisation
from preprocessing.prepare import PreparedImages, prepare_images
from preprocessing.publishing import BusyError, claimed, clear
from preprocessing.saved_pipeline import load_pipeline
from preprocessing.schema import IMAGE_TABLE, REJECTED_TABLE, TEST, TRAIN, VALIDATION
from preprocessing.settings import Source
from preprocessing.sources import Sources, list_sources
from preprocessing.splitting import CountedImages
from preprocessing.storage import Storage, local_path, reader

# A piece is what a process reads at a time. So many at least, for they can be shared out equally among 1, 2, 3, 4, 6 or
# 12 processes.
PIECES = 12
# A piece is one row group, which a process holds at a time: files of so many bytes, and groups that none outgrows.
PIECE_BYTES, ROW_GROUP_BYTES = 8 * 1024 * 1024, 128 * 1024 * 1024
SAMPLES_A_CLASS = 6
_ABOUT = "prepared.json"


def stored_images(spark: SparkSession, storage: Storage, sources: Sources, store: str | None) -> PreparedImages:
    """The images, read from the store where it has them, and put there where it has not.

    What is stored goes by the name of all it is made of: the files with their sizes and times, the settings, this
    package's code and the libraries it uses. Other files, other settings or other code are another name.

    Args:
        spark: the session.
        storage: its file systems.
        sources: what is read.
        store: where they stay for other jobs, absolute; none: they go with ``sources.work``.

    Raises:
        InputError: see :func:`preprocessing.prepare.prepare_images`.
    """
    listings = list_sources(storage, sources)
    if store is None:
        return _prepare(spark, storage, sources, listings, f"{sources.work}/features")
    folder = f"{store}/features-{_key(sources, listings)}"
    if _is_sound(spark, storage, folder):
        return _read(spark, storage, folder)

    waited = []

    def wait() -> None:
        waited.append(True)
        print("waiting for another job, which prepares the same images", flush=True)

    try:
        with claimed(storage, folder, wait):
            if waited and _is_sound(spark, storage, folder):  # the other job's
                return _read(spark, storage, folder)
            clear(storage, folder)
            try:
                return _prepare(spark, storage, sources, listings, folder)
            except BaseException:
                clear(storage, folder)
                raise
    except BusyError as error:
        print(f"the prepared images are not kept for other jobs: {error}", flush=True)
        return _prepare(spark, storage, sources, listings, f"{sources.work}/features")
    finally:
        storage.delete_empty(folder)


def _prepare(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing], folder: str
) -> PreparedImages:
    prepared = prepare_images(spark, storage, sources, listings)
    _write(prepared, folder)
    # the last of it: that it is there tells that all is
    _write_about(spark, storage, prepared, folder)
    prepared.release()
    # fitted already: it need not be loaded
    return replace(_read(spark, storage, folder), load_pipeline=prepared.load_pipeline)


def write_pieces(rows: DataFrame, path: str, pieces: int) -> None:
    """Write rows as so many Parquet files, mixed, whose numbers of rows differ by a few at most."""
    writer = rows.repartition(pieces).write.mode("overwrite")
    writer.option("parquet.block.size", ROW_GROUP_BYTES).parquet(path)


def _key(sources: Sources, listings: dict[Source, Listing]) -> str:
    """A name made of all that the features are made of."""
    files = {source.title: listing.digest for source, listing in listings.items()}
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


def _write_about(spark: SparkSession, storage: Storage, prepared: PreparedImages, folder: str) -> None:
    about = {
        "rejections": asdict(prepared.rejections),
        "counted": asdict(prepared.counted),
        "near_copies": prepared.near_copies,
        "normalisation": asdict(prepared.normalisation),
        "classes": prepared.classes,
        "shape": prepared.shape,
        "notes": prepared.notes,
        "parts": _checksums(spark, storage, folder),
    }
    text = json.dumps(about)
    marker = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "about": text}
    storage.write_text(f"{folder}/{_ABOUT}", json.dumps(marker))


def _read_about(storage: Storage, folder: str) -> dict[str, Any]:
    """Raises: ValueError, KeyError, OSError: it is damaged."""
    marker = json.loads(storage.read_text(f"{folder}/{_ABOUT}"))
    if hashlib.sha256(marker["about"].encode()).hexdigest() != marker["sha256"]:
        raise ValueError(_ABOUT)
    return dict(json.loads(marker["about"]))


def _checksums(spark: SparkSession, storage: Storage, folder: str) -> dict[str, list[Any]]:
    """Bytes and SHA-256 of each file, by its path within the folder, without those that only tell of a job's end."""
    files = {
        entry.name: entry.size or 0
        for entry in storage.walk(folder)
        if not entry.is_folder and not entry.name.rpartition("/")[2].startswith((".", "_")) and entry.name != _ABOUT
    }
    if folder.startswith("file:"):

        def digest(name: str) -> str:
            with (local_path(folder) / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        with ThreadPoolExecutor() as pool:  # a second for each gigabyte
            sums = dict(zip(files, pool.map(digest, files), strict=True))
    else:
        content = reader(spark).format("binaryFile").option("recursiveFileLookup", "true").load(folder)
        name = F.expr(f"substring(path, {len(folder) + 2})").alias("name")
        rows = content.select(name, F.sha2("content", 256).alias("sha256")).collect()
        # Spark lists no empty files
        sums = dict.fromkeys(files, hashlib.sha256().hexdigest()) | {row["name"]: row["sha256"] for row in rows}
    return {name: [size, sums[name]] for name, size in sorted(files.items())}


def _is_sound(spark: SparkSession, storage: Storage, folder: str) -> bool:
    """Whether the folder is whole, and each of its files as it was written; one line says what is not."""
    if not storage.exists(f"{folder}/{_ABOUT}"):
        return False
    try:
        expected = _read_about(storage, folder)["parts"]
        found = _checksums(spark, storage, folder)
    except (ValueError, KeyError, TypeError, OSError, AttributeError):
        expected, found = {_ABOUT: []}, {}
    damaged = [name for name in sorted(set(expected) | set(found)) if expected.get(name) != found.get(name)]
    if damaged:
        others = f" and {len(damaged) - 1:,} others are" if len(damaged) > 1 else " is"
        print(f"{folder}: {damaged[0]}{others} not as they were written: the images are prepared anew", flush=True)
    return not damaged


def _samples(prepared: PreparedImages) -> DataFrame:
    """The same few training pictures of every class, in every run."""
    place = F.row_number().over(Window.partitionBy("label").orderBy("id"))
    training = prepared.split(TRAIN)
    first = training.select("id", "label").withColumn("place", place).where(F.col("place") <= SAMPLES_A_CLASS)
    return training.select("id", "pixels").join(F.broadcast(first), "id", how="inner")


def _read(spark: SparkSession, storage: Storage, folder: str) -> PreparedImages:
    about = _read_about(storage, folder)
    splits = [f"{folder}/{name}" for name in (TRAIN, VALIDATION, TEST)]
    normalisation = {name: tuple(values) for name, values in about["normalisation"].items()}
    return PreparedImages(
        images=reader(spark).schema(IMAGE_TABLE).parquet(*splits),
        rejected=reader(spark).schema(REJECTED_TABLE).csv(f"{folder}/rejected", header=True),
        rejections=Rejections(**about["rejections"]),
        counted=CountedImages(**about["counted"]),
        load_near_copies=lambda: about["near_copies"],
        normalisation=Normalisation(**normalisation),
        classes=about["classes"],
        shape=tuple(about["shape"]),
        load_pipeline=lambda: load_pipeline(storage, f"{folder}/pipeline"),
        folder=folder,
        notes=about["notes"],
    )
