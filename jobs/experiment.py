"""The experiment: every field a job knows, from its file, each also an option of the command line."""

import functools
import re
import sys
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveFloat, PositiveInt

from models.settings import BACKBONES, Forest, Network, Optimizer, Search, Training
from preprocessing.settings import Preprocessing, Source, Split


@dataclass(frozen=True)
class Experiment:
    """What every training has.

    Args:
        data: a folder on any path Spark reads, with Sign-MNIST's two CSV files, packed or not, or of photographs, a
            folder a class; none: the synthetic sample, made on the spot.
        sources: several such folders, each with its own reading; their paths lie under data, if that is given.
        classes: names of classes beyond letters, digits, Del, Nothing and Space.
        run: the run directory to write; none: one under runs/ with a name made of the job and the time.
        overwrite: replace a run directory that is there, once the new one is whole.
        store: where rows wait for Horovod's processes, and groups of near-copies; every executor has to see it.
        seed: of the split, the first weights, the order of rows, the augmentation and the trees.
        max_rejected: the share of rows that may be set aside as unusable; more stop the job.
        fraction: the share of the training pictures that is used.
        preprocessing: how pictures become rows, and rows features.
        split: which pictures train, choose the epoch, and judge.
    """

    data: str | None = None
    sources: list[Source] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    run: str | None = None
    overwrite: bool = False
    store: str = "store"
    seed: NonNegativeInt = 0
    max_rejected: ClosedUnitInterval = 0.01
    fraction: ClosedUnitInterval = 1.0
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    split: Split = field(default_factory=Split)

    def __post_init__(self) -> None:
        if self.fraction == 0:
            raise ValueError("fraction is 0; nothing would be left to train on: more than 0, 1 at most")
        titles = [source.title for source in self.sources]
        if len(set(titles)) < len(titles):
            raise ValueError(f"sources: two are called {max(titles, key=titles.count)}: give each a name of its own")


@dataclass(frozen=True)
class NetworkExperiment(Experiment):
    """A network trained by Horovod.

    Args:
        num_proc: Horovod processes, each a Spark task; all of them run at the same time.
        max_restarts: how often the training goes on by itself after the loss of a process or host.
        network: which network.
        training: how it is trained.
    """

    num_proc: PositiveInt = 2
    max_restarts: NonNegativeInt = 3
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.fine_tuning is not None and self.network.name not in BACKBONES:
            raise ValueError(
                f"training.fine_tuning belongs to {' and '.join(BACKBONES)}, and network.name is {self.network.name}"
            )


@dataclass(frozen=True)
class Tracked:
    """A run that can be handed on to MLflow.

    Args:
        tracking: MLflow's tracking URI; none: MLFLOW_TRACKING_URI's, and where there is none, the run directory is all.
        register: a name under which MLflow registers the model.
    """

    tracking: str | None = None
    register: str | None = None


@dataclass(frozen=True)
class CnnExperiment(NetworkExperiment, Tracked):
    """A network trained by Horovod, through the loss of the driver.

    Args:
        tensorboard: a folder for TensorBoard's logs, with a folder for this run; none: they are not written.
        resume: go on with the unfinished training of this run, whose driver was lost; there is none: begin.
        profile: record some steps, and say where an epoch's time goes.
    """

    tensorboard: str | None = None
    resume: bool = False
    profile: bool = False


@dataclass(frozen=True)
class ComparedOptimizer(Optimizer):
    """An optimizer and its learning rate.

    Args:
        learning_rate: for one process; Horovod multiplies it by the number of processes.
    """

    learning_rate: PositiveFloat = 0.001

    @property
    def settings(self) -> Optimizer:
        return Optimizer(self.name, self.momentum, self.weight_decay, self.epsilon)


@dataclass(frozen=True)
class OptimizersExperiment(NetworkExperiment):
    """One network trained with several optimizers.

    Args:
        optimizers: each with its learning rate.
    """

    optimizers: list[ComparedOptimizer] = field(
        default_factory=lambda: [
            ComparedOptimizer("sgd", momentum=0.9, learning_rate=0.01),
            ComparedOptimizer("rmsprop"),
            ComparedOptimizer("adam"),
            ComparedOptimizer("adamw"),
        ]
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [optimizer.name for optimizer in self.optimizers]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"optimizers are {', '.join(names)}; two or more different ones are compared")


@dataclass(frozen=True)
class LearningCurveExperiment(NetworkExperiment):
    """One network trained on more and more of the training pictures.

    Args:
        fractions: the shares of them.
    """

    fractions: list[ClosedUnitInterval] = field(default_factory=lambda: [0.05, 0.1, 0.25, 0.5, 1.0])

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.fractions)) < max(2, len(self.fractions)) or 0 in self.fractions:
            raise ValueError(f"fractions are {self.fractions}; two or more different ones, above 0, make a curve")


@dataclass(frozen=True)
class CrossValidationExperiment(NetworkExperiment):
    """One network trained without one source or signer in turn.

    Args:
        by: what is left out.
    """

    by: Literal["source", "signer"] = "source"


@dataclass(frozen=True)
class SearchExperiment(NetworkExperiment, Tracked):
    """One network trained with many values of its hyperparameters, which Optuna chooses.

    Args:
        search: what is searched, and what for.
        study: the folder of the study, which goes on where it was left off.
        trials: how many there are in the end, those of earlier starts among them.
        parallel: trials at the same time, each a Spark task of its own.
        trial_processes: Horovod processes of each trial, one trial after the other; none: a trial is a task.
        database: of the study, as Optuna's storage URL; none: SQLite in the study's folder.
        limit: minutes after which no further trial begins; none: there is no limit.
        plateau: no further trial begins when the best has stayed for so many; none: they do.
        retrain: train with the best values in the end.
    """

    search: Search = field(default_factory=Search)
    study: str = "runs/study"
    trials: PositiveInt = 20
    parallel: PositiveInt = 2
    trial_processes: PositiveInt | None = None
    database: str | None = None
    limit: PositiveFloat | None = None
    plateau: PositiveInt | None = None
    retrain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.search.space:
            raise ValueError("search.space is empty: give a range or choices for fields such as training.learning_rate")
        if self.training.fine_tuning is not None and self.trial_processes is None:
            raise ValueError("training.fine_tuning in a search needs --trial-processes")
        if self.search.folds is not None and (self.trial_processes is not None or self.training.balance):
            raise ValueError("search.folds has trials of one process, without training.balance")


@dataclass(frozen=True)
class ForestExperiment(Experiment, Tracked):
    """A random forest grown by Spark MLlib.

    Args:
        forest: how it is grown.
    """

    forest: Forest = field(default_factory=Forest)


class _Parser(ArgumentParser):
    """Options shown with dashes, errors in one message without the usage before it."""

    def __init__(self, **settings: Any) -> None:
        # an abbreviation that works today is another field's name, or a slip, tomorrow
        super().__init__(allow_abbrev=False, **settings)

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
    parsed: Namespace = parser.parse_args(with_underscores(sys.argv[1:] if arguments is None else arguments))
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


@dataclass(frozen=True)
class CompareArguments:
    """What ``jobs/compare.py`` is given: the runs, and where the comparison goes."""

    runs: list[str]
    output: str
    overwrite: bool


def parse_compare(arguments: list[str] | None = None) -> CompareArguments:
    parser = _Parser(prog="spark-submit jobs/compare.py", description="Compare runs that have one test set.")
    parser.add_argument("runs", nargs="+", type=str, help="two or more run directories")
    parser.add_argument("--output", type=str, default="runs/compare", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that is there")
    parsed = parser.parse_args(with_underscores(sys.argv[1:] if arguments is None else arguments))
    names = [run.rstrip("/").rsplit("/", 1)[-1] for run in parsed.runs]
    if len(names) < 2:
        parser.error("two or more run directories are compared, one was given")
    if len(set(names)) < len(names):
        parser.error(f"the runs are told apart by their names, and two are called {max(names, key=names.count)}")
    return CompareArguments(parsed.runs, parsed.output, parsed.overwrite)


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
    parsed = parser.parse_args(with_underscores(sys.argv[1:] if arguments is None else arguments))
    return TrackArguments(parsed.run, parsed.tracking, parsed.register)


def with_underscores(arguments: list[str]) -> list[str]:
    """Options may be written ``--num-proc`` as well as ``--num_proc``, the name of the field."""
    options = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        options.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name[:2] == "--" else argument)
    return options
