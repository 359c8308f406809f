"""Tests of the store of prepared images: they are reused only if nothing has changed."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from preprocessing import features_store
from preprocessing.data_settings import Preprocessing, Source
from preprocessing.features_store import PART_FILES, stored_images
from preprocessing.file_systems import local_path
from preprocessing.prepare import PreparedImages, prepare_images
from preprocessing.schema import IMAGE_TABLE
from preprocessing.sources import list_sources
from preprocessing.storage import Storage
from tests.preprocessing.conftest import sources


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def prepare(
    spark: SparkSession, storage: Storage, data: Path, store: Path, settings: Preprocessing | None = None
) -> PreparedImages:
    sample_sources = sources(
        spark, {Source("sample"): data.as_uri()}, work=f"{store.as_uri()}/work", seed=3,
        preprocessing=settings or Preprocessing(),
    )  # fmt: skip
    return stored_images(spark, storage, sample_sources, store.as_uri())


@pytest.fixture(scope="module")
def prepared(spark: SparkSession, storage: Storage, sample: Path, store: Path) -> PreparedImages:
    return prepare(spark, storage, sample, store)


def stored_folders(store: Path) -> dict[str, int]:
    """The folders of the store with their modification times."""
    return {path.name: path.stat().st_mtime_ns for path in store.glob("features-*")}


def test_what_is_read_from_the_store_is_what_was_prepared(
    spark: SparkSession, storage: Storage, sample: Path, prepared: PreparedImages
) -> None:
    fresh = prepare_images(spark, storage, sources(spark, {Source("sample"): str(sample)}, seed=3))
    assert prepared.images.columns == IMAGE_TABLE.names
    assert prepared.images.orderBy("id").collect() == fresh.images.orderBy("id").collect()
    for name in ("rejections", "counted", "near_duplicates", "normalization", "class_names", "shape"):
        assert getattr(prepared, name) == getattr(fresh, name)
    assert {len(group) for group in prepared.samples.values()} == {6}
    assert prepared.samples["A"][0].shape == (28, 28, 1)


@pytest.mark.parametrize("components", [None, 3])
def test_the_pipeline_of_stored_images_is_the_one_that_was_fitted(
    components: int | None, spark: SparkSession, storage: Storage, small_sample: Path, tmp_path: Path
) -> None:
    sample = sources(
        spark, {Source("sample"): small_sample.as_uri()}, work=f"{tmp_path.as_uri()}/work", components=components
    )
    fitted, stored = (stored_images(spark, storage, sample, tmp_path.as_uri()) for _ in range(2))
    columns = ["id", "features", "label_index", "label_onehot"]
    rows, same = (
        images.pipeline.transform(images.images).select(columns).orderBy("id").head(20) for images in (fitted, stored)
    )
    assert rows == same
    assert len(rows[0]["features"]) == (components or 784)


def test_a_row_takes_little_more_space_than_its_pixels_and_part_files_have_equal_sizes(
    prepared: PreparedImages, store: Path
) -> None:
    [folder] = (store / name for name in stored_folders(store))
    files = sorted((folder / "train").glob("part-*"))
    rows = [pq.ParquetFile(file).metadata.num_rows for file in files]
    assert len(files) == PART_FILES
    assert len(list((folder / "test").glob("part-*"))) == 1
    assert max(rows) - min(rows) <= 8
    table = pq.read_table(files[0])
    assert table["label_index"].type == "int32"
    labels = np.array(prepared.class_names)[table["label_index"].to_numpy()]
    assert labels.tolist() == table["label"].to_pylist()
    # 784 pixels and a hexadecimal id per row, in files of 90 rows
    assert sum(file.stat().st_size for file in files) / sum(rows) < 784 + 160


def test_a_second_job_reuses_the_stored_images(
    spark: SparkSession, storage: Storage, sample: Path, store: Path, prepared: PreparedImages
) -> None:
    folders = stored_folders(store)
    again = prepare(spark, storage, sample, store)
    assert stored_folders(store) == folders
    assert again.folder == prepared.folder


def test_a_change_of_files_settings_or_code_changes_the_key(
    spark: SparkSession,
    storage: Storage,
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key(size: int = 28) -> str:
        copied_sources = sources(spark, {Source("sample"): copied.as_uri()}, preprocessing=Preprocessing(size=size))
        return features_store._key(copied_sources, list_sources(storage, copied_sources))

    first = key()
    assert key() == first
    keys = {first, key(size=14)}
    file = copied / "sign_mnist_train.csv"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    keys.add(key())
    file.write_text(file.read_text().replace(",0,", ",1,", 1))
    keys.add(key())
    (copied / "empty.csv").write_text("")
    keys.add(key())
    monkeypatch.setattr(features_store, "_code_digest", lambda: "other")
    keys.add(key())
    assert len(keys) == 6


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda _: b"",
    "a byte flipped": lambda content: (
        content[: len(content) // 3] + bytes([content[len(content) // 3] ^ 1]) + content[len(content) // 3 + 1 :]
    ),
    "deleted": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_stored_file_is_detected(
    spark: SparkSession,
    storage: Storage,
    prepared: PreparedImages,
    damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = local_path(str(prepared.folder))
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(("_", "."))]
    assert len(files) > 2 * PART_FILES
    change = DAMAGES[damage]
    for file in files:
        content = file.read_bytes()
        if not content:
            continue
        if change is None:
            file.unlink()
        else:
            file.write_bytes(change(content))
        assert not features_store._is_intact(spark, storage, str(prepared.folder)), file
        if file.name != "prepared.json" or change is not None:
            [line] = capsys.readouterr().err.splitlines()
            assert f"{file.relative_to(folder)} differs from what was written" in line
        file.write_bytes(content)
    assert features_store._is_intact(spark, storage, str(prepared.folder))


def test_damaged_images_are_prepared_again(
    spark: SparkSession,
    storage: Storage,
    sample: Path,
    store: Path,
    prepared: PreparedImages,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = prepared.images.orderBy("id").collect()
    part = next((local_path(str(prepared.folder)) / "train").glob("part-*"))
    part.unlink()
    (part.parents[1] / ".unfinished").touch()  # left by a killed job
    again = prepare(spark, storage, sample, store)
    assert again.folder == prepared.folder
    assert capsys.readouterr().err.count("the images are prepared again") == 1
    assert again.images.orderBy("id").collect() == rows
    assert not (part.parents[1] / ".unfinished").exists()
    assert len(stored_folders(store)) == 1
