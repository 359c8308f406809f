"""A search for hyperparameters: Optuna's study, and the trials that are left to do of it."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from models.errors import TrainingError, without_password
from models.settings import Parameter, Search
from models.trials import TrialResult

# Trials that the first ones are compared with before any is stopped, and epochs that each has at least.
STARTUP_TRIALS, WARMUP_EPOCHS = 3, 2
AGAIN, FAILURE, EPOCHS, SECONDS = "again", "failure", "epochs", "seconds"


def open_study(url: str, name: str, search: Search, seed: int) -> optuna.Study:
    """Begin a study or go on with it.

    Args:
        url: of the database.
        name: of the study.
        search: what is searched, and what for.
        seed: of the sampler.

    Raises:
        TrainingError: the database cannot be opened or written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=url,
            study_name=name,
            direction="minimize" if search.metric == "val_loss" else "maximize",
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS),
            load_if_exists=True,
        )
    except (SQLAlchemyError, OptunaError, ValueError, RuntimeError, ImportError) as error:
        said = without_password(str(error).splitlines()[0])
        raise TrainingError(f"{without_password(url)}: the study cannot be opened: {said}") from error
    # the first draws after a new start are not those of the last one
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    return study


def requeue(study: optuna.Study) -> None:
    """Queue trials that were interrupted again, with their values."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """The space as Optuna has it."""
    return {place: _distribution(parameter) for place, parameter in search.space.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.low, parameter.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=parameter.log)
    return FloatDistribution(float(low or 0), float(high or 0), log=parameter.log)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: not those that were interrupted, and are run again."""
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    again = {trial.user_attrs[AGAIN] for trial in study.trials if AGAIN in trial.user_attrs}
    return [trial for trial in trials if trial.number not in again]


@dataclass(frozen=True)
class Limits:
    """When no further trial begins.

    Args:
        trials: that have finished, in all starts of the study together.
        minutes: of this start.
        plateau: finished trials since the best one.
    """

    trials: int
    minutes: float | None = None
    plateau: int | None = None

    def reached(self, study: optuna.Study, running: int, began: float) -> bool:
        done = finished(study)
        if len(done) + running >= self.trials:
            return True
        if self.minutes is not None and time.monotonic() - began >= self.minutes * 60:
            return True
        if self.plateau is None or not any(trial.state == TrialState.COMPLETE for trial in done):
            return False
        best = study.best_trial.number
        return sum(trial.number > best for trial in done) >= self.plateau


def run_trials(
    study: optuna.Study,
    search: Search,
    limits: Limits,
    parallel: int,
    run: Callable[[optuna.Trial], TrialResult],
    cancel: Callable[[], None],
    said: Callable[[FrozenTrial], None],
) -> None:
    """Run what is left of a study, so many trials at a time.

    Args:
        study: from :func:`open_study`.
        search: its space.
        limits: when it ends.
        parallel: trials at the same time.
        run: trains one.
        cancel: ends those that run, when the job is interrupted.
        said: is told of each that has finished.

    Raises:
        TrainingError: all trials have failed, with their reasons.
    """
    space, lock, saying, began = distributions(search), threading.Lock(), threading.Lock(), time.monotonic()
    running: set[int] = set()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with lock:
                if limits.reached(study, len(running), began):
                    return
                trial = study.ask(space)
                running.add(trial.number)
            begin = time.monotonic()
            try:
                result = run(trial)
            except BaseException:
                stop.set()  # the other ones end, too
                raise
            with lock:
                _tell(study, trial, result, time.monotonic() - begin)
                running.discard(trial.number)
            with saying:
                said(study.trials[trial.number])

    # this thread is one of them: where it is the only one, trials have the signals that Horovod needs
    with ThreadPoolExecutor(parallel) as pool:
        try:
            others = [pool.submit(work) for _ in range(parallel - 1)]
            work()
            for other in others:
                other.result()
        except BaseException:
            stop.set()
            cancel()
            raise
    failed = [trial for trial in finished(study) if trial.state == TrialState.FAIL]
    if failed and len(failed) == len(finished(study)):
        reasons = "; ".join(sorted({trial.user_attrs.get(FAILURE, "unknown") for trial in failed}))
        raise TrainingError(f"all {len(failed)} trials have failed: {reasons}")


def _tell(study: optuna.Study, trial: optuna.Trial, result: TrialResult, seconds: float) -> None:
    trial.set_user_attr(EPOCHS, result.epochs)
    trial.set_user_attr(SECONDS, seconds)
    failure = result.failure
    if failure is None and not math.isfinite(result.value or 0):
        failure = f"diverged: the metric is {result.value}"
    if failure is not None:
        trial.set_user_attr(FAILURE, failure)
        study.tell(trial, state=TrialState.FAIL)
    elif result.pruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, result.value)
