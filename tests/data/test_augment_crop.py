"""Mirrors, windows, other sizes and covered boxes: which pixels they take, and how often."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data.augment import (
    CenterCrop,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    resize,
)
from minigrad_nn.data.augment.boxes import draw_boxes

LABELS = np.arange(5)


def pictures(*shape, dtype=np.float32):
    return (np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) % 251).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_mirror_twice_is_nothing(dtype):
    x = pictures(5, 3, 4, 6, dtype=dtype)
    mirror = RandomHorizontalFlip(1.0)
    once, labels = mirror((x, LABELS), Generator(0))
    np.testing.assert_array_equal(once, x[..., ::-1])
    twice, _ = mirror((once, labels), Generator(1))
    np.testing.assert_array_equal(twice, x)
    assert twice.dtype == dtype and labels is LABELS
    np.testing.assert_array_equal(RandomHorizontalFlip(0.0)((x,), Generator(0))[0], x)


def test_a_mirror_is_drawn_for_each_picture():
    x = np.tile(pictures(1, 2, 3, 3), (1000, 1, 1, 1))
    (found,) = RandomHorizontalFlip(0.3)((x,), Generator(0))
    turned = (found == x[..., ::-1]).all((1, 2, 3))
    assert (turned | (found == x).all((1, 2, 3))).all()
    assert 0.25 < turned.mean() < 0.35
    assert 0.3 < np.mean(turned[1:] != turned[:-1]) < 0.5
    (again,) = RandomHorizontalFlip(0.3)((x,), Generator(0))
    np.testing.assert_array_equal(found, again)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.sampled_from(["constant", "edge", "reflect"]),
    st.integers(0, 99),
)
def test_windows_come_out_of_the_framed_picture(size, padding, mode, seed):
    x = pictures(5, 2, 4, 5, dtype=np.uint8)
    change = RandomCrop(size, padding, mode, fill=7)
    framed = np.pad(
        x,
        ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2),
        mode,
        **({"constant_values": 7} if mode == "constant" else {}),
    )
    if size[0] > framed.shape[2] or size[1] > framed.shape[3]:
        with pytest.raises(ValueError, match="do not fit"):
            change((x,), Generator(seed))
        return
    found, labels = change((x, LABELS), Generator(seed))
    assert labels is LABELS and found.shape == (5, 2, *size) and found.dtype == np.uint8
    windows = np.lib.stride_tricks.sliding_window_view(framed, size, axis=(2, 3))
    for n in range(5):
        same = (windows[n] == found[n][:, None, None]).all((0, 3, 4))
        assert same.any()


def test_every_window_is_equally_likely_and_no_frame_is_no_change():
    x = np.broadcast_to(np.arange(12.0).reshape(1, 1, 3, 4), (6000, 1, 3, 4))
    (found,) = RandomCrop((2, 2))((x,), Generator(0))
    counts = np.bincount(found[:, 0, 0, 0].astype(int), minlength=12).reshape(3, 4)
    assert (counts[2] == 0).all() and (counts[:, 3] == 0).all()
    assert (np.abs(counts[:2, :3] - 1000) < 120).all()
    np.testing.assert_array_equal(RandomCrop((3, 4))((x,), Generator(0))[0], x)


def test_the_middle():
    x = pictures(5, 3, 6, 7)
    found, labels = CenterCrop((2, 4))((x, LABELS))
    np.testing.assert_array_equal(found, x[:, :, 2:4, 1:5])
    assert labels is LABELS
    np.testing.assert_array_equal(CenterCrop((6, 7))((x,))[0], x)
    with pytest.raises(ValueError, match="7x7 do not fit into pictures of 6x7"):
        CenterCrop(7)((x,))


# --- other sizes ------------------------------------------------------------------------------


def resized(line, size, antialias):
    """One line by a plain loop: the mean under a triangle around each new centre."""
    step, out = len(line) / size, []
    for i in range(size):
        centre = (i + 0.5) * step
        if not antialias:
            at = min(max(centre - 0.5, 0.0), len(line) - 1)
            first = min(int(at), max(len(line) - 2, 0))
            last = min(first + 1, len(line) - 1)
            out.append(line[first] + (at - first) * (line[last] - line[first]))
            continue
        reach = max(step, 1.0)
        weights = [max(0.0, 1.0 - abs(j + 0.5 - centre) / reach) for j in range(len(line))]
        out.append(sum(w * v for w, v in zip(weights, line, strict=True)) / sum(weights))
    return np.array(out)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_resize_is_the_loop_along_both_axes(height, width, rows, columns, antialias):
    x = pictures(2, 2, height, width, dtype=np.float64)
    found, labels = Resize((rows, columns), antialias)((x, LABELS))
    wanted = np.apply_along_axis(resized, 2, x, rows, antialias)
    wanted = np.apply_along_axis(resized, 3, wanted, columns, antialias)
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    assert labels is LABELS


@pytest.mark.parametrize("antialias", [False, True])
def test_the_same_size_changes_no_bit(antialias):
    x = pictures(3, 2, 5, 8)
    np.testing.assert_array_equal(resize(x, (5, 8), antialias), x)
    whole = RandomResizedCrop((5, 8), (1, 1), (8 / 5, 8 / 5), antialias)
    np.testing.assert_array_equal(whole((x,), Generator(0))[0], x)


def test_a_fine_pattern_becomes_grey_only_with_antialias():
    x = np.tile(np.array([0.0, 0.0, 1.0, 1.0], np.float32), 8).reshape(1, 1, 1, 32)
    assert np.ptp(resize(x, (1, 8))) < 0.2
    coarse = resize(np.roll(x, 1), (1, 8), antialias=False)
    assert np.ptp(resize(x, (1, 10), antialias=False)) > 0.9 and coarse.dtype == np.float32


def test_random_windows_are_those_of_their_table():
    x = np.random.default_rng(0).normal(size=(6, 2, 9, 11))
    change = RandomResizedCrop((4, 5), (0.1, 0.9), (0.5, 2.0))
    (found,) = change((x,), Generator(2))
    table = change.windows(6, (9, 11), Generator(2))
    for n, (top, left, tall, wide) in enumerate(zip(*table, strict=True)):
        assert 0 <= top <= 9 - tall and 0 <= left <= 11 - wide
        window = x[n : n + 1, :, top : top + tall, left : left + wide]
        np.testing.assert_allclose(found[n : n + 1], resize(window, (4, 5)), atol=1e-12)
    (again,) = change((x,), Generator(2))
    np.testing.assert_array_equal(found, again)


def test_windows_keep_their_ranges_of_area_and_shape():
    top, left, tall, wide = RandomResizedCrop(8, (0.2, 0.6), (0.5, 2)).windows(
        4000, (100, 120), Generator(0)
    )
    area, shape = tall * wide / 12000, wide / tall
    assert 0.19 < area.min() < 0.21 and 0.59 < area.max() < 0.61
    assert 0.48 < shape.min() < 0.53 and 1.9 < shape.max() < 2.08
    assert abs(area.mean() - 0.4) < 0.01 and abs(np.log(shape).mean()) < 0.05
    assert top.min() == 0 and left.min() == 0 and (top + tall).max() == 100
    assert (left + wide).max() == 120


def test_windows_that_never_fit_are_the_middle():
    top, left, tall, wide = RandomResizedCrop(4, (1, 1), (1, 1)).windows(3, (6, 11), Generator(0))
    assert (tall == 6).all() and (wide == 6).all() and (top == 0).all() and (left == 2).all()
    top, left, tall, wide = RandomResizedCrop(4, (1, 1), (4, 4)).windows(3, (6, 6), Generator(0))
    assert (tall == 2).all() and (wide == 6).all() and (top == 2).all() and (left == 0).all()


# --- covered boxes ----------------------------------------------------------------------------


def test_boxes_are_covered_and_nothing_else():
    x = np.random.default_rng(0).normal(size=(500, 2, 20, 30)).astype(np.float32)
    found, labels = RandomErasing(0.7, (0.05, 0.3), (0.5, 2.0), value=9.0)((x, x), Generator(0))
    assert labels is x
    covered = found == 9.0
    np.testing.assert_array_equal(found[~covered], x[~covered])
    np.testing.assert_array_equal(covered[:, 0], covered[:, 1])
    any_ = covered.any((1, 2, 3))
    assert 0.63 < any_.mean() < 0.77
    rows, columns = covered[any_, 0].any(2), covered[any_, 0].any(1)
    np.testing.assert_array_equal(covered[any_, 0], rows[:, :, None] & columns[:, None, :])
    for lines in (rows, columns):  # in one piece
        assert (np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(int)) == 1).sum(1).max() == 1
    area = (rows.sum(1) * columns.sum(1)) / 600
    assert 0.04 < area.min() < 0.07 and 0.28 < area.max() < 0.32
    assert 0.16 < area.mean() < 0.19
    assert rows[:, 0].any() and rows[:, -1].any() and columns[:, 0].any() and columns[:, -1].any()
    (again,) = RandomErasing(0.7, (0.05, 0.3), (0.5, 2.0), value=9.0)((x,), Generator(0))
    np.testing.assert_array_equal(found, again)


def test_erasing_with_noise_with_bytes_and_not_at_all():
    x = np.full((50, 3, 12, 12), 5.0, np.float32)
    (noisy,) = RandomErasing(1.0, (0.5, 0.5), (1, 1), "random")((x,), Generator(0))
    noise = noisy[noisy != 5.0]
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    assert len(np.unique(noise)) > 0.9 * len(noise)
    (bytes_,) = RandomErasing(1.0, value=255)((x.astype(np.uint8),), Generator(0))
    assert bytes_.dtype == np.uint8 and set(np.unique(bytes_)) == {5, 255}
    np.testing.assert_array_equal(RandomErasing(0.0)((x,), Generator(0))[0], x)
    np.testing.assert_array_equal(RandomErasing(1.0, (0, 0))((x,), Generator(0))[0], x)
    with pytest.raises(TypeError, match="RandomErasing.*uint8"):
        RandomErasing(value="random")((x.astype(np.uint8),), Generator(0))


def test_boxes_are_the_first_attempt_that_fits():
    tall, wide, fits = draw_boxes(200, (10, 30), (0.4, 1.0), (0.5, 4.0), Generator(0))
    draws = Generator(0).random((2, 10, 200), dtype=np.float64)
    first_alone = 0
    for n in range(200):
        found = None
        for attempt, (share, place) in enumerate(draws[:, :, n].T):
            area = 300 * (0.4 + 0.6 * share)
            shape = 0.5 * 8.0**place
            box = round((area / shape) ** 0.5), round((area * shape) ** 0.5)
            if box[0] <= 10 and box[1] <= 30:
                first_alone += attempt == 0
                found = box
                break
        assert fits[n] == (found is not None)
        assert found is None or found == (tall[n], wide[n])
    assert 20 < first_alone < fits.sum() - 20
    _, _, fits = draw_boxes(50, (10, 40), (1.0, 1.0), (1.0, 1.0), Generator(0))
    assert not fits.any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomHorizontalFlip(1.5), r"p must be in \[0, 1\], got 1.5"),
        (lambda: RandomCrop(0), "size must be at least 1"),
        (lambda: RandomCrop(4, -1), "padding must be at least 0"),
        (lambda: RandomCrop((4, 4, 4)), "one or two whole numbers"),
        (lambda: RandomCrop(2.5), "one or two whole numbers, got 2.5"),
        (lambda: RandomCrop(4, mode="wrap"), "mode must be one of constant"),
        (lambda: CenterCrop(0), "CenterCrop: size"),
        (lambda: Resize(0), "Resize: size"),
        (lambda: RandomResizedCrop(4, (0, 1)), "above 0"),
        (lambda: RandomResizedCrop(4, (0.5, 1.5)), r"scale must be .* within \[0.0, 1.0\]"),
        (lambda: RandomResizedCrop(4, ratio=(2, 1)), "ratio must be two numbers"),
        (lambda: RandomErasing(-0.1), "p must be"),
        (lambda: RandomErasing(ratio=(0, 1)), "ratio must be above 0"),
        (lambda: RandomErasing(value="noise"), 'a number or "random"'),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("change", [RandomHorizontalFlip(), RandomCrop(2), CenterCrop(2)])
def test_what_are_no_pictures_is_refused(change):
    with pytest.raises(ValueError, match=rf"{type(change).__name__}.*\(N, C, H, W\).*x\[:, None\]"):
        change((np.zeros((3, 4, 4)),), Generator(0))


@pytest.mark.parametrize("change", [Resize(2), RandomResizedCrop(2)])
def test_bytes_are_refused_where_pixels_are_mixed(change):
    with pytest.raises(TypeError, match=f"{type(change).__name__}.*uint8"):
        change((np.zeros((3, 1, 4, 4), np.uint8),), Generator(0))
    with pytest.raises(ValueError, match="no pixels"):
        resize(np.zeros((1, 1, 0, 4)), 2)
