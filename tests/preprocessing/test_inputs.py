"""What is predicted is all of what was given, whatever it is called; or nothing of it, with one message."""

import os
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from preprocessing.errors import InputError
from preprocessing.inputs import read_input
from preprocessing.settings import Preprocessing
from preprocessing.storage import Storage
from tests.pictures import write_pictures

NAMES = ("_DSC0001.png", "10:30:05.png", "hand=1.png", "test[1].png", "a,b {c}*?.png", "é ü 手 🎈.png", "#1 50%41.png")


def read(spark: SparkSession, storage: Storage, path: Path, tmp_path: Path) -> pd.DataFrame:
    work = f"file://{tmp_path}/work"
    found = read_input(spark, storage, storage.absolute(str(path)), work, Preprocessing(), [])
    table = found.table.toPandas().set_index("id")
    assert len(table) == found.count
    table.attrs["notes"] = found.notes
    return table


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "asl [1], {a} é #%41"
    write_pictures(folder, "A", len(NAMES))
    for file, name in zip(sorted((folder / "A").iterdir()), NAMES, strict=True):
        file.rename(file.with_name(name))
    return folder


def test_pictures_of_any_name_are_rows(spark: SparkSession, storage: Storage, pictures: Path, tmp_path: Path) -> None:
    latin = os.fsencode(pictures) + b"/A/caf\xe9.png"
    shutil.copy(pictures / "A" / NAMES[0], latin)
    for hidden in (".DS_Store", "A/._x.png", "Thumbs.db"):
        (pictures / hidden).write_text("no picture")
    (pictures / "A/gone.png").symlink_to("nowhere")
    found = read(spark, storage, pictures, tmp_path)
    assert set(found.index) == {f"A/{name}" for name in (*NAMES, "caf\\xe9.png", "gone.png")}
    assert found.loc["A/gone.png", "reason"] == "not a file"
    assert found["reason"].notna().sum() == 1
    assert found["label"].dropna().eq("A").all()
    assert found.attrs["notes"] == ["3 hidden or system files are left out"]


@pytest.mark.parametrize("name", NAMES)
def test_one_picture_of_any_name_is_a_row(
    spark: SparkSession, storage: Storage, pictures: Path, tmp_path: Path, name: str
) -> None:
    assert list(read(spark, storage, pictures / "A" / name, tmp_path).index) == [name]


@pytest.mark.parametrize(
    "name", ["test[1].csv", "_mine.csv", "10:30.csv", "UPPER.CSV", "nested/deep/a.csv", "a.csv.zip"]
)
def test_a_csv_file_of_any_name_is_read_and_no_other(
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
    alone = read(spark, storage, folder / name, tmp_path)
    assert sorted(alone.index) == [f"{name.split('/')[-1]}:{line}" for line in (2, 3, 4)]
    assert alone["reason"].isna().all()
    both = read(spark, storage, folder, tmp_path)
    assert sorted(both.index) == sorted([*(f"{name}:{line}" for line in (2, 3, 4)), "other.csv:2"])


def test_parquet_is_told_by_all_of_its_files(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match=f"holds .*{other}.*pictures .*one kind are predicted at a time"):
        read(spark, storage, pictures, tmp_path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("label," + ",".join(f"pixel{i}" for i in range(1, 785)) + ",", "786 columns, the last of them '', and 785"),
        ("label," + ",".join(f"pixel{i}" for i in range(1, 4097)), "it has 4,097 columns, and 785 are needed"),
        ("label," + ",".join(f"pixel{i}" for i in range(784)), "column 2 is 'pixel0', not 'pixel1'"),
    ],
)
def test_a_header_is_refused_by_what_is_different_in_it(
    spark: SparkSession, storage: Storage, tmp_path: Path, header: str, said: str
) -> None:
    (tmp_path / "a.csv").write_text(header + "\n1,2\n")
    with pytest.raises(InputError, match=said):
        read(spark, storage, tmp_path / "a.csv", tmp_path)
