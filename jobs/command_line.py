"""The command line: an experiment from its file and its options, what other jobs are given, and one message for what is
wrong."""

import functools
import re
import sys
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt

from jobs.experiment import CnnExperiment, Experiment


class _Parser(ArgumentParser):
    """Options shown with dashes, errors in one message without the usage before it."""

    def __init__(self, **settings: Any) -> None:
        # an abbreviation that works today is another field's name, or a slip, tomorrow
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: list[str] | None = None, **settings: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(with_underscores(sys.argv[1:] if args is None else args), **settings)

    def format_help(self, *arguments: Any) -> str:
        return re.sub(r"--[\w.]+", lambda option: option[0].replace("_", "-"), super().format_help(*arguments))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = re.sub(r"\s*\n\s*", " ", message.replace("Parser key ", "field "))
        if "is not accepted" in message or "does not accept" in message:
            fields = [action.dest for action in self._actions if action.dest not in ("help", "config", "print_config")]
            message += f"; the fields are {', '.join(fields)}"
        self.exit(2, f"error: {message}\n")


E = TypeVar("E", bound=Experiment)


def parse_experiment(kind: type[E], description: str, arguments: list[str] | None = None) -> tuple[E, str]:
    """Read the command line and the files it names.

    A wrong field or value ends the process with status 2 and one message, which names the field and what is allowed.

    Returns:
        The experiment, and all of it as YAML.
    """
    parser = _parser(kind, description)
    parsed: Namespace = parser.parse_args(arguments)
    experiment: Any = _instantiate(parser, kind, parsed)
    if getattr(experiment, "resume", False) and experiment.run is None:
        parser.error("--resume needs the --run that has not finished")
    return experiment, _as_text(parser, parsed)


def with_values(text: str, values: dict[str, Any]) -> tuple[CnnExperiment, str]:
    """The training of a search's experiment with these values of its fields, such as ``training.learning_rate``.

    A value that is not allowed ends the process as :func:`parse_experiment` does.

    Returns:
        The experiment, and all of it as YAML.
    """
    parser = _parser(CnnExperiment, "One training of a search.")
    known = {field.name for field in fields(CnnExperiment)}
    content = {name: value for name, value in yaml.safe_load(text).items() if name in known}
    for place, value in values.items():
        *outer, name = place.split(".")
        try:
            functools.reduce(lambda inner, step: inner[step], outer, content)[name] = value
        except (KeyError, TypeError):
            parser.error(f"{place}: there is no such field")
    parsed: Namespace = parser.parse_object(content)
    return _instantiate(parser, CnnExperiment, parsed), _as_text(parser, parsed)


_FLAGS = {
    "overwrite": "replace a run directory that is there, and begin anew what has not finished",
    "resume": "go on with this run's unfinished training, if there is one",
    "profile": "record some steps, for the report to say where an epoch's time goes",
    "retrain": "train with the best values in the end, with Horovod, into --run",
}


def _parser(kind: type[Experiment], description: str) -> _Parser:
    parser = _Parser(prog=f"spark-submit jobs/{sys.argv[0].rsplit('/', 1)[-1]}", description=description)
    parser.add_argument("--config", action="config", help="an experiment's file, such as conf/sign_mnist.yaml")
    flags = [flag for flag in _FLAGS if flag in {field.name for field in fields(kind)}]
    parser.add_class_arguments(kind, skip=set(flags))
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true", help=_FLAGS[flag])
    return parser


def _instantiate(parser: _Parser, kind: type[E], parsed: Namespace) -> E:
    parsed.pop("config", None)
    try:
        return kind(**parser.instantiate_classes(parsed).as_flat().__dict__)
    except ValueError as error:
        parser.error(str(error))


def _as_text(parser: _Parser, parsed: Namespace) -> str:
    for flag in _FLAGS:  # of this call, not of the experiment
        if flag in parsed:
            parsed[flag] = False
    for place in ("tracking", "database"):  # nor are these, which may hold a password
        if place in parsed:
            parsed[place] = None
    return parser.dump(parsed, skip_unset=False)


def _add_output(parser: _Parser, default: str) -> None:
    parser.add_argument("--output", type=str, default=default, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that is there")


@dataclass(frozen=True)
class CompareArguments:
    """What ``jobs/compare.py`` is given: the runs, and where the comparison goes."""

    runs: list[str]
    output: str
    overwrite: bool


def parse_compare(arguments: list[str] | None = None) -> CompareArguments:
    parser = _Parser(prog="spark-submit jobs/compare.py", description="Compare runs that have one test set.")
    parser.add_argument("runs", nargs="+", type=str, help="two or more run directories")
    _add_output(parser, "runs/compare")
    parsed = parser.parse_args(arguments)
    names = [run.rstrip("/").rsplit("/", 1)[-1] for run in parsed.runs]
    if len(names) < 2:
        parser.error("two or more run directories are compared, one was given")
    if len(set(names)) < len(names):
        parser.error(f"the runs are told apart by their names, and two are called {max(names, key=names.count)}")
    return CompareArguments(**vars(parsed))


@dataclass(frozen=True)
class TrackArguments:
    """What ``jobs/track.py`` is given: the run, and where it is sent."""

    run: str
    tracking: str | None
    register: str | None


def parse_track(arguments: list[str] | None = None) -> TrackArguments:
    parser = _Parser(prog="spark-submit jobs/track.py", description="Send a finished run directory to MLflow.")
    parser.add_argument("run", type=str, help="the run directory")
    parser.add_argument("--tracking", type=str, help="MLflow's tracking URI; none: MLFLOW_TRACKING_URI's")
    parser.add_argument("--register", type=str, help="a name under which the model is registered")
    return TrackArguments(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class PredictArguments:
    """What ``jobs/predict.py`` is given: the run, what it is asked about, and where the answers go."""

    run: str
    input: str
    output: str
    draw: int
    overwrite: bool


def parse_predict(arguments: list[str] | None = None) -> PredictArguments:
    parser = _Parser(prog="spark-submit jobs/predict.py", description="Predict pictures with a trained run.")
    parser.add_argument("run", type=str, help="the run directory, of a network or a forest")
    parser.add_argument(
        "input",
        type=str,
        help="a CSV file in Sign-MNIST's form, with labels or without, or a folder of them; a picture, or a folder of"
        " pictures; or an image table in Parquet",
    )
    _add_output(parser, "runs/predictions")
    parser.add_argument("--draw", type=NonNegativeInt, default=0, help="so many pictures are drawn with their answers")
    return PredictArguments(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class StreamArguments:
    """What ``jobs/stream.py`` is given: the run, where pictures land, and where the answers go."""

    run: str
    inbox: str
    outbox: str
    once: bool


def parse_stream(arguments: list[str] | None = None) -> StreamArguments:
    parser = _Parser(prog="spark-submit jobs/stream.py", description="Predict pictures as they land in a folder.")
    parser.add_argument("run", type=str, help="the run directory, of a network or a forest")
    parser.add_argument("inbox", type=str, help="the folder in which pictures land")
    parser.add_argument("outbox", type=str, help="the folder for the answers, where it goes on if it was ended")
    parser.add_argument("--once", action="store_true", help="predict what is there now, and end")
    return StreamArguments(**vars(parser.parse_args(arguments)))


@dataclass(frozen=True)
class ExportArguments:
    """What ``jobs/export.py`` is given: the run, the format, and where it goes."""

    run: str
    format: str
    output: str
    overwrite: bool


def parse_export(arguments: list[str] | None = None) -> ExportArguments:
    parser = _Parser(prog="spark-submit jobs/export.py", description="Write a trained network in another format.")
    parser.add_argument("run", type=str, help="the run directory of a network")
    parser.add_argument("--format", type=Literal["onnx", "tflite", "savedmodel", "keras"], default="onnx")
    _add_output(parser, "runs/export")
    return ExportArguments(**vars(parser.parse_args(arguments)))


def with_underscores(arguments: list[str]) -> list[str]:
    """Options may be written ``--num-proc`` as well as ``--num_proc``, the name of the field."""
    options = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        options.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name[:2] == "--" else argument)
    return options
