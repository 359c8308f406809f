"""Horovod's processes on Spark: what they are given, how they end, and nothing that they would wait for."""

import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cloudpickle
from horovod.runner.common.service import task_service
from horovod.runner.util.streams import Pipe
from horovod.spark import runner
from horovod.spark.common.backend import SparkBackend
from pyspark.sql import SparkSession

from models.cluster import is_local
from models.imports import no_garbage

# For the driver to ask how a process has ended, if it ended at once.
_LIFETIME_SECONDS = 0.2


class PromptBackend(SparkBackend):  # type: ignore[misc]
    """Its Spark tasks end when their processes do.

    Horovod 0.28 means a task to last three seconds at least. It counts them from the end of the process, not from its
    start (``SparkTaskService._run_command`` returns when the command has ended), and so every training waits for them.
    """

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
    ) -> list[Any]:
        before, runner._task_fn = runner._task_fn, _task
        try:
            return super().run(functools.partial(_unpickled, cloudpickle.dumps(fn)), args, kwargs or {}, env)
        finally:
            runner._task_fn = before


def _unpickled(fn: bytes, *args: Any, **kwargs: Any) -> Any:
    """In a process of Horovod's, which imports TensorFlow with what it is to run."""
    with no_garbage():
        run = cloudpickle.loads(fn)
    return run(*args, **kwargs)


class QuietPipe(Pipe):  # type: ignore[misc]
    """What a process prints on its way to the driver: once the driver has stopped listening it is dropped.

    Horovod's own raises in the thread that reads from the process, whose traceback would follow a job's last words.
    """

    def write(self, buf: str) -> None:
        with suppress(RuntimeError):
            super().write(buf)


def _task(*arguments: Any) -> Any:
    """On an executor, in a Python worker that has Horovod's own ``_task_fn``."""
    task_service.Pipe = QuietPipe
    # its process imports from where this worker does: the project's packages, which Spark has sent, before a user's
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    runner.MINIMUM_COMMAND_LIFETIME_S = _LIFETIME_SECONDS
    return runner._task_fn(*arguments)


@contextmanager
def handled_signals() -> Iterator[None]:
    """Interrupt the job where Horovod only ends its processes: its handlers of SIGINT and SIGTERM replace the job's,
    and stay.

    Raises:
        KeyboardInterrupt: one of the two came, and Horovod has ended its processes.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arrived, sender = socket.socketpair()
    arrived.setblocking(False)
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        try:
            numbers = arrived.recv(4096)
        except BlockingIOError:
            numbers = b""
        arrived.close()
        sender.close()
        if set(numbers) & set(handlers):
            raise KeyboardInterrupt


def cores_a_process(spark: SparkSession, num_proc: int) -> int:
    """The cores that each of so many processes may keep busy."""
    if is_local(spark):
        # those that this process may use, of which it may have been given a part
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, allowed // num_proc)
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))


def process_environment(cores: int) -> dict[str, str]:
    """Threads and memory of each process: all of TensorFlow's on every one would fight for the same cores."""
    return {
        "TF_NUM_INTRAOP_THREADS": str(cores),
        "TF_NUM_INTEROP_THREADS": str(cores),
        # With an arena for each thread, as glibc has it, a process is larger by what the threads have freed.
        "MALLOC_ARENA_MAX": "2",
        # Milliseconds between two rounds in which the processes tell each other what is ready to be summed. Longer, and
        # every step waits for the next one; shorter, and the rounds take the cores from networks whose step is some ten
        # of them, a fifth where a core is slow.
        "HOROVOD_CYCLE_TIME": os.environ.get("HOROVOD_CYCLE_TIME", "2"),
    }
