"""Attacks on a real server, while a normal client is answered as usual."""

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

from tests.servers import AUTHORIZED, KEY, Server, served
from tests.serving.hostile import BODIES, GZIP_BOMB, LARGE, MB, PICTURES

# Generous, as the machine may be busy; a successful attack costs ten seconds and gigabytes.
MAX_SECONDS = 5.0
MAX_MEMORY = 1500 * MB


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(run, tmp_path_factory.mktemp("attacked") / "log", KEY) as server:
        yield server


def black_picture() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(784, np.uint8))
    return buffer.getvalue()


@contextmanager
def healthy_client(server: Server) -> Iterator[list[float]]:
    """Send requests repeatedly; check that each is answered promptly and that the server's memory stays bounded.

    Yields:
        The durations of the requests in seconds; the list grows as answers arrive.
    """
    seconds: list[float] = []
    statuses: set[int] = set()
    peak, ended = 0, threading.Event()
    initial = psutil.Process(server.process.pid).memory_info().rss

    def send_requests() -> None:
        while not ended.is_set():
            start_time = time.monotonic()
            statuses.add(server.post("/v1/predict", black_picture(), "application/x-npy").status_code)
            seconds.append(time.monotonic() - start_time)
            ended.wait(0.05)

    def measure_memory() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, psutil.Process(server.process.pid).memory_info().rss)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(send_requests), pool.submit(measure_memory)]
        try:
            yield seconds
        finally:
            ended.set()
        for future in futures:
            future.result()
    p99 = float(np.percentile(seconds, 99))
    print(f"{len(seconds)} answers: p99 {p99:.2f} s, slowest {max(seconds):.2f} s; {(peak - initial) / MB:.0f} MB more")
    assert statuses == {200}
    assert max(seconds) < MAX_SECONDS
    assert peak - initial < MAX_MEMORY


def connected(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(length: int) -> bytes:
    headers = f"Authorization: Bearer {KEY}\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n"
    return f"POST /v1/predict HTTP/1.1\r\nHost: here\r\n{headers}\r\n".encode()


def hold_connections(
    server: Server, count: int, first_bytes: Callable[[int], bytes], trickle: bytes, answers: list[float]
) -> None:
    """Hold ``count`` connections open, which send ``first_bytes`` and then ``trickle`` repeatedly.

    Args:
        answers: the durations of a healthy client's requests: the connections are held for four seconds, and until it
            has six more answers.
    """
    connections = [connected(server) for _ in range(count)]
    for index, connection in enumerate(connections):
        with suppress(OSError):
            connection.sendall(first_bytes(index))
    enough, begin = len(answers) + 6, time.monotonic()
    while (seconds := time.monotonic() - begin) < 4 or (len(answers) < enough and seconds < 60):
        for connection in connections:
            with suppress(OSError):
                connection.sendall(trickle)
        time.sleep(0.2)
    for connection in connections:
        connection.close()


def test_hostile_bodies_are_rejected_while_other_clients_are_answered(server: Server) -> None:
    bodies = [*[(content_type, body) for content_type, body, *_ in BODIES.values()], *PICTURES.values()]
    expected = [*[status for *_, status, _ in BODIES.values()], *[200] * len(PICTURES)]
    with healthy_client(server), ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda sent: server.post("/v1/predict", sent[1], sent[0]).status_code, bodies))
        compressed = server.post("/v1/predict", GZIP_BOMB, "text/csv", **{"Content-Encoding": "gzip"})
    assert statuses == expected
    assert compressed.status_code == 413


def test_the_costliest_allowed_pictures_delay_only_each_other(server: Server) -> None:
    with healthy_client(server), ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: server.post("/v1/predict", LARGE, "image/png").status_code, range(8)))
    assert set(statuses) <= {200, 504}


def test_slow_heads_and_slow_bodies_block_no_other_client(server: Server) -> None:
    with healthy_client(server) as seconds, ThreadPoolExecutor(2) as pool:
        heads = pool.submit(hold_connections, server, 300, lambda _: b"GET /ping HTTP/1.1\r\nX: ", b"a", seconds)
        bodies = pool.submit(hold_connections, server, 100, lambda _: head(1000), b"a", seconds)
        heads.result()
        bodies.result()
    assert len(seconds) > 5


def test_too_many_connections_block_no_other_client(server: Server) -> None:
    with healthy_client(server) as seconds:
        hold_connections(server, 700, lambda index: (b"", b"GET / HT", head(10))[index % 3], b"", seconds)
    assert len(seconds) > 5


def test_large_bodies_that_never_end_are_bounded_in_total(server: Server) -> None:
    with healthy_client(server) as seconds:
        hold_connections(server, 60, lambda _: head(8 * MB) + bytes(8 * MB - 1000), b"a", seconds)
    assert len(seconds) > 5


@pytest.mark.parametrize("path", ["/v1/model/", "/ping/", "/docs/", "//elsewhere.example/v1/model"])
def test_no_request_is_redirected_to_another_host(server: Server, path: str) -> None:
    headers = AUTHORIZED | {"Host": "elsewhere.example"}
    for method in ("GET", "POST", "HEAD"):
        response = requests.request(method, server.url + path, headers=headers, allow_redirects=False, timeout=60)
        assert response.status_code in (404, 405)
        assert "location" not in response.headers


@pytest.mark.parametrize("path", ["/ping", "/metrics", "/v1/model", "/v1/pictures/A", "/", "/page.js", "/openapi.json"])
def test_head_is_answered_like_get_without_a_body(server: Server, path: str) -> None:
    get, head_only = (
        requests.request(method, server.url + path, headers=AUTHORIZED, timeout=60) for method in ("GET", "HEAD")
    )
    assert (get.status_code, head_only.status_code, head_only.content) == (200, 200, b"")
    assert head_only.headers["content-type"] == get.headers["content-type"] if "content-type" in get.headers else True
    if path != "/metrics":
        assert head_only.headers["content-length"] == get.headers["content-length"]
