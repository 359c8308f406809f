"""Data sets that are larger than the driver's memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import BRIEF, ROOT

PREPARE = """
import sys
from experiments.session import open_session
from preprocessing.features_store import stored_images
from preprocessing.prepare import Sources
from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.storage import Storage

data, store = sys.argv[1:]
spark = open_session("memory")
settings = Preprocessing(size=320, crop="center", color="rgb", allow_duplicates=True)
sources = Sources({Source("pictures"): data}, f"{store}/work", settings, Split(), [], [], 0.01, 1.0, 0)
print(stored_images(spark, Storage(spark), sources, store).counted.class_counts)
"""


def test_pictures_that_exceed_the_drivers_memory_are_read_and_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ABC":
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        picture = Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8))
        picture.save(folder / "0.jpg")
        for i in range(1, 400):
            (folder / f"{i}.jpg").symlink_to(folder / "0.jpg")
    store = tmp_path / "store"
    store.mkdir()
    # 1,200 pictures of 307 kB are 369 MB, which Spark keeps partly in memory and partly on disk
    settings = {"SPARK_CONF_DIR": str(ROOT / "conf"), "PYSPARK_SUBMIT_ARGS": "--driver-memory 512m pyspark-shell"}
    job = subprocess.run(
        [sys.executable, "-c", PREPARE, (tmp_path / "data").as_uri(), store.as_uri()],
        cwd=ROOT, env=os.environ | BRIEF | settings, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "'A': 320" in job.stdout, job.stderr[-4000:]
