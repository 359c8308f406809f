"""The convolutional networks, each a function of the picture's shape and the number of classes.

Every network takes raw pixels, ``uint8`` of shape ``(height * width * channels,)`` with values 0..255, and normalizes
them itself. Users of a saved model therefore cannot forget the normalization, and rows need only one byte per pixel
from the store to the network. It returns softmax probabilities, ``float32`` of shape ``(classes,)``.
"""

import os
from collections.abc import Callable
from typing import Any

import h5py
from keras import Model, Sequential, layers
from keras.applications import ResNet50

from models.errors import TrainingError
from models.hand_backbone import hand_features
from models.model_settings import BACKBONES, Network
from preprocessing.normalization import Normalization

Shape = tuple[int, int, int]
MIN_BACKBONE_SIDE = 32
# The negative ImageNet means of red, green and blue (preprocessing of ResNet-50 in keras.applications).
_IMAGENET_OFFSET = (-123.68, -116.779, -103.939)
Builder = Callable[[Shape, int, Normalization], Model]


def build_network(settings: Network, shape: Shape, num_classes: int, normalization: Normalization) -> Model:
    """Build the network of an experiment.

    Args:
        settings: the architecture and its options.
        shape: ``(height, width, channels)`` of a picture.
        num_classes: number of classes.
        normalization: normalization of the pixels; networks with a pretrained backbone ignore it and use their own.

    Raises:
        TrainingError: the pictures are too small for the network, its weights cannot be loaded, or it does not have the
            layer from which on it is to be trained.
    """
    try:
        if settings.name not in BACKBONES:
            return NETWORKS[settings.name](shape, num_classes, normalization)
        if settings.name == "resnet50":
            model = resnet50(shape, num_classes, settings.head, settings.weights)
        else:
            model = handshape_photo(shape, num_classes, settings.head)
    except ValueError as error:
        raise TrainingError(f"network {settings.name} cannot take pictures of {shape}: {error}") from error
    if settings.trainable_from is not None:
        unfreeze(model, settings.trainable_from, "network.trainable_from")
    return model


def _input_layers(shape: Shape, normalization: Normalization) -> list[layers.Layer]:
    height, width, channels = shape
    return [
        layers.InputLayer((height * width * channels,), dtype="uint8", name="pixels"),
        layers.Reshape(shape),
        layers.Rescaling(list(normalization.scale), list(normalization.offset)),
    ]


def baseline(shape: Shape, num_classes: int, normalization: Normalization) -> Model:
    """Build the CNN of the published PySpark and Horovod system: three plain convolutions, no padding, dropout 0.2."""
    return Sequential(
        [
            *_input_layers(shape, normalization),
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
            layers.Dense(num_classes, activation="softmax"),
        ],
        name="baseline",
    )


def handshape(shape: Shape, num_classes: int, normalization: Normalization) -> Model:
    """Build three batch-normalized convolutions and a dense layer (Ioffe and Szegedy, 2015) for 28x28 pictures.

    Training takes seconds. The network has 395,960 parameters for 28x28x1 pictures and 24 classes; 960 of them are
    running statistics and not trained.
    """

    def normalized(layer: layers.Layer) -> list[layers.Layer]:
        # An epoch has only a few hundred steps; with momentum 0.9 the running statistics keep up.
        return [layer, layers.BatchNormalization(momentum=0.9), layers.ReLU()]

    def convolution(filters: int, kernel: int) -> list[layers.Layer]:
        # No bias, because the batch normalization that follows has an offset.
        layer = layers.Conv2D(filters, kernel, padding="same", use_bias=False)
        return [*normalized(layer), layers.MaxPooling2D(2)]

    return Sequential(
        [
            *_input_layers(shape, normalization),
            *convolution(32, 5),
            *convolution(64, 3),
            *convolution(128, 3),
            layers.Flatten(),
            *normalized(layers.Dense(256, use_bias=False)),
            layers.Dropout(0.4),
            layers.Dense(num_classes, activation="softmax"),
        ],
        name="handshape",
    )


def dexnet_v1(shape: Shape, num_classes: int, normalization: Normalization) -> Model:
    """Build DexNet, a smaller AlexNet: 12,275,101 parameters for 200x200x3 pictures and 29 classes."""
    return _dexnet(shape, num_classes, normalization, (512, 256), "dexnet_v1")


def dexnet_v2(shape: Shape, num_classes: int, normalization: Normalization) -> Model:
    """Build DexNet with narrower dense layers: 5,854,621 parameters for 200x200x3 pictures and 29 classes."""
    return _dexnet(shape, num_classes, normalization, (128, 64), "dexnet_v2")


def _dexnet(shape: Shape, num_classes: int, normalization: Normalization, dense: tuple[int, int], name: str) -> Model:
    def convolution(filters: int, kernel: int, strides: int = 1) -> list[layers.Layer]:
        layer = layers.Conv2D(filters, kernel, strides=strides, activation="relu")
        return [layers.ZeroPadding2D(2), layer]

    return Sequential(
        [
            *_input_layers(shape, normalization),
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
            # The published network has no activation here.
            layers.Dense(dense[1]),
            layers.Dropout(0.5),
            layers.Dense(num_classes, activation="softmax"),
        ],
        name=name,
    )


def _three_colors(pixels: Any, shape: Shape) -> Any:
    """Reshape pixels to three-channel pictures; a gray channel is repeated three times."""
    colors = layers.Reshape(shape)(pixels)
    return layers.Concatenate()([colors] * 3) if shape[2] == 1 else colors


def resnet50(shape: Shape, num_classes: int, head: list[int], weights: str) -> Model:
    """Build ResNet-50 (He et al., 2015) of ``keras.applications``, frozen, with dense ReLU layers after its pooling.

    The backbone has 23,587,712 parameters. ImageNet's means are subtracted from its pixels, as its published weights
    require.

    Args:
        shape: ``(height, width, channels)``, at least 32 pixels per side; a gray channel is repeated three times.
        num_classes: number of classes.
        head: units of the dense layers.
        weights: ``.h5`` file with the weights of the backbone, or ``none`` for random weights.

    Raises:
        TrainingError: the file cannot be read, or contains weights of another network.
    """
    height, width, channels = shape
    pixels = layers.Input((height * width * channels,), dtype="uint8", name="pixels")
    if min(height, width) < MIN_BACKBONE_SIDE:
        raise ValueError(f"at least {MIN_BACKBONE_SIDE} pixels per side are needed")
    colors = layers.Rescaling(1.0, list(_IMAGENET_OFFSET))(_three_colors(pixels, shape))
    backbone = ResNet50(include_top=False, weights=None, input_tensor=colors, pooling="avg")
    backbone.trainable = False
    if weights != "none":
        _load_backbone(backbone, weights)
    features = backbone.output
    for units in head:
        features = layers.Dense(units, activation="relu")(features)
    return Model(pixels, layers.Dense(num_classes, activation="softmax")(features), name="resnet50")


def handshape_photo(shape: Shape, num_classes: int, head: list[int]) -> Model:
    """Build MediaPipe's hand network, frozen, with dropout and dense ReLU layers on its averaged features.

    The backbone has 2,568,096 parameters; see :mod:`models.hand_backbone`.

    Args:
        shape: ``(height, width, channels)``, at least 32 pixels per side, ideally 224; a gray channel is repeated
            three times.
        num_classes: number of classes.
        head: units of the dense layers.
    """
    height, width, channels = shape
    pixels = layers.Input((height * width * channels,), dtype="uint8", name="pixels")
    if min(height, width) < MIN_BACKBONE_SIDE:
        raise ValueError(f"at least {MIN_BACKBONE_SIDE} pixels per side are needed")
    features = hand_features(layers.Rescaling(1 / 255)(_three_colors(pixels, shape)))
    for layer in Model(pixels, features).layers:
        layer.trainable = False
    for units in head:
        features = layers.Dense(units, activation="relu")(layers.Dropout(0.3)(features))
    features = layers.Dropout(0.3)(features)
    return Model(pixels, layers.Dense(num_classes, activation="softmax")(features), name="handshape_photo")


def unfreeze(model: Model, layer: str, option: str = "training.fine_tuning.layer") -> None:
    """Make a network trainable from this layer on.

    Batch normalizations are left out, because the statistics of small batches would degrade them.

    Args:
        model: the network.
        layer: the name of the layer.
        option: the option that names the layer, for the message of an error.

    Raises:
        TrainingError: the network does not have this layer.
    """
    names = [candidate.name for candidate in model.layers]
    if layer not in names:
        blocks = ", ".join(name for name in names if name.endswith(("_1_conv", "_depthwise")))
        raise TrainingError(f"{option} is {layer}; {model.name} has no such layer; its blocks start at {blocks}")
    for candidate in model.layers[names.index(layer) :]:
        candidate.trainable = not isinstance(candidate, layers.BatchNormalization)


def _load_backbone(backbone: Model, path: str) -> None:
    try:
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            saved_layers = set(group.keys())
    except OSError as error:
        reason = "no such file" if not os.path.exists(path) else "not a Keras .h5 file"  # noqa: PTH110
        raise TrainingError(f"network.weights {path}: {reason}") from error
    missing = [layer.name for layer in backbone.layers if layer.weights and layer.name not in saved_layers]
    if missing:
        raise TrainingError(f"network.weights {path}: not weights of ResNet-50: layer {missing[0]} is missing")
    try:
        backbone.load_weights(path, by_name=True)
        first_convolution = backbone.get_layer("conv1_conv")
        kernel, bias = first_convolution.get_weights()
        # The published weights were trained on channels in the order blue, green, red.
        first_convolution.set_weights([kernel[:, :, ::-1], bias])
    except ValueError as error:
        raise TrainingError(f"network.weights {path}: its shapes differ from those of ResNet-50: {error}") from error


NETWORKS: dict[str, Builder] = {
    "baseline": baseline,
    "handshape": handshape,
    "dexnet_v1": dexnet_v1,
    "dexnet_v2": dexnet_v2,
}
