"""The average over a picture and its mirror image is a network like any other: it is saved, loaded and exported."""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from models.export import read_tflite, to_onnx, to_tflite
from models.mirroring import average_mirrored, weights_without_mirror
from models.model_settings import Network, NetworkName
from models.networks import build_network
from models.onnx_network import check_onnx, read_onnx, read_onnx_with_features
from models.saved_network import load_network, save_network
from preprocessing.normalization import by_range


class Built(NamedTuple):
    """A network, its average over mirror images, pixels, and what is expected of the average for them."""

    network: keras.Model
    averaged: keras.Model
    pixels: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray


def build(name: NetworkName, shape: tuple[int, int, int]) -> Built:
    network = build_network(Network(name, head=[16]), shape, 4, by_range(shape[2]))
    below_last_layer = keras.Model(network.input, network.layers[-2].output)
    pictures = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    pixels, mirrored = pictures.reshape(5, -1), np.ascontiguousarray(pictures[:, :, ::-1]).reshape(5, -1)
    probabilities = (network(pixels).numpy() + network(mirrored).numpy()) / 2
    features = (below_last_layer(pixels).numpy() + below_last_layer(mirrored).numpy()) / 2
    return Built(network, average_mirrored(network, shape), pixels, probabilities, features)


@pytest.fixture(scope="module")
def built() -> Built:
    return build("handshape", (28, 24, 1))


@pytest.mark.parametrize(("name", "shape"), [("handshape", (28, 28, 1)), ("handshape_photo", (64, 48, 3))])
def test_the_probabilities_are_the_mean_of_both(name: NetworkName, shape: tuple[int, int, int]) -> None:
    built = build(name, shape)
    np.testing.assert_allclose(built.averaged(built.pixels), built.probabilities, atol=1e-6)


def test_it_is_saved_with_layers_of_keras(built: Built, tmp_path: Path) -> None:
    save_network(built.averaged, tmp_path / "model.keras")
    plain = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for network in (load_network(tmp_path / "model.keras"), plain):
        np.testing.assert_allclose(network(built.pixels), built.probabilities, atol=1e-6)


def test_it_is_exported(built: Built) -> None:
    content = to_onnx(built.averaged, {})
    check_onnx(content, built.pixels.shape[1], 4)
    np.testing.assert_allclose(read_onnx(content)(built.pixels), built.probabilities, atol=1e-5)
    np.testing.assert_allclose(read_tflite(to_tflite(built.averaged))(built.pixels), built.probabilities, atol=1e-5)


def test_its_features_are_the_mean_of_both(built: Built) -> None:
    outputs = read_onnx_with_features(to_onnx(built.averaged, {}))(built.pixels)
    np.testing.assert_allclose(outputs.probabilities, built.probabilities, atol=1e-5)
    np.testing.assert_allclose(outputs.features, built.features, atol=1e-4)


def test_its_weights_are_those_of_the_network(built: Built) -> None:
    np.testing.assert_equal(weights_without_mirror(built.averaged), built.network.get_weights())
