"""Pixel normalization by the value range, or by the mean and standard deviation of each channel."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.errors import InputError


@dataclass(frozen=True)
class Normalization:
    """Maps the byte of a pixel to a feature: ``pixel * scale[channel] + offset[channel]``."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


def by_range(channels: int) -> Normalization:
    """The normalization from 0..255 to 0..1."""
    return Normalization((1 / 255,) * channels, (0.0,) * channels)


def by_channel(images: DataFrame, channels: int) -> Normalization:
    """Compute the normalization to mean 0 and standard deviation 1 in each channel.

    Args:
        images: the training rows, with the column ``pixels``.
        channels: the number of channels, 1 or 3.

    Raises:
        InputError: all pixels of a channel have the same value.
    """

    def count_values(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            for channel in range(channels):
                values = np.frombuffer(b"".join(batch["pixels"]), dtype=np.uint8)[channel::channels]
                # integer counts, because their sum does not depend on the order of the additions
                counts = np.bincount(values, minlength=256)
                yield pd.DataFrame({"channel": channel, "value": np.arange(256), "count": counts})

    counts = images.select("pixels").mapInPandas(count_values, "channel int, value int, count long")
    totals = counts.groupBy("channel", "value").agg(F.sum("count").alias("count")).collect()
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for row in totals:
        histogram[row["channel"], row["value"]] = row["count"]
    values, total = np.arange(256), histogram.sum(axis=1)
    mean = histogram @ values / total
    deviation = np.sqrt(histogram @ values**2 / total - mean**2)
    for channel, (average, spread) in enumerate(zip(mean, deviation, strict=True)):
        if spread < 1e-6:
            raise InputError(
                f"preprocessing.normalization channel: channel {channel} is {average:.0f} in every training picture,"
                " so its standard deviation is 0"
            )
    return Normalization(tuple((1 / deviation).tolist()), tuple((-mean / deviation).tolist()))
