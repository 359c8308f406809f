"""Charts of runs and comparisons. Pictures are ``uint8`` arrays of shape (height, width, channels)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.smoothness import smoothed

# Seaborn's version of the palette by Okabe and Ito, which color-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED = (sns.color_palette("colorblind")[i] for i in (0, 1, 2, 3))
_WIDTH = 9.0
_STYLE: Any = {
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}

METRICS = ("loss", "accuracy", "precision", "recall")


@dataclass(frozen=True)
class Picture:
    """A picture with its label and, optionally, a model's prediction and its probability."""

    pixels: np.ndarray
    label: str
    prediction: str | None = None
    probability: float | None = None


def _figure(height: float) -> Figure:
    with mpl.rc_context(_STYLE):
        return Figure(figsize=(_WIDTH, height), layout="constrained")


def new_chart(height: float) -> tuple[Figure, Axes]:
    """Create a figure of the common width and style, ``height`` inches high, with a single chart."""
    with mpl.rc_context(_STYLE):
        figure = _figure(height)
        return figure, figure.subplots()


def save_figures(figures: Iterable[tuple[str, Figure]], folder: Path, source: str) -> None:
    """Write each figure as ``<name>.png``, with the data source printed below the chart."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures:
        figure.supxlabel(f"data: {source}", fontsize=7, color="0.4", x=0.995, ha="right")
        figure.savefig(folder / f"{name}.png", dpi=120)


def _label_rotation(names: Iterable[str]) -> int:
    """The rotation of tick labels in degrees: long names do not fit next to each other horizontally."""
    return 90 if max(map(len, names)) > 2 else 0


def training_curves(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Draw loss, accuracy, precision and recall by epoch, for training and validation."""
    names = [name for name in METRICS if name in history]
    figure = _figure(2.9 * ((len(names) + 1) // 2))
    with mpl.rc_context(_STYLE):
        axes = figure.subplots((len(names) + 1) // 2, 2, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(history["epoch"], history[name], color=BLUE, marker="o", markersize=3, label="training")
        axis.plot(
            history["epoch"],
            history[f"val_{name}"],
            color=ORANGE,
            marker="s",
            markersize=3,
            label="validation",
            ls="--",
        )
        axis.axvline(best_epoch, color="0.5", lw=1, ls=":", label=f"best epoch: {best_epoch}")
        axis.set(title=name.capitalize(), xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.flat[0].legend()
    return figure


def confusion_heatmap(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix. Rows are true classes; colors are fractions of the row, numbers count pictures."""
    support = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = _figure(_WIDTH * 0.86)
    axis = figure.subplots()
    sns.heatmap(
        confusion / support,
        ax=axis,
        # the square root makes one mistake in a hundred visible
        norm=mpl.colors.PowerNorm(0.5, 0, 1),
        cmap="Blues",
        annot=np.where(confusion > 0, confusion.astype(str), ""),
        fmt="",
        annot_kws={"size": 7},
        xticklabels=list(class_names),
        yticklabels=list(class_names),
        cbar_kws={"label": "fraction of the true class", "shrink": 0.7},
        linewidths=0.3,
        linecolor="0.9",
        square=True,
    )
    axis.set(xlabel="predicted", ylabel="true", title="Confusion matrix of the test set")
    axis.tick_params(axis="y", rotation=0)
    axis.tick_params(axis="x", rotation=_label_rotation(class_names))
    return figure


def class_distribution(counts: dict[str, dict[str, int]]) -> Figure:
    """Draw the number of pictures by class and split."""
    table = pd.DataFrame(counts).fillna(0).sort_index()
    figure, axis = new_chart(3.2)
    table.plot.bar(ax=axis, width=0.85, color=[BLUE, ORANGE, "0.5"], rot=_label_rotation(table.index))
    axis.set(title="Pictures by class", xlabel="", ylabel="pictures")
    axis.grid(axis="x", visible=False)
    axis.legend(ncols=3)
    axis.set_ylim(top=axis.get_ylim()[1] * 1.25)  # room for the legend
    return figure


def picture_grid(pictures: Sequence[Picture], title: str, columns: int = 12) -> Figure:
    """Draw pictures with their labels or predictions. A wrong prediction is red and followed by the true label."""
    rows = max(1, -(-len(pictures) // columns))
    captioned = any(picture.prediction for picture in pictures)
    figure, canvas = _canvas(rows, columns, title, caption=0.34 if captioned else 0.24)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        canvas.draw_picture(picture.pixels, row, column)
        wrong = picture.prediction not in (None, picture.label)
        caption = f"{picture.prediction}, not {picture.label}" if wrong else picture.prediction or picture.label
        if picture.probability is not None:
            caption += f"\n{picture.probability:.0%}"
        canvas.draw_caption(caption, row, column + 0.5, color="firebrick" if wrong else "black")
    return figure


def confused_pairs_figure(
    pairs: pd.DataFrame,
    mistakes: Sequence[Picture],
    samples: Mapping[str, Sequence[np.ndarray]],
    pictures_per_group: int = 3,
) -> Figure:
    """Draw one row per pair: pictures of the true class, misclassified pictures, pictures of the predicted class.

    Args:
        pairs: the rows of :func:`evaluation.metrics.confused_pairs` to draw.
        mistakes: misclassified test pictures.
        samples: training pictures by class.
        pictures_per_group: the largest number of pictures in each of the three groups of a row.
    """
    columns = 3 * pictures_per_group + 0.8
    figure, canvas = _canvas(len(pairs), columns, "The most confused pairs", caption=0.08, left=2.2)
    for row, pair in enumerate(pairs.itertuples()):
        mistaken = [m.pixels for m in mistakes if (m.label, m.prediction) == (pair.label, pair.prediction)]
        groups = [samples.get(str(pair.label), []), mistaken, samples.get(str(pair.prediction), [])]
        for group, pictures in enumerate(groups):
            for column, pixels in enumerate(pictures[:pictures_per_group]):
                canvas.draw_picture(pixels, row, group * (pictures_per_group + 0.4) + column)
        caption = f"{pair.label} predicted as {pair.prediction}: {pair.count} "
        canvas.axis.text(0, -row * canvas.pitch - 0.5, caption, ha="right", va="center", fontsize=9)
    for group, heading in enumerate(("true class", "mistakes", "predicted class")):
        canvas.draw_caption(heading, 0, group * (pictures_per_group + 0.4) + pictures_per_group / 2)
    return figure


def pixel_importance_figure(importance: np.ndarray) -> Figure:
    """Draw the feature importance of each pixel; ``importance`` has shape ``(height, width)``."""
    figure = _figure(4.6)
    axis = figure.subplots()
    image = axis.imshow(importance, cmap="cividis")
    axis.set(title="Feature importance by pixel", xlabel="column", ylabel="row")
    figure.colorbar(image, ax=axis, label="importance (sums to 1)", shrink=0.8)
    return figure


def loss_curves(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the training losses of several trainings in one chart, raw and smoothed.

    Args:
        curves: tables by name of the training, with columns ``epoch`` (fractional) and ``loss``.
    """
    figure, axis = new_chart(4.2)
    colors, dashes = sns.color_palette("colorblind"), ["-", "--", "-.", ":"]
    for index, (name, curve) in enumerate(curves.items()):
        color = colors[index % 10]
        axis.plot(curve["epoch"], curve["loss"], color=color, lw=0.7, alpha=0.4)
        smoothed_loss = smoothed(curve["loss"].to_numpy())
        axis.plot(curve["epoch"], smoothed_loss, color=color, lw=2, ls=dashes[index % 4], label=name)
    axis.set(title="Training loss, raw (thin) and smoothed", xlabel="epoch", ylabel="loss", yscale="log")
    axis.legend()
    return figure


def learning_curve_figure(points: pd.DataFrame) -> Figure:
    """Draw accuracy by the number of training pictures.

    Args:
        points: one row per training-set size, with columns ``rows``, ``train``, ``validation``, ``test`` (accuracies),
            ``low`` and ``high`` (the interval of the test accuracy).
    """
    figure, axis = new_chart(4.2)
    styles = {"train": (BLUE, "o", "-"), "validation": (ORANGE, "s", "--"), "test": (GREEN, "D", "-.")}
    for name, (color, marker, dashes) in styles.items():
        label = "training" if name == "train" else name
        axis.plot(points["rows"], points[name], color=color, marker=marker, ls=dashes, label=label)
    axis.fill_between(
        points["rows"], points["low"], points["high"], color=GREEN, alpha=0.15, label="test, 95 % interval"
    )
    axis.set(title="Accuracy by training-set size", xlabel="training pictures", ylabel="accuracy", xscale="log")
    axis.set_xticks(points["rows"], [f"{rows:,}" for rows in points["rows"]], minor=False)
    axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axis.legend(loc="lower right")
    return figure


def accuracy_intervals(runs: dict[str, dict[str, float | list[float]]], title: str) -> Figure:
    """Draw each run's accuracy with its interval, from ``accuracy`` and ``accuracy_interval`` by name of the run."""
    figure, axis = new_chart(0.55 * len(runs) + 1.2)
    for index, test in enumerate(runs.values()):
        low, high = test["accuracy_interval"]  # type: ignore[misc]
        axis.plot([low, high], [index, index], color=BLUE, lw=3, solid_capstyle="butt")
        axis.plot(test["accuracy"], index, "o", color="black", markersize=5)
    axis.set(yticks=range(len(runs)), yticklabels=list(runs), title=title, xlabel="accuracy")
    axis.set_ylim(len(runs) - 0.5, -0.5)
    return figure


def class_differences(recalls: pd.DataFrame) -> Figure:
    """Draw the recall of the classes in which runs differ most. The table has one row per class, one column per run."""
    figure, axis = new_chart(0.36 * len(recalls) + 1.6)
    markers, colors = "osD^vP*X", sns.color_palette("colorblind")
    positions = np.arange(len(recalls))
    axis.hlines(positions, recalls.min(axis=1), recalls.max(axis=1), color="0.75", lw=2, zorder=1)
    for index, name in enumerate(recalls.columns):
        # the offset keeps markers of equal recalls from covering each other, within the row of their class
        offset = min(0.16, 0.8 / recalls.shape[1]) * (index - (recalls.shape[1] - 1) / 2)
        axis.scatter(
            recalls[name], positions + offset, marker=markers[index % 8], color=colors[index % 10], label=name, zorder=2
        )
    axis.set(yticks=positions, yticklabels=recalls.index, xlabel="recall", title="Classes whose recall differs most")
    axis.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=min(4, recalls.shape[1]), frameon=False)
    return figure


@dataclass(frozen=True)
class _Canvas:
    """A single axis for many pictures, each 1 unit wide. One axis per picture would take ten times as long to draw."""

    axis: Axes
    pitch: float
    x: tuple[float, float]
    y: tuple[float, float]

    def draw_picture(self, pixels: np.ndarray, row: int, column: float) -> None:
        top = -row * self.pitch
        extent = (column + 0.03, column + 0.97, top - 0.97, top - 0.03)
        self.axis.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
        self.axis.set(xlim=self.x, ylim=self.y)  # imshow has set the limits to this picture

    def draw_caption(self, text: str, row: int, center: float, color: str = "black") -> None:
        """Draw a text above the pictures of a row, centered at a column."""
        self.axis.text(center, -row * self.pitch, text, ha="center", va="bottom", fontsize=8, color=color)


def _canvas(rows: int, columns: float, title: str, caption: float, left: float = 0.0) -> tuple[Figure, _Canvas]:
    """Create a canvas for rows of pictures. ``caption`` is the space above each row, as a fraction of its height."""
    pitch = 1 + caption
    scale = _WIDTH / (columns + left)
    figure = _figure(rows * pitch * scale + 0.6)
    figure.suptitle(title, fontsize=11)
    axis = figure.subplots()
    axis.set_axis_off()
    return figure, _Canvas(axis, pitch, (-left, columns), (-rows * pitch, caption))
