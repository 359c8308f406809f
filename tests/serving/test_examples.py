"""Pictures of a person's own hand change the answers of the server at once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.onnx_network import Outputs, read_onnx, read_onnx_with_features
from preprocessing.data_settings import Preprocessing
from preprocessing.errors import InputError
from serving.__main__ import read_all_examples
from serving.examples import Example, Examples, read_examples
from serving.recognizer import Recognizer
from tests.pictures import photograph
from tests.serving.conftest import CLASS_NAMES, Pictures

FEATURES = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0]], dtype=np.float32)
EXAMPLES = Examples.of([Example(letter, "", row) for letter, row in zip("AAB", FEATURES, strict=True)], ["A", "B", "C"])
UNDECIDED = np.full((1, 3), 1 / 3, dtype=np.float32)


def blended(*features: float) -> np.ndarray:
    return EXAMPLES.blend(Outputs(UNDECIDED, np.array([features], dtype=np.float32)))[0]


def test_a_picture_that_resembles_the_examples_of_a_class_is_likelier_that_class() -> None:
    assert blended(2, 0.1, 0)[0] > 0.95
    assert blended(0, 5, 0)[1] > 0.95
    assert blended(1, 1, 1).sum() == pytest.approx(1)


def test_a_picture_that_resembles_no_example_keeps_its_probabilities() -> None:
    np.testing.assert_allclose(blended(0, 0, 1), 1 / 3, atol=0.01)


def test_the_features_come_with_the_same_probabilities(run: Path, pictures: Pictures) -> None:
    content = (run / "model.onnx").read_bytes()
    outputs = read_onnx_with_features(content)(pictures.pixels[:40])
    np.testing.assert_allclose(outputs.probabilities, read_onnx(content)(pictures.pixels[:40]), atol=1e-6)
    assert outputs.features.shape == (40, 256)


def test_the_server_answers_with_regard_to_a_folder_of_examples(run: Path, pictures: Pictures, tmp_path: Path) -> None:
    # examples with another label than the network has learned, to see whose answer it is
    shown, taught = CLASS_NAMES[0], CLASS_NAMES[1]
    pixels = pictures.pixels[pictures.letters == shown]
    (tmp_path / taught).mkdir()
    for number, row in enumerate(pixels[:5]):
        Image.fromarray(row.reshape(28, 28)).save(tmp_path / taught / f"{number}.png")
    probability = Recognizer.of_run(run).probabilities(pixels[10:11])[0, 1]
    recognizer = Recognizer.of_run(run)
    read_all_examples(recognizer, tmp_path, None)
    assert recognizer.probabilities(pixels[10:11])[0, 1] > min(5 * probability, 0.5)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("B/a.png", b"text", r"B/a\.png: not a picture"),
        ("a/a.png", b"", "a: rename the folder to A"),
        ("Ship/a.png", b"", r"Ship: not a class of the network; it has A, B"),
        ("A/empty.png", photograph(), r"A/empty\.png: no hand is found in this picture: delete it"),
    ],
)
def test_examples_that_cannot_be_used_are_named(
    file: str, content: bytes | Image.Image, message: str, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path)
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path, ["A", "B"], Preprocessing(size=64, color="rgb"), lambda pixels: pixels)


def test_a_missing_folder_of_examples_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--examples .*missing: no such folder"):
        read_all_examples(Recognizer.of_run(run), tmp_path / "missing", None)
