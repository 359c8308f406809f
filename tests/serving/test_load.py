"""The server under load; a tenth of the requests are hostile."""

import io
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import requests
from PIL import Image

from serving.limits import Limits
from tests.servers import AUTHORIZED, KEY, served
from tests.serving.conftest import Pictures


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


HOSTILE = [
    ("image/png", png(np.zeros((6000, 6000), np.uint8)), 413),
    ("image/png", png(np.zeros((1, 1), np.uint8)), 422),
    ("image/jpeg", b"\xff\xd8" + bytes(2000), 422),
    ("application/json", b"[" * 50_000, 400),
    ("application/json", b'{"instances": [[NaN]]}', 422),
    ("application/x-npy", b"\x93NUMPY" + bytes(100), 400),
    ("text/csv", b"1," * 783, 422),
    ("image/png", bytes(Limits().body + 1), 413),
]


def test_memory_stays_flat_and_all_statuses_are_right_under_hostile_load(
    run: Path, tmp_path: Path, pictures: Pictures
) -> None:
    good = [("image/png", png(row.reshape(28, 28)), 200) for row in pictures.pixels[:100]]
    with served(run, tmp_path / "log", KEY) as server, ThreadPoolExecutor(8) as pool:

        def send(bodies: list[tuple[str, bytes, int]]) -> Counter[tuple[int, int]]:
            """Count the pairs of received and expected status."""
            statuses: Counter[tuple[int, int]] = Counter()
            with requests.Session() as session:
                for content_type, body, expected in bodies:
                    headers = {"Content-Type": content_type} | AUTHORIZED
                    try:
                        status = session.post(f"{server.url}/v1/predict", body, headers=headers, timeout=60).status_code
                    except requests.ConnectionError:  # the server closes the connection on bodies that are too large
                        status = 413
                    statuses[status, expected] += 1
            return statuses

        def load(count: int) -> Counter[tuple[int, int]]:
            hostile_cycle, good_cycle = itertools.cycle(HOSTILE), itertools.cycle(good)
            mixed = [next(good_cycle if index % 10 else hostile_cycle) for index in range(count)]
            return sum(pool.map(send, [mixed[start::8] for start in range(8)]), Counter())

        memory = psutil.Process(server.process.pid).memory_info
        load(800)
        warm_memory = memory().rss
        statuses = load(2400)
        assert all(status == expected for status, expected in statuses), statuses
        assert memory().rss < 1.1 * warm_memory
