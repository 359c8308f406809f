"""The sources of a job: the folder, the files and the rows of each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession

from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.errors import InputError
from preprocessing.listing import Listing, list_files
from preprocessing.read_rows import ReadContext, ReadRows
from preprocessing.readers import READERS
from preprocessing.storage import Storage


@dataclass(frozen=True)
class Sources:
    """The sources to read, and how to prepare their rows.

    Args:
        folders: absolute path of the folder of each source.
        work: absolute path of a folder for temporary files; it exists as long as the job, and every executor sees it.
        preprocessing: how pictures become rows.
        split: how rows are split for training, validation and testing.
        class_names: names of classes beyond the built-in ones.
        excluded_classes: classes whose rows are left out.
        max_rejected: largest fraction of rows that may be rejected.
        fraction: fraction of the training rows that is used.
        seed: random seed of the split.
        components: number of principal components that the pipeline reduces the features to, if any.
    """

    folders: dict[Source, str]
    work: str
    preprocessing: Preprocessing
    split: Split
    class_names: list[str]
    excluded_classes: list[str]
    max_rejected: float
    fraction: float
    seed: int
    components: int | None = None

    @property
    def assigned(self) -> dict[str, str]:
        """The split of each source whose pictures all belong to one split, by the source's title."""
        return assigned_splits(self.folders)

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction of its training pictures that is used, by the title of each source that is not used whole."""
        fractions = {source.title: self.fraction * source.fraction for source in self.folders}
        return {title: fraction for title, fraction in fractions.items() if fraction < 1}


def assigned_splits(sources: Iterable[Source]) -> dict[str, str]:
    """The split of each source whose pictures all belong to one split, by the source's title."""
    return {source.title: source.split for source in sources if source.split is not None}


def list_sources(storage: Storage, sources: Sources) -> dict[Source, Listing]:
    """List the files in the folder of each source.

    Raises:
        InputError: A folder does not exist.
    """
    for folder in sources.folders.values():
        if not storage.is_folder(folder):
            problem = "a file, not a folder" if storage.exists(folder) else "no such folder"
            formats = ", or ".join(reader.source for reader in READERS if reader.source)
            raise InputError(f"{folder}: {problem}; --data takes {formats}")
    return {source: list_files(storage, folder, sources.work) for source, folder in sources.folders.items()}


def read_sources(
    spark: SparkSession, storage: Storage, sources: Sources, listings: dict[Source, Listing]
) -> dict[str, ReadRows]:
    """The rows of each source, by its title."""
    context = ReadContext(spark, storage, sources.work, sources.preprocessing, sources.class_names)
    rows = {}
    for source in sources.folders:
        read, ignored = _read_source(context, source, listings[source]), listings[source].ignored
        notes = [f"{ignored:,} hidden or system files are left out"] if ignored else []
        rows[source.title] = replace(read, notes=[f"{source.title}: {note}" for note in [*read.notes, *notes]])
    return rows


def _read_source(context: ReadContext, source: Source, listing: Listing) -> ReadRows:
    if not listing.count:
        raise InputError(f"{source.title}: the folder contains no pictures")
    read = next(reader.read_source for reader in READERS if reader.is_source(listing))
    assert read is not None
    return read(context, source, listing)
