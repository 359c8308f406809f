"""Common parts of the benchmarks: alternating runs, jobs, memory, and an enlarged Sign-MNIST."""

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
class Measurement:
    """One line of the result table. Its fields are written to ``bench.json``.

    Args:
        part: the part of the benchmarks, as in ``--only``.
        name: the name of the measured quantity.
        unit: the unit of the values.
        ours: this project's values, one per run, in order.
        goal: the target for the ratio or the value.
        peer: the name of the peer; empty if there is none.
        theirs: the peer's values, one for each of ``ours``; measured just before it where runs alternate.
        rows: the number of rows read, trained on or predicted.
        more_is_better: True for throughput, False for durations and memory.
        about: additional measurements.
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
        """The speed relative to the peer, as the median over the pairs; None if there is no peer."""
        if not self.theirs:
            return None
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return statistics.median(ratios if self.more_is_better else [1 / ratio for ratio in ratios])

    @property
    def median(self) -> float:
        return statistics.median(self.ours)


@dataclass(frozen=True)
class Bench:
    """The folders of a benchmark: ``data`` has Sign-MNIST's files, ``photographs`` a folder for each set of photographs
    of hands, and ``work`` is for output."""

    data: Path
    photographs: Path
    work: Path

    @property
    def folders_of_photographs(self) -> list[Path]:
        return sorted(path for path in self.photographs.iterdir() if path.is_dir())

    @contextmanager
    def folder(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self.work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def enlarged(self, times: int) -> Path:
        """Create a folder of uncompressed files with this many times the rows.

        Rows are repeated, and each repetition has different noise of up to three gray levels.
        """
        files = [plain_or_gzipped(self.data / name) for name in FILES.values()]
        folder = self.work / f"times_{times}_{digest(files)}"
        if folder.exists():
            return folder
        unfinished = Path(tempfile.mkdtemp(dir=self.work))
        for name in FILES.values():
            rows = read_rows(self.data / name)
            rng = np.random.default_rng(0)
            for repetition in range(times):
                noise = rng.integers(-3, 4, (len(rows), rows.shape[1] - 1)) if repetition else 0
                values = rows.to_numpy(dtype=np.int16, copy=True)
                values[:, 1:] = (values[:, 1:] + noise).clip(0, 255)
                table = pd.DataFrame(values, columns=rows.columns)
                table.to_csv(unfinished / name, mode="a", header=repetition == 0, index=False)
        return unfinished.rename(folder)


def digest(files: list[Path]) -> str:
    """Eight characters that are others if a file is another one or has changed."""
    return hashlib.sha256(repr([(str(file), file.stat().st_mtime_ns) for file in files]).encode()).hexdigest()[:8]


def read_rows(path: Path) -> pd.DataFrame:
    """Read a CSV file of Sign-MNIST, compressed or not."""
    return pd.read_csv(plain_or_gzipped(path), dtype=np.uint8)


def plain_or_gzipped(path: Path) -> Path:
    """The path itself, or that of the compressed ``.gz`` file if it does not exist."""
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def run_alternately(pairs: int, peer: Callable[[], Any], ours: Callable[[], Any]) -> tuple[list[Any], list[Any]]:
    """Run the peer and this project alternately, and return the results of each."""
    theirs, own = [], []
    for pair in range(pairs):
        theirs.append(peer())
        own.append(ours())
        print(f"  pair {pair + 1} of {pairs}", file=sys.stderr, flush=True)
    return theirs, own


@dataclass(frozen=True)
class FinishedJob:
    """A finished job: its start and end in seconds since the epoch, its output lines with their times, and the peak
    memory in bytes by kind of process."""

    start: float
    end: float
    lines: list[tuple[float, str]]
    memory: dict[str, int]

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def last_json(self) -> Any:
        """The last line of JSON, which holds the results of a peer."""
        return json.loads(next(line for _, line in reversed(self.lines) if line.startswith("{")))

    @property
    def rows(self) -> int:
        """The number of training rows that the job printed."""
        matches = (re.match(r"rows: ([\d,]+) train", line) for _, line in self.lines)
        return int(next(match[1] for match in matches if match).replace(",", ""))

    @property
    def images_per_second(self) -> float:
        """Throughput from the end of the first epoch to that of the last, including validation and all other work."""
        times = [timestamp for timestamp, line in self.lines if line.startswith("epoch ")]
        return self.rows * (len(times) - 1) / (times[-1] - times[0])


def run_job(*command: object, monitor_memory: bool = False) -> FinishedJob:
    """Run a command in this project's folder.

    Raises:
        RuntimeError: the command failed; the message holds its output.
    """
    start = time.time()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        )
        memory: dict[str, int] = {}
        if monitor_memory:
            threading.Thread(target=_monitor_memory, args=(process, memory), daemon=True).start()
        # without the time and the level of a job's message
        lines = [
            (time.time(), re.sub(r"^[-\d]{10} [:\d]{8} (info: )?", "", line.rstrip("\n")))
            for line in process.stdout or []
        ]
        status = process.wait()
        end = time.time()
        if status:
            errors.seek(0)
            stdout = "\n".join(line for _, line in lines)
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {status}:\n{stdout}\n{errors.read()[-4000:]}")
    return FinishedJob(start, end, lines, memory)


def _monitor_memory(process: subprocess.Popen[str], memory: dict[str, int]) -> None:
    """Record the peak resident memory of a job's driver, JVMs, Horovod processes and Spark Python workers."""
    while process.poll() is None:
        try:
            children = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            try:
                command = " ".join([child.name(), *child.cmdline()])
                status = Path(f"/proc/{child.pid}/status").read_text()
            except (psutil.Error, OSError):
                continue
            peak = re.search(r"VmHWM:\s+(\d+)", status)
            kind = _process_kind(command)
            if peak and kind:
                memory[kind] = max(memory.get(kind, 0), 1024 * int(peak[1]))
        time.sleep(0.5)


def _process_kind(command: str) -> str | None:
    kinds = {
        "org.apache.spark.deploy.SparkSubmit": "driver's JVM",
        "CoarseGrainedExecutorBackend": "executor's JVM",
        "horovod.spark.task.gloo_exec_fn": "Horovod process",
        "horovod_rank": "Horovod process",
        "pyspark.daemon": "Python worker",
        "training.cluster.python_daemon": "Python worker",
        "pyspark/daemon": "Python worker",
        "jobs/": "driver",
    }
    return next((kind for marker, kind in kinds.items() if marker in command), None)
