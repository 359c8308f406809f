"""Pictures are predicted as they land, each once, whatever happens to the job."""

import hashlib
import json
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
from preprocessing.decoding import MAX_BYTES
from preprocessing.folders import PICTURE_FILES, decode_files
from preprocessing.inputs import INPUT_TABLE
from preprocessing.listing import shown_name
from preprocessing.saved_pipeline import literal_path
from preprocessing.settings import Preprocessing
from preprocessing.storage import Storage, local_path, reader

NOTE = "id string, path binary, length long, is_link boolean, landed double"
# Notes of a batch at most, each of a hundred pictures.
BATCH_NOTES = 10
# Of a name in the quarantine.
_NAME_BYTES = 200


@dataclass(frozen=True)
class PictureStream:
    """The answers to an inbox's pictures.

    The outbox has ``predictions/``, Parquet with the columns of ``ANSWERS``, and ``quarantine/``, the pictures that
    cannot be used, each with a file ``….json`` that says why. A batch's answers appear whole or not at all; one that
    was broken off is written anew under its number: Spark repeats it with the same notes.

    Args:
        spark: the session.
        storage: its file systems.
        inbox: where pictures land, absolute.
        outbox: where answers go, absolute.
        predict: gives the columns of ``PREDICTIONS`` for the columns id, source, label and pixels.
        classes: in the order of the probabilities.
        preprocessing: of the run's pictures.
    """

    spark: SparkSession
    storage: Storage
    inbox: str
    outbox: str
    predict: Callable[[DataFrame], DataFrame]
    classes: list[str]
    preprocessing: Preprocessing
    # Why the query has ended, which Spark would tell in hundreds of lines.
    failures: list[Exception] = field(default_factory=list)

    @property
    def notes(self) -> str:
        return f"{self.outbox}/notes"

    def start(self, seconds: float) -> StreamingQuery:
        """Answer what is noted, looking for more so often."""
        # the one reader of Spark's that takes a path for a pattern whatever it is told
        path = literal_path(self.notes)
        notes = self.spark.readStream.schema(NOTE).option("maxFilesPerTrigger", BATCH_NOTES).json(path)
        stream = notes.writeStream.foreachBatch(self._answer).trigger(processingTime=f"{seconds} seconds")
        return stream.option("checkpointLocation", f"{self.outbox}/checkpoint").start()

    def _answer(self, batch: DataFrame, number: int) -> None:
        try:
            self._predict(batch, number)
        except Exception as error:
            self.failures.append(error)
            raise

    def _predict(self, batch: DataFrame, number: int) -> None:
        start, noted = time.time(), batch.collect()
        if not noted:
            return
        rows = self._rows(noted).persist()
        staged, target = f"{self.outbox}/_batch-{number}", f"{self.outbox}/predictions/batch={number}"
        answers = answer(rows, self.predict, self.classes).where(F.col("reason").isNull())
        answers.drop("reason", "detail").write.mode("overwrite").parquet(staged)
        rejected = rows.where(F.col("reason").isNotNull()).select("id", "reason", "detail").collect()
        paths = {row["id"]: row["path"] for row in noted}
        for row in rejected:
            self._set_aside(row, paths[row["id"]])
        self.storage.make_folder(f"{self.outbox}/predictions")
        self.storage.delete(target)
        self.storage.rename(staged, target)
        rows.unpersist()
        now = time.time()
        latency = now - np.array([row["landed"] for row in noted])
        aside = f", {len(rejected)} of them set aside" if rejected else ""
        print(
            f"batch {number}: {len(noted):,} pictures{aside}, {len(noted) / (now - start):,.0f} pictures/s,"
            f" latency {np.median(latency):.1f} s, {latency.max():.1f} s at most",
            flush=True,
        )

    def _rows(self, noted: list[Row]) -> DataFrame:
        """The columns of ``INPUT_TABLE``, a row for each note."""
        # Spark would decide by the bytes of a row or two how many tasks there are: a batch has one for each slot
        tasks = min(len(noted), self.spark.sparkContext.defaultParallelism)
        links = [row for row in noted if row["is_link"]]
        others = [(row["id"], row["path"], row["length"], None) for row in noted if not row["is_link"]]
        files = self.spark.createDataFrame(others, PICTURE_FILES).repartition(tasks)
        if not self.inbox.startswith("file:"):
            names = [row["id"] for row in noted if not row["is_link"] and (row["length"] or 0) <= MAX_BYTES]
            files = self._with_content(files.drop("content"), names)
        decoded = decode_files(files, self.inbox, self.preprocessing, self.classes)
        rows = decoded.withColumn("id", F.col("file")).select(INPUT_TABLE.names)
        if not links:
            return rows
        aside = [(row["id"], None, None, "a link", _link_detail(row["path"])) for row in links]
        return rows.union(self.spark.createDataFrame(aside, INPUT_TABLE))

    def _with_content(self, files: DataFrame, names: list[str]) -> DataFrame:
        """What lies on other file systems than the driver's own is read by Spark: the files of these names."""
        paths = [path for path in (f"{self.inbox}/{name}" for name in names) if self.storage.exists(path)]
        if not paths:
            return files.withColumn("content", F.lit(None).cast("binary"))
        name = F.expr(f"substring(path, {len(self.inbox) + 2})").alias("file")
        content = reader(self.spark).format("binaryFile").load(paths).select(name, "content")
        return files.join(content, "file", how="left")

    def _set_aside(self, row: Row, path: bytes | None) -> None:
        folder, name = f"{self.outbox}/quarantine", _quarantine_name(row["id"])
        self.storage.make_folder(folder)
        target = f"{folder}/{name}"
        for there in (target, f"{target}.json"):
            self.storage.delete(there)
        if path is not None:
            _copy_file(Path(os.fsdecode(bytes(path))), local_path(self.inbox), local_path(target))
        elif self.storage.exists(f"{self.inbox}/{row['id']}"):
            self.storage.copy(f"{self.inbox}/{row['id']}", target)
        about = {"id": row["id"], "reason": row["reason"], "detail": row["detail"]}
        self.storage.write_text(f"{target}.json", json.dumps(about) + "\n")


def _link_detail(path: bytes) -> str:
    with suppress(OSError):
        return f"to {shown_name(str(Path(os.fsdecode(bytes(path))).readlink()))}; links are not followed"
    return "links are not followed"


def _quarantine_name(name: str) -> str:
    """A file's name in the quarantine, which has no folders: its own, where it lies in none and leaves room for the
    ending of what is written beside it, and otherwise one that no other file has."""
    own = name.rpartition("/")[2]
    if own == name and len(own.encode()) <= _NAME_BYTES and not own.endswith(".json"):
        return own
    cut = own.encode()[-_NAME_BYTES:].decode(errors="ignore")
    return f"{hashlib.md5(name.encode()).hexdigest()}-{cut}"


def _copy_file(path: Path, inbox: Path, target: Path) -> None:
    """Copy a file into the quarantine, but no link, nor what lies behind one: that may be for the service's eyes alone.

    What has gone meanwhile, or cannot be read, is not copied.
    """
    with suppress(OSError):
        if path.parent.resolve() != inbox.resolve() / path.parent.relative_to(inbox) or not path.is_file():
            return
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(source, "rb") as file, target.open("xb") as copy:
            shutil.copyfileobj(file, copy)
