"""Activations: `relu`, `sigmoid` and `tanh` are the engine's; softmax and its logarithm are here.

Both are computed from differences to the largest element, so nothing overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.core import Op, op
from minigrad.ops.elementwise import exp, relu, sigmoid, tanh
from minigrad.ops.reduce import sum as sum_over

__all__ = ["log_softmax", "relu", "sigmoid", "softmax", "tanh"]


def softmax_raw(x: Any, *, axis: int) -> Any:
    """Softmax of an array; NaN where a row holds NaN, plus infinity, or only minus infinity."""
    with np.errstate(invalid="ignore"):
        y = np.exp(x - np.maximum.reduce(x, axis=axis, keepdims=True))
    y /= np.add.reduce(y, axis=axis, keepdims=True)
    return y


def log_softmax_raw(x: Any, *, axis: int) -> Any:
    """The logarithm of the softmax of an array."""
    with np.errstate(invalid="ignore"):
        y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    y -= np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
    return y


_softmax: Op = op(
    "softmax",
    softmax_raw,
    lambda g, y, axis: y * (g - sum_over(g * y, axis, keepdims=True)),
)
_log_softmax: Op = op(
    "log_softmax",
    log_softmax_raw,
    lambda g, y, axis: g - exp(y) * sum_over(g, axis, keepdims=True),
)


def softmax(x: Any, axis: int = -1) -> Any:
    """`exp(x) / sum(exp(x))`: positive numbers along `axis` that add up to 1.

    >>> import minigrad
    >>> softmax(minigrad.tensor([0.0, 0.0, 1000.0]))
    tensor([0., 0., 1.])
    """
    return _softmax(x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """`x - log(sum(exp(x)))` along `axis`: the logarithms of the softmax, exact where it is 0.

    >>> import minigrad
    >>> log_softmax(minigrad.tensor([0.0, 1000.0]))
    tensor([-1000.,     0.])
    """
    return _log_softmax(x, axis=axis)
