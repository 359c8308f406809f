"""Pictures are predicted as they land, each once, whatever happens to the job."""

import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from models.prediction import answer
from preprocessing.decoding import MAX_BYTES
from preprocessing.folders import decode_files
from preprocessing.inputs import INPUT_TABLE
from preprocessing.settings import Preprocessing
from preprocessing.storage import Storage

NOTE = "id string, path string, landed double"
# Notes of a batch at most, each of a hundred pictures.
BATCH_NOTES = 10


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
        notes = self.spark.readStream.schema(NOTE).option("maxFilesPerTrigger", BATCH_NOTES).json(self.notes)
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
        rows = self._rows([row["path"] for row in noted]).persist()
        staged, target = f"{self.outbox}/_batch-{number}", f"{self.outbox}/predictions/batch={number}"
        answers = answer(rows, self.predict, self.classes).where(F.col("reason").isNull())
        answers.drop("reason", "detail").write.mode("overwrite").parquet(staged)
        rejected = rows.where(F.col("reason").isNotNull()).select("id", "reason", "detail").collect()
        for row in rejected:
            self._set_aside(row.asDict())
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

    def _rows(self, paths: list[str]) -> DataFrame:
        """The columns of ``INPUT_TABLE``; what has been taken away, or is empty, is no row of Spark's."""
        there = [path for path in paths if self.storage.exists(path)]
        # a name may have what is a pattern to Spark
        patterns = [re.sub(r"([\\*?\[\]{}])", r"\\\1", path) for path in there]
        found = self.spark.read.format("binaryFile").load(patterns) if patterns else None
        parts = []
        if found is not None:
            content = F.when(F.col("length") <= MAX_BYTES, F.col("content")).alias("content")
            files = found.select("path", "length", content)
            decoded = decode_files(files, self.inbox, self.preprocessing, self.classes)
            parts.append(decoded.withColumn("id", F.col("file")).select(INPUT_TABLE.names))
        names = [path[len(self.inbox) + 1 :] for path in paths]
        known = parts[0].select("id") if parts else self.spark.createDataFrame([], "id string")
        missing = self.spark.createDataFrame([(name,) for name in names], "id string").join(known, "id", "left_anti")
        gone = [F.lit(None).cast(INPUT_TABLE[name].dataType).alias(name) for name in ("label", "pixels")]
        parts.append(missing.select("id", *gone, F.lit("empty file").alias("reason"), F.lit("0 bytes").alias("detail")))
        return parts[0].union(parts[1]) if len(parts) > 1 else parts[0]

    def _set_aside(self, row: dict[str, Any]) -> None:
        source, target = f"{self.inbox}/{row['id']}", f"{self.outbox}/quarantine/{row['id']}"
        self.storage.make_folder(target.rsplit("/", 1)[0])
        for path in (target, f"{target}.json"):
            self.storage.delete(path)
        if self.storage.exists(source):
            self.storage.copy(source, target)
        with tempfile.TemporaryDirectory() as local:
            file = Path(local) / "reason.json"
            file.write_text(json.dumps({"reason": row["reason"], "detail": row["detail"]}) + "\n")
            self.storage.upload(file, f"{target}.json")
