"""Predictions of a finished run for an input: one file or folder, labeled or not."""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from evaluation.figures import Picture
from evaluation.metrics import summarize
from experiments.trained_run import TrainedRun
from models.prediction import answer, count_answers
from preprocessing.cleansing import check_counts
from preprocessing.prepare import to_array
from preprocessing.read_rows import ReadContext, ReadRows
from preprocessing.steps import step
from preprocessing.storage import reader


@dataclass(frozen=True)
class Answers:
    """The predictions for an input, which are stored as Parquet.

    Args:
        rows: the rows of the input, with the columns of ``INPUT_TABLE``.
        answers: one row with the columns of ``ANSWERS`` for each of them.
        shape: the shape ``(height, width, channels)`` of the pictures.
        metrics: the counts, the hands that were ``searched`` and ``found`` and, if there are labels, the metrics of
            :func:`evaluation.metrics.summarize` with ``labels`` and ``confusion``.
    """

    rows: DataFrame
    answers: DataFrame
    shape: tuple[int, int, int]
    metrics: dict[str, Any]

    def examples(self, limit: int) -> list[Picture]:
        """The first predicted pictures, by their ids."""
        return self._pictures(self.answers.where("letter is not null"), ["id"], limit)

    def mistakes(self, limit: int) -> list[Picture]:
        """The pictures whose wrong letters have the highest probabilities."""
        wrong = self.answers.where("letter is not null and label != letter")
        return self._pictures(wrong, [F.desc("probability"), "id"], limit)

    def _pictures(self, answers: DataFrame, order: list[Any], limit: int) -> list[Picture]:
        selected = answers.orderBy(*order).limit(limit)
        return to_pictures(selected.join(self.rows.select("id", "pixels"), "id").orderBy(*order), self.shape)


def to_pictures(predicted: DataFrame, shape: tuple[int, int, int]) -> list[Picture]:
    """Collect predicted pictures, with the columns ``pixels``, ``label``, ``letter`` and ``probability``."""
    return [
        Picture(to_array(row["pixels"], shape), row["label"] or row["letter"], row["letter"], row["probability"])
        for row in predicted.collect()
    ]


def count_hands(images: DataFrame) -> dict[str, int]:
    """In how many pictures a hand was ``searched``, and ``found``."""
    found = F.count_if(F.col("hand_confidence") > 0).alias("found")
    [hands] = images.agg(F.count("hand_confidence").alias("searched"), found).collect()
    counts: dict[str, int] = hands.asDict()
    return counts


def answer_rows(context: ReadContext, trained: TrainedRun, read: ReadRows, name: str, path: str) -> Answers:
    """Predict rows and count the predictions.

    Args:
        context: the session.
        trained: the run.
        read: the rows.
        name: the name of the input in messages.
        path: absolute path for the predictions.

    Raises:
        InputError: not every row has exactly one prediction.
    """
    with step(context.spark, "predicting"):
        answer(read.table, trained.predict, trained.class_names).write.parquet(path)
    answers = reader(context.spark).parquet(path)
    metrics, confusion, labels = count_answers(answers, trained.class_names)
    check_counts("answered", {name: read.count}, {name: metrics["rows"]})
    metrics["hands"] = count_hands(read.table)
    if metrics["labeled"]:
        metrics |= summarize(confusion, labels) | {"labels": labels, "confusion": confusion.tolist()}
    return Answers(read.table, answers, trained.preprocessing.shape, metrics)
