"""This project and its peers in turn, on the same rows and the same cores: medians and ratios.

    make bench                               all of it, about two hours on two cores
    make bench ONLY=training,forest          parts
    make bench DATA=DIR OUTPUT=DIR

It prints a table, and writes ``bench.json`` and a chart; parts that are run again replace their figures there.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import jobs, serving, training
from benchmarks.charts import draw_growth, draw_ratios
from benchmarks.measuring import Bench, Figure
from jobs.session import open_session

# Those of Spark share a session, which is closed before whole jobs are run: they would share the cores with it.
SPARK = ("features", "prediction", "forest")
JOBS: dict[str, Callable[[Bench], list[Figure]]] = {
    "training": training.training,
    "estimator": training.estimator,
    "around": jobs.around,
    "accuracy": jobs.accuracy,
    "growth": jobs.growth,
    "looking": training.looking,
    "folds": training.folds,
    "serving": serving.serving,
    "endurance": serving.endurance,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*SPARK, *JOBS]), help="parts, with commas between them")
    parser.add_argument("--data", type=Path, default=Path("data/sign_mnist"), help="a folder with Sign-MNIST's files")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), help="where the figures go")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    unknown = sorted(set(parts) - {*SPARK, *JOBS})
    if unknown:
        sys.exit(f"error: ONLY={','.join(unknown)}: parts are {', '.join([*SPARK, *JOBS])}")
    if not arguments.data.is_dir():
        sys.exit(f"error: {arguments.data}: no such folder; make data fetches Sign-MNIST, or give DATA=DIR")

    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    work = (output / "work").absolute()
    work.mkdir(exist_ok=True)
    bench = Bench(arguments.data.absolute(), work)
    in_spark = [part for part in SPARK if part in parts]
    if in_spark:
        spark = open_session("bench")

        from benchmarks import spark as on_spark  # brings TensorFlow, which the session silences

        for part in in_spark:
            _keep(output, part, _run(part, lambda part=part: getattr(on_spark, part)(bench, spark)))  # type: ignore[misc]
        spark.stop()
    for part in (part for part in JOBS if part in parts):
        _keep(output, part, _run(part, lambda part=part: JOBS[part](bench)))  # type: ignore[misc]


def _run(part: str, work: Callable[[], list[Figure]]) -> list[Figure]:
    print(f"{part} …", file=sys.stderr, flush=True)
    figures = work()
    for figure in figures:
        ratio = f"{figure.ratio:6.2f} times as fast as {figure.peer}" if figure.ratio else ""
        print(f"{part:10} {figure.name:52} {figure.median:10,.1f} {figure.unit:9} {ratio}  (goal {figure.goal})")
        for name, value in figure.about.items():
            print(f"{'':10} {name}: {value}")
    sys.stdout.flush()
    return figures


def _keep(output: Path, part: str, figures: list[Figure]) -> None:
    """Put a part's figures, with what they were measured on, into the file, and draw the charts anew."""
    file = output / "bench.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    kept[part] = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("pyspark", "horovod", "tensorflow-cpu", "petastorm", "pandas")},
        "figures": [asdict(figure) | {"median": figure.median, "ratio": figure.ratio} for figure in figures],
    }
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    draw_ratios(kept, output / "ratios.png")
    if "growth" in kept:
        draw_growth(kept["growth"]["figures"], output / "growth.png")


def _processor() -> str:
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in said.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
