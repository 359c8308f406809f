"""The Spark ML pipeline from the image table to features: scaled and assembled pixels, indexed and encoded labels."""

import math
from typing import Any

import numpy as np
import pandas as pd
from pyspark import keyword_only
from pyspark.ml import Pipeline, PipelineModel, Transformer
from pyspark.ml.feature import OneHotEncoder, PCAModel, StringIndexerModel, VectorAssembler
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from preprocessing.errors import InputError
from preprocessing.normalization import Normalization
from preprocessing.principal_components import fit_principal_components

# The driver holds the covariance matrix of all features: 134 MB for 4,096 features.
MAX_PCA_FEATURES = 4096


class PixelScaler(  # type: ignore[misc]  # PySpark's own classes combine these mixins
    Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable
):
    """Converts bytes to a dense vector of doubles: each byte times the ``scale`` of its channel plus its ``offset``."""

    scale: Param = Param(Params._dummy(), "scale", "the factor of each channel", TypeConverters.toListFloat)
    offset: Param = Param(Params._dummy(), "offset", "the value added to each channel", TypeConverters.toListFloat)
    size: Param = Param(Params._dummy(), "size", "the length of the vector; 0 if unknown", TypeConverters.toInt)

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "pixels",  # noqa: N803
        outputCol: str = "scaled",  # noqa: N803
        scale: list[float] | None = None,
        offset: list[float] | None = None,
        size: int = 0,
    ) -> None:
        super().__init__()
        self._setDefault(scale=[1 / 255], offset=[0.0], size=0)
        self._set(**self._input_kwargs)  # type: ignore

    def _transform(self, dataset: DataFrame) -> DataFrame:
        factor = np.array(self.getOrDefault(self.scale), dtype=np.float32)
        shift = np.array(self.getOrDefault(self.offset), dtype=np.float32)

        @F.pandas_udf("array<float>")  # type: ignore[attr-defined,call-overload]
        def scaled(pixels: pd.Series) -> pd.Series:
            if pixels.empty:
                return pd.Series([], dtype=object)
            values = np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(len(pixels), -1, len(factor))
            return pd.Series(list((values * factor + shift).reshape(len(pixels), -1)))

        name, size = self.getOutputCol(), self.getOrDefault(self.size)
        dataset = dataset.withColumn(name, array_to_vector(scaled(F.col(self.getInputCol()))))
        # with this metadata the next stages need not read a row to know the vector's length
        return dataset.withMetadata(name, {"ml_attr": {"num_attrs": size}}) if size else dataset


def fit_pipeline(
    images: DataFrame,
    class_names: list[str],
    normalization: Normalization,
    shape: tuple[int, int, int],
    components: int | None = None,
) -> PipelineModel:
    """Fit the pipeline on the training rows.

    It adds ``scaled`` and ``features`` (dense vectors, one double per pixel and channel; with PCA ``features`` are the
    principal components of ``assembled``), ``label_index`` (double, the index of the class in alphabetical order) and
    ``label_onehot`` (a vector with one entry per class).

    Args:
        images: an image table.
        class_names: its labels, in alphabetical order.
        normalization: the normalization of the pixels.
        shape: ``(height, width, channels)`` of every picture.
        components: the number of principal components. None: the features are all pixels.

    Raises:
        InputError: there are fewer features than components, or too many features for PCA.
    """
    features = math.prod(shape)
    if components is not None and not components <= features <= MAX_PCA_FEATURES:
        raise InputError(
            f"forest.pca {components}: pictures of {features:,} values cannot be reduced to {components:,} components;"
            f" at most {MAX_PCA_FEATURES:,} values can be reduced: lower --preprocessing.size"
        )
    scaler = PixelScaler(
        inputCol="pixels",
        outputCol="scaled",
        scale=list(normalization.scale),
        offset=list(normalization.offset),
        size=features,
    )
    assembler = VectorAssembler(inputCols=["scaled"], outputCol="features" if components is None else "assembled")
    reduction: list[Any] = []
    if components is not None:
        assembled = assembler.transform(scaler.transform(images))
        reduction = [fit_principal_components(assembled, "assembled", int(components))]
    stages: list[Any] = [
        scaler,
        assembler,
        *reduction,
        StringIndexerModel.from_labels(class_names, inputCol="label", outputCol="label_index"),
        OneHotEncoder(inputCols=["label_index"], outputCols=["label_onehot"], dropLast=False),
    ]
    return Pipeline(stages=stages).fit(images)


def fitted_pca(pipeline: PipelineModel) -> PCAModel | None:
    """The PCA stage of the pipeline, or None if it has no such stage."""
    return next((stage for stage in pipeline.stages if isinstance(stage, PCAModel)), None)
