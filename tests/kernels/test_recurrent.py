"""The steps of a plain recurrent network in one call, against a loop in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels

DTYPES = (np.float32, np.float64)


def loop(x, h, w, nonlinearity, reverse):
    y = np.empty_like(x)
    for t in range(len(x))[:: -1 if reverse else 1]:
        h = x[t] + h @ w.T
        h = np.tanh(h) if nonlinearity == "tanh" else np.maximum(h, 0)
        y[t] = h
    return y


def loop_backward(g, y, h, w, nonlinearity, reverse):
    """Step by step, as the lecture draws it."""
    gx, gw, carried = np.empty_like(g), np.zeros_like(w), np.zeros_like(h)
    order = list(range(len(g)))[:: -1 if reverse else 1]
    for place in range(len(order) - 1, -1, -1):
        t = order[place]
        slope = 1 - y[t] ** 2 if nonlinearity == "tanh" else (y[t] > 0)
        gx[t] = (g[t] + carried) * slope
        gw += gx[t].T @ (y[order[place - 1]] if place else h)
        carried = gx[t] @ w
    return gx, carried, gw


@st.composite
def cases(draw):
    steps, count, size = (draw(st.integers(1, 5)) for _ in range(3))
    count = draw(st.sampled_from((0, count)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    x, g = rng.standard_normal((2, steps, count, size)).astype(dtype)
    h = rng.standard_normal((count, size)).astype(dtype)
    w = (rng.standard_normal((size, size)) / np.sqrt(size)).astype(dtype)
    return x, g, h, w, draw(st.sampled_from(("tanh", "relu"))), draw(st.booleans())


@given(cases())
def test_it_equals_the_loop(case):
    x, g, h, w, *settings = case
    close = dict(rtol=1e-5, atol=1e-5) if x.dtype == np.float32 else dict(rtol=1e-12, atol=1e-12)
    before = [array.copy() for array in (x, g, h, w)]
    y = kernels.rnn(x, h, w, *settings)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, loop(x, h, w, *settings), **close)
    found = kernels.rnn_backward(g, y, h, w, *settings)
    for made, wanted in zip(found, loop_backward(g, y, h, w, *settings), strict=True):
        assert made.dtype == x.dtype
        np.testing.assert_allclose(made, wanted, **close)
    for array, old in zip((x, g, h, w), before, strict=True):
        assert np.array_equal(array, old)


def test_any_strides_give_the_same():
    rng = np.random.default_rng(0)
    x, h, w = (rng.standard_normal(shape) for shape in ((4, 3, 5), (3, 5), (5, 5)))
    y = kernels.rnn(x, h, w)
    turned = [np.asfortranarray(array) for array in (x, h, w)]
    assert np.allclose(kernels.rnn(*turned), y, rtol=1e-13, atol=0)
    g = rng.standard_normal(y.shape)
    plain = kernels.rnn_backward(g, y, h, w)
    other = kernels.rnn_backward(np.asfortranarray(g), np.asfortranarray(y), *turned[1:])
    for one, two in zip(plain, other, strict=True):
        assert np.allclose(one, two, rtol=1e-12, atol=1e-12)


def test_out_may_have_any_strides_and_share_memory():
    rng = np.random.default_rng(0)
    x, h, w = (rng.standard_normal(shape) for shape in ((4, 3, 5), (3, 5), (5, 5)))
    y = kernels.rnn(x, h, w)
    turned = np.full(x.shape[::-1], np.nan).T
    assert kernels.rnn(x, h, w, out=turned) is turned and np.array_equal(turned, y)
    same = x.copy()
    assert kernels.rnn(same, h, w, out=same) is same and np.array_equal(same, y)
    g = rng.standard_normal(y.shape)
    gx = kernels.rnn_backward(g, y, h, w).gx
    same = g.copy()
    assert kernels.rnn_backward(same, y, h, w, out=same).gx is same
    assert np.array_equal(same, gx)


def test_a_nan_stays_in_its_sequence():
    x, h, w = np.ones((3, 2, 4)), np.zeros((2, 4)), np.full((4, 4), 0.1)
    x[1, 0, 2] = np.nan
    y = kernels.rnn(x, h, w, "relu")
    assert np.isfinite(y[:, 1]).all() and np.isfinite(y[0]).all()
    assert np.isnan(y[2, 0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, h, w: kernels.rnn(x[0], h, w), r"must be \(T, N, H\)"),
        (lambda x, h, w: kernels.rnn(x[:0], h, w), r"at least one step"),
        (lambda x, h, w: kernels.rnn(x, h[:1], w), r"h must have shape \(2, 4\)"),
        (lambda x, h, w: kernels.rnn(x, h, w[:1]), r"w must have shape \(4, 4\)"),
        (lambda x, h, w: kernels.rnn(x, h, w, "sigmoid"), r"nonlinearity must be one of"),
        (lambda x, h, w: kernels.rnn_backward(x[1:], x, h, w), r"g must have the shape of y"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    x, h, w = np.ones((3, 2, 4)), np.zeros((2, 4)), np.ones((4, 4))
    with pytest.raises(ValueError, match=message):
        call(x, h, w)
