"""The convolutional networks, each a function of the picture's shape and the number of classes.

Every network takes raw pixels, ``uint8`` of shape ``(height * width * channels,)`` with values 0..255, and normalises
them itself: who loads the model cannot forget it, and a row stays one byte a pixel all the way from the store.
It returns softmax probabilities, ``float32`` of shape ``(classes,)``.
"""

import os
from collections.abc import Callable
from typing import Any

import h5py
from keras import Model, Sequential, layers
from keras.applications import ResNet50

from models.errors import TrainingError
from models.hand_backbone import hand_features
from models.settings import Network
from preprocessing.normalisation import Normalisation

Shape = tuple[int, int, int]
MIN_BACKBONE_SIDE = 32
# Minus the means of red, green and blue (keras.applications' preprocessing of ResNet-50).
_IMAGENET_OFFSET = (-123.68, -116.779, -103.939)
Builder = Callable[[Shape, int, Normalisation], Model]


def build_network(settings: Network, shape: Shape, classes: int, normalisation: Normalisation) -> Model:
    """The network of an experiment.

    Args:
        settings: which one.
        shape: ``(height, width, channels)`` of a picture.
        classes: how many.
        normalisation: of the pixels; those with a trained backbone bring their own.

    Raises:
        TrainingError: the pictures are too small for it, or its weights cannot be loaded.
    """
    try:
        if settings.name == "resnet50":
            return resnet50(shape, classes, settings.head, settings.weights)
        if settings.name == "handshape_photo":
            return handshape_photo(shape, classes, settings.head)
        return NETWORKS[settings.name](shape, classes, normalisation)
    except ValueError as error:
        raise TrainingError(f"network {settings.name} cannot take pictures of {shape}: {error}") from error


def _input_layers(shape: Shape, normalisation: Normalisation) -> list[layers.Layer]:
    height, width, channels = shape
    return [
        layers.InputLayer((height * width * channels,), dtype="uint8", name="pixels"),
        layers.Reshape(shape),
        layers.Rescaling(list(normalisation.scale), list(normalisation.offset)),
    ]


def baseline(shape: Shape, classes: int, normalisation: Normalisation) -> Model:
    """The CNN of the published PySpark and Horovod system: three plain convolutions, no padding, dropout 0.2."""
    return Sequential(
        [
            *_input_layers(shape, normalisation),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.2),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(classes, activation="softmax"),
        ],
        name="baseline",
    )


def handshape(shape: Shape, classes: int, normalisation: Normalisation) -> Model:
    """Three batch-normalised convolutions and a dense layer (Ioffe and Szegedy, 2015), for 28x28 pictures in seconds.

    28x28x1 pictures and 24 classes make 395,960 weights, of which 960 are running statistics and not trained.
    """

    def normalised(layer: layers.Layer) -> list[layers.Layer]:
        # 0.9: the running statistics have to follow within the few hundred steps of an epoch
        return [layer, layers.BatchNormalization(momentum=0.9), layers.ReLU()]

    def convolution(filters: int, kernel: int) -> list[layers.Layer]:
        # no bias: the normalisation that follows has an offset of its own
        layer = layers.Conv2D(filters, kernel, padding="same", use_bias=False)
        return [*normalised(layer), layers.MaxPooling2D(2)]

    return Sequential(
        [
            *_input_layers(shape, normalisation),
            *convolution(32, 5),
            *convolution(64, 3),
            *convolution(128, 3),
            layers.Flatten(),
            *normalised(layers.Dense(256, use_bias=False)),
            layers.Dropout(0.4),
            layers.Dense(classes, activation="softmax"),
        ],
        name="handshape",
    )


def dexnet_v1(shape: Shape, classes: int, normalisation: Normalisation) -> Model:
    """DexNet, an AlexNet made smaller: 12,275,101 weights for 200x200x3 pictures and 29 classes."""
    return _dexnet(shape, classes, normalisation, (512, 256), "dexnet_v1")


def dexnet_v2(shape: Shape, classes: int, normalisation: Normalisation) -> Model:
    """DexNet with narrower dense layers: 5,854,621 weights for 200x200x3 pictures and 29 classes."""
    return _dexnet(shape, classes, normalisation, (128, 64), "dexnet_v2")


def _dexnet(shape: Shape, classes: int, normalisation: Normalisation, dense: tuple[int, int], name: str) -> Model:
    def convolution(filters: int, kernel: int, strides: int = 1) -> list[layers.Layer]:
        layer = layers.Conv2D(filters, kernel, strides=strides, activation="relu")
        return [layers.ZeroPadding2D(2), layer]

    return Sequential(
        [
            *_input_layers(shape, normalisation),
            *convolution(96, 11, strides=4),
            layers.MaxPooling2D(3, strides=2),
            *convolution(256, 5),
            layers.MaxPooling2D(3, strides=2),
            *convolution(384, 3),
            *convolution(384, 3),
            *convolution(256, 3),
            layers.MaxPooling2D(3, strides=2),
            layers.Flatten(),
            layers.Dense(dense[0], activation="relu"),
            layers.Dropout(0.5),
            # the published one has no activation here
            layers.Dense(dense[1]),
            layers.Dropout(0.5),
            layers.Dense(classes, activation="softmax"),
        ],
        name=name,
    )


def _three_colors(pixels: Any, shape: Shape) -> Any:
    """Pictures of three channels; grey is taken for three equal colours."""
    colors = layers.Reshape(shape)(pixels)
    return layers.Concatenate()([colors] * 3) if shape[2] == 1 else colors


def resnet50(shape: Shape, classes: int, head: list[int], weights: str) -> Model:
    """ResNet-50 (He et al., 2015) of ``keras.applications``, frozen, with dense ReLU layers on its averaged features.

    The backbone has 23,587,712 weights, and takes its pixels minus ImageNet's means, as its published weights do.

    Args:
        shape: ``(height, width, channels)``, 32 pixels a side at least; grey is taken for three equal colours.
        classes: how many.
        head: units of the dense layers.
        weights: of the backbone, a ``.h5`` file, or ``none``: they are drawn at random.

    Raises:
        TrainingError: the file is none, or not of this network.
    """
    height, width, channels = shape
    pixels = layers.Input((height * width * channels,), dtype="uint8", name="pixels")
    if min(height, width) < MIN_BACKBONE_SIDE:
        raise ValueError(f"{MIN_BACKBONE_SIDE} pixels a side are the least")
    colors = layers.Rescaling(1.0, list(_IMAGENET_OFFSET))(_three_colors(pixels, shape))
    backbone = ResNet50(include_top=False, weights=None, input_tensor=colors, pooling="avg")
    backbone.trainable = False
    if weights != "none":
        _load_backbone(backbone, weights)
    features = backbone.output
    for units in head:
        features = layers.Dense(units, activation="relu")(features)
    return Model(pixels, layers.Dense(classes, activation="softmax")(features), name="resnet50")


def handshape_photo(shape: Shape, classes: int, head: list[int]) -> Model:
    """MediaPipe's hand network, frozen, with dropout and dense ReLU layers on its averaged features.

    The backbone has 2,568,096 weights; see :mod:`models.hand_backbone`.

    Args:
        shape: ``(height, width, channels)``, 32 pixels a side at least, 224 at best; grey is taken for three equal
            colours.
        classes: how many.
        head: units of the dense layers.
    """
    height, width, channels = shape
    pixels = layers.Input((height * width * channels,), dtype="uint8", name="pixels")
    if min(height, width) < MIN_BACKBONE_SIDE:
        raise ValueError(f"{MIN_BACKBONE_SIDE} pixels a side are the least")
    features = hand_features(layers.Rescaling(1 / 255)(_three_colors(pixels, shape)))
    for layer in Model(pixels, features).layers:
        layer.trainable = False
    for units in head:
        features = layers.Dense(units, activation="relu")(layers.Dropout(0.3)(features))
    features = layers.Dropout(0.3)(features)
    return Model(pixels, layers.Dense(classes, activation="softmax")(features), name="handshape_photo")


def unfreeze(model: Model, layer: str) -> None:
    """Train a network from this layer on, but for its normalisations, whose statistics small batches would spoil.

    Raises:
        TrainingError: it has no such layer.
    """
    names = [candidate.name for candidate in model.layers]
    if layer not in names:
        blocks = ", ".join(name for name in names if name.endswith(("_1_conv", "_depthwise")))
        raise TrainingError(f"training.fine_tuning.layer is {layer}; {model.name} has no such layer, but {blocks}")
    for candidate in model.layers[names.index(layer) :]:
        candidate.trainable = not isinstance(candidate, layers.BatchNormalization)


def _load_backbone(backbone: Model, path: str) -> None:
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            there = set(group.keys())
    except OSError as error:
        reason = "no such file" if not os.path.exists(path) else "it is no Keras .h5 file"  # noqa: PTH110
        raise TrainingError(f"network.weights {path}: {reason}") from error
    missing = [layer.name for layer in backbone.layers if layer.weights and layer.name not in there]
    if missing:
        raise TrainingError(f"network.weights {path}: not ResNet-50's, it has no layer {missing[0]}")
    try:
        backbone.load_weights(path, by_name=True)
        first = backbone.get_layer("conv1_conv")
        kernel, bias = first.get_weights()
        # they were trained on blue, green, red
        first.set_weights([kernel[:, :, ::-1], bias])
    except ValueError as error:
        raise TrainingError(f"network.weights {path}: of another shape than ResNet-50's: {error}") from error


NETWORKS: dict[str, Builder] = {
    "baseline": baseline,
    "handshape": handshape,
    "dexnet_v1": dexnet_v1,
    "dexnet_v2": dexnet_v2,
}
