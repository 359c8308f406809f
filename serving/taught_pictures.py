"""The pictures that the page's mode Teach records of a person's own hand, in a folder on the server's machine."""

import re
import threading
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from serving.errors import BodyError
from serving.examples import Example

# The most pictures that are kept, over all letters, and the most bytes of one: those of the page have a tenth of that.
MAX_PICTURES, MAX_BYTES = 2000, 500_000
_BURST = re.compile(r"[0-9A-Za-z-]{1,40}")
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png"}


class TaughtPictures:
    """A folder with a subfolder per letter. The files are named after their burst and a number: ``BURST_01.jpg``.

    ``conf/own_hand.yaml`` trains on such a folder.

    Args:
        folder: the folder; it is created when the first picture is added.
        class_names: the letters that can be taught.
        pictures: the pictures that are in the folder already.
    """

    def __init__(self, folder: Path, class_names: list[str], pictures: list[Example]) -> None:
        self._folder, self._class_names, self._lock = folder, class_names, threading.Lock()
        self._pictures = {(picture.letter, picture.name): picture for picture in pictures}

    @property
    def pictures(self) -> list[Example]:
        """The pictures, by letter and name."""
        with self._lock:
            return [self._pictures[key] for key in sorted(self._pictures)]

    def add(self, letter: str, burst: str, content: bytes, media_type: str, features: np.ndarray) -> Example:
        """Keep a picture.

        Args:
            letter: its letter.
            burst: the name of the burst it was recorded in: letters, digits and hyphens.
            content: the file.
            media_type: ``image/jpeg`` or ``image/png``.
            features: the features of its hand.

        Raises:
            BodyError: 404 for an unknown letter, 422 for another name of a burst, 415 for another type, 413 for a file
                that is too large or if too many are kept, 507 if the file cannot be written.
        """
        if letter not in self._class_names:
            raise BodyError(404, f"the network has no such letter; it has {', '.join(self._class_names)}")
        if not _BURST.fullmatch(burst):
            raise BodyError(422, "the name of a burst has 1 to 40 letters, digits and hyphens")
        if media_type not in _SUFFIXES:
            raise BodyError(415, f"Content-Type is one of {', '.join(_SUFFIXES)}")
        if len(content) > MAX_BYTES:
            raise BodyError(413, f"{len(content):,} bytes; {MAX_BYTES:,} are the most for a picture that is kept")
        with self._lock:
            if len(self._pictures) >= MAX_PICTURES:
                raise BodyError(413, f"{MAX_PICTURES:,} pictures are the most: delete some")
            earlier = [re.match(rf"{burst}_(\d+)\.", name) for one, name in self._pictures if one == letter]
            numbers = [int(match[1]) for match in earlier if match is not None]
            name = f"{burst}_{max(numbers, default=0) + 1:02d}{_SUFFIXES[media_type]}"
            temporary = self._folder / letter / f".{uuid.uuid4().hex}"
            try:
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
                temporary.replace(temporary.with_name(name))
            except OSError as error:
                with suppress(OSError):
                    temporary.unlink()
                raise BodyError(507, f"the picture cannot be kept: {error.strerror}") from error
            picture = Example(letter, name, features)
            self._pictures[letter, name] = picture
        return picture

    def read(self, letter: str, name: str) -> bytes:
        """The content of a picture's file.

        Raises:
            BodyError: 404 if there is no such picture.
        """
        with self._lock:
            self._check(letter, name)
            try:
                return (self._folder / letter / name).read_bytes()
            except OSError as error:
                raise BodyError(404, f"the picture cannot be read: {error.strerror}") from error

    def delete(self, letter: str, name: str) -> None:
        """Delete a picture.

        Raises:
            BodyError: 404 if there is no such picture, 507 if its file cannot be deleted.
        """
        with self._lock:
            self._check(letter, name)
            self._delete(letter, name)

    def delete_all(self) -> None:
        """Delete all pictures.

        Raises:
            BodyError: 507 if a file cannot be deleted.
        """
        with self._lock:
            for letter, name in list(self._pictures):
                self._delete(letter, name)

    def write_archive(self, file: IO[bytes]) -> None:
        """Write all pictures as a ZIP file, without those whose files somebody else has deleted."""
        with zipfile.ZipFile(file, "w") as archive:
            for picture in self.pictures:
                with suppress(FileNotFoundError):
                    archive.write(self._folder / picture.letter / picture.name, f"{picture.letter}/{picture.name}")

    def _check(self, letter: str, name: str) -> None:
        # a name that is not in the list, such as ../x, never becomes a path
        if (letter, name) not in self._pictures:
            raise BodyError(404, "there is no such picture")

    def _delete(self, letter: str, name: str) -> None:
        try:
            (self._folder / letter / name).unlink(missing_ok=True)
        except OSError as error:
            raise BodyError(507, f"the picture cannot be deleted: {error.strerror}") from error
        del self._pictures[letter, name]
