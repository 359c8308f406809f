"""Horovod's processes as forks of one process that has imported TensorFlow."""

import atexit
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from horovod.runner.common.util import codec
from horovod.spark.task import gloo_exec_fn

from training.cluster.python_daemon import FORK_SERVER, PROCESS_NAME, _serve, fork_process


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run a function in a process of the server; return its exit status and its output."""
    monkeypatch.setattr(gloo_exec_fn, "main", lambda function, _: function())
    atexit.register(print, "not its own")
    requests, client = socket.socketpair()
    server = os.fork()
    if server == 0:
        client.close()
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # not those of pytest
        _serve(requests)
        os._exit(0)
    requests.close()
    monkeypatch.setenv(FORK_SERVER, str(client.fileno()))

    def run_function(function: Callable[[], None], events: tuple[threading.Event, ...] = ()) -> tuple[int, str]:
        arguments = f"{codec.dumps_base64(function)} {codec.dumps_base64(None)}"
        command = f"env HOROVOD_RANK=3 'A=two words' python3.11 -m horovod.spark.task.gloo_exec_fn {arguments}"
        output = io.StringIO()
        status = fork_process(command, {"B": "3", "PATH": ""}, output, output, 0, list(events))
        return status, output.getvalue()

    yield run_function
    atexit.unregister(print)
    client.close()
    assert os.waitpid(server, 0)[1] == 0


def ranks() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["name"]) if process.info["name"] == PROCESS_NAME]


def wait_for_ranks(number: int, before: int) -> bool:
    deadline = time.monotonic() + 10
    while len(ranks()) != before + number and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(ranks()) == before + number


def test_a_process_has_its_environment_and_its_output_is_read(run: Callable[..., tuple[int, str]]) -> None:
    def print_environment() -> None:
        import os

        print(*sorted(os.environ.items()))

    environment = [("A", "two words"), ("B", "3"), ("HOROVOD_RANK", "3"), ("PATH", "")]
    assert run(print_environment) == (0, "[0]<stdout>:" + " ".join(map(str, environment)) + "\n")


def test_an_error_and_a_signal_have_the_status_that_a_shell_would_give(run: Callable[..., tuple[int, str]]) -> None:
    status, output = run(lambda: 1 // 0)
    assert status == 1
    assert output.endswith("[0]<stderr>:ZeroDivisionError: integer division or modulo by zero\n")

    def kill_itself() -> None:
        import os

        os.kill(os.getpid(), 9)

    assert run(kill_itself) == (128 + signal.SIGKILL, "")


def sleep() -> None:
    import time

    time.sleep(60)


def test_a_process_is_killed_by_an_event(run: Callable[..., tuple[int, str]]) -> None:
    before, event = len(ranks()), threading.Event()
    threading.Timer(1, event.set).start()
    begin = time.monotonic()
    assert run(sleep, events=(event,))[0] == 128 + signal.SIGKILL
    assert time.monotonic() - begin < 20
    assert wait_for_ranks(0, before)


def test_only_its_own_exit_functions_run_when_a_process_ends(run: Callable[..., tuple[int, str]]) -> None:
    def register() -> None:
        import atexit

        atexit.register(print, "its own")

    assert run(register) == (0, "[0]<stdout>:its own\n")


def test_what_a_process_leaves_behind_is_killed(run: Callable[..., tuple[int, str]]) -> None:
    def leave_a_child() -> None:
        import os
        import time

        if os.fork() == 0:
            time.sleep(60)

    before, begin = len(ranks()), time.monotonic()
    assert run(leave_a_child) == (0, "")
    assert time.monotonic() - begin < 20
    assert wait_for_ranks(0, before)


def test_without_the_server_a_process_is_started_as_horovod_does(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, client = socket.socketpair()
    requests.close()
    monkeypatch.setenv(FORK_SERVER, str(client.fileno()))
    output = io.StringIO()
    command = f"env A=3 {sys.executable} -c 'import os; print(os.environ[\"A\"])'"
    assert fork_process(command, dict(os.environ), output, output, 1, []) == 0
    assert output.getvalue() == "[1]<stdout>:3\n"


def test_a_process_ends_with_the_worker_that_has_asked_for_it(run: Callable[..., tuple[int, str]]) -> None:
    before = len(ranks())
    worker = os.fork()
    if worker == 0:
        run(sleep)
        os._exit(0)
    assert wait_for_ranks(1, before)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    assert wait_for_ranks(0, before)
