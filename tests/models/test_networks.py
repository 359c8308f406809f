from typing import get_args

import keras
import numpy as np
import pytest

from models.networks import NETWORKS
from models.settings import NetworkName

SHAPE, CLASSES = (28, 28, 1), 24


def test_every_network_can_be_named_in_an_experiment() -> None:
    assert set(NETWORKS) == set(get_args(NetworkName))


def test_baseline_is_the_published_network_to_the_letter() -> None:
    network = NETWORKS["baseline"](SHAPE, CLASSES)
    described = [
        (layer.filters, layer.kernel_size[0], layer.padding, layer.activation.__name__)
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert described == [(32, 5, "valid", "relu"), (64, 5, "valid", "relu"), (128, 3, "valid", "relu")]
    assert [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)] == [0.2, 0.2, 0.2]
    assert [layer.units for layer in network.layers if isinstance(layer, keras.layers.Dense)] == [128, 24]
    # 5*5*1*32+32, 5*5*32*64+64, 3*3*64*128+128, 1*1*128*128+128, 128*24+24
    assert network.count_params() == 832 + 51_264 + 73_856 + 16_512 + 3_096


def test_handshape_has_the_weights_its_docstring_says() -> None:
    network = NETWORKS["handshape"](SHAPE, CLASSES)
    assert f"{network.count_params():,}" in (NETWORKS["handshape"].__doc__ or "")
    assert sum(np.prod(weight.shape) for weight in network.non_trainable_weights) == 960


@pytest.mark.parametrize("name", NETWORKS)
def test_raw_pixels_go_in_and_probabilities_come_out(name: str) -> None:
    network = NETWORKS[name](SHAPE, CLASSES)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 784), dtype=np.uint8)
    probabilities = network.predict_on_batch(pixels)
    assert probabilities.shape == (5, 24)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_pixels_are_scaled_by_255_and_laid_out_row_by_row() -> None:
    network = NETWORKS["baseline"](SHAPE, CLASSES)
    first = keras.Sequential(network.layers[:2])
    pixels = np.arange(784, dtype=np.uint8)[None]
    np.testing.assert_allclose(first(pixels)[0, :, :, 0], pixels.reshape(28, 28) / np.float32(255), rtol=1e-6)
