"""Request bodies, valid and hostile."""

import base64
import gzip
import io
import json
import math
import textwrap
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import decode
from serving.bodies import BodyError, pixels_of, read_body, reading_cost
from serving.limits import Limits
from tests.serving.hostile import BODIES, GZIP_BOMB, MB, PICTURES, jpeg_of_scans

GRAY, COLOR = Preprocessing(), Preprocessing(size=64, color="rgb")
CENTER = Preprocessing(crop="center")
PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def read_pixels(body: bytes, content_type: str, settings: Preprocessing = GRAY, encoding: str = "") -> np.ndarray:
    return pixels_of(read_body(body, content_type, settings, Limits(), encoding))


PNG = encode(Image.fromarray(PIXELS))
ROW = ",".join(str(value) for value in PIXELS.ravel())


@pytest.mark.parametrize(
    ("content_type", "body"),
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
def test_a_picture_is_read_from_every_format(content_type: str, body: bytes) -> None:
    assert np.array_equal(read_pixels(body, content_type), PIXELS.reshape(1, 784))


def test_a_photograph_is_prepared_as_in_training() -> None:
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 90, 3), dtype=np.uint8))
    body = encode(photo, "JPEG")
    assert read_pixels(body, "image/jpeg", COLOR).tobytes() == decode(body, COLOR).pixels


def test_many_pictures_keep_their_order() -> None:
    rows = np.stack([PIXELS, 255 - PIXELS, PIXELS // 2]).reshape(3, 784)
    assert np.array_equal(read_pixels(npy(rows), "application/x-npy"), rows)
    lines = "\n".join(",".join(str(value) for value in row) for row in rows)
    assert np.array_equal(read_pixels(lines.encode(), "text/csv"), rows)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        ("", PNG, 415, "Content-Type is missing"),
        ("image/gif", b"GIF89a", 415, "image/jpeg, image/png"),
        ("image/png", b"", 400, "the body is empty"),
        ("image/png", b"no picture", 422, "not a picture"),
        ("image/png", PNG[: len(PNG) // 2], 422, "truncated picture"),
        ("image/png", encode(Image.new("L", (1, 1))), 422, "too small a picture: 1 x 1"),
        ("image/png", encode(Image.new("1", (20_000, 20_000))), 413, "too large a picture"),
        ("image/png", encode(Image.new("1", (6_000, 5_000))), 413, "25,000,000 a request are the most"),
        (
            "image/png",
            encode(Image.new("L", (28, 28)), save_all=True, append_images=[Image.new("L", (28, 28), 9)]),
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
def test_an_unusable_body_is_rejected_with_its_status(
    content_type: str, body: bytes, status: int, message: str
) -> None:
    with pytest.raises(BodyError) as error:
        read_body(body, content_type, GRAY, Limits())
    assert error.value.status == status
    assert message in str(error.value)


def test_a_picture_that_is_neither_jpeg_nor_png_is_rejected_whatever_its_content_type() -> None:
    with pytest.raises(BodyError, match="not a picture") as error:
        read_body(encode(Image.fromarray(PIXELS), "GIF"), "image/png", GRAY, Limits())
    assert error.value.status == 422


def test_the_total_pixels_of_a_request_are_bounded() -> None:
    large = base64.b64encode(encode(Image.new("1", (3000, 3000)))).decode()
    body = json.dumps({"instances": [{"b64": large}] * 3}).encode()
    with pytest.raises(BodyError, match=r"instances\[2\].*27,000,000 pixels in all") as error:
        read_body(body, "application/json", GRAY, Limits())
    assert error.value.status == 413


@pytest.mark.parametrize(("content_type", "body", "status", "message"), BODIES.values(), ids=BODIES)
def test_a_hostile_body_is_rejected_before_it_takes_memory(
    content_type: str, body: bytes, status: int, message: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BodyError) as error:
            read_body(body, content_type, GRAY, Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (error.value.status, message in str(error.value)) == (status, True), error.value
    assert len(str(error.value)) < 300
    assert peak < 100 * MB


@pytest.mark.parametrize(("content_type", "body"), PICTURES.values(), ids=PICTURES)
def test_metadata_of_a_picture_is_not_read(content_type: str, body: bytes) -> None:
    assert read_pixels(body, content_type).tolist() == [[0] * 784]


def test_the_total_scans_of_a_request_are_bounded() -> None:
    progressive = base64.b64encode(encode(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)).decode()

    def body(count: int) -> bytes:
        return json.dumps({"instances": [{"b64": progressive}] * count}).encode()

    limits = Limits(pixels=2_500_000)
    assert len(read_body(body(2), "application/json", GRAY, limits)) == 2
    many_scans = base64.b64encode(jpeg_of_scans(10, 1000)).decode()
    with pytest.raises(BodyError, match=r"instances\[1\]: too costly a picture: 1000 x 1000 in 16 scans") as error:
        read_body(json.dumps({"instances": [{"b64": many_scans}] * 2}).encode(), "application/json", GRAY, limits)
    assert error.value.status == 413


ENCODED = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "encoded",
    [
        f"data:image/png;base64,{ENCODED}",
        f"DATA:image/png;charset=utf-8;BASE64,{ENCODED}",
        f"data:;base64,{ENCODED}",
        base64.encodebytes(PNG).decode(),
        textwrap.fill(ENCODED, 64).replace("\n", "\r\n"),
        base64.urlsafe_b64encode(PNG).decode().rstrip("="),
    ],
)
def test_base64_is_read_in_all_common_forms(encoded: str) -> None:
    body = json.dumps({"instances": [{"b64": encoded}]}).encode()
    assert np.array_equal(read_pixels(body, "application/json"), PIXELS.reshape(1, 784))


def test_a_data_uri_that_is_not_base64_is_refused() -> None:
    body = json.dumps({"instances": [{"b64": "data:image/png,%89PNG"}]}).encode()
    with pytest.raises(BodyError, match="a data URI without ;base64"):
        read_body(body, "application/json", GRAY, Limits())


def test_a_gzip_body_is_decompressed_up_to_the_limit() -> None:
    compressed = gzip.compress(ROW.encode())
    assert np.array_equal(read_pixels(compressed, "text/csv", encoding="gzip"), PIXELS.reshape(1, 784))
    expected_errors = {
        GZIP_BOMB: (413, "8,388,608 bytes when it is unpacked"),
        ROW.encode(): (400, "the body is not gzip"),
        compressed[:-1]: (400, "ends too soon"),
        compressed + compressed: (400, "something follows it"),
    }
    for body, (status, message) in expected_errors.items():
        tracemalloc.start()
        with pytest.raises(BodyError, match=message) as error:
            read_body(body, "text/csv", GRAY, Limits(), "gzip")
        assert tracemalloc.get_traced_memory()[1] < 50 * MB
        tracemalloc.stop()
        assert error.value.status == status


def test_the_number_of_searches_for_a_hand_is_bounded() -> None:
    picture = base64.b64encode(encode(Image.new("L", (64, 64)), "JPEG")).decode()
    body = json.dumps({"instances": [{"b64": picture}] * 3}).encode()
    assert len(read_body(body, "application/json", GRAY, Limits(searches=3))) == 3
    assert len(read_body(body, "application/json", CENTER, Limits(searches=2))) == 3
    with pytest.raises(BodyError, match=r"instances\[2\]: 3 pictures to search for a hand; 2 a request") as error:
        read_body(body, "application/json", GRAY, Limits(searches=2))
    assert error.value.status == 413


def test_the_cost_of_a_body_is_known_before_it_is_read() -> None:
    for content_type in ("image/png", "IMAGE/PNG"):
        assert reading_cost(PNG, content_type, CENTER) == 28 * 28
        assert reading_cost(PNG, content_type, GRAY) > 100_000  # as much as the search for a hand
    assert reading_cost(gzip.compress(PNG), "image/png", GRAY, "gzip") == math.inf
    numbers = b'{"instances": [[1, 2]]}'
    assert reading_cost(numbers, "application/json", GRAY) == len(numbers)
    for encoding in ("utf-8", "utf-16"):
        body = '{"instances": [{"\\u00626\\u0034": ""}]}'.encode(encoding)
        assert reading_cost(body, "application/json", GRAY) == math.inf
