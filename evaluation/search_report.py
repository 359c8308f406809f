"""The report on a hyperparameter search: charts, a table of trials, and an HTML page.

The charts are not those of ``optuna.visualization.matplotlib``, which change Matplotlib's style for the whole process,
leave their figures open in pyplot, give each trial a color and a legend entry instead of showing whether it was pruned
or has failed, and have no logarithmic axis for the metric.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from evaluation.figures import BLUE, GREEN, ORANGE, RED, new_chart, save_figures
from evaluation.report import write_study_report

_STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
_COLORS = {TrialState.COMPLETE: BLUE, TrialState.PRUNED: ORANGE, TrialState.FAIL: RED}
# With fewer finished trials, the importance of hyperparameters is not meaningful.
_MIN_TRIALS = 4
# The smallest distance between the labels of two trials.
_LABEL_PIXELS = 9


def write_search_report(
    folder: Path,
    study: optuna.Study,
    metric: str,
    trials: list[FrozenTrial],
    source: str,
    synthetic: bool,
    command: str,
) -> pd.DataFrame:
    """Write ``report.html``, ``trials.csv`` and ``figures``.

    Args:
        folder: the folder to write to.
        study: the Optuna study.
        metric: the optimized metric, such as ``val_loss``.
        trials: the trials of the study to include.
        source: the name of the data in figures and report.
        synthetic: whether the data are the synthetic sample.
        command: the command that trains with a trial's values; ``{trial}`` stands for the trial's number.

    Returns:
        The table of trials, the best trial first.
    """
    table = trial_table(study, trials, metric)
    numbers = [trial.number for trial in trials]
    rows = study.trials_dataframe(("number", "value", "params", "user_attrs", "state"))
    rows.set_index("number").loc[numbers].to_csv(folder / "trials.csv")
    save_figures(_charts(study, trials, metric), folder / "figures", source)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    counts = ", ".join(f"{sum(trial.state == state for trial in trials)} {name}" for state, name in _STATES.items())
    notes = [f"{len(trials)} trials: {counts}."]
    if complete:
        best = study.best_trial
        notes += [
            f"The best trial is number {best.number}, with a {_metric_label(metric)} of {best.value:.4f}."
            f" Its values are: {_format_params(best)}.",
            f"To train this or another trial again, run this with its number: {command.format(trial=best.number)}",
        ]
    if len(complete) >= _MIN_TRIALS:
        (name, fraction), *_ = _importances(study).items()
        notes.append(
            f"The most important hyperparameter is {name}, with {fraction:.0%} of the total importance. Importance"
            " measures how far the values of the better trials differ from those of all trials (PED-ANOVA, Watanabe et"
            " al., 2023). With few trials it is only a rough estimate."
        )
    lead = f"The metric is the {_metric_label(metric)} on {source} at the epoch with the lowest validation loss."
    write_study_report(
        folder / "report.html", "Hyperparameter search", lead, synthetic, table, notes, folder / "figures"
    )
    return table


def trial_table(study: optuna.Study, trials: list[FrozenTrial], metric: str) -> pd.DataFrame:
    """One row per trial with formatted values: finished trials first, the best at the top."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1

    def sort_key(trial: FrozenTrial) -> tuple[int, float, int]:
        return list(_STATES).index(trial.state), sign * (trial.value if trial.value is not None else 0), trial.number

    return pd.DataFrame(
        {
            "trial": trial.number,
            _metric_label(metric): "" if trial.value is None else f"{trial.value:.4f}",
            # drop the prefix: all hyperparameters are fields of network or training
            **{name.split(".", 1)[1]: _format_value(value) for name, value in trial.params.items()},
            "epochs": trial.user_attrs.get("epochs", 0),
            "seconds": f"{trial.user_attrs.get('seconds', 0):.1f}",
            "end": trial.user_attrs.get("failure", _STATES[trial.state]),
        }
        for trial in sorted(trials, key=sort_key)
    )


def _charts(study: optuna.Study, trials: list[FrozenTrial], metric: str) -> Iterator[tuple[str, Figure]]:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete:
        yield "history", _history(study, complete, metric)
        yield "curves", _curves(trials, metric)
        yield "parallel_coordinates", _parallel_coordinates(study, complete, metric)
    if len(complete) >= _MIN_TRIALS:
        yield "importance", _importance(study)


def _history(study: optuna.Study, complete: list[FrozenTrial], metric: str) -> Figure:
    figure, axis = new_chart(3.2)
    numbers, values = [trial.number for trial in complete], np.array([trial.value for trial in complete])
    minimize = study.direction == optuna.study.StudyDirection.MINIMIZE
    best = np.minimum.accumulate(values) if minimize else np.maximum.accumulate(values)
    axis.plot(numbers, values, "o", color=BLUE, markersize=5, label="trial")
    axis.step(numbers, best, where="post", color=ORANGE, label="best so far")
    axis.set(xlabel="trial", ylabel=_metric_label(metric), title="Finished trials")
    _logarithmic(axis, values)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return figure


def _curves(trials: list[FrozenTrial], metric: str) -> Figure:
    figure, axis = new_chart(3.6)
    labeled_states: set[TrialState] = set()
    labels: list[tuple[int, float, int]] = []
    for trial in trials:
        if not trial.intermediate_values:
            continue
        epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        label = None if trial.state in labeled_states else _STATES[trial.state]
        labeled_states.add(trial.state)
        axis.plot(epochs, values, marker="o", markersize=3, color=_COLORS[trial.state], label=label, alpha=0.8)
        labels.append((epochs[-1], values[-1], trial.number))
    axis.set(
        xlabel="epoch",
        ylabel=_metric_label(metric),
        title="Metric by epoch, with the trial's number where space allows",
    )
    _logarithmic(axis, np.array([value for trial in trials for value in trial.intermediate_values.values()]))
    figure.draw_without_rendering()  # computes the layout, which the positions in pixels depend on
    labeled_pixels: list[np.ndarray] = []
    for epoch, value, number in labels:
        pixel = axis.transData.transform((epoch, value))
        if all(np.abs(pixel - other).max() > _LABEL_PIXELS for other in labeled_pixels):
            labeled_pixels.append(pixel)
            axis.annotate(str(number), (epoch, value), (4, 0), textcoords="offset points", va="center", fontsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return figure


def _parallel_coordinates(study: optuna.Study, complete: list[FrozenTrial], metric: str) -> Figure:
    """Draw one line per trial through its hyperparameters, each axis from lowest to highest, colored by the metric."""
    figure, axis = new_chart(4.2)
    names = list(complete[0].params)
    values = np.array([trial.value for trial in complete], dtype=float)
    order = np.argsort(values) if study.direction == optuna.study.StudyDirection.MAXIMIZE else np.argsort(-values)
    ranks = np.empty(len(values))
    ranks[order] = np.linspace(0, 1, len(values))
    colors = mpl.colormaps["viridis_r"]
    positions = {name: _axis_positions(name, complete) for name in names}
    for index in order:  # the best on top
        heights = [positions[name][1][index] for name in names]
        axis.plot(range(len(names)), heights, marker="o", markersize=4, color=colors(ranks[index]), linewidth=1.5)
    for axis_index, name in enumerate(names):
        axis.axvline(axis_index, color="0.6", linewidth=0.8, zorder=0)
        for height, label in positions[name][0]:
            axis.annotate(
                label, (axis_index, height), (6, 0), textcoords="offset points", va="center", fontsize=8,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )  # fmt: skip
    axis.set_xticks(range(len(names)), [name.replace(".", ".\n", 1) for name in names], fontsize=8)
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.set_xlim(-0.2, len(names) - 0.4)
    axis.set_ylim(-0.05, 1.05)
    axis.set_title(f"Hyperparameters of finished trials; darker lines have a better {_metric_label(metric)}")
    return figure


def _axis_positions(name: str, complete: list[FrozenTrial]) -> tuple[list[tuple[float, str]], list[float]]:
    """The tick labels of a hyperparameter's axis with their positions, and each trial's position, from 0 to 1."""
    distribution: Any = complete[0].distributions[name]
    values = [trial.params[name] for trial in complete]
    if isinstance(distribution, CategoricalDistribution):
        steps = np.linspace(0, 1, len(distribution.choices))
        labels = [
            (float(step), _format_value(choice)) for step, choice in zip(steps, distribution.choices, strict=True)
        ]
        return labels, [float(steps[distribution.choices.index(value)]) for value in values]
    scale = np.log if distribution.log else np.asarray
    low, high = (float(scale(end)) for end in (distribution.low, distribution.high))
    ticks = np.linspace(low, high, 5)
    labels = [
        (float((tick - low) / (high - low)), f"{np.exp(tick) if distribution.log else tick:.2g}") for tick in ticks
    ]
    return labels, [(float(scale(value)) - low) / (high - low) for value in values]


def _importance(study: optuna.Study) -> Figure:
    importances = _importances(study)
    figure, axis = new_chart(1.2 + 0.35 * len(importances))
    axis.barh(list(importances)[::-1], list(importances.values())[::-1], color=GREEN)
    axis.set(xlabel="fraction of the total importance", title="Hyperparameter importance")
    return figure


def _importances(study: optuna.Study) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that the evaluator is experimental
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def _logarithmic(axis: Any, values: np.ndarray) -> None:
    """Use a logarithmic axis for values that span orders of magnitude, as losses of a search do."""
    if len(values) and values.min() > 0 and values.max() / values.min() > 20:
        axis.set_yscale("log")


def _metric_label(metric: str) -> str:
    return metric.replace("val_", "validation ")


def _format_params(trial: FrozenTrial) -> str:
    return ", ".join(f"{name} {_format_value(value)}" for name, value in trial.params.items())


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
