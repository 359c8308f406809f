"""The charts of the benchmarks."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

COLORS = sns.color_palette("colorblind")


def draw_ratios(kept: dict[str, Any], path: Path) -> None:
    """How many times as fast as each peer."""
    figures = [figure for part in kept.values() for figure in part["figures"] if figure["ratio"]]
    if not figures:
        return
    chart, axes = plt.subplots(figsize=(10, 1 + 0.55 * len(figures)), layout="constrained")
    names = [f"{figure['part']}: {figure['name']}\n{figure['peer']}" for figure in figures]
    ratios = [figure["ratio"] for figure in figures]
    # from one on, to the right where this project is faster, to the left where it is slower
    bars = axes.barh(range(len(names)), [ratio - 1 for ratio in ratios], left=1, color=COLORS[0], height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="times as fast as the peer, median of the pairs")
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=4)
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    chart.savefig(path, dpi=120)
    plt.close(chart)


def draw_growth(figures: list[dict[str, Any]], path: Path) -> None:
    """Seconds of each stage, memory and bytes a row, over how many times the rows."""
    times = [figure["about"]["times"] for figure in figures]
    chart, (stages, memory, store) = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    markers = "osD^vP"
    names = [name for name in figures[0]["about"]["seconds"] if name != "total"]
    for name, color, marker in zip(names, COLORS, markers, strict=False):
        seconds = [figure["about"]["seconds"][name] for figure in figures]
        stages.plot(times, seconds, marker=marker, color=color, label=name)
    stages.plot(times, [seconds_of(figures[0]) * size for size in times], "k:", label="all, in proportion")
    stages.set(xscale="log", yscale="log", ylabel="seconds", title="Time of each stage")
    for name, color, marker in zip(sorted(figures[0]["about"]["memory"]), COLORS, markers, strict=False):
        values = [figure["about"]["memory"].get(name, 0) / 1e6 for figure in figures]
        memory.plot(times, values, marker=marker, color=color, label=name)
    memory.set(xscale="log", ylabel="MB at its peak", title="Memory of each kind of process", ylim=(0, None))
    values = [figure["about"]["bytes_a_row"] for figure in figures]
    store.plot(times, values, marker="o", color=COLORS[0])
    store.set(xscale="log", ylabel="bytes a row", title="In the store", ylim=(0, 1.2 * max(values)))
    for axes in (stages, memory, store):
        axes.set_xticks(times, [f"{size}×" for size in times])
        axes.minorticks_off()
        axes.set_xlabel("rows of Sign-MNIST")
    for axes in (stages, memory):
        axes.legend(fontsize=8)
    chart.savefig(path, dpi=120)
    plt.close(chart)


def seconds_of(figure: dict[str, Any]) -> float:
    """All stages together."""
    return sum(seconds for name, seconds in figure["about"]["seconds"].items() if name != "total")
