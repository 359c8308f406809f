"""The network of a run outside Spark, with the same preprocessing and the same answers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.runs import Run, check_job, read_run
from models.errors import TrainingError
from models.model_settings import NUM_ALTERNATIVES
from models.onnx_network import Predict, check_onnx, read_onnx
from preprocessing.data_settings import Preprocessing, preprocessing_of


@dataclass(frozen=True)
class Answer:
    """The prediction for one picture.

    Args:
        letter: the likeliest class.
        probability: of that class, 0..1.
        next: the next likely classes with their probabilities, the likeliest first.
    """

    letter: str
    probability: float
    next: list[tuple[str, float]]


class Recognizer:
    """A network that predicts on one core.

    It runs in ONNX Runtime, which is as fast as TensorFlow Lite for one picture of 28 x 28 pixels, twice as fast for
    batches and photographs, and several times as fast as TensorFlow.

    Args:
        name: of the run.
        predict: of the network, see :func:`models.onnx_network.read_onnx`.
        class_names: class names in the order of the probabilities.
        preprocessing: of the run's pictures.
        confusion: on the run's test rows, see :class:`models.prediction.Evaluation`.
    """

    def __init__(
        self, name: str, predict: Predict, class_names: list[str], preprocessing: Preprocessing, confusion: np.ndarray
    ) -> None:
        self.name, self.class_names, self.preprocessing, self.confusion = name, class_names, preprocessing, confusion
        self._predict = predict

    @classmethod
    def of_run(cls, folder: Path, path: str | None = None) -> "Recognizer":
        """Load the network of a run directory.

        Args:
            folder: the local folder with the run's files.
            path: the run directory as the user gave it; None: the folder.

        Raises:
            RunError: the path is not a run directory of a network.
            TrainingError: the network cannot be loaded.
        """
        run = read_run(folder, path or str(folder))
        check_job(run, "cnn")
        files = Path(Run(str(folder), run.about, run.metrics).files)
        class_names = json.loads((files / "class_names.json").read_text(encoding="utf-8"))
        settings = preprocessing_of((files / "experiment.yaml").read_text(encoding="utf-8"))
        predict = _read_network(files, settings, class_names)
        return cls(run.name, predict, class_names, settings, np.array(run.metrics["test"]["confusion"]))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """``float32``, shape ``(n, classes)``, for ``uint8`` pixels, shape ``(n, pixels)``; not thread-safe."""
        return self._predict(pixels)

    def answers(self, probabilities: np.ndarray) -> Iterator[Answer]:
        """Yield the answer for each row of probabilities."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : 1 + NUM_ALTERNATIVES]
        for row, class_indices in zip(probabilities, order, strict=True):
            likeliest, *alternatives = [(self.class_names[index], float(row[index])) for index in class_indices]
            yield Answer(*likeliest, alternatives)


def _read_network(files: Path, preprocessing: Preprocessing, class_names: list[str]) -> Predict:
    """The predict function of a run's network.

    Raises:
        TrainingError: it cannot be read, or is not a network of this project.
    """
    path = files / "model.onnx"
    if not path.exists():  # a run of an earlier version
        # these modules import TensorFlow, which takes seconds and 400 MB
        from models.export import to_onnx
        from models.saved_network import load_network

        return read_onnx(to_onnx(load_network(files / "model.keras"), {}))
    try:
        content = path.read_bytes()
        check_onnx(content, int(np.prod(preprocessing.shape)), len(class_names))
        return read_onnx(content)
    except Exception as error:  # ONNX Runtime has no common class of its errors
        raise TrainingError(f"{path}: {error}") from error
