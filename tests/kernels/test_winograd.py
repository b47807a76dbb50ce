"""Winograd's convolution: exact in rationals, close in floats, otherwise like other rows."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry
from minigrad_nn.kernels.cpu import toom, winograd
from minigrad_nn.kernels.cpu.convolution import TABLE, choose
from tests.kernels import reference

KERNELS = ("conv", "conv_input", "conv_weight")
ROW = {name: next(r for r in TABLE[name] if r.name == "winograd") for name in KERNELS}
# The error, relative to the sum of the absolute products, that float32 stays below: measured 4e-6
# for the worst entry of a million.  The definition itself reaches 3e-7.
BOUND = {np.float32: 1e-5, np.float64: 1e-13}


def operands(name, x, w, g):
    return {"conv": (x, w), "conv_input": (g, w), "conv_weight": (x, g)}[name]


@st.composite
def cases(draw):
    """`(geometry, x, w, g)` that the method can compute; normal numbers."""
    size = [draw(st.integers(3, 14)), draw(st.sampled_from((3, 4, 5, 8, 9, 16, 33)))]
    padding = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in size]
    geometry = Geometry.of(size, 3, 1, padding)
    images = draw(st.sampled_from((1, 2, 7, 0)))
    channels, filters = (draw(st.sampled_from((1, 2, 7, 8, 16, 17, 33, 70))) for _ in "xy")
    return case(
        geometry, images, channels, filters, draw(st.sampled_from((np.float32, np.float64)))
    )


def case(geometry, images, channels, filters, dtype, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (
        (images, channels, *geometry.size),
        (filters, channels, *geometry.kernel),
        (images, filters, *geometry.output),
    )
    return geometry, *(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def reach(name, a, b, geometry):
    """What the error is measured by: the sum of the absolute products of each entry."""
    magnitude = getattr(reference, name)(np.abs(a), np.abs(b), geometry)
    # A tile mixes its entries, so the largest of them counts for all.
    return magnitude.max(initial=1e-30)


@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.permutations([Fraction(n, d) for n in range(-3, 4) for d in (1, 2)]),
    st.integers(0, 2**32 - 1),
)
def test_the_matrices_compute_a_correlation_exactly(out, taps, points, seed):
    points = tuple(dict.fromkeys(points))[: out + taps - 2]
    at, g, bt = toom.matrices(out, taps, points)
    rng = np.random.default_rng(seed)
    d = [Fraction(int(n)) for n in rng.integers(-9, 10, out + taps - 1)]
    w = [Fraction(int(n)) for n in rng.integers(-9, 10, taps)]

    def times(matrix, vector):
        return [
            sum((m * v for m, v in zip(row, vector, strict=True)), Fraction()) for row in matrix
        ]

    products = [a * b for a, b in zip(times(g, w), times(bt, d), strict=True)]
    wanted = [sum(d[i + k] * w[k] for k in range(taps)) for i in range(out)]
    assert times(at, products) == wanted


@pytest.mark.parametrize("name", KERNELS)
@given(drawn=cases())
@example(drawn=case(Geometry.of((32, 32), 3, 1, 1), 5, 16, 16, np.float32))
@example(drawn=case(Geometry.of((4, 4), 3, 1, 1), 60, 20, 20, np.float32))
@example(drawn=case(Geometry.of((70, 70), 3, 1, 1), 1, 20, 12, np.float32))
def test_it_is_close_to_the_definition(name, drawn):
    geometry, x, w, g = drawn
    a, b = operands(name, x, w, g)
    wide = [array.astype(np.float64) for array in (a, b)]
    expected = getattr(reference, name)(*wide, geometry)
    result = ROW[name].compute(a, b, geometry, None, None, None)
    assert result.dtype == x.dtype and result.shape == expected.shape
    error = np.abs(result - expected).max(initial=0)
    assert error <= BOUND[x.dtype.type] * reach(name, *wide, geometry)


@pytest.mark.parametrize("name", KERNELS)
def test_its_error_is_some_ten_times_that_of_lines(name):
    geometry, x, w, g = case(Geometry.of((28, 28), 3, 1, 1), 4, 64, 64, np.float32)
    a, b = operands(name, x, w, g)
    exact = getattr(kernels, name)(a.astype(np.float64), b.astype(np.float64), geometry)

    def error(row):
        return np.sqrt(np.mean((row.compute(a, b, geometry, None, None, None) - exact) ** 2))

    lines = next(row for row in TABLE[name] if row.name == "lines")
    assert error(lines) < error(ROW[name]) < 30 * error(lines)


@pytest.mark.parametrize("name", KERNELS)
@given(drawn=cases())
def test_the_epilogue_equals_its_steps(name, drawn):
    geometry, x, w, g = drawn
    a, b = operands(name, x, w, g)
    plain = ROW[name].compute(a, b, geometry, None, None, None)
    rng = np.random.default_rng(0)
    residual = rng.standard_normal(plain.shape).astype(x.dtype)
    if name == "conv_weight":
        fused = ROW[name].compute(
            a, b, geometry, residual, None, Epilogue(residual=residual.copy())
        )
        assert fused is residual
        return
    bias = rng.standard_normal(plain.shape[1]).astype(x.dtype)
    epilogue = Epilogue(bias=bias, residual=residual, activation="relu")
    expected = np.maximum(plain + bias[:, None, None] + residual, 0)
    fused = ROW[name].compute(a, b, geometry, None, None, epilogue)
    assert np.array_equal(fused, expected)
    assert ROW[name].compute(a, b, geometry, residual, None, epilogue) is residual
    assert np.array_equal(fused, residual)


@pytest.mark.parametrize("name", KERNELS)
def test_any_strides_read_only_inputs_and_shared_memory_give_the_same_bits(name):
    geometry, x, w, g = case(Geometry.of((9, 11), 3, 1, 1), 3, 20, 20, np.float32)
    a, b = operands(name, x, w, g)
    expected = ROW[name].compute(a, b, geometry, None, None, None)
    frozen = np.asfortranarray(b)
    frozen.flags.writeable = False
    assert np.array_equal(
        ROW[name].compute(a[::-1][::-1], frozen, geometry, None, None, None), expected
    )
    same = a.copy() if a.shape == expected.shape else None
    if same is not None:
        assert ROW[name].compute(same, b, geometry, same, None, None) is same
        assert np.array_equal(same, expected)


def test_a_picture_gives_the_same_bits_alone_and_in_a_batch():
    geometry, x, w, _ = case(Geometry.of((12, 12), 3, 1, 1), 9, 24, 40, np.float32)
    together = ROW["conv"].compute(x, w, geometry, None, None, None)
    for n in range(len(x)):
        alone = ROW["conv"].compute(x[n : n + 1], w, geometry, None, None, None)
        assert np.array_equal(alone[0], together[n])


def test_nan_spreads_within_its_tiles_and_no_further():
    geometry, x, w, _ = case(Geometry.of((16, 16), 3, 1, 1), 2, 16, 16, np.float32)
    clean = ROW["conv"].compute(x, w, geometry, None, None, None)
    x[1, 3, 9, 5] = np.nan
    result = ROW["conv"].compute(x, w, geometry, None, None, None)
    assert np.array_equal(result[0], clean[0])
    spoiled = np.isnan(result[1]).all(axis=0)
    assert spoiled[8:11, 4:7].all(), "every window that reads it"
    # Rows 8..11 and columns 4..7 are its tile; its halo reaches no other.
    assert not spoiled[:8].any() and not spoiled[12:].any() and not spoiled[:, 8:].any()
    assert np.array_equal(result[1][~np.isnan(result[1])], clean[1][~np.isnan(result[1])])


def test_it_can_be_turned_off(monkeypatch):
    geometry, x, w, g = case(Geometry.of((16, 16), 3, 1, 1), 4, 32, 32, np.float32)
    for name in KERNELS:
        assert choose(name, *operands(name, x, w, g), geometry).name == "winograd"
    monkeypatch.setattr(winograd, "enabled", False)
    for name in KERNELS:
        assert choose(name, *operands(name, x, w, g), geometry).name != "winograd"


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry.of((16, 16), 3, 2, 1),
        Geometry.of((16, 16), 3, 1, 3),
        Geometry.of((16, 16), 3, 1, 1, 2),
        Geometry.of((16, 16), 3, 1, 1, groups=2),
        Geometry.of((16, 16), (3, 1), 1, 1),
        Geometry.of((16, 16, 16), 3, 1, 1),
        Geometry.of((16,), 3, 1, 1),
    ],
)
def test_it_leaves_other_geometries_to_others(geometry):
    assert not winograd.able(geometry)
