"""Whole jobs: what surrounds the training, the time to a recogniser that is right, and growth with the data."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.measuring import SUBMIT, Bench, Figure, FinishedJob, run_job

SEEDS, ACCURACY = (0, 1, 2), 0.999
SIZES = (1, 2, 4, 8, 16)
# With executors of its own, for a driver that is one does not tell what a driver needs.
CLUSTER = ("--master", "local-cluster[2,1,3072]", "--driver-memory", "1g", "--executor-memory", "3g")


def around(bench: Bench) -> list[Figure]:
    """The seconds before the first step has ended and after the last one, features stored before and not."""
    fresh: list[tuple[float, float]] = []
    stored: list[tuple[float, float]] = []
    for _ in range(5):
        with bench.folder() as folder:
            for found in (fresh, stored):
                job, metrics = _train(folder, bench.data, "baseline", "--training.epochs", 1)
                before = metrics["train"]["first_step"] - job.began
                found.append((before, job.ended - metrics["train"]["last_step"]))
    return [
        Figure(
            "around", f"to the first step, and from the last; {name}", "s", [sum(pair) for pair in found], goal,
            more_is_better=False, about={"before": [pair[0] for pair in found], "after": [pair[1] for pair in found]},
        )
        for name, found, goal in (("features not stored", fresh, "≤ 25"), ("features stored", stored, "≤ 12"))
    ]  # fmt: skip


def accuracy(bench: Bench) -> list[Figure]:
    """From spark-submit to the end of the job whose network has 0.999 on the test set, nothing stored before."""
    seconds, accuracies = [], []
    for seed in SEEDS:
        with bench.folder() as folder:
            job, metrics = _train(folder, bench.data, "sign_mnist", "--seed", seed)
            seconds.append(job.seconds)
            accuracies.append(metrics["test"]["accuracy"])
    reached = "" if min(accuracies) >= ACCURACY else f", {ACCURACY} not reached"
    return [
        Figure(
            "accuracy", f"conf/sign_mnist.yaml, three seeds{reached}", "s", seconds, "≤ 120", more_is_better=False,
            about={"test_accuracy": accuracies},
        )
    ]  # fmt: skip


def growth(bench: Bench) -> list[Figure]:
    """Two epochs of the published CNN on 1 to 16 times the rows: each stage's seconds, memory, bytes in the store."""
    figures = []
    for times in SIZES:
        data = bench.enlarged(times)
        with bench.folder() as folder:
            options = ("--training.epochs", 2, "--max-rejected", 0.2)
            job, metrics = _train(folder, data, "baseline", *options, spark=CLUSTER, watch_memory=True)
            store = sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
        shutil.rmtree(data)
        rows = sum(metrics["rows"].values())
        about = {"times": times, "seconds": metrics["seconds"], "memory": job.memory, "bytes_a_row": store / rows}
        name = f"{times} times the rows"
        figures.append(Figure("growth", name, "s", [job.seconds], "", rows=rows, more_is_better=False, about=about))
    return figures


def _train(
    folder: Path,
    data: Path,
    experiment: str,
    *options: object,
    spark: tuple[str, ...] = (),
    watch_memory: bool = False,
) -> tuple[FinishedJob, dict[str, Any]]:
    name = experiment if experiment == "sign_mnist" else f"sign_mnist_{experiment}"
    job = run_job(
        SUBMIT, *spark, "jobs/train_cnn.py", "--config", f"conf/{name}.yaml", "--data", data, *options,
        "--run", folder / "run", "--store", folder / "store", "--overwrite",
        watch_memory=watch_memory,
    )  # fmt: skip
    return job, json.loads((folder / "run/metrics.json").read_text())
