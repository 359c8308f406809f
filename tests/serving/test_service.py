"""The service as a client sees it: a real server, a real network."""

import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import requests
from PIL import Image

from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, write_json
from serving.settings import Limits
from tests.conftest import ROOT
from tests.servers import AUTHORISED, KEY, Server, served
from tests.serving.conftest import CLASSES


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(run, tmp_path_factory.mktemp("server") / "log", KEY) as server:
        yield server


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 784), dtype=np.uint8)


@pytest.mark.parametrize("path", ["/invocations", "/v1/predict"])
def test_the_answers_are_the_networks_own(server: Server, network: keras.Model, path: str) -> None:
    answered = server.post(path, npy(PIXELS), "application/x-npy")
    assert answered.status_code == 200
    found = answered.json()
    expected = network(PIXELS).numpy()
    assert found["model"] == "cnn"
    assert [answer["letter"] for answer in found["predictions"]] == [CLASSES[i] for i in expected.argmax(axis=1)]
    for answer, row in zip(found["predictions"], np.sort(expected, axis=1)[:, ::-1], strict=True):
        probabilities = [answer["probability"], *(following["probability"] for following in answer["next"])]
        np.testing.assert_allclose(probabilities, row[:5], rtol=1e-4, atol=1e-6)


def test_many_at_once_get_their_own_answers(server: Server, network: keras.Model) -> None:
    expected = [CLASSES[i] for i in network(PIXELS).numpy().argmax(axis=1)]

    def ask(place: int) -> str:
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[place].reshape(28, 28)).save(buffer, "PNG")
        return server.post("/v1/predict", buffer.getvalue(), "image/png").json()["predictions"][0]["letter"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, list(range(40)) * 5)) == expected * 5


@pytest.mark.parametrize(
    ("kind", "body", "headers", "status", "said"),
    [
        ("image/png", b"no picture", {}, 422, "not a picture"),
        ("text/plain", b"A", {}, 415, "Content-Type text/plain"),
        ("application/json", b"{", {}, 400, "no JSON"),
        ("image/png", b"", {}, 400, "the body is empty"),
        ("image/png", bytes(Limits().body + 1), {}, 413, "8,388,608 bytes"),
        ("image/png", b"x", {"Authorization": "Bearer another"}, 401, "no API key"),
    ],
)
def test_what_is_wrong_is_answered_in_json(
    server: Server, kind: str, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answered = server.post("/v1/predict", body, kind, **headers)
    assert answered.status_code == status
    assert said in answered.json()["error"]


@pytest.mark.parametrize(("path", "kind"), [("/v1/predict", "image/png"), ("/v1/words", "application/json")])
def test_a_body_without_end_is_cut_off(server: Server, path: str, kind: str) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(1024 * 1024)

    try:
        answered = requests.post(server.url + path, parts(), headers={"Content-Type": kind} | AUTHORISED, timeout=60)
        assert answered.status_code == 413
    except requests.ConnectionError:  # the server has hung up while we were still sending
        pass
    assert requests.get(f"{server.url}/ping", timeout=60).ok


def test_a_body_that_does_not_come_is_given_up(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: image/png\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
        answered = connection.recv(4096).decode()
    assert answered.startswith("HTTP/1.1 408 ")


def test_words_and_pictures_for_the_page(server: Server) -> None:
    words = server.post("/v1/words", b'{"letters": "HELO"}', "application/json")
    assert "HELLO" in words.json()["words"]
    wrong = server.post("/v1/words", b'{"letters": "../etc"}', "application/json")
    assert (wrong.status_code, "letters" in wrong.json()["error"]) == (422, True)
    assert requests.get(f"{server.url}/v1/model", headers=AUTHORISED, timeout=60).json()["pictures"] == CLASSES
    picture = requests.get(f"{server.url}/v1/pictures/A", headers=AUTHORISED, timeout=60)
    assert Image.open(io.BytesIO(picture.content)).size == (28, 28)
    for name in ("J", "..%2F..%2Fmodel.keras"):
        assert requests.get(f"{server.url}/v1/pictures/{name}", headers=AUTHORISED, timeout=60).status_code == 404


def test_the_page_may_ask_this_server_alone(server: Server) -> None:
    page = requests.get(server.url, timeout=60)
    assert "<h1>Handshape</h1>" in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    asked = requests.get(f"{server.url}/ping", headers={"Origin": "https://elsewhere.example"}, timeout=60)
    assert "Access-Control-Allow-Origin" not in asked.headers


def test_metrics_count_what_was_asked(server: Server) -> None:
    server.post("/v1/predict", npy(PIXELS[0]), "application/x-npy")
    text = requests.get(f"{server.url}/metrics", timeout=60).text
    assert 'handshape_request_seconds_count{path="/v1/predict",status="200"}' in text
    assert "handshape_pictures_total" in text


@pytest.mark.parametrize(
    ("job", "said"), [("forest", "a run of forest; one of cnn is needed"), (None, "no such run directory")]
)
def test_what_cannot_be_served_is_said(run: Path, tmp_path: Path, job: str | None, said: str) -> None:
    folder = tmp_path / "other"
    if job:
        folder.mkdir()
        write_json(folder / RUN_FILE, {"version": VERSION, "job": job})
        write_json(folder / METRICS_FILE, {})
    done = subprocess.run(
        [sys.executable, "-m", "serving", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"error: {folder}: {said}\n"


def test_a_stopped_server_has_logged_what_was_asked_and_not_what_was_in_it(server: Server) -> None:
    server.post("/v1/predict", npy(PIXELS[:3]), "application/x-npy")
    server.post("/v1/predict", b"a secret picture", "image/png")
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(timeout=30)
    logged = server.log.read_text().splitlines()
    lines = [json.loads(line) for line in logged if line.startswith("{")]
    answered, last = lines[-2:]
    assert (answered["path"], answered["status"], answered["pictures"]) == ("/v1/predict", 200, 3)
    assert (last["method"], last["path"], last["status"], last["pictures"]) == ("POST", "/v1/predict", 422, 0)
    assert not any("secret" in line or KEY in line for line in logged)
    assert server.process.returncode == -signal.SIGTERM  # in order: Uvicorn hands the signal on in the end
