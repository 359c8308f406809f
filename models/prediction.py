"""Predictions of a trained model for a table of images, in batches on the executors."""

import functools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
from pyspark.ml import PipelineModel
from pyspark.ml.classification import RandomForestClassificationModel
from pyspark.ml.feature import OneHotEncoderModel, StringIndexerModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from models.imports import no_garbage
from models.saved_network import load_network, save_network
from models.settings import RUNNERS_UP
from preprocessing.arrow import lists, to_rows
from preprocessing.storage import reader

# Pictures at a time: a network holds some hundred times their bytes.
BATCH, BATCH_BYTES = 512, 8 * 1024 * 1024

_BINS = 15

PREDICTIONS = T.StructType(
    [
        T.StructField("id", T.StringType(), False),
        T.StructField("source", T.StringType(), False),
        T.StructField("label", T.StringType(), False),
        T.StructField("prediction", T.StringType(), False),
        # In the order of the class names.
        T.StructField("probabilities", T.ArrayType(T.FloatType(), False), False),
    ]
)


ANSWERS = T.StructType(
    [
        T.StructField("id", T.StringType()),
        # Null where it is not known.
        T.StructField("label", T.StringType()),
        # Null where the row cannot be used; reason and detail are null where it can.
        T.StructField("letter", T.StringType()),
        T.StructField("probability", T.FloatType()),
        # The next likely ones, the likeliest first.
        T.StructField(
            "next",
            T.ArrayType(
                T.StructType([T.StructField("probability", T.FloatType()), T.StructField("letter", T.StringType())])
            ),
        ),
        T.StructField("reason", T.StringType()),
        T.StructField("detail", T.StringType()),
    ]
)


def predict_with_network(images: DataFrame, model: keras.Model, classes: list[str]) -> DataFrame:
    """The columns of ``PREDICTIONS`` for each row of an image table; the model is loaded once a Python worker."""
    saved = images.sparkSession.sparkContext.broadcast(_saved(model))

    def predict(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # once a worker: what an earlier network has left behind is garbage
        with nullcontext() if "models.prediction" in sys.modules else no_garbage():
            from models import prediction  # not by a name of this module's, which would import TensorFlow before

        network, names = prediction._load(saved.value), np.array(classes)
        for batch in (batch for batch in batches if batch.num_rows):
            pixels = to_rows(batch.column("pixels"))
            size = min(BATCH, max(16, BATCH_BYTES // pixels.shape[1]))
            probabilities = np.concatenate([network(pixels[i : i + size]).numpy() for i in range(0, len(pixels), size)])
            columns = [
                *(batch.column(name) for name in ("id", "source", "label")),
                pa.array(names[probabilities.argmax(axis=1)]),
                lists(probabilities),
            ]
            yield pa.RecordBatch.from_arrays(columns, names=PREDICTIONS.names)

    return images.select("id", "source", "label", "pixels").mapInArrow(predict, PREDICTIONS)


def predict_with_forest(
    images: DataFrame, pipeline: PipelineModel, forest: RandomForestClassificationModel, classes: list[str]
) -> DataFrame:
    """The columns of ``PREDICTIONS`` for each row of an image table."""
    # those of the label, which may not be known, are the training's
    features = PipelineModel(
        [stage for stage in pipeline.stages if not isinstance(stage, StringIndexerModel | OneHotEncoderModel)]
    )
    predicted = forest.transform(features.transform(images))
    probabilities = vector_to_array(F.col("probability"), dtype="float32")
    prediction = _name(F.col("prediction"), classes)
    return predicted.select(
        "id", "source", "label", prediction.alias("prediction"), probabilities.alias("probabilities")
    )


def answer(rows: DataFrame, predict: Callable[[DataFrame], DataFrame], classes: list[str]) -> DataFrame:
    """Predict what can be, and say of each row what it shows.

    Args:
        rows: the columns of :data:`preprocessing.inputs.INPUT_TABLE`.
        predict: gives the columns of ``PREDICTIONS`` for the columns id, source, label and pixels.
        classes: in the order of the probabilities.

    Returns:
        The columns of ``ANSWERS``, a row for each.
    """
    usable = rows.where(F.col("reason").isNull()).select(
        "id", F.lit("").alias("source"), F.coalesce("label", F.lit("")).alias("label"), "pixels"
    )
    named = F.arrays_zip(F.col("probabilities").alias("probability"), F.lit(classes).alias("letter"))
    best = F.slice(F.reverse(F.array_sort(named)), 1, 1 + RUNNERS_UP)
    predicted = predict(usable).withColumn("best", best)
    answered = predicted.select(
        "id",
        F.when(F.col("label") != "", F.col("label")).alias("label"),
        F.col("prediction").alias("letter"),
        F.array_max("probabilities").alias("probability"),
        F.slice("best", 2, RUNNERS_UP).alias("next"),
        *(F.lit(None).cast("string").alias(name) for name in ("reason", "detail")),
    )
    others = [
        F.lit(None).cast(ANSWERS[name].dataType).alias(name)
        if name in ("letter", "probability", "next")
        else F.col(name)
        for name in ANSWERS.names
    ]
    return answered.union(rows.where(F.col("reason").isNotNull()).select(others))


def count_answers(answers: DataFrame, classes: list[str]) -> tuple[dict[str, Any], np.ndarray, list[str]]:
    """Count the columns of ``ANSWERS``, which are looked at once.

    Returns:
        ``rows``, those ``rejected`` with their ``reasons``, the ``unlabelled`` and the ``labelled``, and of the latter
        those with ``other_labels`` than the classes, by label, which cannot be right; how often each label (row) was
        taken for each (column), ``int64`` of shape ``(labels, labels)``; and the labels, the classes first.
    """
    known = F.when(F.col("reason").isNull(), F.col("label")).alias("label")
    counted = answers.groupBy("reason", known, "letter").count().orderBy("reason", "label").collect()
    others = sorted({row["label"] for row in counted if row["label"] is not None} - set(classes))
    labels = [*classes, *others]
    place = {name: index for index, name in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    counts = dict.fromkeys(("rows", "rejected", "unlabelled", "labelled"), 0)
    reasons: dict[str, int] = {}
    for reason, label, letter, count in counted:
        counts["rows"] += count
        if reason is not None:
            counts["rejected"] += count
            reasons[reason] = reasons.get(reason, 0) + count
        elif label is None:
            counts["unlabelled"] += count
        else:
            counts["labelled"] += count
            confusion[place[label], place[letter]] += count
    unknown = {name: int(confusion[place[name]].sum()) for name in others}
    return counts | {"reasons": reasons, "other_labels": unknown}, confusion, labels


@dataclass(frozen=True)
class Judged:
    """What predictions are worth.

    Args:
        confusions: how often each class (row) was predicted as each class (column), by source; ``int64``, shape
            ``(classes, classes)``.
        loss: the mean cross-entropy of the true class.
        calibration_error: the expected calibration error: how far the probability of the answer is from how often it is
            right, on average over 15 bins of it (Naeini et al., 2015); 0..1.
    """

    confusions: dict[str, np.ndarray]
    loss: float
    calibration_error: float


def judge(predictions: DataFrame, classes: list[str]) -> Judged:
    """Look at all predictions once; ``classes`` are in the order of the probabilities."""
    place = {name: index for index, name in enumerate(classes)}
    places = F.create_map(*[F.lit(value) for pair in place.items() for value in pair])
    probability = F.array_max("probabilities")
    likelihood = F.col("probabilities")[places[F.col("label")]]
    by_bin = F.least(F.floor(probability * _BINS), F.lit(_BINS - 1)).alias("bin")
    counted = predictions.groupBy("source", "label", "prediction", by_bin).agg(
        F.count(F.lit(1)).alias("count"),
        F.sum(-F.log(F.greatest(likelihood, F.lit(1e-7)))).alias("loss"),
        F.sum((F.col("label") == F.col("prediction")).cast("double") - probability).alias("gap"),
    )
    confusions: dict[str, np.ndarray] = {}
    gaps, loss, total = np.zeros(_BINS), 0.0, 0
    for row in counted.orderBy("source").collect():
        confusion = confusions.setdefault(row["source"], np.zeros((len(classes), len(classes)), dtype=np.int64))
        confusion[place[row["label"]], place[row["prediction"]]] += row["count"]
        gaps[row["bin"]] += row["gap"]
        loss += row["loss"]
        total += row["count"]
    return Judged(confusions, loss / max(total, 1), float(np.abs(gaps).sum() / max(total, 1)))


def striking_predictions(predictions: DataFrame, images: DataFrame, limit: int) -> DataFrame:
    """Predictions to look at, with their ``pixels`` and the ``probability`` of what was predicted: the most certain
    mistakes first, then some that are right."""
    answers = _answers(predictions)
    certain = F.when(_wrong(), -F.col("probability"))
    return _with_pixels(answers.orderBy(_wrong().desc(), certain, "id").limit(limit), images)


def mistakes_of_pairs(predictions: DataFrame, images: DataFrame, pairs: list[tuple[str, str]], limit: int) -> DataFrame:
    """As :func:`striking_predictions`, of each pair of a label and what it was taken for ``limit`` rows at most."""
    place = F.row_number().over(Window.partitionBy("label", "prediction").orderBy("id"))
    named = F.concat_ws(">", "label", "prediction").isin([f"{label}>{prediction}" for label, prediction in pairs])
    mistakes = _answers(predictions).where(_wrong() & named).withColumn("place", place)
    return _with_pixels(mistakes.where(F.col("place") <= limit), images)


def _wrong() -> Column:
    return F.col("label") != F.col("prediction")


def _answers(predictions: DataFrame) -> DataFrame:
    return predictions.select("id", "label", "prediction", F.array_max("probabilities").alias("probability"))


def _with_pixels(answers: DataFrame, images: DataFrame) -> DataFrame:
    rows = images.select("id", "pixels").join(F.broadcast(answers), "id", how="inner")
    return rows.orderBy(_wrong().desc(), F.col("probability").desc(), "id").select(
        "pixels", "label", "prediction", "probability"
    )


def _name(index: Column, classes: list[str]) -> Column:
    return F.element_at(F.lit(classes), index.cast("int") + 1)


def _saved(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        save_network(model, path)
        return path.read_bytes()


_loaded: dict[int, Callable[[np.ndarray], tf.Tensor]] = {}


def _load(saved: bytes) -> Callable[[np.ndarray], tf.Tensor]:
    """The network, built once a Python worker and kept for its next tasks, as one graph for batches of any size."""
    key = hash(saved)
    if key not in _loaded:
        _loaded.clear()
        with suppress(RuntimeError):  # TensorFlow has begun: in this worker, with an earlier network
            # a worker has one core, and TensorFlow would start threads for all
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            path.write_bytes(saved)
            network = load_network(path)
        _loaded[key] = tf.function(
            functools.partial(network, training=False),
            input_signature=[tf.TensorSpec(network.input_shape, tf.uint8)],
            # nothing in a network is Python's to decide, and what would be written for it stays in the temporary folder
            autograph=False,
        )
    return _loaded[key]


def count_disagreements(spark: SparkSession, first: str, second: str) -> tuple[int, int]:
    """How many rows only the first, and only the second, of two runs' predictions has right."""

    def hits(path: str, name: str) -> DataFrame:
        return reader(spark).parquet(path).select("id", (F.col("prediction") == F.col("label")).alias(name))

    counts = {
        (row["first"], row["second"]): row["count"]
        for row in hits(first, "first")
        .join(hits(second, "second"), "id", how="inner")
        .groupBy("first", "second")
        .count()
        .collect()
    }
    return counts.get((True, False), 0), counts.get((False, True), 0)
