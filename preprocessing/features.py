"""The image table to features, as a Spark ML pipeline: scaled, assembled, indexed, encoded."""

from typing import Any

import numpy as np
import pandas as pd
from pyspark import keyword_only
from pyspark.ml import Pipeline, PipelineModel, Transformer
from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

PIXEL_RANGE = 255.0


class PixelScaler(  # type: ignore[misc]  # pyspark's own classes are mixed like this
    Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable
):
    """Pixels as bytes to a dense vector of doubles 0..1, each byte divided by 255."""

    @keyword_only
    def __init__(self, *, inputCol: str = "pixels", outputCol: str = "scaled") -> None:  # noqa: N803
        super().__init__()
        self._set(**self._input_kwargs)  # type: ignore

    def _transform(self, dataset: DataFrame) -> DataFrame:
        @F.pandas_udf("array<float>")  # type: ignore[attr-defined,call-overload]
        def scale(pixels: pd.Series) -> pd.Series:
            if pixels.empty:
                return pd.Series([], dtype=object)
            values = np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(len(pixels), -1)
            return pd.Series(list(values / np.float32(PIXEL_RANGE)))

        return dataset.withColumn(self.getOutputCol(), array_to_vector(scale(F.col(self.getInputCol()))))


def fit_pipeline(images: DataFrame) -> PipelineModel:
    """Fit the pipeline on training rows.

    It adds ``scaled`` and ``features`` (dense vectors, one double 0..1 a pixel), ``label_index`` (double, the class's
    place in alphabetical order) and ``label_onehot`` (a vector of one entry a class).
    """
    stages: list[Any] = [
        PixelScaler(inputCol="pixels", outputCol="scaled"),
        VectorAssembler(inputCols=["scaled"], outputCol="features"),
        StringIndexer(inputCol="label", outputCol="label_index", stringOrderType="alphabetAsc"),
        OneHotEncoder(inputCols=["label_index"], outputCols=["label_onehot"], dropLast=False),
    ]
    return Pipeline(stages=stages).fit(images)


def class_names(pipeline: PipelineModel) -> list[str]:
    """The classes in the order of ``label_index``."""
    return next(list(stage.labels) for stage in pipeline.stages if hasattr(stage, "labels"))
