"""A training that has not finished: what it keeps in the store until its run directory is whole."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from jobs.data import CHECKPOINTS, TRAINING, make_store_folder
from jobs.experiment import CnnExperiment, differences
from jobs.run_directory import StagedRun
from models.checkpoints import Checkpoints
from preprocessing.errors import InputError
from preprocessing.prepare import PreparedImages
from preprocessing.publishing import claimed
from preprocessing.storage import Storage


@dataclass(frozen=True)
class UnfinishedRun:
    """A folder of the store, its name made of the run's.

    Args:
        storage: the session's file systems.
        folder: absolute; holds the rows for Horovod and the checkpoints.
        run: the run directory that it becomes, absolute.
        experiment: all of it, as YAML.
        staged: the run in the making; its ``run.json`` names the training.
    """

    storage: Storage
    folder: str
    run: str
    experiment: str
    staged: StagedRun

    @property
    def checkpoints(self) -> str:
        return f"{self.folder}/{CHECKPOINTS}"

    def check_rows(self, prepared: PreparedImages) -> None:
        """Make sure that a training goes on with the rows it began with.

        Raises:
            InputError: these are others.
        """
        state, rows = f"{self.folder}/{TRAINING}", prepared.counted.fingerprint
        if not self.storage.exists(state):
            about = {
                "experiment": self.experiment,
                "rows": rows,
                "run": self.run,
                "token": self.staged.more["training"],
            }
            self.storage.write_text(state, json.dumps(about))
            return
        began = json.loads(self.storage.read_text(state))
        self.staged.more["training"] = began.get("token")
        fields = differences(yaml.safe_load(began["experiment"]), yaml.safe_load(self.experiment))
        if fields:
            raise InputError(
                f"--resume: the training began with {', '.join(fields)}: give the same, or --overwrite to begin anew"
            )
        if began["rows"] != rows:
            raise InputError("--resume: the training began with other rows: give the same --data, or --overwrite")


@contextmanager
def unfinished_run(
    storage: Storage, experiment: CnnExperiment, run: str, text: str, staged: StagedRun
) -> Iterator[UnfinishedRun]:
    """The place of a training's work in progress, deleted when its run is published.

    When the job fails or is interrupted after an epoch has finished, and the user gave the run a name, it stays: the
    same command with ``--resume`` goes on.

    Raises:
        InputError: there is an unfinished training of this name, and neither ``--resume`` nor ``--overwrite``; or the
            store cannot be written.
    """
    target = storage.absolute(run)
    key = hashlib.sha256(target.encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]+", "-", target.rsplit("/", 1)[-1])[:100]
    folder = f"{storage.absolute(experiment.store)}/{name}-{key}"
    staged.more["training"] = uuid.uuid4().hex
    unfinished = UnfinishedRun(storage, folder, target, text, staged)
    if storage.exists(folder):
        if experiment.overwrite and not experiment.resume:
            storage.delete(folder)
        elif not experiment.resume and Checkpoints(unfinished.checkpoints).epochs():
            raise InputError(
                f"{run}: a training of this name has not finished: --resume goes on with it, --overwrite begins anew"
            )
        elif not experiment.resume:  # nothing to go on with
            storage.delete(folder)
    elif experiment.resume:
        print(f"{run}: nothing to resume, this is the beginning", flush=True)
    made = storage.missing_folders(folder)
    make_store_folder(storage, experiment, folder)
    try:
        with claimed(storage, folder, take_over=True):
            yield unfinished
    except BaseException as error:
        kept = Checkpoints(unfinished.checkpoints).epochs() if experiment.run else []
        if kept and not isinstance(error, InputError):
            error.add_note(
                f"{kept[-1]} of {experiment.training.epochs} epochs are kept: the same command with --resume goes on"
            )
        elif not kept:
            storage.delete_made(folder, made)
        raise
    staged.published.append(lambda: storage.delete_made(folder, made))
