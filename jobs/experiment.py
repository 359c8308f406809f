"""The experiment: every field a job knows, from its file, each also an option of the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveFloat, PositiveInt

from models.settings import BACKBONES, Forest, Network, Optimizer, Search, Training
from preprocessing.settings import Preprocessing, Source, Split

# Of a call, and not of what is trained or searched: they may differ where it goes on.
OF_THE_CALL = (
    "num_proc", "max_restarts", "overwrite", "resume", "store", "run", "data", "tracking", "register", "tensorboard",
    "profile", "training.watches", "study", "trials", "parallel", "trial_processes", "database", "limit", "plateau",
    "retrain",
)  # fmt: skip


def differences(began: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> list[str]:
    """The fields in which an experiment differs from the one that began, each with the value of that one.

    Args:
        began: its fields, those of a part within it.
        now: the same.
        place: the part that they are fields of, with a dot.
    """
    found = []
    for name in sorted(set(began) | set(now)):
        first, second = began.get(name), now.get(name)
        if f"{place}{name}" in OF_THE_CALL:
            continue
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found += differences(first, second, f"{place}{name}.")
        elif first != second:
            found.append(f"{place}{name} {first}")
    return found


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
