from pathlib import Path
from typing import get_args

import h5py
import keras
import numpy as np
import pytest

from models.errors import TrainingError
from models.model_settings import BACKBONES, Network, NetworkName
from models.networks import NETWORKS, build_network, unfreeze
from models.saved_network import load_network, save_network
from preprocessing.normalization import Normalization, by_range

SHAPE, NUM_CLASSES = (28, 28, 1), 24
PHOTO_SHAPE = (200, 200, 3)


def network(name: NetworkName, shape: tuple[int, int, int] = SHAPE, num_classes: int = NUM_CLASSES) -> keras.Model:
    return build_network(Network(name), shape, num_classes, by_range(shape[2]))


def test_every_network_can_be_named_in_an_experiment() -> None:
    assert {*NETWORKS, *BACKBONES} == set(get_args(NetworkName))


def test_baseline_is_exactly_the_published_network() -> None:
    baseline = network("baseline")
    convolutions = [
        (layer.filters, layer.kernel_size[0], layer.padding, layer.activation.__name__)
        for layer in baseline.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert convolutions == [(32, 5, "valid", "relu"), (64, 5, "valid", "relu"), (128, 3, "valid", "relu")]
    assert [layer.rate for layer in baseline.layers if isinstance(layer, keras.layers.Dropout)] == [0.2, 0.2, 0.2]
    assert [layer.units for layer in baseline.layers if isinstance(layer, keras.layers.Dense)] == [128, 24]
    # 5*5*1*32+32, 5*5*32*64+64, 3*3*64*128+128, 1*1*128*128+128, 128*24+24
    assert baseline.count_params() == 832 + 51_264 + 73_856 + 16_512 + 3_096


def test_handshape_has_the_number_of_parameters_in_its_docstring() -> None:
    handshape = network("handshape")
    assert f"{handshape.count_params():,}" in (NETWORKS["handshape"].__doc__ or "")
    assert sum(np.prod(weight.shape) for weight in handshape.non_trainable_weights) == 960


@pytest.mark.parametrize(("name", "parameters"), [("dexnet_v1", 12_275_101), ("dexnet_v2", 5_854_621)])
def test_dexnet_has_the_published_number_of_parameters(name: NetworkName, parameters: int) -> None:
    dexnet = network(name, PHOTO_SHAPE, 29)
    assert dexnet.count_params() == parameters
    assert f"{parameters:,}" in (NETWORKS[name].__doc__ or "")


def test_resnet50_is_the_frozen_network_of_keras_below_the_dense_layers_of_the_experiment() -> None:
    resnet = build_network(Network("resnet50", head=[64, 32]), PHOTO_SHAPE, 29, by_range(3))
    head_parameters = (2048 * 64 + 64) + (64 * 32 + 32) + (32 * 29 + 29)
    assert resnet.count_params() == 23_587_712 + head_parameters
    assert sum(np.prod(weight.shape) for weight in resnet.trainable_weights) == head_parameters


def test_fine_tuning_trains_all_layers_from_a_named_one_on_except_normalizations() -> None:
    resnet = network("resnet50", (64, 64, 1))
    unfreeze(resnet, "conv5_block3_1_conv")
    trained = [layer.name for layer in resnet.layers if layer.trainable and layer.weights]
    assert trained[:3] == ["conv5_block3_1_conv", "conv5_block3_2_conv", "conv5_block3_3_conv"]
    assert not resnet.get_layer("conv5_block2_3_conv").trainable
    with pytest.raises(
        TrainingError, match=r"is conv9; resnet50 has no such layer; its blocks start at conv2_block1_1_conv"
    ):
        unfreeze(resnet, "conv9")


def test_a_backbones_weights_are_loaded_only_from_the_file_that_keras_publishes(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.h5"
    published = keras.applications.ResNet50(include_top=False, weights=None)
    published.save_weights(path)
    loaded = build_network(Network("resnet50", weights=str(path)), (64, 64, 3), 5, by_range(3))
    # The features are equal, although Keras's network expects BGR channels minus their means as its input.
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = published(keras.applications.resnet50.preprocess_input(pixels.astype(np.float32))).numpy().mean((1, 2))
    features = keras.Model(loaded.input, loaded.get_layer("avg_pool").output)
    np.testing.assert_allclose(features(pixels.reshape(2, -1)), expected, rtol=1e-3, atol=1e-4)

    other = tmp_path / "other.h5"
    network("baseline").save_weights(other)
    narrow = tmp_path / "narrow.h5"
    with h5py.File(path) as source, h5py.File(narrow, "w") as target:
        for name in source:
            source.copy(name, target)
        target.attrs.update(source.attrs)
        kernel = target["conv1_conv/conv1_conv/kernel:0"][...]
        del target["conv1_conv/conv1_conv/kernel:0"]
        target["conv1_conv/conv1_conv/kernel:0"] = kernel[..., :32]
    text_file = tmp_path / "text.h5"
    text_file.write_text("no weights")
    for file, message in [
        (tmp_path / "none.h5", "none.h5: no such file"),
        (text_file, "text.h5: not a Keras .h5 file"),
        (other, "other.h5: not weights of ResNet-50: layer conv1_conv is missing"),
        (narrow, "narrow.h5: its shapes differ from those of ResNet-50"),
    ]:
        with pytest.raises(TrainingError, match=message):
            build_network(Network("resnet50", weights=str(file)), (64, 64, 3), 5, by_range(3))


@pytest.mark.parametrize("name", get_args(NetworkName))
def test_networks_map_raw_pixels_to_probabilities_also_after_saving(name: NetworkName, tmp_path: Path) -> None:
    shape = SHAPE if name in ("baseline", "handshape") else (96, 96, 3)
    built = network(name, shape)
    pixels = np.random.default_rng(0).integers(0, 256, (5, np.prod(shape)), dtype=np.uint8)
    probabilities = built.predict_on_batch(pixels)
    assert probabilities.shape == (5, 24)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    save_network(built, tmp_path / "model.keras")
    loaded = load_network(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch(pixels), probabilities, rtol=1e-4, atol=1e-6)


def test_pixels_are_normalized_by_channel_and_laid_out_row_by_row() -> None:
    shape = (12, 12, 3)
    normalization = Normalization((0.1, 0.2, 0.3), (-1.0, -2.0, -3.0))
    built = build_network(Network("handshape"), shape, 3, normalization)
    input_layers = keras.Sequential(built.layers[:2])
    pixels = np.random.default_rng(0).integers(0, 256, (1, 432), dtype=np.uint8)
    expected = pixels.reshape(12, 12, 3) * np.array(normalization.scale) + np.array(normalization.offset)
    np.testing.assert_allclose(input_layers(pixels)[0], expected, rtol=1e-5, atol=1e-5)


def test_pictures_too_small_for_a_network_are_refused() -> None:
    with pytest.raises(
        TrainingError, match=r"network resnet50 cannot take pictures of \(16, 16, 3\): at least 32 pixels"
    ):
        network("resnet50", (16, 16, 3))
