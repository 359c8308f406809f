"""The experiment: every field a job knows, from its file, each also an option of the command line."""

import re
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveInt

from models.settings import Forest, Network, Training
from preprocessing.settings import Preprocessing


@dataclass(frozen=True)
class Experiment:
    """What every training has.

    Args:
        data: a folder with Sign-MNIST's two CSV files, packed or not, on any path Spark reads; none: the synthetic
            sample, made on the spot.
        run: the run directory to write; none: one under runs/ with a name made of the job and the time.
        overwrite: replace a run directory that is there, once the new one is whole.
        store: where rows wait for Horovod's processes; every executor has to see it.
        seed: of the split, the first weights, the order of rows, the augmentation and the trees.
        max_rejected: the share of rows that may be set aside as unusable; more stop the job.
        preprocessing: how rows become features.
    """

    data: str | None = None
    run: str | None = None
    overwrite: bool = False
    store: str = "store"
    seed: NonNegativeInt = 0
    max_rejected: ClosedUnitInterval = 0.01
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass(frozen=True)
class CnnExperiment(Experiment):
    """A network trained by Horovod.

    Args:
        num_proc: Horovod processes, each a Spark task; all of them run at the same time.
        max_restarts: how often the training goes on by itself after the loss of a process or host.
        resume: go on with the unfinished training of this run, whose driver was lost; there is none: begin.
        network: which network.
        training: how it is trained.
    """

    num_proc: PositiveInt = 2
    max_restarts: NonNegativeInt = 3
    resume: bool = False
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class ForestExperiment(Experiment):
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
    parser = _Parser(prog=f"spark-submit jobs/{sys.argv[0].rsplit('/', 1)[-1]}", description=description)
    parser.add_argument("--config", action="config", help="an experiment's file, such as conf/sign_mnist.yaml")
    flags = {"overwrite": "replace a run directory that is there, and begin anew what has not finished"}
    if issubclass(kind, CnnExperiment):
        flags["resume"] = "go on with this run's unfinished training, if there is one"
    parser.add_class_arguments(kind, skip=set(flags))
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    parsed: Namespace = parser.parse_args(with_underscores(sys.argv[1:] if arguments is None else arguments))
    del parsed.config
    try:
        experiment: Any = kind(**parser.instantiate_classes(parsed).as_flat().__dict__)
    except ValueError as error:
        parser.error(str(error))
    if getattr(experiment, "resume", False) and experiment.run is None:
        parser.error("--resume needs the --run that has not finished")
    for flag in flags:  # of this call, not of the experiment
        parsed[flag] = False
    return experiment, parser.dump(parsed, skip_unset=False)


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


def with_underscores(arguments: list[str]) -> list[str]:
    """Options may be written ``--num-proc`` as well as ``--num_proc``, the name of the field."""
    options = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        options.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if name[:2] == "--" else argument)
    return options
