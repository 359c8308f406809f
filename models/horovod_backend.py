"""Horovod's processes on Spark, without what they would wait for."""

import functools
import gc
from collections.abc import Callable
from typing import Any

import cloudpickle
from horovod.spark import runner
from horovod.spark.common.backend import SparkBackend

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


def _task(*arguments: Any) -> Any:
    """On an executor, in a Python worker that has Horovod's own ``_task_fn``."""
    runner.MINIMUM_COMMAND_LIFETIME_S = _LIFETIME_SECONDS
    try:
        return runner._task_fn(*arguments)
    finally:
        gc.collect()  # the process's semaphores, of which Python would warn when Spark ends this worker
