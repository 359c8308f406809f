"""The daemon that forks Spark's Python workers on a local Spark, with TensorFlow imported once for all of them.

``spark.python.daemon.module`` is this module. It also starts a server that forks Horovod's processes: a worker cannot,
as TensorFlow does not survive a fork once it has computed something.
"""

import atexit
import importlib
import os
import pickle
import shlex
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from horovod.runner.common.util import codec, safe_shell_exec
from horovod.runner.util.threads import in_thread, on_event
from pyspark import daemon

from models.imports import no_garbage

# Environment variables: the modules to import, and the file descriptor of the connection to the server of forks.
MODULES, FORK_SERVER = "HANDSHAPE_WORKER_MODULES", "HANDSHAPE_FORK_SERVER"

# what fork_process replaces
_execute = safe_shell_exec.execute

# The name of Horovod's processes in lists of processes.
PROCESS_NAME = "horovod_rank"


def main() -> None:
    """Import the modules, start the server and run Spark's daemon until Spark ends it."""
    with no_garbage(), suppress(Exception):  # the worker's own import reports the error
        for name in os.environ[MODULES].split(","):
            importlib.import_module(name)
    requests, client = socket.socketpair()
    if os.fork() == 0:
        client.close()
        try:
            _serve(requests)
        finally:
            os._exit(0)
    requests.close()
    os.environ[FORK_SERVER] = str(client.fileno())
    daemon.manager()


def _serve(requests: socket.socket) -> None:
    """Fork a supervisor for each request until the daemon and all workers have ended."""
    os.setsid()  # signals of the terminal are for the driver
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)  # Spark's pipes to the daemon
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended supervisors are not kept
    while True:
        message, files, *_ = socket.recv_fds(requests, 1, 3)
        if not message:
            return
        try:
            is_supervisor = os.fork() == 0
        except OSError:  # the worker sees that the connection is closed
            traceback.print_exc()
            is_supervisor = False
        if is_supervisor:
            try:
                requests.close()
                _supervise(socket.socket(fileno=files[0]), *files[1:])
            except EOFError:  # the worker was killed before it had sent the whole request
                pass
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(0)
        for file in files:
            os.close(file)


def _supervise(connection: socket.socket, stdout: int, stderr: int) -> None:
    """Fork the process and send its exit status. Kill it if the connection is closed, and what it leaves behind."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    with connection.makefile("rb") as file:
        request = pickle.load(file)
    process = os.fork()
    if process == 0:
        connection.close()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        _run(**request)
    os.close(stdout)
    os.close(stderr)

    def kill_when_closed() -> None:
        connection.recv(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=kill_when_closed, daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(OSError):  # the worker has been killed at the same time
        connection.sendall(str(status if status >= 0 else 128 - status).encode())
    os.killpg(0, signal.SIGKILL)  # its children, and this process


def _run(environment: dict[str, str], path: list[str], arguments: list[str]) -> None:
    """Run ``python -m horovod.spark.task.gloo_exec_fn`` with these arguments and end this process."""
    status = 1
    atexit._clear()  # what the process that was forked would do at its own end
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # no line is lost if it is killed
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        Path("/proc/self/comm").write_text(PROCESS_NAME)  # its command line is that of the daemon
        from horovod.spark.task import gloo_exec_fn

        gloo_exec_fn.main(*map(codec.loads_base64, arguments))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # Horovod leaves the other processes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def fork_process(
    command: str,
    env: dict[str, str],
    stdout: Any,
    stderr: Any,
    index: int,
    events: list[threading.Event],
    prefix_output_with_timestamp: bool = False,
) -> int:
    """Run a command of Horovod in a process of the server instead of a new interpreter.

    It takes the place of :func:`horovod.runner.common.util.safe_shell_exec.execute` in a worker, and has its arguments.

    Returns:
        The exit status of the process; 128 and the number of the signal that has killed it.
    """
    connection, other_end = socket.socketpair()
    pipes = [os.pipe(), os.pipe()]
    files = [other_end.detach(), *(writer for _, writer in pipes)]
    try:
        with socket.socket(fileno=os.dup(int(os.environ[FORK_SERVER]))) as server:
            socket.send_fds(server, [b"\0"], files)
    except OSError:  # the server was killed
        connection.close()
        for reader, _ in pipes:
            os.close(reader)
        return int(_execute(command, env, stdout, stderr, index, events, prefix_output_with_timestamp))
    finally:
        for file in files:
            os.close(file)
    readers = [
        in_thread(
            safe_shell_exec.prefix_connection,
            (Connection(reader, writable=False), stream, name, index, prefix_output_with_timestamp),
        )
        for (reader, _), stream, name in zip(pipes, (stdout, stderr), ("stdout", "stderr"), strict=True)
    ]
    _, *words = shlex.split(command)  # env NAME=VALUE … python -m horovod.spark.task.gloo_exec_fn ADDRESSES SETTINGS
    python = words.index("-m") - 1
    environment = env | dict(word.split("=", 1) for word in words[:python])
    stop = threading.Event()
    with connection:
        with suppress(OSError), connection.makefile("wb") as request:
            pickle.dump({"environment": environment, "path": sys.path, "arguments": words[python + 3 :]}, request)
        for event in events:
            on_event(event, connection.shutdown, args=(socket.SHUT_RDWR,), stop=stop, silent=True)
        status = connection.recv(16)
        stop.set()
    for thread in readers:
        thread.join()
    return int(status) if status else 128 + signal.SIGKILL


if __name__ == "__main__":
    main()
