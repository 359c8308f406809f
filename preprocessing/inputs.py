"""Inputs for prediction: CSV files in Sign-MNIST's format, pictures, or an image table in Parquet."""

from dataclasses import replace

from preprocessing.errors import InputError
from preprocessing.listing import list_files
from preprocessing.read_rows import ReadContext, ReadRows
from preprocessing.readers import READERS


def read_input(context: ReadContext, path: str) -> ReadRows:
    """Read a file or a folder, labeled or not; the kind of input follows from the file names.

    Args:
        context: the session, and how pictures are converted.
        path: absolute path of the file or folder.

    Returns:
        The columns of ``INPUT_TABLE``, one row per row of the input, usable or not.

    Raises:
        InputError: The file or folder does not exist, is empty, contains files of several kinds, or has the wrong
            columns.
    """
    if not context.storage.exists(path):
        raise InputError(f"{path}: no such file or folder")
    listing = list_files(context.storage, path, context.work)
    if not listing.count:
        raise InputError(f"{path}: the folder is empty")
    if len(listing.kinds) > 1:
        several = " and ".join(f"{kind} ({first})" for kind, first in sorted(listing.kinds.items()))
        raise InputError(f"{path}: contains {several}; only one kind can be predicted at a time: move the others away")
    [read] = [reader.read_input for reader in READERS if reader.kind in listing.kinds]
    notes = [f"{listing.ignored:,} hidden or system files are left out"] if listing.ignored else []
    rows = read(context, listing)
    return replace(rows, notes=[*rows.notes, *notes])
