import numpy as np
import pytest
import tensorflow as tf

from training import augmentation
from training.training_settings import Augmentation

augment = tf.function(augmentation.augment)  # compiled, as in a tf.data pipeline
SHAPE = (28, 28, 1)
SEED = tf.constant([3, 4], dtype=tf.int64)


@pytest.fixture
def pixels() -> np.ndarray:
    """Dark pictures with a bright 8x8 square in the center."""
    images = np.full((64, 28, 28), 40, dtype=np.uint8)
    images[:, 10:18, 10:18] = 200
    return images.reshape(64, 784)


def changed(pixels: np.ndarray, seed: tf.Tensor = SEED, **amounts: float) -> np.ndarray:
    return augment(tf.constant(pixels), SHAPE, Augmentation(**amounts), seed).numpy()


def centers(pixels: np.ndarray) -> np.ndarray:
    intensity = pixels.reshape(-1, 28, 28).astype(float) - 40
    coordinates = np.arange(28)
    weighted_x = (intensity.sum(axis=1) * coordinates).sum(axis=1)
    weighted_y = (intensity.sum(axis=2) * coordinates).sum(axis=1)
    return np.stack([weighted_x, weighted_y], 1) / intensity.sum(axis=(1, 2))[:, None]


def test_amounts_of_zero_change_nothing(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(changed(pixels), pixels)


def test_the_same_seed_gives_the_same_changes_and_another_seed_does_not(pixels: np.ndarray) -> None:
    amounts = {"rotation": 10.0, "shift": 0.1, "brightness": 0.1}
    np.testing.assert_array_equal(changed(pixels, **amounts), changed(pixels, **amounts))
    assert (changed(pixels, **amounts) != changed(pixels, SEED + 1, **amounts)).any()


def test_every_picture_of_a_batch_is_changed_differently(pixels: np.ndarray) -> None:
    assert len(np.unique(changed(pixels, shift=0.2), axis=0)) > 55


def test_a_shift_moves_in_both_directions_within_its_limit(pixels: np.ndarray) -> None:
    shifts = centers(changed(pixels, shift=0.1)) - 13.5
    assert np.abs(shifts).max() <= 2.8 + 0.1
    assert (shifts.min(axis=0) < -1.5).all()
    assert (shifts.max(axis=0) > 1.5).all()


def test_a_rotation_keeps_the_center(pixels: np.ndarray) -> None:
    rotated = changed(pixels, rotation=30)
    np.testing.assert_allclose(centers(rotated), 13.5, atol=0.15)
    assert (rotated != pixels).any(axis=1).mean() > 0.9


def test_a_zoom_enlarges_some_pictures_and_shrinks_others(pixels: np.ndarray) -> None:
    sizes = (changed(pixels, zoom=0.3) > 120).sum(axis=1)
    assert sizes.min() < 50
    assert sizes.max() > 80


def test_brightness_changes_all_pixels_equally_and_contrast_keeps_the_mean(pixels: np.ndarray) -> None:
    brighter = changed(pixels, brightness=0.1).astype(int) - pixels
    assert (np.ptp(brighter, axis=1) <= 1).all()
    assert np.abs(brighter).max() <= 26
    contrasted = changed(pixels, contrast=0.3).astype(float)
    np.testing.assert_allclose(contrasted.mean(axis=1), pixels.mean(axis=1), atol=0.6)
    assert np.ptp(contrasted, axis=1).min() < 150 < 170 < np.ptp(contrasted, axis=1).max()


def test_a_stretch_makes_some_pictures_wider_and_others_higher(pixels: np.ndarray) -> None:
    squares = changed(pixels, stretch=0.25).reshape(-1, 28, 28) > 120
    widths, heights = squares.any(axis=1).sum(axis=1), squares.any(axis=2).sum(axis=1)
    assert widths.min() < 8 < widths.max()
    assert ((widths - 8) * (heights - 8) <= 0).all()


def test_a_flip_mirrors_its_fraction_of_the_pictures_and_changes_nothing_else(pixels: np.ndarray) -> None:
    images = np.tile(np.arange(28, dtype=np.uint8) * 9, (64, 28, 1)).reshape(64, 784)
    flipped = changed(images, flip=0.5).reshape(64, 28, 28)
    mirrored_fraction = (flipped[:, 0, 0] > flipped[:, 0, -1]).mean()
    assert 0.3 < mirrored_fraction < 0.7
    originals = images.reshape(64, 28, 28)
    is_unchanged = [np.abs(f.astype(int) - o).max() <= 1 for f, o in zip(flipped, originals, strict=True)]
    is_mirrored = [np.abs(f[:, ::-1].astype(int) - o).max() <= 1 for f, o in zip(flipped, originals, strict=True)]
    assert np.logical_xor(is_unchanged, is_mirrored).all()


def test_erasing_covers_only_a_rectangle(pixels: np.ndarray) -> None:
    uniform = np.full((64, 784), 100, dtype=np.uint8)
    erased = (changed(uniform, erase=1.0) != 100).reshape(64, 28, 28)
    assert erased.any(axis=(1, 2)).mean() > 0.9
    heights, widths = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    assert max(heights.max(), widths.max()) <= 11
    assert (changed(uniform, erase=0.0) == 100).all()


def test_a_color_change_scales_each_channel() -> None:
    gray = np.full((64, 300), 100, dtype=np.uint8)
    amounts = Augmentation(color=0.2)
    tinted = augment(tf.constant(gray), (10, 10, 3), amounts, SEED).numpy().reshape(64, 100, 3)
    assert (np.ptp(tinted, axis=1) == 0).all()
    assert np.ptp(tinted[:, 0], axis=1).max() > 15
    assert tinted.min() >= 79
    assert tinted.max() <= 121


def test_gray_pictures_have_equal_channels() -> None:
    colorful = np.tile(np.array([200, 100, 30], dtype=np.uint8), (64, 100))
    images = augment(tf.constant(colorful), (10, 10, 3), Augmentation(gray=0.5), SEED).numpy().reshape(64, 100, 3)
    is_gray = (images == 110).all(axis=(1, 2))
    assert 0.3 < is_gray.mean() < 0.7
    np.testing.assert_array_equal(images[~is_gray].reshape(-1, 300), colorful[~is_gray])


def test_noise_has_a_different_strength_in_each_picture(pixels: np.ndarray) -> None:
    uniform = np.full((64, 784), 100, dtype=np.uint8)
    strengths = changed(uniform, noise=0.1).std(axis=1)
    assert strengths.min() < 5
    assert 20 < strengths.max() < 28


def test_gamma_keeps_black_and_white_and_makes_gray_darker_or_brighter() -> None:
    levels = np.tile(np.array([0, 128, 255], dtype=np.uint8), (64, 1))
    changed_levels = augment(tf.constant(levels), (1, 3, 1), Augmentation(gamma=0.5), SEED).numpy()
    assert (changed_levels[:, [0, 2]] == [0, 255]).all()
    assert changed_levels[:, 1].min() < 100
    assert changed_levels[:, 1].max() > 150


def test_a_new_background_leaves_the_foreground_unchanged(pixels: np.ndarray) -> None:
    replaced = changed(pixels, background=1.0).reshape(-1, 28, 28).astype(float)
    assert np.abs(replaced[:, 11:17, 11:17] - 200).max() <= 1
    assert np.ptp(replaced[:, 2, 2]) > 150
    is_replaced = (changed(pixels, background=0.5) != pixels).mean(axis=1) > 0.5
    assert 0.3 < is_replaced.mean() < 0.7


def test_a_blur_removes_detail_and_keeps_the_mean() -> None:
    stripes = np.tile(np.array([40, 40, 200, 200], dtype=np.uint8), 112 * 28).reshape(1, -1).repeat(8, axis=0)
    shape = (112, 112, 1)
    blurred = augment(tf.constant(stripes), shape, Augmentation(blur=1.0), SEED).numpy().reshape(8, 112, 112)
    assert blurred[:, 20:90, 20:90].std() < 30 < stripes.std()
    assert abs(blurred.mean() - 120) < 3
