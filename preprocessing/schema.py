"""Schemas of the image table, which all sources are converted to, and of the tables before it."""

from pyspark.sql import types as T

TRAIN, VALIDATION, TEST = "train", "validation", "test"

# The hand of a picture, see :class:`preprocessing.hand_detection.Hand`.
HAND_COLUMNS = [
    # 0 if the picture has none; null if it was not searched.
    T.StructField("hand_confidence", T.FloatType()),
    # The others are null if there is no hand.
    T.StructField("handedness", T.FloatType()),
    # Left, top, right and bottom, as fractions of the picture's width and height before it is cropped.
    T.StructField("hand_box", T.ArrayType(T.FloatType())),
    # x, y and z of 21 landmarks, as fractions of the picture's width (x and z) and height (y).
    T.StructField("landmarks", T.ArrayType(T.FloatType())),
]

# The rows read from a source: one per CSV line or picture file, usable or not.
PARSED_TABLE = T.StructType(
    [
        T.StructField("source", T.StringType(), False),
        # The path of the file within the source and, for a CSV file, the line number.
        T.StructField("file", T.StringType(), False),
        T.StructField("line", T.LongType()),
        # Null if the row cannot be used; reason and detail are null if it can.
        T.StructField("label", T.StringType()),
        T.StructField("pixels", T.BinaryType()),
        T.StructField("reason", T.StringType()),
        T.StructField("detail", T.StringType()),
        # Read from the file's path; null if it does not contain them.
        T.StructField("signer", T.StringType()),
        T.StructField("frame", T.LongType()),
        # The source's own split; null if it has none.
        T.StructField("split", T.StringType()),
        # 16 x 16 gray values, which near-duplicates are found by.
        T.StructField("descriptor", T.BinaryType()),
        *HAND_COLUMNS,
    ]
)

# The id is the file and line for a CSV file, the path for a picture, and the table's own id for Parquet.
INPUT_TABLE = T.StructType(
    [
        T.StructField("id", T.StringType()),
        *(PARSED_TABLE[name] for name in ("label", "pixels", "reason", "detail")),
        *HAND_COLUMNS,
    ]
)

IMAGE_TABLE = T.StructType(
    [
        # The MD5 of label and pixels, in hex: a picture has the same id in every run and on any cluster. The pixels are
        # those of a CSV file's row, or of the crop of a picture file.
        T.StructField("id", T.StringType(), False),
        # One byte per channel and pixel, row by row from the top left.
        T.StructField("pixels", T.BinaryType(), False),
        T.StructField("height", T.IntegerType(), False),
        T.StructField("width", T.IntegerType(), False),
        T.StructField("channels", T.IntegerType(), False),
        T.StructField("label", T.StringType(), False),
        T.StructField("source", T.StringType(), False),
        T.StructField("split", T.StringType(), False),
        # The person whose hand it is; null if unknown.
        T.StructField("signer", T.StringType()),
        # Pictures of one group (a signer, a video, near-duplicates) stay on one side of a split.
        T.StructField("group", T.StringType(), False),
        *HAND_COLUMNS,
    ]
)

REJECTED_TABLE = T.StructType([PARSED_TABLE[name] for name in ("source", "file", "line", "reason", "detail")])
