"""Finds near-duplicates: pictures with the same label that are variants of one photograph or neighboring frames."""

import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from preprocessing.schema import TRAIN

# Two pictures are near-duplicates if the correlation of their grays, scaled to 16 x 16, is at least this. Sign-MNIST's
# training rows are made of 1,704 photographs; it finds 1,083 groups, and 99 % of the rows have a near-duplicate.
NEAR = 0.95
_SIDE = 16
_TABLES = 24
# Spark passes up to 2 ** 12 buckets to one Python call, about 2,000 pictures: a call costs more than a bucket.
_INNER_BITS = 12
_BLOCK = 2048
# At most this many pictures of a split are compared with the training pictures, however large the split is.
SAMPLE = 10_000


def describe(pictures: np.ndarray) -> np.ndarray:
    """Compute the descriptors of pictures: 16 x 16 grays, equal to those of Pillow's box filter.

    Args:
        pictures: ``uint8``, shape ``(n, height, width, channels)``.

    Returns:
        ``uint8``, shape ``(n, 256)``.
    """
    count, height, width, channels = pictures.shape
    if channels == 1:
        gray = pictures[..., 0]
    else:  # ITU-R 601-2, in integers as in Pillow
        red, green, blue = (pictures[..., channel].astype(np.uint32) for channel in range(3))
        gray = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    rows = _rounded(gray.astype(np.float32) @ _box(width).T)
    return _rounded(_box(height) @ rows).astype(np.uint8).reshape(count, _SIDE**2)


def describe_one(pixels: bytes | None, shape: tuple[int, int, int]) -> bytes | None:
    """The descriptor of one picture of ``shape``, ``(height, width, channels)``; None if ``pixels`` is None."""
    return None if pixels is None else describe(np.frombuffer(pixels, dtype=np.uint8).reshape(1, *shape)).tobytes()


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.floor(values + np.float32(0.5))


@functools.cache
def _box(side: int) -> np.ndarray:
    """Box filter weights, ``(16, side)``: each output pixel averages the input pixels whose centers lie in it."""
    centers = (np.arange(_SIDE) + 0.5) * side / _SIDE
    reach = max(0.5 * side / _SIDE, 0.5)
    distance = (np.arange(side) + 0.5)[None, :] - centers[:, None]
    inside = (distance > -reach) & (distance <= reach)
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def similar_groups(described: DataFrame, seed: int) -> DataFrame:
    """Group near-duplicates, and near-duplicates of near-duplicates.

    Two pictures are compared if at least one of 24 hashes puts them in the same bucket. A hash consists of the signs
    of random projections (Charikar, 2002), enough of them to leave about a hundred pictures in a bucket. Not all pairs
    are compared, but the groups are complete: of Sign-MNIST's near-duplicate pairs 99.8 % are compared, and the others
    are connected through a third picture.

    Args:
        described: the columns ``id``, ``label`` and ``descriptor``. Its session needs a checkpoint directory that every
            executor can access; the groups are stored there.
        seed: the seed of the projections.

    Returns:
        The columns ``id`` and ``group``, the smallest id among the near-duplicates.
    """
    class_count, row_count = described.agg(F.countDistinct("label"), F.count(F.lit(1))).head()  # type: ignore[misc]
    if row_count == 0:
        return described.select("id", F.col("id").alias("group"))
    bits = max(4, min(32, round(math.log2(row_count / class_count)) + 1))
    sample = described.orderBy(F.xxhash64(F.lit(seed), "id")).limit(1000).select("descriptor").toPandas()
    projections, thresholds = _projections(_vectors(sample["descriptor"]), bits, seed)

    inner = min(bits, _INNER_BITS)

    def hashes(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        powers = 1 << np.arange(bits, dtype=np.int64)
        for batch in batches:
            signs = _vectors(batch["descriptor"]) @ projections > thresholds
            keys = signs.reshape(len(batch), _TABLES, bits) @ powers
            for table in range(_TABLES):
                key = keys[:, table]
                yield batch.assign(table=np.int32(table), bucket_block=key >> inner, key=key)

    hashed = "id string, label string, descriptor binary, table int, bucket_block long, key long"
    bucket_blocks = described.mapInPandas(hashes, hashed).groupBy("label", "table", "bucket_block")
    edges = bucket_blocks.applyInPandas(_edges, "node string, smaller string").distinct()
    groups = _components(edges)
    return described.select("id").join(groups, "id", how="left").select("id", F.coalesce("group", "id").alias("group"))


def count_near_duplicates(described: DataFrame, seed: int) -> dict[str, dict[str, int]]:
    """Count the pictures of the other splits that have a near-duplicate in the training split.

    At most 10,000 pictures of each split are compared with every training picture of their label.

    Args:
        described: the columns ``id``, ``label``, ``split`` and ``descriptor``.
        seed: the seed of the sample, for splits with more pictures.

    Returns:
        By split, ``pictures``, the number of pictures compared, and ``near_duplicates``, the number of those that have
        a near-duplicate.
    """
    rank = F.row_number().over(Window.partitionBy("split").orderBy(F.xxhash64(F.lit(seed), "id")))
    columns = ("split", "label", "descriptor")
    candidates = (
        described.where(F.col("split") != TRAIN).withColumn("position", rank).where(F.col("position") <= SAMPLE)
    )
    sample = candidates.orderBy(*columns[:2], "position").select(*columns).toPandas()
    labels = sample["label"].to_numpy()
    rows_by_label = {label: np.flatnonzero(labels == label) for label in set(labels)}
    vectors = described.sparkSession.sparkContext.broadcast(_vectors(sample["descriptor"]))

    def find(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        has_near = np.zeros(len(vectors.value), dtype=bool)
        for batch in batches:
            for label, rows in batch.groupby("label"):
                if label not in rows_by_label:
                    continue
                candidate_vectors = vectors.value[rows_by_label[label]]
                training_vectors = _vectors(rows["descriptor"])
                for block in range(0, len(training_vectors), _BLOCK):
                    near = (training_vectors[block : block + _BLOCK] @ candidate_vectors.T >= NEAR).any(axis=0)
                    has_near[rows_by_label[label][near]] = True
        yield pd.DataFrame({"position": np.flatnonzero(has_near)})

    training = described.where(F.col("split") == TRAIN).select("label", "descriptor")
    near_rows = [row["position"] for row in training.mapInPandas(find, "position long").distinct().collect()]
    splits = sample["split"].to_numpy()
    near_splits = splits[near_rows]
    return {
        str(split): {"pictures": int((splits == split).sum()), "near_duplicates": int((near_splits == split).sum())}
        for split in sorted(set(splits))
    }


def _vectors(descriptors: pd.Series) -> np.ndarray:
    """Descriptors scaled to mean 0 and length 1, ``float32`` ``(n, 256)``: their dot product is the correlation."""
    values = np.frombuffer(b"".join(descriptors), dtype=np.uint8).reshape(len(descriptors), _SIDE**2).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, 1e-6)


def _projections(sample: np.ndarray, bits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random directions, and the median of the sample along each of them."""
    directions = np.random.default_rng(seed).normal(size=(sample.shape[1], _TABLES * bits)).astype(np.float32)
    return directions, np.median(sample @ directions, axis=0)


def _edges(bucket_block: pd.DataFrame) -> pd.DataFrame:
    """Pair each picture of a bucket with the smallest id among its near-duplicates in that bucket."""
    rows = bucket_block.sort_values(["key", "id"])
    ids, vectors, keys = rows["id"].to_numpy(), _vectors(rows["descriptor"]), rows["key"].to_numpy()
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    smallest = np.arange(len(ids))
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        if end - start > 1:
            smallest[start:end] = start + _smallest_near(vectors[start:end])
    edges = pd.DataFrame({"node": ids, "smaller": ids[smallest]})
    return edges[edges["node"] != edges["smaller"]]


def _smallest_near(vectors: np.ndarray) -> np.ndarray:
    """For each vector, the index of the first vector in its connected component."""
    component = np.arange(len(vectors))
    for first in range(0, len(vectors), _BLOCK):
        for second in range(first, len(vectors), _BLOCK):
            near = vectors[first : first + _BLOCK] @ vectors[second : second + _BLOCK].T >= NEAR
            rows, columns = np.nonzero(near)
            # merged block by block: the pairs of thousands of similar pictures would not fit in memory at once
            ends = component[rows + first], component[columns + second]
            graph = csr_matrix((np.ones(len(rows), dtype=bool), ends), shape=(len(vectors), len(vectors)))
            component = connected_components(graph, directed=False)[1][component]
    _, smallest, inverse = np.unique(component, return_index=True, return_inverse=True)
    return smallest[inverse]


def _components(edges: DataFrame) -> DataFrame:
    """Connected components: ``id`` and ``group``, the smallest id of the component.

    The alternating algorithm of Kiveris et al., 2014: each node connects its larger neighbors (large star), then its
    smaller neighbors and itself (small star), to the smallest of them, until nothing changes.
    """
    by_node = Window.partitionBy("node")
    # checkpoints: as a query plan, each round would contain the previous one twice, and cached rows would be lost with
    # their executor
    edges = edges.checkpoint()
    previous_checksum = None
    while True:
        both = edges.unionByName(edges.select(F.col("smaller").alias("node"), F.col("node").alias("smaller")))
        smallest = F.least(F.min("smaller").over(by_node), F.col("node"))
        large = both.withColumn("least", smallest).where(F.col("smaller") > F.col("node"))
        large = large.select(F.col("smaller").alias("node"), F.col("least").alias("smaller")).distinct()
        small = large.withColumn("least", F.min("smaller").over(by_node))
        hooked = small.where(F.col("smaller") != F.col("least")).select(F.col("smaller").alias("node"), "least")
        edges = hooked.unionByName(small.select("node", "least")).distinct()
        edges = edges.select("node", F.col("least").alias("smaller")).checkpoint()
        checksum = edges.agg(F.count(F.lit(1)), F.sum(F.xxhash64("node", "smaller").cast("decimal(20,0)"))).head()
        if checksum == previous_checksum:
            return edges.select(F.col("node").alias("id"), F.col("smaller").alias("group"))
        previous_checksum = checksum
