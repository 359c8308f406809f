"""Pictures that land in a folder, each noted once, as soon as it is complete."""

import base64
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from preprocessing.file_systems import local_path
from preprocessing.listing import is_ignored, shown_name
from preprocessing.storage import FileEntry, Storage

# Endings that browsers, curl, rsync and Hadoop give to files that they are still writing.
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", "._copying_")
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"


@dataclass
class Inbox:
    """A folder in which pictures land, and the notes about them.

    A note is a file of JSON lines, one per picture, with ``id``, the displayed path within the folder; ``path``, the
    full path in base64 (null where Spark reads it); ``length`` in bytes (null for a link, or what is not a file);
    ``is_link``; and ``landed``, in seconds since 1970.

    Notes are published atomically, and Spark reads each of them once. A restarted job reads the earlier notes first.

    Args:
        storage: the session's file systems.
        folder: where pictures land, an absolute path.
        notes: folder of the notes, an absolute path.
        settle_seconds: a file counts as complete when it has not been written to for this long.
        incomplete_seconds: a file without its format's end is taken as it is after this long.
        note_size: maximum number of pictures in a note.
        noted_ids: pictures in the folder that have been noted.
    """

    storage: Storage
    folder: str
    notes: str
    settle_seconds: float = 1.0
    incomplete_seconds: float = 60.0
    note_size: int = 100
    noted_ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.storage.make_folder(self.notes)
        for name in self.storage.children(self.notes):
            if not name.startswith("."):
                lines = self.storage.read_text(f"{self.notes}/{name}").splitlines()
                self.noted_ids.update(json.loads(line)["id"] for line in lines)

    def look(self) -> tuple[int, int]:
        """Note the pictures that have landed and are complete.

        Returns:
            The number of pictures that were noted, and of those that are still incomplete.
        """
        time_now, incomplete = time.time(), 0
        complete: list[dict[str, Any]] = []
        listed_ids: set[str] = set()
        for entry in self.storage.walk(self.folder, follow_links=False):
            name = shown_name(entry.name)
            if entry.is_folder or is_ignored(name) or name.lower().endswith(_UNFINISHED):
                continue
            listed_ids.add(name)
            if name in self.noted_ids:
                continue
            landed = entry.modified / 1000
            age = time_now - landed
            if age < self.settle_seconds or (age < self.incomplete_seconds and not self._has_end(entry)):
                incomplete += 1
            else:
                path = os.fsencode(f"{local_path(self.folder)}/{entry.name}") if self._is_local else None
                complete.append(
                    {"id": name, "path": path and base64.b64encode(path).decode(), "length": entry.size}
                    | {"is_link": entry.is_link, "landed": landed}
                )
        complete.sort(key=lambda picture: (picture["landed"], picture["id"]))
        for start in range(0, len(complete), self.note_size):
            self._write_note(complete[start : start + self.note_size])
        # pictures that were removed from the folder are forgotten, or the set would grow forever
        self.noted_ids &= listed_ids
        self.noted_ids |= {picture["id"] for picture in complete}
        return len(complete), incomplete

    @property
    def _is_local(self) -> bool:
        return self.folder.startswith("file:")

    def _has_end(self, entry: FileEntry) -> bool:
        """Whether the file ends as its format requires. Other file systems need no check: in object stores files appear
        complete, and in HDFS they have another name until they are."""
        if not self._is_local or entry.size is None:
            return True
        if entry.size == 0:
            return False
        try:
            with (local_path(self.folder) / entry.name).open("rb") as file:
                head = file.read(4)
                file.seek(max(0, entry.size - 64))
                tail = file.read()
        except OSError:
            return False
        if head.startswith(_JPEG):
            return _JPEG_END in tail
        return _PNG_END in tail if head == _PNG else True

    def _write_note(self, pictures: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(picture) + "\n" for picture in pictures)
        self.storage.write_text(f"{self.notes}/{time.time_ns()}-{uuid.uuid4().hex}.json", lines)
