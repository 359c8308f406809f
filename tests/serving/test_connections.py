"""Connections and bodies that do not come, on a server of small limits."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn
from fastapi import FastAPI, Request

from serving.connections import Connection
from serving.intake import BoundedBodies
from serving.settings import Limits
from tests.servers import free_port

Address = tuple[str, int]


@contextmanager
def listening(limits: Limits) -> Iterator[Address]:
    """A server that says how many bytes it was sent; to ``/large`` it answers with ten million."""
    app = FastAPI()

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/large")
    async def large() -> str:
        return "a" * 10_000_000

    app.add_middleware(BoundedBodies, limits=limits)
    bounded = type("Bounded", (Connection,), {"limits": limits})
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=bounded, ws="none", lifespan="off", log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield "127.0.0.1", port
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def head(length: int | str, more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    return f"POST / HTTP/1.1\r\nHost: here\r\n{size}\r\n{more}\r\n".encode()


def answer(connection: socket.socket) -> str:
    """All that comes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts).decode()


def ask(address: Address, body: bytes = b"hand") -> str:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head(len(body), "Connection: close\r\n") + body)
        return answer(connection)


def trickle(connection: socket.socket) -> None:
    for letter in b"POST / HTTP/1.1\r\nX: " + b"a" * 500:
        connection.sendall(bytes([letter]))
        time.sleep(0.02)


def test_a_head_that_trickles_is_given_up_also_on_a_connection_that_was_answered() -> None:
    with listening(Limits(seconds=0.5)) as address:
        for first in (b"", head(4) + b"hand"):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(first)
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    trickle(connection)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\n")
            said = answer(connection)
        assert said.startswith("HTTP/1.1 408 ")
        assert json.loads(said.split("\r\n\r\n")[1])["error"].endswith("did not come within 0.5 seconds")
        with socket.create_connection(address, timeout=10) as connection:
            assert answer(connection) == ""


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    with listening(Limits(seconds=0.5)) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(1.5)
        assert len(answer(connection)) < 10_000_000


def test_who_is_quick_is_let_in_whatever_waits() -> None:
    with listening(Limits(connections=8, seconds=30)) as address:
        waiting = []
        for place in range(24):
            waiting.append(socket.create_connection(address, timeout=10))
            waiting[-1].sendall(b"POST /" if place % 2 else head(100) + b"half")
        assert ask(address).endswith("4")
        assert answer(waiting[0]) == ""  # the oldest one was closed
        waiting[-1].sendall(b" HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
        assert waiting[-1].recv(4096).startswith(b"HTTP/1.1 200 ")
        for connection in waiting:
            connection.close()


def test_the_bodies_that_wait_are_bounded_in_all_and_the_oldest_is_given_up() -> None:
    with listening(Limits(memory=1_000_000, body=400_000, seconds=30)) as address:
        waiting = []
        for _ in range(4):
            waiting.append(socket.create_connection(address, timeout=10))
            waiting[-1].sendall(head(400_000) + bytes(300_000))
            time.sleep(0.1)
        said = answer(waiting[0])
        assert said.startswith("HTTP/1.1 429 ")
        assert "too many bodies at once" in said
        waiting[-1].sendall(bytes(100_000))
        assert waiting[-1].recv(4096).startswith(b"HTTP/1.1 200 ")
        assert ask(address, bytes(400_000)).endswith("400000")
        for connection in waiting:
            connection.close()


def test_a_body_in_tiny_pieces_is_refused_and_one_in_pieces_of_a_size_is_not() -> None:
    with listening(Limits()) as address:
        for size, expected in ((1, "HTTP/1.1 400 "), (512, "HTTP/1.1 200 ")):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(head("chunked", "Connection: close\r\n"))
                piece = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n"
                with suppress(OSError):
                    connection.sendall(piece * 2000 + b"0\r\n\r\n")
                assert answer(connection).startswith(expected)


@pytest.mark.parametrize(("encoding", "status"), [("br", 415), ("gzip, gzip", 415), ("identity", 200)])
def test_an_encoding_that_is_not_known_is_refused_with_those_that_are(encoding: str, status: int) -> None:
    with listening(Limits()) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head(4, f"Content-Encoding: {encoding}\r\nConnection: close\r\n") + b"hand")
        said = answer(connection)
    assert said.startswith(f"HTTP/1.1 {status} ")
    assert status == 200 or "it is one of identity, gzip" in said


def test_a_client_that_leaves_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Limits()) as address:
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(head(100) + b"half")
        assert ask(address).endswith("4")
        time.sleep(0.2)
        said = capsys.readouterr().err
    assert "Traceback" not in said
