"""Benchmarks of photographs: to features in the store, and their prediction, in one batch and as a stream."""

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.measuring import PEERS, Bench, Measurement, digest, run_alternately, run_job
from models.export import to_onnx
from models.model_settings import Network, NetworkName
from models.networks import build_network
from models.prediction import answer, predict_with_network
from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.features_store import stored_images
from preprocessing.inputs import read_input
from preprocessing.labels import STILL_LETTERS
from preprocessing.normalization import by_range
from preprocessing.read_rows import ReadContext
from preprocessing.sources import Sources
from preprocessing.storage import Storage
from serving.inbox import Inbox
from serving.stream import PictureStream

SIZE = 64
# The photographs that are prepared, about as many as ASL Alphabet has of seven letters; fewer are predicted.
PREPARED, PREDICTED = 23_200, 4_640
NETWORK: NetworkName = "handshape"
_SETTINGS = Preprocessing(size=SIZE, crop="center", color="rgb", allow_duplicates=True)
_BATCH = re.compile(r"batch \d+: ([\d,]+) pictures")


def photographs(bench: Bench, spark: SparkSession) -> list[Measurement]:
    """JPEG files to features, compared to Pillow alone; their prediction, compared to plain Keras; and as a stream."""
    return [*_features(bench, spark), *_predictions(bench, spark)]


def _features(bench: Bench, spark: SparkSession) -> list[Measurement]:
    folder = _copies(bench, PREPARED)

    def ours() -> float:
        with bench.folder() as store:
            sources = Sources(
                {Source("photographs"): folder.as_uri()}, f"{store.as_uri()}/work", _SETTINGS, Split(), [], [], 0.2,
                1.0, 0,
            )  # fmt: skip
            start = time.perf_counter()
            stored_images(spark, Storage(spark), sources, store.as_uri())
            return PREPARED / (time.perf_counter() - start)

    ours()  # the first run warms the session up
    peer = [sys.executable, PEERS / "pillow.py", folder, "--size", SIZE]
    theirs, own = run_alternately(3, lambda: run_job(*peer).last_json["images_per_second"], ours)
    return [
        Measurement(
            "photographs", f"JPEG to the store, {SIZE} pixels a side", "images/s", own, "≥ 0.8",
            "Pillow, decoded and resized, one process per core", theirs, PREPARED,
        )
    ]  # fmt: skip


def _predictions(bench: Bench, spark: SparkSession) -> list[Measurement]:
    folder, storage, class_names = _copies(bench, PREDICTED), Storage(spark), list(STILL_LETTERS)
    network = to_onnx(build_network(Network(name=NETWORK), (SIZE, SIZE, 3), len(class_names), by_range(3)), {})

    def batch() -> float:
        with bench.folder() as output:
            start = time.perf_counter()
            context = ReadContext(spark, storage, output.as_uri(), _SETTINGS, class_names)
            read = read_input(context, folder.as_uri())
            answers = answer(read.table, lambda rows: predict_with_network(rows, network, class_names), class_names)
            answers.write.parquet(f"{output.as_uri()}/predictions")
            for table in read.kept:
                table.unpersist()
            return PREDICTED / (time.perf_counter() - start)

    def stream() -> float:
        """Images a second from the second batch on."""
        with bench.folder() as output, _Batches() as batches:
            predicted = PictureStream(
                spark, storage, folder.as_uri(), f"{output.as_uri()}/outbox",
                lambda rows: predict_with_network(rows, network, class_names), class_names, _SETTINGS,
            )  # fmt: skip
            Inbox(storage, predicted.inbox, predicted.notes).look()
            query = predicted.start(0.1)
            try:
                query.processAllAvailable()
            finally:
                query.stop()
            first, *others = batches.ends
            return sum(count for _, count in others) / (others[-1][0] - first[0])

    batch()
    peer = [sys.executable, PEERS / "keras_on_photographs.py", folder, "--network", NETWORK, "--size", SIZE]
    theirs, own = run_alternately(3, lambda: run_job(*peer).last_json["images_per_second"], batch)
    batches, streamed = run_alternately(3, batch, stream)
    return [
        Measurement(
            "photographs", f"prediction from JPEG, {NETWORK}", "images/s", own, "≥ 0.8",
            "plain Keras, tf.data and model.predict", theirs, PREDICTED,
        ),
        Measurement(
            "photographs", "stream, from the second batch on", "images/s", streamed, "≥ 0.5",
            "the same photographs in one batch", batches, PREDICTED,
        ),
    ]  # fmt: skip


class _Batches(logging.Handler):
    """Keeps the end and the number of pictures of each batch that the stream reports."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[float, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if match := _BATCH.match(record.getMessage()):
            self.ends.append((time.perf_counter(), int(match[1].replace(",", ""))))

    def __enter__(self) -> "_Batches":
        logging.getLogger("handshape").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("handshape").removeHandler(self)


def _copies(bench: Bench, count: int) -> Path:
    """A folder with this many JPEG files in class folders: copies of the photographs, an hour old.

    What they show does not matter here, so that they are distributed over the classes in turn.
    """
    files = sorted(path for path in bench.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(files) < len(STILL_LETTERS):
        sys.exit(f"error: {bench.photographs}: {len(files)} JPEG files; at least {len(STILL_LETTERS)} are needed")
    folder = bench.work / f"photographs_{count}_{digest(files)}"
    if not folder.exists():
        unfinished = Path(tempfile.mkdtemp(dir=bench.work))
        hour_ago = time.time() - 3600  # the stream waits for files that have just been written
        for number in range(count):
            index = number % len(files)
            path = unfinished / STILL_LETTERS[index % len(STILL_LETTERS)] / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(files[index], path)
            os.utime(path, (hour_ago, hour_ago))
        unfinished.rename(folder)
    return folder
