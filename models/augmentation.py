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
    seeds = tf.random.split(seed, 6)

    def draw(largest: float, index: int) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seeds[index], -largest, largest)

    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=_affine(
            draw(amounts.rotation * 3.14159265 / 180, 0),
            draw(amounts.shift * width, 1),
            draw(amounts.shift * height, 2),
            1 / (1 + draw(amounts.zoom, 3)),
            (height, width),
        ),
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    contrast = 1 + tf.reshape(draw(amounts.contrast, 4), [-1, 1, 1, 1])
    brightness = 255 * tf.reshape(draw(amounts.brightness, 5), [-1, 1, 1, 1])
    images = (images - mean) * contrast + mean + brightness
    images = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
    return tf.reshape(images, [-1, height * width * channels])


def _affine(
    angle: tf.Tensor, shift_x: tf.Tensor, shift_y: tf.Tensor, scale: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """The rows ``[a0 a1 a2 b0 b1 b2 c0 c1]`` of ImageProjectiveTransform: rotation and scale about the centre."""
    height, width = size
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    zero = tf.zeros_like(angle)
    offset_x = center_x - cos * center_x + sin * center_y + shift_x
    offset_y = center_y - sin * center_x - cos * center_y + shift_y
    return tf.stack([cos, -sin, offset_x, sin, cos, offset_y, zero, zero], axis=1)
