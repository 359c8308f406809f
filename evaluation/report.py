"""Reports as single HTML files with embedded pictures."""

import base64
import functools
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from evaluation.runs import Run

_TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": _percent, "count": _count, "duration": _duration, "size": _size, "p": p_value}
    return environment


def write_run_report(
    path: Path, run: Run, pairs: pd.DataFrame, history: pd.DataFrame | None, figures: Path, experiment: str
) -> None:
    """Write the report of one run.

    Args:
        path: the HTML file.
        run: the description and metrics of the run.
        pairs: from :func:`evaluation.metrics.confused_pairs`.
        history: one row per epoch; None for models that are not networks.
        figures: the folder of the PNG files; missing figures are omitted.
        experiment: the resolved configuration as YAML.
    """
    page = _environment().get_template("run.html")
    path.write_text(
        page.render(
            run=run,
            metrics=run.metrics,
            about=run.about,
            pairs=pairs.head(10).to_dict("records"),
            epochs=[] if history is None else history.to_dict("records"),
            figure=functools.partial(_inline, figures),
            experiment=experiment,
        ),
        encoding="utf-8",
    )


def write_comparison_report(path: Path, runs: list[Run], comparison: dict[str, Any], figures: Path) -> None:
    """Write the report on several runs with the same test set; ``comparison`` is the content of ``metrics.json``."""
    page = _environment().get_template("comparison.html")
    path.write_text(
        page.render(runs=runs, comparison=comparison, figure=functools.partial(_inline, figures)), encoding="utf-8"
    )


def write_study_report(
    path: Path, title: str, lead: str, synthetic: bool, table: pd.DataFrame, notes: list[str], figures: Path
) -> None:
    """Write the report on a study of several trainings.

    Args:
        path: the HTML file.
        title: the title of the report.
        lead: a sentence on what was done.
        synthetic: whether the data are the synthetic sample.
        table: one row per training, with formatted values.
        notes: the conclusions, one paragraph each.
        figures: the folder of the PNG files, all of which are embedded.
    """
    page = _environment().get_template("study.html")
    charts = {file.stem.replace("_", " "): _inline(figures, file.stem) for file in sorted(figures.glob("*.png"))}
    path.write_text(
        page.render(
            title=title, lead=lead, synthetic=synthetic, columns=list(table.columns), rows=table.to_numpy().tolist(),
            notes=notes, charts=charts,
        ),
        encoding="utf-8",
    )  # fmt: skip


def _inline(folder: Path, name: str) -> str | None:
    path = folder / f"{name}.png"
    if not path.exists():
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _percent(fraction: float, digits: int = 2) -> str:
    return f"{fraction * 100:.{digits}f} %"


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\u202f")


def _duration(seconds: float) -> str:
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder:02d} s" if minutes else f"{seconds:.1f} s"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def p_value(p: float) -> str:
    """Format a p-value with the relation sign that follows the letter p."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"
