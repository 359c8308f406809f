"""The converted backbone is compared with TensorFlow Lite running the same file."""

import numpy as np
import pytest
import tensorflow as tf
from keras import Model, layers

from models.hand_backbone import hand_features
from models.networks import unfreeze
from preprocessing.hand_detection import LANDMARK_FILE, mediapipe_file


@pytest.fixture(scope="module")
def backbone() -> Model:
    pixels = layers.Input((224, 224, 3))
    return Model(pixels, hand_features(pixels))


def test_its_features_are_those_of_the_original(backbone: Model) -> None:
    original = tf.lite.Interpreter(str(mediapipe_file(LANDMARK_FILE)), experimental_preserve_all_tensors=True)
    original.allocate_tensors()
    pixels = np.random.default_rng(0).uniform(0, 1, (1, 224, 224, 3)).astype(np.float32)
    original.set_tensor(original.get_input_details()[0]["index"], pixels)
    original.invoke()
    [mean] = [operator for operator in original._get_ops_details() if operator["op_name"] == "MEAN"]
    expected = original.get_tensor(mean["outputs"][0])
    features = backbone.predict_on_batch(pixels)
    assert features.shape == (1, 1152)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_its_layers_can_be_unfrozen_by_name(backbone: Model) -> None:
    assert f"{backbone.count_params():,}" == "2,568,096"
    backbone.trainable = False
    unfreeze(backbone, "hand_149_depthwise")
    assert not backbone.get_layer("hand_139_depthwise").trainable
    assert backbone.get_layer("hand_149_depthwise").trainable
