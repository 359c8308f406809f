"""What all benchmarks share: runs in turn, jobs with the times of their lines, memory, Sign-MNIST made larger."""

import hashlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from preprocessing.sign_mnist import FILES

ROOT = Path(__file__).resolve().parents[1]
SUBMIT = str(Path(sys.executable).with_name("spark-submit"))
PEERS = ROOT / "benchmarks/peers"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Args:
        part: of the benchmarks.
        name: what was measured.
        unit: of the values.
        ours: a value a run, in the order they were made.
        goal: what the figure should be.
        peer: what it is compared with.
        theirs: a value for each of ours, made just before it.
        rows: that were read, trained on or predicted.
        more_is_better: as with rows a second; seconds are the other kind.
        about: what else there is to know.
    """

    part: str
    name: str
    unit: str
    ours: list[float]
    goal: str
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    rows: int = 0
    more_is_better: bool = True
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the peer: the median over the pairs."""
        if not self.theirs:
            return None
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return statistics.median(ratios if self.more_is_better else [1 / ratio for ratio in ratios])

    @property
    def median(self) -> float:
        return statistics.median(self.ours)


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given: a folder with Sign-MNIST's files, and one for what it writes."""

    data: Path
    work: Path

    @contextmanager
    def folder(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self.work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def enlarged(self, times: int) -> Path:
        """A folder with so many times the rows, unpacked: repeated, each time with other noise of up to three greys."""
        files = [packed_or_not(self.data / name) for name in FILES.values()]
        key = hashlib.sha256(repr([(str(file), file.stat().st_mtime_ns) for file in files]).encode()).hexdigest()[:8]
        folder = self.work / f"times_{times}_{key}"
        if folder.exists():
            return folder
        half = Path(tempfile.mkdtemp(dir=self.work))
        for name in FILES.values():
            rows = read_rows(self.data / name)
            rng = np.random.default_rng(0)
            for turn in range(times):
                noise = rng.integers(-3, 4, (len(rows), rows.shape[1] - 1)) if turn else 0
                changed = rows.to_numpy(dtype=np.int16, copy=True)
                changed[:, 1:] = (changed[:, 1:] + noise).clip(0, 255)
                table = pd.DataFrame(changed, columns=rows.columns)
                table.to_csv(half / name, mode="a", header=turn == 0, index=False)
        return half.rename(folder)


def read_rows(path: Path) -> pd.DataFrame:
    """A CSV file of Sign-MNIST, packed or not."""
    return pd.read_csv(packed_or_not(path), dtype=np.uint8)


def packed_or_not(path: Path) -> Path:
    """The file, or the ``.gz`` that is there instead."""
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def in_turn(pairs: int, peer: Callable[[], Any], ours: Callable[[], Any]) -> tuple[list[Any], list[Any]]:
    """Run the peer and this project in turn, and give what each returned."""
    theirs, own = [], []
    for pair in range(pairs):
        theirs.append(peer())
        own.append(ours())
        print(f"  pair {pair + 1} of {pairs}", file=sys.stderr, flush=True)
    return theirs, own


@dataclass(frozen=True)
class FinishedJob:
    """A job that was run: when it began and ended, its lines with their times, and the largest memory of its processes
    in bytes, by kind."""

    began: float
    ended: float
    lines: list[tuple[float, str]]
    memory: dict[str, int]

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def last(self) -> Any:
        """The last line of JSON: what a peer says."""
        return json.loads(next(text for _, text in reversed(self.lines) if text.startswith("{")))

    @property
    def rows(self) -> int:
        """Training rows, as the job says them."""
        found = (re.match(r"rows: ([\d,]+) train", text) for _, text in self.lines)
        return int(next(match[1] for match in found if match).replace(",", ""))

    @property
    def images_per_second(self) -> float:
        """From the end of the first epoch to the end of the last, everything included."""
        times = [when for when, text in self.lines if text.startswith("epoch ")]
        return self.rows * (len(times) - 1) / (times[-1] - times[0])


def run_job(*command: object, watch_memory: bool = False) -> FinishedJob:
    """Run a command from this project's folder.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    began = time.time()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        )
        memory: dict[str, int] = {}
        if watch_memory:
            threading.Thread(target=_watch_memory, args=(process, memory), daemon=True).start()
        lines = [(time.time(), line.rstrip("\n")) for line in process.stdout or []]
        status = process.wait()
        ended = time.time()
        if status:
            errors.seek(0)
            said = "\n".join(text for _, text in lines)
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {status}:\n{said}\n{errors.read()[-4000:]}")
    return FinishedJob(began, ended, lines, memory)


def _watch_memory(process: subprocess.Popen[str], memory: dict[str, int]) -> None:
    """The peak resident memory of a job's driver, JVMs, Horovod processes and Spark's Python workers."""
    while process.poll() is None:
        try:
            found = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in found:
            try:
                command = " ".join(child.cmdline())
                status = Path(f"/proc/{child.pid}/status").read_text()
            except (psutil.Error, OSError):
                continue
            peak = re.search(r"VmHWM:\s+(\d+)", status)
            kind = _kind(command)
            if peak and kind:
                memory[kind] = max(memory.get(kind, 0), 1024 * int(peak[1]))
        time.sleep(0.5)


def _kind(command: str) -> str | None:
    kinds = {
        "org.apache.spark.deploy.SparkSubmit": "driver's JVM",
        "CoarseGrainedExecutorBackend": "executor's JVM",
        "horovod.spark.task.gloo_exec_fn": "Horovod process",
        "pyspark.daemon": "Python worker",
        "pyspark/daemon": "Python worker",
        "jobs/": "driver",
    }
    return next((kind for sign, kind in kinds.items() if sign in command), None)
