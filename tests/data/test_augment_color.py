"""Colours against independent formulas, and mixtures of pictures and labels against theirs."""

import colorsys

import numpy as np
import pytest

from minigrad.random import Generator
from minigrad_nn.data.augment import ColorCast, ColorJitter, Mixup
from minigrad_nn.data.augment.color import (
    brightened,
    contrasted,
    grey,
    saturated,
    turned_hue,
)
from minigrad_nn.data.augment.mix import symmetric_beta

rng = np.random.default_rng(6)
COLOURS = rng.random((3, 3, 4, 5))
COLOURS[0, :, 0] = 0.4  # grey, black and white, and pure colours
COLOURS[0, :, 1, :3] = np.array([[0, 1, 0.5]])
COLOURS[0, :, 2, :3] = np.eye(3)
COLOURS[0, :, 3, :3] = 1 - np.eye(3)


def each(x, f):
    """A function of one pixel's colour, for all pixels."""
    return np.moveaxis(np.apply_along_axis(f, -1, np.moveaxis(x, 1, -1)), -1, 1)


def factor(*values):
    return np.array(values).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.25, 0.5, -0.5, 1 / 3])
def test_hue_is_that_of_colorsys(turn):
    def reference(rgb):
        h, s, v = colorsys.rgb_to_hsv(*rgb)
        return np.array(colorsys.hsv_to_rgb((h + turn) % 1.0, s, v))

    found = turned_hue(COLOURS, factor(turn, turn, turn))
    np.testing.assert_allclose(found, each(COLOURS, reference), atol=1e-12)


def test_brightness_contrast_and_saturation_are_their_formulas():
    f = factor(0.5, 1.0, 1.8)
    own = each(COLOURS, lambda rgb: np.full(3, 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]))
    mean = own.mean((1, 2, 3), keepdims=True)
    for found, wanted in (
        (brightened(COLOURS, f), f * COLOURS),
        (contrasted(COLOURS, f), mean + f * (COLOURS - mean)),
        (saturated(COLOURS, f), own + f * (COLOURS - own)),
    ):
        np.testing.assert_allclose(found, np.minimum(np.maximum(wanted, 0), 1), atol=1e-12)
        np.testing.assert_allclose(found[1], COLOURS[1], atol=1e-15)
    np.testing.assert_array_equal(grey(COLOURS[:, :1]), COLOURS[:, :1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jitter_of_nothing_changes_no_bit(dtype):
    x = COLOURS.astype(dtype)
    found, labels = ColorJitter()((x, "labels"), Generator(0))
    np.testing.assert_array_equal(found, x)
    assert found.dtype == dtype and labels == "labels"


def test_jitter_draws_each_factor_of_each_picture():
    x = np.full((2000, 1, 1, 2), 0.5, np.float32)
    x[..., 0] = 0.25
    (bright,) = ColorJitter(brightness=0.4)((x,), Generator(0))
    f = bright[:, 0, 0, 0] / 0.25
    np.testing.assert_allclose(bright[:, 0, 0, 1] / 0.5, f, rtol=1e-5)
    assert 0.6 <= f.min() < 0.61 and 1.39 < f.max() <= 1.4 + 1e-6 and abs(f.mean() - 1) < 0.02
    (contrast,) = ColorJitter(contrast=(0.0, 2.0))((x,), Generator(0))
    f = np.diff(contrast[:, 0, 0])[:, 0] / 0.25
    assert 0 <= f.min() < 0.02 and 1.98 < f.max() <= 2 + 1e-5
    (again,) = ColorJitter(brightness=0.4)((x,), Generator(0))
    np.testing.assert_array_equal(bright, again)

    red = np.zeros((2000, 3, 1, 1))
    red[:, 0] = 1.0
    (turned,) = ColorJitter(hue=0.1)((red,), Generator(0))
    hues = np.array([colorsys.rgb_to_hsv(*p[:, 0, 0])[0] for p in turned])
    hues = (hues + 0.5) % 1 - 0.5
    assert -0.1 <= hues.min() < -0.098 and 0.098 < hues.max() <= 0.1 + 1e-9


def test_jitter_does_its_four_steps_in_order():
    (found,) = ColorJitter(0.5, 0.4, 0.3, 0.2)((COLOURS,), Generator(7))
    draws = Generator(7).random((4, 3, 1, 1, 1), dtype=np.float64)
    wanted = COLOURS
    steps = ((brightened, 0.5, 1), (contrasted, 0.4, 1), (saturated, 0.3, 1), (turned_hue, 0.2, 0))
    for draw, (step, width, centre) in zip(draws, steps, strict=True):
        wanted = step(wanted, centre + width * (2 * draw - 1))
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert found.min() >= 0 and found.max() <= 1


def test_a_negative_factor_is_cut_off():
    assert ColorJitter(brightness=3.0).brightness == (0.0, 4.0)


@pytest.mark.parametrize(
    "x, settings, error, message",
    [
        (np.zeros((1, 1, 2, 2)), {"hue": 0.1}, ValueError, "no saturation and no hue"),
        (np.zeros((1, 4, 2, 2)), {"brightness": 1}, ValueError, r"or \(N, 1, H, W\), got shape"),
        (np.full((1, 3, 2, 2), 1.5), {"hue": 0.1}, ValueError, "1.5 to 1.5; normalise them after"),
        (np.full((1, 3, 2, 2), np.nan), {}, ValueError, r"within \[0, 1\]"),
        (np.zeros((1, 3, 2, 2), np.uint8), {}, TypeError, "uint8"),
    ],
)
def test_pictures_without_such_colours_are_refused(x, settings, error, message):
    with pytest.raises(error, match=message):
        ColorJitter(**settings)((x,), Generator(0))


def test_a_cast_is_one_colour_for_a_whole_picture():
    x = rng.random((3000, 2, 3, 3)).astype(np.float32)
    found, labels = ColorCast(0.3)((x, "labels"), Generator(1))
    added = found - x
    assert labels == "labels" and found.dtype == np.float32
    np.testing.assert_allclose(added, np.broadcast_to(added[..., :1, :1], x.shape), atol=1e-6)
    colours = added[..., 0, 0]
    assert np.abs(colours.mean(0)).max() < 0.02 and np.abs(colours.std(0) - 0.3).max() < 0.02
    assert abs(np.corrcoef(colours.T)[0, 1]) < 0.05
    np.testing.assert_array_equal(ColorCast(0.3)((x,), Generator(1))[0], found)
    np.testing.assert_array_equal(ColorCast(0.0)((x,), Generator(1))[0], x)


def test_the_lighting_of_alexnet():
    pixels = rng.normal(size=(4, 3, 10, 10)) * np.array([1.0, 0.3, 0.1]).reshape(3, 1, 1)
    mixed = np.einsum("ij,njhw->nihw", rng.normal(size=(3, 3)), pixels)
    cast = ColorCast.of(mixed, std=0.1)
    flat = np.moveaxis(mixed, 1, -1).reshape(-1, 3)
    covariance = np.cov(flat.T)
    lengths = np.linalg.norm(cast.directions, axis=0)  # eigenvalues, the largest first
    np.testing.assert_allclose(
        covariance @ cast.directions, cast.directions * lengths, rtol=1e-9, atol=1e-12
    )
    assert (np.diff(lengths) < 0).all()
    (found,) = cast((mixed,), Generator(3))
    a = Generator(3).normal((4, 3), 0.0, 0.1, dtype=np.float64)
    wanted = mixed + (a @ cast.directions.T)[:, :, None, None]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_wrong_casts_are_refused():
    with pytest.raises(ValueError, match="std"):
        ColorCast(-1)
    with pytest.raises(ValueError, match=r"directions must be \(channels, k\)"):
        ColorCast(0.1, [1.0])
    with pytest.raises(ValueError, match="2 channels, the pictures are"):
        ColorCast(0.1, np.eye(2))((COLOURS,), Generator(0))
    with pytest.raises(ValueError, match="no colours vary"):
        ColorCast.of(np.zeros((1, 3, 1, 1)))


# --- mixup ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mixtures_are_the_formula(dtype):
    x, labels = rng.random((6, 2, 3, 3)).astype(dtype), np.array([0, 1, 2, 3, 1, 0])
    found, targets = Mixup(0.7, classes=4)((x, labels), Generator(2))
    generator = Generator(2)
    partner = generator.permutation(6)
    share = symmetric_beta(0.7, 6, generator)
    for n in range(6):
        wanted = share[n] * x[n] + (1 - share[n]) * x[partner[n]]
        np.testing.assert_allclose(found[n], wanted, atol=1e-6)
        wanted = share[n] * np.eye(4)[labels[n]] + (1 - share[n]) * np.eye(4)[labels[partner[n]]]
        np.testing.assert_allclose(targets[n], wanted, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1.0, atol=1e-6)
    assert found.dtype == targets.dtype == dtype
    again = Mixup(0.7, classes=4)((x, labels), Generator(2))
    np.testing.assert_array_equal(found, again[0])
    np.testing.assert_array_equal(targets, again[1])


def test_mixtures_of_mixtures():
    x, labels = rng.random((6, 1, 2, 2)), np.array([0, 1, 2, 3, 1, 0])
    once = Mixup(1.0, 4)((x, labels), Generator(0))
    _, targets = Mixup(1.0, 4)(once, Generator(1))
    np.testing.assert_allclose(targets.sum(1), 1.0)
    assert ((targets > 0).sum(1) > 2).any()


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 3.0, 50.0])
def test_shares_are_those_of_the_beta_distribution(alpha):
    count = 40_000
    share = symmetric_beta(alpha, count, Generator(0))
    wanted = np.random.default_rng(1).beta(alpha, alpha, count)
    assert share.min() >= 0 and share.max() <= 1
    # Both are rounded where they are next to 0 or 1, ours more.
    share, wanted = np.round(share, 9), np.round(wanted, 9)
    # Kolmogorov and Smirnov: two samples of this size differ so much once in a million.
    places = np.sort(np.concatenate([share, wanted]))
    apart = np.searchsorted(np.sort(share), places, "right") - np.searchsorted(
        np.sort(wanted), places, "right"
    )
    assert np.abs(apart).max() / count < 2.7 * np.sqrt(2 / count)
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_extreme_alphas_give_numbers():
    assert np.isin(symmetric_beta(1e-300, 100, Generator(0)), [0.0, 1.0]).all()
    np.testing.assert_allclose(symmetric_beta(1e12, 100, Generator(0)), 0.5, atol=1e-5)


@pytest.mark.parametrize(
    "batch, error, message",
    [
        ((COLOURS, np.array([0, 1, 9])), ValueError, "labels must be from 0 to 3, got 0 to 9"),
        ((COLOURS, np.array([0, 1])), TypeError, r"class numbers \(3,\) or probabilities \(3, 4\)"),
        ((COLOURS, np.zeros((3, 5))), TypeError, r"got float64 of shape \(3, 5\)"),
        ((COLOURS,), ValueError, "pictures and labels, got 1 arrays"),
        ((COLOURS.astype(np.uint8), np.zeros(3, int)), TypeError, "Mixup.*uint8"),
    ],
)
def test_what_cannot_be_mixed_is_refused(batch, error, message):
    with pytest.raises(error, match=message):
        Mixup(0.2, 4)(batch, Generator(0))


@pytest.mark.parametrize("alpha", [0, -1, np.inf, np.nan])
def test_wrong_alphas_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        Mixup(alpha, 4)
    with pytest.raises(ValueError, match="classes"):
        Mixup(1.0, 0)
