"""A run directory in S3 is complete or not there, at whatever request its job is killed."""

import json
from contextlib import suppress

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from pyspark.sql import SparkSession

from evaluation.runs import RunError
from experiments.run_directory import open_runs, staged_run
from preprocessing.errors import InputError
from preprocessing.storage import Storage
from tests.s3.conftest import BUCKET, Bucket

RUN = f"s3a://{BUCKET}/runs/published"


@pytest.fixture(scope="module")
def storage(spark: SparkSession) -> Storage:
    return Storage(spark)


def publish(storage: Storage, letter: str, overwrite: bool) -> None:
    """Write a run of three files and a folder, all of which hold ``letter``."""
    with staged_run(storage, RUN, overwrite, "cnn") as staged:
        (staged.local / "metrics.json").write_text(json.dumps({"letter": letter}))
        (staged.local / "report.html").write_text(letter)
        (staged.local / "figures").mkdir()
        (staged.local / "figures" / f"{letter}.png").write_text(letter)
        storage.write_text(f"{staged.uri}/class_names.json", json.dumps([letter]))


def published(storage: Storage, bucket: Bucket) -> str | None:
    """The letter of the run; None if there is no run. A run of different letters is an error."""
    try:
        [run] = open_runs(storage, [RUN])
    except RunError:
        return None
    letter = run.metrics["letter"]
    prefix = "runs/published/" + (".new/" if run.files.endswith(".new") else "")
    assert bucket.read(f"{prefix}report.html").decode() == letter
    assert bucket.read(f"{prefix}class_names.json").decode() == json.dumps([letter])
    assert bucket.read(f"{prefix}figures/{letter}.png").decode() == letter
    return letter


def clear(storage: Storage) -> None:
    storage.delete(RUN)


def changes_of(storage: Storage, bucket: Bucket, letter: str, overwrite: bool) -> list[str]:
    """Publish a run, and return the requests that changed something."""
    bucket.gate.changes.clear()
    publish(storage, letter, overwrite)
    return list(bucket.gate.changes)


@pytest.mark.parametrize("old", [None, "A"])
def test_a_killed_job_leaves_the_old_run_or_the_new_one_or_none(
    old: str | None, storage: Storage, bucket: Bucket
) -> None:
    """A killed job sends no further requests; here they are rejected from a certain one on."""
    clear(storage)
    if old:
        publish(storage, old, overwrite=False)
    steps = changes_of(storage, bucket, "B", overwrite=old is not None)
    outcomes = []
    clear(storage)
    if old:
        publish(storage, old, overwrite=False)
    before = bucket.objects()
    for step in range(len(steps) + 1):
        bucket.restore(before)
        bucket.gate.changes.clear()
        bucket.gate.limit = step
        try:
            with suppress(Exception):
                publish(storage, "B", overwrite=old is not None)
        finally:
            bucket.gate.limit = None
        outcomes.append(published(storage, bucket))
        # the same command, with --overwrite, as a killed job leaves its lock
        publish(storage, "B", overwrite=True)
        assert published(storage, bucket) == "B"
        assert not [key for key in bucket.keys("runs/published/") if "/." in key]
        assert ("runs/published/figures/A.png" in bucket.keys("runs/")) is False
    print(
        *(f"{outcome or 'none'} before {step}" for outcome, step in zip(outcomes, [*steps, "the end"], strict=True)),
        sep="\n",
    )
    assert set(outcomes) == {old, "B"}
    # never back to the old one
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == "B")


def test_one_of_two_jobs_is_rejected(storage: Storage, bucket: Bucket) -> None:
    clear(storage)
    with staged_run(storage, RUN, False, "cnn") as staged:
        (staged.local / "metrics.json").write_text("{}")
        with pytest.raises(InputError, match="another job writes this run"):
            publish(storage, "B", overwrite=False)
    [run] = open_runs(storage, [RUN])
    assert run.metrics == {}


def test_a_folder_of_many_objects_is_listed_by_few_requests(storage: Storage, bucket: Bucket) -> None:
    objects = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for number in range(3000):
        objects.put_object(BUCKET, f"pictures/{number % 24}/{number}.jpg", b"")
    bucket.gate.reads.clear()
    assert len({entry.name for entry in storage.walk(f"s3a://{BUCKET}/pictures")}) == 3000
    assert len(bucket.gate.reads) <= 4
