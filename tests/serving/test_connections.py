"""Slow connections and incomplete bodies, on a server with small limits."""

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
from serving.limits import Limits
from tests.servers import free_port

Address = tuple[str, int]


@contextmanager
def listening(limits: Limits) -> Iterator[Address]:
    """A server that answers with the size of the body, and at ``/large`` with ten million bytes."""
    app = FastAPI()

    @app.post("/")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/large")
    async def large() -> str:
        return "a" * 10_000_000

    app.add_middleware(BoundedBodies, limits=limits)
    connection_class = type("LimitedConnection", (Connection,), {"limits": limits})
    port = free_port()
    config = uvicorn.Config(app, port=port, http=connection_class, ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield "127.0.0.1", port
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def head(length: int | str, headers: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    return f"POST / HTTP/1.1\r\nHost: here\r\n{size}\r\n{headers}\r\n".encode()


def receive_all(connection: socket.socket) -> str:
    """Receive until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts).decode()


def post(address: Address, body: bytes = b"hand") -> str:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head(len(body), "Connection: close\r\n") + body)
        return receive_all(connection)


def send_slowly(connection: socket.socket) -> None:
    for byte in b"POST / HTTP/1.1\r\nX: " + b"a" * 500:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def test_a_slow_head_times_out_also_on_a_connection_after_an_answer() -> None:
    with listening(Limits(seconds=0.5)) as address:
        for first_request in (b"", head(4) + b"hand"):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(first_request)
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    send_slowly(connection)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\n")
            response = receive_all(connection)
        assert response.startswith("HTTP/1.1 408 ")
        assert json.loads(response.split("\r\n\r\n")[1])["error"].endswith("did not come within 0.5 seconds")
        with socket.create_connection(address, timeout=10) as connection:
            assert receive_all(connection) == ""


def test_an_answer_that_is_not_read_times_out() -> None:
    with listening(Limits(seconds=0.5)) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(1.5)
        assert len(receive_all(connection)) < 10_000_000


def test_a_new_connection_replaces_the_one_that_has_waited_longest() -> None:
    with listening(Limits(connections=8, seconds=30)) as address:
        waiting = []
        for index in range(24):
            waiting.append(socket.create_connection(address, timeout=10))
            waiting[-1].sendall(b"POST /" if index % 2 else head(100) + b"half")
        assert post(address).endswith("4")
        assert receive_all(waiting[0]) == ""  # the oldest one was closed
        waiting[-1].sendall(b" HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n")
        assert waiting[-1].recv(4096).startswith(b"HTTP/1.1 200 ")
        for connection in waiting:
            connection.close()


def test_incomplete_bodies_are_bounded_in_total_and_the_oldest_is_rejected() -> None:
    with listening(Limits(memory=1_000_000, body=400_000, seconds=30)) as address:
        waiting = []
        for _ in range(4):
            waiting.append(socket.create_connection(address, timeout=10))
            waiting[-1].sendall(head(400_000) + bytes(300_000))
            time.sleep(0.1)
        response = receive_all(waiting[0])
        assert response.startswith("HTTP/1.1 429 ")
        assert "too many bodies at once" in response
        waiting[-1].sendall(bytes(100_000))
        assert waiting[-1].recv(4096).startswith(b"HTTP/1.1 200 ")
        assert post(address, bytes(400_000)).endswith("400000")
        for connection in waiting:
            connection.close()


def test_a_body_in_tiny_chunks_is_rejected_and_one_in_larger_chunks_is_not() -> None:
    with listening(Limits()) as address:
        for size, expected in ((1, "HTTP/1.1 400 "), (512, "HTTP/1.1 200 ")):
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(head("chunked", "Connection: close\r\n"))
                chunk = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n"
                with suppress(OSError):
                    connection.sendall(chunk * 2000 + b"0\r\n\r\n")
                assert receive_all(connection).startswith(expected)


@pytest.mark.parametrize(("encoding", "status"), [("br", 415), ("gzip, gzip", 415), ("identity", 200)])
def test_an_unknown_encoding_is_rejected_with_a_list_of_the_known_ones(encoding: str, status: int) -> None:
    with listening(Limits()) as address, socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head(4, f"Content-Encoding: {encoding}\r\nConnection: close\r\n") + b"hand")
        response = receive_all(connection)
    assert response.startswith(f"HTTP/1.1 {status} ")
    assert status == 200 or "it is one of identity, gzip" in response


def test_a_client_that_disconnects_causes_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Limits()) as address:
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(head(100) + b"half")
        assert post(address).endswith("4")
        time.sleep(0.2)
        stderr = capsys.readouterr().err
    assert "Traceback" not in stderr
