"""Prediction reads all of its input, whatever the file names, or refuses it with one message."""

import os
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from preprocessing.data_settings import Preprocessing
from preprocessing.errors import InputError
from preprocessing.inputs import read_input
from preprocessing.read_rows import ReadContext
from preprocessing.storage import Storage
from tests.pictures import write_pictures

NAMES = ("_DSC0001.png", "10:30:05.png", "hand=1.png", "test[1].png", "a,b {c}*?.png", "é ü 手 🎈.png", "#1 50%41.png")


def read(spark: SparkSession, storage: Storage, path: Path, tmp_path: Path) -> pd.DataFrame:
    work = f"file://{tmp_path}/work"
    rows = read_input(ReadContext(spark, storage, work, Preprocessing(), []), storage.absolute(str(path)))
    table = rows.table.toPandas().set_index("id")
    assert len(table) == rows.count
    table.attrs["notes"] = rows.notes
    return table


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "asl [1], {a} é #%41"
    write_pictures(folder, "A", len(NAMES))
    for file, name in zip(sorted((folder / "A").iterdir()), NAMES, strict=True):
        file.rename(file.with_name(name))
    return folder


def test_pictures_of_any_name_are_rows(spark: SparkSession, storage: Storage, pictures: Path, tmp_path: Path) -> None:
    latin_1 = os.fsencode(pictures) + b"/A/caf\xe9.png"
    shutil.copy(pictures / "A" / NAMES[0], latin_1)
    for hidden in (".DS_Store", "A/._x.png", "Thumbs.db"):
        (pictures / hidden).write_text("no picture")
    (pictures / "A/gone.png").symlink_to("nowhere")
    rows = read(spark, storage, pictures, tmp_path)
    assert set(rows.index) == {f"A/{name}" for name in (*NAMES, "caf\\xe9.png", "gone.png")}
    assert rows.loc["A/gone.png", "reason"] == "not a file"
    assert rows["reason"].notna().sum() == 1
    assert rows["label"].dropna().eq("A").all()
    assert rows.attrs["notes"] == ["3 hidden or system files are left out"]


@pytest.mark.parametrize("name", NAMES)
def test_one_picture_of_any_name_is_a_row(
    spark: SparkSession, storage: Storage, pictures: Path, tmp_path: Path, name: str
) -> None:
    assert list(read(spark, storage, pictures / "A" / name, tmp_path).index) == [name]


@pytest.mark.parametrize(
    "name", ["test[1].csv", "_mine.csv", "10:30.csv", "UPPER.CSV", "nested/deep/a.csv", "a.csv.zip"]
)
def test_a_csv_file_of_any_name_is_read_and_no_other_file(
    spark: SparkSession, storage: Storage, sample: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "csv"
    (folder / name).parent.mkdir(parents=True)
    lines = (sample / "sign_mnist_test.csv").read_text().splitlines()[:4]
    if name.endswith(".zip"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("inner.csv", "\n".join(lines))
    else:
        (folder / name).write_text("\n".join(lines))
    (tmp_path / "csv/other.csv").write_text("\n".join(lines[:2]))
    one = read(spark, storage, folder / name, tmp_path)
    assert sorted(one.index) == [f"{name.split('/')[-1]}:{line}" for line in (2, 3, 4)]
    assert one["reason"].isna().all()
    both = read(spark, storage, folder, tmp_path)
    assert sorted(both.index) == sorted([*(f"{name}:{line}" for line in (2, 3, 4)), "other.csv:2"])


def test_a_folder_of_parquet_files_is_read_as_one_table(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a"], "pixels": [bytes(784)], "height": 28, "width": 28, "channels": 1})
    (tmp_path / "table [1]").mkdir()
    table.to_parquet(tmp_path / "table [1]/part.parquet")
    (tmp_path / "table [1]/_SUCCESS").touch()
    assert read(spark, storage, tmp_path / "table [1]", tmp_path).loc["a", "reason"] is None


@pytest.mark.parametrize("other", ["rows.csv", "rows.csv.gz", "table.parquet"])
def test_files_of_several_kinds_are_refused_and_none_is_left_out(
    spark: SparkSession, storage: Storage, pictures: Path, tmp_path: Path, other: str
) -> None:
    (pictures / other).touch()
    with pytest.raises(InputError, match=f"contains .*{other}.*pictures .*one kind can be predicted at a time"):
        read(spark, storage, pictures, tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "label," + ",".join(f"pixel{i}" for i in range(1, 785)) + ",",
            "it has 786 columns instead of 785, the last of them ''",
        ),
        ("label," + ",".join(f"pixel{i}" for i in range(1, 4097)), "it has 4,097 columns instead of 785"),
        ("label," + ",".join(f"pixel{i}" for i in range(784)), "column 2 is 'pixel0', not 'pixel1'"),
    ],
)
def test_a_wrong_header_is_refused_with_the_first_difference(
    spark: SparkSession, storage: Storage, tmp_path: Path, header: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text(header + "\n1,2\n")
    with pytest.raises(InputError, match=message):
        read(spark, storage, tmp_path / "a.csv", tmp_path)
