"""Tests of which copy is kept among exact duplicates."""

from pyspark.sql import SparkSession

from preprocessing.cleansing import mark_unusable
from preprocessing.schema import PARSED_TABLE

# The splits of two copies of a picture (None: not yet assigned), and the split of the copy that is kept.
KEPT_SPLITS = [
    (("train", "validation"), "validation"),
    (("train", "test"), "test"),
    (("validation", "test"), "test"),
    (("train", None), None),
    ((None, "validation"), "validation"),
    ((None, "test"), "test"),
]


def test_of_copies_in_two_splits_the_published_one_is_kept_regardless_of_their_order(spark: SparkSession) -> None:
    pictures = [(splits[::step], kept_split) for splits, kept_split in KEPT_SPLITS for step in (1, -1)]
    rows = [
        dict.fromkeys(PARSED_TABLE.names)
        | {"source": "s", "file": f"{number}-{copy}.png", "label": "A", "pixels": bytes([number]), "split": split}
        for number, (splits, _) in enumerate(pictures)
        for copy, split in enumerate(splits)
    ]
    marked = mark_unusable(spark.createDataFrame(rows, PARSED_TABLE), allow_duplicates=False).toPandas()
    kept = marked[marked["reason"].isna()].sort_values(
        "file", key=lambda names: names.str.split("-").str[0].astype(int)
    )
    assert kept["split"].tolist() == [kept_split for _, kept_split in pictures]
    assert set(marked["reason"].dropna()) == {"exact duplicate"}
