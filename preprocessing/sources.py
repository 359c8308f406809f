"""The sources of a job: the folder, the files and the rows of each."""

from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.errors import InputError
from preprocessing.folders import read_folder
from preprocessing.labels import class_name
from preprocessing.listing import PICTURES, Listing, list_files
from preprocessing.rows import ReadRows
from preprocessing.sign_mnist import FILES, find_files, read_sign_mnist
from preprocessing.storage import Storage


@dataclass(frozen=True)
class Sources:
    """The sources to read, and how to prepare their rows.

    Args:
        folders: absolute path of the folder of each source.
        work: absolute path of a folder for temporary files; it exists as long as the job, and every executor sees it.
        preprocessing: how pictures become rows.
        split: how rows are split for training, validation and testing.
        classes: names of classes beyond the built-in ones.
        max_rejected: largest fraction of rows that may be rejected.
        fraction: fraction of the training rows that is used.
        seed: random seed of the split.
        components: number of principal components that the pipeline reduces the features to, if any.
    """

    folders: dict[Source, str]
    work: str
    preprocessing: Preprocessing
    split: Split
    classes: list[str]
    max_rejected: float
    fraction: float
    seed: int
    components: int | None = None


def list_sources(storage: Storage, sources: Sources) -> dict[Source, Listing]:
    """List the files in the folder of each source.

    Raises:
        InputError: A folder does not exist.
    """
    for folder in sources.folders.values():
        if not storage.is_folder(folder):
            problem = "a file, not a folder" if storage.exists(folder) else "no such folder"
            raise InputError(
                f"{folder}: {problem}; --data takes a folder with {' and '.join(FILES.values())} (or .gz, .zip),"
                " or a folder of photographs with one folder per class"
            )
    return {source: list_files(storage, folder, sources.work) for source, folder in sources.folders.items()}


def read_sources(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing]
) -> dict[str, ReadRows]:
    """The rows of each source, by its title."""
    rows = {}
    for source in sources.folders:
        read, ignored = _read_source(spark, storage, source, listings[source], sources), listings[source].ignored
        notes = [f"{ignored:,} hidden or system files are left out"] if ignored else []
        rows[source.title] = replace(read, notes=[f"{source.title}: {note}" for note in [*read.notes, *notes]])
    return rows


def _read_source(spark: SparkSession, storage: Storage, source: Source, listing: Listing, sources: Sources) -> ReadRows:
    if not listing.count:
        raise InputError(f"{source.title}: the folder contains no pictures")
    files = find_files(listing)
    if files:
        notes = _check_other_files(listing, files, sources.classes)
        read = read_sign_mnist(spark, storage, source.title, listing, files, sources.work, sources.preprocessing)
        return replace(read, notes=notes)
    if listing.csv_files and PICTURES not in listing.kinds:
        raise InputError(
            f"{listing.root}: contains CSV files ({sorted(listing.csv_files)[0]}), but none called"
            f" {' or '.join(FILES.values())} (or .gz, .zip): these names distinguish training from test"
        )
    return read_folder(spark, source, listing, sources.preprocessing, sources.classes)


def _check_other_files(listing: Listing, files: dict[str, str], class_names: list[str]) -> list[str]:
    """Refuse pictures in class folders next to Sign-MNIST's two files; return notes on other files, if any."""
    names = [name for name in listing.names() if name not in files.values()]
    folders = [name.rpartition("/")[0].rpartition("/")[2] for name in names]
    labels = [class_name(folder, class_names) for folder in folders]
    pictures = [name for name, label in zip(names, labels, strict=True) if label is not None]
    if pictures:
        raise InputError(
            f"{listing.root}: contains Sign-MNIST's CSV files and pictures in class folders ({pictures[0]}):"
            " pass only one of them as --data, or list both as sources in the experiment file"
        )
    if not names:
        return []
    examples = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [f"{listing.count - len(files):,} files other than Sign-MNIST's two are left out: {examples}"]
