"""The report on a search, written from a real in-memory study."""

from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from evaluation.search_report import write_search_report

SPACE = {
    "training.learning_rate": FloatDistribution(0.001, 0.1, log=True),
    "training.batch_size": CategoricalDistribution([60, 120]),
}


def make_study(direction: str, complete: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(complete):
        trial = study.ask(SPACE)
        trial.report(0.9, 1)
        trial.report(0.5 - 0.01 * number, 2)
        study.tell(trial, 0.5 - 0.01 * number)
    stopped, failed = study.ask(SPACE), study.ask(SPACE)
    stopped.report(0.95, 1)
    study.tell(stopped, state=TrialState.PRUNED)
    failed.set_user_attr("failure", "diverged: the loss of epoch 1 is nan")
    study.tell(failed, state=TrialState.FAIL)
    return study


def report_page(folder: Path, study: optuna.Study) -> str:
    write_search_report(folder, study, "val_loss", study.trials, "somewhere", False, "train --config {trial}.yaml")
    return (folder / "report.html").read_text()


def test_the_best_trial_comes_first_and_failures_last_with_their_reason(tmp_path: Path) -> None:
    table = write_search_report(
        tmp_path, study := make_study("minimize", 5), "val_loss", study.trials, "somewhere", False, ""
    )
    assert list(table["trial"]) == [4, 3, 2, 1, 0, 5, 6]
    assert list(table["end"][-2:]) == ["stopped early", "diverged: the loss of epoch 1 is nan"]
    table = write_search_report(
        tmp_path, study := make_study("maximize", 5), "val_accuracy", study.trials, "somewhere", False, ""
    )
    assert list(table["trial"][:5]) == [0, 1, 2, 3, 4]


def test_the_report_names_the_most_important_hyperparameter_and_how_to_train_the_best_trial_again(
    tmp_path: Path,
) -> None:
    page = report_page(tmp_path, make_study("minimize", 6))
    assert "8 trials: 6 finished, 1 stopped early, 1 failed." in page
    assert "The best trial is number 5, with a validation loss of 0.4500" in page
    assert "train --config 5.yaml" in page
    assert "The most important hyperparameter is training." in page
    for chart in ("history", "curves", "parallel_coordinates", "importance"):
        assert (tmp_path / f"figures/{chart}.png").stat().st_size > 5000


def test_importance_is_not_reported_for_few_trials(tmp_path: Path) -> None:
    assert "most important" not in report_page(tmp_path, make_study("minimize", 2))
    assert not (tmp_path / "figures/importance.png").exists()
    assert "0 finished" in report_page(tmp_path, make_study("minimize", 0))
