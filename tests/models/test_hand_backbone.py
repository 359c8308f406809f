"""The converted network against TensorFlow Lite's own reading of the same file."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from keras import Model, layers

from models.hand_backbone import _FILE, hand_features
from models.networks import unfreeze


@pytest.fixture(scope="module")
def backbone() -> Model:
    pixels = layers.Input((224, 224, 3))
    return Model(pixels, hand_features(pixels))


def test_it_finds_in_a_picture_what_the_original_finds(backbone: Model) -> None:
    [package] = list(Path(tf.__file__).parents[1].glob("mediapipe"))
    original = tf.lite.Interpreter(str(package / _FILE), experimental_preserve_all_tensors=True)
    original.allocate_tensors()
    pixels = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    original.set_tensor(original.get_input_details()[0]["index"], pixels)
    original.invoke()
    [mean] = [step for step in original._get_ops_details() if step["op_name"] == "MEAN"]
    wanted = original.get_tensor(mean["outputs"][0])
    found = backbone.predict_on_batch(pixels)
    assert found.shape == (1, 1152)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_its_layers_can_be_named_to_be_trained(backbone: Model) -> None:
    assert f"{backbone.count_params():,}" == "2,568,096"
    backbone.trainable = False
    unfreeze(backbone, "hand_149_depthwise")
    assert not backbone.get_layer("hand_139_depthwise").trainable
    assert backbone.get_layer("hand_149_depthwise").trainable
