"""Attacks on a real server, and a client beside them that is answered as if there were none."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from tests.servers import AUTHORISED, KEY, Server, served
from tests.serving.hostile import BODIES, GZIP_BOMB, LARGE, MB, PICTURES

# Generous: the machine of these tests may be busy, and an attack that comes through costs ten seconds and gigabytes.
PROMPT = 5.0
MEMORY = 1500 * MB


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(run, tmp_path_factory.mktemp("attacked") / "log", KEY) as server:
        yield server


def hand() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(784, np.uint8))
    return buffer.getvalue()


@contextmanager
def healthy_client(server: Server) -> Iterator[list[float]]:
    """Asks again and again, and is answered each time, promptly, by a server whose memory stays within bounds.

    Yields:
        The seconds of its answers, as they come.
    """
    seconds: list[float] = []
    statuses: set[int] = set()
    peak, ended = 0, threading.Event()
    before = psutil.Process(server.process.pid).memory_info().rss

    def ask() -> None:
        while not ended.is_set():
            start = time.monotonic()
            statuses.add(server.post("/v1/predict", hand(), "application/x-npy").status_code)
            seconds.append(time.monotonic() - start)
            ended.wait(0.05)

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, psutil.Process(server.process.pid).memory_info().rss)

    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(ask), pool.submit(watch)]
        try:
            yield seconds
        finally:
            ended.set()
        for done in work:
            done.result()
    assert statuses == {200}
    assert max(seconds) < PROMPT
    assert peak - before < MEMORY


def connected(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(length: int, kind: str = "image/png") -> bytes:
    key = f"Authorization: Bearer {KEY}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
    return f"POST /v1/predict HTTP/1.1\r\nHost: here\r\n{key}\r\n".encode()


def sit(server: Server, count: int, begin: Callable[[int], bytes], trickle: bytes, seconds: float) -> None:
    """Hold so many connections open, which begin with something and then send a byte now and then."""
    sitting = [connected(server) for _ in range(count)]
    for place, connection in enumerate(sitting):
        with suppress(OSError):
            connection.sendall(begin(place))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for connection in sitting:
            with suppress(OSError):
                connection.sendall(trickle)
        time.sleep(0.2)
    for connection in sitting:
        connection.close()


def test_bodies_that_are_made_to_hurt(server: Server) -> None:
    bodies = [*[(kind, body) for kind, body, *_ in BODIES.values()], *PICTURES.values()]
    expected = [*[status for *_, status, _ in BODIES.values()], *[200] * len(PICTURES)]
    with healthy_client(server), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda sent: server.post("/v1/predict", sent[1], sent[0]).status_code, bodies))
        packed = server.post("/v1/predict", GZIP_BOMB, "text/csv", **{"Content-Encoding": "gzip"})
    assert found == expected
    assert packed.status_code == 413


def test_the_costliest_pictures_that_are_allowed_keep_nobody_waiting_but_each_other(server: Server) -> None:
    with healthy_client(server), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: server.post("/v1/predict", LARGE, "image/png").status_code, range(8)))
    assert set(found) <= {200, 504}


def test_heads_that_trickle_beside_bodies_that_trickle(server: Server) -> None:
    with healthy_client(server) as seconds, ThreadPoolExecutor(2) as pool:
        heads = pool.submit(sit, server, 300, lambda _: b"GET /ping HTTP/1.1\r\nX: ", b"a", 4)
        bodies = pool.submit(sit, server, 100, lambda _: head(1000), b"a", 4)
        heads.result()
        bodies.result()
    assert len(seconds) > 5


def test_more_connections_than_there_may_be(server: Server) -> None:
    with healthy_client(server) as seconds:
        sit(server, 700, lambda place: (b"", b"GET / HT", head(10))[place % 3], b"", 1)
    assert len(seconds) > 2


def test_large_bodies_that_never_end_are_bounded_in_all(server: Server) -> None:
    with healthy_client(server) as seconds:
        sit(server, 60, lambda _: head(8 * MB) + bytes(8 * MB - 1000), b"a", 1)
    assert len(seconds) > 2


@pytest.mark.parametrize("path", ["/v1/model/", "/ping/", "/docs/", "//elsewhere.example/v1/model"])
def test_nobody_is_sent_to_another_host(server: Server, path: str) -> None:
    headers = AUTHORISED | {"Host": "elsewhere.example"}
    for method in ("GET", "POST", "HEAD"):
        answered = requests.request(method, server.url + path, headers=headers, allow_redirects=False, timeout=60)
        assert answered.status_code in (404, 405)
        assert "location" not in answered.headers


@pytest.mark.parametrize("path", ["/ping", "/metrics", "/v1/model", "/v1/pictures/A", "/", "/page.js", "/openapi.json"])
def test_head_is_answered_as_get_without_a_body(server: Server, path: str) -> None:
    got, asked = (
        requests.request(method, server.url + path, headers=AUTHORISED, timeout=60) for method in ("GET", "HEAD")
    )
    assert (got.status_code, asked.status_code, asked.content) == (200, 200, b"")
    assert asked.headers["content-type"] == got.headers["content-type"] if "content-type" in got.headers else True
    if path != "/metrics":
        assert asked.headers["content-length"] == got.headers["content-length"]
