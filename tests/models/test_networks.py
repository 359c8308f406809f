from pathlib import Path
from typing import get_args

import h5py
import keras
import numpy as np
import pytest

from models.errors import TrainingError
from models.networks import NETWORKS, build_network, unfreeze
from models.saved_network import load_network, save_network
from models.settings import BACKBONES, Network, NetworkName
from preprocessing.normalisation import Normalisation, by_range

SHAPE, CLASSES = (28, 28, 1), 24
PHOTO = (200, 200, 3)


def network(name: NetworkName, shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES) -> keras.Model:
    return build_network(Network(name), shape, classes, by_range(shape[2]))


def test_every_network_can_be_named_in_an_experiment() -> None:
    assert {*NETWORKS, *BACKBONES} == set(get_args(NetworkName))


def test_baseline_is_the_published_network_to_the_letter() -> None:
    baseline = network("baseline")
    described = [
        (layer.filters, layer.kernel_size[0], layer.padding, layer.activation.__name__)
        for layer in baseline.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert described == [(32, 5, "valid", "relu"), (64, 5, "valid", "relu"), (128, 3, "valid", "relu")]
    assert [layer.rate for layer in baseline.layers if isinstance(layer, keras.layers.Dropout)] == [0.2, 0.2, 0.2]
    assert [layer.units for layer in baseline.layers if isinstance(layer, keras.layers.Dense)] == [128, 24]
    # 5*5*1*32+32, 5*5*32*64+64, 3*3*64*128+128, 1*1*128*128+128, 128*24+24
    assert baseline.count_params() == 832 + 51_264 + 73_856 + 16_512 + 3_096


def test_handshape_has_the_weights_its_docstring_says() -> None:
    handshape = network("handshape")
    assert f"{handshape.count_params():,}" in (NETWORKS["handshape"].__doc__ or "")
    assert sum(np.prod(weight.shape) for weight in handshape.non_trainable_weights) == 960


@pytest.mark.parametrize(("name", "weights"), [("dexnet_v1", 12_275_101), ("dexnet_v2", 5_854_621)])
def test_dexnet_has_the_published_weights_to_the_digit(name: NetworkName, weights: int) -> None:
    dexnet = network(name, PHOTO, 29)
    assert dexnet.count_params() == weights
    assert f"{weights:,}" in (NETWORKS[name].__doc__ or "")


def test_resnet50_is_keras_own_frozen_under_the_dense_layers_of_the_experiment() -> None:
    resnet = build_network(Network("resnet50", head=[64, 32]), PHOTO, 29, by_range(3))
    head = (2048 * 64 + 64) + (64 * 32 + 32) + (32 * 29 + 29)
    assert resnet.count_params() == 23_587_712 + head
    assert sum(np.prod(weight.shape) for weight in resnet.trainable_weights) == head


def test_fine_tuning_trains_from_a_named_layer_on_but_for_normalisations() -> None:
    resnet = network("resnet50", (64, 64, 1))
    unfreeze(resnet, "conv5_block3_1_conv")
    trained = [layer.name for layer in resnet.layers if layer.trainable and layer.weights]
    assert trained[:3] == ["conv5_block3_1_conv", "conv5_block3_2_conv", "conv5_block3_3_conv"]
    assert not resnet.get_layer("conv5_block2_3_conv").trainable
    with pytest.raises(TrainingError, match=r"is conv9; resnet50 has no such layer, but conv2_block1_1_conv"):
        unfreeze(resnet, "conv9")


def test_a_backbones_weights_come_from_keras_file_and_from_no_other(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.h5"
    published = keras.applications.ResNet50(include_top=False, weights=None)
    published.save_weights(path)
    loaded = build_network(Network("resnet50", weights=str(path)), (64, 64, 3), 5, by_range(3))
    # alike, though the one wants its pixels in another order and minus their means
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    wanted = published(keras.applications.resnet50.preprocess_input(pixels.astype(np.float32))).numpy().mean((1, 2))
    features = keras.Model(loaded.input, loaded.get_layer("avg_pool").output)
    np.testing.assert_allclose(features(pixels.reshape(2, -1)), wanted, rtol=1e-3, atol=1e-4)

    other = tmp_path / "other.h5"
    network("baseline").save_weights(other)
    narrow = tmp_path / "narrow.h5"
    with h5py.File(path) as first, h5py.File(narrow, "w") as second:
        for name in first:
            first.copy(name, second)
        second.attrs.update(first.attrs)
        kernel = second["conv1_conv/conv1_conv/kernel:0"][...]
        del second["conv1_conv/conv1_conv/kernel:0"]
        second["conv1_conv/conv1_conv/kernel:0"] = kernel[..., :32]
    text = tmp_path / "text.h5"
    text.write_text("no weights")
    for file, said in [
        (tmp_path / "none.h5", "none.h5: no such file"),
        (text, "text.h5: it is no Keras .h5 file"),
        (other, "other.h5: not ResNet-50's, it has no layer conv1_conv"),
        (narrow, "narrow.h5: of another shape than ResNet-50's"),
    ]:
        with pytest.raises(TrainingError, match=said):
            build_network(Network("resnet50", weights=str(file)), (64, 64, 3), 5, by_range(3))


@pytest.mark.parametrize("name", get_args(NetworkName))
def test_raw_pixels_go_in_and_probabilities_come_out_also_once_saved(name: NetworkName, tmp_path: Path) -> None:
    shape = SHAPE if name in ("baseline", "handshape") else (96, 96, 3)
    built = network(name, shape)
    pixels = np.random.default_rng(0).integers(0, 256, (5, np.prod(shape)), dtype=np.uint8)
    probabilities = built.predict_on_batch(pixels)
    assert probabilities.shape == (5, 24)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    save_network(built, tmp_path / "model.keras")
    loaded = load_network(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(pixels), probabilities, rtol=1e-4, atol=1e-6)


def test_pixels_are_normalised_by_channel_and_laid_out_row_by_row() -> None:
    shape = (12, 12, 3)
    normalisation = Normalisation((0.1, 0.2, 0.3), (-1.0, -2.0, -3.0))
    built = build_network(Network("handshape"), shape, 3, normalisation)
    first = keras.Sequential(built.layers[:2])
    pixels = np.random.default_rng(0).integers(0, 256, (1, 432), dtype=np.uint8)
    wanted = pixels.reshape(12, 12, 3) * np.array(normalisation.scale) + np.array(normalisation.offset)
    np.testing.assert_allclose(first(pixels)[0], wanted, rtol=1e-5, atol=1e-5)


def test_pictures_too_small_for_a_network_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"network resnet50 cannot take pictures of \(16, 16, 3\): 32 pixels"):
        network("resnet50", (16, 16, 3))
