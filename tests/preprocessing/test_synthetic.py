from pathlib import Path

import numpy as np
import pandas as pd

from preprocessing.labels import LETTERS, STILL_LETTERS
from preprocessing.parsing import HEADER
from preprocessing.synthetic import POSES, draw_hands, write_sample


def test_every_still_letter_has_a_pose_of_its_own() -> None:
    assert set(POSES) == set(STILL_LETTERS)
    assert len({str(pose) for pose in POSES.values()}) == 24


def test_the_files_have_sign_mnists_format_and_equally_many_rows_of_every_letter(sample: Path) -> None:
    for name, rows in (("sign_mnist_train.csv", 2400), ("sign_mnist_test.csv", 480)):
        assert (sample / name).read_text().splitlines()[0] == HEADER
        table = pd.read_csv(sample / name)
        assert table.shape == (rows, 785)
        assert table.to_numpy().min() >= 0
        assert table.to_numpy().max() <= 255
        assert sorted(table["label"].unique()) == [LETTERS.index(letter) for letter in STILL_LETTERS]
        assert table["label"].value_counts().nunique() == 1


def test_the_same_seed_writes_the_same_files_and_another_seed_different_ones(tmp_path: Path) -> None:
    rows = {"train": 48, "test": 24}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, rows, seed)
    a, b, c = ((tmp_path / name / "sign_mnist_train.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_letter_looks_more_like_itself_than_like_others() -> None:
    """The mean pictures of one letter, free of background and noise, differ less than those of two letters."""
    rng = np.random.default_rng(5)
    means = {}
    for half in range(2):
        for letter in ("B", "L", "P", "Y"):
            pictures = draw_hands(np.full(200, LETTERS.index(letter)), rng).astype(float)
            means[letter, half] = (pictures - pictures.mean(axis=(1, 2), keepdims=True)).mean(axis=0)
    for letter in ("B", "L", "P", "Y"):
        distances = {other: np.abs(means[letter, 0] - means[other, 1]).mean() for other in ("B", "L", "P", "Y")}
        assert min(distances, key=distances.__getitem__) == letter
