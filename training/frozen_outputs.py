"""The outputs of a network's frozen layers, computed once by the executors, as rows that the other layers learn."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.arrow import from_rows, to_rows
from preprocessing.schema import TRAIN
from training.training_settings import Augmentation

# Pictures that are augmented at a time: more need more memory and are not faster.
_BATCH = 32


@dataclass(frozen=True)
class FrozenOutputs:
    """Replaces the pixels of rows by the outputs of a network's frozen layers.

    Args:
        network: the frozen layers in ONNX format, see :func:`models.frozen_layers.split_network`.
        shape: the shape ``(height, width, channels)`` of a picture.
        num_outputs: the number of outputs for a picture.
        augmentation: the random changes to the training pictures.
        pictures: the number of augmented training pictures.
        seed: the seed of the augmentation.
    """

    network: Broadcast[bytes]
    shape: tuple[int, int, int]
    num_outputs: int
    augmentation: Augmentation
    pictures: int
    seed: int

    @property
    def row_bytes(self) -> int:
        """The bytes of a row: each output is a ``float16``."""
        return 2 * self.num_outputs

    def of(self, features: DataFrame, split: str) -> DataFrame:
        """The rows of a split, with outputs as ``pixels``; training pictures are repeated and augmented.

        Args:
            features: rows with the columns ``id``, ``source``, ``label``, ``split``, ``pixels`` and ``label_index``.
            split: the name of the split.
        """
        rows = features.where(F.col("split") == split)
        copies = _copies(rows, self.pictures) if split == TRAIN else F.lit(1)
        augmentation = self.augmentation if split == TRAIN else Augmentation()
        network, shape, seed = self.network, self.shape, self.seed

        def compute(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            # imports TensorFlow, which the driver's process need not do to plan the job
            from models.onnx_network import read_onnx
            from training.augmentation import augment_rows

            predict = read_onnx(network.value)
            for batch in (batch for batch in batches if batch.num_rows):
                indices = np.repeat(np.arange(batch.num_rows), batch.column("copies").to_numpy())
                pixels, labels = to_rows(batch.column("pixels")), batch.column("label_index").to_numpy()
                for start in range(0, len(indices), _BATCH):
                    part = indices[start : start + _BATCH]
                    outputs = predict(augment_rows(pixels[part], shape, augmentation, [seed, _number(batch, start)]))
                    columns = [from_rows(to_bytes(outputs)), pa.array(labels[part])]
                    yield pa.RecordBatch.from_arrays(columns, names=["pixels", "label_index"])

        selected = rows.select("id", "pixels", "label_index", copies.cast("int").alias("copies"))
        return selected.mapInArrow(compute, "pixels binary, label_index double")


def to_bytes(outputs: np.ndarray) -> np.ndarray:
    """The bytes of outputs ``(n, outputs)`` as ``float16``: ``uint8`` ``(n, 2 * outputs)``."""
    return np.ascontiguousarray(outputs, dtype=np.float16).view(np.uint8)


def _copies(rows: DataFrame, pictures: int) -> Any:
    """How often each row is repeated, so that sources and, within them, classes have equally many of the pictures."""
    counts = rows.groupBy("source", "label").count().toPandas()
    groups = counts.groupby("source")
    counts["repetitions"] = pictures / len(groups) / groups["label"].transform("size") / counts["count"]
    # a map, because Spark cannot compile a condition for each of more than a hundred classes of sources
    entries = [
        (F.lit(f"{source}/{label}"), F.lit(float(repetitions)))
        for source, label, repetitions in counts[["source", "label", "repetitions"]].itertuples(index=False)
    ]
    repetitions = F.create_map(*itertools.chain.from_iterable(entries))[F.concat_ws("/", "source", "label")]
    # a fraction of a repetition is one for a pseudo-random fraction of the rows
    fraction = F.pmod(F.xxhash64(F.lit("copies"), "id"), F.lit(1000)) / 1000
    return F.floor(repetitions) + (fraction < repetitions - F.floor(repetitions)).cast("int")


def _number(batch: pa.RecordBatch, start: int) -> int:
    """A number that differs from batch to batch, and is the same whenever the same rows are in a batch."""
    return (int(batch.column("id")[0].as_py()[:12], 16) + start) % 2**31
