"""Tests of the preparation of files as an image table, on a Spark session."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from preprocessing.data_settings import Source, Split
from preprocessing.errors import InputError
from preprocessing.labels import STILL_LETTERS
from preprocessing.prepare import PreparedImages, prepare_images
from preprocessing.schema import IMAGE_TABLE
from preprocessing.splitting import split_by_row
from preprocessing.storage import Storage
from tests.preprocessing.conftest import sources

TRAIN_FILE, TEST_FILE = "sign_mnist_train.csv", "sign_mnist_test.csv"


def prepare(spark: SparkSession, storage: Storage, folder: Path, max_rejected: float = 0.01) -> PreparedImages:
    return prepare_images(
        spark, storage, sources(spark, {Source("sample"): str(folder)}, max_rejected=max_rejected, seed=3)
    )


@pytest.fixture(scope="module")
def prepared(
    spark: SparkSession, storage: Storage, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> PreparedImages:
    """Images of one compressed file and one uncompressed file."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / f"{TRAIN_FILE}.gz").write_bytes(gzip.compress((sample / TRAIN_FILE).read_bytes(), 1))
    (folder / TEST_FILE).write_bytes((sample / TEST_FILE).read_bytes())
    return prepare(spark, storage, folder)


def edit(path: Path, change: dict[int, str | None], add: tuple[str, ...] = ()) -> None:
    """Replace lines by number (1 is the header), or empty them with None, and append the lines ``add``."""
    lines = path.read_text().splitlines()
    for number, line in change.items():
        lines[number - 1] = line if line is not None else ""
    path.write_text("\n".join([*lines, *add]) + "\n")


def test_every_row_of_the_files_is_in_the_table_once(prepared: PreparedImages) -> None:
    assert prepared.images.columns == IMAGE_TABLE.names
    assert {split: prepared.rows(split) for split in prepared.counts} == {"train": 2160, "validation": 240, "test": 480}
    assert prepared.images.select("id").distinct().count() == 2880
    assert prepared.rejections.rejected == 0
    assert prepared.shape == (28, 28, 1)


def test_pixels_and_label_of_a_row_are_those_of_its_line(prepared: PreparedImages, sample: Path) -> None:
    label, *pixels = map(int, (sample / TEST_FILE).read_text().splitlines()[5].split(","))
    letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[label]
    matches = prepared.split("test").where(F.col("pixels") == F.lit(bytearray(pixels))).collect()
    assert [row["label"] for row in matches] == [letter]


def test_each_class_gives_the_same_fraction_to_validation(prepared: PreparedImages) -> None:
    assert set(prepared.counts["validation"].values()) == {10}


def test_the_split_does_not_depend_on_partitions_but_on_the_seed(prepared: PreparedImages) -> None:
    training = prepared.images.where("split != 'test'").withColumn("split", F.lit("train"))

    def validation_ids(images: DataFrame, seed: int) -> set[str]:
        split = split_by_row(images, Split(validation=0.1), seed).where("split = 'validation'")
        return {row["id"] for row in split.select("id").collect()}

    ids = validation_ids(training.repartition(1), 3)
    assert ids == validation_ids(training.repartition(7), 3)
    assert ids != validation_ids(training.repartition(1), 4)


def test_faulty_rows_are_set_aside_with_file_line_and_reason(
    spark: SparkSession, storage: Storage, copied: Path
) -> None:
    lines = (copied / TRAIN_FILE).read_text().splitlines()
    test_row = (copied / TEST_FILE).read_text().splitlines()[1]
    moving_letter = "9" + lines[2][lines[2].index(",") :]
    edit(copied / TRAIN_FILE, {2: moving_letter, 700: "rubbish", 1500: lines[99], 2000: None, 2401: test_row})
    # Spark reads the file in many partitions, like a large one
    spark.conf.set("spark.sql.files.maxPartitionBytes", "500000")
    try:
        prepared = prepare(spark, storage, copied)
        rows = prepared.rejected.orderBy("line").collect()
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    assert [(row["file"], row["line"], row["reason"]) for row in rows] == [
        (TRAIN_FILE, 2, "label J or Z"),
        (TRAIN_FILE, 700, "too few fields"),
        (TRAIN_FILE, 1500, "exact duplicate"),
        (TRAIN_FILE, 2401, "exact duplicate"),
    ]
    assert rows[2]["detail"] == f"of sample:{TRAIN_FILE}:100"
    # rows that are also in the test file are not trained on
    assert rows[3]["detail"] == f"of sample:{TEST_FILE}:2"
    assert prepared.rows("test") == 480
    assert prepared.rejections.rows == {"sample": 2879}  # the blank line is not a row
    assert prepared.rejections.reasons == {"exact duplicate": 2, "label J or Z": 1, "too few fields": 1}


def test_features_are_scaled_assembled_indexed_and_encoded(
    spark: SparkSession, prepared: PreparedImages, tmp_path: Path
) -> None:
    prepared.pipeline.write().save(str(tmp_path / "pipeline"))
    pipeline = PipelineModel.load(str(tmp_path / "pipeline"))
    features = pipeline.transform(prepared.split("test").where("label = 'K'").limit(1))
    assert features.schema["scaled"].metadata == {"ml_attr": {"num_attrs": 784}}
    row = features.head()
    assert row is not None
    expected = np.frombuffer(row["pixels"], dtype=np.uint8) / 255
    np.testing.assert_allclose(row["features"].toArray(), expected, atol=1e-7)
    assert row["label_index"] == STILL_LETTERS.index("K")
    np.testing.assert_array_equal(row["label_onehot"].toArray(), np.eye(24)[STILL_LETTERS.index("K")])


class TestRefuses:
    """Invalid input is rejected with one message that names the file and what was found in it."""

    def message(self, spark: SparkSession, storage: Storage, folder: Path, **settings: float) -> str:
        with pytest.raises(InputError) as caught:
            prepare(spark, storage, folder, **settings)
        return str(caught.value)

    def test_a_folder_that_does_not_exist(self, spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
        assert "no such folder" in self.message(spark, storage, tmp_path / "nothing")

    def test_a_folder_without_the_test_file(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        (copied / TEST_FILE).unlink()
        assert f"contains none of {TEST_FILE}, " in self.message(spark, storage, copied)

    def test_an_empty_file(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        (copied / TEST_FILE).write_text("")
        assert f"{TEST_FILE}: the file is empty" in self.message(spark, storage, copied)

    def test_another_header(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        edit(copied / TRAIN_FILE, {1: "letter,pixel1"})
        assert f"{TRAIN_FILE}:1: the header is 'letter,pixel1'" in self.message(spark, storage, copied)

    @pytest.mark.parametrize("damage", ["cut off", "garbled", "not packed"])
    def test_a_gz_that_cannot_be_unpacked(
        self, spark: SparkSession, storage: Storage, copied: Path, damage: str
    ) -> None:
        plain = (copied / TRAIN_FILE).read_bytes()
        (copied / TRAIN_FILE).unlink()
        packed = gzip.compress(plain, 1)
        middle = len(packed) // 2
        damaged = {
            "cut off": packed[:middle],
            "garbled": packed[:middle] + bytes(2000) + packed[middle + 2000 :],
            "not packed": plain,
        }
        (copied / f"{TRAIN_FILE}.gz").write_bytes(damaged[damage])
        message = self.message(spark, storage, copied)
        assert f"{TRAIN_FILE}.gz: cannot be unpacked" in message

    def test_more_rejected_rows_than_allowed(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        edit(copied / TRAIN_FILE, dict.fromkeys(range(2, 50), "rubbish"))
        message = self.message(spark, storage, copied)
        assert "48 of 2,880 rows cannot be used (too few fields 48), --max-rejected is 0.01" in message
        assert f"{TRAIN_FILE}:2: too few fields" in message

    def test_only_rejected_rows(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        for name in (TRAIN_FILE, TEST_FILE):
            lines = (copied / name).read_text().splitlines()
            (copied / name).write_text("\n".join([lines[0], "1,2", "3,4"]))
        assert "no picture in it can be used" in self.message(spark, storage, copied, max_rejected=1.0)

    def test_a_file_with_only_a_header(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        header = (copied / TEST_FILE).read_text().splitlines()[0]
        (copied / TEST_FILE).write_text(header + "\n")
        assert "no usable row is left for test" in self.message(spark, storage, copied)

    def test_a_class_too_small_for_a_validation_row(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        lines = (copied / TRAIN_FILE).read_text().splitlines()
        numbers = [number for number, line in enumerate(lines, 1) if line.startswith("3,")]
        edit(copied / TRAIN_FILE, dict.fromkeys(numbers[2:]))
        assert "no validation row for class D (2 training rows)" in self.message(spark, storage, copied)

    def test_a_test_class_that_was_never_trained_on(self, spark: SparkSession, storage: Storage, copied: Path) -> None:
        lines = (copied / TRAIN_FILE).read_text().splitlines()
        edit(copied / TRAIN_FILE, dict.fromkeys(n for n, line in enumerate(lines, 1) if line.startswith("24,")))
        assert "the test set has class Y, which the training set lacks" in self.message(spark, storage, copied)
