"""Functions that make tensors: zeros, ones, ranges and the like; float32 unless told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.core import raw
from minigrad.effects import constant, reading, recorders
from minigrad.tensor import Tensor

__all__ = [
    "arange",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def _number(value: Any) -> Any:
    """What to fill with, which a captured step makes a constant."""
    if recorders and hasattr(value, "requires_grad"):
        reading(value, "full()")
    return raw(value) if type(value).__module__ != "minigrad.effects" else float(value)


def zeros(shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape.

    >>> zeros((2, 3))
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return Tensor(constant(np.zeros(shape, dtype)), requires_grad=requires_grad)


def ones(shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Ones of a shape."""
    return Tensor(constant(np.ones(shape, dtype)), requires_grad=requires_grad)


def full(
    shape: Any, fill_value: float, dtype: Any = np.float32, requires_grad: bool = False
) -> Tensor:
    """One value everywhere."""
    return Tensor(constant(np.full(shape, _number(fill_value), dtype)), requires_grad=requires_grad)


def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape and dtype of another tensor or array."""
    return Tensor(constant(np.zeros_like(raw(x), dtype)), requires_grad=requires_grad)


def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape and dtype of another tensor or array."""
    return Tensor(constant(np.ones_like(raw(x), dtype)), requires_grad=requires_grad)


def full_like(x: Any, fill_value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value in the shape and dtype of another tensor or array."""
    return Tensor(
        constant(np.full_like(raw(x), _number(fill_value), dtype)), requires_grad=requires_grad
    )


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from `start` (or 0) up to, not including, `stop`.

    All-integer arguments give integers (int64), which can be used as indices; others float32.
    """
    values = np.arange(start, step=step) if stop is None else np.arange(start, stop, step)
    if dtype is None and values.dtype.kind == "f":
        dtype = np.float32
    return Tensor(constant(values), dtype, requires_grad=requires_grad)


def linspace(
    start: float, stop: float, num: int = 50, dtype: Any = np.float32, requires_grad: bool = False
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, both included."""
    return Tensor(constant(np.linspace(start, stop, num, dtype=dtype)), requires_grad=requires_grad)


def eye(
    n: int, m: int | None = None, k: int = 0, dtype: Any = np.float32, requires_grad: bool = False
) -> Tensor:
    """Ones on the k-th diagonal of an n x m matrix, zeros elsewhere."""
    return Tensor(constant(np.eye(n, m, k, dtype)), requires_grad=requires_grad)
