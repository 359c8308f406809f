"""A run's network outside Spark: the same preprocessing, the same answers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.runs import check_job, read_run
from models.export import read_onnx, to_onnx
from models.saved_network import load_network
from models.settings import RUNNERS_UP
from preprocessing.settings import Preprocessing, preprocessing_of


@dataclass(frozen=True)
class Answer:
    """What a picture shows.

    Args:
        letter: the likeliest class.
        probability: of it, 0..1.
        next: the next likely classes with their probabilities, the likeliest first.
    """

    letter: str
    probability: float
    next: list[tuple[str, float]]


class Recogniser:
    """A network that answers on one core.

    It runs in ONNX Runtime: for one picture of 28 pixels' side as fast as TensorFlow Lite, for batches and photographs
    twice as fast, and several times as fast as TensorFlow.

    Args:
        name: the run's.
        network: as ONNX.
        classes: in the order of the probabilities.
        preprocessing: of the run's pictures.
        confusion: on the run's test rows, see :class:`models.prediction.Judged`.
    """

    def __init__(
        self, name: str, network: bytes, classes: list[str], preprocessing: Preprocessing, confusion: np.ndarray
    ) -> None:
        self.name, self.classes, self.preprocessing, self.confusion = name, classes, preprocessing, confusion
        self._predict = read_onnx(network)

    @classmethod
    def of_run(cls, path: Path) -> "Recogniser":
        """That of a network's run directory.

        Raises:
            RunError: it is none.
            TrainingError: the network cannot be loaded.
        """
        run = read_run(path, str(path))
        check_job(run, "cnn")
        files = Path(run.files)
        network = to_onnx(load_network(files / "model.keras"), {})
        classes = json.loads((files / "classes.json").read_text(encoding="utf-8"))
        settings = preprocessing_of((files / "experiment.yaml").read_text(encoding="utf-8"))
        return cls(run.name, network, classes, settings, np.array(run.metrics["test"]["confusion"]))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """``float32`` of shape ``(n, classes)`` for ``uint8`` pixels of shape ``(n, pixels)``; one caller at a time."""
        return self._predict(pixels)

    def answers(self, probabilities: np.ndarray) -> Iterator[Answer]:
        """What each row of probabilities says."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : 1 + RUNNERS_UP]
        for row, places in zip(probabilities, order, strict=True):
            first, *others = [(self.classes[place], float(row[place])) for place in places]
            yield Answer(*first, others)
