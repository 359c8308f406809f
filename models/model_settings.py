"""An experiment's settings of models. Imports nothing large: the command line is parsed before TensorFlow loads."""

from dataclasses import dataclass, field
from typing import Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt

OptimizerName = Literal["adam", "adamw", "rmsprop", "sgd"]
NetworkName = Literal["baseline", "handshape", "handshape_photo", "dexnet_v1", "dexnet_v2", "resnet50"]
BACKBONES = ("handshape_photo", "resnet50")
# The number of next most likely classes that a prediction lists.
NUM_ALTERNATIVES = 4


@dataclass(frozen=True)
class Network:
    """The network to train.

    Args:
        name: architecture. baseline is the CNN of the published PySpark system, handshape is this project's CNN for
            Sign-MNIST, handshape_photo is this project's network for photographs, dexnet_v1 and dexnet_v2 are smaller
            AlexNets. resnet50 and handshape_photo have a pretrained backbone, frozen at first, below dense layers.
        weights: Keras .h5 file with weights of keras.applications' ResNet50 for the backbone of resnet50, or none for
            random weights.
        head: units of the dense layers between a backbone and the softmax layer.
        average_mirrored: average the probabilities of a picture and of its mirror image, which takes twice as long.
        trainable_from: first layer of a backbone that is trained from the first epoch on, such as hand_116_conv. None:
            the backbone is frozen.
    """

    name: NetworkName = "handshape"
    weights: str = "none"
    head: list[PositiveInt] = field(default_factory=lambda: [512, 256])
    average_mirrored: bool = False
    trainable_from: str | None = None

    def __post_init__(self) -> None:
        if self.trainable_from is not None and self.name not in BACKBONES:
            raise ValueError(
                f"network.trainable_from belongs to {' and '.join(BACKBONES)}, and network.name is {self.name}"
            )
        if self.weights != "none" and self.name != "resnet50":
            raise ValueError(f"network.weights belongs to resnet50, and network.name is {self.name}")


@dataclass(frozen=True)
class Optimizer:
    """The optimizer; all parameters have the same meaning as in Keras.

    Args:
        name: adam, adamw, rmsprop or sgd.
        momentum: momentum of sgd and rmsprop.
        weight_decay: fraction of each weight that is subtracted per step, times the learning rate. None: no decay, or
            Keras's default of 0.004 with adamw.
        epsilon: constant that prevents division by zero in adam, adamw and rmsprop.
    """

    name: OptimizerName = "adam"
    momentum: ClosedUnitInterval = 0.0
    weight_decay: NonNegativeFloat | None = None
    epsilon: PositiveFloat = 1e-7


@dataclass(frozen=True)
class Forest:
    """Hyperparameters of the random forest, as Spark MLlib defines them.

    Args:
        trees: number of trees.
        max_depth: maximum number of splits from root to leaf, 30 at most.
        max_bins: number of thresholds tried per pixel; training time grows with it, as do the statistics.
        min_instances_per_node: minimum number of training rows per leaf.
        feature_subset: number of pixels that a split may choose from: sqrt, log2, onethird, all or auto.
        pca: number of principal components that replace the pixels as features. None: the pixels are used.
    """

    trees: PositiveInt = 100
    max_depth: PositiveInt = 20
    max_bins: PositiveInt = 32
    min_instances_per_node: PositiveInt = 1
    feature_subset: Literal["auto", "all", "sqrt", "log2", "onethird"] = "auto"
    pca: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.max_depth > 30:
            raise ValueError(f"forest.max_depth is {self.max_depth}; Spark MLlib grows 30 levels at most")
        if self.max_bins < 2:
            raise ValueError(f"forest.max_bins is {self.max_bins}; at least 2 are needed")
