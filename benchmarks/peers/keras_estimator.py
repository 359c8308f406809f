"""Horovod's ``KerasEstimator`` as documented, with Vector features, its own data module and ``transform``.

spark-submit benchmarks/peers/keras_estimator.py --data DIR --network baseline --epochs 15
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYTHONWARNINGS", "ignore")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras
import pyarrow.parquet as pq
from horovod.spark.common.store import LocalStore
from horovod.spark.keras import KerasEstimator, KerasModel
from pyspark.ml import Pipeline
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from benchmarks.measuring import plain_or_gzipped
from models.model_settings import Network
from models.networks import build_network
from preprocessing.normalization import by_range
from preprocessing.sign_mnist import FILES


class ReadableStore(LocalStore):
    """A store that pyarrow 14 can read, unlike Horovod's own (Horovod issue 3829)."""

    def get_parquet_dataset(self, path: str) -> pq.ParquetDataset:
        return pq.ParquetDataset(self.get_localized_path(path), filesystem=self.fs, use_legacy_dataset=True)


class EpochSeconds(keras.callbacks.Callback):
    """Adds the seconds of each epoch to the history."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch_start = time.time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        epoch_end = time.time()
        logs["seconds"], self.epoch_start = epoch_end - self.epoch_start, epoch_end


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", default="baseline")
    parser.add_argument("--batch-size", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()

    spark = SparkSession.builder.appName("keras_estimator").getOrCreate()
    train, test = _features(spark, arguments.data)
    fitted = _fit(train, arguments.network, arguments.batch_size, arguments.epochs)
    seconds = fitted.getHistory()["seconds"]
    predicted_per_second, accuracy = _predict(fitted, test)
    print(
        json.dumps(
            {
                "seconds_an_epoch": sum(seconds[1:]) / max(len(seconds) - 1, 1),
                "predicted_per_second": predicted_per_second,
                "accuracy": accuracy,
            }
        )
    )


def _features(spark: SparkSession, data: Path) -> tuple[DataFrame, DataFrame]:
    """The training and test rows, with the pixels as a Vector and a one-hot label."""
    schema = "label int, " + ", ".join(f"pixel{i} double" for i in range(1, 785))
    train, test = (
        # a gzip file is read as one partition, but every process needs its own row groups
        spark.read.csv(str(plain_or_gzipped(data / FILES[split])), header=True, schema=schema).repartition(20)
        for split in ("train", "test")
    )
    pipeline = Pipeline(
        stages=[
            VectorAssembler(inputCols=train.columns[1:], outputCol="features"),
            StringIndexer(inputCol="label", outputCol="index", stringOrderType="alphabetAsc"),
            OneHotEncoder(inputCols=["index"], outputCols=["onehot"], dropLast=False),
        ]
    ).fit(train)
    return pipeline.transform(train), pipeline.transform(test)


def _fit(train: DataFrame, name: str, batch_size: int, epochs: int) -> KerasModel:
    network = build_network(Network(name=name), (28, 28, 1), 24, by_range(1))  # type: ignore[arg-type]
    model = keras.Sequential([keras.layers.InputLayer((784,)), *network.layers])
    with tempfile.TemporaryDirectory() as folder:
        return KerasEstimator(
            num_proc=2,
            store=ReadableStore(folder),
            model=model,
            optimizer=keras.optimizers.Adam(0.001),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
            feature_cols=["features"],
            label_cols=["onehot"],
            validation=0.1,
            batch_size=batch_size,
            epochs=epochs,
            callbacks=[EpochSeconds()],
            verbose=0,
        ).fit(train.select("features", "onehot"))


def _predict(fitted: KerasModel, test: DataFrame) -> tuple[float, float]:
    """The number of predicted rows a second, and the accuracy."""
    vectors = test.select("features", "onehot", "index").repartition(2).persist()
    scores = fitted.setOutputCols(["scores"]).transform(vectors)
    largest = F.udf(lambda scores: float(scores.toArray().argmax()), T.DoubleType())
    predictions = scores.select("index", largest("scores").alias("prediction"))
    # the first pass starts workers and TensorFlow and caches the rows, the second pass is measured
    accuracy = MulticlassClassificationEvaluator(labelCol="index", metricName="accuracy").evaluate(predictions)
    rows = vectors.count()
    start = time.time()
    predictions.write.format("noop").mode("overwrite").save()
    return rows / (time.time() - start), accuracy


if __name__ == "__main__":
    main()
