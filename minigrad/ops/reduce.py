"""Reductions along axes, and running sums.

Subgradients: `max` and `min` share among all elements that attain them; `std` and the 2-norm have
gradient 0 where they are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.backend import array_of
from minigrad.core import Op, Saved, op, raw
from minigrad.ops.elementwise import divide, exp, maximum, minimum, multiply, sqrt, where
from minigrad.ops.index import getitem
from minigrad.ops.shape import broadcast_to, concatenate, flip, moveaxis, reshape

Axis = int | Sequence[int] | None


def _axes(name: str, x: Any, axis: Axis) -> tuple[int, ...] | None:
    """Axes as a tuple of non-negative numbers; None stands for all."""
    if axis is None:
        return None
    ndim = np.ndim(raw(x))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"{name}: axis {a} is out of bounds for {ndim} axes")
    normal = tuple(int(a) % ndim for a in axes)
    if len(set(normal)) != len(normal):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return normal


def _kept(shape: tuple[int, ...], axis: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of a reduction that keeps its axes as size 1."""
    return tuple(1 if axis is None or i in axis else n for i, n in enumerate(shape))


def _count(shape: tuple[int, ...], axis: tuple[int, ...] | None) -> int:
    """How many elements go into each result."""
    n = 1
    for i, size in enumerate(shape):
        if axis is None or i in axis:
            n *= size
    return n


def _spread(g: Any, shape: tuple[int, ...], axis: tuple[int, ...] | None) -> Any:
    """A reduction's gradient, back at every element that went into it."""
    return broadcast_to(reshape(g, _kept(shape, axis)), shape)


def _reduction(function: Any) -> Any:
    return lambda x, *, axis, keepdims: function(x, axis=axis, keepdims=keepdims)


def _mean_raw(x: Any, *, axis: Any, keepdims: bool) -> Any:
    # NumPy's own mean takes twice as long on small arrays; integers become floats as there.
    half = x.dtype == np.float16  # its sum overflows from 65504 on, where the mean does not
    dtype = np.float32 if half else None
    total: Any = np.add.reduce(  # type: ignore[call-overload]
        x, axis=axis, dtype=dtype, keepdims=keepdims
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / _count(x.shape, axis)
    return mean.astype(x.dtype) if half else mean


def _as_floats(x: Any) -> Any:
    """An array as it is if it has floats, converted to float64 otherwise."""
    x = array_of(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _attained(x: Any, y: Any, axis: tuple[int, ...] | None) -> Any:
    """For each element its share of the gradient of a max or min, as a raw constant."""
    x, y = raw(x), raw(y)
    hits = (x == y.reshape(_kept(x.shape, axis))).astype(x.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        hits /= np.add.reduce(hits, axis=axis, keepdims=True)
    return hits


_sum = op(
    "sum",
    lambda x, *, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
    lambda g, x_shape, axis: _spread(g, x_shape, axis),
)
_mean = op(
    "mean",
    _mean_raw,
    lambda g, x_shape, axis: _spread(g, x_shape, axis) / _count(x_shape, axis),
)
_max = op(
    "max",
    _reduction(np.max),
    lambda g, x, y, axis: _spread(g, raw(x).shape, axis) * _attained(x, y, axis),
    gate="selects",
)
_min = op(
    "min",
    _reduction(np.min),
    lambda g, x, y, axis: _spread(g, raw(x).shape, axis) * _attained(x, y, axis),
    gate="selects",
)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over axes: an integer, several, or None for all.

    >>> import minigrad
    >>> minigrad.sum(minigrad.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    return _sum(x, axis=_axes("sum", x, axis), keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean over axes; NaN over no elements, as in NumPy."""
    return _mean(x, axis=_axes("mean", x, axis), keepdims=keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element; elements that tie share the gradient equally.

    On scalars, `max(a, b)` is the larger of two.

    Raises:
        ValueError: there are no elements.
    """
    if _is_scalar(x) or _is_scalar(axis):
        return maximum(x, axis)
    _some("max", x, axis)
    return _max(x, axis=_axes("max", x, axis), keepdims=keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element; elements that tie share the gradient equally.

    On scalars, `min(a, b)` is the smaller of two.

    Raises:
        ValueError: there are no elements.
    """
    if _is_scalar(x) or _is_scalar(axis):
        return minimum(x, axis)
    _some("min", x, axis)
    return _min(x, axis=_axes("min", x, axis), keepdims=keepdims)


def _is_scalar(x: Any) -> bool:
    return isinstance(raw(x), float) and raw(x) is not x


def _some(name: str, x: Any, axis: Axis) -> None:
    shape = np.shape(raw(x))
    if _count(shape, _axes(name, x, axis)) == 0 and 0 not in _kept(shape, _axes(name, x, axis)):
        raise ValueError(f"{name}: no elements to choose from in shape {shape} along axis {axis}")


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance over axes, the sum of squares divided by (number - `ddof`)."""
    axes = _axes("var", x, axis)
    centred = x - mean(x, axes, keepdims=True)
    total = sum(centred * centred, axes, keepdims=keepdims)
    return divide(total, _degrees(x, axes, ddof))


def std(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Standard deviation over axes; its gradient is 0 where all elements are equal."""
    axes = _axes("std", x, axis)
    centred = x - mean(x, axes, keepdims=True)
    length = norm2(centred, axis=axes, keepdims=keepdims)
    with np.errstate(invalid="ignore", divide="ignore"):
        return length / np.sqrt(float(_degrees(x, axes, ddof))).item()


def _degrees(x: Any, axes: tuple[int, ...] | None, ddof: int) -> int:
    n = _count(np.shape(raw(x)), axes) - ddof
    return n if n > 0 else 0


norm2 = op(
    "norm",
    lambda x, *, axis, keepdims: np.sqrt(
        np.add.reduce(np.square(_as_floats(x)), axis=axis, keepdims=keepdims)
    ),
    lambda g, x, y, axis: (
        _spread(g, raw(x).shape, axis)
        * divide(x, _spread(where(raw(y) == 0, 1.0, y), raw(x).shape, axis))
    ),
)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Product over axes; the gradient is exact where elements are 0."""
    return _prod(x, axis=_axes("prod", x, axis), keepdims=keepdims)


def _prod_by_pairs(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """The product as a tree of multiplications: no division, so zeros do no harm."""
    shape = np.shape(raw(x))
    axes = tuple(range(len(shape))) if axis is None else axis
    kept = _kept(shape, axes)
    rest = tuple(n for i, n in enumerate(shape) if i not in axes)
    n = _count(shape, axes)
    if n == 0:
        return sum(x, axes, keepdims) + 1.0
    flat = reshape(moveaxis(x, axes, tuple(range(len(axes)))), (n, *rest))
    while n > 1:
        half = n // 2
        pairs = multiply(
            getitem(flat, index=slice(0, half)), getitem(flat, index=slice(half, 2 * half))
        )
        flat = concatenate([pairs, getitem(flat, index=slice(2 * half, n))]) if n % 2 else pairs
        n -= half
    return reshape(flat, kept if keepdims else rest)


def _prod_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    """Each element's share is the product of all the others: those before it times those after."""
    x = saved.x
    axes = tuple(range(x.ndim)) if saved.axis is None else saved.axis
    front = tuple(range(len(axes)))
    moved = np.moveaxis(x, axes, front)
    flat = moved.reshape((_count(x.shape, axes), *moved.shape[len(axes) :]))
    before, after = np.ones_like(flat), np.ones_like(flat)
    if flat.shape[0] > 1:
        np.cumprod(flat[:-1], axis=0, out=before[1:])
        after[:-1] = np.cumprod(flat[:0:-1], axis=0)[::-1]
    others = np.moveaxis((before * after).reshape(moved.shape), front, axes)
    return [_spread(g, x.shape, saved.axis) * others]


_prod = Op(
    "prod",
    _reduction(np.prod),
    inputs=("x",),
    saves=("x",),
    backward=_prod_rule,
    like=_prod_by_pairs,
)

_cumsum: Op = op(
    "cumsum",
    lambda x, *, axis: np.cumsum(x, axis=axis),
    lambda g, axis: flip(_cumsum(flip(g, axis), axis=axis), axis),
)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Running sum along an axis; None runs over the flattened elements."""
    if axis is None:
        return _cumsum(reshape(x, -1), axis=0)
    (place,) = _axes("cumsum", x, axis) or (0,)
    return _cumsum(x, axis=place)


def _logsumexp_raw(x: Any, *, axis: Any, keepdims: bool) -> Any:
    x = _as_floats(x)
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    with np.errstate(divide="ignore"):
        y = np.log(np.add.reduce(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else y.reshape([n for n, k in _dropped(x.shape, axis) if not k])


def _dropped(shape: tuple[int, ...], axis: Any) -> list[tuple[int, bool]]:
    return [(n, axis is None or i in axis) for i, n in enumerate(shape)]


_logsumexp = op(
    "logsumexp",
    _logsumexp_raw,
    lambda g, x, y, axis: (
        _spread(g, raw(x).shape, axis)
        * exp(x - _spread(where(np.isfinite(raw(y)), y, 0.0), raw(x).shape, axis))
    ),
)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over axes, without overflow; minus infinity over no elements."""
    return _logsumexp(x, axis=_axes("logsumexp", x, axis), keepdims=keepdims)


def _choice(name: str, function: Any) -> Op:
    return Op(
        name,
        lambda x, *, axis, keepdims: function(x, axis=axis, keepdims=keepdims),
        inputs=("x",),
        differentiable=(False,),
    )


_argmax = _choice("argmax", np.argmax)
_argmin = _choice("argmin", np.argmin)
_any = _choice("any", np.any)
_all = _choice("all", np.all)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Position of the largest element, the first of equals; integers, no gradient."""
    return _argmax(x, axis=axis, keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Position of the smallest element, the first of equals; integers, no gradient."""
    return _argmin(x, axis=axis, keepdims=keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether some element is true."""
    return _any(x, axis=_axes("any", x, axis), keepdims=keepdims)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all elements are true."""
    return _all(x, axis=_axes("all", x, axis), keepdims=keepdims)


__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm2",
    "prod",
    "sqrt",
    "std",
    "sum",
    "var",
]
