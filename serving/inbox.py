"""Pictures that land in a folder, each noted once, when it is whole."""

import base64
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from preprocessing.listing import is_ignored, shown_name
from preprocessing.storage import FileEntry, Storage, local_path

# What is being written is called like this by browsers, curl, rsync and Hadoop.
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", "._copying_")
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"


@dataclass
class Inbox:
    """A folder in which pictures land, and the notes of those that have: files of JSON lines with ``id``, the path
    within the folder as it is shown, ``path``, all of it in base 64 (null where Spark reads it), ``length`` in bytes
    (null for a link, or what else is no file), ``is_link``, and ``landed``, in seconds since 1970.

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
        now, waiting = time.time(), 0
        whole: list[dict[str, Any]] = []
        there: set[str] = set()
        for entry in self.storage.walk(self.folder, follow_links=False):
            name = shown_name(entry.name)
            if entry.is_folder or is_ignored(name) or name.lower().endswith(_UNFINISHED):
                continue
            there.add(name)
            if name in self.noted:
                continue
            landed = entry.modified / 1000
            if now - landed < self.settled or (now - landed < self.given_up and not self._has_end(entry)):
                waiting += 1
            else:
                path = os.fsencode(f"{local_path(self.folder)}/{entry.name}") if self._is_local else None
                whole.append(
                    {"id": name, "path": path and base64.b64encode(path).decode(), "length": entry.size}
                    | {"is_link": entry.is_link, "landed": landed}
                )
        whole.sort(key=lambda note: (note["landed"], note["id"]))
        for first in range(0, len(whole), self.size):
            self._note(whole[first : first + self.size])
        # what has been taken away is not held in mind, or the set would grow for ever
        self.noted &= there
        self.noted |= {note["id"] for note in whole}
        return len(whole), waiting

    @property
    def _is_local(self) -> bool:
        return self.folder.startswith("file:")

    def _has_end(self, entry: FileEntry) -> bool:
        """Whether the file ends as its format does. In object stores files appear whole; in HDFS they have another name
        until they are."""
        if not self._is_local or entry.size is None:
            return True
        if entry.size == 0:
            return False
        try:
            with (local_path(self.folder) / entry.name).open("rb") as file:
                begin = file.read(4)
                file.seek(max(0, entry.size - 64))
                end = file.read()
        except OSError:
            return False
        if begin.startswith(_JPEG):
            return _JPEG_END in end
        return _PNG_END in end if begin == _PNG else True

    def _note(self, pictures: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(picture) + "\n" for picture in pictures)
        self.storage.write_text(f"{self.notes}/{time.time_ns()}-{uuid.uuid4().hex}.json", lines)
