"""The experiment: all settings of a job. Each field can be set in the experiment's file or as a command-line option."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_type_hints

import yaml
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveFloat, PositiveInt

from models.model_settings import BACKBONES, Forest, Network, Optimizer
from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.labels import OTHERS, class_name
from training.training_settings import Search, Training

# Metadata of fields.
# The field says how a job runs, not what it trains: it may differ when the job is resumed.
RUNTIME = {"runtime": True}
# The value may contain a password and is never written to a file.
SECRET = RUNTIME | {"secret": True}
# The folder of the comparison, beside the run directories of the models.
COMPARISON = "comparison"


def _flag(explanation: str) -> dict[str, Any]:
    """Metadata of an option without a value, which applies to a single call."""
    return RUNTIME | {"flag": explanation}


def _differences(kind: Any, first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    runtime = {entry.name for entry in fields(kind) if entry.metadata.get("runtime")} if is_dataclass(kind) else set()
    changes = []
    for name in sorted((set(first) | set(second)) - runtime):
        old, new = first.get(name), second.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = get_type_hints(kind).get(name) if is_dataclass(kind) else None
            changes += _differences(inner, old, new, f"{prefix}{name}.")
        elif old != new:
            changes.append(f"{prefix}{name} {old}")
    return changes


@dataclass(frozen=True)
class Experiment:
    """The settings that all trainings have in common.

    Args:
        data: folder on any path that Spark reads, with the two CSV files of Sign-MNIST, compressed or not, or with
            photographs in one folder per class. None: a synthetic sample, which the job generates.
        sources: several such folders, each with its own settings for reading; their paths are relative to data, if it
            is given.
        class_names: names of classes in addition to letters, digits, Del, Nothing and Space.
        excluded_classes: classes whose pictures are left out, such as J and Z, which no single picture shows.
        run: run directory to write. None: a directory in runs/ named after the job and the time.
        overwrite: replace an existing run directory, as soon as the new run is complete.
        store: folder for the rows that Horovod's processes read, and for groups of near-duplicates; all executors must
            have access to it.
        seed: random seed of the split, unless split.seed is given, and of the initial weights, the order of rows, the
            augmentation and the trees.
        max_rejected: maximum fraction of rows that may be rejected as unusable; the job stops if there are more.
        fraction: fraction of the training pictures to use.
        preprocessing: conversion of pictures to rows, and of rows to features.
        split: assignment of pictures to training, validation and test set.
    """

    data: str | None = field(default=None, metadata=RUNTIME)
    sources: list[Source] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    excluded_classes: list[str] = field(default_factory=list)
    run: str | None = field(default=None, metadata=RUNTIME)
    overwrite: bool = field(
        default=False, metadata=_flag("replace an existing run directory, and restart an unfinished training")
    )
    store: str = field(default="store", metadata=RUNTIME)
    seed: NonNegativeInt = 0
    max_rejected: ClosedUnitInterval = 0.01
    fraction: ClosedUnitInterval = 1.0
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    split: Split = field(default_factory=Split)

    @property
    def split_seed(self) -> int:
        return int(self.seed if self.split.seed is None else self.split.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as they are in an experiment's file. Flags and secrets have their default values."""
        values = json.loads(json.dumps(asdict(self)))  # converts the number types of jsonargparse to int and float
        for entry in fields(self):
            if entry.metadata.get("flag") or entry.metadata.get("secret"):
                values[entry.name] = entry.default
        return values

    def to_yaml(self) -> str:
        """Return all fields as the text of an experiment's file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def differences(self, earlier: Mapping[str, Any]) -> list[str]:
        """Return the fields in which this experiment differs from an earlier one, each with its earlier value.

        Args:
            earlier: the fields of the earlier experiment, as :meth:`to_dict` returned them.
        """
        current = self.to_dict()
        unknown = sorted(set(earlier) - set(current))
        if unknown:
            return [f"an earlier version of this project, which had the field {unknown[0]}"]
        return _differences(type(self), earlier, current)

    def __post_init__(self) -> None:
        if self.fraction == 0:
            raise ValueError("fraction is 0, which leaves no training pictures; it must be above 0 and at most 1")
        unknown = [name for name in self.excluded_classes if class_name(name, self.class_names) != name]
        if unknown:
            raise ValueError(
                f"excluded_classes has {unknown[0]!r}; classes are A to Z, 0 to 9, {', '.join(OTHERS)}, and class_names"
            )
        titles = [source.title for source in self.sources]
        if len(set(titles)) < len(titles):
            raise ValueError(f"sources: two are called {max(titles, key=titles.count)}; give each a different name")


@dataclass(frozen=True)
class NetworkExperiment(Experiment):
    """The settings of a network trained with Horovod.

    Args:
        num_proc: number of Horovod processes. Each is a Spark task, and all run at the same time.
        max_restarts: maximum number of automatic restarts after the loss of a process or host.
        network: architecture of the network.
        training: hyperparameters of the training.
    """

    num_proc: PositiveInt = field(default=2, metadata=RUNTIME)
    max_restarts: NonNegativeInt = field(default=3, metadata=RUNTIME)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fine_tuning", "augmented_pictures"):
            if getattr(self.training, name) is not None and self.network.name not in BACKBONES:
                raise ValueError(
                    f"training.{name} belongs to {' and '.join(BACKBONES)}, and network.name is {self.network.name}"
                )
        if self.training.augmented_pictures is not None:
            if self.training.fine_tuning is not None:
                raise ValueError("training.augmented_pictures cannot be combined with training.fine_tuning")
            if self.training.balance:
                raise ValueError(
                    "training.augmented_pictures has equally many pictures of each source: leave out training.balance"
                )


@dataclass(frozen=True)
class TrackedExperiment(Experiment):
    """An experiment whose run can be sent to MLflow.

    Args:
        tracking: MLflow tracking URI. None: the value of MLFLOW_TRACKING_URI; if it is not set, the run is not sent to
            MLflow.
        register: name under which MLflow registers the model.
    """

    tracking: str | None = field(default=None, metadata=SECRET)
    register: str | None = field(default=None, metadata=RUNTIME)


@dataclass(frozen=True)
class CnnExperiment(NetworkExperiment, TrackedExperiment):
    """The settings of a single training of a network, which can be resumed after the loss of the driver.

    Args:
        tensorboard: folder for TensorBoard logs, with one subfolder per run. None: no logs are written.
        resume: resume the unfinished training of this run, whose driver was lost. Without one, training starts.
        profile: record some steps, to report where the time of an epoch goes.
        from_run: run directory of a network that is trained further, or pretrained, the network of this project.
            Classes may differ: those of the run keep their weights. None: a new network is trained.
    """

    tensorboard: str | None = field(default=None, metadata=RUNTIME)
    resume: bool = field(default=False, metadata=_flag("resume the unfinished training of this run, if there is one"))
    profile: bool = field(
        default=False, metadata=_flag("record some steps: the report shows where the time of an epoch goes")
    )
    from_run: str | None = None


@dataclass(frozen=True)
class ComparedOptimizer(Optimizer):
    """An optimizer and its learning rate.

    Args:
        learning_rate: learning rate for one process; Horovod multiplies it by the number of processes.
    """

    learning_rate: PositiveFloat = 0.001

    @property
    def settings(self) -> Optimizer:
        return Optimizer(self.name, self.momentum, self.weight_decay, self.epsilon)


@dataclass(frozen=True)
class OptimizersExperiment(NetworkExperiment):
    """The settings of a comparison of optimizers on one network.

    Args:
        optimizers: optimizers to compare, each with its learning rate.
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
            raise ValueError(f"optimizers are {', '.join(names)}; a comparison needs two or more different ones")


@dataclass(frozen=True)
class LearningCurveExperiment(NetworkExperiment):
    """The settings of a learning curve: one network, trained on increasing fractions of the training pictures.

    Args:
        fractions: fractions of the training pictures.
    """

    fractions: list[ClosedUnitInterval] = field(default_factory=lambda: [0.05, 0.1, 0.25, 0.5, 1.0])

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.fractions)) < max(2, len(self.fractions)) or 0 in self.fractions:
            raise ValueError(f"fractions are {self.fractions}; a curve needs two or more different ones, all above 0")


@dataclass(frozen=True)
class CrossValidationExperiment(NetworkExperiment):
    """The settings of a cross-validation that leaves out one source or signer at a time.

    Args:
        by: what each fold leaves out, one source or one signer.
    """

    by: Literal["source", "signer"] = "source"


@dataclass(frozen=True)
class SearchExperiment(NetworkExperiment, TrackedExperiment):
    """The settings of a search for hyperparameters with Optuna.

    Args:
        search: search space and metric.
        study: folder of the study. An existing study is continued.
        trials: total number of trials, including those of earlier calls.
        parallel: number of trials that run at the same time, each as one Spark task.
        trial_processes: number of Horovod processes of each trial; trials then run one at a time. None: each trial is
            one Spark task.
        database: storage URL of Optuna for the study. None: an SQLite file in the study's folder.
        timeout: minutes after which no new trial starts. None: no limit.
        patience: number of trials without a better result after which no new trial starts. None: no limit.
        retrain: train with the best values at the end.
    """

    search: Search = field(default_factory=Search)
    study: str = field(default="runs/study", metadata=RUNTIME)
    trials: PositiveInt = field(default=20, metadata=RUNTIME)
    parallel: PositiveInt = field(default=2, metadata=RUNTIME)
    trial_processes: PositiveInt | None = field(default=None, metadata=RUNTIME)
    database: str | None = field(default=None, metadata=SECRET)
    timeout: PositiveFloat | None = field(default=None, metadata=RUNTIME)
    patience: PositiveInt | None = field(default=None, metadata=RUNTIME)
    retrain: bool = field(
        default=False, metadata=_flag("train with the best values at the end, with Horovod, into --run")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.search.space:
            raise ValueError("search.space is empty: give a range or choices for fields such as training.learning_rate")
        for name in ("fine_tuning", "augmented_pictures"):
            if getattr(self.training, name) is not None and self.trial_processes is None:
                raise ValueError(f"training.{name} in a search needs --trial-processes")
        if self.search.folds is not None and (self.trial_processes is not None or self.training.balance):
            raise ValueError("search.folds cannot be combined with --trial-processes or training.balance")


@dataclass(frozen=True)
class ForestExperiment(TrackedExperiment):
    """The settings of a random forest, which Spark MLlib trains.

    Args:
        forest: hyperparameters of the random forest.
    """

    forest: Forest = field(default_factory=Forest)


@dataclass(frozen=True)
class ComparedModel:
    """A model of a comparison: either a network or a random forest.

    Args:
        name: name of the model, and of its run directory.
        network: architecture of a network. None: the model is a random forest.
        training: hyperparameters of a network's training. None: the default values.
        forest: hyperparameters of a random forest. None: the model is a network.
    """

    name: str
    network: Network | None = None
    training: Training | None = None
    forest: Forest | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(
                f"models: {self.name!r} cannot be the name of a folder: use letters, digits, '_', '-', '.'"
            )
        if (self.network is None) == (self.forest is None):
            raise ValueError(f"models: {self.name} needs either network or forest")
        if self.training is not None and self.network is None:
            raise ValueError(f"models: {self.name} is a random forest, which has no training")


@dataclass(frozen=True)
class ModelsExperiment(Experiment):
    """The settings of a comparison of models, which are trained on the same features and the same split.

    Args:
        num_proc: number of Horovod processes of each network.
        max_restarts: maximum number of automatic restarts of each network's training.
        models: models to train and to compare.
        seeds: random seeds; each model is trained with each of them. None: only seed.
        resume: keep the runs that are finished, and resume an unfinished training.
    """

    num_proc: PositiveInt = field(default=2, metadata=RUNTIME)
    max_restarts: NonNegativeInt = field(default=3, metadata=RUNTIME)
    models: list[ComparedModel] = field(
        default_factory=lambda: [
            ComparedModel("network", Network(), Training(schedule="cosine")),
            ComparedModel("forest", forest=Forest()),
        ]
    )
    seeds: list[NonNegativeInt] | None = None
    resume: bool = field(
        default=False, metadata=_flag("keep the runs that are finished, and resume an unfinished training")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [model.name for model in self.models]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"models are {', '.join(names)}; a comparison needs two or more with different names")
        if COMPARISON in names:
            raise ValueError(f"models: {COMPARISON} is the name of the folder with the comparison")
        if self.seeds is not None and len(set(self.seeds)) < max(1, len(self.seeds)):
            raise ValueError(f"seeds are {self.seeds}; give one or more different ones")
        self.experiments("runs")  # checks the settings of each model

    def experiments(self, folder: str) -> dict[str, list[CnnExperiment | ForestExperiment]]:
        """The trainings of each model, one with each seed, by the model's name.

        Args:
            folder: path of the folder in which each training writes its run directory.
        """
        return {
            model.name: [self._experiment(model, folder, int(seed)) for seed in self.seeds or [self.seed]]
            for model in self.models
        }

    def _experiment(self, model: ComparedModel, folder: str, seed: int) -> CnnExperiment | ForestExperiment:
        suffix = f"-seed-{seed}" if self.seeds is not None and len(self.seeds) > 1 else ""
        shared: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(Experiment)}
        shared |= {"run": f"{folder}/{model.name}{suffix}", "seed": seed}
        shared["split"] = replace(self.split, seed=self.split_seed)
        if model.forest is not None:
            return ForestExperiment(**shared, forest=model.forest)
        assert model.network is not None
        training = model.training or Training()
        return CnnExperiment(
            **shared, num_proc=self.num_proc, max_restarts=self.max_restarts, network=model.network,
            training=training, resume=self.resume,
        )  # fmt: skip
