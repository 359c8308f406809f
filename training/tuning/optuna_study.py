"""A hyperparameter search: Optuna's study, and the loop that runs its remaining trials."""

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
from training.training_settings import Parameter, Search
from training.tuning.trials import TrialResult

# No trial is pruned before this many trials have finished, or before it has this many epochs itself.
STARTUP_TRIALS, WARMUP_EPOCHS = 3, 2
RERUN_OF, FAILURE, EPOCHS, SECONDS = "again", "failure", "epochs", "seconds"


def open_study(url: str, name: str, search: Search, seed: int) -> optuna.Study:
    """Create a study, or load it if it exists.

    Args:
        url: the URL of the database.
        name: the name of the study.
        search: the search space and the metric.
        seed: the seed of the sampler.

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
        message = without_password(str(error).splitlines()[0])
        raise TrainingError(f"{without_password(url)}: the study cannot be opened: {message}") from error
    # The seed depends on the number of trials, so that a resumed study does not sample the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    return study


def requeue(study: optuna.Study) -> None:
    """Mark interrupted trials as failed, and queue new ones with the same values."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={RERUN_OF: trial.number})


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """The search space as Optuna's distributions, by field name."""
    return {field_name: _distribution(parameter) for field_name, parameter in search.space.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.low, parameter.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=parameter.log)
    return FloatDistribution(float(low or 0), float(high or 0), log=parameter.log)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials, without interrupted ones that are run again."""
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    interrupted = {trial.user_attrs[RERUN_OF] for trial in study.trials if RERUN_OF in trial.user_attrs}
    return [trial for trial in trials if trial.number not in interrupted]


@dataclass(frozen=True)
class Limits:
    """The limits after which no new trial starts.

    Args:
        trials: the number of trials of the study, including those of earlier runs of the job.
        minutes: the duration of this run of the job. None: no limit.
        patience: the number of finished trials since the best one. None: no limit.
    """

    trials: int
    minutes: float | None = None
    patience: int | None = None

    def reached(self, study: optuna.Study, running: int, start: float) -> bool:
        """Whether a limit is reached.

        Args:
            study: the study.
            running: the number of running trials.
            start: the start of this run of the job, on the monotonic clock.
        """
        finished_trials = finished(study)
        if len(finished_trials) + running >= self.trials:
            return True
        if self.minutes is not None and time.monotonic() - start >= self.minutes * 60:
            return True
        if self.patience is None or not any(trial.state == TrialState.COMPLETE for trial in finished_trials):
            return False
        best = study.best_trial.number
        return sum(trial.number > best for trial in finished_trials) >= self.patience


def run_trials(
    study: optuna.Study,
    search: Search,
    limits: Limits,
    parallel: int,
    run: Callable[[optuna.Trial], TrialResult],
    cancel: Callable[[], None],
    on_trial_end: Callable[[FrozenTrial], None],
) -> None:
    """Run the remaining trials of a study, ``parallel`` at a time.

    Args:
        study: the study, from :func:`open_study`.
        search: the search space.
        limits: the limits after which no new trial starts.
        parallel: the number of trials that run at the same time.
        run: trains one trial.
        cancel: cancels the running trials when the job is interrupted.
        on_trial_end: is called with each finished trial, one at a time.

    Raises:
        TrainingError: all trials have failed. The message has their reasons.
    """
    space, start = distributions(search), time.monotonic()
    study_lock, callback_lock = threading.Lock(), threading.Lock()
    running: set[int] = set()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with study_lock:
                if limits.reached(study, len(running), start):
                    return
                trial = study.ask(space)
                running.add(trial.number)
            trial_start = time.monotonic()
            try:
                result = run(trial)
            except BaseException:
                stop.set()  # the other threads start no new trials
                raise
            with study_lock:
                _record_result(study, trial, result, time.monotonic() - trial_start)
                running.discard(trial.number)
            with callback_lock:
                on_trial_end(study.trials[trial.number])

    # This thread runs trials, too. Without parallel trials they run in the main thread, where Horovod can set its
    # signal handlers.
    with ThreadPoolExecutor(parallel) as pool:
        try:
            futures = [pool.submit(work) for _ in range(parallel - 1)]
            work()
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            cancel()
            raise
    _check_any_succeeded(study)


def _check_any_succeeded(study: optuna.Study) -> None:
    failed = [trial for trial in finished(study) if trial.state == TrialState.FAIL]
    if failed and len(failed) == len(finished(study)):
        reasons = "; ".join(sorted({trial.user_attrs.get(FAILURE, "unknown") for trial in failed}))
        raise TrainingError(f"all {len(failed)} trials have failed: {reasons}")


def _record_result(study: optuna.Study, trial: optuna.Trial, result: TrialResult, seconds: float) -> None:
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
