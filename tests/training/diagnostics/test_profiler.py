"""Where the time of a step goes, from recordings; a real one is in tests/jobs."""

import json

import pytest
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from training.diagnostics.profiler import fractions

BEGIN = 1_700_000_000.0


def recorded(**events: tuple[str, float, float]) -> bytes:
    """Of TensorFlow: the thread, the begin and the end of each event, in seconds since the anchor at 5 s."""
    space = XSpace()
    plane = space.planes.add(name="/host:CPU")
    lines: dict = {}
    for number, (name, (thread, begin, end)) in enumerate([("handshape anchor", ("python", 0, 0)), *events.items()]):
        plane.event_metadata[number].name = name
        if thread not in lines:
            lines[thread] = plane.lines.add(name=thread, timestamp_ns=5_000_000_000)
        lines[thread].events.add(metadata_id=number, offset_ps=int(begin * 1e12), duration_ps=int((end - begin) * 1e12))
    return space.SerializeToString()


def timeline(begin: float, end: float) -> str:
    """Of Horovod, of one tensor, in seconds since ``BEGIN``."""
    first = {"ph": "M", "name": "process_name", "pid": 0, "args": {"start_time_since_epoch_in_micros": BEGIN * 1e6}}
    spans = [
        {"ph": "B", "name": "ALLREDUCE", "pid": 1, "ts": begin * 1e6},
        {"ph": "B", "name": "GLOO_ALLREDUCE", "pid": 1, "ts": (begin + 0.01) * 1e6},
        {"ph": "E", "pid": 1, "ts": (end - 0.01) * 1e6},
        {"ph": "E", "pid": 1, "ts": end * 1e6},
    ]
    return json.dumps([first, *spans])


def test_what_happens_at_once_is_counted_as_computing_first_then_as_allreduce() -> None:
    events = {
        "dense/MatMul:MatMul": ("tf_Compute/1", 0.1, 0.5),
        "dense/Relu:Relu": ("tf_Compute/1", 0.4, 0.6),
        "IteratorGetNextOp::DoCompute": ("tf_data_iterator_get_next/1", 0.0, 0.2),
        "EagerLocalExecute: train_function": ("python", 0.0, 1.0),
        "augment/Rotate:ImageProjectiveTransformV3": ("tf_data_private_threadpool/1", 0.8, 0.9),
    }
    result = fractions(recorded(**events), timeline(0.5, 0.8), BEGIN, 1.0)
    assert result == pytest.approx({"computing": 0.5, "allreduce": 0.2, "data": 0.1, "python": 0.2}, abs=1e-5)


def test_what_is_not_of_the_recorded_steps_does_not_count() -> None:
    events = {"dense/MatMul:MatMul": ("tf_Compute/1", -1.0, 0.25), "late/MatMul:MatMul": ("tf_Compute/1", 1.75, 9.0)}
    result = fractions(recorded(**events), timeline(-2.0, -1.0), BEGIN, 2.0)
    assert result == pytest.approx({"computing": 0.25, "allreduce": 0, "data": 0, "python": 0.75}, abs=1e-5)


def test_a_process_by_itself_has_no_timeline() -> None:
    assert fractions(recorded(), "", BEGIN, 1.0) == pytest.approx(
        {"computing": 0, "allreduce": 0, "data": 0, "python": 1}
    )


def test_a_timeline_that_was_not_closed_is_read() -> None:
    text = timeline(0.0, 0.5)
    assert fractions(recorded(), text.rstrip("]") + ",\n", BEGIN, 1.0)["allreduce"] == pytest.approx(0.5, abs=1e-5)
