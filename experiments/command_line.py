"""The command line: reads experiments and the arguments of the other jobs, and runs a job with its exit status and a
single message for an error."""

import functools
import io
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from types import FrameType
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace

from experiments.configuration import CnnExperiment, Experiment
from experiments.logs import LOGGER, configure_logging

# Options, fields and values that have been renamed since earlier versions, with their new names.
RENAMED = {
    "limit": "timeout",
    "plateau": "patience",
    "draw": "num_examples",
    "preprocessing.normalisation": "preprocessing.normalization",
    "training.watches": "training.diagnostics",
    "classes": "class_names",
    "grey": "gray",
}
# Options whose field has a longer name, because the option's name is a keyword of Python.
ALIASES = {"--from": "--from_run"}
# Options that are no fields of an experiment.
NO_FIELDS = ("help", "config", "print_config", "verbose")


class _Parser(ArgumentParser):
    """A parser that shows options with dashes and prints errors as one message without the usage text."""

    def __init__(self, **settings: Any) -> None:
        # an abbreviation could become ambiguous when a field is added, and hides typing errors
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: list[str] | None = None, **settings: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(with_underscores(sys.argv[1:] if args is None else args), **settings)

    def format_help(self, *args: Any) -> str:
        names = {field: option for option, field in ALIASES.items()}
        text = super().format_help(*args)
        return re.sub(r"--[\w.]+", lambda match: names.get(match[0], match[0]).replace("_", "-"), text)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message = re.sub(r"\s*\n\s*", " ", message.replace("Parser key ", "field "))
        if "is not accepted" in message or "does not accept" in message:
            names = [action.dest for action in self._actions if action.dest not in NO_FIELDS]
            message += f"; the fields are {', '.join(names)}"
        for old, new in RENAMED.items():
            name = old.rsplit(".", 1)[-1]
            if re.search(rf"unrecognized arguments: .*--{re.escape(old)}\b|'{name}'|value: {name}\b", message):
                message += f"; {old} is now {new}"
        if _is_kernel():
            raise JobError(message)
        LOGGER.error(message)
        self.exit(2)


E = TypeVar("E", bound=Experiment)
K = TypeVar("K")


def parse_experiment(kind: type[E], description: str, arguments: list[str] | None = None) -> E:
    """Parse the command line and the files it names.

    An invalid field or value ends the process with status 2 and one message, which names the field and allowed values.
    """
    parser = _parser(kind, description)
    parser.add_argument("--config", action="config", help="experiment file, such as conf/sign_mnist.yaml")
    experiment: Any = _instantiate(parser, kind, parser.parse_args(arguments))
    if getattr(experiment, "resume", False) and experiment.run is None:
        parser.error("--resume needs --run, the name of the unfinished run")
    return experiment


def parse_arguments(kind: type[K], description: str, arguments: list[str] | None = None) -> K:
    """Parse the command line of a job that uses finished runs, see :mod:`experiments.arguments`.

    An invalid value ends the process as in :func:`parse_experiment`.
    """
    parser = _parser(kind, description)
    return _instantiate(parser, kind, parser.parse_args(arguments))


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


def _parser(kind: Any, description: str) -> _Parser:
    """A parser whose options are the fields of a dataclass; fields without a default are positional arguments."""
    configure_logging()
    parser = _Parser(prog=f"spark-submit jobs/{sys.argv[0].rsplit('/', 1)[-1]}", description=description)
    parser.add_argument("--verbose", action="store_true", help="print more about what the job does")
    flags = {field.name: field.metadata["flag"] for field in fields(kind) if "flag" in field.metadata}
    several = {field.name: field.metadata["several"] for field in fields(kind) if "several" in field.metadata}
    parser.add_class_arguments(kind, as_positional=True, skip={*flags, *several})
    for name, explanation in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=explanation)
    for name, explanation in several.items():
        parser.add_argument(name, nargs="+", type=str, help=explanation)
    return parser


def _instantiate(parser: _Parser, kind: type[K], parsed: Namespace) -> K:
    parsed.pop("config", None)
    configure_logging(verbose=parsed.pop("verbose"))
    try:
        return kind(**parser.instantiate_classes(parsed).as_flat().__dict__)
    except ValueError as error:
        parser.error(str(error))


def with_underscores(arguments: list[str]) -> list[str]:
    """Replace dashes in option names: ``--num-proc`` is the same option as ``--num_proc``, the name of the field."""
    options = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name[:2] == "--":
            name = name.replace("-", "_").replace("__", "--", 1)
            argument = ALIASES.get(name, name) + equals + value
        options.append(argument)
    return options


def _print_thread_error(args: threading.ExceptHookArgs) -> None:
    """Print an exception of a thread, except in Horovod's thread that waits for Spark: the job reports that failure."""
    from py4j.protocol import Py4JError

    if not issubclass(args.exc_type, Py4JError):
        threading.__excepthook__(args)


class JobError(RuntimeError):
    """A job has failed. Only raised in a kernel of IPython, see :func:`run_job`."""


def run_job(job: Callable[[], None]) -> None:
    """Run a job's ``main`` and exit, with status 0, or with status 1 and one message for errors in input or cluster.

    SIGTERM has the same effect as Ctrl-C, so that incomplete results are deleted.

    In a kernel of IPython, as on Databricks, the process lives on: the function returns, and its signals are unchanged.

    Raises:
        JobError: the job has failed in a kernel of IPython, which would not take an exit status for a failure.
    """
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark.errors import PySparkException

    from evaluation.runs import RunError
    from experiments.session import SessionError
    from models.errors import TrainingError
    from preprocessing.errors import InputError
    from preprocessing.java import reason

    configure_logging()
    if not _is_kernel():
        _set_up_process()
    try:
        job()
    except (InputError, RunError, SessionError, TrainingError) as error:
        _fail(str(error), error)
    except KeyboardInterrupt as error:
        _fail("interrupted, no run was written", error)
    except OSError as error:  # such as a full disk
        _fail(str(error), error)
    except (Py4JJavaError, PySparkException) as error:
        _fail(f"Spark: {reason(error)}", error)
    except Py4JError as error:
        _fail("Spark has ended", error)
    if not _is_kernel():
        sys.exit(0)


def _is_kernel() -> bool:
    """Whether this is a process of IPython, which runs one job after the other."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _set_up_process() -> None:
    """Set what belongs to the whole process: its output, its signals and the errors of its threads."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        raise KeyboardInterrupt

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # a shell that starts the job in the background makes it ignore SIGINT
    threading.excepthook = _print_thread_error


def _fail(message: str, error: BaseException) -> NoReturn:
    LOGGER.debug("the cause of the error", exc_info=error)
    message = "; ".join([message, *getattr(error, "__notes__", [])])
    LOGGER.error(message)
    if _is_kernel():
        raise JobError(message) from error
    sys.exit(1)
