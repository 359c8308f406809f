"""The network of a run outside Spark, with the same preprocessing and the same answers."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.runs import Run, check_job, read_run
from models.errors import TrainingError
from models.model_settings import NUM_ALTERNATIVES
from models.onnx_network import Outputs, load_onnx, read_onnx_with_features
from preprocessing.data_settings import Preprocessing, preprocessing_of
from serving.examples import Example, Examples


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
        predict: of the network, see :func:`models.onnx_network.read_onnx_with_features`.
        class_names: class names in the order of the probabilities.
        preprocessing: of the run's pictures.
        confusion: on the run's test rows, see :class:`models.prediction.Evaluation`.
    """

    def __init__(
        self,
        name: str,
        predict: Callable[[np.ndarray], Outputs],
        class_names: list[str],
        preprocessing: Preprocessing,
        confusion: np.ndarray,
    ) -> None:
        self.name, self.class_names, self.preprocessing, self.confusion = name, class_names, preprocessing, confusion
        self._predict, self._examples = predict, Examples.of((), class_names)

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
        content = load_onnx(files, int(np.prod(settings.shape)), len(class_names))
        try:
            predict = read_onnx_with_features(content)
        except Exception as error:  # ONNX Runtime has no common class of its errors
            raise TrainingError(f"{files / 'model.onnx'}: {error}") from error
        return cls(run.name, predict, class_names, settings, np.array(run.metrics["test"]["confusion"]))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """``float32``, shape ``(n, classes)``, for ``uint8`` pixels, shape ``(n, pixels)``."""
        return self._examples.blend(self._predict(pixels))

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """``float32``, shape ``(n, features)``, what the last layer computes the probabilities from."""
        return self._predict(pixels).features

    def learn(self, examples: Iterable[Example]) -> None:
        """Answer with regard to these examples, instead of earlier ones."""
        self._examples = Examples.of(examples, self.class_names)

    def answers(self, probabilities: np.ndarray) -> Iterator[Answer]:
        """Yield the answer for each row of probabilities."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : 1 + NUM_ALTERNATIVES]
        for row, class_indices in zip(probabilities, order, strict=True):
            likeliest, *alternatives = [(self.class_names[index], float(row[index])) for index in class_indices]
            yield Answer(*likeliest, alternatives)
