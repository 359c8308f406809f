"""The arguments of the jobs that use finished runs."""

from dataclasses import dataclass, field
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt

_OVERWRITE: dict[str, Any] = {"flag": "replace an existing output folder"}


@dataclass(frozen=True)
class CompareArguments:
    """Arguments of jobs/compare.py.

    Args:
        runs: run directories, two or more.
        output: folder to write the results to.
        overwrite: replace an existing output folder.
    """

    runs: list[str] = field(metadata={"several": "two or more run directories"})
    output: str = "runs/compare"
    overwrite: bool = field(default=False, metadata=_OVERWRITE)

    def __post_init__(self) -> None:
        names = [run.rstrip("/").rsplit("/", 1)[-1] for run in self.runs]
        if len(names) < 2:
            raise ValueError("give two or more run directories to compare; one was given")
        if len(set(names)) < len(names):
            raise ValueError(f"the runs need different names, and two are called {max(names, key=names.count)}")


@dataclass(frozen=True)
class ExportArguments:
    """Arguments of jobs/export.py.

    Args:
        run: run directory of a network.
        format: file format to write.
        output: folder to write the results to.
        overwrite: replace an existing output folder.
    """

    run: str
    format: Literal["onnx", "tflite", "savedmodel", "keras"] = "onnx"
    output: str = "runs/export"
    overwrite: bool = field(default=False, metadata=_OVERWRITE)


@dataclass(frozen=True)
class EvaluateArguments:
    """Arguments of jobs/evaluate.py.

    Args:
        run: run directory of a network or a forest.
        inputs: folders of pictures, one folder per class in each, or CSV files in the format of Sign-MNIST.
        output: folder to write the results to.
        num_examples: number of mistakes to draw of each input.
        overwrite: replace an existing output folder.
    """

    run: str
    inputs: list[str] = field(metadata={"several": "folders of labeled pictures, one or more"})
    output: str = "runs/evaluation"
    num_examples: NonNegativeInt = 24
    overwrite: bool = field(default=False, metadata=_OVERWRITE)

    def __post_init__(self) -> None:
        if len(self.named_inputs) < len(self.inputs):
            raise ValueError("the inputs need different names: two of them are called the same")

    @property
    def named_inputs(self) -> dict[str, str]:
        """The inputs by their names, which are those of their files and folders."""
        return {path.rstrip("/").rsplit("/", 1)[-1]: path for path in self.inputs}


@dataclass(frozen=True)
class PredictArguments:
    """Arguments of jobs/predict.py.

    Args:
        run: run directory of a network or a forest.
        input: CSV file in the format of Sign-MNIST, with or without labels, or a folder of such files; a picture, or a
            folder of pictures; or an image table in Parquet.
        output: folder to write the results to.
        num_examples: number of predicted pictures to draw.
        overwrite: replace an existing output folder.
    """

    run: str
    input: str
    output: str = "runs/predictions"
    num_examples: NonNegativeInt = 0
    overwrite: bool = field(default=False, metadata=_OVERWRITE)


@dataclass(frozen=True)
class StreamArguments:
    """Arguments of jobs/stream.py.

    Args:
        run: run directory of a network or a forest.
        inbox: folder in which pictures land.
        outbox: folder for the predictions; a stopped job continues from its content.
        once: predict the pictures that are in the inbox, and exit.
    """

    run: str
    inbox: str
    outbox: str
    once: bool = field(default=False, metadata={"flag": "predict the pictures that are in the inbox, and exit"})


@dataclass(frozen=True)
class TrackArguments:
    """Arguments of jobs/track.py.

    Args:
        run: run directory.
        tracking: MLflow tracking URI. None: the value of MLFLOW_TRACKING_URI.
        register: name under which the model is registered.
    """

    run: str
    tracking: str | None = None
    register: str | None = None
