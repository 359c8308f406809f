"""Horovod's processes on Spark: how they start, how they end, and the resources they use."""

import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cloudpickle
from horovod.runner.common.service import task_service
from horovod.runner.common.util import safe_shell_exec
from horovod.runner.util.streams import Pipe
from horovod.spark import runner
from horovod.spark.common.backend import SparkBackend
from pyspark.sql import SparkSession

from models.imports import no_garbage
from training.cluster.hosts import is_local
from training.cluster.python_daemon import FORK_SERVER, fork_process

# Prefixes of the environment variables that processes take over from the driver.
_SETTINGS = ("HOROVOD_", "NCCL_", "OMP_", "TF_")

# A task lasts at least this long, so that the driver can ask for the exit status of a process that ends at once.
_LIFETIME_SECONDS = 0.2


class NoWaitBackend(SparkBackend):  # type: ignore[misc]
    """A Spark backend whose tasks end when their processes end.

    In Horovod 0.28 a task is supposed to last at least three seconds. They are counted from the end of the process
    instead of its start (``SparkTaskService._run_command`` returns when the command has ended), so every training waits
    three seconds in vain.

    Horovod also starts its processes with the driver's environment and the path of the driver's Python, neither of
    which exists on other hosts. Here they have the environment and the Python of the worker that starts them.
    """

    def __init__(self, num_proc: int, **options: Any) -> None:
        environment = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
        # found in the worker's PATH, see _task
        python = "python{}.{}".format(*sys.version_info[:2])
        # an empty environment would be replaced by the driver's
        super().__init__(num_proc, env={"HANDSHAPE": "1"} | environment, executable=python, **options)

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
    ) -> list[Any]:
        original, runner._task_fn = runner._task_fn, _task
        try:
            return super().run(functools.partial(_run_pickled, cloudpickle.dumps(fn)), args, kwargs or {}, env)
        finally:
            runner._task_fn = original


def _run_pickled(pickled: bytes, *args: Any, **kwargs: Any) -> Any:
    """Run a pickled function in a Horovod process. Unpickling it imports TensorFlow."""
    with no_garbage():
        fn = cloudpickle.loads(pickled)
    _trace_directly()
    return fn(*args, **kwargs)


def _trace_directly() -> None:
    """Let TensorFlow trace Horovod's functions without AutoGraph, whose conversion of them takes longer than the trace.

    They do not need it: their conditions are of Python, or call ``tf.cond``.
    """
    import horovod.tensorflow as horovod
    import tensorflow as tf
    from horovod.tensorflow import functions

    for module in (horovod, functions):
        module._make_subgraph = functools.partial(tf.function, autograph=False)


class QuietPipe(Pipe):  # type: ignore[misc]
    """A pipe from the output of a process to the driver that drops the output once the driver has stopped reading.

    Horovod's own pipe raises an error in the thread that reads from the process, and the traceback would be printed
    after the job's last message.
    """

    def write(self, buf: str) -> None:
        with suppress(RuntimeError):
            super().write(buf)


def _task(*arguments: Any) -> Any:
    """Run Horovod's ``_task_fn`` in a Python worker on an executor, where the module is unchanged."""
    task_service.Pipe = QuietPipe
    # The Horovod process has the import path of this worker: packages sent by Spark come before the user's own.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    folder, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = path if path.split(os.pathsep)[0] == folder else os.pathsep.join([folder, path])
    runner.MINIMUM_COMMAND_LIFETIME_S = _LIFETIME_SECONDS
    if FORK_SERVER in os.environ:
        safe_shell_exec.execute = fork_process
    return runner._task_fn(*arguments)


@contextmanager
def handled_signals() -> Iterator[None]:
    """Interrupt the job on SIGINT and SIGTERM.

    Horovod replaces the job's handlers of both signals, does not restore them, and only ends its processes.

    Raises:
        KeyboardInterrupt: one of the signals arrived, and Horovod has ended its processes.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    previous_fd = signal.set_wakeup_fd(sender.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        try:
            numbers = receiver.recv(4096)
        except BlockingIOError:
            numbers = b""
        receiver.close()
        sender.close()
        if set(numbers) & set(handlers):
            raise KeyboardInterrupt


def cores_a_process(spark: SparkSession, num_proc: int) -> int:
    """The number of cores available to each of ``num_proc`` processes."""
    if is_local(spark):
        # This process may be restricted to some of the machine's cores.
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, allowed // num_proc)
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))


def process_environment(cores: int) -> dict[str, str]:
    """Environment variables that limit the threads of each process.

    With TensorFlow's defaults, every process would start a thread for each core of the host.
    """
    return {
        "TF_NUM_INTRAOP_THREADS": str(cores),
        "TF_NUM_INTEROP_THREADS": str(cores),
        # Milliseconds between two rounds in which the processes exchange which gradients are ready to be summed. With
        # longer cycles every step waits for the next round. With shorter ones the rounds take CPU time from networks
        # whose step takes about ten cycles, a fifth of it on slow cores.
        "HOROVOD_CYCLE_TIME": os.environ.get("HOROVOD_CYCLE_TIME", "2"),
    }
