"""Predictions of a trained model for a table of images, in batches on the executors."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.ml import PipelineModel
from pyspark.ml.classification import RandomForestClassificationModel
from pyspark.ml.feature import OneHotEncoderModel, StringIndexerModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from models.model_settings import NUM_ALTERNATIVES
from models.onnx_network import Predict, read_onnx
from preprocessing.arrow import lists, to_rows
from preprocessing.storage import reader

# Bins of the expected calibration error.
_BINS = 15


PREDICTIONS = T.StructType(
    [
        T.StructField("id", T.StringType(), False),
        T.StructField("source", T.StringType(), False),
        T.StructField("label", T.StringType(), False),
        T.StructField("letter", T.StringType(), False),
        # In the order of the class names.
        T.StructField("probabilities", T.ArrayType(T.FloatType(), False), False),
    ]
)


ANSWERS = T.StructType(
    [
        T.StructField("id", T.StringType()),
        # Null if the label is unknown.
        T.StructField("label", T.StringType()),
        # Null if the row was rejected; reason and detail are null if it was not.
        T.StructField("letter", T.StringType()),
        T.StructField("probability", T.FloatType()),
        # The next most likely letters in decreasing order of probability.
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


def predict_with_network(images: DataFrame, network: bytes, class_names: list[str]) -> DataFrame:
    """Predict the columns of ``PREDICTIONS`` for an image table.

    ONNX Runtime predicts, which is twice as fast as TensorFlow on photographs, and imported in a fraction of its time.

    Args:
        images: image table with the columns ``id``, ``source``, ``label`` and ``pixels``.
        network: the network in ONNX format, see :func:`models.export.to_onnx`; each Python worker reads it once.
        class_names: class names in the order of the probabilities.
    """
    broadcast = images.sparkSession.sparkContext.broadcast(network)

    def predict(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        predict_batch, names = _load(broadcast.value), np.array(class_names)
        for batch in (batch for batch in batches if batch.num_rows):
            probabilities = predict_batch(to_rows(batch.column("pixels")))
            columns = [
                *(batch.column(name) for name in ("id", "source", "label")),
                pa.array(names[probabilities.argmax(axis=1)]),
                lists(probabilities),
            ]
            yield pa.RecordBatch.from_arrays(columns, names=PREDICTIONS.names)

    return images.select("id", "source", "label", "pixels").mapInArrow(predict, PREDICTIONS)


@functools.lru_cache(maxsize=1)
def _load(network: bytes) -> Predict:
    return read_onnx(network)


def predict_with_forest(
    images: DataFrame, pipeline: PipelineModel, forest: RandomForestClassificationModel, class_names: list[str]
) -> DataFrame:
    """Predict the columns of ``PREDICTIONS`` for an image table, see :func:`predict_with_network`."""
    # The label stages are for training only; new rows may have unknown labels.
    features = PipelineModel(
        [stage for stage in pipeline.stages if not isinstance(stage, StringIndexerModel | OneHotEncoderModel)]
    )
    predicted = forest.transform(features.transform(images))
    probabilities = vector_to_array(F.col("probability"), dtype="float32")
    letter = F.element_at(F.lit(class_names), F.col("prediction").cast("int") + 1)
    return predicted.select("id", "source", "label", letter.alias("letter"), probabilities.alias("probabilities"))


def answer(rows: DataFrame, predict: Callable[[DataFrame], DataFrame], class_names: list[str]) -> DataFrame:
    """Predict the usable rows and pass on the rejected ones with their reasons.

    Args:
        rows: rows with the columns of :data:`preprocessing.schema.INPUT_TABLE`.
        predict: function from the columns id, source, label and pixels to the columns of ``PREDICTIONS``.
        class_names: class names in the order of the probabilities.

    Returns:
        One row with the columns of ``ANSWERS`` for each input row.
    """
    usable = rows.where(F.col("reason").isNull()).select(
        "id", F.lit("").alias("source"), F.coalesce("label", F.lit("")).alias("label"), "pixels"
    )
    candidates = F.arrays_zip(F.col("probabilities").alias("probability"), F.lit(class_names).alias("letter"))
    best = F.slice(F.reverse(F.array_sort(candidates)), 1, 1 + NUM_ALTERNATIVES)
    predicted = predict(usable).withColumn("best", best)
    answered = predicted.select(
        "id",
        F.when(F.col("label") != "", F.col("label")).alias("label"),
        "letter",
        F.array_max("probabilities").alias("probability"),
        F.slice("best", 2, NUM_ALTERNATIVES).alias("next"),
        *(F.lit(None).cast("string").alias(name) for name in ("reason", "detail")),
    )
    rejected_columns = [
        F.lit(None).cast(ANSWERS[name].dataType).alias(name)
        if name in ("letter", "probability", "next")
        else F.col(name)
        for name in ANSWERS.names
    ]
    return answered.union(rows.where(F.col("reason").isNotNull()).select(rejected_columns))


def count_answers(answers: DataFrame, class_names: list[str]) -> tuple[dict[str, Any], np.ndarray, list[str]]:
    """Count answers in one pass over them.

    Args:
        answers: rows with the columns of ``ANSWERS``.
        class_names: class names.

    Returns:
        A tuple ``(counts, confusion, labels)``. ``counts`` has the numbers of ``rows``, ``rejected`` rows with their
        ``reasons``, ``unlabeled`` and ``labeled`` rows, and ``other_labels``: the number of labeled rows by each label
        that is not a class and thus cannot be predicted. ``confusion`` counts how often each label (row) was predicted
        as each label (column), ``int64`` of shape ``(labels, labels)``. ``labels`` starts with the classes.
    """
    label_if_usable = F.when(F.col("reason").isNull(), F.col("label")).alias("label")
    groups = answers.groupBy("reason", label_if_usable, "letter").count().orderBy("reason", "label").collect()
    other_labels = sorted({row["label"] for row in groups if row["label"] is not None} - set(class_names))
    labels = [*class_names, *other_labels]
    label_indices = {label: index for index, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    counts = dict.fromkeys(("rows", "rejected", "unlabeled", "labeled"), 0)
    reasons: dict[str, int] = {}
    for reason, label, letter, count in groups:
        counts["rows"] += count
        if reason is not None:
            counts["rejected"] += count
            reasons[reason] = reasons.get(reason, 0) + count
        elif label is None:
            counts["unlabeled"] += count
        else:
            counts["labeled"] += count
            confusion[label_indices[label], label_indices[letter]] += count
    other_counts = {label: int(confusion[label_indices[label]].sum()) for label in other_labels}
    return counts | {"reasons": reasons, "other_labels": other_counts}, confusion, labels


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a set of predictions.

    Args:
        confusions: confusion matrix of each source: how often each class (row) was predicted as each class (column),
            ``int64``, shape ``(classes, classes)``.
        loss: mean cross-entropy of the true class.
        calibration_error: expected calibration error, 0..1: mean difference between the probability of the predicted
            class and its accuracy over 15 bins of the probability (Naeini et al., 2015).
    """

    confusions: dict[str, np.ndarray]
    loss: float
    calibration_error: float


def evaluate(predictions: DataFrame, class_names: list[str]) -> Evaluation:
    """Evaluate predictions in one pass over them.

    Args:
        predictions: rows with the columns of ``PREDICTIONS``.
        class_names: class names in the order of the probabilities.
    """
    class_indices = {name: index for index, name in enumerate(class_names)}
    index_map = F.create_map(*[F.lit(value) for pair in class_indices.items() for value in pair])
    probability = F.array_max("probabilities")
    likelihood = F.col("probabilities")[index_map[F.col("label")]]
    by_bin = F.least(F.floor(probability * _BINS), F.lit(_BINS - 1)).alias("bin")
    groups = predictions.groupBy("source", "label", "letter", by_bin).agg(
        F.count(F.lit(1)).alias("count"),
        F.sum(-F.log(F.greatest(likelihood, F.lit(1e-7)))).alias("loss"),
        F.sum((F.col("label") == F.col("letter")).cast("double") - probability).alias("gap"),
    )
    confusions: dict[str, np.ndarray] = {}
    gaps, loss, total = np.zeros(_BINS), 0.0, 0
    for row in groups.orderBy("source").collect():
        confusion = confusions.setdefault(row["source"], np.zeros((len(class_names), len(class_names)), dtype=np.int64))
        confusion[class_indices[row["label"]], class_indices[row["letter"]]] += row["count"]
        gaps[row["bin"]] += row["gap"]
        loss += row["loss"]
        total += row["count"]
    return Evaluation(confusions, loss / max(total, 1), float(np.abs(gaps).sum() / max(total, 1)))


def effective_size(predictions: DataFrame, images: DataFrame) -> float:
    """The number of independent pictures that are as informative as these, of which those of a group resemble another.

    It is the number of pictures divided by the design effect of the accuracy: the variance of the mean over groups,
    divided by that over independent pictures (Kish, 1965). It is the number of groups if the variance is zero, and lies
    between this number and that of the pictures.

    Args:
        predictions: rows with the columns of ``PREDICTIONS``.
        images: image table with the column ``group``. Its groups with one label are the groups here.
    """
    is_correct = (F.col("letter") == F.col("label")).cast("double")
    groups = (
        predictions.join(images.select("id", "group"), "id", how="inner")
        .groupBy("source", "group", "label")
        .agg(F.sum(is_correct).alias("correct"), F.count(F.lit(1)).cast("double").alias("size"))
    )
    correct, size = F.col("correct"), F.col("size")
    sums = groups.agg(
        F.count(F.lit(1)).alias("groups"), F.sum(size).alias("n"), F.sum(correct).alias("k"),
        F.sum(correct * correct).alias("kk"), F.sum(correct * size).alias("kn"), F.sum(size * size).alias("nn"),
    )  # fmt: skip
    [row] = sums.collect()
    accuracy = row["k"] / row["n"]
    squares = row["kk"] - 2 * accuracy * row["kn"] + accuracy**2 * row["nn"]
    if squares <= 0 or row["groups"] < 2:
        return float(row["groups"])
    variance = squares / row["n"] ** 2 * row["groups"] / (row["groups"] - 1)
    return float(min(max(accuracy * (1 - accuracy) / variance, row["groups"]), row["n"]))


def striking_predictions(predictions: DataFrame, images: DataFrame, limit: int) -> DataFrame:
    """Select predictions for display: the most confident mistakes first, then some correct predictions.

    Returns:
        At most ``limit`` rows with the columns ``pixels``, ``label``, ``letter`` and ``probability``.
    """
    confident_mistakes_first = F.when(_is_wrong(), -F.col("probability"))
    selected = _top_probabilities(predictions).orderBy(_is_wrong().desc(), confident_mistakes_first, "id").limit(limit)
    return _with_pixels(selected, images)


def mistakes_of_pairs(predictions: DataFrame, images: DataFrame, pairs: list[tuple[str, str]], limit: int) -> DataFrame:
    """Select at most ``limit`` mistakes of each ``(label, letter)`` pair, see :func:`striking_predictions`."""
    row_number = F.row_number().over(Window.partitionBy("label", "letter").orderBy("id"))
    in_pairs = F.concat_ws(">", "label", "letter").isin([f"{label}>{letter}" for label, letter in pairs])
    mistakes = _top_probabilities(predictions).where(_is_wrong() & in_pairs).withColumn("row_number", row_number)
    return _with_pixels(mistakes.where(F.col("row_number") <= limit), images)


def _is_wrong() -> Column:
    return F.col("label") != F.col("letter")


def _top_probabilities(predictions: DataFrame) -> DataFrame:
    return predictions.select("id", "label", "letter", F.array_max("probabilities").alias("probability"))


def _with_pixels(predictions: DataFrame, images: DataFrame) -> DataFrame:
    rows = images.select("id", "pixels").join(F.broadcast(predictions), "id", how="inner")
    return rows.orderBy(_is_wrong().desc(), F.col("probability").desc(), "id").select(
        "pixels", "label", "letter", "probability"
    )


def count_disagreements(spark: SparkSession, first: str, second: str) -> tuple[int, int]:
    """Compare the predictions of two runs.

    Args:
        spark: the session.
        first: path of the first run's predictions.
        second: path of the second run's predictions.

    Returns:
        The numbers of rows that only the first and only the second run predicted correctly.
    """

    def correct(path: str, name: str) -> DataFrame:
        return reader(spark).parquet(path).select("id", (F.col("letter") == F.col("label")).alias(name))

    counts = {
        (row["first"], row["second"]): row["count"]
        for row in correct(first, "first")
        .join(correct(second, "second"), "id", how="inner")
        .groupBy("first", "second")
        .count()
        .collect()
    }
    return counts.get((True, False), 0), counts.get((False, True), 0)
