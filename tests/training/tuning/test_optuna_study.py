"""A study in a real SQLite file, with a formula in place of training."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from models.errors import TrainingError
from training.training_settings import Parameter, Search
from training.tuning.optuna_study import Limits, distributions, finished, open_study, requeue, run_trials
from training.tuning.trials import TrialResult

RATE = "training.learning_rate"
SEARCH = Search({RATE: Parameter(0.001, 0.1, log=True), "training.batch_size": Parameter(16, 64)})


def opened(folder: Path) -> optuna.Study:
    study = open_study(f"sqlite:///{folder}/study.db", "study", SEARCH, 0)
    requeue(study)
    return study


def distance(trial: optuna.Trial) -> TrialResult:
    return TrialResult(abs(trial.params[RATE] - 0.01), 3)


def run(
    study: optuna.Study,
    trials: int,
    train: Callable[[optuna.Trial], TrialResult] = distance,
    parallel: int = 2,
    patience: int | None = None,
) -> list[FrozenTrial]:
    ended: list[FrozenTrial] = []
    run_trials(study, SEARCH, Limits(trials, patience=patience), parallel, train, lambda: None, ended.append)
    return ended


def test_values_are_in_the_space_and_integers_stay_integers(tmp_path: Path) -> None:
    ended = run(opened(tmp_path), 6)
    assert len(ended) == 6
    assert all(0.001 <= trial.params[RATE] <= 0.1 for trial in ended)
    assert all(isinstance(trial.params["training.batch_size"], int) for trial in ended)


def test_a_study_continues_with_other_values_until_it_has_its_trials(tmp_path: Path) -> None:
    first = run(opened(tmp_path), 3)
    second = run(opened(tmp_path), 8)
    assert (len(first), len(second)) == (3, 5)
    rates = [trial.params[RATE] for trial in first + second]
    assert len(set(rates)) == 8
    assert run(opened(tmp_path), 8) == []


def test_trials_that_were_interrupted_are_run_again_with_their_values_and_count_once(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 2)
    interrupted = study.ask(distributions(SEARCH))  # and then the driver is killed
    resumed = opened(tmp_path)
    ended = run(resumed, 4)
    assert len(ended) == 2
    assert interrupted.params in [trial.params for trial in ended]
    assert len(finished(resumed)) == 4


def test_a_failed_or_pruned_trial_does_not_fail_the_study(tmp_path: Path) -> None:
    def train(trial: optuna.Trial) -> TrialResult:
        if trial.number == 0:
            return TrialResult(None, 1, failure="diverged")
        return TrialResult(0.5, 2, pruned=True) if trial.number == 1 else distance(trial)

    study = opened(tmp_path)
    run(study, 4, train, parallel=1)
    assert [trial.state for trial in finished(study)] == [
        TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE,
    ]  # fmt: skip
    assert study.trials[0].user_attrs["failure"] == "diverged"
    assert study.best_trial.number in (2, 3)


def test_a_nan_metric_is_a_failure(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 2, lambda trial: TrialResult(float("nan"), 1) if trial.number == 0 else distance(trial), parallel=1)
    assert "diverged" in study.trials[0].user_attrs["failure"]


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        open_study("mysql+nodriver://me:secret@host/x", "study", SEARCH, 0)
    assert "secret" not in str(caught.value)


def test_a_study_whose_trials_all_fail_raises_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="all 3 trials have failed: no memory"):
        run(opened(tmp_path), 3, lambda _: TrialResult(None, 0, failure="no memory"))


def test_a_study_ends_when_its_patience_is_exhausted(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 20, lambda trial: TrialResult(float(trial.number), 1), parallel=1, patience=3)
    assert len(finished(study)) == 4


def test_an_error_cancels_the_other_trials(tmp_path: Path) -> None:
    cancelled = []

    def train(_: optuna.Trial) -> TrialResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(opened(tmp_path), SEARCH, Limits(5), 2, train, lambda: cancelled.append(True), lambda _: None)
    assert cancelled


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/study.db", "nonsense", "mysql+nodriver://host/y"])
def test_a_database_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(TrainingError, match="the study cannot be opened") as caught:
        open_study(url, "study", SEARCH, 0)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
