"""A study on a real SQLite file; what trains its trials is a formula."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from models.errors import TrainingError
from models.search import Limits, distributions, finished, open_study, requeue, run_trials
from models.settings import Parameter, Search
from models.trials import TrialResult

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
    plateau: int | None = None,
) -> list[FrozenTrial]:
    said: list[FrozenTrial] = []
    run_trials(study, SEARCH, Limits(trials, plateau=plateau), parallel, train, lambda: None, said.append)
    return said


def test_values_lie_in_the_space_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    said = run(opened(tmp_path), 6)
    assert len(said) == 6
    assert all(0.001 <= trial.params[RATE] <= 0.1 for trial in said)
    assert all(isinstance(trial.params["training.batch_size"], int) for trial in said)


def test_a_study_goes_on_with_other_values_until_it_has_its_trials(tmp_path: Path) -> None:
    first = run(opened(tmp_path), 3)
    second = run(opened(tmp_path), 8)
    assert (len(first), len(second)) == (3, 5)
    rates = [trial.params[RATE] for trial in first + second]
    assert len(set(rates)) == 8
    assert run(opened(tmp_path), 8) == []


def test_trials_that_were_interrupted_are_run_again_with_their_values_and_count_once(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 2)
    lost = study.ask(distributions(SEARCH))  # and then the driver is killed
    again = opened(tmp_path)
    said = run(again, 4)
    assert len(said) == 2
    assert lost.params in [trial.params for trial in said]
    assert len(finished(again)) == 4


def test_a_trial_that_fails_or_is_stopped_is_no_failed_study(tmp_path: Path) -> None:
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


def test_a_metric_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 2, lambda trial: TrialResult(float("nan"), 1) if trial.number == 0 else distance(trial), parallel=1)
    assert "diverged" in study.trials[0].user_attrs["failure"]


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        open_study("mysql+nodriver://me:secret@host/x", "study", SEARCH, 0)
    assert "secret" not in str(caught.value)


def test_a_study_whose_trials_all_fail_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="all 3 trials have failed: no memory"):
        run(opened(tmp_path), 3, lambda _: TrialResult(None, 0, failure="no memory"))


def test_a_plateau_ends_a_study(tmp_path: Path) -> None:
    study = opened(tmp_path)
    run(study, 20, lambda trial: TrialResult(float(trial.number), 1), parallel=1, plateau=3)
    assert len(finished(study)) == 4


def test_an_error_ends_the_trials_beside_it(tmp_path: Path) -> None:
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
