"""The training: images a second, against plain Keras and against ``KerasEstimator``; whole jobs."""

import sys

from benchmarks.measuring import PEERS, SUBMIT, Bench, Figure, FinishedJob, in_turn, run_job


def training(bench: Bench) -> list[Figure]:
    """Two Horovod processes against plain Keras with all cores, from the first epoch's end to the fifth's."""
    figures = []
    for network in ("baseline", "handshape"):

        def plain(network: str = network) -> float:
            return run_job(
                sys.executable, PEERS / "keras_on_arrays.py", "--data", bench.data, "--network", network
            ).last["images_per_second"]

        def ours(network: str = network) -> FinishedJob:
            return _train(bench, network, 5)

        theirs, own = in_turn(5, plain, ours)
        figures.append(
            Figure(
                "training", f"{network}, two processes", "images/s", [job.images_per_second for job in own], "≥ 0.95",
                "plain Keras, arrays in memory, all cores", theirs, own[0].rows,
            )
        )  # fmt: skip
    return figures


def estimator(bench: Bench) -> list[Figure]:
    """The published CNN's 15 epochs, from spark-submit to the end, predictions of the test set included.

    As documented, the peer writes a SavedModel an epoch and TensorBoard's logs; this project a checkpoint, precision
    and recall, and a report.
    """
    peer = "KerasEstimator as documented"
    theirs, own = in_turn(
        3,
        lambda: run_job(SUBMIT, PEERS / "keras_estimator.py", "--data", bench.data, "--epochs", 15),
        lambda: _train(bench, "baseline", 15),
    )
    return [
        Figure(
            "estimator", "an epoch", "images/s", [job.images_per_second for job in own], "≥ 1.8", peer,
            [own[0].rows / job.last["seconds_an_epoch"] for job in theirs], own[0].rows,
        ),
        Figure(
            "estimator", "a job of 15 epochs", "s", [job.seconds for job in own], "≥ 2", peer,
            [job.seconds for job in theirs], own[0].rows, more_is_better=False,
        ),
    ]  # fmt: skip


def looking(bench: Bench) -> list[Figure]:
    """What an epoch costs with the watches, MLflow or a profile, from the end of the first to the end of the last."""
    kinds: dict[str, tuple[object, ...]] = {
        "nothing": (),
        "watches": ("--training.watches", "true"),
        "MLflow": ("--tracking", f"sqlite:///{bench.work}/mlflow.db"),
        "profile": ("--profile",),
    }
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(5):
        for kind, options in kinds.items():
            job = _train(bench, "baseline", 5, "--training.watches", "false", *options)
            speeds[kind].append(job.images_per_second)
        print(f"  turn {turn + 1} of 5", file=sys.stderr, flush=True)
    return [
        Figure(
            "looking",
            kind,
            "images/s",
            found,
            "≥ 0.97" if kind == "watches" else "stated",
            "nothing",
            speeds["nothing"],
        )
        for kind, found in speeds.items()
        if kind != "nothing"
    ]


def folds(bench: Bench) -> list[Figure]:
    """The memory of the process that trains a trial: five folds of all rows against a single training."""

    def megabytes(*options: object) -> float:
        with bench.folder() as folder:
            job = run_job(
                SUBMIT, "jobs/tune.py", "--config", "conf/search_sign_mnist.yaml", "--data", bench.data, *options,
                "--training.epochs", 2, "--trials", 1, "--parallel", 1, "--study", folder / "study", "--store",
                folder / "store", watch_memory=True,
            )  # fmt: skip
        return job.memory["Python worker"] / 1e6

    theirs, own = in_turn(3, megabytes, lambda: megabytes("--search.folds", 5))
    peer = "a single training"
    return [Figure("folds", "peak memory of five folds", "MB", own, "≥ 0.91", peer, theirs, more_is_better=False)]


def _train(bench: Bench, network: str, epochs: int, *options: object) -> FinishedJob:
    with bench.folder() as folder:
        return run_job(
            SUBMIT, "jobs/train_cnn.py", "--config", "conf/sign_mnist_baseline.yaml", "--network.name", network,
            "--training.epochs", epochs, "--data", bench.data, *options, "--run", folder / "run", "--store",
            folder / "store",
        )  # fmt: skip
