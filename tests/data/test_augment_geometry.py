"""Rotation, shear, scale, elastic and lens: identities, known cases, plain loops, and replay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.random import Generator
from minigrad_nn.data.augment import (
    Distortions,
    ElasticDistortion,
    Geometric,
    LensDistortion,
    RandomAffine,
    pixel_grid,
    sample,
    shift,
)
from minigrad_nn.data.augment.geometry import affine_places, gaussian_matrix

LABELS = np.arange(4)


def pictures(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def affine(x, turn=0.0, grow=1.0, lean=0.0, rise=0.0, right=0.0, down=0.0, fill=0.0):
    """One affine change of all pictures, with settings that are known."""
    settings = [np.full(len(x), value) for value in (turn, grow, lean, rise, right, down)]
    grid = pixel_grid(*x.shape[2:], x.dtype)
    return sample(x, *affine_places(*grid, x.shape[2:], *settings), fill)


ALL = [
    RandomAffine(20, (0.1, 0.2), (0.8, 1.2), (-5, 5, -3, 3), fill=0.5),
    ElasticDistortion(8.0, 2.0),
    LensDistortion(0.3, mode="edge"),
    Distortions(RandomAffine(10), ElasticDistortion(5, 2), LensDistortion(), mode="reflect"),
]
NOTHING = [
    RandomAffine(),
    ElasticDistortion(alpha=0.0),
    LensDistortion(0.0),
    Distortions(),
    Distortions(RandomAffine(), ElasticDistortion(0.0), LensDistortion((0, 0))),
]


@pytest.mark.parametrize("change", NOTHING, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(7, 7), (6, 9)])
def test_settings_that_change_nothing_change_no_bit(change, dtype, size):
    x = pictures(4, 2, *size, dtype=dtype)
    found, labels = change((x, LABELS), Generator(0))
    np.testing.assert_array_equal(found, x)
    assert found.dtype == dtype and labels is LABELS


@pytest.mark.parametrize("change", ALL, ids=repr)
def test_the_same_numbers_give_the_same_bits_and_labels_pass(change):
    x = pictures(4, 2, 8, 6)
    kept = x.copy()
    first, labels = change((x, LABELS), Generator(3))
    again, _ = change((x, LABELS), Generator(3))
    other, _ = change((x, LABELS), Generator(4))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(x, kept)
    assert labels is LABELS and first.shape == x.shape and first.dtype == x.dtype
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("change", ALL, ids=repr)
def test_each_picture_has_numbers_of_its_own_and_channels_share_them(change):
    one = pictures(1, 1, 8, 6)
    x = np.broadcast_to(one, (5, 2, 8, 6)).copy()
    (found,) = change((x,), Generator(1))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    for n in range(1, 5):
        assert not np.array_equal(found[0], found[n])


@pytest.mark.parametrize("change", ALL, ids=repr)
def test_bytes_are_refused(change):
    with pytest.raises(TypeError, match=f"{type(change).__name__}.*uint8.*/ 255"):
        change((np.zeros((1, 1, 4, 4), np.uint8),), Generator(0))


@pytest.mark.parametrize("quarters", range(-3, 6))
def test_a_quarter_turn_is_rot90(quarters):
    x = pictures(2, 3, 7, 7)
    wanted = np.rot90(x, quarters, axes=(2, 3))
    np.testing.assert_allclose(affine(x, turn=90.0 * quarters), wanted, atol=1e-5)


def test_moves_are_shifts_and_go_right_and_down():
    x = pictures(2, 1, 6, 5, dtype=np.float64)
    for right, down in ((2.0, 0.0), (-1.0, 3.0), (0.25, -1.5)):
        wanted = shift(x, np.full(2, down), np.full(2, right), fill=3.0)
        found = affine(x, right=right, down=down, fill=3.0)
        np.testing.assert_allclose(found, wanted, atol=1e-12)
        if right == int(right):
            np.testing.assert_array_equal(found, wanted)


def test_scale_enlarges_about_the_centre():
    x = np.zeros((1, 1, 5, 5))
    x[0, 0, 2, 3] = 1.0
    found = affine(x, grow=2.0)
    assert found[0, 0, 2, 4] == 1.0 and found[0, 0, 2, 3] == 0.5 and found[0, 0, 2, 2] == 0.0


@given(
    st.floats(-180, 180), st.floats(0.5, 2), st.floats(-40, 40), st.floats(-40, 40),
    st.floats(-3, 3), st.floats(-3, 3),
)  # fmt: skip
def test_a_point_goes_where_the_matrices_say(turn, grow, lean, rise, right, down):
    size = (9, 12)
    a, b, c = (np.radians(v) for v in (turn, lean, rise))
    # Columns to the right, rows down: a turn against the clock has its sine below the diagonal
    # negative.
    rotation = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    along = np.array([[1.0, -np.tan(b)], [0.0, 1.0]])
    across = np.array([[1.0, 0.0], [-np.tan(c), 1.0]])
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    points = np.random.default_rng(0).uniform(-10, 20, (5, 2))  # (x, y)
    gone = (points - centre) @ (rotation @ across @ along * grow).T + centre + (right, down)
    settings = [np.array([v]) for v in (turn, grow, lean, rise, right, down)]
    rows, columns = affine_places(gone[None, :, 1:], gone[None, :, :1], size, *settings)
    np.testing.assert_allclose(columns[0, :, 0], points[:, 0], atol=1e-8)
    np.testing.assert_allclose(rows[0, :, 0], points[:, 1], atol=1e-8)


def moments(x):
    """Weight, centre and spread of positive pictures: (N,) and (N, 2) rows and columns."""
    x = x[:, 0].astype(np.float64)
    weight = x.sum((1, 2))
    ways = [np.arange(size) - (size - 1) / 2 for size in x.shape[1:]]
    rows = (x.sum(2) * ways[0]).sum(1) / weight
    columns = (x.sum(1) * ways[1]).sum(1) / weight
    return weight, rows, columns


def test_affine_ranges_are_kept_and_filled():
    dot = np.zeros((400, 1, 41, 61), np.float32)
    dot[:, :, 20, 30] = 1.0
    (moved,) = RandomAffine(translate=(0.1, 0.2))((dot,), Generator(0))
    _, down, right = moments(moved)
    assert np.abs(right).max() <= 6.1 + 1e-4 and right.max() > 5.9 and right.min() < -5.9
    assert np.abs(down).max() <= 8.2 + 1e-4 and down.max() > 7.8 and down.min() < -7.8
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.15

    arm = np.zeros((400, 1, 41, 41), np.float32)
    arm[:, :, 20, 32] = 1.0
    (turned,) = RandomAffine((10, 40))((arm,), Generator(0))
    _, down, right = moments(turned)
    angle = np.degrees(np.arctan2(-down, right))
    assert 9.5 < angle.min() < 12 and 38 < angle.max() < 40.5

    (scaled,) = RandomAffine(scale=(0.5, 1.5))((arm,), Generator(0))
    weight, _, right = moments(scaled)
    kept = weight > 1e-3  # what is shrunk can fall between the pixels
    assert 5.5 < right[kept].min() < 7 and 17 < right[kept].max() < 18.5


def blurred(field, sigma):
    """A plain loop: the Gaussian mean around each place, with zeros outside."""
    reach = int(np.ceil(6 * sigma))
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    out = np.zeros_like(field)
    for i, j in np.ndindex(field.shape):
        for k, a in zip(steps, weights, strict=True):
            for m, b in zip(steps, weights, strict=True):
                if 0 <= i + k < field.shape[0] and 0 <= j + m < field.shape[1]:
                    out[i, j] += a * b * field[i + k, j + m]
    return out


def test_the_elastic_field_is_blurred_noise():
    change = ElasticDistortion(alpha=10.0, sigma=0.8)
    rows, columns = pixel_grid(6, 5, np.float64)
    found = change.places(rows, columns, (2, 1, 6, 5), Generator(5))
    noise = Generator(5).uniform((2, 2, 6, 5), -1.0, 1.0, dtype=np.float64)
    for place, grid, field in zip(found, (rows, columns), noise, strict=True):
        for n in range(2):
            wanted = np.broadcast_to(grid[0], (6, 5)) + 10.0 * blurred(field[n], 0.8)
            np.testing.assert_allclose(place[n], wanted, atol=1e-7)


def test_elastic_moves_are_as_large_as_documented():
    rows, columns = pixel_grid(28, 28)
    found = ElasticDistortion().places(rows, columns, (500, 1, 28, 28), Generator(0))
    moves = np.stack([found[0] - rows, found[1] - columns])
    inner = moves[..., 10:18, 10:18]
    assert 1.3 < inner.std() < 1.45 and abs(inner.mean()) < 0.05
    # Neighbours move alike: a Gaussian blur of sigma 4 leaves exp(-1/64) of correlation.
    pairs = np.corrcoef(inner[..., :-1].ravel(), inner[..., 1:].ravel())[0, 1]
    assert abs(pairs - np.exp(-1 / 64)) < 0.01


def test_a_blur_far_from_the_edges_keeps_the_mean():
    matrix = gaussian_matrix(60, 3.0)
    np.testing.assert_allclose(matrix[25:35].sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(matrix, matrix.T)


@pytest.mark.parametrize("k", [-0.3, 0.25, 1.0])
def test_a_lens_looks_where_the_formula_says(k):
    size, centre = (5, 8), np.array([2.0, 3.5])
    rows, columns = pixel_grid(*size, np.float64)
    found = LensDistortion((k, k)).places(rows, columns, (1, 1, *size), Generator(0))
    for i, j in np.ndindex(size):
        away = np.array([i, j]) - centre
        r2 = (away @ away) / (centre @ centre)
        wanted = centre + away * (1 + k * r2)
        np.testing.assert_allclose([found[0][0, i, j], found[1][0, i, j]], wanted, atol=1e-12)


def test_a_lens_keeps_the_centre_and_bends_corners_by_its_strength():
    rows, columns = pixel_grid(5, 5, np.float64)
    rows, columns = LensDistortion((-0.3, 0.4)).places(rows, columns, (300, 1, 5, 5), Generator(0))
    assert (rows[:, 2, 2] == 2).all() and (columns[:, 2, 2] == 2).all()
    k = (rows[:, 4, 4] - 2) / 2 - 1
    assert -0.3 <= k.min() < -0.28 and 0.38 < k.max() <= 0.4
    single = LensDistortion(0.3)((np.ones((2, 1, 1, 1)),), Generator(0))[0]
    np.testing.assert_array_equal(single, 1.0)


def test_distortions_are_one_look_through_all_parts():
    # Affine maps of affine maps are exact, so the two ways differ by interpolation only: none,
    # for whole turns and moves.
    x = pictures(3, 1, 6, 6)

    class Fixed(Geometric):
        def __init__(self, **settings):
            super().__init__()
            self.settings = settings

        def places(self, rows, columns, shape, generator):
            names = ("turn", "grow", "lean", "rise", "right", "down")
            given = {"grow": 1.0} | self.settings
            values = [np.full(shape[0], given.get(name, 0.0)) for name in names]
            return affine_places(rows, columns, shape[2:], *values)

    turn, move = Fixed(turn=90.0), Fixed(right=2.0, down=-1.0)
    (together,) = Distortions(turn, move)((x,), Generator(0))
    np.testing.assert_allclose(
        together, affine(affine(x, turn=90.0), right=2.0, down=-1.0), atol=1e-5
    )
    (other,) = Distortions(move, turn)((x,), Generator(0))
    np.testing.assert_allclose(other, affine(affine(x, right=2.0, down=-1.0), turn=90.0), atol=1e-5)
    assert np.abs(together - other).max() > 0.1


def test_a_single_part_is_that_part_on_its_fork():
    x = pictures(3, 1, 6, 6)
    part = ElasticDistortion(5.0, 2.0)
    (alone,) = part((x,), Generator(9).fork(0))
    (found,) = Distortions(part)((x,), Generator(9))
    np.testing.assert_array_equal(found, alone)


def test_a_batch_of_none():
    for change in ALL:
        assert change((np.zeros((0, 1, 4, 4), np.float32),), Generator(0))[0].shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomAffine(-1), "degrees must be two numbers.*or one >= 0.*-1"),
        (lambda: RandomAffine((5, -5)), "degrees"),
        (lambda: RandomAffine(np.inf), "degrees must be finite"),
        (lambda: RandomAffine(translate=(0.1, 1.5)), r"translate must be two shares in \[0, 1\]"),
        (lambda: RandomAffine(scale=(0.0, 1.0)), "scale must be above 0"),
        (lambda: RandomAffine(scale=(2, 1)), "scale must be two numbers, the smaller first"),
        (lambda: RandomAffine(shear=90), "shear"),
        (lambda: RandomAffine(shear=(0, 1, 2)), "shear"),
        (lambda: RandomAffine(mode="wrap"), "RandomAffine: mode must be one of constant"),
        (lambda: ElasticDistortion(alpha=-1), "alpha"),
        (lambda: ElasticDistortion(sigma=0), "sigma"),
        (lambda: LensDistortion(0.5), "above -1/3"),
        (lambda: LensDistortion((-2, 0)), r"within \[-1.0, 1.0\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_ranges_may_be_any_sequence():
    change = RandomAffine(np.float32(5), scale=np.array([0.5, 2]), shear=[-1, 2])
    assert (change.degrees, change.scale) == ((-5.0, 5.0), (0.5, 2.0))
    assert change.shear == (-1.0, 2.0, 0.0, 0.0)
    assert RandomAffine(shear=(1, 2, 3, 4)).shear == (1.0, 2.0, 3.0, 4.0)


def test_what_is_no_distortion_is_refused():
    with pytest.raises(TypeError, match="no geometric distortion; Compose"):
        Distortions(lambda batch, generator: batch)
    with pytest.raises(NotImplementedError, match="Geometric does not define places"):
        Geometric()((np.zeros((1, 1, 2, 2)),), Generator(0))
