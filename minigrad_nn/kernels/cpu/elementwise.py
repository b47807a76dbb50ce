"""Activations and their gradients over flat arrays, in chunks that the cores share.

NumPy passes over memory once an operation, on one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from .arrays import Result, flat
from .compile import Kernel, helper, kernel
from .curves import LOGISTIC, TANH, curve_line

# Numbers in one piece of work.
CHUNK = 1 << 13
# Numba sees these as constants.
CURVE_TANH, CURVE_LOGISTIC = TANH, LOGISTIC


@helper
def _chunk(c, g, y, gx):
    """One piece of each array: an index into it is not negative, so that the loop is vectorised."""
    start, end = c * CHUNK, (c + 1) * CHUNK
    return g[start:end], y[start:end], gx[start:end]


@kernel
def relu_kernel(x, y):
    """`y = max(x, 0)`."""
    zero = x.dtype.type(0)
    for c in prange((len(x) + CHUNK - 1) // CHUNK):
        a, made = x[c * CHUNK : (c + 1) * CHUNK], y[c * CHUNK : (c + 1) * CHUNK]
        for i in range(len(a)):
            made[i] = zero if a[i] <= zero else a[i]


@kernel
def relu_backward_kernel(g, y, gx):
    """`gx = g` where y is not closed."""
    zero = g.dtype.type(0)
    for c in prange((len(g) + CHUNK - 1) // CHUNK):
        a, b, made = _chunk(c, g, y, gx)
        for i in range(len(a)):
            made[i] = zero if b[i] <= zero else a[i]


@kernel
def tanh_backward_kernel(g, y, gx):
    """`gx = g · (1 − y · y)`."""
    one = g.dtype.type(1)
    for c in prange((len(g) + CHUNK - 1) // CHUNK):
        a, b, made = _chunk(c, g, y, gx)
        for i in range(len(a)):
            made[i] = a[i] * (one - b[i] * b[i])


@kernel
def sigmoid_backward_kernel(g, y, gx):
    """`gx = g · (y · (1 − y))`."""
    one = g.dtype.type(1)
    for c in prange((len(g) + CHUNK - 1) // CHUNK):
        a, b, made = _chunk(c, g, y, gx)
        for i in range(len(a)):
            made[i] = a[i] * (b[i] * (one - b[i]))


@kernel
def tanh_kernel(x, y):
    """`y = tanh(x)`."""
    for c in prange((len(x) + CHUNK - 1) // CHUNK):
        curve_line(CURVE_TANH, x, c * CHUNK, y, c * CHUNK, min(CHUNK, len(x) - c * CHUNK))


@kernel
def sigmoid_kernel(x, y):
    """`y = 1 / (1 + exp(−x))`."""
    for c in prange((len(x) + CHUNK - 1) // CHUNK):
        curve_line(CURVE_LOGISTIC, x, c * CHUNK, y, c * CHUNK, min(CHUNK, len(x) - c * CHUNK))


def relu(x: np.ndarray, out: Any = None) -> np.ndarray:
    """See `minigrad_nn.kernels.relu`."""
    return _run(relu_kernel, out, x)


def tanh(x: np.ndarray, out: Any = None) -> np.ndarray:
    """See `minigrad_nn.kernels.tanh`."""
    return _run(tanh_kernel, out, x)


def sigmoid(x: np.ndarray, out: Any = None) -> np.ndarray:
    """See `minigrad_nn.kernels.sigmoid`."""
    return _run(sigmoid_kernel, out, x)


def relu_backward(g: np.ndarray, y: np.ndarray, out: Any = None) -> np.ndarray:
    """See `minigrad_nn.kernels.relu_backward`."""
    return _run(relu_backward_kernel, out, g, y)


def tanh_backward(g: np.ndarray, y: np.ndarray, out: Any = None) -> np.ndarray:
    """See `minigrad_nn.kernels.tanh_backward`."""
    return _run(tanh_backward_kernel, out, g, y)


def sigmoid_backward(g: np.ndarray, y: np.ndarray, out: Any = None) -> np.ndarray:
    """See `minigrad_nn.kernels.sigmoid_backward`."""
    return _run(sigmoid_backward_kernel, out, g, y)


def _run(kernel: Kernel, out: Any, *arrays: np.ndarray) -> np.ndarray:
    result = Result(arrays[0].shape, arrays[0].dtype, out, *arrays)
    kernel(*(flat(array) for array in arrays), result.buffer.reshape(-1))
    return result.deliver()
