"""The image table: the columns that every source is brought to."""

import string

from pyspark.sql import types as T

LETTERS = tuple(string.ascii_uppercase)
# J and Z are drawn in the air: a still picture cannot show them.
STILL_LETTERS = tuple(letter for letter in LETTERS if letter not in "JZ")

TRAIN, VALIDATION, TEST = "train", "validation", "test"

IMAGE_TABLE = T.StructType(
    [
        # The md5 of label and pixels, in hex: the same picture has the same id in every run and on any cluster.
        T.StructField("id", T.StringType(), False),
        # One byte a channel a pixel, row by row from the top left.
        T.StructField("pixels", T.BinaryType(), False),
        T.StructField("height", T.IntegerType(), False),
        T.StructField("width", T.IntegerType(), False),
        T.StructField("channels", T.IntegerType(), False),
        T.StructField("label", T.StringType(), False),
        T.StructField("source", T.StringType(), False),
        T.StructField("split", T.StringType(), False),
        # Pictures of one group (a signer, a video, near-copies) stay on one side of a split.
        T.StructField("group", T.StringType(), False),
    ]
)

REJECTED_TABLE = T.StructType(
    [
        T.StructField("source", T.StringType(), False),
        T.StructField("line", T.LongType(), False),
        T.StructField("reason", T.StringType(), False),
        T.StructField("detail", T.StringType(), False),
    ]
)
