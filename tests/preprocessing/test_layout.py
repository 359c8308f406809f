"""What folders of photographs are taken for, by their names alone."""

from pathlib import PurePosixPath

import pytest

from preprocessing.errors import InputError
from preprocessing.layout import Layout, find_layout
from preprocessing.names import file_label, is_picture, split_of

SIGNER = r"(?P<signer>[^/]+)/[^/]+/"


def layout(*paths: str, classes: tuple[str, ...] = (), pattern: str | None = None) -> Layout:
    """Of files with these paths, each of as many bytes as its path is long; what ends with / is an empty folder.

    Classes in brackets stand for a folder each, ``train/[AB]/1.png``.
    """
    files: dict[str, dict[str, int]] = {"": {}}
    for path in paths:
        before, bracket, rest = path.partition("[")
        inside, _, after = rest.partition("]")
        for label in inside if bracket else [""]:
            file = PurePosixPath(f"{before}{label}{after}" + ("." if path.endswith("/") else "x"))
            folder, name = (file, "") if path.endswith("/") else (file.parent, file.name[:-1])
            for parent in folder.parents:
                files.setdefault("" if str(parent) == "." else str(parent), {})
            inner = files.setdefault("" if str(folder) == "." else str(folder), {})
            if name:
                inner[name] = len(after)
    return find_layout(
        "photos", {path: len(names) for path, names in files.items()}, files.__getitem__, classes, pattern
    )


def splits(found: Layout) -> dict[str | None, set[str]]:
    result: dict[str | None, set[str]] = {}
    for folder in found.folders:
        result.setdefault(folder.split, set()).add(folder.path)
    return result


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
def test_folders_called_train_and_test_in_usual_ways_are_the_splits(train: str, test: str) -> None:
    found = layout(f"{train}/[ABC]/1.png", f"{train}/[ABC]/2.png", f"{test}/[ABC]/1.png")
    assert splits(found) == {
        "train": {f"{train}/{label}" for label in "ABC"},
        "test": {f"{test}/{label}" for label in "ABC"},
    }
    assert [folder.label for folder in found.folders] == [*"ABCABC"]
    shown = (train.removesuffix("/images"), test.removesuffix("/images"))
    assert found.said == f"train: {shown[0]} (6 images), test: {shown[1]} (3 images)"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation_Set", "asl-val", "dev"])
def test_a_validation_folder_is_the_validation_set(name: str) -> None:
    found = layout("train/[AB]/1.png", f"{name}/[AB]/1.png", "test/[AB]/1.png")
    assert splits(found) == {split: {f"{folder}/A", f"{folder}/B"} for split, folder in
                             {"train": "train", "validation": name, "test": "test"}.items()}  # fmt: skip
    assert found.said == f"train: train (2 images), validation: {name} (2 images), test: test (2 images)"


def test_without_a_test_folder_the_train_folder_is_to_be_divided() -> None:
    found = layout("train/[AB]/1.png", "valid/[AB]/1.png")
    assert splits(found) == {None: {"train/A", "train/B"}, "validation": {"valid/A", "valid/B"}}
    assert found.said.endswith("valid (2 images); no test folder, test images are kept back from train")
    assert splits(layout("data/train/[AB]/1.png")) == {None: {"data/train/A", "data/train/B"}}


@pytest.mark.parametrize("place", ["", "hands/", "a/b/"])
def test_folders_without_a_split_are_to_be_divided(place: str) -> None:
    found = layout(f"{place}[ABC]/1.png", f"{place}[ABC]/2.png")
    assert splits(found) == {None: {f"{place}{label}" for label in "ABC"}}
    assert found.said == "no train and test folders, 6 images to be divided"


def test_classes_that_lie_apart_are_one_set_where_none_is_there_twice() -> None:
    found = layout("letters/[ABC]/1.png", "digits/[012]/1.png", "space/1.png")
    assert splits(found) == {None: {*(f"letters/{x}" for x in "ABC"), *(f"digits/{x}" for x in "012"), "space"}}
    apart = layout("letters/train/A/1.png", "digits/train/1/1.png", "letters/test/A/2.png", "digits/test/1/2.png")
    assert splits(apart) == {
        "train": {"letters/train/A", "digits/train/1"},
        "test": {"letters/test/A", "digits/test/1"},
    }


def test_class_folders_have_their_class_in_whatever_spelling() -> None:
    found = layout("train/[ab]/1.png", "train/delete/1.png", "train/Hello/1.png", "test/a/1.png", classes=("Hello",))
    assert {folder.path: folder.label for folder in found.folders} == {
        "train/a": "A", "train/b": "B", "train/delete": "Del", "train/Hello": "Hello", "test/a": "A",
    }  # fmt: skip


def test_a_class_that_is_called_like_a_split_is_a_class() -> None:
    assert splits(layout("[AB]/1.png", "test/1.png", classes=("test",))) == {None: {"A", "B", "test"}}


def test_files_of_a_split_folder_without_class_folders_tell_their_classes() -> None:
    outer, inner = "asl_alphabet_train/asl_alphabet_train", "asl_alphabet_test/asl_alphabet_test"
    names = ["A_test.jpg", "nothing_test.jpg"]
    found = layout(f"{outer}/[AB]/1.jpg", f"{outer}/nothing/1.jpg", *(f"{inner}/{name}" for name in names))
    assert [(folder.path, folder.split, folder.label) for folder in found.folders if folder.label is None] == [
        (inner, "test", None)
    ]
    assert found.said == f"train: {outer} (3 images), test: {inner} (2 images)"


def test_split_folders_in_class_folders_are_split_folders() -> None:
    found = layout("[AB]/train/1.png", "[AB]/test/1.png")
    assert splits(found) == {"train": {"A/train", "B/train"}, "test": {"A/test", "B/test"}}
    assert [folder.label for folder in found.folders] == [*"AABB"]
    assert found.said == "train: train (2 images), test: test (2 images)"


def test_of_split_folders_in_each_other_the_inner_one_counts() -> None:
    found = layout("train/train/[AB]/1.png", "train/val/[AB]/1.png", "test/[AB]/1.png")
    assert splits(found)["validation"] == {"train/val/A", "train/val/B"}
    assert splits(layout("train/[AB]/1.png", "train/val/[AB]/1.png"))["validation"] == {"train/val/A", "train/val/B"}


def test_a_folder_that_repeats_the_one_around_it_is_left_out() -> None:
    found = layout("asl_dataset/[01ab]/x.jpg", "asl_dataset/asl_dataset/[01ab]/x.jpg")
    assert splits(found) == {None: {f"asl_dataset/{label}" for label in "01ab"}}
    assert "4 images to be divided; not read: asl_dataset/asl_dataset, which repeats asl_dataset" in found.said
    within = layout("[01ab]/x.jpg", "asl_dataset/[01ab]/x.jpg")
    assert splits(within) == {None: set("01ab")}
    split = layout("train/[AB]/1.jpg", "train/train/[AB]/1.jpg", "test/[AB]/1.jpg", "test/test/[AB]/1.jpg")
    assert splits(split) == {"train": {"train/A", "train/B"}, "test": {"test/A", "test/B"}}


def test_several_folders_of_one_split_are_that_split() -> None:
    found = layout("train1/[AB]/1.png", "train2/[AB]/2.png", "test/[AB]/1.png")
    assert found.said == "train: train1, train2 (4 images), test: test (2 images)"


def test_a_pattern_with_a_signer_tells_why_the_same_classes_lie_in_several_folders() -> None:
    found = layout("person1/[AB]/1.png", "person2/[AB]/1.png", pattern=SIGNER)
    assert splits(found) == {None: {"person1/A", "person1/B", "person2/A", "person2/B"}}
    own = layout("train/u1/[AB]/1.png", "train/u2/[AB]/1.png", "test/u1/A/1.png", "test/u2/A/1.png", pattern=SIGNER)
    assert own.said == "train: train (4 images), test: test (2 images)"


def test_a_pattern_with_a_label_makes_class_folders_needless() -> None:
    pattern = r"(?P<label>[A-Z])\d+"
    found = layout("training/u1/A1.png", "training/u2/B1.png", "testing/u1/A2.png", "README.txt", pattern=pattern)
    assert splits(found) == {"train": {"training/u1", "training/u2"}, "test": {"testing/u1"}}
    assert {folder.label for folder in found.folders} == {None}


def test_notes_tables_hidden_files_and_illustrations_are_no_pictures_of_a_class() -> None:
    found = layout(
        "train/[AB]/1.png", "test/[AB]/1.png", "README.md", "train/labels.csv", "docs/notes.txt", "labels/train/1.txt",
        "alphabet.png", ".cache/A/1.png", "__MACOSX/train/A/1.png", "train/._A.png",
    )  # fmt: skip
    assert splits(found) == {"train": {"train/A", "train/B"}, "test": {"test/A", "test/B"}}
    assert found.said.endswith("; not read: 1 image directly in photos")


def test_of_nothing_there_is_nothing() -> None:
    assert layout().folders == ()


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (
            ["person1/[AB]/1.png", "person2/[AB]/1.png"],
            "photos: class A is in person1 and in person2: call them train and test, give the source a pattern with a"
            " signer, such as '(?P<signer>[^/]+)/[^/]+/', or list the folders as sources of their own",
        ),
        (["[AB]/1.png", "more/[AB]/10.png"], "class A is in the folder itself and in more: call them train and test"),
        (["new/[AB]/1.png", "new/new/A/1.png"], "class A is in new and in new/new"),
        (
            ["train/[AB]/1.png", "test/[AB]/1.png", "extra/[AB]/1.png"],
            "photos: beside test, train lies extra, which tells no split: put it into a folder called train, validation"
            " or test, or move it elsewhere",
        ),
        (["train/[AB]/1.png", "others/[CD]/1.png"], "beside train lies others, which tells no split"),
        (["[ABCD]/1.png", "test/[ABCD]/1.png"], "beside test lies A, B, C and 1 more, which tells no split"),
        (["train_val/[AB]/1.png", "test/[AB]/1.png"], "beside test lies train_val, which tells no split"),
        (["asl_train/train/A/1.png", "asl_train/test/A/1.png", "asl_train/extra/A/1.png"], "lies asl_train/extra"),
        (
            ["test/[AB]/1.png"],
            "photos: there is no train folder beside test: add one, or, if all pictures are to be divided, give the"
            " folder test itself as the source",
        ),
        (["val/[AB]/1.png"], "there is no train folder beside val: add one"),
        (["val/[AB]/1.png", "test/[AB]/1.png"], "there is no train folder beside test, val: add one"),
        (["train/[AB]/1.png", "test/"], "photos: test has no picture in it: fill it, or take it away"),
        (["train/[AB]/1.png", "test/[AB]/1.png", "valid/[AB]/"], "photos: valid has no picture in it"),
        (["train/[AB]/1.png", "test/list.csv"], "photos: test has no picture in it"),
        (["test/A/1.png", "test/train/A/1.png"], "test/train is called train and lies in test, which is called test"),
        (
            ["fold1/train/A/1.png", "fold1/test/A/2.png", "fold2/train/A/1.png", "fold2/test/A/2.png"],
            "class A is in fold1/train and in fold2/train, and class A is in fold1/test and in fold2/test: keep one"
            " train folder and one test folder, ",
        ),
        (["train/[AB]/1.png", "train/Hello/1.png", "test/[AB]/1.png"], "train/Hello/1.png: 'Hello' is no class; "),
        (["[AB]/1.png", "Hello/1.png"], "Hello/1.png: 'Hello' is no class"),
        (["[AB]/session1/1.png"], "A/session1/1.png: 'session1' is no class"),
        (["A_1.png", "B_1.png"], "photos: A_1.png: 'photos' is no class"),
        (["train/[AB]/1.png", "train/A7.png", "test/[AB]/1.png"], "photos: train/A7.png: beside the folders"),
        (["[AB]/1.png", "A_7.png"], "photos: A_7.png: beside the folders of classes"),
        (
            ["train/[AB]/1.png", "test/A_test.png", "test/IMG_1.png", "test/12.png"],
            "photos: test: neither the folder nor the file's name tells the class of 12.png, IMG_1.png: put a folder a"
            " class into test; classes are letters, digits, Del, Nothing, Space, and what --classes names; where other"
            " names tell them, give the source a pattern with a label",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_a_remedy(paths: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        layout(*paths)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["contest", "latest", "pretrained", "strain", "train_val", "person1", "A", ""])
def test_a_name_without_a_word_of_one_split_tells_none(name: str) -> None:
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
def test_a_file_is_of_the_class_that_its_name_begins_with(name: str, label: str | None) -> None:
    assert file_label(name, ["thank_you"]) == label


def test_files_are_told_from_notes_by_their_endings() -> None:
    assert all(is_picture(name) for name in ("a.jpg", "a.JPEG", "a.b.png", "a.tiff", "a.webp", "_DSC1.HEIC"))
    assert not any(is_picture(name) for name in ("a.txt", "README", "a.png.csv", "jpg", "a.db", "._a.jpg"))
