"""The fully connected layer as one operation: a matrix product and a bias."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.core import Op, op, raw
from minigrad.ops.reduce import sum as sum_over
from minigrad.ops.shape import reshape, swapaxes
from minigrad_nn.kernels import blas

__all__ = ["linear"]


def _rows(x: Any) -> Any:
    """`(..., features)` as one matrix `(rows, features)`."""
    shape = raw(x).shape
    return x if len(shape) == 2 else reshape(x, (math.prod(shape[:-1]), shape[-1]))


# The engine's product for matrices, but with the care for threads that training asks for.
_product: Op = op(
    "matmul",
    blas.matmul,
    lambda g, b: _product(g, swapaxes(b, 0, 1)),
    lambda g, a: _product(swapaxes(a, 0, 1), g),
    inputs="a b",
)


def _times_weight(g: Any, w: Any) -> Any:
    """`(..., outputs)` back to `(..., inputs)`."""
    shape = raw(g).shape
    flat = _product(_rows(g), w)
    return flat if len(shape) == 2 else reshape(flat, (*shape[:-1], raw(w).shape[1]))


def _weight_rule(g: Any, x: Any) -> Any:
    return _product(swapaxes(_rows(g), 0, 1), _rows(x))


def _bias_rule(g: Any) -> Any:
    return sum_over(_rows(g), 0)


def _linear_bias(x: Any, w: Any, b: Any) -> Any:
    y = blas.matmul(x, w.T)
    return np.add(y, b, out=y) if y.dtype == b.dtype else y + b


_linear: Op = op(
    "linear",
    lambda x, w: blas.matmul(x, w.T),
    lambda g, w: _times_weight(g, w),
    lambda g, x: _weight_rule(g, x),
)
_linear_with_bias: Op = op(
    "linear_bias",
    _linear_bias,
    lambda g, w: _times_weight(g, w),
    lambda g, x: _weight_rule(g, x),
    lambda g: _bias_rule(g),
)


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """`x @ w.T + b`: each output is a weighted sum of all inputs.

    Args:
        x: `(..., inputs)`, at least `(N, inputs)`.
        w: `(outputs, inputs)`.
        b: `(outputs,)`, or None.

    Returns:
        `(..., outputs)`.

    Raises:
        ValueError: shapes that do not belong together.

    >>> import minigrad
    >>> w = minigrad.tensor([[3, 4], [5, 6]])
    >>> linear(minigrad.tensor([[1, 2]]), w, minigrad.tensor([1, 0]))
    tensor([[12., 17.]])
    """
    shape, weights = np.shape(raw(x)), np.shape(raw(w))
    if len(weights) != 2 or len(shape) < 2 or shape[-1] != weights[1]:
        raise ValueError(
            f"linear: w must be (outputs, inputs) and x (N, ..., inputs) with as many inputs, got "
            f"x of shape {shape} and w of shape {weights}"
            + ("; add the batch axis with x[None]" if len(shape) == 1 else "")
        )
    if b is None:
        return _linear(x, w)
    if np.shape(raw(b)) != weights[:1]:
        raise ValueError(
            f"linear: b must have shape {weights[:1]}, one number for each row of w, got "
            f"{np.shape(raw(b))}"
        )
    return _linear_with_bias(x, w, b)
