"""The server on one core: requests a second and their latency beside plain calls of the network, and its memory over an
hour's worth of requests.

The client is hey, on another core: ``apt-get install hey``.
"""

import io
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import requests
import yaml
from PIL import Image

from benchmarks.measuring import PEERS, ROOT, Bench, Figure, run_job
from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, write_json
from preprocessing.labels import STILL_LETTERS
from preprocessing.settings import Preprocessing
from serving.settings import Limits

SERVER_CORE, CLIENT_CORE = "0", "1"
# An hour of somebody who spells before a camera at 30 pictures a second is half of it; a tenth is hostile.
REQUESTS = 200_000
HOSTILE_SHARE = 0.1


@dataclass(frozen=True)
class Answered:
    """What hey says: requests a second, percentiles in milliseconds, and how many had which status."""

    speed: float
    p50: float
    p99: float
    statuses: dict[int, int]


def serving(bench: Bench) -> list[Figure]:
    """A picture a request, from one client and from 16, beside ``model(x)`` in a process of its own."""
    figures = []
    networks = {"handshape": Preprocessing(), "dexnet_v1": Preprocessing(size=200, resize=224, color="rgb")}
    for name, preprocessing in networks.items():
        found: dict[int, list[Answered]] = {1: [], 16: []}
        plain = []
        with bench.folder() as folder:
            run, picture = _write_run(folder / name, name, preprocessing), folder / "hand.png"
            picture.write_bytes(_hand(preprocessing.size))
            with _served(run) as (_, url):
                for turn in range(5):
                    peer = run_job("taskset", "-c", SERVER_CORE, sys.executable, PEERS / "plain_calls.py", run)
                    plain.append(peer.last["calls_per_second"])
                    for clients, answered in found.items():
                        answered.append(_hey(url, picture, clients, seconds=10))
                    print(f"  turn {turn + 1} of 5", file=sys.stderr, flush=True)
        for clients, answered in found.items():
            goal = "≥ 30/s" if name == "dexnet_v1" else "≥ 200/s, p99 of one client ≤ 10 ms"
            about = {
                "p50": [f"{each.p50:.1f} ms" for each in answered],
                "p99": [f"{each.p99:.1f} ms" for each in answered],
                "statuses": [each.statuses for each in answered],
            }
            speeds = [each.speed for each in answered]
            ways = f"{name} over HTTP, {clients} {'client' if clients == 1 else 'clients'}"
            figures.append(Figure("serving", ways, "1/s", speeds, goal, "model(x)", plain, about=about))
    return figures


def endurance(bench: Bench) -> list[Figure]:
    """The server's memory over 200,000 requests, of which a tenth are hostile, and what was answered."""
    memory: list[float] = []
    with bench.folder() as folder, ThreadPoolExecutor(2) as pool:
        run, picture = _write_run(folder / "handshape", "handshape", Preprocessing()), folder / "hand.png"
        picture.write_bytes(_hand(28))
        with _served(run) as (process, url):
            good = int(REQUESTS * (1 - HOSTILE_SHARE))
            friendly = pool.submit(_hey, url, picture, 8, requests_=good)
            hostile = pool.submit(_attack, url, REQUESTS - good)
            while not (friendly.done() and hostile.done()):
                memory.append(process.memory_info().rss / 1e6)
                time.sleep(2)
            total = requests.get(f"{url}/metrics", timeout=60).text
    warm = memory[len(memory) // 10]
    about = {
        "memory by tenths": [round(memory[place * (len(memory) - 1) // 10]) for place in range(11)],
        "good ones": friendly.result().statuses,
        "hostile ones": dict(hostile.result()),
        "answered by the server with 5xx": len(re.findall(r'_count\{[^}]*status="5', total)),
    }
    figure = Figure(
        "endurance", f"memory after {REQUESTS:,} requests", "MB", [memory[-1]], "flat", "after a tenth of them",
        [warm], more_is_better=False, about=about,
    )  # fmt: skip
    return [figure]


def _write_run(folder: Path, name: str, preprocessing: Preprocessing) -> Path:
    """A run directory, as far as a server reads it, of a network that has learned nothing: that takes no other time."""
    import keras

    from models.networks import build_network
    from models.saved_network import save_network
    from models.settings import Network
    from preprocessing.normalisation import by_range

    folder.mkdir()
    shape, classes = preprocessing.shape, list(STILL_LETTERS)
    keras.utils.set_random_seed(0)
    network = build_network(Network(name=name), shape, len(classes), by_range(shape[2]))  # type: ignore[arg-type]
    save_network(network, folder / "model.keras")
    (folder / "classes.json").write_text(json.dumps(classes))
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"preprocessing": asdict(preprocessing)}))
    write_json(folder / RUN_FILE, {"version": VERSION, "job": "cnn"})
    write_json(folder / METRICS_FILE, {"test": {"confusion": np.eye(len(classes), dtype=int).tolist()}})
    return folder


def _hand(side: int) -> bytes:
    """A picture as large as the network's, as PNG."""
    from preprocessing.synthetic import draw_hands

    [hand] = draw_hands(np.array([2]), np.random.default_rng(0))
    return _png(np.asarray(Image.fromarray(hand).resize((side, side))))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _served(run: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A server on a core of its own, when it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "serving", str(run), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                try:
                    requests.get(f"{url}/ping", timeout=1).raise_for_status()
                    break
                except requests.RequestException as error:
                    if process.poll() is not None:
                        raise RuntimeError(f"the server ended with {process.returncode}") from error
                    time.sleep(0.2)
            yield psutil.Process(process.pid), url
        finally:
            process.terminate()


def _hey(url: str, picture: Path, clients: int, seconds: int = 0, requests_: int = 0) -> Answered:
    if shutil.which("hey") is None:
        raise RuntimeError("hey is missing: apt-get install hey")
    length = ["-z", f"{seconds}s"] if seconds else ["-n", str(requests_)]
    command = ["taskset", "-c", CLIENT_CORE, "hey", *length, "-c", str(clients), "-m", "POST", "-T", "image/png"]
    said = subprocess.run(
        [*command, "-D", str(picture), f"{url}/v1/predict"], capture_output=True, text=True, check=True
    ).stdout
    speed = re.search(r"Requests/sec:\s+([\d.]+)", said)
    percentiles = {share: 1000 * float(value) for share, value in re.findall(r"(\d+)% in ([\d.]+) secs", said)}
    statuses = {int(status): int(count) for status, count in re.findall(r"\[(\d+)\]\s+(\d+) responses", said)}
    if speed is None:
        raise RuntimeError(f"hey said:\n{said}")
    return Answered(float(speed[1]), percentiles["50"], percentiles["99"], statuses)


def _attack(url: str, count: int) -> Counter[str]:
    """What is no picture, too much, or made to hurt: how many had which status."""
    bodies = [
        ("image/png", _png(np.zeros((20_000, 20_000), np.uint8))),
        ("image/png", _png(np.zeros((1, 1), np.uint8))),
        ("image/png", _hand(200)[:-100]),
        ("image/jpeg", b"\xff\xd8" + bytes(2000)),
        ("image/jpeg", b""),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"instances": [[NaN, 1e999, -1]]}'),
        ("application/json", json.dumps({"instances": [[0] * 784] * 600}).encode()),
        ("application/x-npy", b"\x93NUMPY" + bytes(100)),
        ("text/csv", b"1," * 783),
        ("text/plain", b"A"),
        ("image/png", bytes(Limits().body + 1)),
    ]
    statuses: Counter[str] = Counter()
    with requests.Session() as session:
        for place in range(count):
            kind, body = bodies[place % len(bodies)]
            try:
                answered = session.post(f"{url}/v1/predict", body, headers={"Content-Type": kind}, timeout=60)
                statuses[str(answered.status_code)] += 1
            except requests.ConnectionError:  # it hangs up on whoever sends too much
                statuses["hung up"] += 1
    return statuses
