"""What Spark does, in a session that is warm: features, predictions, the forest."""

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

from benchmarks.measuring import PEERS, SUBMIT, Bench, Figure, in_turn, read_rows, run_job
from models.forest import train_forest
from models.networks import build_network
from models.prediction import predict_with_network
from models.settings import Forest, Network
from preprocessing.features_store import stored_images
from preprocessing.normalisation import by_range
from preprocessing.prepare import PreparedImages
from preprocessing.schema import TEST, TRAIN
from preprocessing.settings import Preprocessing, Source, Split
from preprocessing.sign_mnist import FILES
from preprocessing.sources import Sources
from preprocessing.storage import Storage

TREES, DEPTH = 100, 20


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _prepare(spark: SparkSession, data: Path, folder: Path) -> PreparedImages:
    sources = Sources(
        {Source("sign_mnist"): data.as_uri()}, f"{folder.as_uri()}/work", Preprocessing(), Split(), [], 0.2, 1.0, 0
    )
    return stored_images(spark, Storage(spark), sources, folder.as_uri())


def features(bench: Bench, spark: SparkSession) -> list[Figure]:
    """CSV to features in the store, against pandas reading the same files and writing them as Parquet."""
    figures = []
    for times, pairs, goal in ((1, 5, "≥ 0.5"), (10, 3, "≥ 1")):
        data = bench.enlarged(times)
        rows = sum(len(read_rows(data / name)) for name in FILES.values())
        sizes: list[int] = []

        def with_pandas(data: Path = data, rows: int = rows) -> float:
            with bench.folder() as folder:
                begin = time.perf_counter()
                for name in FILES.values():
                    read_rows(data / name).to_parquet(folder / f"{name}.parquet")
                return rows / (time.perf_counter() - begin)

        def ours(data: Path = data, rows: int = rows, sizes: list[int] = sizes) -> float:
            with bench.folder() as folder:
                seconds = _seconds(lambda: _prepare(spark, data, folder))
                sizes.append(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
                return rows / seconds

        if times == 1:
            ours()  # a session's first time is its start, which the jobs' own benchmark has
        theirs, own = in_turn(pairs, with_pandas, ours)
        figures.append(
            Figure(
                "features", f"CSV to the store, {times} times the rows", "rows/s", own, goal, "pandas, CSV to Parquet",
                theirs, rows, about={"bytes_a_row": sizes[-1] / rows},
            )
        )  # fmt: skip
    return figures


def prediction(bench: Bench, spark: SparkSession) -> list[Figure]:
    """Ten times the test rows, from the store to predictions in Parquet, the network loaded once a worker before."""
    figures = []
    with bench.folder() as folder:
        images = _prepare(spark, bench.enlarged(10), folder).split(TEST)
        pixels, _ = _arrays(images)
        for name in ("baseline", "handshape"):
            model = build_network(Network(name=name), (28, 28, 1), 24, by_range(1))  # type: ignore[arg-type]
            predicted = predict_with_network(images, model, [f"class {i}" for i in range(24)])

            def plain(model: keras.Model = model) -> float:
                return len(pixels) / _seconds(lambda: model.predict(pixels, batch_size=512, verbose=0))

            def ours(predicted: DataFrame = predicted) -> float:
                write = predicted.write.mode("overwrite")
                return len(pixels) / _seconds(lambda: write.parquet(f"{folder.as_uri()}/predictions"))

            plain(), ours()
            theirs, own = in_turn(5, plain, ours)
            figures.append(
                Figure(
                    "prediction", name, "images/s", own, "≥ 0.7", "plain model.predict on arrays, batches of 512",
                    theirs, len(pixels),
                )
            )  # fmt: skip
    peer = run_job(SUBMIT, PEERS / "keras_estimator.py", "--data", bench.data, "--epochs", 1).last
    figures.append(
        Figure(
            "prediction", "baseline", "images/s", figures[0].ours, "≥ 50", "KerasModel.transform of the test rows",
            [peer["predicted_per_second"]] * len(figures[0].ours), figures[0].rows,
        )
    )  # fmt: skip
    return figures


def forest(bench: Bench, spark: SparkSession) -> list[Figure]:
    """The forest of conf/sign_mnist_forest.yaml, against MLlib on plain Vector columns and against scikit-learn."""
    accuracies: dict[str, list[float]] = {"ours": [], "MLlib": [], "scikit-learn": []}

    def judge(model: RandomForestClassificationModel, name: str) -> None:
        evaluator = MulticlassClassificationEvaluator(labelCol="label_index", metricName="accuracy")
        accuracies[name].append(evaluator.evaluate(model.transform(test)))

    def mllib() -> float:
        rows = train.persist()
        rows.count()
        classifier = RandomForestClassifier(
            numTrees=TREES, maxDepth=DEPTH, seed=0, maxMemoryInMB=640, cacheNodeIds=True, labelCol="label_index",
        )  # fmt: skip
        begin = time.perf_counter()
        model = classifier.fit(rows)
        seconds = time.perf_counter() - begin
        judge(model, "MLlib")
        rows.unpersist()
        return seconds

    def ours() -> float:
        begin = time.perf_counter()
        model = train_forest(train, Forest(trees=TREES, max_depth=DEPTH, max_bins=8), 0)
        seconds = time.perf_counter() - begin
        judge(model, "ours")
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
        theirs, own = in_turn(3, mllib, ours)
        with_scikit = [scikit() for _ in own]
        count = prepared.rows(TRAIN)
    about = {"accuracy": accuracies}
    name = f"{TREES} trees of depth {DEPTH}"
    return [
        Figure("forest", name, "s", own, "≥ 2", "MLlib on Vector columns", theirs, count, False, about),
        Figure("forest", name, "s", own, "stated", "scikit-learn", with_scikit, count, False),
    ]


def _arrays(images: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    rows = images.select("pixels", "label").toPandas()
    return np.frombuffer(b"".join(rows["pixels"]), np.uint8).reshape(len(rows), -1), rows["label"].to_numpy()
