"""The steps of a plain recurrent network in one call, against a loop in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels

DTYPES = (np.float32, np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def order(steps, reverse):
    return range(steps)[:: -1 if reverse else 1]


def loop(x, h, w, nonlinearity, reverse, lengths=None):
    y = np.zeros((*x.shape[:2], h.shape[1]), x.dtype)
    h = h.copy()
    for t in order(len(x), reverse):
        new = x[t] + h @ w.T
        new = np.tanh(new) if nonlinearity == "tanh" else np.maximum(new, 0)
        alive = slice(None) if lengths is None else t < lengths
        h[alive] = y[t, alive] = new[alive]
    return y


def lstm_loop(x, h, c, w, reverse, lengths=None):
    y, memory = np.zeros((2, *x.shape[:2], h.shape[1]), x.dtype)
    h, c = h.copy(), c.copy()
    for t in order(len(x), reverse):
        i, f, g, o = np.split(x[t] + h @ w.T, 4, axis=1)
        kept = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        alive = slice(None) if lengths is None else t < lengths
        c[alive] = memory[t, alive] = kept[alive]
        h[alive] = y[t, alive] = (sigmoid(o) * np.tanh(kept))[alive]
    return y, memory


def gru_loop(x, h, w, b, reverse, lengths=None):
    y = np.zeros((*x.shape[:2], h.shape[1]), x.dtype)
    h = h.copy()
    for t in order(len(x), reverse):
        (xr, xz, xn), (r, z, n) = (np.split(v, 3, axis=1) for v in (x[t], h @ w.T + b))
        z = sigmoid(xz + z)
        new = (1 - z) * np.tanh(xn + sigmoid(xr + r) * n) + z * h
        alive = slice(None) if lengths is None else t < lengths
        h[alive] = y[t, alive] = new[alive]
    return y


def slopes(f, arrays, directions):
    """How sums change along directions, by central differences in complex steps where they fit."""
    step = 1e-6
    up, down = (
        f(*(a + s * step * d for a, d in zip(arrays, directions, strict=True))) for s in (1, -1)
    )
    return (up - down) / (2 * step)


@st.composite
def cases(draw, gates=1):
    steps, count = draw(st.integers(1, 5)), draw(st.integers(0, 9))
    size = draw(st.sampled_from((1, 2, 3, 5, 8, 17, 33)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    x = rng.standard_normal((steps, count, gates * size)).astype(dtype)
    h, c = rng.standard_normal((2, count, size)).astype(dtype)
    w = (rng.standard_normal((gates * size, size)) / np.sqrt(size)).astype(dtype)
    lengths = rng.integers(0, steps + 1, count) if draw(st.booleans()) else None
    return x, h, c, w, (draw(st.booleans()), lengths), rng


def close(dtype):
    some = 2e-5 if dtype == np.float32 else 1e-12
    return dict(rtol=some, atol=some)


@given(cases(), st.sampled_from(("tanh", "relu")))
def test_it_equals_the_loop(case, bend):
    x, h, _, w, settings, _ = case
    before = [array.copy() for array in (x, h, w)]
    y = kernels.rnn(x, h, w, bend, *settings)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, loop(x, h, w, bend, *settings), **close(x.dtype))
    for array, old in zip((x, h, w), before, strict=True):
        assert np.array_equal(array, old)


@given(cases(4))
def test_lstm_equals_the_loop(case):
    x, h, c, w, settings, _ = case
    found = kernels.lstm(x, h, c, w, *settings)
    for made, wanted in zip(found, lstm_loop(x, h, c, w, *settings), strict=False):
        assert made.dtype == x.dtype
        np.testing.assert_allclose(made, wanted, **close(x.dtype))


@given(cases(3))
def test_gru_equals_the_loop(case):
    x, h, _, w, settings, rng = case
    b = rng.standard_normal(len(w)).astype(x.dtype)
    y = kernels.gru(x, h, w, b, *settings).y
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, gru_loop(x, h, w, b, *settings), **close(x.dtype))


def compare_gradients(f, arrays, gradients, weight, rng):
    """Gradients of the sum of `weight * f(*arrays)` against differences along a direction."""
    wide = [array.astype(np.float64) for array in arrays]
    directions = [rng.standard_normal(array.shape) for array in arrays]
    wanted = slopes(lambda *a: (f(*a) * weight).sum(), wide, directions)
    parts = [(g * d).sum() for g, d in zip(gradients, directions, strict=True)]
    size = 1 + sum(abs(part) for part in parts)
    some = 1e-4 if arrays[0].dtype == np.float32 else 1e-7
    assert abs(sum(parts) - wanted) <= some * size
    for made, array in zip(gradients, arrays, strict=True):
        assert made.shape == array.shape and made.dtype == array.dtype


@given(cases())
def test_the_gradients_of_the_plain_network(case):
    x, h, _, w, settings, rng = case
    g = rng.standard_normal((*x.shape[:2], h.shape[1])).astype(x.dtype)
    y = kernels.rnn(x, h, w, "tanh", *settings)
    found = kernels.rnn_backward(g, y, h, w, "tanh", *settings)
    compare_gradients(lambda *a: loop(*a, "tanh", *settings), (x, h, w), found, g, rng)


@given(cases(4))
def test_the_gradients_of_lstm(case):
    x, h, c, w, settings, rng = case
    g = rng.standard_normal((2, *x.shape[:2], h.shape[1])).astype(x.dtype)
    made = kernels.lstm(x, h, c, w, *settings)
    found = kernels.lstm_backward(*g, *made, h, c, w, *settings)
    compare_gradients(lambda *a: lstm_loop(*a, *settings), (x, h, c, w), found, g, rng)


@given(cases(3))
def test_the_gradients_of_gru(case):
    x, h, _, w, settings, rng = case
    b = rng.standard_normal(len(w)).astype(x.dtype)
    g = rng.standard_normal((*x.shape[:2], h.shape[1])).astype(x.dtype)
    made = kernels.gru(x, h, w, b, *settings)
    found = kernels.gru_backward(g, *made, h, w, *settings)
    compare_gradients(lambda *a: gru_loop(*a, *settings), (x, h, w, b), found, g, rng)


def test_the_slope_of_relu():
    x, h, w = np.array([[[-1.0]], [[2.0]]]), np.zeros((1, 1)), np.full((1, 1), 3.0)
    y = kernels.rnn(x, h, w, "relu")
    assert y.ravel().tolist() == [0.0, 2.0]
    found = kernels.rnn_backward(np.ones_like(x), y, h, w, "relu")
    assert found.gx.ravel().tolist() == [0.0, 1.0] and found.gw.item() == 0.0


def test_what_stands_behind_the_end_is_never_looked_at():
    rng = np.random.default_rng(0)
    lengths = np.array([3, 1, 0])
    for gates, run in ((4, kernels.lstm), (3, kernels.gru), (1, kernels.rnn)):
        x, h = rng.standard_normal((3, 3, gates * 2)), rng.standard_normal((3, 2))
        w, b = rng.standard_normal((gates * 2, 2)), rng.standard_normal(gates * 2)
        given = {4: (h, w), 3: (w, b), 1: (w, "tanh")}[gates]
        clean = run(x, h, *given, False, lengths)
        x[np.arange(3)[:, None] >= lengths] = np.nan
        dirty = run(x, h, *given, False, lengths)
        if not isinstance(clean, tuple):
            clean, dirty = (clean,), (dirty,)
        for one, other in zip(clean, dirty, strict=True):
            assert np.isfinite(one).all() and np.array_equal(one, other)
            assert (one[1:, 1] == 0).all() and (one[:, 2] == 0).all()


@pytest.mark.parametrize("gates", [1, 3, 4])
def test_a_sequence_does_not_depend_on_its_neighbours(gates):
    """Which tile or thread a sequence falls to has no influence on it."""
    rng = np.random.default_rng(0)
    x, h = (rng.standard_normal(s).astype("f") for s in ((5, 13, gates * 20), (13, 20)))
    w, b = (rng.standard_normal(s).astype("f") for s in ((gates * 20, 20), gates * 20))

    def run(some):
        if gates == 1:
            return kernels.rnn(x[:, some], h[some], w)
        if gates == 3:
            return kernels.gru(x[:, some], h[some], w, b).y
        return kernels.lstm(x[:, some], h[some], h[some], w).y

    whole = run(slice(None))
    for some in (slice(0, 1), slice(3, 10), slice(12, 13)):
        assert run(some).tobytes() == np.ascontiguousarray(whole[:, some]).tobytes()


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
        (lambda x, h, w: kernels.lstm(x[..., 1:], h, h, w), r"must be \(T, N, 4H\)"),
        (lambda x, h, w: kernels.lstm(x, h[:, :1], h, w), r"c must have shape \(2, 1\)"),
        (lambda x, h, w: kernels.gru(x[..., 1:], h[:, 1:], w, w), r"h must have shape \(2, 1\)"),
        (
            lambda x, h, w: kernels.rnn(x, h, w, lengths=np.ones(2)),
            r"lengths must be 2 integers, got float64",
        ),
        (
            lambda x, h, w: kernels.rnn(x, h, w, lengths=np.array([1, 4])),
            r"lengths must be in 0 .. 3, got 1 to 4",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    x, h, w = np.ones((3, 2, 4)), np.zeros((2, 4)), np.ones((4, 4))
    with pytest.raises(ValueError, match=message):
        call(x, h, w)
