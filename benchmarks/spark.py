"""Benchmarks of Spark in a warm session: features, predictions and the forest."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.sql import DataFrame, SparkSession
from sklearn.ensemble import RandomForestClassifier as ScikitForest

from benchmarks.measuring import PEERS, SUBMIT, Bench, Measurement, read_rows, run_alternately, run_job
from models.export import to_onnx
from models.forest import train_forest
from models.model_settings import Forest, Network
from models.networks import build_network
from models.prediction import predict_with_network
from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.features_store import stored_images
from preprocessing.normalization import by_range
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST, TRAIN
from preprocessing.sign_mnist import FILES
from preprocessing.sources import Sources
from preprocessing.storage import Storage

TREES, DEPTH = 100, 20


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _prepare(spark: SparkSession, data: Path, folder: Path) -> PreparedImages:
    sources = Sources(
        {Source("sign_mnist"): data.as_uri()}, f"{folder.as_uri()}/work", Preprocessing(), Split(), [], [], 0.2, 1.0, 0
    )
    return stored_images(spark, Storage(spark), sources, folder.as_uri())


def features(bench: Bench, spark: SparkSession) -> list[Measurement]:
    """CSV to features in the store, compared to pandas, which reads the same files and writes them as Parquet."""
    measurements = []
    for scale, pairs, goal in ((1, 5, "≥ 0.5"), (10, 3, "≥ 1")):
        data = bench.enlarged(scale)
        rows = sum(len(read_rows(data / name)) for name in FILES.values())
        store_sizes: list[int] = []

        def with_pandas(data: Path = data, rows: int = rows) -> float:
            with bench.folder() as folder:
                start = time.perf_counter()
                for name in FILES.values():
                    read_rows(data / name).to_parquet(folder / f"{name}.parquet")
                return rows / (time.perf_counter() - start)

        def ours(data: Path = data, rows: int = rows, store_sizes: list[int] = store_sizes) -> float:
            with bench.folder() as folder:
                seconds = _seconds(lambda: _prepare(spark, data, folder))
                store_sizes.append(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
                return rows / seconds

        if scale == 1:
            ours()  # the first run starts the session, which the benchmarks of complete jobs measure
        theirs, own = run_alternately(pairs, with_pandas, ours)
        measurements.append(
            Measurement(
                "features", f"CSV to the store, {scale} times the rows", "rows/s", own, goal, "pandas, CSV to Parquet",
                theirs, rows, about={"bytes_a_row": store_sizes[-1] / rows},
            )
        )  # fmt: skip
    return measurements


def prediction(bench: Bench, spark: SparkSession) -> list[Measurement]:
    """Predictions of ten times the test rows, from the store to Parquet, in workers that have loaded the network."""
    measurements = []
    with bench.folder() as folder:
        images = _prepare(spark, bench.enlarged(10), folder).split(TEST)
        pixels, _ = _arrays(images)
        for name in ("baseline", "handshape"):
            model = build_network(Network(name=name), (28, 28, 1), 24, by_range(1))  # type: ignore[arg-type]
            predicted = predict_with_network(images, to_onnx(model, {}), [f"class {i}" for i in range(24)])

            def plain(model: keras.Model = model) -> float:
                return len(pixels) / _seconds(lambda: model.predict(pixels, batch_size=512, verbose=0))

            def ours(predicted: DataFrame = predicted) -> float:
                write = predicted.write.mode("overwrite")
                return len(pixels) / _seconds(lambda: write.parquet(f"{folder.as_uri()}/predictions"))

            plain(), ours()
            theirs, own = run_alternately(5, plain, ours)
            measurements.append(
                Measurement(
                    "prediction", name, "images/s", own, "≥ 0.7", "plain model.predict on arrays, batches of 512",
                    theirs, len(pixels),
                )
            )  # fmt: skip
    peer = run_job(SUBMIT, PEERS / "keras_estimator.py", "--data", bench.data, "--epochs", 1).last_json
    measurements.append(
        Measurement(
            "prediction", "baseline", "images/s", measurements[0].ours, "≥ 50", "KerasModel.transform of the test rows",
            [peer["predicted_per_second"]] * len(measurements[0].ours), measurements[0].rows,
        )
    )  # fmt: skip
    return measurements


def forest(bench: Bench, spark: SparkSession) -> list[Measurement]:
    """The forest of conf/sign_mnist_forest.yaml, compared to MLlib on plain Vector columns and to scikit-learn."""
    accuracies: dict[str, list[float]] = {"ours": [], "MLlib": [], "scikit-learn": []}

    def evaluate(model: RandomForestClassificationModel, name: str) -> None:
        evaluator = MulticlassClassificationEvaluator(labelCol="label_index", metricName="accuracy")
        accuracies[name].append(evaluator.evaluate(model.transform(test)))

    def mllib() -> float:
        rows = train.persist()
        rows.count()
        classifier = RandomForestClassifier(
            numTrees=TREES, maxDepth=DEPTH, seed=0, maxMemoryInMB=640, cacheNodeIds=True, labelCol="label_index",
        )  # fmt: skip
        start = time.perf_counter()
        model = classifier.fit(rows)
        seconds = time.perf_counter() - start
        evaluate(model, "MLlib")
        rows.unpersist()
        return seconds

    def ours() -> float:
        start = time.perf_counter()
        model = train_forest(train, Forest(trees=TREES, max_depth=DEPTH, max_bins=8), 0)
        seconds = time.perf_counter() - start
        evaluate(model, "ours")
        return seconds

    def scikit() -> float:
        forest = ScikitForest(TREES, max_depth=DEPTH, n_jobs=-1, random_state=0)
        seconds = _seconds(lambda: forest.fit(*arrays[TRAIN]))
        accuracies["scikit-learn"].append(forest.score(*arrays[TEST]))
        return seconds

    with bench.folder() as folder:
        prepared = _prepare(spark, bench.data, folder)
        arrays = {split: _arrays(prepared.split(split)) for split in (TRAIN, TEST)}
        train, test = (
            prepared.pipeline.transform(prepared.split(split)).select("id", "features", "label_index")
            for split in (TRAIN, TEST)
        )
        theirs, own = run_alternately(3, mllib, ours)
        scikit_values = [scikit() for _ in own]
        num_rows = prepared.rows(TRAIN)
    about = {"accuracy": accuracies}
    name = f"{TREES} trees of depth {DEPTH}"
    return [
        Measurement("forest", name, "s", own, "≥ 2", "MLlib on Vector columns", theirs, num_rows, False, about),
        Measurement("forest", name, "s", own, "stated", "scikit-learn", scikit_values, num_rows, False),
    ]


def _arrays(images: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    rows = images.select("pixels", "label").toPandas()
    return np.frombuffer(b"".join(rows["pixels"]), np.uint8).reshape(len(rows), -1), rows["label"].to_numpy()
