"""Which folders of photographs train, validate and test, by what folders and files are called.

What cannot be told is refused, not pooled: test pictures would be trained on, and nothing would be said.
"""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from preprocessing.errors import InputError
from preprocessing.labels import OTHERS, class_name
from preprocessing.names import SPLITS, file_label, is_picture, split_of
from preprocessing.schema import TEST, TRAIN

# The names and bytes of the files that lie directly in a folder.
Files = Callable[[str], Mapping[str, int]]

_SHOWN = 3


@dataclass(frozen=True)
class PictureFolder:
    """A folder that pictures lie in, without those in folders of it.

    Args:
        path: within the source, "" the source itself.
        split: of all its pictures: train, validation or test; None where they are to be divided.
        label: the class of all its pictures; None where each file tells its own: by the source's pattern if that has a
            label, otherwise by :func:`preprocessing.names.file_label`.
        images: how many files there are.
    """

    path: str
    split: str | None
    label: str | None
    images: int


@dataclass(frozen=True)
class Layout:
    """What a source's folders were taken for.

    Args:
        folders: those with pictures, in the order of their paths; what lies in others is not to be read.
        said: what was taken for what, in a line: ``train: training_set (40 images), test: test_set (16 images)``.
    """

    folders: tuple[PictureFolder, ...]
    said: str


@dataclass(frozen=True)
class _Found:
    """A folder with pictures."""

    path: str
    place: str  # the path without the class's folder: where the classes lie
    label: str | None
    labels: frozenset[str]  # of all pictures in it, as far as they are known
    images: int
    split: str | None = None
    name: str = ""  # the place as far as it tells the split


def find_layout(
    source: str, folders: Mapping[str, int], files: Files, classes: Collection[str] = (), pattern: str | None = None
) -> Layout:
    """Tell split folders and class folders by their names.

    A class folder is called like a class, and may have split folders in it (``A/train/1.png``). In a split folder
    without class folders the names of the files tell their classes. Of split folders in each other the innermost tells
    the split; one around all others tells none. A folder that repeats the one around it file by file is left out.
    Where there is no test set, the training set is to be divided.

    Args:
        source: what messages call it.
        folders: every folder in it by its path within it, "" the source itself, and how many files lie directly in it.
        files: asked of folders that are no class's; of class folders, where one seems to repeat another.
        classes: names of classes beyond those that are known.
        pattern: the source's, if any. One with a label makes class folders needless, and one with a label or a signer
            tells why the same classes lie in several folders.

    Raises:
        InputError: it cannot be told which of two folders trains and which tests, or what class a picture is of; a
            split folder has no pictures; there is nothing to train on.
    """
    return _Finder(source, folders, files, classes, pattern).find()


class _Finder:
    def __init__(
        self, source: str, folders: Mapping[str, int], files: Files, classes: Collection[str], pattern: str | None
    ) -> None:
        groups = set(re.compile(pattern).groupindex) if pattern else set()
        self.source, self.files, self.classes = source, files, classes
        self.by_pattern, self.explained = "label" in groups, bool(groups & {"label", "signer"})
        # hidden ones aside, and what macOS packs beside them
        self.folders = {path: folders[path] for path in sorted(folders) if not re.search(r"(^|/)(\.|__MACOSX)", path)}

    def find(self) -> Layout:
        looked = [self._look(path) for path, count in self.folders.items() if count]
        holding = [folder for folder in looked if folder is not None]
        around = {parent for folder in holding for parent in _parents(folder.path)}
        beside = [folder for folder in holding if self._by_file(folder) and folder.path in around]
        found = [folder for folder in holding if folder not in beside]
        self.start = self._first_that_tells({folder.place for folder in found})
        found = [self._with_split(folder) for folder in found]
        self._check_beside(beside)
        found = [self._with_labels(folder, found) if self._by_file(folder) else folder for folder in found]
        self._check_empty(found)
        places: dict[str, list[_Found]] = {}
        for folder in found:
            places.setdefault(folder.place, []).append(folder)
        repeats = self._repeats(places)
        self._check({place: inside for place, inside in places.items() if place not in repeats})
        kept = [folder for folder in found if folder.place not in repeats]
        unread = [f"{inner}, which repeats {outer or 'what lies around it'}" for inner, outer in repeats.items()]
        unread += [f"{_images(folder.images)} directly in {folder.path or self.source}" for folder in beside]
        return Layout(_table(kept), "; ".join([_said(kept), *(f"not read: {name}" for name in unread)]))

    def _look(self, path: str) -> _Found | None:
        """The folder's class and place; None where there is no picture in it."""
        names = path.split("/") if path else []
        if not self.by_pattern:
            last = len(names) - 1
            while last >= 0 and self._split_of(names[last]) is not None:
                last -= 1
            label = class_name(names[last], self.classes) if last >= 0 else None
            if label is not None:
                place = "/".join(names[:last] + names[last + 1 :])
                return _Found(path, place, label, frozenset([label]), self.folders[path])
        count = len(self._pictures(path))
        return _Found(path, path, None, frozenset(), count) if count else None

    def _by_file(self, folder: _Found) -> bool:
        return folder.label is None and not self.by_pattern

    def _pictures(self, path: str) -> list[str]:
        return sorted(name for name in self.files(path) if is_picture(name))

    def _split_of(self, name: str) -> str | None:
        return split_of(name) if class_name(name, self.classes) is None else None

    def _first_that_tells(self, places: set[str]) -> int:
        """How many folders lie around all others and tell nothing, as in ``asl_test_project/train``."""
        parts = [place.split("/") for place in places]
        around = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
        common = len(list(around))
        is_place = any(len(names) == common for names in parts)
        beyond = any(self._split_of(name) for names in parts for name in names[common:])
        return common if beyond and not is_place else 0

    def _told(self, place: str) -> dict[str, str]:
        """The folders of a place that tell a split, from outside in."""
        names = place.split("/")
        splits = {"/".join(names[: end + 1]): self._split_of(names[end]) for end in range(self.start, len(names))}
        return {name: split for name, split in splits.items() if split is not None}

    def _with_split(self, folder: _Found) -> _Found:
        told = self._told(folder.place)
        if not told:
            return folder
        *outer, (name, split) = told.items()
        against = next((before for before in outer if before[1] not in (TRAIN, split)), None)
        if against is not None:
            raise InputError(
                f"{self.source}: {name} is called {split} and lies in {against[0]}, which is called {against[1]}:"
                " rename or move one of them"
            )
        return replace(folder, split=split, name=name)

    def _with_labels(self, folder: _Found, others: list[_Found]) -> _Found:
        """The classes by the files' names, where no class folder is in the same split's folder."""
        names = self._pictures(folder.path)
        file, last = f"{folder.path}/{names[0]}".lstrip("/"), folder.path.rsplit("/", 1)[-1] or self.source
        if folder.split is None or any(other.label and other.name == folder.name for other in others):
            raise InputError(f"{self.source}: {file}: {last!r} is no class; {_CLASSES}")
        labels = {name: file_label(name, self.classes) for name in names}
        unknown = [name for name, label in labels.items() if label is None]
        if unknown:
            raise InputError(
                f"{self.source}: {folder.path}: neither the folder nor the file's name tells the class of"
                f" {_listed(unknown)}: put a folder a class into {folder.name}; {_CLASSES}"
            )
        return replace(folder, labels=frozenset(label for label in labels.values() if label is not None))

    def _check_beside(self, beside: list[_Found]) -> None:
        """Pictures around all splits illustrate; those in a split's folder, or named by a class, were meant for it."""
        for folder in beside:
            names = self._pictures(folder.path)
            meant = names if self._told(folder.path) else [name for name in names if file_label(name, self.classes)]
            if meant:
                raise InputError(
                    f"{self.source}: {_listed([f'{folder.path}/{name}'.lstrip('/') for name in meant])}: beside the"
                    " folders of classes: put each into its class's folder, or take it away"
                )

    def _check_empty(self, found: list[_Found]) -> None:
        """A split that has a folder and no picture."""
        splits = {folder.split for folder in found}
        for path in self.folders if found else ():
            told = self._told(path)
            if path in told and told[path] not in splits:
                raise InputError(f"{self.source}: {path} has no picture in it: fill it, or take it away")

    def _repeats(self, places: dict[str, list[_Found]]) -> dict[str, str]:
        """The places that repeat one around them, as an archive does that was unpacked into what it holds."""

        def counts(place: str) -> list[tuple]:
            return sorted((folder.label or "", folder.split or "", folder.images) for folder in places[place])

        def files(place: str) -> list[list[tuple[str, int]]]:
            return sorted(sorted(self.files(folder.path).items()) for folder in places[place])

        pairs = [(inner, outer) for inner in places for outer in _parents(inner) if outer in places]
        return {
            inner: outer for inner, outer in pairs if counts(inner) == counts(outer) and files(inner) == files(outer)
        }

    def _check(self, places: dict[str, list[_Found]]) -> None:
        untold = {place: inside for place, inside in places.items() if inside[0].split is None}
        splits: dict[str, dict[str, list[_Found]]] = {split: {} for split in SPLITS}
        for inside in places.values():
            if inside[0].split is not None:
                # what lies in one split's folder, such as a folder a signer, is all of that split
                splits[inside[0].split].setdefault(inside[0].name, []).extend(inside)
        told = sorted({folder.name for found in splits.values() for inside in found.values() for folder in inside})
        if told and untold:
            # the class folders themselves, where they lie beside a split's
            names = [place for place in untold if place] or [folder.path or "pictures" for folder in untold[""]]
            raise InputError(
                f"{self.source}: beside {_listed(told)} lies {_listed(names)}, which tells no split: put it into a"
                " folder called train, validation or test, or move it elsewhere"
            )
        if told and not splits[TRAIN]:
            raise InputError(
                f"{self.source}: there is no train folder beside {_listed(told)}: add one, or, if all pictures are to"
                f" be divided, give the folder {told[0]} itself as the source"
            )
        if self.explained:
            return
        if pair := _share(untold):
            raise InputError(f"{self.source}: {pair}: call them train and test, {_REMEDY}")
        pairs = [pair for found in splits.values() if (pair := _share(found))]
        if len(pairs) > 1:
            raise InputError(
                f"{self.source}: {', and '.join(pairs)}: keep one train folder and one test folder, {_REMEDY}"
            )


_CLASSES = (
    f"classes are letters, digits, {', '.join(OTHERS)}, and what --classes names; where other names tell them, give the"
    " source a pattern with a label"
)
_REMEDY = (
    "give the source a pattern with a signer, such as '(?P<signer>[^/]+)/[^/]+/', or list the folders as sources of"
    " their own"
)


def _table(found: list[_Found]) -> tuple[PictureFolder, ...]:
    divided = () if any(folder.split == TEST for folder in found) else (TRAIN,)
    return tuple(
        PictureFolder(folder.path, None if folder.split in divided else folder.split, folder.label, folder.images)
        for folder in found
    )


def _share(places: Mapping[str, Iterable[_Found]]) -> str | None:
    """Two places that have a class in common, in words."""
    seen: dict[str, str] = {}
    for place, inside in places.items():
        for label in sorted({label for folder in inside for label in folder.labels}):
            if seen.setdefault(label, place) != place:
                return f"class {label} is in {seen[label] or 'the folder itself'} and in {place}"
    return None


def _said(found: list[_Found]) -> str:
    names = {split: list(dict.fromkeys(folder.name for folder in found if folder.split == split)) for split in SPLITS}
    counts = {split: sum(folder.images for folder in found if folder.split == split) for split in (None, *SPLITS)}
    told = [f"{split}: {_listed(names[split])} ({_images(counts[split])})" for split in SPLITS if names[split]]
    if not told:
        return f"no train and test folders, {_images(counts[None])} to be divided"
    return ", ".join(told) + ("" if names[TEST] else "; no test folder, test images are kept back from train")


def _parents(path: str) -> list[str]:
    """The folders around one, from outside in."""
    return ["", *(path[: slash.start()] for slash in re.finditer("/", path))] if path else []


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
