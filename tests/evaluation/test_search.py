"""The report on a search, from a real study in memory."""

from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from evaluation.search import write_search_report

SPACE = {
    "training.learning_rate": FloatDistribution(0.001, 0.1, log=True),
    "training.batch_size": CategoricalDistribution([60, 120]),
}


def study(direction: str, complete: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(complete):
        trial = made.ask(SPACE)
        trial.report(0.9, 1)
        trial.report(0.5 - 0.01 * number, 2)
        made.tell(trial, 0.5 - 0.01 * number)
    stopped, failed = made.ask(SPACE), made.ask(SPACE)
    stopped.report(0.95, 1)
    made.tell(stopped, state=TrialState.PRUNED)
    failed.set_user_attr("failure", "diverged: the loss of epoch 1 is nan")
    made.tell(failed, state=TrialState.FAIL)
    return made


def written(folder: Path, made: optuna.Study) -> str:
    write_search_report(folder, made, "val_loss", made.trials, "somewhere", False, "train --config {trial}.yaml")
    return (folder / "report.html").read_text()


def test_the_best_trial_comes_first_and_failures_last_with_their_reason(tmp_path: Path) -> None:
    table = write_search_report(tmp_path, made := study("minimize", 5), "val_loss", made.trials, "somewhere", False, "")
    assert list(table["trial"]) == [4, 3, 2, 1, 0, 5, 6]
    assert list(table["end"][-2:]) == ["stopped early", "diverged: the loss of epoch 1 is nan"]
    table = write_search_report(
        tmp_path, made := study("maximize", 5), "val_accuracy", made.trials, "somewhere", False, ""
    )
    assert list(table["trial"][:5]) == [0, 1, 2, 3, 4]


def test_the_report_tells_what_mattered_and_how_the_best_is_trained_again(tmp_path: Path) -> None:
    page = written(tmp_path, study("minimize", 6))
    assert "8 trials: 6 finished, 1 stopped early, 1 failed." in page
    assert "The best is trial 5 with a validation loss of 0.4500" in page
    assert "train --config 5.yaml" in page
    assert "What mattered most is training." in page
    for chart in ("history", "curves", "parallel_coordinates", "importance"):
        assert (tmp_path / f"figures/{chart}.png").stat().st_size > 5000


def test_few_trials_say_nothing_of_what_mattered(tmp_path: Path) -> None:
    assert "What mattered" not in written(tmp_path, study("minimize", 2))
    assert not (tmp_path / "figures/importance.png").exists()
    assert "0 finished" in written(tmp_path, study("minimize", 0))
