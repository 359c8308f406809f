"""Near-copies: pictures of one label that are one photograph, changed a little, or neighbouring frames of a video."""

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

# The correlation of two pictures' greys, 16 x 16 of them, from which on they are near-copies. Among Sign-MNIST's
# training rows, which are made of 1,704 photographs, it finds 1,083 groups, and 99 % of the rows have a twin.
NEAR = 0.95
_SIDE = 16
_TABLES = 24
# Buckets are handed to Python by so many at a time, 2,000 pictures or so: a call costs more than a bucket.
_INNER_BITS = 12
_BLOCK = 2048
# Pictures of a split that are looked for among the training pictures: of fixed size, however many there are.
SAMPLE = 10_000


def describe(pictures: np.ndarray) -> np.ndarray:
    """What pictures are compared by: 16 x 16 greys, as Pillow's box filter has them, all pictures at once.

    Args:
        pictures: ``uint8``, shape ``(n, height, width, channels)``.

    Returns:
        ``uint8``, shape ``(n, 256)``.
    """
    count, height, width, channels = pictures.shape
    if channels == 1:
        grey = pictures[..., 0]
    else:  # ITU-R 601-2, in Pillow's whole numbers
        red, green, blue = (pictures[..., channel].astype(np.uint32) for channel in range(3))
        grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    rows = _rounded(grey.astype(np.float32) @ _box(width).T)
    return _rounded(_box(height) @ rows).astype(np.uint8).reshape(count, _SIDE**2)


def describe_one(pixels: bytes | None, shape: tuple[int, int, int]) -> bytes | None:
    """As :func:`describe`, of one picture of ``shape``, ``(height, width, channels)``; of none, none."""
    return None if pixels is None else describe(np.frombuffer(pixels, dtype=np.uint8).reshape(1, *shape)).tobytes()


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.floor(values + np.float32(0.5))


@functools.cache
def _box(side: int) -> np.ndarray:
    """Which pixels of a side make each of the 16: those whose centre lies in it, in equal parts."""
    centres = (np.arange(_SIDE) + 0.5) * side / _SIDE
    reach = max(0.5 * side / _SIDE, 0.5)
    distance = (np.arange(side) + 0.5)[None, :] - centres[:, None]
    inside = (distance > -reach) & (distance <= reach)
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def similar_groups(described: DataFrame, seed: int) -> DataFrame:
    """Put near-copies, and near-copies of near-copies, into groups.

    Pictures are compared where at least one of 24 hashes has them in one bucket; a hash is a row of signs of random
    projections (Charikar, 2002), as many as leave a hundred pictures or so in a bucket. Not all pairs, and no pair that
    matters is left out: of Sign-MNIST's, 99.8 % are compared, and the others' groups meet over a third picture.

    Args:
        described: the columns ``id``, ``label`` and ``descriptor``. Its session has a checkpoint directory, which every
            executor sees: the groups lie there.
        seed: of the projections.

    Returns:
        The columns ``id`` and ``group``, the smallest id among the near-copies.
    """
    classes, rows = described.agg(F.countDistinct("label"), F.count(F.lit(1))).head()  # type: ignore[misc]
    if rows == 0:
        return described.select("id", F.col("id").alias("group"))
    bits = max(4, min(32, round(math.log2(rows / classes)) + 1))
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
                yield batch.assign(table=np.int32(table), shelf=key >> inner, key=key)

    hashed = "id string, label string, descriptor binary, table int, shelf long, key long"
    shelves = described.mapInPandas(hashes, hashed).groupBy("label", "table", "shelf")
    edges = shelves.applyInPandas(_edges, "node string, smaller string").distinct()
    groups = _components(edges)
    return described.select("id").join(groups, "id", how="left").select("id", F.coalesce("group", "id").alias("group"))


def count_near_copies(described: DataFrame, seed: int) -> dict[str, dict[str, int]]:
    """How many pictures beyond the training split have a near-copy in it.

    Every pair is compared, of 10,000 pictures of a split at most.

    Args:
        described: the columns ``id``, ``label``, ``split`` and ``descriptor``.
        seed: of the choice, where a split has more.

    Returns:
        By split, ``pictures`` that were looked for, and ``near_copies``, how many of them were found.
    """
    place = F.row_number().over(Window.partitionBy("split").orderBy(F.xxhash64(F.lit(seed), "id")))
    columns = ("split", "label", "descriptor")
    sought = described.where(F.col("split") != TRAIN).withColumn("place", place).where(F.col("place") <= SAMPLE)
    sample = sought.orderBy(*columns[:2], "place").select(*columns).toPandas()
    labels = sample["label"].to_numpy()
    wanted = {label: np.flatnonzero(labels == label) for label in set(labels)}
    vectors = described.sparkSession.sparkContext.broadcast(_vectors(sample["descriptor"]))

    def find(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        found = np.zeros(len(vectors.value), dtype=bool)
        for batch in batches:
            for label, rows in batch.groupby("label"):
                if label not in wanted:
                    continue
                of_label = vectors.value[wanted[label]]
                trained = _vectors(rows["descriptor"])
                for block in range(0, len(trained), _BLOCK):
                    near = (trained[block : block + _BLOCK] @ of_label.T >= NEAR).any(axis=0)
                    found[wanted[label][near]] = True
        yield pd.DataFrame({"place": np.flatnonzero(found)})

    trained = described.where(F.col("split") == TRAIN).select("label", "descriptor")
    places = [row["place"] for row in trained.mapInPandas(find, "place long").distinct().collect()]
    splits = sample["split"].to_numpy()
    near = splits[places]
    return {
        str(split): {"pictures": int((splits == split).sum()), "near_copies": int((near == split).sum())}
        for split in sorted(set(splits))
    }


def _vectors(descriptors: pd.Series) -> np.ndarray:
    """Greys with mean 0 and length 1, ``float32`` ``(n, 256)``: their product is the correlation."""
    values = np.frombuffer(b"".join(descriptors), dtype=np.uint8).reshape(len(descriptors), _SIDE**2).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, 1e-6)


def _projections(sample: np.ndarray, bits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions, and where each cuts the sample in half."""
    directions = np.random.default_rng(seed).normal(size=(sample.shape[1], _TABLES * bits)).astype(np.float32)
    return directions, np.median(sample @ directions, axis=0)


def _edges(shelf: pd.DataFrame) -> pd.DataFrame:
    """Each picture of a bucket with the smallest id among its near-copies there."""
    shelf = shelf.sort_values(["key", "id"])
    ids, vectors, keys = shelf["id"].to_numpy(), _vectors(shelf["descriptor"]), shelf["key"].to_numpy()
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    smallest = np.arange(len(ids))
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        if end - start > 1:
            smallest[start:end] = start + _smallest_near(vectors[start:end])
    edges = pd.DataFrame({"node": ids, "smaller": ids[smallest]})
    return edges[edges["node"] != edges["smaller"]]


def _smallest_near(vectors: np.ndarray) -> np.ndarray:
    """For each vector the first one of those that are near it, or near those."""
    component = np.arange(len(vectors))
    for first in range(0, len(vectors), _BLOCK):
        for second in range(first, len(vectors), _BLOCK):
            near = vectors[first : first + _BLOCK] @ vectors[second : second + _BLOCK].T >= NEAR
            rows, columns = np.nonzero(near)
            # block by block: the pairs of all blocks would not fit where thousands are alike
            ends = component[rows + first], component[columns + second]
            graph = csr_matrix((np.ones(len(rows), dtype=bool), ends), shape=(len(vectors), len(vectors)))
            component = connected_components(graph, directed=False)[1][component]
    _, smallest, place = np.unique(component, return_index=True, return_inverse=True)
    return smallest[place]


def _components(edges: DataFrame) -> DataFrame:
    """Connected components: ``id`` and ``group``, the smallest id that can be reached.

    The alternating algorithm of Kiveris et al., 2014: each node hands its larger neighbours (the large star), then its
    smaller ones and itself (the small star), to the smallest of them, until nothing changes.
    """
    by_node = Window.partitionBy("node")
    # checkpoints: kept as plans, each round would hold the one before it twice; on a lost executor, it would be lost
    edges = edges.checkpoint()
    state = None
    while True:
        both = edges.unionByName(edges.select(F.col("smaller").alias("node"), F.col("node").alias("smaller")))
        smallest = F.least(F.min("smaller").over(by_node), F.col("node"))
        large = both.withColumn("least", smallest).where(F.col("smaller") > F.col("node"))
        large = large.select(F.col("smaller").alias("node"), F.col("least").alias("smaller")).distinct()
        small = large.withColumn("least", F.min("smaller").over(by_node))
        hooked = small.where(F.col("smaller") != F.col("least")).select(F.col("smaller").alias("node"), "least")
        after = hooked.unionByName(small.select("node", "least")).distinct()
        after = after.select("node", F.col("least").alias("smaller")).checkpoint()
        now = after.agg(F.count(F.lit(1)), F.sum(F.xxhash64("node", "smaller").cast("decimal(20,0)"))).head()
        edges = after
        if now == state:
            return edges.select(F.col("node").alias("id"), F.col("smaller").alias("group"))
        state = now
