"""What Schemathesis sends where the OpenAPI document says no more than bytes; ``SCHEMATHESIS_HOOKS`` names this."""

import io

import numpy as np
import schemathesis
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image


def _saved(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "NPY":
        np.save(buffer, pixels.ravel())
    else:
        Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


# a whole picture as often as bytes at random
for media_type, kind in (("image/png", "PNG"), ("image/jpeg", "JPEG"), ("application/x-npy", "NPY")):
    whole = arrays(np.uint8, (28, 28)).map(lambda pixels, kind=kind: _saved(pixels, kind))
    schemathesis.openapi.media_type(media_type, st.one_of(whole, st.binary(min_size=1)))
