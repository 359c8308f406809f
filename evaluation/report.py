"""Reports: one HTML file each, its pictures inside."""

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
    """The report of one run.

    Args:
        path: the HTML file.
        run: what it is and what it reached.
        pairs: from :func:`evaluation.metrics.confused_pairs`.
        history: a row an epoch, for networks.
        figures: the folder of the PNG files; what is not there is left out.
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
    """The report on several runs with one test set; ``comparison`` is its ``metrics.json``."""
    page = _environment().get_template("comparison.html")
    path.write_text(
        page.render(runs=runs, comparison=comparison, figure=functools.partial(_inline, figures)), encoding="utf-8"
    )


def write_study_report(
    path: Path, title: str, lead: str, synthetic: bool, table: pd.DataFrame, notes: list[str], figures: Path
) -> None:
    """The report on several trainings that answer one question.

    Args:
        path: the HTML file.
        title: the question's subject.
        lead: what was done, in a sentence.
        synthetic: whether the data are the synthetic sample.
        table: a row a training, as it is shown.
        notes: what follows from it, a sentence each.
        figures: the folder of the PNG files, all of which are shown.
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


def _percent(share: float, digits: int = 2) -> str:
    return f"{share * 100:.{digits}f} %"


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\u202f")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def p_value(p: float) -> str:
    """As it stands after the letter p."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"
