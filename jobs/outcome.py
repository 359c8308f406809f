"""What a trained model leaves: predictions, metrics, figures and the report, in its run directory."""

import json
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from evaluation import figures
from evaluation.figures import Picture
from evaluation.metrics import confused_pairs, summarise
from evaluation.report import write_run_report
from evaluation.runs import METRICS_FILE, RUN_FILE, VERSION, Run, write_json
from jobs.run_directory import StagedRun
from jobs.session import ROOT, STARTED
from models.prediction import count_confusions
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST, TRAIN, VALIDATION

VERSIONS = ("pyspark", "horovod", "tensorflow-cpu", "tensorflow", "keras", "petastorm", "pyarrow", "numpy", "pandas")
# Of fixed size, however many rows there are.
SAMPLES_A_CLASS, SHOWN_PAIRS, MISTAKES_A_PAIR, SHOWN_PREDICTIONS = 6, 8, 3, 48


class Stopwatch:
    """The seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin


@dataclass(frozen=True)
class TrainedModel:
    """What the report says of a model, whatever its kind.

    Args:
        job: ``cnn`` or ``forest``.
        name: the network's, or ``random forest``.
        weights: how many, and ``weights_are`` of what kind.
        size: bytes on disk.
        train: goes into ``metrics.json`` as ``train``; has ``images_per_second`` and ``epochs`` (0 for a forest).
        num_proc: processes or task slots that trained it.
        history: a row an epoch.
        importance: by pixel, shape ``(height, width)``.
    """

    job: str
    name: str
    weights: int
    weights_are: str
    size: int
    train: dict[str, Any]
    num_proc: int
    history: pd.DataFrame | None = None
    importance: np.ndarray | None = None


def write_outcome(
    staged: StagedRun,
    run: str,
    source: str,
    synthetic: bool,
    experiment: str,
    prepared: PreparedImages,
    model: TrainedModel,
    predictions: DataFrame,
    watch: Stopwatch,
) -> Run:
    """Predict the test rows and write all that follows from it.

    Args:
        staged: where it is written.
        run: the run directory as the user calls it.
        source: the data, as figures and report call it.
        synthetic: whether it is the synthetic sample.
        experiment: all of it, as YAML.
        prepared: the images.
        model: what was trained.
        predictions: of the test rows, with the columns of ``PREDICTIONS``; not computed yet.
        watch: the stages so far.
    """
    with watch.stage("prediction"):
        predictions.write.parquet(f"{staged.uri}/predictions")
    # read again: a second use must not ask the model a second time
    predictions = predictions.sparkSession.read.parquet(f"{staged.uri}/predictions")
    with watch.stage("evaluation"):
        confusion = count_confusions(predictions, prepared.classes)
        pairs = confused_pairs(confusion, prepared.classes)
        charts = _charts(prepared, model, predictions, confusion, pairs)
        figures.save_figures(charts, staged.local / "figures", source)
        prepared.rejected.coalesce(1).write.csv(f"{staged.uri}/rejected", header=True)
        prepared.pipeline.write().save(f"{staged.uri}/pipeline")
    finished = Run(run, _about(model), _metrics(prepared, model, confusion, source, synthetic, watch))
    write_json(staged.local / RUN_FILE, finished.about)
    write_json(staged.local / METRICS_FILE, finished.metrics)
    (staged.local / "classes.json").write_text(json.dumps(prepared.classes) + "\n")
    (staged.local / "experiment.yaml").write_text(experiment)
    if model.history is not None:
        model.history.to_csv(staged.local / "history.csv", index=False)
    write_run_report(staged.local / "report.html", finished, pairs, model.history, staged.local / "figures", experiment)
    return finished


def say_outcome(run: Run) -> None:
    test = run.metrics["test"]
    low, high = test["accuracy_interval"]
    print(
        f"test accuracy {test['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}),"
        f" macro F1 {test['macro']['f1']:.4f}, {run.metrics['source']}\nreport {run.path}/report.html",
        flush=True,
    )


def _metrics(
    prepared: PreparedImages, model: TrainedModel, confusion: np.ndarray, source: str, synthetic: bool, watch: Stopwatch
) -> dict[str, Any]:
    rows = {split: prepared.rows(split) for split in (TRAIN, VALIDATION, TEST)}
    watch.seconds["total"] = time.monotonic() - STARTED
    return {
        "model": model.name,
        "source": source,
        "synthetic": synthetic,
        "num_proc": model.num_proc,
        "weights": model.weights,
        "weights_are": model.weights_are,
        "bytes": model.size,
        "rows": rows | {"rejected": prepared.rejections.rejected},
        "rejected": prepared.rejections.reasons,
        "seconds": watch.seconds,
        "train": model.train,
        "test": summarise(confusion, prepared.classes)
        | {
            "images_per_second": rows[TEST] / watch.seconds["prediction"],
            "fingerprint": prepared.test_fingerprint(),
            "confusion": confusion.tolist(),
        },
    }


def _about(model: TrainedModel) -> dict[str, Any]:
    return {
        "version": VERSION,
        "job": model.job,
        "created": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()} | dict(_versions()),
    }


def _charts(
    prepared: PreparedImages, model: TrainedModel, predictions: DataFrame, confusion: np.ndarray, pairs: pd.DataFrame
) -> dict[str, Any]:
    samples = _samples(prepared)
    shown = pairs.head(SHOWN_PAIRS)
    pictures, mistakes = _predicted(prepared, predictions, shown)
    charts = {
        "confusion_matrix": figures.confusion_heatmap(confusion, prepared.classes),
        "class_distribution": figures.class_distribution(prepared.counts),
        "samples": figures.picture_grid(
            [Picture(pixels, label) for label, group in samples.items() for pixels in group],
            "Labelled training pictures",
        ),
        "predictions": figures.picture_grid(pictures, "Predictions on the test set, the wrong ones first", columns=8),
    }
    if len(shown):
        charts["confused_pairs"] = figures.confused_pairs_figure(shown, mistakes, samples, MISTAKES_A_PAIR)
    if model.history is not None:
        charts["training_curves"] = figures.training_curves(model.history, model.train["best_epoch"])
    if model.importance is not None:
        charts["pixel_importance"] = figures.pixel_importance_figure(model.importance)
    return charts


def _samples(prepared: PreparedImages) -> dict[str, list[np.ndarray]]:
    """The same few training pictures of every class, in every run."""
    place = F.row_number().over(Window.partitionBy("label").orderBy("id"))
    rows = prepared.split(TRAIN).withColumn("place", place).where(F.col("place") <= SAMPLES_A_CLASS)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in prepared.classes}
    for row in rows.orderBy("label", "place").select("label", "pixels").collect():
        samples[row["label"]].append(_pixels(row["pixels"], prepared.shape))
    return samples


def _predicted(
    prepared: PreparedImages, predictions: DataFrame, pairs: pd.DataFrame
) -> tuple[list[Picture], list[Picture]]:
    """Predictions to show, the most certain mistakes first, and some mistakes of each of the pairs."""
    answers = predictions.select("id", "label", "prediction", F.array_max("probabilities").alias("probability"))
    wrong = F.col("label") != F.col("prediction")
    few = answers.orderBy(wrong.desc(), F.when(wrong, -F.col("probability")), "id").limit(SHOWN_PREDICTIONS)
    place = F.row_number().over(Window.partitionBy("label", "prediction").orderBy("id"))
    named = F.concat_ws(">", "label", "prediction").isin([f"{p.label}>{p.prediction}" for p in pairs.itertuples()])
    paired = answers.where(wrong & named).withColumn("place", place).where(F.col("place") <= MISTAKES_A_PAIR)
    test = prepared.split(TEST).select("id", "pixels")

    def pictures(chosen: DataFrame) -> list[Picture]:
        rows = test.join(F.broadcast(chosen), "id", how="inner")
        table = rows.select("id", "pixels", "label", "prediction", "probability").collect()
        return [
            Picture(_pixels(row["pixels"], prepared.shape), row["label"], row["prediction"], row["probability"])
            for row in sorted(table, key=lambda r: (r["label"] == r["prediction"], -r["probability"], r["id"]))
        ]

    return pictures(few), pictures(paired.drop("place"))


def _pixels(pixels: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    return np.frombuffer(pixels, dtype=np.uint8).reshape(shape)


def _versions() -> Iterator[tuple[str, str]]:
    for name in VERSIONS:
        with suppress(PackageNotFoundError):  # TensorFlow goes by another name where it has GPUs
            yield name, version(name)


def _git_commit() -> str | None:
    git = shutil.which("git")
    if git is None or not Path(ROOT / ".git").exists():
        return None
    said = subprocess.run([git, "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or None
