"""Random changes to training pictures: what a camera and a hand may do without the letter becoming another."""

import tensorflow as tf

from models.settings import Augmentation


def augment(pixels: tf.Tensor, shape: tuple[int, int, int], amounts: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Change a batch of pictures at random.

    Args:
        pixels: ``uint8``, shape ``(batch, height * width * channels)``.
        shape: ``(height, width, channels)`` of one picture.
        amounts: how far each property may change.
        seed: ``int64``, shape ``(2,)``; the same seed changes the same pictures alike.

    Returns:
        ``uint8`` of the shape of ``pixels``. What a rotation or a move brings in from outside repeats the edge.
    """
    height, width, channels = shape
    count = tf.shape(pixels)[0]
    images = tf.cast(tf.reshape(pixels, [-1, height, width, channels]), tf.float32)
    seeds = tf.random.split(seed, 16)

    def draw(largest: float, index: int) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seeds[index], -largest, largest)

    def chosen(share: float, index: int) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seeds[index]) < share

    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=_affine(
            draw(amounts.rotation * 3.14159265 / 180, 0),
            draw(amounts.shift * width, 1),
            draw(amounts.shift * height, 2),
            1 / (1 + draw(amounts.zoom, 3)),
            1 + draw(amounts.stretch, 6),
            tf.where(chosen(amounts.flip, 7), -1.0, 1.0),
            (height, width),
        ),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    if amounts.background:
        other = chosen(amounts.background, 12)[:, None, None, None]
        images = tf.where(other, _with_background(images, seeds[13]), images)
    if amounts.blur:
        coarse = chosen(amounts.blur, 14)[:, None, None, None]
        images = tf.where(coarse, _coarsened(images, seeds[15]), images)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    contrast = 1 + tf.reshape(draw(amounts.contrast, 4), [-1, 1, 1, 1])
    brightness = 255 * tf.reshape(draw(amounts.brightness, 5), [-1, 1, 1, 1])
    images = (images - mean) * contrast + mean + brightness
    if amounts.color:
        strength = tf.random.stateless_uniform([count, 1, 1, channels], seeds[8], 1 - amounts.color, 1 + amounts.color)
        images *= strength
    if amounts.erase:
        hidden = _rectangles(count, (height, width), seeds[9]) & chosen(amounts.erase, 10)[:, None, None]
        noise = tf.random.stateless_uniform(tf.shape(images), seeds[11], 0, 255)
        images = tf.where(hidden[..., None], noise, images)
    images = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
    return tf.reshape(images, [-1, height * width * channels])


# How far from its edge's colour, of 255, a picture is half background.
_EDGE_DISTANCE, _EDGE_SOFTNESS = 35.0, 8.0


def _with_background(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Pictures with another colour, and light across it, where they are like their upper and outer edges."""
    shape = tf.shape(images)
    band = shape[1] // 8
    edges = [images[:, :band], tf.transpose(images[:, :, :band], [0, 2, 1, 3])]
    edges.append(tf.transpose(images[:, :, -band:], [0, 2, 1, 3]))
    edge = tf.reduce_mean(tf.concat(edges, axis=1), axis=[1, 2], keepdims=True)
    distance = tf.reduce_max(tf.abs(images - edge), axis=-1, keepdims=True)
    hand = tf.sigmoid((distance - _EDGE_DISTANCE) / _EDGE_SOFTNESS)
    drawn = tf.random.stateless_uniform([3, shape[0], 1, 1, shape[3]], seed)
    across = tf.linspace(-1.0, 1.0, shape[2])[None, None, :, None]
    down = tf.linspace(-1.0, 1.0, shape[1])[None, :, None, None]
    background = drawn[0] * 255 + (drawn[1] - 0.5) * 120 * across + (drawn[2] - 0.5) * 120 * down
    return hand * images + (1 - hand) * background


def _coarsened(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Pictures made small, to 28..56 pixels a side, and large again."""
    size = tf.shape(images)[1:3]
    small = tf.minimum(tf.random.stateless_uniform([], seed, 28, 57, dtype=tf.int32), size)
    return tf.image.resize(tf.image.resize(images, small, antialias=True), size, method="bicubic")


def _rectangles(count: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """For each picture a rectangle anywhere, its sides a tenth to a third of the picture's: ``bool`` ``(n, h, w)``
    (random erasing, Zhong et al., 2020)."""
    places = tf.random.stateless_uniform([4, count, 1], seed)
    masks = []
    for side, length in enumerate(size):
        pixels = tf.range(length, dtype=tf.float32)[None] / length
        place, extent = places[side], places[side + 2]
        masks.append((pixels >= place) & (pixels < place + 0.1 + extent * 0.23))
    return masks[0][:, :, None] & masks[1][:, None, :]


def _affine(
    angle: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    scale: tf.Tensor,
    stretch: tf.Tensor,
    side: tf.Tensor,
    size: tuple[int, int],
) -> tf.Tensor:
    """The rows ``[a0 a1 a2 b0 b1 b2 c0 c1]`` of ImageProjectiveTransform: rotation, scale, stretch of the width (the
    height the other way) and mirroring about the centre."""
    height, width = size
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    wide, high = scale * stretch * side, scale / stretch
    a0, a1 = tf.cos(angle) * wide, -tf.sin(angle) * wide
    b0, b1 = tf.sin(angle) * high, tf.cos(angle) * high
    zero = tf.zeros_like(angle)
    offset_x = center_x - a0 * center_x - a1 * center_y + shift_x
    offset_y = center_y - b0 * center_x - b1 * center_y + shift_y
    return tf.stack([a0, a1, offset_x, b0, b1, offset_y, zero, zero], axis=1)
