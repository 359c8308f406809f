"""What Spark does, in a session that is warm: features, predictions, the forest."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from sklearn.ensemble import RandomForestClassifier as ScikitForest

from benchmarks.measuring import PEERS, SUBMIT, Bench, Figure, in_turn, read_rows, run_job
from models.forest import train_forest
from models.networks import build_network
from models.prediction import predict_with_network
from models.settings import Forest, Network
from preprocessing.features_store import stored_images
from preprocessing.normalisation import by_range
from preprocessing.prepare import PreparedImages, Sources
from preprocessing.schema import TEST, TRAIN
from preprocessing.settings import Preprocessing, Source, Split
from preprocessing.sign_mnist import FILES
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
        pixels = np.frombuffer(b"".join(row["pixels"] for row in images.select("pixels").toLocalIterator()), np.uint8)
        pixels = pixels.reshape(-1, 784)
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
    plain = _plain_vectors(spark, bench.data)
    accuracies: dict[str, list[float]] = {"ours": [], "MLlib": [], "scikit-learn": []}

    def judge(model: RandomForestClassificationModel, rows: DataFrame, label: str) -> float:
        return MulticlassClassificationEvaluator(labelCol=label, metricName="accuracy").evaluate(model.transform(rows))

    def mllib() -> float:
        train = plain[TRAIN].persist()
        train.count()
        classifier = RandomForestClassifier(
            numTrees=TREES, maxDepth=DEPTH, seed=0, maxMemoryInMB=2048, cacheNodeIds=True, labelCol="label",
        )  # fmt: skip
        begin = time.perf_counter()
        model = classifier.fit(train)
        seconds = time.perf_counter() - begin
        accuracies["MLlib"].append(judge(model, plain[TEST], "label"))
        train.unpersist()
        return seconds

    def ours() -> float:
        train, test = (
            prepared.pipeline.transform(prepared.split(split)).select("id", "features", "label_index")
            for split in (TRAIN, TEST)
        )
        begin = time.perf_counter()
        model = train_forest(train, Forest(trees=TREES, max_depth=DEPTH, max_bins=8), 0)
        seconds = time.perf_counter() - begin
        accuracies["ours"].append(judge(model, test, "label_index"))
        return seconds

    with bench.folder() as folder:
        prepared = _prepare(spark, bench.data, folder)
        theirs, own = in_turn(3, mllib, ours)
        rows = {name: read_rows(bench.data / file) for name, file in FILES.items()}
        scikit = ScikitForest(TREES, max_depth=DEPTH, n_jobs=-1, random_state=0)
        with_scikit = _seconds(lambda: scikit.fit(rows[TRAIN].drop(columns="label"), rows[TRAIN]["label"]))
        accuracies["scikit-learn"] = [scikit.score(rows[TEST].drop(columns="label"), rows[TEST]["label"])]
        count = prepared.rows(TRAIN)
    about = {"accuracy": accuracies}
    name = f"{TREES} trees of depth {DEPTH}"
    return [
        Figure("forest", name, "s", own, "≥ 2", "MLlib on Vector columns", theirs, count, False, about),
        Figure("forest", name, "s", own, "stated", "scikit-learn", [with_scikit] * len(own), count, False, about),
    ]


def _plain_vectors(spark: SparkSession, data: Path) -> dict[str, DataFrame]:
    schema = "label double, " + ", ".join(f"pixel{i} double" for i in range(1, 785))
    tables = {}
    for split, name in FILES.items():
        path = data / name if (data / name).exists() else data / f"{name}.gz"
        rows = spark.read.csv(path.as_uri(), header=True, schema=schema)
        assembler = VectorAssembler(inputCols=rows.columns[1:], outputCol="features")
        tables[split] = (
            assembler.transform(rows).select("features", "label").repartition(spark.sparkContext.defaultParallelism)
        )
    return tables
