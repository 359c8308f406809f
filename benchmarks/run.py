"""Run benchmarks of this project and its peers alternately, on the same rows and cores.

    make bench                               all parts, about two hours on two cores
    make bench ONLY=training,forest          some parts
    make bench DATA=DIR OUTPUT=DIR
    make bench ONLY=hands,photographs PHOTOGRAPHS=DIR    DIR contains folders of photographs of hands

The command prints a table of medians and ratios, and writes ``bench.json`` and charts. Parts that are run again replace
their previous results.
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

from benchmarks import hands, jobs, serving, training
from benchmarks.charts import draw_growth, draw_ratios
from benchmarks.measuring import Bench, Measurement
from experiments.session import open_session

# These parts share a Spark session. It is closed before complete jobs are run, so that they do not share cores with it.
SPARK = ("features", "prediction", "forest", "photographs")
# These need photographs, and are run by default if their folder exists.
PHOTOGRAPHS = {"hands", "photographs"}
JOBS: dict[str, Callable[[Bench], list[Measurement]]] = {
    "training": training.training,
    "estimator": training.estimator,
    "around": jobs.job_overhead,
    "accuracy": jobs.accuracy,
    "growth": jobs.growth,
    "looking": training.monitoring_overhead,
    "folds": training.folds,
    "hands": hands.hands,
    "serving": serving.serving,
    "endurance": serving.endurance,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated parts; by default all whose data exist")
    parser.add_argument("--data", type=Path, default=Path("data/sign_mnist"), help="the folder of Sign-MNIST's files")
    parser.add_argument("--photographs", type=Path, default=Path("data/hands"), help="the folder of photographs")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), help="the folder for results")
    arguments = parser.parse_args()
    possible = [part for part in [*SPARK, *JOBS] if part not in PHOTOGRAPHS or arguments.photographs.is_dir()]
    parts = arguments.only.split(",") if arguments.only else possible
    unknown = sorted(set(parts) - {*SPARK, *JOBS})
    if unknown:
        sys.exit(f"error: ONLY={','.join(unknown)}: unknown part; the parts are {', '.join([*SPARK, *JOBS])}")
    if set(parts) - PHOTOGRAPHS and not arguments.data.is_dir():
        sys.exit(f"error: {arguments.data}: no such folder; run make data to download Sign-MNIST, or set DATA=DIR")

    if PHOTOGRAPHS & set(parts) and not arguments.photographs.is_dir():
        sys.exit(f"error: {arguments.photographs}: no such folder; set PHOTOGRAPHS=DIR")

    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    work = (output / "work").absolute()
    work.mkdir(exist_ok=True)
    bench = Bench(arguments.data.absolute(), arguments.photographs.absolute(), work)
    spark_parts = [part for part in SPARK if part in parts]
    if spark_parts:
        spark = open_session("bench")

        # these import TensorFlow, whose log the session has disabled
        from benchmarks import photographs
        from benchmarks import spark as spark_benchmarks

        for part in spark_parts:
            benchmark = getattr(photographs if part == "photographs" else spark_benchmarks, part)
            _save_results(output, part, _run(part, lambda benchmark=benchmark: benchmark(bench, spark)))  # type: ignore[misc]
        spark.stop()
    for part in (part for part in JOBS if part in parts):
        _save_results(output, part, _run(part, lambda part=part: JOBS[part](bench)))  # type: ignore[misc]


def _run(part: str, benchmark: Callable[[], list[Measurement]]) -> list[Measurement]:
    print(f"{part} …", file=sys.stderr, flush=True)
    measurements = benchmark()
    for row in measurements:
        ratio = f"{row.ratio:6.2f} times as fast as {row.peer}" if row.ratio else ""
        print(f"{part:10} {row.name:52} {row.median:10,.1f} {row.unit:9} {ratio}  (goal {row.goal})")
        for name, value in row.about.items():
            print(f"{'':10} {name}: {value}")
    sys.stdout.flush()
    return measurements


def _save_results(output: Path, part: str, measurements: list[Measurement]) -> None:
    """Write the measurements of a part and a description of the machine to ``bench.json``, and redraw the charts."""
    file = output / "bench.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results[part] = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("pyspark", "horovod", "tensorflow-cpu", "petastorm", "pandas")},
        "figures": [asdict(row) | {"median": row.median, "ratio": row.ratio} for row in measurements],
    }
    file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    draw_ratios(results, output / "ratios.png")
    if "growth" in results:
        draw_growth(results["growth"]["figures"], output / "growth.png")


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in cpu_info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
