"""Benchmarks of complete jobs: overhead around training, time to accuracy, and scaling with the data."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.measuring import SUBMIT, Bench, FinishedJob, Measurement, run_job

SEEDS, ACCURACY = (0, 1, 2), 0.999
SCALES = (1, 2, 4, 8, 16)
# A local cluster has separate executors, so that the memory of the driver can be measured.
CLUSTER = ("--master", "local-cluster[2,1,3072]", "--driver-memory", "1g", "--executor-memory", "3g")


def job_overhead(bench: Bench) -> list[Measurement]:
    """The seconds until the first training step has ended and from the last step to the exit, with and without stored
    features."""
    fresh: list[tuple[float, float]] = []
    stored: list[tuple[float, float]] = []
    for _ in range(5):
        with bench.folder() as folder:
            for overheads in (fresh, stored):
                job, metrics = _train(folder, bench.data, "baseline", "--training.epochs", 1)
                startup = metrics["train"]["first_step"] - job.start
                overheads.append((startup, job.end - metrics["train"]["last_step"]))
    return [
        Measurement(
            "around", f"time to the first step and from the last, {name}", "s", [sum(pair) for pair in overheads], goal,
            more_is_better=False,
            about={"before": [pair[0] for pair in overheads], "after": [pair[1] for pair in overheads]},
        )
        for name, overheads, goal in (("features not stored", fresh, "≤ 25"), ("features stored", stored, "≤ 12"))
    ]  # fmt: skip


def accuracy(bench: Bench) -> list[Measurement]:
    """The seconds from spark-submit to the end of a job that reaches 0.999 on the test set, without stored features."""
    seconds, accuracies = [], []
    for seed in SEEDS:
        with bench.folder() as folder:
            job, metrics = _train(folder, bench.data, "sign_mnist", "--seed", seed)
            seconds.append(job.seconds)
            accuracies.append(metrics["test"]["accuracy"])
    note = "" if min(accuracies) >= ACCURACY else f", {ACCURACY} not reached"
    return [
        Measurement(
            "accuracy", f"conf/sign_mnist.yaml, three seeds{note}", "s", seconds, "≤ 120", more_is_better=False,
            about={"test_accuracy": accuracies},
        )
    ]  # fmt: skip


def growth(bench: Bench) -> list[Measurement]:
    """Two epochs of the published CNN on 1 to 16 times the rows: seconds of each stage, memory, bytes in the store."""
    measurements = []
    for scale in SCALES:
        data = bench.enlarged(scale)
        with bench.folder() as folder:
            options = ("--training.epochs", 2, "--max-rejected", 0.2)
            job, metrics = _train(folder, data, "baseline", *options, spark=CLUSTER, monitor_memory=True)
            store_bytes = sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
        shutil.rmtree(data)
        rows = sum(metrics["rows"].values())
        about = {"times": scale, "seconds": metrics["seconds"], "memory": job.memory, "bytes_a_row": store_bytes / rows}
        name = f"{scale} times the rows"
        measurements.append(
            Measurement("growth", name, "s", [job.seconds], "", rows=rows, more_is_better=False, about=about)
        )
    return measurements


def _train(
    folder: Path,
    data: Path,
    experiment: str,
    *options: object,
    spark: tuple[str, ...] = (),
    monitor_memory: bool = False,
) -> tuple[FinishedJob, dict[str, Any]]:
    name = experiment if experiment == "sign_mnist" else f"sign_mnist_{experiment}"
    job = run_job(
        SUBMIT, *spark, "jobs/train_cnn.py", "--config", f"conf/{name}.yaml", "--data", data, *options,
        "--run", folder / "run", "--store", folder / "store", "--overwrite",
        monitor_memory=monitor_memory,
    )  # fmt: skip
    return job, json.loads((folder / "run/metrics.json").read_text())
