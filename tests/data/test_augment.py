"""Random shifts: interpolation against a plain reference, ranges, and replay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data import Normalize
from minigrad_nn.data.augment import Compose, RandomShift, shift

WAYS = st.floats(-6, 6)


def reference(x, down, right, fill):
    """Each pixel as the weighted mean of four neighbours, read from an endless frame of `fill`."""
    out = np.empty_like(x)
    height, width = x.shape

    def at(row, column):
        return x[row, column] if 0 <= row < height and 0 <= column < width else fill

    for i in range(height):
        for j in range(width):
            row, column = i - down, j - right
            top, left = int(np.floor(row)), int(np.floor(column))
            a, b = row - top, column - left
            out[i, j] = (
                (1 - a) * (1 - b) * at(top, left) + (1 - a) * b * at(top, left + 1)
                + a * (1 - b) * at(top + 1, left) + a * b * at(top + 1, left + 1)
            )  # fmt: skip
    return out


@given(st.integers(1, 5), st.integers(1, 5), WAYS, WAYS, st.sampled_from([0.0, -2.5]))
def test_shift_is_linear_interpolation(height, width, down, right, fill):
    x = np.random.default_rng(0).normal(size=(2, 3, height, width))
    ways = np.array([[down, 0.0], [right, -1.0]])
    moved = shift(x, *ways, fill)
    for n in range(2):
        for c in range(3):
            expected = reference(x[n, c], *ways[:, n], fill)
            np.testing.assert_allclose(moved[n, c], expected, atol=1e-12)


def test_whole_pixels_move_exactly_and_nothing_moves_by_nothing():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(shift(x, np.zeros(1), np.zeros(1)), x)
    moved = shift(x, np.array([1.0]), np.array([-2.0]), fill=9)
    np.testing.assert_array_equal(moved[0, 0, 1:, :2], x[0, 0, :3, 2:])
    assert (moved[0, 0, 0] == 9).all() and (moved[0, 0, :, 2:] == 9).all()
    assert moved.dtype == np.float32


def test_random_shifts_stay_within_their_range_and_replay():
    x = np.zeros((200, 1, 5, 5), np.float32)
    x[:, :, 2, 2] = 1.0
    labels = np.arange(200)
    moved, same = RandomShift(1.0)((x, labels), Generator(4))
    assert same is labels
    again, _ = RandomShift(1.0)((x, labels), Generator(4))
    np.testing.assert_array_equal(moved, again)
    np.testing.assert_allclose(moved.sum((1, 2, 3)), 1.0, rtol=1e-5)
    ways = np.arange(5) - 2
    down = (moved.sum((1, 3)) * ways).sum(1)
    right = (moved.sum((1, 2)) * ways).sum(1)
    for way in (down, right):
        assert np.abs(way).max() <= 1.0 + 1e-5
        assert abs(way.mean()) < 0.15 and 0.45 < way.std() < 0.7
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.25


def test_compose_gives_each_part_numbers_of_its_own():
    x = np.random.default_rng(1).random((3, 1, 4, 4)).astype(np.float32)
    both = Compose(RandomShift(1.0), RandomShift(1.0), Normalize(0.5, 0.25))
    (once,) = RandomShift(1.0)((x,), Generator(2).fork(0))
    (twice,) = RandomShift(1.0)((once,), Generator(2).fork(1))
    (found,) = both((x,), Generator(2))
    np.testing.assert_array_equal(found, (twice - 0.5) / 0.25)


@pytest.mark.parametrize("pixels", [-1, np.nan, np.inf])
def test_ways_that_cannot_be_are_refused(pixels):
    with pytest.raises(ValueError, match="finite number >= 0"):
        RandomShift(pixels)


def test_what_are_no_pictures_is_refused():
    for x in (np.zeros((2, 4, 4), np.float32), np.zeros((2, 1, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="must be floats"):
            shift(x, np.zeros(2), np.zeros(2))
