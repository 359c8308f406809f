"""Servers of a run directory for tests."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import uvicorn
from fastapi import FastAPI

from tests.conftest import ROOT

KEY = "a-key-of-this-test"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def post(self, path: str, data: bytes, content_type: str, **headers: str) -> requests.Response:
        headers = {"Content-Type": content_type} | AUTHORIZED | headers
        return requests.post(self.url + path, data, headers=headers, timeout=60)


def free_port() -> int:
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        return int(free_socket.getsockname()[1])


@contextmanager
def running_server(app: FastAPI) -> Iterator[str]:
    """Start a server in this process, as a new process would take seconds to start, and yield its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served(run: Path | str, log: Path, key: str = "", *options: object) -> Iterator[Server]:
    """Start a server of a run, with an API key or without, and options; its output is written to ``log``."""
    port = free_port()
    with log.open("w") as file:  # a pipe that is not read would fill up and block the server
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", str(run), "--port", str(port), *map(str, options)],
            cwd=ROOT, env=os.environ | {"HANDSHAPE_API_KEY": key}, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(server):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield server
    finally:
        process.kill()
        process.wait()


def _is_ready(server: Server) -> bool:
    try:
        return requests.get(f"{server.url}/ping", timeout=1).ok
    except requests.RequestException:
        return False
