"""Each file in an inbox is predicted once or quarantined with a reason, whatever its name and content."""

import json
import os
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from preprocessing.data_settings import Preprocessing
from preprocessing.decoding import MAX_BYTES
from preprocessing.storage import Storage
from serving.inbox import Inbox
from serving.stream import PictureStream

NAMES = ("10:30:05.png", "_DSC0001.PNG", "test[1].png", "hand=1.png", "é 手 🎈.png", "a,b*?#%41.png", "deep/er/a.png")
LONG_NAME = "x" * 247 + ".png"


def predict(rows: DataFrame) -> DataFrame:
    """Replaces the network: every picture is an A."""
    probabilities = F.array(F.lit(0.75), F.lit(0.25)).cast("array<float>").alias("probabilities")
    return rows.select("id", "source", "label", F.lit("A").alias("letter"), probabilities)


def run(spark: SparkSession, storage: Storage, inbox: Path, outbox: Path) -> pd.DataFrame:
    stream = PictureStream(spark, storage, f"file://{inbox}", f"file://{outbox}", predict, ["A", "B"], Preprocessing())
    notes = Inbox(storage, stream.inbox, stream.notes)
    query = stream.start(0.1)
    try:
        while any(notes.look()):
            time.sleep(0.1)
        query.processAllAvailable()
    finally:
        query.stop()
    assert not stream.failures
    return pd.read_parquet(outbox / "predictions")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in [1], {a} é #"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28)).save(folder / name)
    return folder


def age_files(inbox: Path) -> None:
    """Set the modification time of all files to an hour ago, so that they count as complete."""
    for file in inbox.rglob("*"):
        if file.is_file():
            os.utime(file, (time.time() - 3600,) * 2)


def test_pictures_of_any_name_are_predicted_once(
    spark: SparkSession, storage: Storage, inbox: Path, tmp_path: Path
) -> None:
    age_files(inbox)
    answers = run(spark, storage, inbox, tmp_path / "out [1] #")
    assert sorted(answers["id"]) == sorted(NAMES)
    assert answers["letter"].eq("A").all()
    assert len(run(spark, storage, inbox, tmp_path / "out [1] #")) == len(NAMES)
    assert not (tmp_path / "out [1] #/quarantine").exists()


def test_other_files_are_quarantined_and_the_pictures_are_predicted(
    spark: SparkSession, storage: Storage, inbox: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_text("private to the service")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/b.png").write_text("private to the service")
    (inbox / "link.png").symlink_to(secret)
    (inbox / "linked folder").symlink_to(tmp_path / "folder")
    with (inbox / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (inbox / LONG_NAME).write_text("no picture, with a name that has no room for an ending")
    (inbox / "empty.png").touch()
    os.mkfifo(inbox / "pipe.png")
    age_files(inbox)
    time.sleep(1.1)  # links cannot be aged
    answers = run(spark, storage, inbox, tmp_path / "out")
    assert sorted(answers["id"]) == sorted(NAMES)
    quarantine = tmp_path / "out/quarantine"
    reasons = {file.name: json.loads(file.read_text())["reason"] for file in quarantine.glob("*.json")}
    [long_name] = (name for name in reasons if name.endswith("xxx.png.json"))
    assert reasons == {
        "link.png.json": "a link",
        "linked folder.json": "a link",
        "huge.png.json": "too large a file",
        "empty.png.json": "empty file",
        "pipe.png.json": "not a file",
        long_name: "not a picture",
    }
    assert not [file for file in quarantine.iterdir() if file.is_symlink() or b"private" in file.read_bytes()]


def test_files_outside_the_inbox_cannot_be_changed_through_it(
    spark: SparkSession, storage: Storage, inbox: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "keys").write_text("the service's own")
    (inbox / "d").symlink_to(home)
    time.sleep(1.1)
    age_files(inbox)
    run(spark, storage, inbox, tmp_path / "out")
    (inbox / "d").unlink()
    for name in ("d/keys", "d/x", "x"):
        (inbox / name).parent.mkdir(exist_ok=True)
        (inbox / name).write_text("the attacker's")
    age_files(inbox)
    run(spark, storage, inbox, tmp_path / "out")
    assert {file.name: file.read_text() for file in home.iterdir()} == {"keys": "the service's own"}
    quarantined = [json.loads(file.read_text())["id"] for file in (tmp_path / "out/quarantine").glob("*.json")]
    assert sorted(quarantined) == ["d", "d/keys", "d/x", "x"]
