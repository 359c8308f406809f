"""Benchmark of finding hands, compared to MediaPipe's own package."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.measuring import PEERS, ROOT, Bench, Measurement, run_alternately, run_job
from preprocessing.hand_detection import hand_detector

MEDIAPIPE = "mediapipe==0.10.14"
# About as many photographs of each folder, of all classes.
PHOTOGRAPHS = 240


def hands(bench: Bench) -> list[Measurement]:
    """Photographs to landmarks on one core, from the file on, for each folder of photographs."""
    python = _environment_of_mediapipe(bench.work / "mediapipe")
    core = min(os.sched_getaffinity(0))
    measurements = []
    for folder in bench.folders_of_photographs:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        files = files[:: max(1, len(files) // PHOTOGRAPHS)]
        listing = bench.work / "photographs.json"
        listing.write_text(json.dumps([str(file) for file in files]))

        def theirs(listing: Path = listing) -> dict[str, Any]:
            # the package starts as many threads as there are cores; -I: without this environment's paths
            return run_job("taskset", "--cpu-list", core, python, "-I", PEERS / "mediapipe_hands.py", listing).last_json

        def ours(files: list[Path] = files) -> dict[str, Any]:
            return _detect(files, core)

        peer, own = run_alternately(3, theirs, ours)
        found = {"hands found": f"{own[0]['found']} of {len(files)}", "by the peer": f"{peer[0]['found']}"}
        measurements.append(
            Measurement(
                "hands", f"pictures of {folder.name}, one core", "images/s", [run["images_per_second"] for run in own],
                "≥ 1", "MediaPipe's package", [run["images_per_second"] for run in peer], len(files), about=found,
            )
        )  # fmt: skip
    return measurements


def _detect(files: list[Path], core: int) -> dict[str, Any]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        detector = hand_detector()
        detector.detect(Image.open(files[0]).convert("RGB"))
        start = time.perf_counter()
        found = sum(detector.detect(Image.open(file).convert("RGB")) is not None for file in files)
        return {"found": found, "images_per_second": len(files) / (time.perf_counter() - start)}
    finally:
        os.sched_setaffinity(0, cores)


def _environment_of_mediapipe(folder: Path) -> Path:
    """The Python of an environment with MediaPipe and all it requires, some of which this project does without."""
    uv, python = str(ROOT / ".uv/bin/uv"), folder / "bin/python"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", folder], check=True)
    # without this project's settings, which leave out what MediaPipe requires
    install = [uv, "pip", "install", "--no-config", "--quiet", "--python", str(python), MEDIAPIPE]
    subprocess.run(install, check=True)
    return python
