"""Pillow in one process per core: decodes photographs and resizes them, and does nothing else.

python benchmarks/peers/pillow.py DIR --size 64
"""

import argparse
import functools
import json
import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image


def read(size: int, file: Path) -> int:
    return np.asarray(Image.open(file).convert("RGB").resize((size, size))).nbytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, required=True)
    arguments = parser.parse_args()
    files = [path for path in arguments.folder.rglob("*") if path.is_file()]
    with get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        start = time.perf_counter()
        pool.map(functools.partial(read, arguments.size), files, chunksize=64)
        print(json.dumps({"images_per_second": len(files) / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
