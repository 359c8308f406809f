"""Every file in a user's folder is listed, or counted as ignored."""

import os
import zipfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from preprocessing import listing as listing_module
from preprocessing.errors import InputError
from preprocessing.listing import Listing, list_files
from preprocessing.sign_mnist import find_files, open_csv
from preprocessing.storage import Storage


def listed(storage: Storage, folder: Path) -> Listing:
    return list_files(storage, f"file://{folder}", f"file://{folder.parent}/work")


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_every_file_is_listed_or_counted(
    spark: SparkSession, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "_ROWS", 2)
    monkeypatch.setattr(listing_module, "FEW_NAMES", 2)
    folder = tmp_path / "d [1]"
    write(folder, "A/_a.png", "A/b:c.png", "A/c=1.png", "B/.hidden", "B/d.png", "__MACOSX/A/._a.png", "top.txt")
    (folder / "C").mkdir()
    listing = listed(storage, folder)
    rows = {row["file"]: row["length"] for row in listing.read(spark).collect()}
    assert rows == {name: len(name) for name in ("A/_a.png", "A/b:c.png", "A/c=1.png", "B/d.png", "top.txt")}
    assert (listing.count, listing.size, listing.ignored) == (5, sum(rows.values()), 2)
    assert {path: files.count for path, files in listing.folders.items()} == {"": 1, "A": 3, "B": 1}
    assert listing.empty == ["C"]
    assert len(listing.folders["A"].sizes) == 2
    assert set(listing.sizes(spark, "A")) == {"_a.png", "b:c.png", "c=1.png"}


def test_links_to_folders_are_followed_but_not_in_cycles(storage: Storage, tmp_path: Path) -> None:
    write(tmp_path / "data", "A/a.png")
    (tmp_path / "data/B").symlink_to(tmp_path / "data/A")
    (tmp_path / "data/A/again").symlink_to(tmp_path / "data")
    (tmp_path / "data/loop").symlink_to("loop")
    assert {path: files.count for path, files in listed(storage, tmp_path / "data").folders.items()} == {
        "": 1, "A": 1, "B": 1,
    }  # fmt: skip
    write(tmp_path / "elsewhere", "b.png")
    (tmp_path / "data/C").symlink_to(tmp_path / "elsewhere")
    assert "C" in listed(storage, tmp_path / "data").folders


def test_the_digest_depends_on_names_sizes_and_times(storage: Storage, tmp_path: Path) -> None:
    write(tmp_path / "data", "a", "b")
    digests = {listed(storage, tmp_path / "data").digest}
    assert listed(storage, tmp_path / "data").digest in digests
    os.utime(tmp_path / "data/a", (1, 1))
    digests.add(listed(storage, tmp_path / "data").digest)
    (tmp_path / "data/a").write_text("longer")
    digests.add(listed(storage, tmp_path / "data").digest)
    (tmp_path / "data/a").rename(tmp_path / "data/c")
    digests.add(listed(storage, tmp_path / "data").digest)
    write(tmp_path / "data", ".hidden")
    digests.add(listed(storage, tmp_path / "data").digest)
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["sign_mnist_train.csv", "sign_mnist_test.csv", "amer_sign2.png"],
            ["sign_mnist_train.csv", "sign_mnist_test.csv"],
        ),
        (["sign_mnist_train/sign_mnist_train.csv", "sign_mnist_test/sign_mnist_test.csv"], None),
        (["archive/sign_mnist_train.csv.zip", "archive/sign_mnist_test.csv.zip"], None),
        (["SIGN_MNIST_TRAIN.CSV", "Sign_MNIST_test.csv.GZ"], None),
        # Kaggle's own archive contains each file twice.
        (
            ["sign_mnist_train.csv", "sign_mnist_train/sign_mnist_train.csv", "sign_mnist_test.csv.gz",
             "sign_mnist_test.csv", "sign_mnist_test/sign_mnist_test.csv"],
            ["sign_mnist_train.csv", "sign_mnist_test.csv"],
        ),
        (["A/a.png"], []),
    ],
)  # fmt: skip
def test_sign_mnist_files_are_found_however_they_were_unpacked(
    storage: Storage, tmp_path: Path, names: list[str], expected: list[str] | None
) -> None:
    write(tmp_path / "data", *names)
    assert list(find_files(listed(storage, tmp_path / "data")).values()) == (names if expected is None else expected)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sign_mnist_train.csv"], r"contains none of sign_mnist_test\.csv, sign_mnist_test\.csv\.gz and"),
        (
            ["a/sign_mnist_train.csv", "b/sign_mnist_train.csv"],
            r"contains .*a/.* and .*b/.*: remove all but one of them",
        ),
    ],
)
def test_a_missing_or_ambiguous_file_is_refused(
    storage: Storage, tmp_path: Path, names: list[str], message: str
) -> None:
    write(tmp_path / "data", *names)
    with pytest.raises(InputError, match=message):
        find_files(listed(storage, tmp_path / "data"))


def test_a_zip_file_without_one_csv_file_is_refused(storage: Storage, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as file:
        file.writestr("a.csv", "")
        file.writestr("b.csv", "")
    (tmp_path / "b.csv.zip").write_bytes((tmp_path / "a.csv.zip").read_bytes()[:50])
    listing = listed(storage, tmp_path)
    for name, message in (("a.csv.zip", "contains 2 CSV files"), ("b.csv.zip", "cut off or corrupt")):
        with pytest.raises(InputError, match=message):
            open_csv(storage, listing, name, f"file://{tmp_path}/work")
