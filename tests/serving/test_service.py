"""The service as a client sees it, with a real server and a real network."""

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import requests
from PIL import Image

from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, write_json
from models.errors import TrainingError
from serving.limits import Limits
from serving.recognizer import Recognizer
from tests.conftest import ROOT
from tests.servers import AUTHORIZED, KEY, Server, served
from tests.serving.conftest import CLASS_NAMES


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
def test_answers_equal_the_predictions_of_the_network(server: Server, network: keras.Model, path: str) -> None:
    response = server.post(path, npy(PIXELS), "application/x-npy")
    assert response.status_code == 200
    answer = response.json()
    expected = network(PIXELS).numpy()
    assert answer["model"] == "cnn"
    predictions = answer["predictions"]
    assert [prediction["letter"] for prediction in predictions] == [CLASS_NAMES[i] for i in expected.argmax(axis=1)]
    for prediction, row in zip(predictions, np.sort(expected, axis=1)[:, ::-1], strict=True):
        probabilities = [prediction["probability"], *(following["probability"] for following in prediction["next"])]
        np.testing.assert_allclose(probabilities, row[:5], rtol=1e-4, atol=1e-6)


def test_concurrent_requests_get_their_own_answers(server: Server, network: keras.Model) -> None:
    expected = [CLASS_NAMES[i] for i in network(PIXELS).numpy().argmax(axis=1)]

    def predicted_letter(index: int) -> str:
        buffer = io.BytesIO()
        Image.fromarray(PIXELS[index].reshape(28, 28)).save(buffer, "PNG")
        return server.post("/v1/predict", buffer.getvalue(), "image/png").json()["predictions"][0]["letter"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(predicted_letter, list(range(40)) * 5)) == expected * 5


@pytest.mark.parametrize(
    ("content_type", "body", "headers", "status", "message"),
    [
        ("image/png", b"no picture", {}, 422, "not a picture"),
        ("text/plain", b"A", {}, 415, "Content-Type text/plain"),
        ("application/json", b"{", {}, 400, "no JSON"),
        ("image/png", b"", {}, 400, "the body is empty"),
        ("image/png", bytes(Limits().body + 1), {}, 413, "8,388,608 bytes"),
        ("image/png", b"x", {"Authorization": "Bearer another"}, 401, "no API key"),
    ],
)
def test_errors_are_answered_in_json(
    server: Server, content_type: str, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    response = server.post("/v1/predict", body, content_type, **headers)
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.mark.parametrize(("path", "content_type"), [("/v1/predict", "image/png"), ("/v1/words", "application/json")])
def test_an_endless_body_is_rejected(server: Server, path: str, content_type: str) -> None:
    def body_parts() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(1024 * 1024)

    try:
        headers = {"Content-Type": content_type} | AUTHORIZED
        response = requests.post(server.url + path, body_parts(), headers=headers, timeout=60)
        assert response.status_code == 413
    except requests.ConnectionError:  # the server closed the connection while the body was being sent
        pass
    assert requests.get(f"{server.url}/ping", timeout=60).ok


def test_an_incomplete_body_times_out(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: image/png\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
        response = connection.recv(4096).decode()
    assert response.startswith("HTTP/1.1 408 ")


def test_words_and_example_pictures_are_answered(server: Server) -> None:
    words = server.post("/v1/words", b'{"letters": "HELO"}', "application/json")
    assert "HELLO" in words.json()["words"]
    invalid = server.post("/v1/words", b'{"letters": "../etc"}', "application/json")
    assert (invalid.status_code, "letters" in invalid.json()["error"]) == (422, True)
    model = requests.get(f"{server.url}/v1/model", headers=AUTHORIZED, timeout=60).json()
    assert (model["class_names"], model["pictures"]) == (CLASS_NAMES, CLASS_NAMES)
    picture = requests.get(f"{server.url}/v1/pictures/A", headers=AUTHORIZED, timeout=60)
    assert Image.open(io.BytesIO(picture.content)).size == (28, 28)
    for name in ("J", "..%2F..%2Fmodel.keras"):
        assert requests.get(f"{server.url}/v1/pictures/{name}", headers=AUTHORIZED, timeout=60).status_code == 404


def test_only_the_servers_own_page_may_send_requests(server: Server) -> None:
    page = requests.get(server.url, timeout=60)
    assert "<h1>Handshape</h1>" in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    response = requests.get(f"{server.url}/ping", headers={"Origin": "https://elsewhere.example"}, timeout=60)
    assert "Access-Control-Allow-Origin" not in response.headers


def test_metrics_count_requests_and_pictures(server: Server) -> None:
    server.post("/v1/predict", npy(PIXELS[0]), "application/x-npy")
    metrics = requests.get(f"{server.url}/metrics", timeout=60).text
    assert 'handshape_request_seconds_count{path="/v1/predict",status="200"}' in metrics
    assert "handshape_pictures_total" in metrics


@pytest.mark.parametrize(
    ("job", "message"), [("forest", "a run of forest; one of cnn is needed"), (None, "no such run directory")]
)
def test_a_run_that_cannot_be_served_is_reported(tmp_path: Path, job: str | None, message: str) -> None:
    folder = tmp_path / "other"
    if job:
        folder.mkdir()
        write_json(folder / RUN_FILE, {"version": VERSION, "job": job})
        write_json(folder / METRICS_FILE, {})
    process = subprocess.run(
        [sys.executable, "-m", "serving", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert process.stderr == f"error: {folder}: {message}\n"


def truncate(network: onnx.ModelProto) -> bytes:
    content = network.SerializeToString()
    return content[: len(content) // 2]


def with_operator(network: onnx.ModelProto) -> bytes:
    network.graph.node[0].op_type = "Loop"
    return network.SerializeToString()


def with_reference(network: onnx.ModelProto) -> bytes:
    network.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    network.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    return network.SerializeToString()


def with_fewer_pixels(network: onnx.ModelProto) -> bytes:
    network.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 100
    return network.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, "not a network in the ONNX format"),
        (with_operator, "operator Loop is not one of this project's networks"),
        (with_reference, "it has functions, or weights in other files"),
        (with_fewer_pixels, "784 pixels as uint8 and 24 probabilities as float are expected"),
    ],
)
def test_a_damaged_or_foreign_network_is_reported(
    tmp_path: Path, run: Path, change: Callable[[onnx.ModelProto], bytes], message: str
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(run, folder)
    (folder / "model.onnx").write_bytes(change(onnx.load(run / "model.onnx")))
    with pytest.raises(TrainingError, match=f"damaged/model.onnx: {message}"):
        Recognizer.of_run(folder)


def test_a_run_of_an_earlier_version_has_no_onnx_file_and_is_served(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("model.onnx"))
    expected, found = (Recognizer.of_run(path).probabilities(PIXELS[:3]) for path in (run, folder))
    np.testing.assert_array_equal(expected, found)


def test_the_server_starts_without_tensorflow_and_spark() -> None:
    code = "import sys, serving.__main__; print({'tensorflow', 'keras', 'pyspark', 'pandas'} & {*sys.modules})"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"


def test_a_stopped_server_has_logged_requests_but_not_their_content(server: Server) -> None:
    server.post("/v1/predict", npy(PIXELS[:3]), "application/x-npy")
    server.post("/v1/predict", b"a secret picture", "image/png")
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(timeout=30)
    lines = server.log.read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    accepted, rejected = records[-2:]
    assert (accepted["path"], accepted["status"], accepted["pictures"]) == ("/v1/predict", 200, 3)
    assert (rejected["method"], rejected["path"]) == ("POST", "/v1/predict")
    assert (rejected["status"], rejected["pictures"]) == (422, 0)
    assert not any("secret" in line or KEY in line for line in lines)
    assert server.process.returncode == -signal.SIGTERM  # Uvicorn raises the signal again after a clean shutdown
