"""Exported networks predict the same probabilities as the original."""

import json
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from models.export import FORMATS, export_network
from models.model_settings import Network, NetworkName
from models.networks import build_network
from preprocessing.data_settings import Preprocessing
from preprocessing.normalization import by_range


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("name", "shape"), [("handshape", (28, 28, 1)), ("dexnet_v2", (64, 64, 3)), ("handshape_photo", (96, 96, 3))]
)
def test_every_format_predicts_what_the_network_does(
    kind: str, name: NetworkName, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(5)
    network = build_network(Network(name=name), shape, 4, by_range(shape[2]))
    pixels = np.random.default_rng(0).integers(0, 256, (7, int(np.prod(shape))), dtype=np.uint8)
    settings = Preprocessing(size=shape[0], color="rgb" if shape[2] == 3 else "gray")
    predict = export_network(network, ["A", "B", "C", "D"], settings, kind, tmp_path)
    np.testing.assert_allclose(predict(pixels), network(pixels).numpy(), atol=1e-5)
    np.testing.assert_allclose(predict(pixels[:1]), network(pixels[:1]).numpy(), atol=1e-5)
    assert json.loads((tmp_path / "class_names.json").read_text()) == ["A", "B", "C", "D"]
    assert json.loads((tmp_path / "preprocessing.json").read_text())["size"] == shape[0]
    if kind == "onnx":
        properties = onnx.load(tmp_path / "model.onnx").metadata_props
        assert {entry.key: json.loads(entry.value) for entry in properties}["class_names"] == ["A", "B", "C", "D"]
