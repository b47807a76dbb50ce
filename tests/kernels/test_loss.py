"""Softmax cross-entropy in one kernel, against the formula in float64."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad_nn import kernels


def reference(g, x, target, smoothing):
    """Loss and gradient by the book."""
    x, g = x.astype(np.float64), g.astype(np.float64)
    with np.errstate(all="ignore"):
        log_p = x - x.max(1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
        wanted = np.moveaxis(np.eye(x.shape[1])[target], -1, 1)
        wanted = (1 - smoothing) * wanted + smoothing / x.shape[1]
        loss = -np.where(wanted == 0, 0, wanted * log_p).sum(1)
        loss[np.isnan(log_p).any(1)] = np.nan
        return loss, np.expand_dims(g, 1) * (np.exp(log_p) - wanted)


@st.composite
def cases(draw):
    classes = draw(st.sampled_from((1, 2, 3, 10, 15, 16, 17, 33, 100)))
    places = draw(st.sampled_from(((), (1,), (3,), (4, 5), (17, 19), (2, 3, 4))))
    images = draw(st.sampled_from((0, 1, 2, 5, 33)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    x = (rng.standard_normal((images, classes, *places)) * 3).astype(dtype)
    x += dtype(draw(st.sampled_from((0, -50, 1000))))
    g = rng.standard_normal((images, *places)).astype(dtype)
    return g, x, rng.integers(0, classes, g.shape), draw(st.sampled_from((0.0, 0.1, 1.0)))


@given(cases())
def test_it_equals_the_formula(case):
    g, x, target, smoothing = case
    found = kernels.cross_entropy(x, target, smoothing)
    loss, gx = reference(g, x, target, smoothing)
    some = 2e-5 if x.dtype == np.float32 else 1e-12
    assert all(array.dtype == x.dtype for array in found)
    np.testing.assert_allclose(found.loss, loss, rtol=some, atol=some)
    made = kernels.cross_entropy_backward(g, x, target, found.top, found.log_sum, smoothing)
    assert made.dtype == x.dtype
    np.testing.assert_allclose(made, gx, rtol=some, atol=some)


@pytest.mark.parametrize("shape", [(6, 3), (6, 40), (6, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_stays_in_its_place(shape, dtype):
    x = np.zeros(shape, dtype)
    x[1, 2], x[2, 0], x[3], x[4, 1] = np.nan, np.inf, -np.inf, -np.inf
    x[5, 1:] = -np.inf
    target = np.zeros((shape[0], *shape[2:]), np.int64)
    loss, top, log_sum = kernels.cross_entropy(x, target)
    gx = kernels.cross_entropy_backward(np.ones_like(loss), x, target, top, log_sum)
    assert np.isnan(loss[1:4]).all() and np.isnan(gx[1:4]).all()
    assert np.isfinite(loss[[0, 4, 5]]).all() and np.isfinite(gx[[0, 4, 5]]).all()
    assert (loss[5] == 0).all() and (gx[5] == 0).all() and (gx[4, 1] == 0).all()
    infinite = kernels.cross_entropy(x, target + 1).loss
    assert (infinite[4] == np.inf).all() and (infinite[5] == np.inf).all()


@pytest.mark.parametrize("shape", [(70, 23), (3, 5, 40, 20)])
def test_the_same_bits_at_any_number_of_threads(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))

    def run():
        found = kernels.cross_entropy(x, target, 0.1)
        parts = (target.astype(np.float32), x, target, found.top, found.log_sum, 0.1)
        return [array.tobytes() for array in (*found, kernels.cross_entropy_backward(*parts))]

    many = run()
    numba.set_num_threads(1)
    try:
        assert run() == many
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        (np.ones(3), np.zeros(3, int), r"x must be \(N, C\)"),
        (np.ones((3, 0)), np.zeros(3, int), "at least one class"),
        (np.ones((3, 2)), np.zeros(2, int), r"target must have shape \(3,\)"),
    ],
)
def test_wrong_arguments_are_refused(x, target, message):
    with pytest.raises(ValueError, match=message):
        kernels.cross_entropy(x, target)
