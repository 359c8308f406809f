"""A network in other formats answers as it did."""

import json
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from models.export import FORMATS, export_network
from models.networks import build_network
from models.settings import Network, NetworkName
from preprocessing.normalisation import by_range
from preprocessing.settings import Preprocessing


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("name", "shape"), [("handshape", (28, 28, 1)), ("dexnet_v2", (64, 64, 3)), ("handshape_photo", (96, 96, 3))]
)
def test_every_format_answers_as_the_network(
    kind: str, name: NetworkName, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(5)
    network = build_network(Network(name=name), shape, 4, by_range(shape[2]))
    pixels = np.random.default_rng(0).integers(0, 256, (7, int(np.prod(shape))), dtype=np.uint8)
    settings = Preprocessing(size=shape[0], color="rgb" if shape[2] == 3 else "grey")
    predict = export_network(network, ["A", "B", "C", "D"], settings, kind, tmp_path)
    np.testing.assert_allclose(predict(pixels), network(pixels).numpy(), atol=1e-5)
    np.testing.assert_allclose(predict(pixels[:1]), network(pixels[:1]).numpy(), atol=1e-5)
    assert json.loads((tmp_path / "classes.json").read_text()) == ["A", "B", "C", "D"]
    assert json.loads((tmp_path / "preprocessing.json").read_text())["size"] == shape[0]
    if kind == "onnx":
        properties = onnx.load(tmp_path / "model.onnx").metadata_props
        assert {entry.key: json.loads(entry.value) for entry in properties}["classes"] == ["A", "B", "C", "D"]
