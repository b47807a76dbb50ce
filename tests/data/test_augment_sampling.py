"""The bilinear sampler against a plain loop, and what holds for any sampler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn.data.augment import pixel_grid, sample
from minigrad_nn.data.augment.sampling import BLOCK, MODES

FILLS = st.sampled_from([0.0, -2.5])


def pictures(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def look(x, row, column, fill, mode):
    """One pixel of an endless picture, (H, W), at whole numbers."""
    height, width = x.shape
    if mode == "edge":
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    if mode == "reflect":
        while not 0 <= row < height:
            row = -row if row < 0 else 2 * (height - 1) - row
        while not 0 <= column < width:
            column = -column if column < 0 else 2 * (width - 1) - column
    return x[row, column] if 0 <= row < height and 0 <= column < width else fill


def reference(x, row, column, fill, mode):
    top, left = int(np.floor(row)), int(np.floor(column))
    a, b = row - top, column - left
    return sum(
        p * q * look(x, top + i, left + j, fill, mode)
        for i, p in ((0, 1 - a), (1, a))
        for j, q in ((0, 1 - b), (1, b))
    )


@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 99), FILLS, st.sampled_from(MODES))
def test_sampler_is_the_loop(height, width, seed, fill, mode):
    x = pictures(2, 3, height, width)
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-2 * height, 3 * height, (2, 3, 4))
    columns = rng.uniform(-2 * width, 3 * width, (2, 3, 4))
    found = sample(x, rows, columns, fill, mode)
    assert found.shape == (2, 3, 3, 4)
    for n, c, i, j in np.ndindex(found.shape):
        wanted = reference(x[n, c], rows[n, i, j], columns[n, i, j], fill, mode)
        np.testing.assert_allclose(found[n, c, i, j], wanted, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", MODES)
def test_the_grid_itself_gives_the_picture_bit_for_bit(dtype, mode):
    x = pictures(3, 2, 6, 5, dtype=dtype) * 1e3
    found = sample(x, *pixel_grid(6, 5, dtype), fill=7.0, mode=mode)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)


@given(st.integers(-7, 7), st.integers(-7, 7), FILLS)
def test_whole_pixels_are_a_roll_with_fill(down, right, fill):
    x = pictures(1, 2, 4, 5, dtype=np.float32)
    rows, columns = pixel_grid(4, 5)
    found = sample(x, rows - down, columns - right, fill)
    wide = np.full((1, 2, 4 + 16, 5 + 16), fill, np.float32)
    wide[:, :, 8:12, 8:13] = x
    wanted = np.roll(wide, (down, right), (2, 3))[:, :, 8:12, 8:13]
    np.testing.assert_array_equal(found, wanted)


def test_large_batches_and_large_pictures_are_cut_into_blocks():
    x = pictures(2 * BLOCK // 36 + 3, 1, 6, 6, dtype=np.float32)
    rows, columns = pixel_grid(6, 6)
    np.testing.assert_array_equal(sample(x, rows, columns[..., ::-1]), x[..., ::-1])
    x = pictures(2, 1, BLOCK // 64 + 2, 64, dtype=np.float32)
    rows, columns = pixel_grid(*x.shape[2:])
    np.testing.assert_array_equal(sample(x, rows, columns[..., ::-1]), x[..., ::-1])


def test_far_places_do_no_harm():
    x = pictures(1, 1, 3, 3, dtype=np.float32)
    far = np.array([[[-1e30, 1e30]]])
    assert (sample(x, far, far, fill=2.0) == 2.0).all()
    np.testing.assert_array_equal(
        sample(x, far, far, mode="edge")[0, 0, 0], x[0, 0, [0, -1], [0, -1]]
    )


def test_one_line_alone():
    x = np.array([[[[1.0, 3.0]]]])
    for mode in ("edge", "reflect"):
        found = sample(x, np.full((1, 1, 2), -5.0), np.array([[[0.5, 1.0]]]), mode=mode)
        assert found.tolist() == [[[[2.0, 3.0]]]]


def test_inputs_are_left_alone():
    x, (rows, columns) = pictures(1, 1, 3, 3), pixel_grid(3, 3, np.float64)
    kept = x.copy(), rows.copy(), columns.copy()
    sample(x, rows, columns + 0.5)
    for array, was in zip((x, rows, columns), kept, strict=True):
        np.testing.assert_array_equal(array, was)


def test_no_pictures_give_none():
    assert sample(np.zeros((0, 1, 3, 3)), *pixel_grid(4, 5)).shape == (0, 1, 4, 5)


@pytest.mark.parametrize(
    "x, settings, error, message",
    [
        (np.zeros((1, 1, 2, 2), np.uint8), {}, TypeError, "float32 or float64, got uint8.*/ 255"),
        (np.zeros((1, 1, 2, 2), np.float16), {}, TypeError, "got float16"),
        (np.zeros((1, 2, 2)), {}, ValueError, r"\(N, C, H, W\), got shape \(1, 2, 2\)"),
        (np.zeros((1, 1, 2, 2)), {"mode": "wrap"}, ValueError, "constant, edge, reflect.*'wrap'"),
        (np.zeros((1, 1, 2, 2)), {"fill": np.nan}, ValueError, "fill must be finite"),
        (np.zeros((3, 1, 2, 2)), {"rows": np.zeros((2, 2, 2))}, ValueError, "broadcast|3 pictures"),
        (np.zeros((1, 1, 2, 2)), {"rows": np.zeros((5, 2, 2))}, ValueError, "the 1 pictures"),
        (np.zeros((1, 1, 0, 2)), {}, ValueError, "no pixels"),
    ],
)
def test_wrong_use_is_told(x, settings, error, message):
    rows, columns = pixel_grid(2, 2)
    with pytest.raises(error, match=message):
        sample(x, **({"rows": rows, "columns": columns} | settings))
