"""A search as a user runs it: it is killed and started again, and its best trial is trained with Horovod."""

import fcntl
import json
import os
import signal
import subprocess
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml

from preprocessing.errors import InputError
from tests.conftest import BRIEF, ROOT, RunJob, as_on_terminal

SPACE = "{training.learning_rate: {low: 0.0005, high: 0.01, log: true}, training.batch_size: {choices: [30, 60]}}"


@pytest.fixture(scope="module")
def folder(small_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    (folder / "search.yaml").write_text(
        f"network: {{name: baseline}}\ntraining: {{epochs: 2}}\ndata: {small_sample}\nsearch: {{space: {SPACE}}}\n"
    )
    return folder


TRIALS = 3
COMMAND = ["jobs/tune.py", "--config", "search.yaml", "--study", "runs/study"]


@pytest.fixture(scope="module")
def killed(folder: Path) -> int:
    """Kill a search after its first trial; return the number of trials that had finished."""
    process = subprocess.Popen(
        [ROOT / ".venv/bin/spark-submit", ROOT / COMMAND[0], *COMMAND[1:], "--trials", str(TRIALS)],
        cwd=folder, env=os.environ | BRIEF, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if as_on_terminal(line).startswith("trial "):
            break
    os.killpg(process.pid, signal.SIGKILL)
    return 1 + sum(line.startswith("trial ") for line in as_on_terminal(process.stdout.read()).splitlines())


@pytest.fixture(scope="module")
def finished(killed: int, folder: Path, run_job: RunJob) -> str:
    """Continue the search, train the best trial, and return the output."""
    options = ["--trials", TRIALS, "--trial-processes", 1, "--retrain", "--run", "runs/best"]
    return run_job("tune", *COMMAND[1:], *options, cwd=folder)


def test_a_search_continues_with_the_remaining_trials(finished: str, killed: int, folder: Path) -> None:
    assert f"going on with {killed} of {TRIALS} trials" in finished
    assert finished.count("\ntrial ") == TRIALS - killed
    assert len(pd.read_csv(folder / "runs/study/trials.csv")) == TRIALS
    assert (folder / "runs/study/report.html").stat().st_size > 50_000
    assert [path.name.split("-")[0] for path in (folder / "store").iterdir()] == ["features"]


def test_the_best_trial_is_trained_with_its_values_into_a_run(finished: str, folder: Path) -> None:
    study = optuna.load_study(study_name="study", storage=f"sqlite:///{folder}/runs/study/study.db")
    training = yaml.safe_load((folder / "runs/best/experiment.yaml").read_text())["training"]
    for name, value in study.best_params.items():
        assert training[name.removeprefix("training.")] == value
    metrics = json.loads((folder / "runs/best/metrics.json").read_text())
    assert f"test accuracy {metrics['test']['accuracy']:.4f}" in finished
    best_trial = yaml.safe_load((folder / f"runs/study/trials/{study.best_trial.number}.yaml").read_text())
    assert best_trial["training"] == training


def test_another_search_space_under_the_same_name_is_rejected(folder: Path, finished: str, run_job: RunJob) -> None:
    space = "{training.learning_rate: {low: 0.1, high: 0.2}}"
    with pytest.raises(InputError, match=r"began with search\.space\.training\.batch_size.*another --study"):
        run_job("tune", *COMMAND[1:], "--search.space", space, cwd=folder)


def test_a_study_that_another_job_runs_is_rejected(folder: Path, finished: str, run_job: RunJob) -> None:
    with (folder / "runs/study/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another job runs it"):
            run_job("tune", *COMMAND[1:], "--trials", 6, cwd=folder)
