import numpy as np
import pytest
import tensorflow as tf

from models import augmentation
from models.settings import Augmentation

augment = tf.function(augmentation.augment)  # as it runs within a data set
SHAPE = (28, 28, 1)
SEED = tf.constant([3, 4], dtype=tf.int64)


@pytest.fixture
def pixels() -> np.ndarray:
    """Bright squares of 8x8 in the middle of dark pictures."""
    images = np.full((64, 28, 28), 40, dtype=np.uint8)
    images[:, 10:18, 10:18] = 200
    return images.reshape(64, 784)


def changed(pixels: np.ndarray, seed: tf.Tensor = SEED, **amounts: float) -> np.ndarray:
    return augment(tf.constant(pixels), SHAPE, Augmentation(**amounts), seed).numpy()


def centers(pixels: np.ndarray) -> np.ndarray:
    light = pixels.reshape(-1, 28, 28).astype(float) - 40
    places = np.arange(28)
    total = light.sum(axis=(1, 2))
    return (
        np.stack([(light.sum(axis=1) * places).sum(axis=1), (light.sum(axis=2) * places).sum(axis=1)], 1)
        / total[:, None]
    )


def test_no_amounts_change_nothing(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(changed(pixels), pixels)


def test_the_same_seed_changes_alike_and_another_does_not(pixels: np.ndarray) -> None:
    amounts = {"rotation": 10.0, "shift": 0.1, "brightness": 0.1}
    np.testing.assert_array_equal(changed(pixels, **amounts), changed(pixels, **amounts))
    assert (changed(pixels, **amounts) != changed(pixels, SEED + 1, **amounts)).any()


def test_every_picture_of_a_batch_is_changed_differently(pixels: np.ndarray) -> None:
    assert len(np.unique(changed(pixels, shift=0.2), axis=0)) > 55


def test_a_shift_moves_both_ways_and_no_further_than_asked(pixels: np.ndarray) -> None:
    moves = centers(changed(pixels, shift=0.1)) - 13.5
    assert np.abs(moves).max() <= 2.8 + 0.1
    assert (moves.min(axis=0) < -1.5).all()
    assert (moves.max(axis=0) > 1.5).all()


def test_a_rotation_keeps_the_middle_where_it_is(pixels: np.ndarray) -> None:
    turned = changed(pixels, rotation=30)
    np.testing.assert_allclose(centers(turned), 13.5, atol=0.15)
    assert (turned != pixels).any(axis=1).mean() > 0.9


def test_a_zoom_changes_the_size_both_ways(pixels: np.ndarray) -> None:
    sizes = (changed(pixels, zoom=0.3) > 120).sum(axis=1)
    assert sizes.min() < 50
    assert sizes.max() > 80


def test_brightness_moves_all_pixels_by_the_same_and_contrast_keeps_the_mean(pixels: np.ndarray) -> None:
    brighter = changed(pixels, brightness=0.1).astype(int) - pixels
    assert (np.ptp(brighter, axis=1) <= 1).all()
    assert np.abs(brighter).max() <= 26
    contrasted = changed(pixels, contrast=0.3).astype(float)
    np.testing.assert_allclose(contrasted.mean(axis=1), pixels.mean(axis=1), atol=0.6)
    assert np.ptp(contrasted, axis=1).min() < 150 < 170 < np.ptp(contrasted, axis=1).max()


def test_a_stretch_makes_some_wider_and_some_higher(pixels: np.ndarray) -> None:
    squares = changed(pixels, stretch=0.25).reshape(-1, 28, 28) > 120
    widths, heights = squares.any(axis=1).sum(axis=1), squares.any(axis=2).sum(axis=1)
    assert widths.min() < 8 < widths.max()
    assert ((widths - 8) * (heights - 8) <= 0).all()


def test_a_flip_mirrors_its_share_of_the_pictures_and_nothing_else(pixels: np.ndarray) -> None:
    images = np.tile(np.arange(28, dtype=np.uint8) * 9, (64, 28, 1)).reshape(64, 784)
    flipped = changed(images, flip=0.5).reshape(64, 28, 28)
    mirrored = (flipped[:, 0, 0] > flipped[:, 0, -1]).mean()
    assert 0.3 < mirrored < 0.7
    originals = images.reshape(64, 28, 28)
    same = [np.abs(f.astype(int) - o).max() <= 1 for f, o in zip(flipped, originals, strict=True)]
    turned = [np.abs(f[:, ::-1].astype(int) - o).max() <= 1 for f, o in zip(flipped, originals, strict=True)]
    assert np.logical_xor(same, turned).all()


def test_erasing_covers_a_rectangle_and_leaves_the_rest(pixels: np.ndarray) -> None:
    flat = np.full((64, 784), 100, dtype=np.uint8)
    covered = (changed(flat, erase=1.0) != 100).reshape(64, 28, 28)
    assert covered.any(axis=(1, 2)).mean() > 0.9
    heights, widths = covered.any(axis=2).sum(axis=1), covered.any(axis=1).sum(axis=1)
    assert max(heights.max(), widths.max()) <= 11
    assert (changed(flat, erase=0.0) == 100).all()


def test_colours_change_channel_by_channel() -> None:
    grey = np.full((64, 300), 100, dtype=np.uint8)
    amounts = Augmentation(color=0.2)
    tinted = augment(tf.constant(grey), (10, 10, 3), amounts, SEED).numpy().reshape(64, 100, 3)
    assert (np.ptp(tinted, axis=1) == 0).all()
    assert np.ptp(tinted[:, 0], axis=1).max() > 15
    assert tinted.min() >= 79
    assert tinted.max() <= 121


def test_another_background_leaves_what_stands_out_from_it(pixels: np.ndarray) -> None:
    other = changed(pixels, background=1.0).reshape(-1, 28, 28).astype(float)
    assert np.abs(other[:, 11:17, 11:17] - 200).max() <= 1
    assert np.ptp(other[:, 2, 2]) > 150
    some = (changed(pixels, background=0.5) != pixels).mean(axis=1) > 0.5
    assert 0.3 < some.mean() < 0.7


def test_a_blur_takes_detail_and_keeps_the_rest() -> None:
    stripes = np.tile(np.array([40, 40, 200, 200], dtype=np.uint8), 112 * 28).reshape(1, -1).repeat(8, axis=0)
    shape = (112, 112, 1)
    blurred = augment(tf.constant(stripes), shape, Augmentation(blur=1.0), SEED).numpy().reshape(8, 112, 112)
    assert blurred[:, 20:90, 20:90].std() < 30 < stripes.std()
    assert abs(blurred.mean() - 120) < 3
