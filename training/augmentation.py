"""Random changes to training pictures that a camera or a hand may cause without changing the letter."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from training.training_settings import Augmentation


def augment(pixels: tf.Tensor, shape: tuple[int, int, int], amounts: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Change a batch of pictures at random.

    Args:
        pixels: ``uint8``, shape ``(batch, height * width * channels)``.
        shape: ``(height, width, channels)`` of one picture.
        amounts: maximum change of each property.
        seed: ``int64``, shape ``(2,)``; the same seed gives the same changes to the same pictures.

    Returns:
        ``uint8`` of the shape of ``pixels``. Areas that a rotation or shift moves in from outside repeat the edge.
    """
    height, width, channels = shape
    count = tf.shape(pixels)[0]
    images = tf.cast(tf.reshape(pixels, [-1, height, width, channels]), tf.float32)
    seeds = tf.random.split(seed, 21)

    def draw(limit: float, index: int) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seeds[index], -limit, limit)

    def is_selected(fraction: float, index: int) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seeds[index]) < fraction

    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=_affine(
            draw(amounts.rotation * 3.14159265 / 180, 0),
            draw(amounts.shift * width, 1),
            draw(amounts.shift * height, 2),
            1 / (1 + draw(amounts.zoom, 3)),
            1 + draw(amounts.stretch, 6),
            tf.where(is_selected(amounts.flip, 7), -1.0, 1.0),
            (height, width),
        ),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    if amounts.background:
        replaced = is_selected(amounts.background, 12)[:, None, None, None]
        images = tf.where(replaced, _with_background(images, seeds[13]), images)
    if amounts.blur:
        # a change that takes long is computed for the selected pictures only
        selected = tf.where(is_selected(amounts.blur, 14))
        blurred = _blur(tf.gather_nd(images, selected), seeds[15])
        images = tf.tensor_scatter_nd_update(images, selected, blurred)
    if amounts.gamma:
        exponent = tf.exp(tf.reshape(draw(amounts.gamma, 16), [-1, 1, 1, 1]))
        images = 255 * tf.clip_by_value(images / 255, 0, 1) ** exponent
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    contrast = 1 + tf.reshape(draw(amounts.contrast, 4), [-1, 1, 1, 1])
    brightness = 255 * tf.reshape(draw(amounts.brightness, 5), [-1, 1, 1, 1])
    images = (images - mean) * contrast + mean + brightness
    if amounts.color:
        strength = tf.random.stateless_uniform([count, 1, 1, channels], seeds[8], 1 - amounts.color, 1 + amounts.color)
        images *= strength
    if amounts.gray:
        selected = is_selected(amounts.gray, 17)[:, None, None, None]
        images = tf.where(selected, tf.reduce_mean(images, axis=3, keepdims=True), images)
    if amounts.noise:
        strength = 255 * tf.random.stateless_uniform([count, 1, 1, 1], seeds[18], 0, amounts.noise)
        images += strength * _shared_noise(tf.random.stateless_normal, images, seeds[19])
    if amounts.erase:
        erased = _rectangles(count, (height, width), seeds[9]) & is_selected(amounts.erase, 10)[:, None, None]
        noise = 255 * _shared_noise(tf.random.stateless_uniform, images, seeds[11])
        images = tf.where(erased[..., None], noise, images)
    images = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
    return tf.reshape(images, [-1, height * width * channels])


def augment_rows(
    pixels: np.ndarray, shape: tuple[int, int, int], amounts: Augmentation, seed: Sequence[int]
) -> np.ndarray:
    """The same for arrays, for use outside of a TensorFlow graph."""
    if amounts == Augmentation():
        return pixels
    return _compiled(shape, amounts)(tf.constant(pixels), tf.constant(seed, dtype=tf.int64)).numpy()


@functools.cache
def _compiled(shape: tuple[int, int, int], amounts: Augmentation) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The changes as a graph, which takes two thirds of the time."""
    signature = [tf.TensorSpec([None, None], tf.uint8), tf.TensorSpec([2], tf.int64)]
    return tf.function(
        lambda pixels, seed: augment(pixels, shape, amounts, seed), input_signature=signature, autograph=False
    )


# A pixel whose color differs from the edge color by this distance, of 255, is blended as half background.
_EDGE_DISTANCE, _EDGE_SOFTNESS = 35.0, 8.0


def _with_background(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Replace the areas that resemble the upper, left and right edges by a random color with a lighting gradient."""
    shape = tf.shape(images)
    band = shape[1] // 8
    edges = [images[:, :band], tf.transpose(images[:, :, :band], [0, 2, 1, 3])]
    edges.append(tf.transpose(images[:, :, -band:], [0, 2, 1, 3]))
    edge = tf.reduce_mean(tf.concat(edges, axis=1), axis=[1, 2], keepdims=True)
    distance = tf.reduce_max(tf.abs(images - edge), axis=-1, keepdims=True)
    foreground = tf.sigmoid((distance - _EDGE_DISTANCE) / _EDGE_SOFTNESS)
    uniform = tf.random.stateless_uniform([3, shape[0], 1, 1, shape[3]], seed)
    x = tf.linspace(-1.0, 1.0, shape[2])[None, None, :, None]
    y = tf.linspace(-1.0, 1.0, shape[1])[None, :, None, None]
    background = uniform[0] * 255 + (uniform[1] - 0.5) * 120 * x + (uniform[2] - 0.5) * 120 * y
    return foreground * images + (1 - foreground) * background


def _blur(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Downscale pictures to 28..56 pixels per side and upscale them again."""
    size = tf.shape(images)[1:3]
    reduced_size = tf.minimum(tf.random.stateless_uniform([], seed, 28, 57, dtype=tf.int32), size)
    return tf.image.resize(tf.image.resize(images, reduced_size, antialias=True), size, method="bicubic")


def _shared_noise(distribution: Callable[..., tf.Tensor], images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Noise for one picture, ``(1, h, w, c)``, which all pictures of a batch share: random numbers take long."""
    return distribution(tf.concat([[1], tf.shape(images)[1:]], axis=0), seed)


def _rectangles(count: tf.Tensor, size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Draw a mask with one rectangle per picture, ``bool`` ``(n, h, w)`` (random erasing, Zhong et al., 2020).

    A rectangle's sides are a tenth to a third of the picture's sides.
    """
    uniform = tf.random.stateless_uniform([4, count, 1], seed)
    masks = []
    for axis, length in enumerate(size):
        coordinates = tf.range(length, dtype=tf.float32)[None] / length
        start, extent = uniform[axis], uniform[axis + 2]
        masks.append((coordinates >= start) & (coordinates < start + 0.1 + extent * 0.23))
    return masks[0][:, :, None] & masks[1][:, None, :]


def _affine(
    angle: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    scale: tf.Tensor,
    stretch: tf.Tensor,
    mirror: tf.Tensor,
    size: tuple[int, int],
) -> tf.Tensor:
    """Compute rows ``[a0 a1 a2 b0 b1 b2 c0 c1]`` for ImageProjectiveTransform.

    They rotate, scale, stretch (the height inversely to the width) and mirror each picture about its center.
    """
    height, width = size
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    scale_x, scale_y = scale * stretch * mirror, scale / stretch
    a0, a1 = tf.cos(angle) * scale_x, -tf.sin(angle) * scale_x
    b0, b1 = tf.sin(angle) * scale_y, tf.cos(angle) * scale_y
    zero = tf.zeros_like(angle)
    offset_x = center_x - a0 * center_x - a1 * center_y + shift_x
    offset_y = center_y - b0 * center_x - b1 * center_y + shift_y
    return tf.stack([a0, a1, offset_x, b0, b1, offset_y, zero, zero], axis=1)
