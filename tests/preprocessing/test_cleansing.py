"""Which of exact copies stays."""

from pyspark.sql import SparkSession

from preprocessing.cleansing import mark_unusable
from preprocessing.schema import PARSED_TABLE

# In which splits a picture is, None where it is to be divided, and in which one it stays.
STAYS = [
    (("train", "validation"), "validation"),
    (("train", "test"), "test"),
    (("validation", "test"), "test"),
    (("train", None), None),
    ((None, "validation"), "validation"),
    ((None, "test"), "test"),
]


def test_of_copies_in_two_splits_that_of_the_published_one_stays_whichever_is_read_first(spark: SparkSession) -> None:
    pictures = [(splits[::step], stays) for splits, stays in STAYS for step in (1, -1)]
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
    assert kept["split"].tolist() == [stays for _, stays in pictures]
    assert set(marked["reason"].dropna()) == {"exact duplicate"}
