"""Sign-MNIST itself, where it is."""

import json
from pathlib import Path

import pytest

from jobs.session import ROOT
from tests.conftest import submit

FOLDERS = [ROOT / "data/sign_mnist", ROOT.parent / "shared/data/sign_mnist"]
found = [folder for folder in FOLDERS if folder.is_dir()]


@pytest.mark.skipif(not found, reason="Sign-MNIST is not here: make data")
def test_the_baseline_learns_sign_mnist_in_an_epoch(tmp_path: Path) -> None:
    config = ROOT / "conf/sign_mnist_baseline.yaml"
    options = ["--config", config, "--training.epochs", "1", "--run", "runs/baseline"]
    done = submit("jobs/train_cnn.py", "--data", found[0], *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "runs/baseline/metrics.json").read_text())
    assert sum(metrics["rows"][split] for split in ("train", "validation")) == 27_455
    assert metrics["rows"]["test"] == 7_172
    assert metrics["rows"]["rejected"] == 0
    assert metrics["test"]["accuracy"] > 0.4  # 24 letters: chance is 0.04
