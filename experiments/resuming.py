"""Unfinished trainings: what a training keeps in the store until its run directory is published."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from experiments.configuration import CnnExperiment
from experiments.data import CHECKPOINTS, TRAINING, make_store_folder
from experiments.logs import LOGGER
from experiments.run_directory import StagedRun
from preprocessing.errors import InputError
from preprocessing.prepare import PreparedImages
from preprocessing.publishing import claimed
from preprocessing.storage import Storage
from training.checkpoints import Checkpoints


@dataclass(frozen=True)
class UnfinishedRun:
    """The state of an unfinished training, in a folder of the store that is named after the run.

    Args:
        storage: the session's file systems.
        folder: absolute path of the folder, which holds the rows for Horovod and the checkpoints.
        run: absolute path of the run directory.
        experiment: settings of the training.
        staged: the run directory in progress; its ``run.json`` will hold the token of the training.
    """

    storage: Storage
    folder: str
    run: str
    experiment: CnnExperiment
    staged: StagedRun

    @property
    def checkpoints(self) -> str:
        return f"{self.folder}/{CHECKPOINTS}"

    def is_of_this_application(self) -> bool:
        """Whether the driver has trained before, and YARN has started it again since it was lost."""
        path = f"{self.folder}/{TRAINING}"
        if self.storage.application is None or not self.storage.exists(path):
            return False
        return bool(json.loads(self.storage.read_text(path)).get("application") == self.storage.application)

    def check_rows(self, prepared: PreparedImages) -> None:
        """Check that a resumed training has the same experiment and rows as before.

        Raises:
            InputError: the experiment or the rows have changed.
        """
        path, rows = f"{self.folder}/{TRAINING}", prepared.counted.fingerprint
        if not self.storage.exists(path):
            state = {
                "experiment": self.experiment.to_yaml(),
                "rows": rows,
                "run": self.run,
                "token": self.staged.extra_fields["training"],
                "application": self.storage.application,
            }
            self.storage.write_text(path, json.dumps(state))
            return
        state = json.loads(self.storage.read_text(path))
        self.staged.extra_fields["training"] = state.get("token")
        fields = self.experiment.differences(yaml.safe_load(state["experiment"]))
        if fields:
            raise InputError(
                f"--resume: the training began with {', '.join(fields)}: give the same, or --overwrite to start over"
            )
        if state["rows"] != rows:
            raise InputError("--resume: the training began with other rows: give the same --data, or --overwrite")


@contextmanager
def unfinished_run(storage: Storage, experiment: CnnExperiment, run: str, staged: StagedRun) -> Iterator[UnfinishedRun]:
    """Create the folder of a training's state, and delete it when its run has been published.

    The folder stays if the job fails or is interrupted after an epoch has finished, and the user gave the run a name:
    the same command with ``--resume`` then continues the training.

    Args:
        storage: the session's file systems.
        experiment: settings of the training.
        run: path of the run directory.
        staged: the run directory in progress.

    Raises:
        InputError: there is an unfinished training of this name, and neither ``--resume`` nor ``--overwrite`` was
            given; or the store cannot be written.
    """
    target = storage.absolute(run)
    key = hashlib.sha256(target.encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]+", "-", target.rsplit("/", 1)[-1])[:100]
    folder = f"{storage.absolute(experiment.store)}/{name}-{key}"
    staged.extra_fields["training"] = uuid.uuid4().hex
    unfinished = UnfinishedRun(storage, folder, target, experiment, staged)
    if storage.exists(folder):
        resumes = experiment.resume or unfinished.is_of_this_application()
        if experiment.overwrite and not resumes:
            storage.delete(folder)
        elif not resumes and Checkpoints(unfinished.checkpoints).epochs():
            raise InputError(
                f"{run}: a training of this name has not finished: --resume continues it, --overwrite starts over"
            )
        elif not resumes:  # no epoch has finished
            storage.delete(folder)
    elif experiment.resume:
        LOGGER.info(f"{run}: nothing to resume, this is the beginning")
    created = storage.missing_folders(folder)
    make_store_folder(storage, experiment, folder)
    try:
        with claimed(storage, folder, take_over=True):
            yield unfinished
    except BaseException as error:
        try:
            epochs = Checkpoints(unfinished.checkpoints).epochs() if experiment.run else []
            if epochs and not isinstance(error, InputError):
                error.add_note(
                    f"{epochs[-1]} of {experiment.training.epochs} epochs are kept:"
                    " the same command with --resume continues the training"
                )
            elif not epochs:
                storage.delete_made(folder, created)
        except Exception as second_error:  # the first one says what happened
            LOGGER.debug(f"{folder}: {second_error}")
        raise
    staged.on_published.append(lambda: storage.delete_made(folder, created))
