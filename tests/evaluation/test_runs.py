"""Run directories read, compared and reported, without Spark."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.comparison import Disagreement, compare, recall_table
from evaluation.figures import accuracy_intervals, save_figures
from evaluation.metrics import confused_pairs, summarise
from evaluation.report import write_comparison_report, write_run_report
from evaluation.runs import VERSION, Run, RunError, check_comparable, read_run, write_json

CLASSES = ["A", "B"]


def make_run(name: str, confusion: list[list[int]], fingerprint: str = "1") -> Run:
    test: dict[str, Any] = summarise(np.array(confusion), CLASSES)
    metrics = {
        "model": "handshape", "source": "synthetic sample", "synthetic": True, "num_proc": 2, "weights": 1234567,
        "weights_are": "weights", "bytes": 1_500_000, "rejected": {"too few fields": 3},
        "balance": {"data": {"read": 25, "used": 22, "set aside": 3, "left out by --fraction": 0}},
        "notes": ["data: 2 hidden or system files are left out"],
        "rows": {"train": 10, "validation": 2, "test": int(np.sum(confusion)), "rejected": 3},
        "seconds": {"preprocessing": 1.0, "training": 65.0, "total": 70.0},
        "sources": {"a": {"train": 5, "validation": 1, "test": 10}, "b": {"train": 5, "validation": 1, "test": 10}},
        "near_copies": {
            "now": {"validation": {"pictures": 20, "near_copies": 0}},
            "before": {"validation": {"pictures": 19, "near_copies": 17}},
        },
        "overfitting": {
            "found": True, "parted": True, "best_epoch": 2, "loss_rise": 0.5, "validation_gap": 0.1, "test_gap": 0.2,
            "elsewhere": 0.1, "moved": True,
        },
        "watches": [{"watch": "dead ReLUs", "epoch": 2, "sentence": "units are 0: lower --training.learning-rate"}],
        "calibration": {"temperature": 1.5, "loss_before": 0.4, "loss_after": 0.3},
        "restarts": 0,
        "losses": [],
        "train": {"images_per_second": 1000.0, "epochs": 2, "best_epoch": 2, "augmented": True}
        | {"accuracy": 0.9, "val_accuracy": 0.8},
        "test": test
        | {"sources": {"a": test | {"rows": 10}}}
        | {"images_per_second": 2000.0, "fingerprint": fingerprint, "confusion": confusion},
    }  # fmt: skip
    about = {"version": VERSION, "job": "cnn", "created": "2026-01-01", "git_commit": None, "versions": {"python": "3"}}
    return Run(f"runs/{name}", about, metrics)


FIRST, SECOND = make_run("first", [[9, 1], [0, 10]]), make_run("second", [[5, 5], [2, 8]])


def test_a_run_directory_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", FIRST.about)
    write_json(tmp_path / "metrics.json", FIRST.metrics)
    assert read_run(tmp_path, "runs/first") == FIRST


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "not a run directory, it has no run.json"),
        ({"run.json": "{}"}, "it has no metrics.json"),
        ({"run.json": "{]", "metrics.json": "{}"}, "cannot be read"),
        ({"run.json": "[]", "metrics.json": "{}"}, "cannot be read"),
        ({"run.json": '{"version": 99}', "metrics.json": "{}"}, "of version 99, this is made for version 1"),
    ],
)
def test_what_is_no_run_directory_is_refused_by_name(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=message) as caught:
        read_run(tmp_path, "runs/x")
    assert str(caught.value).startswith("runs/x: ")


def test_runs_with_different_test_sets_are_not_compared() -> None:
    other = make_run("other", [[1, 0], [0, 1]], fingerprint="2")
    check_comparable([FIRST, SECOND])
    with pytest.raises(RunError, match=r"runs/first and runs/other have different test sets .*20 rows.*2 rows"):
        check_comparable([FIRST, SECOND, other])


def test_a_comparison_names_the_better_run_only_where_the_test_shows_it() -> None:
    clear = compare([FIRST, SECOND], [Disagreement("first", "second", 15, 2)])
    assert clear["best"] == "first"
    assert clear["pairs"][0]["verdict"] == "first is better than second"
    assert clear["pairs"][0]["p_value"] < 0.05
    turned = compare([SECOND, FIRST], [Disagreement("second", "first", 2, 15)])
    assert turned["pairs"][0]["verdict"] == "first is better than second"
    unclear = compare([FIRST, SECOND], [Disagreement("first", "second", 3, 2)])
    assert unclear["pairs"][0]["verdict"] == "no difference between first and second is shown"


def test_the_classes_that_differ_most_come_first() -> None:
    assert recall_table([FIRST, SECOND]).index.tolist() == ["A", "B"]
    assert recall_table([FIRST, SECOND]).loc["A"].tolist() == [0.9, 0.5]


def test_a_report_is_one_file_with_its_pictures_inside_and_says_synthetic(tmp_path: Path) -> None:
    figures = {"confusion_matrix": accuracy_intervals({"a": FIRST.metrics["test"]}, "Accuracy")}
    save_figures(figures.items(), tmp_path / "figures", "synthetic sample")
    pairs = confused_pairs(np.array(FIRST.metrics["test"]["confusion"]), CLASSES)
    row = dict.fromkeys(["loss", "accuracy", "precision", "recall"], 0.5)
    history = pd.DataFrame([{"epoch": 1, "images_per_second": 9.0} | row | {f"val_{k}": v for k, v in row.items()}])
    write_run_report(tmp_path / "report.html", FIRST, pairs, history, tmp_path / "figures", "seed: 1 <&>")
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert 'src="http' not in page
    assert "Synthetic sample" in page
    assert "95.00 %" in page
    assert "seed: 1 &lt;&amp;&gt;" in page
    assert "Losses on the way" not in page
    real = copy.deepcopy(FIRST.metrics) | {"synthetic": False, "source": "elsewhere"}
    write_run_report(tmp_path / "r.html", Run("r", FIRST.about, real), pairs, None, tmp_path / "none", "")
    assert "ynthetic" not in (tmp_path / "r.html").read_text()


def test_a_report_says_what_was_lost_when_and_what_it_cost(tmp_path: Path) -> None:
    loss = {"what": "172.18.0.5 (killed)", "time": "2026-01-02 03:04:05 UTC", "after_epoch": 4, "num_proc": 1}
    losses = [loss | {"seconds": 65.0}, loss | {"what": "the driver", "seconds": 5.0}]
    metrics = FIRST.metrics | {"restarts": 2, "losses": losses}
    write_run_report(tmp_path / "r.html", Run("r", FIRST.about, metrics), pd.DataFrame(), None, tmp_path / "none", "")
    page = (tmp_path / "r.html").read_text()
    for words in (
        "2 times",
        "1 min 10 s",
        "172.18.0.5 (killed)",
        "2026-01-02 03:04:05 UTC",
        "1 min 05 s",
        "the driver",
    ):
        assert words in page


def test_a_report_says_where_pictures_came_from_what_leaks_and_that_it_overfits(tmp_path: Path) -> None:
    history = pd.DataFrame()
    write_run_report(tmp_path / "r.html", FIRST, pd.DataFrame(), history, tmp_path / "none", "")
    page = " ".join((tmp_path / "r.html").read_text().split())
    for words in (
        "part after epoch 2",
        "50.00 % higher at the end",
        "it overfits",
        "10.00 % are lost from one to the other",
        "temperature of 1.50",
        "0 of 20 validation pictures have one among the training pictures, and 17 of 19 would with a split by row",
        "<th>a</th><td>5</td><td>1</td><td>10</td> <td>95.00 %</td>",
    ):
        assert words in page
    leaking = {"now": {"validation": {"pictures": 20, "near_copies": 19}}}
    run = Run("r", FIRST.about, FIRST.metrics | {"near_copies": leaking})
    write_run_report(tmp_path / "r.html", run, pd.DataFrame(), history, tmp_path / "none", "")
    assert "split.by: group" in (tmp_path / "r.html").read_text()


def test_a_comparisons_report_has_every_run_and_every_pair(tmp_path: Path) -> None:
    comparison = compare([FIRST, SECOND], [Disagreement("first", "second", 15, 2)])
    json.dumps(comparison)
    write_comparison_report(tmp_path / "report.html", [FIRST, SECOND], comparison, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "first is better than second" in page
    assert "1\u202f234\u202f567" in page
    assert "1 min 05 s" in page
