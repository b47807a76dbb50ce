"""Exponentials of a line of numbers, against NumPy's in more digits."""

import numba
import numpy as np
import pytest

from minigrad_nn.kernels.cpu import curves
from minigrad_nn.kernels.cpu.compile import OPTIONS

EXP, TANH, LOGISTIC, RELU = curves.EXP, curves.TANH, curves.LOGISTIC, curves.RELU


@numba.njit(**OPTIONS)
def line(kind, x, y, count):
    if kind == EXP:
        curves.curve_line(EXP, x, 0, y, 0, count)
    elif kind == TANH:
        curves.curve_line(TANH, x, 0, y, 0, count)
    elif kind == LOGISTIC:
        curves.curve_line(LOGISTIC, x, 0, y, 0, count)
    else:
        curves.curve_line(RELU, x, 0, y, 0, count)


def run(kind, x):
    y = np.full(x.size + 70, 7, x.dtype)
    line(kind, x, y, x.size)
    assert (y[x.size :] == 7).all(), "written behind the end"
    return y[: x.size]


EXACT = {
    EXP: np.exp,
    TANH: np.tanh,
    LOGISTIC: lambda x: 1 / (1 + np.exp(-x)),
    RELU: lambda x: np.maximum(x, 0),
}
RANGES = {
    np.float32: {EXP: (-87, 88.7), TANH: (-11, 11), LOGISTIC: (-80, 30), RELU: (-5, 5)},
    np.float64: {EXP: (-708, 709.7), TANH: (-22, 22), LOGISTIC: (-80, 40), RELU: (-5, 5)},
}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no more digits here")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", EXACT)
def test_errors_are_below_four_units_in_the_last_place(kind, dtype):
    rng = np.random.default_rng(0)
    low, high = RANGES[dtype][kind]
    small = rng.standard_normal(5001) * 2.0 ** rng.integers(-20, 1, 5001)
    x = np.concatenate([rng.uniform(low, high, 20001), small]).astype(dtype)
    wanted = EXACT[kind](x.astype(np.longdouble))
    unit = np.spacing(np.abs(wanted.astype(dtype))).astype(np.longdouble)
    assert (np.abs(run(kind, x) - wanted) <= 4 * unit).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_line(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30, -1e-30], dtype)
    nan, inf = np.nan, np.inf
    for kind, wanted in {
        EXP: [nan, inf, 0, 1, 1, inf, 0, 1, 1],
        TANH: [nan, 1, -1, 0, -0.0, 1, -1, 1e-30, -1e-30],
        LOGISTIC: [nan, 1, 0, 0.5, 0.5, 1, 0, 0.5, 0.5],
        RELU: [nan, inf, 0, 0, 0, 1e30, 0, 1e-30, 0],
    }.items():
        y, wanted = run(kind, x), np.array(wanted, dtype)
        np.testing.assert_array_equal(y, wanted)
        if kind == TANH:
            np.testing.assert_array_equal(np.signbit(y[1:]), np.signbit(wanted[1:]))


def test_it_underflows_by_degrees():
    x = np.array([-95, -100, -103], np.float32)
    np.testing.assert_allclose(run(EXP, x), np.exp(x.astype(float)), atol=1.5e-45, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 3, 15, 16, 17, 64, 67])
def test_a_number_does_not_depend_on_where_it_stands(count, dtype):
    x = np.linspace(-3, 3, 67).astype(dtype)
    for kind in EXACT:
        assert run(kind, x[:count]).tobytes() == run(kind, x)[:count].tobytes()
