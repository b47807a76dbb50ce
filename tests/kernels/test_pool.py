"""Pools, their adjoints and the gather/scatter pair against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels
from minigrad_nn.kernels import Epilogue, Geometry
from minigrad_nn.kernels.cpu import pool_quads
from tests.kernels import reference
from tests.kernels.draws import DTYPES, pools, whole


@given(pools())
def test_max_pool_takes_the_first_maximum(drawn):
    geometry, x, _ = drawn
    values, indices = kernels.max_pool(x, geometry)
    expected_values, expected_indices = reference.max_pool(x, geometry)
    assert values.dtype == x.dtype and indices.dtype == np.int32
    assert np.array_equal(values, expected_values)
    assert np.array_equal(indices, expected_indices)


@given(pools(), st.integers(0, 2**32 - 1))
def test_a_nan_wins_and_so_does_a_window_of_minus_infinity(drawn, seed):
    geometry, x, _ = drawn
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    x = np.where(rng.random(x.shape) < 0.5, -np.inf, x)
    values, indices = kernels.max_pool(x, geometry)
    expected_values, expected_indices = reference.max_pool(x, geometry)
    assert np.array_equal(values, expected_values, equal_nan=True)
    assert np.array_equal(indices, expected_indices)


@given(pools())
def test_the_padding_never_wins(drawn):
    geometry, x, _ = drawn
    values, indices = kernels.max_pool(x - 100, geometry)
    assert (values < 0).all()
    for n, c in np.ndindex(x.shape[:2]):
        assert np.array_equal((x - 100)[n, c].reshape(-1)[indices[n, c]], values[n, c])


@given(pools())
def test_gather_and_scatter_are_adjoint(drawn):
    geometry, x, g = drawn
    indices = kernels.max_pool(x, geometry).indices
    rng = np.random.default_rng(0)
    h = rng.integers(-4, 5, x.shape).astype(x.dtype)
    gathered = kernels.gather(h, indices)
    scattered = kernels.scatter(g, indices, geometry.size)
    assert np.array_equal(kernels.gather(x, indices), kernels.max_pool(x, geometry).values)
    assert np.sum(gathered * g, dtype=np.float64) == np.sum(h * scattered, dtype=np.float64)
    expected = np.zeros((*x.shape[:2], int(np.prod(geometry.size))))
    for n, c in np.ndindex(x.shape[:2]):
        np.add.at(expected[n, c], indices[n, c].reshape(-1), g[n, c].reshape(-1))
    assert np.array_equal(scattered, expected.reshape(x.shape))


@given(pools(), st.integers(0, 2**32 - 1))
def test_what_maxima_give_back_is_scattered(drawn, seed):
    geometry, x, g = drawn
    rng = np.random.default_rng(seed)
    x[rng.random(x.shape) < 0.1] = np.nan
    g[rng.random(g.shape) < 0.1] = np.inf
    indices = kernels.max_pool(x, geometry).indices
    given_back = kernels.max_pool_input(g, indices, geometry)
    assert np.array_equal(given_back, kernels.scatter(g, indices, geometry.size))
    assert np.array_equal(given_back, kernels.scatter(g, indices.astype(np.int64), geometry.size))


def test_an_index_outside_of_its_window_gets_nothing():
    g = np.ones((1, 1, 2, 2), np.float32)
    indices = np.array([0, 1, 2**31 - 1, -1], np.int32).reshape(g.shape)
    given_back = kernels.max_pool_input(g, indices, Geometry.of((4, 4), 2, 2))
    assert given_back.sum() == 1 and given_back[0, 0, 0, 0] == 1


@given(st.integers(1, 5), st.integers(1, 5), st.integers(30, 100), st.sampled_from(DTYPES))
def test_rows_of_several_vectors(kernel, stride, length, dtype):
    """At each stride, rows that end in the first, the last or no lane of a vector."""
    geometry = Geometry.of((length,), kernel, stride, kernel // 2)
    rng = np.random.default_rng(length)
    x = rng.integers(-4, 5, (2, 3, length)).astype(dtype)
    g = rng.integers(-4, 5, (2, 3, *geometry.output)).astype(dtype)
    values, indices = kernels.max_pool(x, geometry)
    expected_values, expected_indices = reference.max_pool(x, geometry)
    assert np.array_equal(values, expected_values) and np.array_equal(indices, expected_indices)
    assert np.array_equal(
        kernels.max_pool_input(g, indices, geometry), kernels.scatter(g, indices, geometry.size)
    )
    assert np.array_equal(kernels.sum_pool(x, geometry), reference.sum_pool(x, geometry))
    assert np.array_equal(
        kernels.sum_pool_input(g, geometry), reference.sum_pool_input(g, geometry)
    )


@pytest.mark.parametrize("index", [-1, 9, 2**31 - 1, 2**62])
@pytest.mark.parametrize("name", ["gather", "scatter"])
def test_an_index_outside_is_told(name, index):
    x, g = np.ones((1, 2, 3, 3), np.float32), np.ones((1, 2, 2, 2), np.float32)
    indices = np.zeros((1, 2, 2, 2), np.int32 if index < 2**31 else np.int64)
    indices[0, 1, 0, 1] = index
    arguments = (x, indices) if name == "gather" else (g, indices, (3, 3))
    with pytest.raises(IndexError, match=f"{name}: 1 of 8 indices lie outside of 0 .. 8"):
        getattr(kernels, name)(*arguments)


@pytest.mark.parametrize("divisor", [None, "inside", "padded"])
@given(drawn=pools())
def test_sums_and_averages(divisor, drawn):
    geometry, x, g = drawn
    if divisor is None:
        y, gx = kernels.sum_pool(x, geometry), kernels.sum_pool_input(g, geometry)
    else:
        include = dict(count_include_pad=divisor == "padded")
        y = kernels.average_pool(x, geometry, **include)
        gx = kernels.average_pool_input(g, geometry, **include)
    tolerance = dict(rtol=0, atol=0) if divisor is None else dict(rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(y, reference.sum_pool(x, geometry, divisor), **tolerance)
    np.testing.assert_allclose(gx, reference.sum_pool_input(g, geometry, divisor), **tolerance)
    np.testing.assert_allclose(
        np.sum(y * g, dtype=np.float64), np.sum(x * gx, dtype=np.float64), rtol=1e-5, atol=1e-3
    )


@given(
    planes=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    dtype=st.sampled_from(["f4", "f8"]),
    average=st.booleans(),
    seed=st.integers(0, 99),
)
def test_windows_of_2x2_that_tile_the_plane(planes, size, dtype, average, seed):
    rng = np.random.default_rng(seed)
    h, w = size
    geometry = Geometry.of((2 * h, 2 * w), 2, 2)
    assert pool_quads.able(geometry)
    x = rng.standard_normal((*planes, 2 * h, 2 * w)).astype(dtype)
    x[..., 0, 0] = np.nan
    g = rng.standard_normal((*planes, h, w)).astype(dtype)
    y = (kernels.average_pool if average else kernels.sum_pool)(x, geometry)
    gx = (kernels.average_pool_input if average else kernels.sum_pool_input)(g, geometry)
    share = 0.25 if average else 1.0
    wanted = x.reshape(*planes, h, 2, w, 2).sum((3, 5), np.float64) * share
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gx, (g * g.dtype.type(share)).repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry.of((6, 7), 2, 2),
        Geometry.of((7, 6), 2, 2),
        Geometry.of((6, 6), 2, 2, 1),
        Geometry.of((6, 6), 2, 1),
        Geometry.of((6, 6), 3, 2, 1),
        Geometry.of((6, 6), 2, 2, dilation=3),
        Geometry.of((4, 6, 6), 2, 2),
        Geometry.of((6,), 2, 2),
    ],
)
def test_other_windows_are_no_tiles(geometry):
    assert not pool_quads.able(geometry)


@given(pools(covered=False))
def test_sums_over_padding_alone_are_zero(drawn):
    geometry, x, g = drawn
    assert np.array_equal(kernels.sum_pool(x, geometry), reference.sum_pool(x, geometry))
    assert np.array_equal(
        kernels.sum_pool_input(g, geometry), reference.sum_pool_input(g, geometry)
    )


CALLS = {
    "max_pool": lambda x, g, i, e, **k: kernels.max_pool(x, e, **k)[0],
    "max_pool_input": lambda x, g, i, e, **k: kernels.max_pool_input(g, i, e, **k),
    "gather": lambda x, g, i, e, **k: kernels.gather(x, i, **k),
    "scatter": lambda x, g, i, e, **k: kernels.scatter(g, i, e.size, **k),
    "sum_pool": lambda x, g, i, e, **k: kernels.sum_pool(x, e, **k),
    "sum_pool_input": lambda x, g, i, e, **k: kernels.sum_pool_input(g, e, **k),
    "average_pool": lambda x, g, i, e, **k: kernels.average_pool(x, e, **k),
    "average_pool_input": lambda x, g, i, e, **k: kernels.average_pool_input(g, e, **k),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_epilogue_and_strides(name, dtype):
    rng = np.random.default_rng(0)
    geometry = Geometry.of((6, 7), 3, 2, 1)
    x = rng.standard_normal((2, 3, 6, 7)).astype(dtype)
    g = rng.standard_normal((2, 3, *geometry.output)).astype(dtype)
    indices = kernels.max_pool(x, geometry).indices
    call = CALLS[name]
    plain = call(x, g, indices, geometry)
    bias, residual = rng.standard_normal(3).astype(dtype), rng.standard_normal(plain.shape)
    residual = residual.astype(dtype)
    epilogue = Epilogue(bias=bias, residual=residual, activation="relu")
    expected = np.maximum(plain + bias.reshape(3, 1, 1) + residual, 0)
    assert np.array_equal(call(x, g, indices, geometry, epilogue=epilogue), expected)
    out = np.full(plain.shape[::-1], np.nan, dtype).T
    given_out = (out, np.empty(out.shape, np.int32)) if name == "max_pool" else out
    turned = [np.asfortranarray(a) for a in (x, g, indices)]
    assert call(*turned, geometry, out=given_out) is out
    assert np.array_equal(out, plain)


def test_max_pool_fills_both_of_out():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    out = np.empty((1, 1, 2, 2), np.float32), np.empty((1, 1, 2, 2), np.int32)
    values, indices = kernels.max_pool(x, Geometry.of((4, 4), 2, 2), out=out)
    assert values is out[0] and indices is out[1]
    assert indices.tolist() == [[[[5, 7], [13, 15]]]]


@given(st.data())
def test_one_window_over_everything_is_a_global_pool(data):
    x = whole(data.draw, (2, 3, 4, 5), np.float64)
    geometry = Geometry.of((4, 5), (4, 5))
    assert np.array_equal(kernels.sum_pool(x, geometry)[..., 0, 0], x.sum(axis=(2, 3)))
    assert np.array_equal(kernels.max_pool(x, geometry).values[..., 0, 0], x.max(axis=(2, 3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, e: kernels.max_pool(x, Geometry.of((4, 4), 1, 1, 1)), ValueError, "but padding"),
        (
            lambda x, e: kernels.average_pool(x, Geometry.of((4, 4), 1, 1, 1)),
            ValueError,
            "window 0 along spatial axis 0 holds nothing but padding",
        ),
        (lambda x, e: kernels.max_pool(x[..., :3], e), ValueError, "geometry.size=\\(4, 4\\)"),
        (lambda x, e: kernels.sum_pool_input(x, e), ValueError, "geometry.output=\\(2, 2\\)"),
        (
            lambda x, e: kernels.sum_pool(x, Geometry.of((4, 4), 2, groups=2)),
            ValueError,
            "a pool has no groups",
        ),
        (
            lambda x, e: kernels.gather(x, np.zeros((1, 2, 2), np.int16)),
            TypeError,
            "indices must be int32 or int64",
        ),
        (
            lambda x, e: kernels.gather(x, np.zeros((2, 1, 2), np.int64)),
            ValueError,
            "indices must be \\(N, C, \\*output\\)",
        ),
        (
            lambda x, e: kernels.scatter(x, np.zeros((1, 1, 2, 2), np.int64), (4, 4)),
            ValueError,
            "g and indices must have one shape",
        ),
        (
            lambda x, e: kernels.max_pool(x, e, out=(x[..., :2, :2].copy(), x.astype(np.int32))),
            ValueError,
            "out\\[1\\] must have shape",
        ),
        (
            lambda x, e: kernels.max_pool(
                x, e, out=(x[..., :2, :2].copy(), x[..., :2, :2].astype(np.int64))
            ),
            TypeError,
            "out\\[1\\] must be int32, got int64",
        ),
        (
            lambda x, e: kernels.max_pool_input(x, np.zeros((1, 1, 2, 2), np.int32), e),
            ValueError,
            "geometry.output=\\(2, 2\\)",
        ),
        (
            lambda x, e: kernels.max_pool_input(x[..., :2, :2], np.zeros((1, 1, 2), np.int32), e),
            ValueError,
            "indices must have shape \\(1, 1, 2, 2\\)",
        ),
        (
            lambda x, e: kernels.max_pool(
                np.broadcast_to(x[..., :1, :1], (1, 1, 2**16, 2**15)),
                Geometry.of((2**16, 2**15), 1, 2**15),
            ),
            ValueError,
            "more than 2.31 - 1 places",
        ),
    ],
)
def test_wrong_arguments_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((1, 1, 4, 4), np.float32), Geometry.of((4, 4), 2, 2))
