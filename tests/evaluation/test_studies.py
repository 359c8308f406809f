"""Reports on studies of several trainings, and the smoothness of loss curves."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.figures import Picture
from evaluation.metrics import summarize
from evaluation.smoothness import smoothness
from evaluation.studies import Study, Training

STUDY = Study("baseline", "somewhere", False)


def training(name: str, hits: int, loss: np.ndarray, **about: float) -> Training:
    history = pd.DataFrame(
        {"epoch": [1, 2], "loss": [loss[0], loss[-1]], "accuracy": [0.5, 0.9], "val_accuracy": [0.5, 0.8]}
    )
    curve = pd.DataFrame({"epoch": np.arange(1, len(loss) + 1) / len(loss) * 2, "loss": loss})
    test = summarize(np.array([[hits, 10 - hits], [0, 10]]), ["A", "B"]) | {"loss": 1 - hits / 10}
    picture = Picture(np.zeros((8, 8), np.uint8), "A", "B", 0.9)
    mistakes = [picture] * (10 - hits)
    return Training(name, history, 2, curve, test, about, {"searched": 20, "found": 18}, mistakes)


FALLING = np.linspace(2, 0.5, 60)


def test_a_curve_that_only_falls_has_no_spike_and_no_rise() -> None:
    measures = smoothness(FALLING)
    assert (measures["spikes"], measures["largest_rise"]) == (0, 0)
    assert measures["roughness"] < 0.02


def test_spikes_and_rises_are_told_apart() -> None:
    spiky = FALLING.copy()
    spiky[[20, 40]] *= 2
    assert smoothness(spiky)["spikes"] == 2
    assert smoothness(spiky)["largest_rise"] == pytest.approx(0, abs=0.03)
    rising = np.concatenate([FALLING, np.linspace(0.5, 1.5, 40)])
    assert smoothness(rising)["largest_rise"] == pytest.approx(0.9, abs=0.15)
    noisy = FALLING * np.random.default_rng(0).uniform(0.8, 1.2, 60)
    assert smoothness(noisy)["roughness"] > 5 * smoothness(FALLING)["roughness"]


def test_optimizers_are_reported_with_their_curves_and_the_smoothest_named(tmp_path: Path) -> None:
    noisy = FALLING * np.random.default_rng(0).uniform(0.8, 1.2, 60)
    trainings = [training("sgd", 6, FALLING, learning_rate=0.01), training("adam", 9, noisy, learning_rate=0.001)]
    table = STUDY.write_optimizers(tmp_path, trainings)
    assert table["optimizer"].tolist() == ["sgd", "adam"]
    rows = json.loads((tmp_path / "metrics.json").read_text())["optimizers"]
    assert [row["test_accuracy"] for row in rows] == [0.8, 0.95]
    page = (tmp_path / "report.html").read_text()
    assert "sgd has the smoothest loss curve" in page
    assert "adam has the lowest test loss" in page
    assert "data:image/png" in page
    assert {file.name for file in tmp_path.glob("*.csv")} == {
        "history_adam.csv", "history_sgd.csv", "loss_curve_adam.csv", "loss_curve_sgd.csv",
    }  # fmt: skip


def test_a_learning_curve_is_drawn_by_size_with_the_kept_epochs_figures(tmp_path: Path) -> None:
    STUDY.write_learning_curve(tmp_path, [training("0.5", 6, FALLING, rows=50), training("1", 8, FALLING, rows=100)])
    points = json.loads((tmp_path / "metrics.json").read_text())["points"]
    assert [(point["rows"], point["train"], point["test"]) for point in points] == [(50, 0.9, 0.8), (100, 0.9, 0.9)]
    assert "changed by +0.1000" in (tmp_path / "report.html").read_text()


def test_what_was_left_out_is_reported_with_the_mean(tmp_path: Path) -> None:
    STUDY.write_left_out(tmp_path, "source", [training("a", 6, FALLING, epochs=2), training("b", 8, FALLING, epochs=3)])
    assert json.loads((tmp_path / "metrics.json").read_text())["mean_accuracy"] == pytest.approx(0.85)
    page = (tmp_path / "report.html").read_text()
    for part in ("Leave-one-source-out cross-validation", "18 of 20", "A 60%", "mistakes a", "mistakes b"):
        assert part in page
