"""Splits and classes of photographs are inferred from the names of their folders and files."""

from pathlib import PurePosixPath

import pytest

from preprocessing.errors import InputError
from preprocessing.layout import Layout, find_layout
from preprocessing.names import file_label, is_picture, split_of

SIGNER = r"(?P<signer>[^/]+)/[^/]+/"


def layout_of(*paths: str, class_names: tuple[str, ...] = (), pattern: str | None = None) -> Layout:
    """The layout of files with these paths; a path that ends with / is an empty folder.

    Brackets stand for one folder per class in them, ``train/[AB]/1.png``. The size of a file is the length of its path
    after the brackets.
    """
    files: dict[str, dict[str, int]] = {"": {}}
    for path in paths:
        prefix, bracket, rest = path.partition("[")
        labels, _, suffix = rest.partition("]")
        for label in labels if bracket else [""]:
            file = PurePosixPath(f"{prefix}{label}{suffix}" + ("." if path.endswith("/") else "x"))
            folder, name = (file, "") if path.endswith("/") else (file.parent, file.name[:-1])
            for parent in folder.parents:
                files.setdefault("" if str(parent) == "." else str(parent), {})
            sizes = files.setdefault("" if str(folder) == "." else str(folder), {})
            if name:
                sizes[name] = len(suffix)
    return find_layout(
        "photos", {path: len(names) for path, names in files.items()}, files.__getitem__, class_names, pattern
    )


def splits(layout: Layout) -> dict[str | None, set[str]]:
    paths: dict[str | None, set[str]] = {}
    for folder in layout.folders:
        paths.setdefault(folder.split, set()).add(folder.path)
    return paths


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "TEST"),
        ("TRAINING", "testing"),
        ("training_set", "test_set"),
        ("Train_Alphabet", "Test_Alphabet"),
        ("asl_alphabet_train/asl_alphabet_train", "asl_alphabet_test/asl_alphabet_test"),
        ("train_images", "test_images"),
        ("train-set", "test set"),
        ("trainset", "testset"),
        ("TrainingSet", "TestSet"),
        ("ASLTrain", "ASLTest"),
        ("asl-train", "asl-test"),
        ("asl.train", "asl.test"),
        ("01 Training", "02 Testing"),
        ("dataset/train", "dataset/test"),
        ("a/b/c/Training Data", "a/b/c/Test Data"),
        ("train_test_split/train", "train_test_split/test"),
        ("asl_test_project/train", "asl_test_project/test"),
        ("archive (1)/train", "other/test"),
        ("train/images", "test/images"),
    ],
)
def test_folders_with_usual_names_for_training_and_testing_are_the_splits(train: str, test: str) -> None:
    layout = layout_of(f"{train}/[ABC]/1.png", f"{train}/[ABC]/2.png", f"{test}/[ABC]/1.png")
    assert splits(layout) == {
        "train": {f"{train}/{label}" for label in "ABC"},
        "test": {f"{test}/{label}" for label in "ABC"},
    }
    assert [folder.label for folder in layout.folders] == [*"ABCABC"]
    shown = (train.removesuffix("/images"), test.removesuffix("/images"))
    assert layout.summary == f"train: {shown[0]} (6 images), test: {shown[1]} (3 images)"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation_Set", "asl-val", "dev"])
def test_a_validation_folder_is_the_validation_set(name: str) -> None:
    layout = layout_of("train/[AB]/1.png", f"{name}/[AB]/1.png", "test/[AB]/1.png")
    assert splits(layout) == {split: {f"{folder}/A", f"{folder}/B"} for split, folder in
                              {"train": "train", "validation": name, "test": "test"}.items()}  # fmt: skip
    assert layout.summary == f"train: train (2 images), validation: {name} (2 images), test: test (2 images)"


def test_without_a_test_folder_the_train_folder_is_to_be_split() -> None:
    layout = layout_of("train/[AB]/1.png", "valid/[AB]/1.png")
    assert splits(layout) == {None: {"train/A", "train/B"}, "validation": {"valid/A", "valid/B"}}
    assert layout.summary.endswith("valid (2 images); no test folder, test images are held out from train")
    assert splits(layout_of("data/train/[AB]/1.png")) == {None: {"data/train/A", "data/train/B"}}


@pytest.mark.parametrize("parent", ["", "hands/", "a/b/"])
def test_without_split_folders_all_images_are_to_be_split(parent: str) -> None:
    layout = layout_of(f"{parent}[ABC]/1.png", f"{parent}[ABC]/2.png")
    assert splits(layout) == {None: {f"{parent}{label}" for label in "ABC"}}
    assert layout.summary == "no train and test folders, 6 images"


def test_classes_in_different_folders_are_one_set_if_no_class_occurs_twice() -> None:
    layout = layout_of("letters/[ABC]/1.png", "digits/[012]/1.png", "space/1.png")
    assert splits(layout) == {None: {*(f"letters/{x}" for x in "ABC"), *(f"digits/{x}" for x in "012"), "space"}}
    nested = layout_of("letters/train/A/1.png", "digits/train/1/1.png", "letters/test/A/2.png", "digits/test/1/2.png")
    assert splits(nested) == {
        "train": {"letters/train/A", "digits/train/1"},
        "test": {"letters/test/A", "digits/test/1"},
    }


def test_class_folders_have_their_class_in_any_spelling() -> None:
    layout = layout_of(
        "train/[ab]/1.png", "train/delete/1.png", "train/Hello/1.png", "test/a/1.png", class_names=("Hello",)
    )
    assert {folder.path: folder.label for folder in layout.folders} == {
        "train/a": "A", "train/b": "B", "train/delete": "Del", "train/Hello": "Hello", "test/a": "A",
    }  # fmt: skip


def test_a_class_with_the_name_of_a_split_is_a_class() -> None:
    assert splits(layout_of("[AB]/1.png", "test/1.png", class_names=("test",))) == {None: {"A", "B", "test"}}


def test_file_names_give_the_classes_in_a_split_folder_without_class_folders() -> None:
    outer, inner = "asl_alphabet_train/asl_alphabet_train", "asl_alphabet_test/asl_alphabet_test"
    names = ["A_test.jpg", "nothing_test.jpg"]
    layout = layout_of(f"{outer}/[AB]/1.jpg", f"{outer}/nothing/1.jpg", *(f"{inner}/{name}" for name in names))
    assert [(folder.path, folder.split, folder.label) for folder in layout.folders if folder.label is None] == [
        (inner, "test", None)
    ]
    assert layout.summary == f"train: {outer} (3 images), test: {inner} (2 images)"


def test_split_folders_in_class_folders_are_split_folders() -> None:
    layout = layout_of("[AB]/train/1.png", "[AB]/test/1.png")
    assert splits(layout) == {"train": {"A/train", "B/train"}, "test": {"A/test", "B/test"}}
    assert [folder.label for folder in layout.folders] == [*"AABB"]
    assert layout.summary == "train: train (2 images), test: test (2 images)"


def test_the_innermost_of_nested_split_folders_gives_the_split() -> None:
    layout = layout_of("train/train/[AB]/1.png", "train/val/[AB]/1.png", "test/[AB]/1.png")
    assert splits(layout)["validation"] == {"train/val/A", "train/val/B"}
    assert splits(layout_of("train/[AB]/1.png", "train/val/[AB]/1.png"))["validation"] == {"train/val/A", "train/val/B"}


def test_a_folder_that_duplicates_its_parent_is_left_out() -> None:
    layout = layout_of("asl_dataset/[01ab]/x.jpg", "asl_dataset/asl_dataset/[01ab]/x.jpg")
    assert splits(layout) == {None: {f"asl_dataset/{label}" for label in "01ab"}}
    assert "4 images; not read: asl_dataset/asl_dataset, a duplicate of asl_dataset" in layout.summary
    in_source = layout_of("[01ab]/x.jpg", "asl_dataset/[01ab]/x.jpg")
    assert splits(in_source) == {None: set("01ab")}
    split = layout_of("train/[AB]/1.jpg", "train/train/[AB]/1.jpg", "test/[AB]/1.jpg", "test/test/[AB]/1.jpg")
    assert splits(split) == {"train": {"train/A", "train/B"}, "test": {"test/A", "test/B"}}


def test_several_folders_of_one_split_are_that_split() -> None:
    layout = layout_of("train1/[AB]/1.png", "train2/[AB]/2.png", "test/[AB]/1.png")
    assert layout.summary == "train: train1, train2 (4 images), test: test (2 images)"


def test_a_pattern_with_a_signer_allows_the_same_classes_in_several_folders() -> None:
    layout = layout_of("person1/[AB]/1.png", "person2/[AB]/1.png", pattern=SIGNER)
    assert splits(layout) == {None: {"person1/A", "person1/B", "person2/A", "person2/B"}}
    with_splits = layout_of(
        "train/u1/[AB]/1.png", "train/u2/[AB]/1.png", "test/u1/A/1.png", "test/u2/A/1.png", pattern=SIGNER
    )
    assert with_splits.summary == "train: train (4 images), test: test (2 images)"


def test_a_pattern_with_a_label_makes_class_folders_unnecessary() -> None:
    pattern = r"(?P<label>[A-Z])\d+"
    layout = layout_of("training/u1/A1.png", "training/u2/B1.png", "testing/u1/A2.png", "README.txt", pattern=pattern)
    assert splits(layout) == {"train": {"training/u1", "training/u2"}, "test": {"testing/u1"}}
    assert {folder.label for folder in layout.folders} == {None}


def test_notes_tables_hidden_files_and_illustrations_are_left_out() -> None:
    layout = layout_of(
        "train/[AB]/1.png", "test/[AB]/1.png", "README.md", "train/labels.csv", "docs/notes.txt", "labels/train/1.txt",
        "alphabet.png", ".cache/A/1.png", "__MACOSX/train/A/1.png", "train/._A.png",
    )  # fmt: skip
    assert splits(layout) == {"train": {"train/A", "train/B"}, "test": {"test/A", "test/B"}}
    assert layout.summary.endswith("; not read: 1 image directly in photos")


def test_the_layout_of_an_empty_source_is_empty() -> None:
    assert layout_of().folders == ()


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["person1/[AB]/1.png", "person2/[AB]/1.png"],
            "photos: class A is in person1 and in person2: rename them train and test, give the source a pattern with a"
            " signer, such as '(?P<signer>[^/]+)/[^/]+/', or list the folders as separate sources",
        ),
        (["[AB]/1.png", "more/[AB]/10.png"], "class A is in the folder itself and in more: rename them train and test"),
        (["new/[AB]/1.png", "new/new/A/1.png"], "class A is in new and in new/new"),
        (
            ["train/[AB]/1.png", "test/[AB]/1.png", "extra/[AB]/1.png"],
            "photos: unknown split for extra (next to test, train): move it into a folder called train, validation or"
            " test, or elsewhere",
        ),
        (["train/[AB]/1.png", "others/[CD]/1.png"], "unknown split for others (next to train)"),
        (["[ABCD]/1.png", "test/[ABCD]/1.png"], "unknown split for A, B, C and 1 more (next to test)"),
        (["train_val/[AB]/1.png", "test/[AB]/1.png"], "unknown split for train_val (next to test)"),
        (["asl_train/train/A/1.png", "asl_train/test/A/1.png", "asl_train/extra/A/1.png"], "for asl_train/extra (next"),
        (
            ["test/[AB]/1.png"],
            "photos: there is no train folder next to test: add one, or, to split all pictures, use the folder test"
            " itself as the source",
        ),
        (["val/[AB]/1.png"], "there is no train folder next to val: add one"),
        (["val/[AB]/1.png", "test/[AB]/1.png"], "there is no train folder next to test, val: add one"),
        (["train/[AB]/1.png", "test/"], "photos: test contains no pictures: add some, or remove the folder"),
        (["train/[AB]/1.png", "test/[AB]/1.png", "valid/[AB]/"], "photos: valid contains no pictures"),
        (["train/[AB]/1.png", "test/list.csv"], "photos: test contains no pictures"),
        (["test/A/1.png", "test/train/A/1.png"], "test/train is called train and lies in test, which is called test"),
        (
            ["fold1/train/A/1.png", "fold1/test/A/2.png", "fold2/train/A/1.png", "fold2/test/A/2.png"],
            "class A is in fold1/train and in fold2/train, and class A is in fold1/test and in fold2/test: keep one"
            " train folder and one test folder, ",
        ),
        (["train/[AB]/1.png", "train/Hello/1.png", "test/[AB]/1.png"], "train/Hello/1.png: 'Hello' is not a class; "),
        (["[AB]/1.png", "Hello/1.png"], "Hello/1.png: 'Hello' is not a class"),
        (["[AB]/session1/1.png"], "A/session1/1.png: 'session1' is not a class"),
        (["A_1.png", "B_1.png"], "photos: A_1.png: 'photos' is not a class"),
        (["train/[AB]/1.png", "train/A7.png", "test/[AB]/1.png"], "photos: train/A7.png: next to the class folders"),
        (["[AB]/1.png", "A_7.png"], "photos: A_7.png: next to the class folders: move each picture"),
        (
            ["train/[AB]/1.png", "test/A_test.png", "test/IMG_1.png", "test/12.png"],
            "photos: test: neither the folder name nor the file name gives the class of 12.png, IMG_1.png: create one"
            " folder per class in test; classes are letters, digits, Del, Nothing, Space, and those of --class-names;"
            " if the label is elsewhere in the path, give the source a pattern with a label",
        ),
    ],
)  # fmt: skip
def test_an_ambiguous_layout_is_refused_with_a_remedy(paths: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        layout_of(*paths)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["contest", "latest", "pretrained", "strain", "train_val", "person1", "A", ""])
def test_a_name_without_a_word_for_exactly_one_split_has_no_split(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("A_test.jpg", "A"), ("nothing_test.jpg", "Nothing"), ("A1.png", "A"), ("A0001_test.jpg", "A"),
        ("A (3).jpg", "A"), ("a-left.JPG", "A"), ("A.png", "A"), ("del.jpeg", "Del"), ("5_2.png", "5"),
        ("A12_jpg.rf.0a1b2c.jpg", "A"), ("A", "A"), ("thank_you_01.jpg", "thank_you"), ("space12.webp", "Space"),
        ("a1b2c3d4.jpg", None), ("IMG_0012.jpg", None), ("12.png", None), ("Apple_1.png", None), ("_A.png", None),
        ("hand1_a_bot_seg_1_cropped.jpeg", None),
    ],
)  # fmt: skip
def test_a_file_has_the_class_that_its_name_begins_with(name: str, label: str | None) -> None:
    assert file_label(name, ["thank_you"]) == label


def test_picture_files_are_recognized_by_their_suffixes() -> None:
    assert all(is_picture(name) for name in ("a.jpg", "a.JPEG", "a.b.png", "a.tiff", "a.webp", "_DSC1.HEIC"))
    assert not any(is_picture(name) for name in ("a.txt", "README", "a.png.csv", "jpg", "a.db", "._a.jpg"))
