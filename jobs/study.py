"""What jobs of several trainings have in common: each is trained and judged, and all go into one report."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import summarise
from jobs.experiment import NetworkExperiment
from models.calibration import mean_loss
from models.checkpoints import Checkpoints
from models.cnn import NetworkTraining, TrainedNetwork, train
from models.prediction import count_confusions, predict_with_network
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST
from preprocessing.storage import Storage


@dataclass(frozen=True)
class Judged:
    """A trained network and what it reached on the test pictures."""

    trained: TrainedNetwork
    test: dict[str, Any]

    @property
    def kept(self) -> pd.Series:
        """The history's row of the kept epoch."""
        return self.trained.history.iloc[self.trained.best_epoch - 1]


@contextmanager
def study_folder(storage: Storage, experiment: NetworkExperiment) -> Iterator[str]:
    """A folder of the store, absolute, for the time of the job."""
    folder = f"{storage.absolute(experiment.store)}/study-{uuid.uuid4().hex}"
    made = storage.missing_folders(folder)
    storage.make_folder(folder)
    try:
        yield folder
    finally:
        storage.delete(folder)
        for path in made[1:] or [folder.rsplit("/", 1)[0]]:
            storage.delete_empty(path)


def train_and_judge(
    training: NetworkTraining, name: str, folder: str, experiment: NetworkExperiment, prepared: PreparedImages
) -> Judged:
    """Train under ``name``, with checkpoints of its own in ``folder``, and predict the test pictures."""
    training = replace(training, checkpoints=Checkpoints(f"{folder}/checkpoints-{name}"))
    trained = train(training, experiment.num_proc, experiment.max_restarts)
    predictions = predict_with_network(prepared.split(TEST), trained.model, prepared.classes).persist()
    confusions = count_confusions(predictions, prepared.classes)
    confusion = sum(confusions.values(), np.zeros((len(prepared.classes),) * 2, dtype=np.int64))
    test = summarise(confusion, prepared.classes) | {"loss": mean_loss(predictions, prepared.classes)}
    predictions.unpersist()
    print(f"{name}: test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}", flush=True)
    return Judged(trained, test)
