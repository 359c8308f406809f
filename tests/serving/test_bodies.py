"""Bodies of requests, good and hostile."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from preprocessing.decoding import decode
from preprocessing.settings import Preprocessing
from serving.bodies import BodyError, read_body
from serving.settings import Limits

GREY, COLOR = Preprocessing(), Preprocessing(size=64, color="rgb")
PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


PNG = file(Image.fromarray(PIXELS))
ROW = ",".join(str(value) for value in PIXELS.ravel())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image/png", PNG),
        ("text/csv; charset=utf-8", ROW.encode()),
        ("text/csv", ",".join(f"pixel{i}" for i in range(1, 785)).encode() + b"\n" + ROW.encode()),
        ("text/csv", ("label," + ",".join(f"pixel{i}" for i in range(1, 785)) + "\n3," + ROW).encode()),
        ("application/json", json.dumps({"instances": [PIXELS.ravel().tolist()]}).encode()),
        ("application/json", json.dumps({"instances": [PIXELS.tolist()]}).encode()),
        ("application/json", json.dumps({"instances": [{"b64": base64.b64encode(PNG).decode()}]}).encode()),
        ("application/x-npy", npy(PIXELS)),
        ("application/x-npy", npy(PIXELS.reshape(1, 784))),
        ("application/x-npy", npy(PIXELS.ravel().astype(float))),
    ],
)
def test_the_same_picture_comes_in_every_form(kind: str, body: bytes) -> None:
    assert np.array_equal(read_body(body, kind, GREY, Limits()), PIXELS.reshape(1, 784))


def test_a_photograph_is_prepared_as_in_training() -> None:
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 90, 3), dtype=np.uint8))
    body = file(photo, "JPEG")
    assert read_body(body, "image/jpeg", COLOR, Limits()).tobytes() == decode(body, COLOR).pixels


def test_many_pictures_keep_their_order() -> None:
    many = np.stack([PIXELS, 255 - PIXELS, PIXELS // 2]).reshape(3, 784)
    assert np.array_equal(read_body(npy(many), "application/x-npy", GREY, Limits()), many)
    lines = "\n".join(",".join(str(value) for value in row) for row in many)
    assert np.array_equal(read_body(lines.encode(), "text/csv", GREY, Limits()), many)


@pytest.mark.parametrize(
    ("kind", "body", "status", "said"),
    [
        ("", PNG, 415, "Content-Type is missing"),
        ("image/gif", b"GIF89a", 415, "image/jpeg, image/png"),
        ("image/png", b"", 400, "the body is empty"),
        ("image/png", b"no picture", 422, "not a picture"),
        ("image/png", PNG[: len(PNG) // 2], 422, "truncated picture"),
        ("image/png", file(Image.new("L", (1, 1))), 422, "too small a picture: 1 x 1"),
        ("image/png", file(Image.new("1", (20_000, 20_000))), 413, "too large a picture"),
        ("image/png", file(Image.new("1", (6_000, 5_000))), 413, "25,000,000 a request are the most"),
        (
            "image/png",
            file(Image.new("L", (28, 28)), save_all=True, append_images=[Image.new("L", (28, 28), 9)]),
            422,
            "2 frames",
        ),
        ("text/csv", ROW.rsplit(",", 1)[0].encode(), 422, "line 1: too few fields: 783, 784 expected"),
        ("text/csv", b"\xff\xfe", 400, "not UTF-8"),
        ("text/csv", b"\n\n", 400, "no picture"),
        ("text/csv", b"\xef\xbb\xbf", 400, "no picture"),
        ("application/json", b"{", 400, "no JSON"),
        ("application/json", b"[" * 100_000, 400, "no JSON"),
        ("application/json", b"[1, 2]", 400, '{"instances": [...]}'),
        ("application/json", b'{"instances": []}', 400, "no picture"),
        ("application/json", b'{"instances": [[1, 2], [3]]}', 422, "instances[0]: shape (2,)"),
        ("application/json", b'{"instances": [[[1, 2], [3]]]}', 422, "lists of different lengths"),
        ("application/json", json.dumps({"instances": [[float("nan")] * 784]}).encode(), 422, "not nan"),
        ("application/json", json.dumps({"instances": [["1"] * 784]}).encode(), 422, "whole numbers 0..255"),
        ("application/json", json.dumps({"instances": [[256] * 784]}).encode(), 422, "not 256"),
        ("application/json", json.dumps({"instances": [[10**30] * 784]}).encode(), 422, "whole numbers"),
        ("application/json", json.dumps({"instances": [{"b64": "%"}]}).encode(), 422, "instances[0]: b64"),
        ("application/json", json.dumps({"instances": [{"url": "file:///etc/passwd"}]}).encode(), 422, 'without "b64"'),
        ("application/x-npy", b"\x93NUMPY", 400, "no NumPy array"),
        ("application/x-npy", npy(np.array([{}], dtype=object)), 400, "no NumPy array"),
        ("application/x-npy", npy(np.array(3)), 400, "of pictures"),
        ("application/x-npy", npy(np.zeros((2, 783))), 422, "[0]: shape (783,)"),
        ("application/x-npy", npy(np.full(784, 0.5)), 422, "not 0.5"),
        ("application/x-npy", npy(np.full(784, -1)), 422, "not -1"),
        ("application/x-npy", npy(np.zeros((513, 784), dtype=np.uint8)), 413, "513 pictures; 512"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_status(kind: str, body: bytes, status: int, said: str) -> None:
    with pytest.raises(BodyError) as error:
        read_body(body, kind, GREY, Limits())
    assert error.value.status == status
    assert said in str(error.value)


def test_what_is_neither_jpeg_nor_png_is_no_picture_whatever_it_is_called() -> None:
    with pytest.raises(BodyError, match="not a picture") as refused:
        read_body(file(Image.fromarray(PIXELS), "GIF"), "image/png", GREY, Limits())
    assert refused.value.status == 422


def test_the_pixels_of_all_pictures_of_a_request_are_bounded() -> None:
    large = base64.b64encode(file(Image.new("1", (3000, 3000)))).decode()
    body = json.dumps({"instances": [{"b64": large}] * 3}).encode()
    with pytest.raises(BodyError, match=r"instances\[2\].*27,000,000 pixels in all") as refused:
        read_body(body, "application/json", GREY, Limits())
    assert refused.value.status == 413
