"""The images of a job: the folder it was given, or else the synthetic sample, made on the spot."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.experiment import Experiment
from preprocessing import synthetic
from preprocessing.prepare import PreparedImages, prepare_images
from preprocessing.schema import TEST, TRAIN, VALIDATION
from preprocessing.storage import Storage


@contextmanager
def data_folder(storage: Storage, experiment: Experiment, store: str) -> Iterator[str]:
    """The folder of the CSV files. The synthetic sample lies in ``store``, where every executor sees it, for the time
    of the job."""
    if experiment.data is not None:
        yield storage.absolute(experiment.data.rstrip("/"))
        return
    folder = storage.absolute(f"{store}/synthetic-{uuid.uuid4().hex}")
    with tempfile.TemporaryDirectory() as local:
        synthetic.write_sample(Path(local))
        storage.make_folder(folder)
        try:
            for file in sorted(Path(local).iterdir()):
                storage.upload(file, f"{folder}/{file.name}")
            yield folder
        finally:
            storage.delete(folder)
            storage.delete_empty(folder.rsplit("/", 1)[0])


def source_name(experiment: Experiment) -> str:
    return experiment.data or synthetic.SOURCE


def read_images(spark: SparkSession, storage: Storage, folder: str, experiment: Experiment) -> PreparedImages:
    """Read, cleanse and split, and say what came of it."""
    print(f"reading {source_name(experiment)}", flush=True)
    prepared = prepare_images(
        spark,
        storage,
        folder,
        max_rejected=experiment.max_rejected,
        validation=experiment.preprocessing.validation,
        seed=experiment.seed,
    )
    rows = ", ".join(f"{prepared.rows(split):,} {split}" for split in (TRAIN, VALIDATION, TEST))
    print(f"rows: {rows}, {prepared.rejections.rejected:,} set aside; {len(prepared.classes)} classes", flush=True)
    return prepared
