"""Benchmarks of training: throughput and complete jobs, compared to plain Keras and ``KerasEstimator``."""

import sys

from benchmarks.measuring import PEERS, SUBMIT, Bench, FinishedJob, Measurement, run_alternately, run_job


def training(bench: Bench) -> list[Measurement]:
    """Two Horovod processes compared to plain Keras on all cores, from the end of epoch 1 to the end of epoch 5."""
    measurements = []
    for network in ("baseline", "handshape"):

        def plain(network: str = network) -> float:
            return run_job(
                sys.executable, PEERS / "keras_on_arrays.py", "--data", bench.data, "--network", network
            ).last_json["images_per_second"]

        def ours(network: str = network) -> FinishedJob:
            return _train(bench, network, 5)

        theirs, own = run_alternately(5, plain, ours)
        measurements.append(
            Measurement(
                "training", f"{network}, two processes", "images/s", [job.images_per_second for job in own], "≥ 0.95",
                "plain Keras, arrays in memory, all cores", theirs, own[0].rows,
            )
        )  # fmt: skip
    return measurements


def estimator(bench: Bench) -> list[Measurement]:
    """15 epochs of the published CNN, from spark-submit to the end, including predictions of the test set.

    As documented, the peer writes a SavedModel per epoch and TensorBoard logs. This project writes a checkpoint per
    epoch and a report, and computes precision and recall.
    """
    peer = "KerasEstimator as documented"
    theirs, own = run_alternately(
        3,
        lambda: run_job(SUBMIT, PEERS / "keras_estimator.py", "--data", bench.data, "--epochs", 15),
        lambda: _train(bench, "baseline", 15),
    )
    return [
        Measurement(
            "estimator", "an epoch", "images/s", [job.images_per_second for job in own], "≥ 1.8", peer,
            [own[0].rows / job.last_json["seconds_an_epoch"] for job in theirs], own[0].rows,
        ),
        Measurement(
            "estimator", "a job of 15 epochs", "s", [job.seconds for job in own], "≥ 2", peer,
            [job.seconds for job in theirs], own[0].rows, more_is_better=False,
        ),
    ]  # fmt: skip


def monitoring_overhead(bench: Bench) -> list[Measurement]:
    """Throughput with diagnostics, MLflow or a profile, without the first epoch."""
    kinds: dict[str, tuple[object, ...]] = {
        "nothing": (),
        "diagnostics": ("--training.diagnostics", "true"),
        "MLflow": ("--tracking", f"sqlite:///{bench.work}/mlflow.db"),
        "profile": ("--profile",),
    }
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(5):
        for kind, options in kinds.items():
            job = _train(bench, "baseline", 5, "--training.diagnostics", "false", *options)
            speeds[kind].append(job.images_per_second)
        print(f"  turn {turn + 1} of 5", file=sys.stderr, flush=True)
    return [
        Measurement(
            "looking",
            kind,
            "images/s",
            values,
            "≥ 0.97" if kind == "diagnostics" else "stated",
            "nothing",
            speeds["nothing"],
        )
        for kind, values in speeds.items()
        if kind != "nothing"
    ]


def folds(bench: Bench) -> list[Measurement]:
    """Memory of the process that trains a trial: five folds of all rows compared to a single training."""

    def megabytes(*options: object) -> float:
        with bench.folder() as folder:
            job = run_job(
                SUBMIT, "jobs/tune.py", "--config", "conf/search_sign_mnist.yaml", "--data", bench.data, *options,
                "--training.epochs", 2, "--trials", 1, "--parallel", 1, "--study", folder / "study", "--store",
                folder / "store", monitor_memory=True,
            )  # fmt: skip
        return job.memory["Python worker"] / 1e6

    theirs, own = run_alternately(3, megabytes, lambda: megabytes("--search.folds", 5))
    peer = "a single training"
    return [Measurement("folds", "peak memory of five folds", "MB", own, "≥ 0.91", peer, theirs, more_is_better=False)]


def _train(bench: Bench, network: str, epochs: int, *options: object) -> FinishedJob:
    with bench.folder() as folder:
        return run_job(
            SUBMIT, "jobs/train_cnn.py", "--config", "conf/sign_mnist_baseline.yaml", "--network.name", network,
            "--training.epochs", epochs, "--data", bench.data, *options, "--run", folder / "run", "--store",
            folder / "store",
        )  # fmt: skip
