"""The images of a job: the folders it was given, or else the synthetic sample, made on the spot."""

import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from evaluation.runs import RUN_FILE
from jobs.experiment import Experiment, ForestExperiment
from jobs.run_directory import read_about
from models.checkpoints import Checkpoints
from preprocessing import synthetic
from preprocessing.errors import InputError
from preprocessing.features_store import stored_images
from preprocessing.prepare import PreparedImages
from preprocessing.publishing import abandoned, claimed
from preprocessing.schema import TEST, TRAIN, VALIDATION
from preprocessing.settings import Source
from preprocessing.sources import Sources
from preprocessing.storage import Storage, reason

# In the folder of a training that can be gone on with: what it is and which run it becomes, and its finished epochs.
TRAINING, CHECKPOINTS = "training.json", "checkpoints"
# Folders of the store that jobs make.
_OURS = re.compile(r"features-[0-9a-f]{16}|(work|study)-[0-9a-f]{32}|.*-[0-9a-f]{8}")


def make_store_folder(storage: Storage, experiment: Experiment, folder: str) -> None:
    """Make an absolute folder of the store.

    Raises:
        InputError: the store cannot be written.
    """
    if "::" in folder:
        raise InputError(f"{folder}: with :: fsspec, which Horovod reads and writes by, chains file systems: rename it")
    try:
        storage.make_folder(folder)
    except Exception as error:
        raise InputError(f"--store {experiment.store}: cannot be written: {reason(error)}") from error


def clean_store(storage: Storage, experiment: Experiment) -> None:
    """Take away what killed jobs have left in the store, but trainings that can be gone on with."""
    store = storage.absolute(experiment.store)
    if not storage.is_folder(store):
        return
    for name in filter(_OURS.fullmatch, storage.children(store)):
        folder = f"{store}/{name}"
        if storage.exists(f"{folder}/{RUN_FILE}"):
            continue
        with abandoned(folder) as is_left:
            kept = Checkpoints(f"{folder}/{CHECKPOINTS}").epochs() if is_left else []
            # with its run published, and the job killed before it could clean up
            if (is_left and not kept) or _is_published(storage, folder):
                storage.delete(folder)


def _is_published(storage: Storage, folder: str) -> bool:
    """Whether the folder's training has become a run."""
    if not storage.exists(f"{folder}/{TRAINING}"):
        return False
    try:
        training = json.loads(storage.read_text(f"{folder}/{TRAINING}"))
        token, run = training["token"], training["run"]
    except (ValueError, KeyError, TypeError):  # of an earlier version, or damaged
        return False
    return bool(token == read_about(storage, run).get("training"))


@contextmanager
def working_folder(storage: Storage, experiment: Experiment, folder: str) -> Iterator[None]:
    """Make a folder of the store, absolute, for the time of the job.

    Raises:
        InputError: the store cannot be written.
    """
    made = storage.missing_folders(folder)
    try:
        make_store_folder(storage, experiment, folder)
        with claimed(storage, folder):
            yield
    finally:
        storage.delete_made(folder, made)


@contextmanager
def open_sources(storage: Storage, experiment: Experiment, store: str) -> Iterator[Sources]:
    """What the job reads. The synthetic sample, and what is put down on the way, lie in ``store``, where every executor
    sees them, for the time of the job.

    Raises:
        InputError: the store cannot be written.
    """
    work = storage.absolute(f"{store}/work-{uuid.uuid4().hex}")
    with working_folder(storage, experiment, work):
        yield Sources(
            _source_folders(storage, experiment, work),
            work,
            experiment.preprocessing,
            experiment.split,
            experiment.classes,
            experiment.max_rejected,
            experiment.fraction,
            experiment.seed,
            experiment.forest.pca if isinstance(experiment, ForestExperiment) else None,
        )


def _source_folders(storage: Storage, experiment: Experiment, work: str) -> dict[Source, str]:
    """Where each source lies, absolute."""
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
    """What figures and reports call the data."""
    if experiment.sources:
        return " and ".join(source.title for source in experiment.sources)
    return experiment.data or synthetic.SOURCE


def read_images(spark: SparkSession, storage: Storage, sources: Sources, experiment: Experiment) -> PreparedImages:
    """Read, cleanse and split, or find it done in the store, and say what came of it."""
    print(f"reading {source_name(experiment)}", flush=True)
    store = None if is_synthetic(experiment) else storage.absolute(experiment.store)
    prepared = stored_images(spark, storage, sources, store)
    rows = ", ".join(f"{prepared.rows(split):,} {split}" for split in (TRAIN, VALIDATION, TEST))
    print(f"rows: {rows}, {prepared.rejections.rejected:,} set aside; {len(prepared.classes)} classes", flush=True)
    for note in prepared.notes:
        print(note, flush=True)
    for source, counts in prepared.balance.items():
        parts = " + ".join(f"{count:,} {name}" for name, count in counts.items() if name != "read" and count)
        print(f"{source}: {counts['read']:,} rows read = {parts}", flush=True)
    if prepared.rejections.reasons:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in prepared.rejections.reasons.items())
        print(f"set aside: {reasons}", flush=True)
    for split, found in prepared.near_copies["now"].items():
        if found["near_copies"]:
            print(
                f"{found['near_copies']:,} of {found['pictures']:,} {split} pictures have a near-copy in training",
                flush=True,
            )
    return prepared


@contextmanager
def drawing(prepared: PreparedImages, folder: Path, source: str) -> Iterator[None]:
    """Draw what is to be seen of the data alone while the block trains: the driver has nothing else to do.

    The charts go into ``folder``, a picture of each class into ``samples`` beside it.
    """

    def draw() -> None:
        from PIL import Image

        from evaluation import figures  # brings Matplotlib, which takes a second
        from evaluation.figures import Picture

        # one of each class, for who serves the run
        (folder.parent / "samples").mkdir()
        for label, group in prepared.samples.items():
            Image.fromarray(group[0].squeeze()).save(folder.parent / f"samples/{label}.png")
        pictures = [Picture(pixels, label) for label, group in prepared.samples.items() for pixels in group]
        charts = {
            "class_distribution": figures.class_distribution(prepared.counts),
            "samples": figures.picture_grid(pictures, "Labelled training pictures"),
        }
        figures.save_figures(charts.items(), folder, source)

    with ThreadPoolExecutor() as pool:
        drawn = pool.submit(draw)
        yield
        drawn.result()
