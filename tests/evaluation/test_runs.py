"""Reading, comparing and reporting on run directories, without Spark."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.comparison import Disagreement, compare, pairs_to_test, recall_table
from evaluation.figures import accuracy_intervals, save_figures
from evaluation.metrics import confused_pairs, summarize
from evaluation.report import write_comparison_report, write_run_report
from evaluation.runs import VERSION, Run, RunError, check_comparable, read_run, write_json

CLASS_NAMES = ["A", "B"]


def make_run(name: str, confusion: list[list[int]], fingerprint: str = "1") -> Run:
    test: dict[str, Any] = summarize(np.array(confusion), CLASS_NAMES)
    metrics = {
        "model": "handshape", "source": "synthetic sample", "synthetic": True, "num_proc": 2, "parameters": 1234567,
        "parameters_are": "parameters", "bytes": 1_500_000, "rejected": {"too few fields": 3},
        "balance": {"data": {"read": 25, "used": 22, "rejected": 3, "left out": 0}},
        "notes": ["data: 2 hidden or system files are left out"],
        "rows": {"train": 10, "validation": 2, "test": int(np.sum(confusion)), "rejected": 3},
        "seconds": {"preprocessing": 1.0, "training": 65.0, "total": 70.0},
        "sources": {"a": {"train": 5, "validation": 1, "test": 10}, "b": {"train": 5, "validation": 1, "test": 10}},
        "near_duplicates": {
            "split": {"validation": {"pictures": 20, "near_duplicates": 0}},
            "split_by_row": {"validation": {"pictures": 19, "near_duplicates": 17}},
        },
        "overfitting": {
            "overfits": True, "diverged": True, "best_epoch": 2, "loss_rise": 0.5, "validation_gap": 0.1,
            "test_gap": 0.2, "validation_test_gap": 0.1, "drifted": True,
        },
        "diagnostics": [{"check": "dead ReLUs", "epoch": 2, "sentence": "units are 0: lower --training.learning-rate"}],
        "calibration": {"temperature": 1.5, "loss_before": 0.4, "loss_after": 0.3},
        "restarts": 0,
        "failures": [],
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
        (
            {"run.json": '{"version": 99}', "metrics.json": "{}"},
            "run directory version 99 is not supported, expected version 3; train it again: spark-submit",
        ),
    ],
)
def test_an_invalid_run_directory_is_rejected_with_its_name(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        read_run(tmp_path, "runs/x")
    assert str(caught.value).startswith("runs/x: ")


def test_runs_with_different_test_sets_are_not_compared() -> None:
    other = make_run("other", [[1, 0], [0, 1]], fingerprint="2")
    check_comparable([FIRST, SECOND])
    with pytest.raises(RunError, match=r"runs/first and runs/other have different test sets .*20 rows.*2 rows"):
        check_comparable([FIRST, SECOND, other])


def test_runs_with_the_same_seed_are_tested_and_the_range_of_each_models_accuracy_is_stated() -> None:
    models = {"a": [FIRST, SECOND], "b": [SECOND, FIRST]}
    pairs = pairs_to_test(models)
    assert [(first.name, second.name) for first, second in pairs] == [("first", "second"), ("second", "first")]
    seeds = compare(models, [])["seeds"]
    accuracies = {
        "trainings": 2,
        "mean_accuracy": pytest.approx((19 / 20 + 13 / 20) / 2),
        "min_accuracy": pytest.approx(13 / 20),
    }
    assert {name: summary | accuracies for name, summary in seeds.items()} == seeds
    assert compare({"a": [FIRST], "b": [SECOND]}, [])["seeds"] == {}


def test_a_comparison_names_the_better_run_only_where_the_test_shows_it() -> None:
    clear = compare({"first": [FIRST], "second": [SECOND]}, [Disagreement("first", "second", 15, 2)])
    assert clear["best"] == "first"
    assert clear["pairs"][0]["verdict"] == "first is better than second"
    assert clear["pairs"][0]["p_value"] < 0.05
    swapped = compare({"second": [SECOND], "first": [FIRST]}, [Disagreement("second", "first", 2, 15)])
    assert swapped["pairs"][0]["verdict"] == "first is better than second"
    unclear = compare({"first": [FIRST], "second": [SECOND]}, [Disagreement("first", "second", 3, 2)])
    assert unclear["pairs"][0]["verdict"] == "no significant difference between first and second"


def test_the_classes_that_differ_most_come_first() -> None:
    assert recall_table([FIRST, SECOND]).index.tolist() == ["A", "B"]
    assert recall_table([FIRST, SECOND]).loc["A"].tolist() == [0.9, 0.5]


def test_a_report_is_one_file_with_embedded_pictures_and_says_synthetic(tmp_path: Path) -> None:
    figures = {"confusion_matrix": accuracy_intervals({"a": FIRST.metrics["test"]}, "Accuracy")}
    save_figures(figures.items(), tmp_path / "figures", "synthetic sample")
    pairs = confused_pairs(np.array(FIRST.metrics["test"]["confusion"]), CLASS_NAMES)
    row = dict.fromkeys(["loss", "accuracy", "precision", "recall"], 0.5)
    history = pd.DataFrame([{"epoch": 1, "images_per_second": 9.0} | row | {f"val_{k}": v for k, v in row.items()}])
    write_run_report(tmp_path / "report.html", FIRST, pairs, history, tmp_path / "figures", "seed: 1 <&>")
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert 'src="http' not in page
    assert "Synthetic sample" in page
    assert "95.00 %" in page
    assert "seed: 1 &lt;&amp;&gt;" in page
    assert "Failures during training" not in page
    real = copy.deepcopy(FIRST.metrics) | {"synthetic": False, "source": "photographs"}
    write_run_report(tmp_path / "r.html", Run("r", FIRST.about, real), pairs, None, tmp_path / "none", "")
    assert "ynthetic" not in (tmp_path / "r.html").read_text()


def test_a_report_lists_failures_with_their_time_and_cost(tmp_path: Path) -> None:
    failure = {"lost": "172.18.0.5 (killed)", "time": "2026-01-02 03:04:05 UTC", "after_epoch": 4, "num_proc": 1}
    failures = [failure | {"seconds": 65.0}, failure | {"lost": "the driver", "seconds": 5.0}]
    metrics = FIRST.metrics | {"restarts": 2, "failures": failures}
    write_run_report(tmp_path / "r.html", Run("r", FIRST.about, metrics), pd.DataFrame(), None, tmp_path / "none", "")
    page = (tmp_path / "r.html").read_text()
    for phrase in (
        "2 times",
        "1 min 10 s",
        "172.18.0.5 (killed)",
        "2026-01-02 03:04:05 UTC",
        "1 min 05 s",
        "the driver",
    ):
        assert phrase in page


def test_a_report_names_sources_near_duplicates_and_overfitting(tmp_path: Path) -> None:
    history = pd.DataFrame()
    write_run_report(tmp_path / "r.html", FIRST, pd.DataFrame(), history, tmp_path / "none", "")
    page = " ".join((tmp_path / "r.html").read_text().split())
    for phrase in (
        "diverge after epoch 2",
        "50.00 % higher at the end",
        "The network overfits",
        "falls by 10.00 percentage points from validation to test",
        "temperature of 1.50",
        "0 of 20 validation pictures have a near-duplicate in the training set,"
        " compared to 17 of 19 with a split by row",
        "<th>a</th><td>5</td><td>1</td><td>10</td> <td>95.00 %</td>",
    ):
        assert phrase in page
    with_leakage = {"split": {"validation": {"pictures": 20, "near_duplicates": 19}}}
    run = Run("r", FIRST.about, FIRST.metrics | {"near_duplicates": with_leakage})
    write_run_report(tmp_path / "r.html", run, pd.DataFrame(), history, tmp_path / "none", "")
    assert "split.by: group" in (tmp_path / "r.html").read_text()


def test_a_comparison_report_has_every_run_and_every_pair(tmp_path: Path) -> None:
    comparison = compare({"first": [FIRST], "second": [SECOND]}, [Disagreement("first", "second", 15, 2)])
    json.dumps(comparison)
    write_comparison_report(tmp_path / "report.html", [FIRST, SECOND], comparison, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "first is better than second" in page
    assert "1\u202f234\u202f567" in page
    assert "1 min 05 s" in page
