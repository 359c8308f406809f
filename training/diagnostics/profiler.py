"""A profile of a training: some of its steps, recorded by TensorFlow's profiler and Horovod's timeline."""

import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import horovod.tensorflow.keras as hvd
import numpy as np
import tensorflow as tf
from keras.callbacks import Callback

from preprocessing.file_systems import open_url

LOGGER = logging.getLogger("handshape")

Spans = list[tuple[float, float]]

STEPS = 20
TIMELINE = "horovod_timeline.json"
# An event whose wall-clock time is known: TensorFlow's recording starts at 0, Horovod's timeline at 1970.
_ANCHOR = "handshape anchor"


class Profile(Callback):
    """Records some steps of the second epoch on rank 0, or of the first if there is only one.

    ``result`` is None, or the result of the steps that were recorded in this epoch: their number ``steps``, their
    duration ``seconds``, and ``fractions``, see :func:`fractions`.

    Args:
        folder: the folder of the store that the recordings are written to.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.result: dict[str, Any] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.here = hvd.rank() == 0 and epoch == min(1, self.params["epochs"] - 1)
        self.result = None
        self.local: Path | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # the first steps of an epoch fill the prefetch buffers
        if not self.here or self.local is not None or batch < min(STEPS, self.params["steps"] // 4):
            return
        self.local, self.first = Path(tempfile.mkdtemp()), batch
        tf.profiler.experimental.start(str(self.local))
        hvd.start_timeline(str(self.local / TIMELINE))
        self.begin = time.time()
        with tf.profiler.experimental.Trace(_ANCHOR):
            pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        last = self.local is not None and batch + 1 >= min(self.first + STEPS, self.params["steps"])
        if not self.here or self.local is None or not last:
            return
        seconds = time.time() - self.begin
        self.here = False
        hvd.stop_timeline()
        tf.profiler.experimental.stop()
        try:
            self._keep(self.local, batch + 1 - self.first, seconds)
        except Exception as error:  # a failed profile must not stop the training
            LOGGER.warning(f"the profile cannot be kept: {type(error).__name__}: {error}")
        shutil.rmtree(self.local, ignore_errors=True)

    def _keep(self, local: Path, steps: int, seconds: float) -> None:
        (recorded,) = local.rglob("*.xplane.pb")
        result = fractions(recorded.read_bytes(), (local / TIMELINE).read_text(), self.begin, seconds)
        system, folder = open_url(self.folder)
        system.makedirs(folder, exist_ok=True)
        for file in (file for file in local.rglob("*") if file.is_file()):
            system.put_file(str(file), f"{folder}/{file.name}")
        self.result = {"steps": steps, "seconds": seconds, "fractions": result}


def fractions(recorded: bytes, timeline: str, begin: float, seconds: float) -> dict[str, float]:
    """How the time of the recorded steps was spent, as fractions of it.

    Args:
        recorded: a serialized ``XSpace`` of TensorFlow's profiler, with the anchor at ``begin``.
        timeline: Horovod's timeline, as JSON.
        begin: the start of the first step, in seconds since 1970.
        seconds: the duration of the recording.

    Returns:
        ``computing``, while an operation ran; ``allreduce``, while no operation ran but gradients were summed or the
        rank waited for other ranks; ``data``, while only the next batch was waited for; ``python``, the rest.
    """
    operations, batches = _operations(recorded)
    spans: Spans = []
    reached = []
    for kind in (operations, _reductions(timeline, begin), batches):
        spans += _within(kind, seconds)
        reached.append(_length(spans))
    computing, reduced, waited = reached
    lengths = {"computing": computing, "allreduce": reduced - computing, "data": waited - reduced}
    return {name: length / seconds for name, length in lengths.items()} | {"python": max(0.0, 1 - waited / seconds)}


def _operations(recorded: bytes) -> tuple[Spans, Spans]:
    """The times of operations, except prefetching, and of waiting for batches, in seconds since the anchor."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    operations, batches, anchor = [], [], 0.0
    for plane in XSpace.FromString(recorded).planes:
        names = {key: metadata.name for key, metadata in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = names[event.metadata_id]
                start = line.timestamp_ns * 1e-9 + event.offset_ps * 1e-12
                span = (start, start + event.duration_ps * 1e-12)
                if name == _ANCHOR:
                    anchor = start
                elif name.startswith("IteratorGetNext"):
                    batches.append(span)
                # operations are called name:Type
                elif re.fullmatch(r"[^:]+:\w+", name) and not line.name.startswith("tf_data"):
                    operations.append(span)
    return tuple([(start - anchor, end - anchor) for start, end in kind] for kind in (operations, batches))  # type: ignore[return-value]


def _reductions(timeline: str, begin: float) -> Spans:
    """The times when gradients were negotiated and summed, in seconds since ``begin``."""
    if not timeline.strip():
        return []  # a single process sums no gradients
    events = json.loads(timeline if timeline.rstrip().endswith("]") else f"{timeline.rstrip().rstrip(',')}]")
    since = next(event["args"]["start_time_since_epoch_in_micros"] for event in events if event["ph"] == "M")
    open_since: dict[int, list[float]] = {}
    spans = []
    for event in events:
        when = since * 1e-6 + event.get("ts", 0) * 1e-6 - begin
        if event["ph"] == "B":
            open_since.setdefault(event["pid"], []).append(when)
        elif event["ph"] == "E" and open_since.get(event["pid"]):
            spans.append((open_since[event["pid"]].pop(), when))
    return spans


def _within(spans: Spans, seconds: float) -> Spans:
    return [(max(start, 0.0), min(end, seconds)) for start, end in spans if end > 0 and start < seconds]


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of the spans."""
    ordered = np.array(sorted(spans)).reshape(-1, 2)
    if not len(ordered):
        return 0.0
    reached = np.maximum.accumulate(ordered[:, 1])
    begins = np.maximum(ordered[1:, 0], reached[:-1])
    return float(ordered[0, 1] - ordered[0, 0] + np.maximum(ordered[1:, 1] - begins, 0).sum())
