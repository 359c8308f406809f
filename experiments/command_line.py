"""The command line: reads an experiment from its file and options, reads the arguments of the other jobs, and reports
errors in a single message."""

import functools
import re
import sys
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt

from experiments.configuration import CnnExperiment, Experiment

# Options, fields and values that have been renamed since earlier versions, with their new names.
RENAMED = {
    "limit": "timeout",
    "plateau": "patience",
    "draw": "num_examples",
    "preprocessing.normalisation": "preprocessing.normalization",
    "training.watches": "training.diagnostics",
    "grey": "gray",
}


class _Parser(ArgumentParser):
    """A parser that shows options with dashes and prints errors as one message without the usage text."""

    def __init__(self, **settings: Any) -> None:
        # an abbreviation could become ambiguous when a field is added, and hides typing errors
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: list[str] | None = None, **settings: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(with_underscores(sys.argv[1:] if args is None else args), **settings)

    def format_help(self, *args: Any) -> str:
        return re.sub(r"--[\w.]+", lambda match: match[0].replace("_", "-"), super().format_help(*args))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = re.sub(r"\s*\n\s*", " ", message.replace("Parser key ", "field "))
        if "is not accepted" in message or "does not accept" in message:
            names = [action.dest for action in self._actions if action.dest not in ("help", "config", "print_config")]
            message += f"; the fields are {', '.join(names)}"
        for old, new in RENAMED.items():
            name = old.rsplit(".", 1)[-1]
            if re.search(rf"unrecognized arguments: .*--{re.escape(old)}\b|'{name}'|value: {name}\b", message):
                message += f"; {old} is now {new}"
        self.exit(2, f"error: {message}\n")


E = TypeVar("E", bound=Experiment)


def parse_experiment(kind: type[E], description: str, arguments: list[str] | None = None) -> E:
    """Parse the command line and the files it names.

    An invalid field or value ends the process with status 2 and one message, which names the field and allowed values.
    """
    parser = _parser(kind, description)
    experiment: Any = _instantiate(parser, kind, parser.parse_args(arguments))
    if getattr(experiment, "resume", False) and experiment.run is None:
        parser.error("--resume needs --run, the name of the unfinished run")
    return experiment


def with_overrides(experiment: Experiment, values: dict[str, Any]) -> CnnExperiment:
    """Return a search's experiment as a single training, with some fields set, such as ``training.learning_rate``.

    An invalid value ends the process as in :func:`parse_experiment`.
    """
    parser = _parser(CnnExperiment, "One training of a search.")
    known = {field.name for field in fields(CnnExperiment)}
    content = {name: value for name, value in experiment.to_dict().items() if name in known}
    for field_name, value in values.items():
        *outer, name = field_name.split(".")
        try:
            functools.reduce(lambda section, key: section[key], outer, content)[name] = value
        except (KeyError, TypeError):
            parser.error(f"{field_name}: there is no such field")
    return _instantiate(parser, CnnExperiment, parser.parse_object(content))


def _parser(kind: type[Experiment], description: str) -> _Parser:
    parser = _Parser(prog=f"spark-submit jobs/{sys.argv[0].rsplit('/', 1)[-1]}", description=description)
    parser.add_argument("--config", action="config", help="experiment file, such as conf/sign_mnist.yaml")
    flags = {field.name: field.metadata["flag"] for field in fields(kind) if field.metadata.get("flag")}
    parser.add_class_arguments(kind, skip=set(flags))
    for name, explanation in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=explanation)
    return parser


def _instantiate(parser: _Parser, kind: type[E], parsed: Namespace) -> E:
    parsed.pop("config", None)
    try:
        return kind(**parser.instantiate_classes(parsed).as_flat().__dict__)
    except ValueError as error:
        parser.error(str(error))


def _add_output(parser: _Parser, default: str) -> None:
    parser.add_argument("--output", type=str, default=default, help="folder to write the results to")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output folder")


@dataclass(frozen=True)
class CompareArguments:
    """Arguments of ``jobs/compare.py``: the runs, and the folder for the comparison."""

    runs: list[str]
    output: str
    overwrite: bool


def parse_compare(arguments: list[str] | None = None) -> CompareArguments:
    parser = _Parser(prog="spark-submit jobs/compare.py", description="Compare runs on the same test set.")
    parser.add_argument("runs", nargs="+", type=str, help="two or more run directories")
    _add_output(parser, "runs/compare")
    parsed = parser.parse_args(arguments)
    names = [run.rstrip("/").rsplit("/", 1)[-1] for run in parsed.runs]
    if len(names) < 2:
        parser.error("give two or more run directories to compare; one was given")
    if len(set(names)) < len(names):
        parser.error(f"the runs need different names, and two are called {max(names, key=names.count)}")
    return CompareArguments(**vars(parsed))


@dataclass(frozen=True)
class TrackArguments:
    """Arguments of ``jobs/track.py``: the run, and where to send it."""

    run: str
    tracking: str | None
    register: str | None


def parse_track(arguments: list[str] | None = None) -> TrackArguments:
    parser = _Parser(prog="spark-submit jobs/track.py", description="Send a finished run directory to MLflow.")
    parser.add_argument("run", type=str, help="run directory")
    parser.add_argument("--tracking", type=str, help="MLflow tracking URI. None: the value of MLFLOW_TRACKING_URI")
    parser.add_argument("--register", type=str, help="name under which the model is registered")
    return TrackArguments(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class PredictArguments:
    """Arguments of ``jobs/predict.py``: the run, the input, and where to write the predictions."""

    run: str
    input: str
    output: str
    num_examples: int
    overwrite: bool


def parse_predict(arguments: list[str] | None = None) -> PredictArguments:
    parser = _Parser(prog="spark-submit jobs/predict.py", description="Predict pictures with a trained run.")
    parser.add_argument("run", type=str, help="run directory of a network or a forest")
    parser.add_argument(
        "input",
        type=str,
        help="CSV file in the format of Sign-MNIST, with or without labels, or a folder of such files; a picture, or a"
        " folder of pictures; or an image table in Parquet",
    )
    _add_output(parser, "runs/predictions")
    parser.add_argument("--num_examples", type=NonNegativeInt, default=0, help="number of predicted pictures to draw")
    return PredictArguments(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class StreamArguments:
    """Arguments of ``jobs/stream.py``: the run, the folder where pictures land, and the folder for the predictions."""

    run: str
    inbox: str
    outbox: str
    once: bool


def parse_stream(arguments: list[str] | None = None) -> StreamArguments:
    parser = _Parser(prog="spark-submit jobs/stream.py", description="Predict pictures as they land in a folder.")
    parser.add_argument("run", type=str, help="run directory of a network or a forest")
    parser.add_argument("inbox", type=str, help="folder in which pictures land")
    parser.add_argument("outbox", type=str, help="folder for the predictions; a stopped job continues from its content")
    parser.add_argument("--once", action="store_true", help="predict the pictures that are in the inbox, and exit")
    return StreamArguments(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class ExportArguments:
    """Arguments of ``jobs/export.py``: the run, the format, and the folder to write to."""

    run: str
    format: str
    output: str
    overwrite: bool


def parse_export(arguments: list[str] | None = None) -> ExportArguments:
    parser = _Parser(prog="spark-submit jobs/export.py", description="Write a trained network in another format.")
    parser.add_argument("run", type=str, help="run directory of a network")
    parser.add_argument("--format", type=Literal["onnx", "tflite", "savedmodel", "keras"], default="onnx")
    _add_output(parser, "runs/export")
    return ExportArguments(**vars(parser.parse_args(arguments)))


def with_underscores(arguments: list[str]) -> list[str]:
    """Replace dashes in option names: ``--num-proc`` is the same option as ``--num_proc``, the name of the field."""
    options = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        options.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name[:2] == "--" else argument)
    return options
