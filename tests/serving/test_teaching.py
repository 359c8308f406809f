"""The pictures that the page's mode Teach records: kept with consent only, listed, deleted, and known at once."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from serving.__main__ import read_all_examples
from serving.app import Service, create_app
from serving.errors import BodyError
from serving.limits import Limits
from serving.recognizer import Recognizer
from serving.taught_pictures import TaughtPictures
from tests.pictures import photograph
from tests.servers import running_server

ADD = "/v1/taught/W/first?consent=true"


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


HAND = jpeg(photograph(("W", 260, (20, 40))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my_hand"


@dataclass(frozen=True)
class Client:
    """A client of a server, by its address."""

    url: str

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=30)

    def delete(self, path: str) -> requests.Response:
        return requests.delete(self.url + path, timeout=30)

    def post(self, path: str = ADD, content: bytes = HAND, content_type: str = "image/jpeg") -> tuple[int, dict]:
        answer = requests.post(self.url + path, content, headers={"Content-Type": content_type}, timeout=30)
        return answer.status_code, answer.json()


@contextmanager
def start(run: Path, folder: Path | None) -> Iterator[Client]:
    recognizer = Recognizer.of_run(run)
    teaching = read_all_examples(recognizer, None, folder)
    with running_server(create_app(Service(recognizer, Limits(), teaching=teaching))) as url:
        yield Client(url)


@pytest.fixture
def client(run: Path, folder: Path) -> Iterator[Client]:
    with start(run, folder) as client:
        yield client


def test_a_picture_is_kept_listed_and_deleted(client: Client, folder: Path) -> None:
    assert client.get("/v1/model").json()["teaches"]
    assert client.post() == (200, {"letter": "W", "name": "first_01.jpg"})
    assert client.post()[1]["name"] == "first_02.jpg"
    assert (folder / "W/first_01.jpg").read_bytes() == HAND
    listed = client.get("/v1/taught").json()["pictures"]
    assert listed == [{"letter": "W", "name": "first_01.jpg"}, {"letter": "W", "name": "first_02.jpg"}]
    picture = client.get("/v1/taught/W/first_01.jpg")
    assert (picture.content, picture.headers["Content-Type"]) == (HAND, "image/jpeg")
    with zipfile.ZipFile(io.BytesIO(client.get("/v1/taught.zip").content)) as archive:
        assert archive.namelist() == ["W/first_01.jpg", "W/first_02.jpg"]
    assert client.delete("/v1/taught/W/first_01.jpg").status_code == 204
    assert [path.name for path in (folder / "W").iterdir()] == ["first_02.jpg"]
    assert client.delete("/v1/taught").status_code == 204
    assert client.get("/v1/taught").json() == {"pictures": []}
    assert list((folder / "W").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "content", "content_type", "status", "message"),
    [
        (ADD.removesuffix("?consent=true"), HAND, "image/jpeg", 403, "has to agree"),
        (ADD, jpeg(photograph()), "image/jpeg", 422, "no hand is in the picture"),
        (ADD, b"text", "image/jpeg", 422, "not a picture"),
        (ADD, b"1,2", "text/csv", 422, "line 1"),
        (ADD.replace("/W/", "/J/"), HAND, "image/jpeg", 404, "no such letter; it has A, B"),
        (ADD.replace("first", "..%2Fx"), HAND, "image/jpeg", 404, "Not Found"),
        (ADD.replace("first", "a.b"), HAND, "image/jpeg", 422, "1 to 40 letters, digits and hyphens"),
    ],
    ids=["consent", "hand", "picture", "type", "letter", "path", "burst"],
)
def test_a_picture_that_must_not_be_kept_is_refused_with_the_reason(
    path: str, content: bytes, content_type: str, status: int, message: str, client: Client, folder: Path
) -> None:
    answer = client.post(path, content, content_type)
    assert answer[0] == status
    assert message in answer[1]["error"]
    assert not folder.exists()


def test_only_pictures_that_were_recorded_can_be_read_and_deleted(client: Client, folder: Path) -> None:
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    client.post()
    for name in ("..%2F..%2Fsecret.jpg", "%2e%2e", "other.jpg"):
        assert client.get(f"/v1/taught/W/{name}").status_code == 404
        assert client.delete(f"/v1/taught/W/{name}").status_code == 404
    assert (folder.parent / "secret.jpg").exists()


def test_a_folder_that_cannot_be_written_is_reported_and_nothing_is_kept(client: Client, folder: Path) -> None:
    folder.write_text("a file")
    status, answer = client.post()
    assert status == 507
    assert "the picture cannot be kept: " in answer["error"]
    assert client.get("/v1/taught").json() == {"pictures": []}


def test_the_next_prediction_knows_the_pictures_and_forgets_deleted_ones(client: Client) -> None:
    def probability(letter: str) -> float:
        answer = client.post("/v1/predict")[1]
        [prediction] = answer["predictions"]
        likely = [prediction, *prediction["next"]]
        return next((one["probability"] for one in likely if one["letter"] == letter), 0.0)

    # a letter that is likely, but not the likeliest, to see that it is what was taught
    answer = client.post("/v1/predict")[1]
    taught = answer["predictions"][0]["next"][0]["letter"]
    before = probability(taught)
    assert client.post(ADD.replace("/W/", f"/{taught}/"))[0] == 200
    assert probability(taught) > min(2 * before, 0.9)
    client.delete("/v1/taught")
    assert probability(taught) == pytest.approx(before)


def test_a_server_that_starts_again_knows_the_pictures_and_goes_on_numbering(run: Path, folder: Path) -> None:
    with start(run, folder) as client:
        client.post()
    with start(run, folder) as client:
        assert client.get("/v1/taught").json() == {"pictures": [{"letter": "W", "name": "first_01.jpg"}]}
        assert client.post()[1]["name"] == "first_02.jpg"


def test_a_server_without_a_folder_keeps_nothing(run: Path) -> None:
    with start(run, None) as client:
        assert not client.get("/v1/model").json()["teaches"]
        assert client.post()[0] == 404
        assert client.get("/v1/taught").status_code == 404


def test_a_file_that_is_too_large_is_not_kept(folder: Path) -> None:
    taught = TaughtPictures(folder, ["A"], [])
    with pytest.raises(BodyError, match="600,000 bytes; 500,000 are the most"):
        taught.add("A", "first", bytes(600_000), "image/jpeg", np.zeros(4, dtype=np.float32))
    assert not folder.exists()
