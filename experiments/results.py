"""The results of a trained model in its run directory: predictions, metrics, figures and the report."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pyspark.sql import DataFrame

from evaluation import figures
from evaluation.metrics import add_confusions, confused_pairs, summarize
from evaluation.overfitting import overfitting
from evaluation.report import write_run_report
from evaluation.runs import METRICS_FILE, RUN_FILE, Run, write_json
from experiments.answering import to_pictures
from experiments.configuration import Experiment
from experiments.data import is_synthetic, source_name
from experiments.logs import LOGGER
from experiments.run_directory import StagedRun, describe_job
from experiments.stopwatch import Stopwatch
from models.prediction import evaluate, mistakes_of_pairs, striking_predictions
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST, TRAIN, VALIDATION
from preprocessing.steps import step
from preprocessing.storage import Storage, reader

# Limits of what the report shows, so that its size does not depend on the number of rows.
SHOWN_PAIRS, MISTAKES_PER_PAIR, SHOWN_PREDICTIONS = 8, 3, 48
# Limits of the test pictures that are saved with the run, for comparing the network with its exports.
MAX_SAVED_PICTURES, MAX_SAVED_BYTES = 256, 8 * 1024 * 1024


@dataclass(frozen=True)
class TrainedModel:
    """The description of a trained model, either a network or a random forest, for its metrics and report.

    Args:
        job: ``cnn`` or ``forest``.
        name: name of the network, or ``random forest``.
        parameters: number of parameters.
        parameters_are: kind of the parameters, ``parameters`` of a network or ``nodes`` of a forest.
        size: size on disk, in bytes.
        train: ``train`` in ``metrics.json``, with ``images_per_second`` and ``epochs`` (0 for a forest).
        num_proc: number of processes or task slots that trained the model.
        history: one row per epoch.
        importance: feature importance by pixel, shape ``(height, width)``.
        failures: failures of processes, hosts or the driver, see :class:`training.trainer.TrainedNetwork`.
        loss_curve: the training loss in the course of the epochs, with columns ``epoch`` and ``loss``.
        extra_metrics: additional entries of ``metrics.json``.
    """

    job: str
    name: str
    parameters: int
    parameters_are: str
    size: int
    train: dict[str, Any]
    num_proc: int
    history: pd.DataFrame | None = None
    importance: np.ndarray | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    loss_curve: pd.DataFrame | None = None
    extra_metrics: dict[str, Any] = field(default_factory=dict)


def write_outcome(
    storage: Storage,
    staged: StagedRun,
    run: str,
    experiment: Experiment,
    prepared: PreparedImages,
    model: TrainedModel,
    predictions: DataFrame,
    stopwatch: Stopwatch,
) -> Run:
    """Predict the test rows, evaluate the predictions, and write the files of the run.

    Args:
        storage: the session's file systems.
        staged: the run directory in progress.
        run: path of the run directory as the user gave it.
        experiment: settings of the training.
        prepared: the images.
        model: description of the trained model.
        predictions: predictions of the test rows, with the columns of ``PREDICTIONS``; not computed yet.
        stopwatch: stopwatch with the stages so far.
    """
    source, synthetic = source_name(experiment), is_synthetic(experiment)
    with stopwatch.stage("prediction"), step(predictions.sparkSession, "predicting"):
        predictions.write.parquet(f"{staged.uri}/predictions")
    # read the written predictions, so that the model does not compute them again
    predictions = reader(predictions.sparkSession).parquet(f"{staged.uri}/predictions")
    with stopwatch.stage("evaluation"):
        confusion, test = _evaluate(predictions, prepared.class_names)
        if confusion.sum() != prepared.rows(TEST):
            raise OSError(
                f"{staged.uri}/predictions: only {confusion.sum()} of {prepared.rows(TEST)} predictions were written"
                " there: the folder is not the same on all hosts"
            )
        pairs = confused_pairs(confusion, prepared.class_names)
        with ThreadPoolExecutor() as pool:
            saving = pool.submit(_save_test_pictures, prepared, f"{staged.uri}/test_pictures")
            charts = _charts(prepared, model, predictions, confusion, pairs)
            figures.save_figures(charts, staged.local / "figures", source)
            saving.result()
        for name in ("pipeline", "rejected"):
            storage.copy(f"{prepared.folder}/{name}", f"{staged.uri}/{name}")
    finished = Run(
        run, describe_job(model.job), _metrics(prepared, model, confusion, test, source, synthetic, stopwatch)
    )
    write_json(staged.local / RUN_FILE, finished.about)
    write_json(staged.local / METRICS_FILE, finished.metrics)
    (staged.local / "class_names.json").write_text(json.dumps(prepared.class_names) + "\n", encoding="utf-8")
    (staged.local / "experiment.yaml").write_text(experiment.to_yaml(), encoding="utf-8")
    if model.history is not None:
        model.history.to_csv(staged.local / "history.csv", index=False)
    if model.loss_curve is not None:
        model.loss_curve.to_csv(staged.local / "loss_curve.csv", index=False)
    write_run_report(
        staged.local / "report.html", finished, pairs, model.history, staged.local / "figures", experiment.to_yaml()
    )
    return finished


def _evaluate(predictions: DataFrame, class_names: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """The confusion matrix, and ``test`` of ``metrics.json``."""
    evaluation = evaluate(predictions, class_names)
    confusion = add_confusions(evaluation.confusions, class_names)
    return confusion, summarize(confusion, class_names) | {
        "loss": evaluation.loss,
        "calibration_error": evaluation.calibration_error,
        "sources": {
            name: _source_metrics(source_confusion, class_names)
            for name, source_confusion in evaluation.confusions.items()
        },
    }


def print_predictions(metrics: dict[str, Any], seconds: float, output: str) -> None:
    """Print the counts of ``jobs/predict.py``, and the accuracy if there are labels."""
    speed = metrics["rows"] / seconds
    LOGGER.info(f"{metrics['rows']:,} rows, {metrics['rejected']:,} of them rejected, {speed:,.0f} rows/s")
    for reason, count in metrics["reasons"].items():
        LOGGER.info(f"rejected: {reason} {count:,}")
    if metrics["hands"]["searched"]:
        hands = metrics["hands"]
        LOGGER.info(f"a hand was found in {hands['found']:,} of {hands['searched']:,} photographs")
    if "accuracy" in metrics:
        low, high = metrics["accuracy_interval"]
        LOGGER.info(
            f"accuracy {metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {metrics['labeled']:,} rows"
        )
    if metrics["other_labels"]:
        counts = ", ".join(f"{label} {count:,}" for label, count in metrics["other_labels"].items())
        total = sum(metrics["other_labels"].values())
        LOGGER.info(f"{total:,} of them cannot be right, as the run knows no such class: {counts}")
    LOGGER.info(f"predictions {output}/predictions")


def print_outcome(run: Run) -> None:
    test = run.metrics["test"]
    low, high = test["accuracy_interval"]
    initial = run.metrics.get("initial_run")
    before = f", {initial['accuracy']:.4f} before" if initial else ""
    LOGGER.info(
        f"test accuracy {test['accuracy']:.4f}{before} (95 % interval {low:.4f} to {high:.4f}),"
        f" macro F1 {test['macro']['f1']:.4f}, {run.metrics['source']}\nreport {run.path}/report.html"
    )


def _source_metrics(confusion: np.ndarray, class_names: list[str]) -> dict[str, Any]:
    summary = summarize(confusion, class_names)
    return {name: summary[name] for name in ("accuracy", "accuracy_interval", "correct", "macro")} | {
        "rows": int(confusion.sum())
    }


def _metrics(
    prepared: PreparedImages,
    model: TrainedModel,
    confusion: np.ndarray,
    test: dict[str, Any],
    source: str,
    synthetic: bool,
    stopwatch: Stopwatch,
) -> dict[str, Any]:
    rows = {split: prepared.rows(split) for split in (TRAIN, VALIDATION, TEST)}
    stopwatch.stop()
    return {
        "model": model.name,
        "source": source,
        "synthetic": synthetic,
        "num_proc": model.num_proc,
        "parameters": model.parameters,
        "parameters_are": model.parameters_are,
        "bytes": model.size,
        "rows": rows | {"rejected": prepared.rejections.rejected},
        "rejected": prepared.rejections.reasons,
        "balance": prepared.balance,
        "notes": prepared.notes,
        "sources": prepared.sources,
        "near_duplicates": prepared.near_duplicates,
        "normalization": asdict(prepared.normalization),
        "seconds": stopwatch.seconds,
        "train": model.train,
        "restarts": len(model.failures),
        "failures": model.failures,
        "overfitting": None
        if model.history is None
        else overfitting(model.history, model.train["best_epoch"], test["accuracy"]),
        **model.extra_metrics,
        "test": test
        | {
            "images_per_second": rows[TEST] / stopwatch.seconds["prediction"],
            "fingerprint": prepared.counted.test_fingerprint,
            "confusion": confusion.tolist(),
        },
    }


def _charts(
    prepared: PreparedImages, model: TrainedModel, predictions: DataFrame, confusion: np.ndarray, pairs: pd.DataFrame
) -> Iterator[tuple[str, Figure]]:
    """Draw the charts of the model one by one, while Spark collects the pictures of the last two."""
    shown_pairs = pairs.head(SHOWN_PAIRS)
    test = prepared.split(TEST)
    names = list(zip(shown_pairs["label"], shown_pairs["prediction"], strict=True))
    queries = [striking_predictions(predictions, test, SHOWN_PREDICTIONS)]
    if names:
        queries.append(mistakes_of_pairs(predictions, test, names, MISTAKES_PER_PAIR))
    with ThreadPoolExecutor() as pool:
        striking, *mistakes = (pool.submit(to_pictures, query, prepared.shape) for query in queries)
        yield "confusion_matrix", figures.confusion_heatmap(confusion, prepared.class_names)
        if model.history is not None:
            yield "training_curves", figures.training_curves(model.history, model.train["best_epoch"])
        if model.importance is not None:
            yield "pixel_importance", figures.pixel_importance_figure(model.importance)
        title = "Predictions on the test set, the wrong ones first"
        yield "predictions", figures.picture_grid(striking.result(), title, columns=8)
        if names:
            pictures = mistakes[0].result(), prepared.samples
            yield "confused_pairs", figures.confused_pairs_figure(shown_pairs, *pictures, MISTAKES_PER_PAIR)


def _save_test_pictures(prepared: PreparedImages, path: str) -> None:
    count = max(1, min(MAX_SAVED_PICTURES, MAX_SAVED_BYTES // prepared.picture_bytes))
    # ids are hashes, so the first ones are a random sample of all classes
    rows = prepared.split(TEST).select("id", "pixels").orderBy("id").limit(count)
    rows.coalesce(1).write.parquet(path)
