"""The formats that pictures are read from."""

from collections.abc import Callable
from dataclasses import dataclass

from preprocessing.data_settings import Source
from preprocessing.folders import read_folder, read_pictures
from preprocessing.image_table import read_image_table
from preprocessing.listing import CSV, PARQUET, PICTURES, Listing
from preprocessing.read_rows import ReadContext, ReadRows
from preprocessing.sign_mnist import is_csv_source, read_csv_files, read_sign_mnist


@dataclass(frozen=True)
class Reader:
    """A format.

    Args:
        kind: kind of the files, see :mod:`preprocessing.listing`.
        read_input: reads an input for prediction, labeled or not, into rows with the columns of ``INPUT_TABLE``.
        source: description of a source in this format, for messages. "": the format is for prediction only.
        is_source: whether a folder is a source in this format.
        read_source: reads a source into rows with the columns of ``PARSED_TABLE``.
    """

    kind: str
    read_input: Callable[[ReadContext, Listing], ReadRows]
    source: str = ""
    is_source: Callable[[Listing], bool] = lambda listing: False
    read_source: Callable[[ReadContext, Source, Listing], ReadRows] | None = None


# A source is read by the first reader that recognizes it.
READERS = (
    Reader(
        CSV,
        read_csv_files,
        "a folder with sign_mnist_train.csv and sign_mnist_test.csv (or .gz, .zip)",
        is_csv_source,
        read_sign_mnist,
    ),
    Reader(PARQUET, read_image_table),
    Reader(
        PICTURES, read_pictures, "a folder of photographs with one folder per class", lambda listing: True, read_folder
    ),
)
