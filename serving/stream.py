"""Prediction of pictures as they land, each exactly once, even if the job is killed and restarted."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from models.prediction import answer
from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import MAX_BYTES
from preprocessing.file_systems import local_path
from preprocessing.folders import PICTURE_FILES, decode_files
from preprocessing.listing import shown_name
from preprocessing.saved_pipeline import literal_path
from preprocessing.schema import HAND_COLUMNS, INPUT_TABLE
from preprocessing.storage import Storage, reader

LOGGER = logging.getLogger("handshape")

# The fields of a note, see :class:`serving.inbox.Inbox`.
NOTE_SCHEMA = "id string, path binary, length long, is_link boolean, landed double"
# Each note has up to a hundred pictures.
MAX_NOTES_PER_BATCH = 10
# File systems allow 255 bytes for a name; prefix and ending need the rest.
_MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class PictureStream:
    """Predictions for the pictures of an inbox.

    The outbox has ``predictions/``, Parquet with the columns of ``ANSWERS``, and ``quarantine/``, the pictures that
    cannot be used, each with a file ``….json`` that gives the reason. The answers of a batch are published atomically.
    An interrupted batch is written again under its number: Spark repeats it with the same notes.

    Args:
        spark: the session.
        storage: the session's file systems.
        inbox: where pictures land, an absolute path.
        outbox: where answers are written, an absolute path.
        predict: maps a table with the columns id, source, label and pixels to the columns of ``PREDICTIONS``.
        class_names: class names in the order of the probabilities.
        preprocessing: of the run's pictures.
        failures: exceptions that ended the query; Spark's own report of them has hundreds of lines.
    """

    spark: SparkSession
    storage: Storage
    inbox: str
    outbox: str
    predict: Callable[[DataFrame], DataFrame]
    class_names: list[str]
    preprocessing: Preprocessing
    failures: list[Exception] = field(default_factory=list)

    @property
    def notes(self) -> str:
        return f"{self.outbox}/notes"

    def start(self, seconds: float) -> StreamingQuery:
        """Start the query, which reads new notes every ``seconds``."""
        # this reader of Spark's always takes a path for a glob pattern; no option switches that off
        path = literal_path(self.notes)
        notes = self.spark.readStream.schema(NOTE_SCHEMA).option("maxFilesPerTrigger", MAX_NOTES_PER_BATCH).json(path)
        stream = notes.writeStream.foreachBatch(self._answer).trigger(processingTime=f"{seconds} seconds")
        return stream.option("checkpointLocation", f"{self.outbox}/checkpoint").start()

    def _answer(self, batch: DataFrame, number: int) -> None:
        try:
            self._predict(batch, number)
        except Exception as error:
            self.failures.append(error)
            raise

    def _predict(self, batch: DataFrame, number: int) -> None:
        start_time, pictures = time.time(), batch.collect()
        if not pictures:
            return
        rows = self._rows(pictures).persist()
        staged, target = f"{self.outbox}/_batch-{number}", f"{self.outbox}/predictions/batch={number}"
        answers = answer(rows, self.predict, self.class_names).where(F.col("reason").isNull())
        answers.drop("reason", "detail").write.mode("overwrite").parquet(staged)
        rejected = rows.where(F.col("reason").isNotNull()).select("id", "reason", "detail").collect()
        paths = {row["id"]: row["path"] for row in pictures}
        for row in rejected:
            self._quarantine(row, paths[row["id"]])
        self.storage.make_folder(f"{self.outbox}/predictions")
        self.storage.delete(target)
        self.storage.rename(staged, target)
        rows.unpersist()
        end_time = time.time()
        latency = end_time - np.array([row["landed"] for row in pictures])
        rejected_count = f", {len(rejected)} of them rejected" if rejected else ""
        speed = len(pictures) / (end_time - start_time)
        LOGGER.info(
            f"batch {number}: {len(pictures):,} pictures{rejected_count}, {speed:,.0f} pictures/s,"
            f" latency {np.median(latency):.1f} s, {latency.max():.1f} s at most"
        )

    def _rows(self, pictures: list[Row]) -> DataFrame:
        """The columns of ``INPUT_TABLE``, one row per noted picture."""
        # one task per slot: Spark itself would choose the number of tasks by the few bytes of these rows
        tasks = min(len(pictures), self.spark.sparkContext.defaultParallelism)
        links = [row for row in pictures if row["is_link"]]
        file_rows = [(row["id"], row["path"], row["length"], None) for row in pictures if not row["is_link"]]
        files = self.spark.createDataFrame(file_rows, PICTURE_FILES).repartition(tasks)
        if not self.inbox.startswith("file:"):
            names = [row["id"] for row in pictures if not row["is_link"] and (row["length"] or 0) <= MAX_BYTES]
            files = self._with_content(files.drop("content"), names)
        decoded = decode_files(files, self.inbox, self.preprocessing, self.class_names)
        rows = decoded.withColumn("id", F.col("file")).select(INPUT_TABLE.names)
        if not links:
            return rows
        no_hand = [None] * len(HAND_COLUMNS)
        link_rows = [(row["id"], None, None, "a link", _link_detail(row["path"]), *no_hand) for row in links]
        return rows.union(self.spark.createDataFrame(link_rows, INPUT_TABLE))

    def _with_content(self, files: DataFrame, names: list[str]) -> DataFrame:
        """Read the files of these names with Spark, which reaches file systems other than the driver's own."""
        paths = [path for path in (f"{self.inbox}/{name}" for name in names) if self.storage.exists(path)]
        if not paths:
            return files.withColumn("content", F.lit(None).cast("binary"))
        name = F.expr(f"substring(path, {len(self.inbox) + 2})").alias("file")
        content = reader(self.spark).format("binaryFile").load(paths).select(name, "content")
        return files.join(content, "file", how="left")

    def _quarantine(self, row: Row, path: bytes | None) -> None:
        folder, name = f"{self.outbox}/quarantine", _quarantine_name(row["id"])
        self.storage.make_folder(folder)
        target = f"{folder}/{name}"
        for earlier_file in (target, f"{target}.json"):
            self.storage.delete(earlier_file)
        if path is not None:
            _copy_file(Path(os.fsdecode(bytes(path))), local_path(self.inbox), local_path(target))
        elif self.storage.exists(f"{self.inbox}/{row['id']}"):
            self.storage.copy(f"{self.inbox}/{row['id']}", target)
        rejection = {"id": row["id"], "reason": row["reason"], "detail": row["detail"]}
        self.storage.write_text(f"{target}.json", json.dumps(rejection) + "\n")


def _link_detail(path: bytes) -> str:
    with suppress(OSError):
        return f"to {shown_name(str(Path(os.fsdecode(bytes(path))).readlink()))}; links are not followed"
    return "links are not followed"


def _quarantine_name(name: str) -> str:
    """A file's name in the quarantine, which has no subfolders.

    A file keeps its name if it is not in a subfolder and the name leaves room for the ending ``.json``; otherwise it
    gets a unique name.
    """
    base_name = name.rpartition("/")[2]
    if base_name == name and len(name.encode()) <= _MAX_NAME_BYTES and not name.endswith(".json"):
        return name
    name_end = base_name.encode()[-_MAX_NAME_BYTES:].decode(errors="ignore")
    return f"{hashlib.md5(name.encode()).hexdigest()}-{name_end}"


def _copy_file(path: Path, inbox: Path, target: Path) -> None:
    """Copy a file into the quarantine, but neither a link nor a file behind one: that may be private to the service.

    A file that has been removed meanwhile, or cannot be read, is not copied.
    """
    with suppress(OSError):
        if path.parent.resolve() != inbox.resolve() / path.parent.relative_to(inbox) or not path.is_file():
            return
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(source, "rb") as file, target.open("xb") as copy:
            shutil.copyfileobj(file, copy)
