from typing import Any

from pyspark.sql import SparkSession

from preprocessing.data_settings import Preprocessing, Source, Split
from preprocessing.sources import Sources


def sources(spark: SparkSession, folders: dict[Source, str], **settings: Any) -> Sources:
    """The sources to prepare, with the default settings of an experiment unless a test overrides them."""
    defaults = {
        "work": str(spark.sparkContext.getCheckpointDir()).rsplit("/", 1)[0],
        "preprocessing": Preprocessing(),
        "split": Split(),
        "class_names": [],
        "max_rejected": 0.01,
        "excluded_classes": [],
        "fraction": 1.0,
        "seed": 0,
    }
    return Sources(folders, **(defaults | settings))
