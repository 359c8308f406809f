"""The image table: the columns that every source is brought to."""

from pyspark.sql import types as T

TRAIN, VALIDATION, TEST = "train", "validation", "test"

# What each source is read to: a row of a CSV file or a picture's file, usable or not.
PARSED_TABLE = T.StructType(
    [
        T.StructField("source", T.StringType(), False),
        # The file within the source and, in a CSV file, the line.
        T.StructField("file", T.StringType(), False),
        T.StructField("line", T.LongType()),
        # Null where the row cannot be used; reason and detail are null where it can.
        T.StructField("label", T.StringType()),
        T.StructField("pixels", T.BinaryType()),
        T.StructField("reason", T.StringType()),
        T.StructField("detail", T.StringType()),
        # What the file's path tells of the picture, if anything.
        T.StructField("signer", T.StringType()),
        T.StructField("frame", T.LongType()),
        # The source's own split; null where it has none.
        T.StructField("split", T.StringType()),
        # What near-copies are found by: 16 x 16 greys.
        T.StructField("descriptor", T.BinaryType()),
    ]
)

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
        # Whose hand it is, where that is known.
        T.StructField("signer", T.StringType()),
        # Pictures of one group (a signer, a video, near-copies) stay on one side of a split.
        T.StructField("group", T.StringType(), False),
    ]
)

REJECTED_TABLE = T.StructType([PARSED_TABLE[name] for name in ("source", "file", "line", "reason", "detail")])
