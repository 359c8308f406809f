"""What a trained model leaves: predictions, metrics, figures and the report, in its run directory."""

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
from evaluation.figures import Picture
from evaluation.metrics import add_confusions, confused_pairs, summarise
from evaluation.overfitting import overfitting
from evaluation.report import write_run_report
from evaluation.runs import METRICS_FILE, RUN_FILE, Run, write_json
from jobs.data import is_synthetic, source_name
from jobs.experiment import Experiment
from jobs.run_directory import StagedRun, about_job
from jobs.stopwatch import Stopwatch
from models.prediction import judge, mistakes_of_pairs, striking_predictions
from preprocessing.prepare import PreparedImages, to_array
from preprocessing.schema import TEST, TRAIN, VALIDATION
from preprocessing.storage import Storage, reader

# Of fixed size, however many rows there are.
SHOWN_PAIRS, MISTAKES_A_PAIR, SHOWN_PREDICTIONS = 8, 3, 48
# Test pictures that the run keeps, for its network in another format to be asked about them.
KEPT_PICTURES, KEPT_BYTES = 256, 8 * 1024 * 1024


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
        losses: of processes, hosts or the driver, see :class:`models.cnn.TrainedNetwork`.
        loss_curve: the training loss on the way, ``epoch`` and ``loss``.
        more: goes into ``metrics.json`` as it is.
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
    losses: list[dict[str, Any]] = field(default_factory=list)
    loss_curve: pd.DataFrame | None = None
    more: dict[str, Any] = field(default_factory=dict)


def write_outcome(
    storage: Storage,
    staged: StagedRun,
    run: str,
    experiment: Experiment,
    text: str,
    prepared: PreparedImages,
    model: TrainedModel,
    predictions: DataFrame,
    watch: Stopwatch,
) -> Run:
    """Predict the test rows and write all that follows from it.

    Args:
        storage: the session's file systems.
        staged: where it is written.
        run: the run directory as the user calls it.
        experiment: what was trained.
        text: all of it, as YAML.
        prepared: the images.
        model: what was trained.
        predictions: of the test rows, with the columns of ``PREDICTIONS``; not computed yet.
        watch: the stages so far.
    """
    source, synthetic = source_name(experiment), is_synthetic(experiment)
    with watch.stage("prediction"):
        predictions.write.parquet(f"{staged.uri}/predictions")
    # read again: a second use must not ask the model a second time
    predictions = reader(predictions.sparkSession).parquet(f"{staged.uri}/predictions")
    with watch.stage("evaluation"):
        judged = judge(predictions, prepared.classes)
        confusion = add_confusions(judged.confusions, prepared.classes)
        if confusion.sum() != prepared.rows(TEST):
            raise OSError(
                f"{staged.uri}/predictions: {confusion.sum()} of {prepared.rows(TEST)} predictions are there:"
                " not every host sees the folder that the driver sees"
            )
        test = summarise(confusion, prepared.classes) | {
            "loss": judged.loss,
            "calibration_error": judged.calibration_error,
            "sources": {name: _of_source(found, prepared.classes) for name, found in judged.confusions.items()},
        }
        pairs = confused_pairs(confusion, prepared.classes)
        with ThreadPoolExecutor() as pool:
            kept = pool.submit(_keep_test_pictures, prepared, f"{staged.uri}/test_pictures")
            charts = _charts(prepared, model, predictions, confusion, pairs)
            figures.save_figures(charts, staged.local / "figures", source)
            kept.result()
        for name in ("pipeline", "rejected"):
            storage.copy(f"{prepared.folder}/{name}", f"{staged.uri}/{name}")
    finished = Run(run, about_job(model.job), _metrics(prepared, model, confusion, test, source, synthetic, watch))
    write_json(staged.local / RUN_FILE, finished.about)
    write_json(staged.local / METRICS_FILE, finished.metrics)
    (staged.local / "classes.json").write_text(json.dumps(prepared.classes) + "\n", encoding="utf-8")
    (staged.local / "experiment.yaml").write_text(text, encoding="utf-8")
    if model.history is not None:
        model.history.to_csv(staged.local / "history.csv", index=False)
    if model.loss_curve is not None:
        model.loss_curve.to_csv(staged.local / "loss_curve.csv", index=False)
    write_run_report(staged.local / "report.html", finished, pairs, model.history, staged.local / "figures", text)
    return finished


def say_outcome(run: Run) -> None:
    test = run.metrics["test"]
    low, high = test["accuracy_interval"]
    print(
        f"test accuracy {test['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}),"
        f" macro F1 {test['macro']['f1']:.4f}, {run.metrics['source']}\nreport {run.path}/report.html",
        flush=True,
    )


def _of_source(confusion: np.ndarray, classes: list[str]) -> dict[str, Any]:
    found = summarise(confusion, classes)
    return {name: found[name] for name in ("accuracy", "accuracy_interval", "correct", "macro")} | {
        "rows": int(confusion.sum())
    }


def _metrics(
    prepared: PreparedImages,
    model: TrainedModel,
    confusion: np.ndarray,
    test: dict[str, Any],
    source: str,
    synthetic: bool,
    watch: Stopwatch,
) -> dict[str, Any]:
    rows = {split: prepared.rows(split) for split in (TRAIN, VALIDATION, TEST)}
    watch.stop()
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
        "balance": prepared.balance,
        "notes": prepared.notes,
        "sources": prepared.sources,
        "near_copies": prepared.near_copies,
        "normalisation": asdict(prepared.normalisation),
        "seconds": watch.seconds,
        "train": model.train,
        "restarts": len(model.losses),
        "losses": model.losses,
        "overfitting": None
        if model.history is None
        else overfitting(model.history, model.train["best_epoch"], test["accuracy"]),
        **model.more,
        "test": test
        | {
            "images_per_second": rows[TEST] / watch.seconds["prediction"],
            "fingerprint": prepared.counted.test_fingerprint,
            "confusion": confusion.tolist(),
        },
    }


def _charts(
    prepared: PreparedImages, model: TrainedModel, predictions: DataFrame, confusion: np.ndarray, pairs: pd.DataFrame
) -> Iterator[tuple[str, Figure]]:
    """The charts of the model, drawn one by one; Spark looks for the pictures of the last two meanwhile."""
    shown = pairs.head(SHOWN_PAIRS)
    test = prepared.split(TEST)
    names = list(zip(shown["label"], shown["prediction"], strict=True))
    found = [striking_predictions(predictions, test, SHOWN_PREDICTIONS)]
    if names:
        found.append(mistakes_of_pairs(predictions, test, names, MISTAKES_A_PAIR))
    with ThreadPoolExecutor() as pool:
        striking, *mistakes = (pool.submit(_pictures, rows, prepared.shape) for rows in found)
        yield "confusion_matrix", figures.confusion_heatmap(confusion, prepared.classes)
        if model.history is not None:
            yield "training_curves", figures.training_curves(model.history, model.train["best_epoch"])
        if model.importance is not None:
            yield "pixel_importance", figures.pixel_importance_figure(model.importance)
        title = "Predictions on the test set, the wrong ones first"
        yield "predictions", figures.picture_grid(striking.result(), title, columns=8)
        if names:
            pictures = mistakes[0].result(), prepared.samples
            yield "confused_pairs", figures.confused_pairs_figure(shown, *pictures, MISTAKES_A_PAIR)


def _keep_test_pictures(prepared: PreparedImages, path: str) -> None:
    count = max(1, min(KEPT_PICTURES, KEPT_BYTES // prepared.picture_bytes))
    # an id is a hash: they are of all classes
    rows = prepared.split(TEST).select("id", "pixels").orderBy("id").limit(count)
    rows.coalesce(1).write.parquet(path)


def _pictures(predicted: DataFrame, shape: tuple[int, int, int]) -> list[Picture]:
    return [
        Picture(to_array(row["pixels"], shape), row["label"], row["prediction"], row["probability"])
        for row in predicted.collect()
    ]
