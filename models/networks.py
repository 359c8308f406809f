"""The convolutional networks, each a function of the picture's shape and the number of classes.

Every network takes raw pixels, ``uint8`` of shape ``(height * width * channels,)`` with values 0..255, and scales them
by 1/255 itself: who loads the model cannot forget it, and a row stays one byte a pixel all the way from the store.
It returns softmax probabilities, ``float32`` of shape ``(classes,)``.
"""

from collections.abc import Callable

from keras import Model, Sequential, layers

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], Model]


def _input_layers(shape: Shape) -> list[layers.Layer]:
    height, width, channels = shape
    return [
        layers.InputLayer((height * width * channels,), dtype="uint8", name="pixels"),
        layers.Rescaling(1 / 255),
        layers.Reshape(shape),
    ]


def baseline(shape: Shape, classes: int) -> Model:
    """The CNN of the published PySpark and Horovod system: three plain convolutions, no padding, dropout 0.2."""
    return Sequential(
        [
            *_input_layers(shape),
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


def handshape(shape: Shape, classes: int) -> Model:
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
            *_input_layers(shape),
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


NETWORKS: dict[str, Builder] = {"baseline": baseline, "handshape": handshape}
