"""Benchmarks of the server on one core: throughput and latency compared to plain calls of the network, and memory over
an hour's worth of requests.

The client is hey, which runs on another core: ``apt-get install hey``.
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

from benchmarks.measuring import PEERS, ROOT, Bench, Measurement, run_job
from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, write_json
from preprocessing.data_settings import Preprocessing
from preprocessing.labels import STILL_LETTERS
from serving.limits import Limits

SERVER_CORE, CLIENT_CORE = "0", "1"
# About twice the number of requests of a user who spells to a camera for an hour at 30 pictures a second.
REQUESTS = 200_000
HOSTILE_FRACTION = 0.1


@dataclass(frozen=True)
class LoadResult:
    """Results of hey: requests a second, percentiles of the latency in milliseconds, and responses by status."""

    speed: float
    p50: float
    p99: float
    statuses: dict[int, int]


def serving(bench: Bench) -> list[Measurement]:
    """Throughput with one picture per request from 1 and 16 clients, compared to ``model(x)`` in a separate process."""
    measurements = []
    networks = {"handshape": Preprocessing(), "dexnet_v1": Preprocessing(size=200, resize=224, color="rgb")}
    for name, preprocessing in networks.items():
        results: dict[int, list[LoadResult]] = {1: [], 16: []}
        plain_speeds = []
        with bench.folder() as folder:
            run, picture = _write_run(folder / name, name, preprocessing), folder / "hand.png"
            picture.write_bytes(_hand(preprocessing.size))
            with _running_server(run) as (_, url):
                for turn in range(5):
                    peer = run_job("taskset", "-c", SERVER_CORE, sys.executable, PEERS / "plain_calls.py", run)
                    plain_speeds.append(peer.last_json["calls_per_second"])
                    for clients, client_results in results.items():
                        client_results.append(_hey(url, picture, clients, seconds=10))
                    print(f"  turn {turn + 1} of 5", file=sys.stderr, flush=True)
        for clients, client_results in results.items():
            goal = "≥ 30/s" if name == "dexnet_v1" else "≥ 200/s, p99 of one client ≤ 10 ms"
            about = {
                "p50": [f"{result.p50:.1f} ms" for result in client_results],
                "p99": [f"{result.p99:.1f} ms" for result in client_results],
                "statuses": [result.statuses for result in client_results],
            }
            speeds = [result.speed for result in client_results]
            title = f"{name} over HTTP, {clients} {'client' if clients == 1 else 'clients'}"
            measurements.append(
                Measurement("serving", title, "1/s", speeds, goal, "model(x)", plain_speeds, about=about)
            )
    return measurements


def endurance(bench: Bench) -> list[Measurement]:
    """The server's memory over 200,000 requests, of which a tenth are hostile, and the statuses of its responses."""
    memory: list[float] = []
    with bench.folder() as folder, ThreadPoolExecutor(2) as pool:
        run, picture = _write_run(folder / "handshape", "handshape", Preprocessing()), folder / "hand.png"
        picture.write_bytes(_hand(28))
        with _running_server(run) as (process, url):
            num_friendly = int(REQUESTS * (1 - HOSTILE_FRACTION))
            friendly = pool.submit(_hey, url, picture, 8, num_requests=num_friendly)
            hostile = pool.submit(_attack, url, REQUESTS - num_friendly)
            while not (friendly.done() and hostile.done()):
                memory.append(process.memory_info().rss / 1e6)
                time.sleep(2)
            server_metrics = requests.get(f"{url}/metrics", timeout=60).text
    warm_memory = memory[len(memory) // 10]
    about = {
        "memory by tenths": [round(memory[tenth * (len(memory) - 1) // 10]) for tenth in range(11)],
        "good ones": friendly.result().statuses,
        "hostile ones": dict(hostile.result()),
        "answered by the server with 5xx": len(re.findall(r'_count\{[^}]*status="5', server_metrics)),
    }
    measurement = Measurement(
        "endurance", f"memory after {REQUESTS:,} requests", "MB", [memory[-1]], "flat", "after a tenth of them",
        [warm_memory], more_is_better=False, about=about,
    )  # fmt: skip
    return [measurement]


def _write_run(folder: Path, name: str, preprocessing: Preprocessing) -> Path:
    """Write the files of a run directory that the server reads. The network is untrained: its speed is the same."""
    import keras

    from models.export import metadata_of, to_onnx
    from models.model_settings import Network
    from models.networks import build_network
    from models.saved_network import save_network
    from preprocessing.normalization import by_range

    folder.mkdir()
    shape, class_names = preprocessing.shape, list(STILL_LETTERS)
    keras.utils.set_random_seed(0)
    network = build_network(Network(name=name), shape, len(class_names), by_range(shape[2]))  # type: ignore[arg-type]
    save_network(network, folder / "model.keras")
    (folder / "model.onnx").write_bytes(to_onnx(network, metadata_of(class_names, preprocessing)))
    (folder / "class_names.json").write_text(json.dumps(class_names))
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"preprocessing": asdict(preprocessing)}))
    write_json(folder / RUN_FILE, {"version": VERSION, "job": "cnn"})
    write_json(folder / METRICS_FILE, {"test": {"confusion": np.eye(len(class_names), dtype=int).tolist()}})
    return folder


def _hand(side: int) -> bytes:
    """A square picture of a hand as PNG; ``side`` is its size in pixels."""
    from preprocessing.synthetic import draw_hands

    [hand] = draw_hands(np.array([2]), np.random.default_rng(0))
    return _png(np.asarray(Image.fromarray(hand).resize((side, side))))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _running_server(run: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Start a server on its own core and wait until it is ready."""
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


def _hey(url: str, picture: Path, clients: int, seconds: int = 0, num_requests: int = 0) -> LoadResult:
    if shutil.which("hey") is None:
        raise RuntimeError("hey is missing: apt-get install hey")
    length = ["-z", f"{seconds}s"] if seconds else ["-n", str(num_requests)]
    command = ["taskset", "-c", CLIENT_CORE, "hey", *length, "-c", str(clients), "-m", "POST", "-T", "image/png"]
    output = subprocess.run(
        [*command, "-D", str(picture), f"{url}/v1/predict"], capture_output=True, text=True, check=True
    ).stdout
    speed = re.search(r"Requests/sec:\s+([\d.]+)", output)
    percentiles = {fraction: 1000 * float(value) for fraction, value in re.findall(r"(\d+)% in ([\d.]+) secs", output)}
    statuses = {int(status): int(count) for status, count in re.findall(r"\[(\d+)\]\s+(\d+) responses", output)}
    if speed is None:
        raise RuntimeError(f"hey printed no requests per second:\n{output}")
    return LoadResult(float(speed[1]), percentiles["50"], percentiles["99"], statuses)


def _attack(url: str, count: int) -> Counter[str]:
    """Send invalid, oversized and malicious bodies, and count the responses by status."""
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
        for index in range(count):
            content_type, body = bodies[index % len(bodies)]
            try:
                response = session.post(f"{url}/v1/predict", body, headers={"Content-Type": content_type}, timeout=60)
                statuses[str(response.status_code)] += 1
            except requests.ConnectionError:  # the server closes the connection if a body is too large
                statuses["hung up"] += 1
    return statuses
