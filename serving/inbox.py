"""Pictures that land in a folder, each noted once, when it is whole."""

import json
import stat
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocessing.storage import Storage, local_path

# What is being written is called like this by browsers, curl, rsync and Hadoop.
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", "._copying_")
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"


@dataclass
class Inbox:
    """A folder in which pictures land, and the notes of those that have: files of JSON lines with ``id``, the path
    within the folder, ``path``, and ``landed``, in seconds since 1970.

    A note appears whole or not at all, and Spark reads each of them once. Who is started again finds what was noted
    before.

    Args:
        storage: the session's file systems.
        folder: where pictures land, absolute.
        notes: the folder of the notes, absolute.
        settled: seconds after which a file that nobody has written to is whole.
        given_up: seconds after which one without an end is taken as it is.
        size: pictures of a note at most.
    """

    storage: Storage
    folder: str
    notes: str
    settled: float = 1.0
    given_up: float = 60.0
    size: int = 100
    noted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.storage.make_folder(self.notes)
        for name in self.storage.children(self.notes):
            if not name.startswith("."):
                lines = self.storage.read_text(f"{self.notes}/{name}").splitlines()
                self.noted.update(json.loads(line)["id"] for line in lines)

    def look(self) -> tuple[int, int]:
        """Note what has landed and is whole.

        Returns:
            How many pictures were noted, and how many are not whole yet.
        """
        start = len(self.folder) + 1
        now, waiting = time.time(), 0
        whole: list[dict[str, Any]] = []
        there: set[str] = set()
        for path, size, milliseconds in self._files():
            name = path[start:]
            if any(part[0] in "._" for part in name.split("/")) or name.lower().endswith(_UNFINISHED):
                continue
            there.add(name)
            if name in self.noted:
                continue
            landed = milliseconds / 1000
            if now - landed < self.settled or (now - landed < self.given_up and not self._has_end(path, size)):
                waiting += 1
            else:
                whole.append({"id": name, "path": path, "landed": landed})
        for first in range(0, len(whole), self.size):
            self._note(whole[first : first + self.size])
        # what has been taken away is not held in mind, or the set would grow for ever
        self.noted &= there
        self.noted |= {note["id"] for note in whole}
        return len(whole), waiting

    def _files(self) -> list[tuple[str, int, int]]:
        if not self.folder.startswith("file:"):
            return self.storage.files(self.folder)
        # without Java, which is asked for every file by itself
        found = []
        for file in local_path(self.folder).rglob("*"):
            try:
                status = file.stat()
            except OSError:  # taken away meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((f"file://{file}", status.st_size, int(1000 * status.st_mtime)))
        return sorted(found, key=lambda file: (file[2], file[0]))

    @staticmethod
    def _has_end(path: str, size: int) -> bool:
        """Whether the file ends as its format does. In object stores files appear whole; in HDFS they have another name
        until they are."""
        if not path.startswith("file:"):
            return True
        if size == 0:
            return False
        try:
            with local_path(path).open("rb") as file:
                begin = file.read(4)
                file.seek(max(0, size - 64))
                end = file.read()
        except OSError:
            return False
        if begin.startswith(_JPEG):
            return _JPEG_END in end
        return _PNG_END in end if begin == _PNG else True

    def _note(self, pictures: list[dict[str, Any]]) -> None:
        name = f"{time.time_ns()}-{uuid.uuid4().hex}.json"
        with tempfile.TemporaryDirectory() as local:
            file = Path(local) / name
            file.write_text("".join(json.dumps(picture) + "\n" for picture in pictures))
            # Spark passes over hidden files
            self.storage.upload(file, f"{self.notes}/.{name}")
        self.storage.rename(f"{self.notes}/.{name}", f"{self.notes}/{name}")
