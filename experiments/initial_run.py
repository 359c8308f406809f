"""The run whose network is trained further."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import yaml
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from experiments.configuration import NetworkExperiment
from experiments.run_directory import open_runs
from experiments.trained_run import TrainedRun, open_network, open_trained_run
from models.errors import TrainingError
from models.mirroring import weights_without_mirror
from models.model_settings import BACKBONES
from preprocessing.storage import Storage

# Settings of the preprocessing and the network that both trainings must have in common.
_PREPROCESSING = ("size", "crop", "mirror_left_hands", "resize", "color", "normalization")
_NETWORK = ("name", "head")


@dataclass(frozen=True)
class InitialRun:
    """A finished run of a network.

    Args:
        path: the run directory.
        network: the network, whose weights the training begins with.
        run: the run, which predicts with the network as it was.
    """

    path: str
    network: keras.Model
    run: TrainedRun

    def weights(self, model: keras.Model, class_names: list[str]) -> list[np.ndarray]:
        """The weights of the run's network for a network of the same architecture with other classes.

        Args:
            model: the network. Its last layer keeps its weights of the classes that the run does not have.
            class_names: the names of its classes, in the order of its probabilities.
        """
        *weights, kernel, bias = weights_without_mirror(self.network)
        *_, new_kernel, new_bias = model.get_weights()
        for index, name in enumerate(class_names):
            if name in self.run.class_names:
                position = self.run.class_names.index(name)
                new_kernel[:, index], new_bias[index] = kernel[:, position], bias[position]
        return [*weights, new_kernel, new_bias]

    def evaluate(self, images: DataFrame) -> dict[str, Any]:
        """Evaluate the run's network, as it was, on images: the path of the run, and the accuracy."""
        is_correct = (F.col("letter") == F.col("label")).cast("double")
        [accuracy] = self.run.predict(images).agg(F.avg(is_correct).alias("accuracy")).collect()
        return {"path": self.path} | accuracy.asDict()


def read_initial_run(storage: Storage, experiment: NetworkExperiment, path: str) -> InitialRun:
    """Read a run whose network is trained further.

    Raises:
        RunError: the path is not a run directory of a network.
        TrainingError: the run's network or preprocessing differs from the experiment's, or cannot be loaded.
    """
    [run] = open_runs(storage, [path])
    network, _, preprocessing = open_network(storage, run)
    text = storage.read_text(f"{storage.absolute(run.files)}/experiment.yaml")
    earlier_network = yaml.safe_load(text)["network"]
    pairs = [(f"preprocessing.{name}", preprocessing, experiment.preprocessing, name) for name in _PREPROCESSING]
    for option, earlier, current, name in pairs:
        _check_equal(path, option, getattr(earlier, name), getattr(current, name))
    for name in _NETWORK:
        _check_equal(path, f"network.{name}", earlier_network[name], getattr(experiment.network, name))
    if experiment.preprocessing.normalization == "channel" and experiment.network.name not in BACKBONES:
        raise TrainingError(
            f"--from {path}: with preprocessing.normalization channel, {experiment.network.name} would see pixels on"
            " another scale than those that the run has learned from"
        )
    return InitialRun(path, network, open_trained_run(storage, path))


def _check_equal(path: str, option: str, earlier: object, current: object) -> None:
    if earlier != current:
        raise TrainingError(
            f"--from {path}: the run has {option} {earlier}, and this experiment {current}: they must be the same"
        )
