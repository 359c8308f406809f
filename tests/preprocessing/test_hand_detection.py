"""The hand in a picture is found by MediaPipe's networks, and the picture is cropped to it."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import Decoded, decode, decode_array
from preprocessing.hand_detection import Hand, HandDetector, hand_detector
from tests.pictures import photograph

SETTINGS = Preprocessing(size=64, color="rgb")


def detect(image: Image.Image) -> Hand:
    hand = hand_detector().detect(image)
    assert hand is not None
    return hand


def decoded(image: Image.Image, settings: Preprocessing = SETTINGS) -> Decoded:
    file = io.BytesIO()
    image.save(file, "PNG")
    return decode(file.getvalue(), settings)


def pixels(picture: Decoded) -> np.ndarray:
    assert picture.pixels is not None, picture
    return np.frombuffer(picture.pixels, dtype=np.uint8).reshape(SETTINGS.shape).astype(int)


def center(hand: Hand, image: Image.Image) -> np.ndarray:
    left, top, right, bottom = hand.box
    return np.array([(left + right) / 2 * image.width, (top + bottom) / 2 * image.height])


@pytest.mark.parametrize("letter", "BLVWY")
def test_the_landmarks_are_where_the_hand_is(letter: str) -> None:
    image = photograph((letter, 224, (350, 200)))
    hand = detect(image)
    assert hand.landmarks.shape == (21, 3)
    assert 0.5 < hand.confidence <= 1
    left, top, right, bottom = hand.box
    assert 350 < left * 640 < right * 640 < 574
    assert 200 < top * 480 < bottom * 480 < 424


def test_the_landmarks_move_with_the_hand() -> None:
    first, second = photograph(("B", 224, (20, 30))), photograph(("B", 224, (320, 130)))
    moved = center(detect(second), second) - center(detect(first), first)
    np.testing.assert_allclose(moved, [300, 100], atol=6)


def test_a_turned_hand_has_turned_landmarks() -> None:
    image = photograph(("Y", 224, (130, 100)), size=(480, 480))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    upright, sideways = detect(image).landmarks, detect(turned).landmarks
    # counterclockwise by 90 degrees: x becomes y, and y becomes x from the right
    np.testing.assert_allclose(sideways[:, 0], upright[:, 1], atol=0.03)
    np.testing.assert_allclose(sideways[:, 1], 1 - upright[:, 0], atol=0.03)


def test_a_mirrored_hand_is_the_other_hand() -> None:
    image = photograph(("Y", 224, (200, 100)))
    handedness = detect(image).handedness
    assert (detect(ImageOps.mirror(image)).handedness > 0.5) != (handedness > 0.5)


def test_the_crop_of_a_left_hand_is_mirrored() -> None:
    image = photograph(("Y", 224, (200, 100)))
    crop, mirrored_crop = pixels(decoded(image)), pixels(decoded(ImageOps.mirror(image)))
    assert np.abs(crop - mirrored_crop).mean() < 12
    as_they_are = Preprocessing(size=64, color="rgb", mirror_left_hands=False)
    crop, mirrored_crop = pixels(decoded(image, as_they_are)), pixels(decoded(ImageOps.mirror(image), as_they_are))
    assert np.abs(crop - mirrored_crop).mean() > 25
    assert np.abs(crop - mirrored_crop[:, ::-1]).mean() < 12


def test_the_larger_of_two_hands_is_found() -> None:
    image = photograph(("B", 150, (30, 200)), ("B", 300, (300, 100)))
    assert center(detect(image), image)[0] > 300


def test_a_hand_that_fills_the_picture_is_found() -> None:
    assert decoded(photograph(("B", 224, (0, 0)), size=(224, 224))).hand is not None


def test_a_picture_is_cropped_to_its_hand_wherever_it_is_and_however_large() -> None:
    crops = [
        pixels(decoded(photograph(("V", side, position), size=size)))
        for side, position, size in (
            (224, (40, 40), (640, 480)), (224, (400, 230), (640, 480)), (448, (600, 300), (1280, 960))
        )
    ]  # fmt: skip
    for crop in crops[1:]:
        assert np.abs(crop - crops[0]).mean() < 12
    centered = pixels(decoded(photograph(("V", 224, (40, 40))), Preprocessing(size=64, crop="center", color="rgb")))
    assert np.abs(crops[0] - centered).mean() > 25


def test_gray_crops_are_the_gray_of_color_crops() -> None:
    image = photograph(("B", 224, (100, 100)))
    gray = decoded(image, Preprocessing(size=64)).pixels
    color = Image.fromarray(pixels(decoded(image)).astype(np.uint8))
    assert gray == color.convert("L").tobytes()


def test_beyond_the_edge_of_the_picture_its_pixels_are_repeated() -> None:
    image = photograph(("B", 300, (0, 90)), size=(240, 480))  # the hand is at the right edge
    crop = pixels(decoded(image))
    edge = crop if detect(image).handedness > 0.5 else crop[:, ::-1]
    assert (edge[20:40, -1] == edge[20:40, -3]).all()


def test_a_picture_without_a_hand_is_cropped_to_its_center() -> None:
    image = photograph()
    picture = decoded(image)
    assert (picture.searched, picture.hand) == (True, None)
    assert picture.hand_row == (0.0, None, None, None)
    assert picture.pixels == decoded(image, Preprocessing(size=64, crop="center", color="rgb")).pixels


@pytest.mark.parametrize(
    ("image", "settings"),
    [
        (photograph(("B", 224, (100, 100))), Preprocessing(size=64, crop="center", color="rgb")),
        (photograph(("B", 28, (0, 0)), size=(28, 28)), SETTINGS),
    ],
    ids=["crop center", "a picture as small as Sign-MNIST's"],
)
def test_a_picture_is_not_searched(image: Image.Image, settings: Preprocessing) -> None:
    picture = decoded(image, settings)
    assert not picture.searched
    assert picture.hand_row == (None, None, None, None)


def test_an_array_is_cropped_like_a_file_unless_it_is_a_crop_already() -> None:
    image = photograph(("B", 224, (300, 100)))
    from_array = decode_array(image.tobytes(), (480, 640, 3), SETTINGS)
    from_file = decoded(image)
    assert from_array.pixels == from_file.pixels
    assert from_array.hand_row == from_file.hand_row
    crop = from_file.pixels
    assert crop is not None
    assert decode_array(crop, SETTINGS.shape, SETTINGS) == Decoded(crop)


def test_threads_share_a_detector() -> None:
    images = [photograph(("B", 224, (x, 100))) for x in range(0, 400, 50)]
    expected = [detect(image).landmarks for image in images]
    with ThreadPoolExecutor(4) as pool:
        for hand, landmarks in zip(pool.map(detect, images), expected, strict=True):
            np.testing.assert_array_equal(hand.landmarks, landmarks)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    HandDetector().detect(photograph(("B", 224, (0, 0))))
    assert capfd.readouterr() == ("", "")
