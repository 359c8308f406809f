"""Folders of photographs become the image table, on real Spark."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.errors import InputError
from preprocessing.prepare import PreparedImages, prepare_images
from preprocessing.storage import Storage
from tests.pictures import photograph, write_pictures
from tests.preprocessing.conftest import sources

SETTINGS = Preprocessing(size=32, color="rgb")


def prepare(
    spark: SparkSession, storage: Storage, folder: Path | dict[Source, str], pattern: str | None = None, **settings: Any
) -> PreparedImages:
    folders = folder if isinstance(folder, dict) else {Source("x", "photographs", pattern): folder.as_uri()}
    return prepare_images(spark, storage, sources(spark, folders, **({"preprocessing": SETTINGS} | settings)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "photos/train", "ABC", 20)
    write_pictures(tmp_path / "photos/test", "ABC", 4, seed=1)
    return tmp_path / "photos"


def test_train_and_test_folders_are_the_splits_and_class_folders_the_labels(
    spark: SparkSession, storage: Storage, folder: Path
) -> None:
    (folder / "train/A").rename(folder / "train/a")
    prepared = prepare(spark, storage, folder)
    assert prepared.counts == {
        "train": dict.fromkeys("ABC", 18),
        "validation": dict.fromkeys("ABC", 2),
        "test": dict.fromkeys("ABC", 4),
    }
    assert prepared.sources == {"photographs": {"train": 54, "validation": 6, "test": 12}}
    assert prepared.shape == (32, 32, 3)
    row = prepared.images.head()
    assert row is not None
    assert (len(row["pixels"]), row["height"], row["width"], row["channels"]) == (3072, 32, 32, 3)


def test_one_folder_is_split_by_the_fractions_of_the_experiment_the_same_for_any_partitions(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "all", "AB", 30)
    split = Split(validation=0.2, test=0.1)
    prepared = prepare(spark, storage, tmp_path / "all", split=split)
    assert {name: sum(rows.values()) for name, rows in prepared.counts.items()} == {
        "train": 42, "validation": 12, "test": 6,
    }  # fmt: skip
    spark.conf.set("spark.sql.files.maxPartitionBytes", "4500000")
    try:
        again = prepare(spark, storage, tmp_path / "all", split=split)
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    assert again.counted == prepared.counted


def test_excluded_classes_are_left_out_and_counted(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
    write_pictures(tmp_path / "all", "ABC", 10)
    prepared = prepare(spark, storage, tmp_path / "all", excluded_classes=["B", "C"])
    assert prepared.class_names == ["A"]
    assert prepared.balance["photographs"] == {"read": 30, "used": 10, "rejected": 0, "left out": 20}


def test_the_hands_of_photographs_are_columns_and_are_counted(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for label in ("L", "Y", "Nothing"):
        for number in range(12):
            path = tmp_path / f"all/{label}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            hands = [] if label == "Nothing" or (label, number) == ("Y", 3) else [(label, 200, (20 * number, 50))]
            clean = np.asarray(photograph(*hands, size=(480, 320)))
            noisy = clean + rng.integers(0, 4, clean.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    prepared = prepare(spark, storage, tmp_path / "all", split=Split(validation=0.2, test=0.2))
    rows = dict(list(prepared.images.toPandas().groupby("label")))
    found = {label: int((group["hand_confidence"] > 0).sum()) for label, group in rows.items()}
    assert found["L"] > 6
    assert found["Nothing"] == 0
    assert prepared.counted.hands == {
        "photographs": {label: {"searched": 12, "found": count} for label, count in found.items()}
    }
    [note] = [note for note in prepared.notes if "hand" in note]
    assert note.startswith(f"photographs: a hand was found in {found['L'] + found['Y']} of 24 photographs; ")
    hand = rows["L"][rows["L"]["hand_confidence"] > 0].iloc[0]
    assert (len(hand["hand_box"]), len(hand["landmarks"])) == (4, 63)
    assert 0 <= hand["handedness"] <= 1
    assert rows["Nothing"][["handedness", "hand_box", "landmarks"]].isna().all(axis=None)


def test_broken_files_are_rejected_with_a_reason(spark: SparkSession, storage: Storage, folder: Path) -> None:
    good = folder / "train/A/A1.png"
    content = good.read_bytes()
    broken = {
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "cut.png": content[: len(content) // 2],
    }
    for name, data in broken.items():
        (folder / "train/A" / name).write_bytes(data)
    Image.new("1", (20_000, 20_000)).save(folder / "train/A/bomb.png")
    Image.new("L", (1, 1)).save(folder / "train/A/pixel.png")
    shutil.copy(good, folder / "train/A/copy.png")
    shutil.copy(folder / "train/B/B0.png", folder / "train/C/other.png")
    prepared = prepare(spark, storage, folder, max_rejected=0.2)
    rows = {row["file"]: (row["reason"], row["detail"]) for row in prepared.rejected.collect()}
    assert {file: reason for file, (reason, _) in rows.items()} == {
        "train/A/empty.jpg": "empty file",
        "train/A/text.jpg": "not a picture",
        "train/A/cut.png": "truncated picture",
        "train/A/bomb.png": "too large a picture",
        "train/A/pixel.png": "too small a picture",
        "train/A/copy.png": "exact duplicate",
        "train/B/B0.png": "one picture under two labels",
        "train/C/other.png": "one picture under two labels",
    }
    assert rows["train/A/copy.png"][1] == "of photographs:train/A/A1.png"
    assert rows["train/C/other.png"][1] == "B and C"
    assert prepared.rejections.rejected == 8
    assert sum(prepared.rejections.rows.values()) == 79


def test_duplicates_stay_where_they_are_allowed(spark: SparkSession, storage: Storage, folder: Path) -> None:
    for file in sorted((folder / "train/A").iterdir()):
        shutil.copy(file, file.with_name(f"again-{file.name}"))
    prepared = prepare(spark, storage, folder, preprocessing=Preprocessing(size=32, allow_duplicates=True))
    assert prepared.counts["train"]["A"] + prepared.counts["validation"]["A"] == 40
    assert prepared.images.select("id").distinct().count() == prepared.images.count()


def test_a_pattern_finds_label_signer_and_frame_in_the_path(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    for signer in range(4):
        write_pictures(tmp_path / f"all/user_{signer}", "AB", 6, seed=signer, name="{label}{number}.png")
    (tmp_path / "all/user_0/notes.png").write_bytes((tmp_path / "all/user_0/A0.png").read_bytes())
    pattern = r"(?P<signer>user_\d+)/(?P<label>[A-Z])\d+"
    prepared = prepare(
        spark, storage, tmp_path / "all", pattern, split=Split("group", validation=0.25, test=0.25), max_rejected=0.1
    )
    groups = prepared.images.groupBy("split", "group").count().collect()
    assert {row["group"]: row["count"] for row in groups} == {f"photographs:user_{i}": 12 for i in range(4)}
    assert sorted(row["split"] for row in groups) == ["test", "train", "train", "validation"]
    assert prepared.rejections.reasons == {"no class in the path": 1}

    for split, count in (("train", 6), ("test", 2)):
        for signer in range(3):
            write_pictures(tmp_path / f"own/{split}/user_{signer}", "AB", count, seed=signer + count)
    own = prepare(spark, storage, tmp_path / "own", r"(?P<signer>user_\d+)", split=Split("group", validation=0.3))
    assert own.sources["photographs"] == {"train": 24, "validation": 12, "test": 12}

    frames = prepare(
        spark, storage, tmp_path / "all", r"(?P<label>[A-Z])(?P<frame>\d+)", split=Split("group", frames=2),
        max_rejected=0.1,
    )  # fmt: skip
    rows = frames.images.groupBy("group").agg({"split": "collect_set"}).collect()
    assert {row["group"] for row in rows} == {f"photographs:{label}:{block}" for label in "AB" for block in range(3)}
    assert all(len(row["collect_set(split)"]) == 1 for row in rows)


def test_near_duplicates_stay_on_one_side_of_a_split_by_group_and_not_of_one_by_row(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for label in "AB":
        for original in range(12):
            pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).resize((40, 40)))
            for copy in range(5):
                noisy = np.clip(pixels * rng.uniform(0.8, 1.1) + rng.normal(0, 6, pixels.shape), 0, 255)
                path = tmp_path / f"all/{label}/{original}-{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noisy.astype(np.uint8)).save(path)
    by_group = prepare(spark, storage, tmp_path / "all", split=Split("group"))
    assert by_group.near_duplicates["split_by_row"] == {
        "test": {"pictures": 12, "near_duplicates": 12},
        "validation": {"pictures": 12, "near_duplicates": 12},
    }
    assert {name: counts["near_duplicates"] for name, counts in by_group.near_duplicates["split"].items()} == {
        "test": 0, "validation": 0,
    }  # fmt: skip
    sizes = [row["count"] for row in by_group.images.groupBy("group").count().collect()]
    assert sizes == [5] * 24


def test_sources_are_combined_into_one_table_with_one_shape(
    spark: SparkSession, storage: Storage, folder: Path, small_sample: Path
) -> None:
    prepared = prepare(
        spark, storage, {Source("a", "photographs"): folder.as_uri(), Source("b", "mnist"): small_sample.as_uri()},
        preprocessing=Preprocessing(size=40),
    )  # fmt: skip
    assert prepared.sources["photographs"]["test"] == 12
    assert prepared.sources["mnist"]["test"] == 96
    assert len(prepared.class_names) == 24
    assert {row["size"] for row in prepared.images.selectExpr("length(pixels) size").distinct().collect()} == {1600}
    # a row of a CSV file has the same id at any size
    labels, *pixels = pd.read_csv(small_sample / "sign_mnist_test.csv").to_numpy(np.uint8).T
    rows = zip(labels, np.stack(pixels, axis=1), strict=True)
    ids = {hashlib.md5(chr(65 + label).encode() + row.tobytes()).hexdigest() for label, row in rows}
    assert {row["id"] for row in prepared.split("test").where("source = 'mnist'").select("id").collect()} == ids


def test_normalization_by_channel_is_measured_on_the_training_pictures_only(
    spark: SparkSession, storage: Storage, folder: Path
) -> None:
    settings = Preprocessing(size=32, color="rgb", normalization="channel")
    prepared = prepare(spark, storage, folder, preprocessing=settings)
    rows = prepared.split("train").collect()
    values = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(-1, 3) for row in rows]).reshape(-1, 3)
    np.testing.assert_allclose(prepared.normalization.scale, 1 / values.std(axis=0), rtol=1e-9)
    np.testing.assert_allclose(prepared.normalization.offset, -values.mean(axis=0) / values.std(axis=0), rtol=1e-9)
    features = np.stack([row["features"] for row in prepared.pipeline.transform(prepared.split("train")).collect()])
    by_channel = features.reshape(len(rows), -1, 3)
    np.testing.assert_allclose(by_channel.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(by_channel.std(axis=(0, 1)), 1, atol=1e-5)


class TestRefuses:
    """Invalid input fails with one message that names the folder and the problem."""

    def message(self, spark: SparkSession, storage: Storage, folder: Any, *options: Any, **settings: Any) -> str:
        with pytest.raises(InputError) as caught:
            prepare(spark, storage, folder, *options, **settings)
        return str(caught.value)

    def test_an_empty_class_folder(self, spark: SparkSession, storage: Storage, folder: Path) -> None:
        (folder / "train/D").mkdir()
        (folder / "train/D/.hidden").write_text("")
        assert "photos: the class folder train/D is empty" in self.message(spark, storage, folder)

    def test_an_empty_class_folder_of_a_signer(self, spark: SparkSession, storage: Storage, folder: Path) -> None:
        write_pictures(folder / "train/user_1", "AB", 2, seed=5)
        (folder / "train/user_1/C").mkdir()
        assert "photos: the class folder train/user_1/C is empty" in self.message(spark, storage, folder)

    def test_a_name_that_is_not_a_class(self, spark: SparkSession, storage: Storage, folder: Path) -> None:
        write_pictures(folder / "train", "A", 2, name="Hello/{number}.png")
        message = self.message(spark, storage, folder)
        assert "photographs: train/Hello/0.png: 'Hello' is not a class" in message
        assert "--class-names" in message

    def test_a_test_class_that_is_not_trained(self, spark: SparkSession, storage: Storage, folder: Path) -> None:
        write_pictures(folder / "test", "D", 2)
        assert "the test set has class D, which the training set lacks" in self.message(spark, storage, folder)

    def test_a_source_without_a_readable_picture(
        self, spark: SparkSession, storage: Storage, folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "bad/A").mkdir(parents=True)
        (tmp_path / "bad/A/x.jpg").write_text("no picture")
        both = {Source("good"): folder.as_uri(), Source("bad"): (tmp_path / "bad").as_uri()}
        message = self.message(spark, storage, both, max_rejected=0.5)
        assert "bad: no picture in it can be used: A/x.jpg: not a picture" in message

    def test_a_folder_with_nothing_in_it(self, spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "photographs: the folder contains no pictures" in self.message(spark, storage, tmp_path / "empty")

    def test_an_empty_folder_next_to_train_and_test(self, spark: SparkSession, storage: Storage, folder: Path) -> None:
        (folder / "valid").mkdir()
        assert "valid contains no pictures" in self.message(spark, storage, folder)

    def test_a_channel_that_is_constant(self, spark: SparkSession, storage: Storage, folder: Path) -> None:
        for path in folder.rglob("*.png"):
            pixels = np.asarray(Image.open(path)).copy()
            pixels[..., 2] = 7
            Image.fromarray(pixels).save(path)
        settings = Preprocessing(size=32, color="rgb", normalization="channel")
        message = self.message(spark, storage, folder, preprocessing=settings)
        assert "channel 2 is 7 in every training picture" in message

    def test_fewer_groups_than_splits(self, spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
        for signer in range(2):
            write_pictures(tmp_path / f"all/user_{signer}", "AB", 6, seed=signer, name="{label}{number}.png")
        pattern = r"(?P<signer>user_\d+)/(?P<label>[A-Z])\d+"
        message = self.message(spark, storage, tmp_path / "all", pattern, split=Split("group"))
        assert "fewer groups than splits, all classes of photographs 2" in message

    def test_sources_without_a_class_in_common(
        self, spark: SparkSession, storage: Storage, folder: Path, tmp_path: Path
    ) -> None:
        write_pictures(tmp_path / "other/train", "XY", 20)
        write_pictures(tmp_path / "other/test", "XY", 2, seed=1)
        both = {Source("photos"): folder.as_uri(), Source("other"): (tmp_path / "other").as_uri()}
        assert "other has the classes X, Y, and no other source has one" in self.message(spark, storage, both)
