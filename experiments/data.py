"""The images of a job: the folders given by the user, or a synthetic sample, which the job generates."""

import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyspark.sql import SparkSession

from evaluation.runs import RUN_FILE
from experiments.configuration import Experiment, ForestExperiment
from experiments.logs import LOGGER
from experiments.run_directory import read_run_json
from preprocessing import synthetic
from preprocessing.data_settings import Source
from preprocessing.errors import InputError
from preprocessing.features_store import stored_images
from preprocessing.file_systems import open_url
from preprocessing.prepare import PreparedImages
from preprocessing.publishing import abandoned, claimed
from preprocessing.schema import TEST, TRAIN, VALIDATION
from preprocessing.sources import Sources
from preprocessing.storage import Storage, reason
from training.checkpoints import Checkpoints

# Contents of the folder of an unfinished training: its description with the path of its run, and its finished epochs.
TRAINING, CHECKPOINTS = "training.json", "checkpoints"
# Names of the folders that jobs create in the store.
_JOB_FOLDERS = re.compile(r"features-[0-9a-f]{16}|(work|study)-[0-9a-f]{32}|.*-[0-9a-f]{8}")


def make_store_folder(storage: Storage, experiment: Experiment, folder: str) -> None:
    """Create a folder in the store.

    Args:
        storage: the session's file systems.
        experiment: the experiment, whose ``store`` is named in errors.
        folder: absolute path of the folder.

    Raises:
        InputError: the store cannot be written, or the name of the folder cannot be used.
    """
    open_url(folder)
    unsupported = [characters for characters in ("?", "#") if characters in folder and not folder.startswith("file:")]
    if unsupported:
        raise InputError(f"--store {experiment.store}: {unsupported[0]} would end the name of the folder: rename it")
    try:
        storage.make_folder(folder)
    except Exception as error:
        raise InputError(f"--store {experiment.store}: cannot be written: {reason(error)}") from error


def clean_store(storage: Storage, experiment: Experiment) -> None:
    """Delete what killed jobs have left in the store, except for trainings that can be resumed."""
    store = storage.absolute(experiment.store)
    if not storage.is_folder(store):
        return
    for name in filter(_JOB_FOLDERS.fullmatch, storage.children(store)):
        folder = f"{store}/{name}"
        if storage.exists(f"{folder}/{RUN_FILE}"):
            continue
        with abandoned(folder) as is_abandoned:
            epochs = Checkpoints(f"{folder}/{CHECKPOINTS}").epochs() if is_abandoned else []
            # a training is published but still here if its job was killed before it could clean up
            if (is_abandoned and not epochs) or _is_published(storage, folder):
                storage.delete(folder)


def _is_published(storage: Storage, folder: str) -> bool:
    """Whether the run of the folder's training has been published."""
    if not storage.exists(f"{folder}/{TRAINING}"):
        return False
    try:
        training = json.loads(storage.read_text(f"{folder}/{TRAINING}"))
        token, run = training["token"], training["run"]
    except (ValueError, KeyError, TypeError):  # written by an earlier version, or damaged
        return False
    return bool(token == read_run_json(storage, run).get("training"))


@contextmanager
def working_folder(storage: Storage, experiment: Experiment, folder: str) -> Iterator[None]:
    """Create a folder in the store, given by its absolute path, and delete it at the end of the block.

    Raises:
        InputError: the store cannot be written.
    """
    created = storage.missing_folders(folder)
    try:
        make_store_folder(storage, experiment, folder)
        with claimed(storage, folder):
            yield
    finally:
        storage.delete_made(folder, created)


@contextmanager
def open_sources(storage: Storage, experiment: Experiment, store: str) -> Iterator[Sources]:
    """Yield the sources that the job reads.

    The synthetic sample and temporary files are in ``store``, to which every executor has access, until the block ends.

    Raises:
        InputError: the store cannot be written.
    """
    work = storage.absolute(f"{store}/work-{uuid.uuid4().hex}")
    with working_folder(storage, experiment, work):
        yield Sources(
            _source_folders(storage, experiment, work),
            work,
            experiment.preprocessing,
            replace(experiment.split, seed=None),
            experiment.class_names,
            experiment.excluded_classes,
            experiment.max_rejected,
            experiment.fraction,
            experiment.split_seed,
            experiment.forest.pca if isinstance(experiment, ForestExperiment) else None,
        )


def _source_folders(storage: Storage, experiment: Experiment, work: str) -> dict[Source, str]:
    """The absolute path of each source."""
    data = (experiment.data.rstrip("/") or "/") if experiment.data is not None else None
    if experiment.sources:
        prefix = f"{data}/" if data else ""
        return {source: storage.absolute(prefix + source.path.rstrip("/")) for source in experiment.sources}
    if data is not None:
        return {Source(data): storage.absolute(data)}
    folder = f"{work}/synthetic"
    with tempfile.TemporaryDirectory() as local:
        synthetic.write_sample(Path(local))
        storage.make_folder(folder)
        for file in sorted(Path(local).iterdir()):
            storage.upload(file, f"{folder}/{file.name}")
    return {Source(synthetic.SOURCE): folder}


def is_synthetic(experiment: Experiment) -> bool:
    return experiment.data is None and not experiment.sources


def source_name(experiment: Experiment) -> str:
    """The name of the data in figures and reports."""
    if experiment.sources:
        return " and ".join(source.title for source in experiment.sources)
    return experiment.data or synthetic.SOURCE


def read_images(spark: SparkSession, storage: Storage, sources: Sources, experiment: Experiment) -> PreparedImages:
    """Read, cleanse and split the images, or load the result from the store, and print the numbers of rows."""
    LOGGER.info(f"reading {source_name(experiment)}")
    store = None if is_synthetic(experiment) else storage.absolute(experiment.store)
    prepared = stored_images(spark, storage, sources, store)
    LOGGER.debug(f"prepared images: {prepared.folder or 'not in the store'}")
    rows = ", ".join(f"{prepared.rows(split):,} {split}" for split in (TRAIN, VALIDATION, TEST))
    LOGGER.info(f"rows: {rows}, {prepared.rejections.rejected:,} rejected; {len(prepared.class_names)} classes")
    for note in prepared.notes:
        LOGGER.info(note)
    for source, counts in prepared.balance.items():
        parts = " + ".join(f"{count:,} {name}" for name, count in counts.items() if name != "read" and count)
        LOGGER.info(f"{source}: {counts['read']:,} rows read = {parts}")
    if prepared.rejections.reasons:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in prepared.rejections.reasons.items())
        LOGGER.info(f"rejected: {reasons}")
    for split, counts in prepared.near_duplicates["split"].items():
        if counts["near_duplicates"]:
            LOGGER.info(
                f"{counts['near_duplicates']:,} of {counts['pictures']:,} {split} pictures"
                " have a near-duplicate in training"
            )
    return prepared


@contextmanager
def data_charts(prepared: PreparedImages, folder: Path, source: str) -> Iterator[None]:
    """Draw the charts of the data while the block trains, as the driver is idle during that time.

    Charts are written to ``folder``, and a picture of each class to the folder ``samples`` next to it.
    """

    def draw() -> None:
        from PIL import Image

        from evaluation import figures  # imports Matplotlib, which takes a second
        from evaluation.figures import Picture

        # the server of a run shows one picture per class
        (folder.parent / "samples").mkdir()
        for label, group in prepared.samples.items():
            Image.fromarray(group[0].squeeze()).save(folder.parent / f"samples/{label}.png")
        pictures = [Picture(pixels, label) for label, group in prepared.samples.items() for pixels in group]
        charts = {
            "class_distribution": figures.class_distribution(prepared.counts),
            "samples": figures.picture_grid(pictures, "Labeled training pictures"),
        }
        figures.save_figures(charts.items(), folder, source)

    with ThreadPoolExecutor() as pool:
        future = pool.submit(draw)
        yield
        future.result()
