"""Charts of the benchmark results."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

COLORS = sns.color_palette("colorblind")


def draw_ratios(results: dict[str, Any], path: Path) -> None:
    """Draw the speed relative to each peer.

    Args:
        results: the content of ``bench.json``.
        path: the PNG file to write.
    """
    measurements = [row for part in results.values() for row in part["figures"] if row["ratio"]]
    if not measurements:
        return
    chart, axes = plt.subplots(figsize=(10, 1 + 0.55 * len(measurements)), layout="constrained")
    names = [f"{row['part']}: {row['name']}\n{row['peer']}" for row in measurements]
    ratios = [row["ratio"] for row in measurements]
    # bars start at 1: they extend to the right if this project is faster, and to the left if it is slower
    bars = axes.barh(range(len(names)), [ratio - 1 for ratio in ratios], left=1, color=COLORS[0], height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="speed relative to the peer, median of the pairs")
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=4)
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    chart.savefig(path, dpi=120)
    plt.close(chart)


def draw_growth(measurements: list[dict[str, Any]], path: Path) -> None:
    """Draw the seconds of each stage, the memory and the bytes per row over the size of the data.

    Args:
        measurements: those of the part ``growth`` in ``bench.json``, one per size.
        path: the PNG file to write.
    """
    scales = [row["about"]["times"] for row in measurements]
    chart, (stages, memory, store) = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    markers = "osD^vP"
    names = [name for name in measurements[0]["about"]["seconds"] if name != "total"]
    for name, color, marker in zip(names, COLORS, markers, strict=False):
        seconds = [row["about"]["seconds"][name] for row in measurements]
        stages.plot(scales, seconds, marker=marker, color=color, label=name)
    stages.plot(scales, [total_seconds(measurements[0]) * scale for scale in scales], "k:", label="all, linear scaling")
    stages.set(xscale="log", yscale="log", ylabel="seconds", title="Time of each stage")
    for name, color, marker in zip(sorted(measurements[0]["about"]["memory"]), COLORS, markers, strict=False):
        megabytes = [row["about"]["memory"].get(name, 0) / 1e6 for row in measurements]
        memory.plot(scales, megabytes, marker=marker, color=color, label=name)
    memory.set(xscale="log", ylabel="peak MB", title="Memory of each kind of process", ylim=(0, None))
    bytes_per_row = [row["about"]["bytes_a_row"] for row in measurements]
    store.plot(scales, bytes_per_row, marker="o", color=COLORS[0])
    store.set(xscale="log", ylabel="bytes per row", title="Size in the store", ylim=(0, 1.2 * max(bytes_per_row)))
    for axes in (stages, memory, store):
        axes.set_xticks(scales, [f"{scale}×" for scale in scales])
        axes.minorticks_off()
        axes.set_xlabel("rows of Sign-MNIST")
    for axes in (stages, memory):
        axes.legend(fontsize=8)
    chart.savefig(path, dpi=120)
    plt.close(chart)


def total_seconds(measurement: dict[str, Any]) -> float:
    """The total time of all stages."""
    return sum(seconds for name, seconds in measurement["about"]["seconds"].items() if name != "total")
