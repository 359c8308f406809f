"""Which folders of photographs are for training, validation and testing, inferred from folder and file names.

An ambiguous layout is refused rather than pooled: otherwise test pictures would silently be trained on.
"""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from preprocessing.errors import InputError
from preprocessing.labels import OTHERS, class_name
from preprocessing.names import SPLITS, file_label, is_picture, split_of
from preprocessing.schema import TEST, TRAIN

# The names of the files directly in a folder, and their sizes in bytes.
Files = Callable[[str], Mapping[str, int]]

_MAX_SHOWN = 3


@dataclass(frozen=True)
class PictureFolder:
    """A folder that directly contains pictures; those in its subfolders are not counted.

    Args:
        path: path within the source; "" is the source itself.
        split: split of all its pictures: train, validation or test; None if they are still to be split.
        label: class of all its pictures; None if the label depends on the file: it then comes from the source's pattern
            if that has a label, otherwise from :func:`preprocessing.names.file_label`.
        images: number of files.
    """

    path: str
    split: str | None
    label: str | None
    images: int


@dataclass(frozen=True)
class Layout:
    """How the folders of a source are interpreted.

    Args:
        folders: the folders with pictures, ordered by path; files in other folders are not read.
        summary: one line for the user: ``train: training_set (40 images), test: test_set (16 images)``.
    """

    folders: tuple[PictureFolder, ...]
    summary: str


@dataclass(frozen=True)
class _Candidate:
    """A folder with pictures."""

    path: str
    root: str  # The path without the class folder, that is, the folder that holds the class folders.
    label: str | None
    labels: frozenset[str]  # The labels of all its pictures, as far as they are known.
    images: int
    split: str | None = None
    split_folder: str = ""  # The root, up to the folder whose name denotes the split.


def find_layout(
    source: str, folders: Mapping[str, int], files: Files, class_names: Collection[str] = (), pattern: str | None = None
) -> Layout:
    """Identify split folders and class folders by their names.

    A class folder has the name of a class, and may contain split folders (``A/train/1.png``). In a split folder without
    class folders, the file names give the labels. Among nested split folders the innermost one gives the split; a
    folder around all others gives none. A folder that duplicates one of its parents file by file is left out.
    Without a test set, the training set is still to be split.

    Args:
        source: name of the source in messages.
        folders: number of files directly in each folder, by its path within the source; "" is the source itself.
        files: lists a folder's files; called for folders that are not class folders, and for class folders that seem
            to duplicate others.
        class_names: names of classes beyond the built-in ones.
        pattern: pattern of the source, if any. One with a label makes class folders unnecessary; one with a label or
            a signer explains why the same classes occur in several folders.

    Raises:
        InputError: It is ambiguous which of two folders is for training and which for testing, or which class a picture
            has; a split folder has no pictures; or there are no training pictures.
    """
    return _Finder(source, folders, files, class_names, pattern).find()


class _Finder:
    def __init__(
        self, source: str, folders: Mapping[str, int], files: Files, class_names: Collection[str], pattern: str | None
    ) -> None:
        groups = set(re.compile(pattern).groupindex) if pattern else set()
        self.source, self.files, self.class_names = source, files, class_names
        self.label_by_pattern, self.classes_may_repeat = "label" in groups, bool(groups & {"label", "signer"})
        # Without hidden folders and those that macOS adds to archives.
        self.folders = {path: folders[path] for path in sorted(folders) if not re.search(r"(^|/)(\.|__MACOSX)", path)}

    def find(self) -> Layout:
        candidates = [self._candidate(path) for path, count in self.folders.items() if count]
        with_pictures = [folder for folder in candidates if folder is not None]
        parents = {parent for folder in with_pictures for parent in _parents(folder.path)}
        outside = [folder for folder in with_pictures if self._is_labeled_by_file(folder) and folder.path in parents]
        folders = [folder for folder in with_pictures if folder not in outside]
        self.depth = self._common_depth({folder.root for folder in folders})
        folders = [self._with_split(folder) for folder in folders]
        self._check_outside(outside)
        folders = [
            self._with_labels(folder, folders) if self._is_labeled_by_file(folder) else folder for folder in folders
        ]
        self._check_empty(folders)
        by_root: dict[str, list[_Candidate]] = {}
        for folder in folders:
            by_root.setdefault(folder.root, []).append(folder)
        duplicates = self._duplicates(by_root)
        self._check_splits({root: inside for root, inside in by_root.items() if root not in duplicates})
        kept = [folder for folder in folders if folder.root not in duplicates]
        unread = [f"{inner}, a duplicate of {outer or 'its parent folder'}" for inner, outer in duplicates.items()]
        unread += [f"{_images(folder.images)} directly in {folder.path or self.source}" for folder in outside]
        return Layout(_table(kept), "; ".join([_summary(kept), *(f"not read: {name}" for name in unread)]))

    def _candidate(self, path: str) -> _Candidate | None:
        """The folder with its class and root; None if it contains no pictures."""
        names = path.split("/") if path else []
        if not self.label_by_pattern:
            last = len(names) - 1
            while last >= 0 and self._split_of(names[last]) is not None:
                last -= 1
            label = class_name(names[last], self.class_names) if last >= 0 else None
            if label is not None:
                root = "/".join(names[:last] + names[last + 1 :])
                return _Candidate(path, root, label, frozenset([label]), self.folders[path])
        count = len(self._pictures(path))
        return _Candidate(path, path, None, frozenset(), count) if count else None

    def _is_labeled_by_file(self, folder: _Candidate) -> bool:
        return folder.label is None and not self.label_by_pattern

    def _pictures(self, path: str) -> list[str]:
        return sorted(name for name in self.files(path) if is_picture(name))

    def _split_of(self, name: str) -> str | None:
        return split_of(name) if class_name(name, self.class_names) is None else None

    def _common_depth(self, roots: set[str]) -> int:
        """How many folders contain all others and therefore give no split, as in ``asl_test_project/train``."""
        parts = [root.split("/") for root in roots]
        shared = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
        depth = len(list(shared))
        is_root = any(len(names) == depth for names in parts)
        has_split_below = any(self._split_of(name) for names in parts for name in names[depth:])
        return depth if has_split_below and not is_root else 0

    def _split_folders(self, path: str) -> dict[str, str]:
        """The splits of the folders of a path whose names denote one, by their paths, outermost first."""
        names = path.split("/")
        splits = {"/".join(names[: end + 1]): self._split_of(names[end]) for end in range(self.depth, len(names))}
        return {name: split for name, split in splits.items() if split is not None}

    def _with_split(self, folder: _Candidate) -> _Candidate:
        split_folders = self._split_folders(folder.root)
        if not split_folders:
            return folder
        *outer, (name, split) = split_folders.items()
        conflict = next((parent for parent in outer if parent[1] not in (TRAIN, split)), None)
        if conflict is not None:
            raise InputError(
                f"{self.source}: {name} is called {split} and lies in {conflict[0]}, which is called {conflict[1]}:"
                " rename or move one of them"
            )
        return replace(folder, split=split, split_folder=name)

    def _with_labels(self, folder: _Candidate, folders: list[_Candidate]) -> _Candidate:
        """Add the labels that the file names give; the same split folder must not have class folders."""
        names = self._pictures(folder.path)
        file, last = f"{folder.path}/{names[0]}".lstrip("/"), folder.path.rsplit("/", 1)[-1] or self.source
        if folder.split is None or any(other.label and other.split_folder == folder.split_folder for other in folders):
            raise InputError(f"{self.source}: {file}: {last!r} is not a class; {_CLASSES}")
        labels = {name: file_label(name, self.class_names) for name in names}
        unknown = [name for name, label in labels.items() if label is None]
        if unknown:
            raise InputError(
                f"{self.source}: {folder.path}: neither the folder name nor the file name gives the class of"
                f" {_listed(unknown)}: create one folder per class in {folder.split_folder}; {_CLASSES}"
            )
        return replace(folder, labels=frozenset(label for label in labels.values() if label is not None))

    def _check_outside(self, outside: list[_Candidate]) -> None:
        """Refuse pictures next to class folders if they are in a split folder or their names begin with a class.

        The others are taken for illustrations.
        """
        for folder in outside:
            names = self._pictures(folder.path)
            if not self._split_folders(folder.path):
                names = [name for name in names if file_label(name, self.class_names)]
            if names:
                raise InputError(
                    f"{self.source}: {_listed([f'{folder.path}/{name}'.lstrip('/') for name in names])}: next to the"
                    " class folders: move each picture into its class folder, or remove it"
                )

    def _check_empty(self, folders: list[_Candidate]) -> None:
        """Refuse a split that has a folder but no pictures."""
        splits = {folder.split for folder in folders}
        for path in self.folders if folders else ():
            split_folders = self._split_folders(path)
            if path in split_folders and split_folders[path] not in splits:
                raise InputError(f"{self.source}: {path} contains no pictures: add some, or remove the folder")

    def _duplicates(self, by_root: dict[str, list[_Candidate]]) -> dict[str, str]:
        """The roots that duplicate one of their parents, as in an archive that was unpacked into its own contents."""

        def counts(root: str) -> list[tuple]:
            return sorted((folder.label or "", folder.split or "", folder.images) for folder in by_root[root])

        def files(root: str) -> list[list[tuple[str, int]]]:
            return sorted(sorted(self.files(folder.path).items()) for folder in by_root[root])

        pairs = [(inner, outer) for inner in by_root for outer in _parents(inner) if outer in by_root]
        return {
            inner: outer for inner, outer in pairs if counts(inner) == counts(outer) and files(inner) == files(outer)
        }

    def _check_splits(self, by_root: dict[str, list[_Candidate]]) -> None:
        without_split = {root: inside for root, inside in by_root.items() if inside[0].split is None}
        splits: dict[str, dict[str, list[_Candidate]]] = {split: {} for split in SPLITS}
        for inside in by_root.values():
            if inside[0].split is not None:
                # All folders in a split folder, such as one per signer, belong to that split.
                splits[inside[0].split].setdefault(inside[0].split_folder, []).extend(inside)
        split_folders = sorted({name for folders in splits.values() for name in folders})
        if split_folders and without_split:
            # "" stands for the class folders themselves, if they lie next to a split folder.
            names = [root for root in without_split if root] or [
                folder.path or "pictures" for folder in without_split[""]
            ]
            raise InputError(
                f"{self.source}: unknown split for {_listed(names)} (next to {_listed(split_folders)}): move it into a"
                " folder called train, validation or test, or elsewhere"
            )
        if split_folders and not splits[TRAIN]:
            raise InputError(
                f"{self.source}: there is no train folder next to {_listed(split_folders)}: add one, or, to split all"
                f" pictures, use the folder {split_folders[0]} itself as the source"
            )
        if self.classes_may_repeat:
            return
        if pair := _shared_class(without_split):
            raise InputError(f"{self.source}: {pair}: rename them train and test, {_REMEDY}")
        pairs = [pair for folders in splits.values() if (pair := _shared_class(folders))]
        if len(pairs) > 1:
            raise InputError(
                f"{self.source}: {', and '.join(pairs)}: keep one train folder and one test folder, {_REMEDY}"
            )


_CLASSES = (
    f"classes are letters, digits, {', '.join(OTHERS)}, and those of --class-names; if the label is elsewhere in the"
    " path, give the source a pattern with a label"
)
_REMEDY = (
    "give the source a pattern with a signer, such as '(?P<signer>[^/]+)/[^/]+/', or list the folders as separate"
    " sources"
)


def _table(folders: list[_Candidate]) -> tuple[PictureFolder, ...]:
    to_split = () if any(folder.split == TEST for folder in folders) else (TRAIN,)
    return tuple(
        PictureFolder(folder.path, None if folder.split in to_split else folder.split, folder.label, folder.images)
        for folder in folders
    )


def _shared_class(groups: Mapping[str, Iterable[_Candidate]]) -> str | None:
    """A sentence naming a class and two groups of folders that both have it; None if there is no such class."""
    first_groups: dict[str, str] = {}
    for name, folders in groups.items():
        for label in sorted({label for folder in folders for label in folder.labels}):
            if first_groups.setdefault(label, name) != name:
                return f"class {label} is in {first_groups[label] or 'the folder itself'} and in {name}"
    return None


def _summary(folders: list[_Candidate]) -> str:
    names = {
        split: list(dict.fromkeys(folder.split_folder for folder in folders if folder.split == split))
        for split in SPLITS
    }
    counts = {split: sum(folder.images for folder in folders if folder.split == split) for split in (None, *SPLITS)}
    parts = [f"{split}: {_listed(names[split])} ({_images(counts[split])})" for split in SPLITS if names[split]]
    if not parts:
        return f"no train and test folders, {_images(counts[None])}"
    return ", ".join(parts) + ("" if names[TEST] else "; no test folder, test images are held out from train")


def _parents(path: str) -> list[str]:
    """The folders that contain a path, outermost first."""
    return ["", *(path[: slash.start()] for slash in re.finditer("/", path))] if path else []


def _listed(names: list[str]) -> str:
    remainder = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(names[:_MAX_SHOWN]) + remainder


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
