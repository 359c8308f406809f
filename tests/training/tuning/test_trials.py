"""Trials trained in Spark tasks, which report to the driver's study."""

import gc
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest
from optuna.pruners import NopPruner, ThresholdPruner
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tensorflow.python.framework.func_graph import FuncGraph

from models.model_settings import Network
from preprocessing.folds import with_folds
from preprocessing.normalization import by_range
from preprocessing.storage import Storage
from training.cluster.reports import TrialReporter, receiving
from training.initial_network import InitialNetwork
from training.store import Part, write_folds, write_rows
from training.training_settings import Training
from training.tuning import trials
from training.tuning.trials import TrialResult, TrialTask

SIDE, CLASSES, ROWS = 28, 3, {"train": 120, "validation": 30}
INITIAL = InitialNetwork(Network(name="baseline"), (SIDE, SIDE, 1), CLASSES, by_range(1), seed=0)
Trained = Callable[..., tuple[TrialResult, optuna.Study]]


@pytest.fixture(scope="module")
def table(spark: SparkSession) -> DataFrame:
    """Pictures with a bright band whose position depends on the class."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in ROWS.items():
        for index in range(count):
            label = index % CLASSES
            picture = rng.integers(0, 60, (SIDE, SIDE))
            picture[5 * label : 5 * label + 5] += 150
            pixels = bytearray(picture.astype(np.uint8).tobytes())
            rows.append((f"{split}{index}", pixels, float(label), "ABC"[label], split))
    return spark.createDataFrame(rows, "id string, pixels binary, label_index double, label string, split string")


@pytest.fixture(scope="module")
def paths(table: DataFrame, storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_rows(table, storage, tmp_path_factory.mktemp("rows").as_uri(), 1, {"train": 0, "validation": 0})


@pytest.fixture
def trained(spark: SparkSession, paths: dict[str, str]) -> Trained:
    def train(pruner: optuna.pruners.BasePruner, **settings: object) -> tuple[TrialResult, optuna.Study]:
        training = Training(epochs=3, batch_size=15, **settings)  # type: ignore[arg-type]
        study = optuna.create_study(pruner=pruner)
        with receiving(spark, study.ask()) as address:
            task = TrialTask(
                TrialReporter(address, "val_loss", training.epochs),
                INITIAL,
                training,
                [Part(dict(paths), ROWS)],
                seed=0,
                cores=1,
            )
            return task.run(spark), study

    return train


def test_every_epoch_is_reported_and_the_value_is_that_of_the_lowest_loss(trained: Trained) -> None:
    result, study = trained(NopPruner())
    reported = study.trials[0].intermediate_values
    assert list(reported) == [1, 2, 3]
    assert (result.epochs, result.pruned, result.failure) == (3, False, None)
    assert result.value == min(reported.values())
    assert reported[3] < reported[1]


def test_a_pruned_trial_ends_after_the_epoch_that_was_pruned(trained: Trained) -> None:
    result, study = trained(ThresholdPruner(upper=0.0))
    assert (result.epochs, result.pruned) == (1, True)
    assert list(study.trials[0].intermediate_values) == [1]


def test_a_trial_that_diverges_has_failed_and_its_worker_takes_the_next_one(trained: Trained) -> None:
    result, _ = trained(NopPruner(), learning_rate=1e30)
    assert result.value is None
    assert "diverged" in str(result.failure)
    assert trained(NopPruner())[0].failure is None


def test_a_trial_whose_rows_do_not_exist_has_failed(spark: SparkSession, tmp_path: Path) -> None:
    study = optuna.create_study()
    with receiving(spark, study.ask()) as address:
        missing_paths: dict[str, str | list[str]] = {split: (tmp_path / split).as_uri() for split in ROWS}
        result = TrialTask(
            TrialReporter(address, "val_loss", 3), INITIAL, Training(epochs=3),
            [Part(missing_paths, ROWS)], seed=0, cores=1,
        ).run(spark)  # fmt: skip
    assert result.value is None
    assert str(tmp_path) in str(result.failure)


def test_a_worker_keeps_no_graph_of_its_finished_trainings(spark: SparkSession, paths: dict[str, str]) -> None:
    def count_graphs() -> int:
        keras.backend.clear_session()
        gc.collect()
        return sum(isinstance(item, FuncGraph) and item.name == "train_function" for item in gc.get_objects())

    previous_graphs, study = count_graphs(), optuna.create_study(pruner=NopPruner())
    with receiving(spark, study.ask()) as address:
        result = trials._train(
            TrialTask(
                TrialReporter(address, "val_loss", 3), INITIAL, Training(epochs=1),
            [Part(dict(paths), ROWS)] * 2, seed=0, cores=1,
            )
        )  # fmt: skip
    assert result.failure is None
    assert count_graphs() == previous_graphs


def test_every_fold_validates_once_and_the_value_is_their_mean(
    spark: SparkSession, storage: Storage, table: DataFrame, tmp_path: Path
) -> None:
    with_fold = with_folds(table.withColumn("group", F.col("id")), 3, 0)
    parts = write_folds(with_fold, storage, tmp_path.as_uri(), 3, SIDE * SIDE)
    assert all(48 <= part.rows["validation"] <= 51 for part in parts)
    assert all(sum(part.rows.values()) == 150 for part in parts)
    for part in parts:
        files = {split: set(part.paths[split]) for split in ROWS}
        assert len(files["train"]) == 2 * len(files["validation"])
        assert not files["train"] & files["validation"]
    study = optuna.create_study(pruner=NopPruner())
    with receiving(spark, study.ask()) as address:
        result = TrialTask(
            TrialReporter(address, "val_loss", 3), INITIAL, Training(epochs=2, batch_size=15),
            parts, seed=0, cores=1,
        ).run(spark)  # fmt: skip
    assert (result.epochs, result.failure) == (6, None)
    # The mean of the folds so far is reported after each fold.
    assert list(study.trials[0].intermediate_values) == [1, 2, 3]
    assert study.trials[0].intermediate_values[3] == pytest.approx(result.value)
