"""Mean and standard deviation a channel, measured by Spark."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """What turns a pixel's byte into a feature: ``pixel * scale[channel] + offset[channel]``."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


def by_range(channels: int) -> Normalisation:
    """0..255 to 0..1."""
    return Normalisation((1 / 255,) * channels, (0.0,) * channels)


def by_channel(images: DataFrame, channels: int) -> Normalisation:
    """To mean 0 and standard deviation 1 in each channel.

    Args:
        images: the training rows' ``pixels``.
        channels: 1 or 3.

    Raises:
        InputError: all pixels of a channel are alike.
    """

    def measure(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            for channel in range(channels):
                values = np.frombuffer(b"".join(batch["pixels"]), dtype=np.uint8)[channel::channels]
                # of integers: no order of adding them up makes a difference
                counts = np.bincount(values, minlength=256)
                yield pd.DataFrame({"channel": channel, "value": np.arange(256), "count": counts})

    counted = images.select("pixels").mapInPandas(measure, "channel int, value int, count long")
    totals = counted.groupBy("channel", "value").agg(F.sum("count").alias("count")).collect()
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for row in totals:
        histogram[row["channel"], row["value"]] = row["count"]
    values, total = np.arange(256), histogram.sum(axis=1)
    mean = histogram @ values / total
    deviation = np.sqrt(histogram @ values**2 / total - mean**2)
    for channel, (average, spread) in enumerate(zip(mean, deviation, strict=True)):
        if spread < 1e-6:
            raise InputError(
                f"preprocessing.normalisation channel: channel {channel} is {average:.0f} in every training picture:"
                " it has no standard deviation to divide by"
            )
    return Normalisation(tuple((1 / deviation).tolist()), tuple((-mean / deviation).tolist()))
