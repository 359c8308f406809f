"""The sources of a job: where each lies, what lies there, and its rows."""

from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from preprocessing.errors import InputError
from preprocessing.folders import read_folder
from preprocessing.labels import class_name
from preprocessing.listing import PICTURES, Listing, list_files
from preprocessing.rows import ReadRows
from preprocessing.settings import Preprocessing, Source, Split
from preprocessing.sign_mnist import FILES, find_files, read_sign_mnist
from preprocessing.storage import Storage


@dataclass(frozen=True)
class Sources:
    """What is read, and what is done with it before it is looked at.

    Args:
        folders: where each source lies, absolute.
        work: a folder for what is put down on the way, absolute; it stays as long as the job, and every executor sees
            it.
        preprocessing: how pictures become rows.
        split: which of them train, choose and judge.
        classes: names of classes beyond those that are known.
        max_rejected: the share of rows that may be set aside.
        fraction: the share of the training rows that is used.
        seed: of the split.
        components: principal components that the pipeline reduces the features to, if any.
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
    """What lies in the folder of each source.

    Raises:
        InputError: there is no such folder.
    """
    for folder in sources.folders.values():
        if not storage.is_folder(folder):
            found = "a file" if storage.exists(folder) else "no such folder"
            raise InputError(
                f"{folder}: {found}; --data takes a folder with {' and '.join(FILES.values())} (or .gz, .zip),"
                " or one of photographs, a folder a class"
            )
    return {source: list_files(storage, folder, sources.work) for source, folder in sources.folders.items()}


def read_sources(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing]
) -> dict[str, ReadRows]:
    """The rows of each source, by its title."""
    found = {}
    for source in sources.folders:
        read, ignored = _read_source(spark, storage, source, listings[source], sources), listings[source].ignored
        notes = [f"{ignored:,} hidden or system files are left out"] if ignored else []
        found[source.title] = replace(read, notes=[f"{source.title}: {note}" for note in [*read.notes, *notes]])
    return found


def _read_source(spark: SparkSession, storage: Storage, source: Source, listing: Listing, sources: Sources) -> ReadRows:
    if not listing.count:
        raise InputError(f"{source.title}: there is no picture in it")
    files = find_files(listing)
    if files:
        notes = _others(listing, files, sources.classes)
        read = read_sign_mnist(spark, storage, source.title, listing, files, sources.work, sources.preprocessing)
        return replace(read, notes=notes)
    if listing.csv_files and PICTURES not in listing.kinds:
        raise InputError(
            f"{listing.root}: holds CSV files ({sorted(listing.csv_files)[0]}), none of them called"
            f" {' or '.join(FILES.values())} (or .gz, .zip): Sign-MNIST's names tell training from test"
        )
    return read_folder(spark, source, listing, sources.preprocessing, sources.classes)


def _others(listing: Listing, files: dict[str, str], classes: list[str]) -> list[str]:
    """What lies beside Sign-MNIST's two files is left out with a word, or refused where it may be meant, too."""
    others = [name for name in listing.names() if name not in files.values()]
    folders = [name.rpartition("/")[0].rpartition("/")[2] for name in others]
    pictures = [name for name, folder in zip(others, folders, strict=True) if class_name(folder, classes) is not None]
    if pictures:
        raise InputError(
            f"{listing.root}: holds Sign-MNIST's CSV files and pictures in class folders ({pictures[0]}):"
            " give one of them as --data, or both as sources of an experiment's file"
        )
    if not others:
        return []
    few = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    return [f"{listing.count - len(files):,} files beside Sign-MNIST's two are left out: {few}"]
