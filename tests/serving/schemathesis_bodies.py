"""Bodies that Schemathesis sends where the OpenAPI document specifies bytes; ``SCHEMATHESIS_HOOKS`` names this file."""

import io

import numpy as np
import schemathesis
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image


def _saved(pixels: np.ndarray, file_format: str) -> bytes:
    buffer = io.BytesIO()
    if file_format == "NPY":
        np.save(buffer, pixels.ravel())
    else:
        Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


# valid pictures as often as random bytes
for media_type, file_format in (("image/png", "PNG"), ("image/jpeg", "JPEG"), ("application/x-npy", "NPY")):
    valid = arrays(np.uint8, (28, 28)).map(lambda pixels, file_format=file_format: _saved(pixels, file_format))
    schemathesis.openapi.media_type(media_type, st.one_of(valid, st.binary(min_size=1)))
