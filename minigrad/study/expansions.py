"""How one output element of each of the engine's operations is computed, in Scalars.

Elementwise operations need no entry: they are what they are on one number.  Ops that only move
elements are asked where each comes from: they are run on the numbers of the elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from minigrad.ops import elementwise as ops
from minigrad.scalar import Constant, Scalar
from minigrad.study.zoom import Cell, Index, register_zoom

__all__ = ["largest", "total", "window"]


def total(terms: Iterable[Any]) -> Any:
    """The sum of Scalars from left to right; 0 of none."""
    found = list(terms)
    return reduce(ops.add, found) if found else Constant(0.0)


def largest(terms: Sequence[Scalar], first: bool = False) -> Scalar:
    """The largest Scalar; equals share the gradient, or the `first` of them gets it all."""
    best = terms[0]
    if first:
        for term in terms[1:]:
            if term.data == best.data:  # a gate of max would share
                best = ops.where(True, best, term)
            else:
                best = ops.maximum(best, term)
        return best
    top = max((t.data for t in terms), key=lambda v: (v != v, v))
    equals = [t for t in terms if t.data == top]
    if len(equals) > 1:
        share = total(equals) / float(len(equals))
        return reduce(ops.maximum, [share, *(t for t in terms if t.data != top)])
    return reduce(ops.maximum, terms)


def window(cell: Cell) -> list[Index]:
    """The elements of the first input that a reduction along `axis` puts into this one."""
    shape = cell.shapes[0]
    axis = cell.params["axis"]
    if isinstance(axis, int):
        axis = (axis,)
    axes = range(len(shape)) if axis is None else [a % len(shape) for a in axis]
    kept = list(cell.index)
    if not cell.params.get("keepdims"):
        for a in sorted(axes):
            kept.insert(a, 0)
    ranges = [range(n) if i in axes else [kept[i]] for i, n in enumerate(shape)]
    return list(itertools.product(*ranges))


# --- the same elements elsewhere -----------------------------------------------------------------


@register_zoom(
    "reshape", "transpose", "broadcast_to", "flip", "roll", "pad", "getitem", "concatenate"
)
def _moved(cell: Cell) -> Any:
    numbers, start = [], 1
    for shape in cell.shapes:
        size = int(np.prod(shape))
        numbers.append(np.arange(start, start + size).reshape(shape))
        start += size
    params = dict(cell.params)
    if cell.op.name == "pad":
        params["value"] = 0
    number = int(np.asarray(cell.op.forward(*numbers, **params))[cell.index])
    if number == 0:
        return Constant(float(cell.params["value"]))
    for position, part in enumerate(numbers):
        if part.size and part.flat[0] <= number <= part.flat[-1]:
            place = np.unravel_index(number - int(part.flat[0]), part.shape)
            return cell.read(position, place)
    raise AssertionError("every element that is moved comes from somewhere")


@register_zoom("identity", "astype", "to", "output")
def _same(cell: Cell) -> Scalar:
    return cell.read(0, cell.index)


def _written(cell: Cell, shape: Index, values: int) -> list[Index]:
    """Which elements of the input `values` are written into this one, in order."""
    target = np.arange(int(np.prod(shape))).reshape(shape)[cell.params["index"]]
    wanted = int(np.ravel_multi_index(cell.index, shape)) if shape else 0
    places = np.argwhere(np.asarray(target) == wanted)
    given = cell.shapes[values]
    found = []
    for place in places:
        last = place[len(place) - len(given) :]
        found.append(tuple(0 if n == 1 else int(i) for i, n in zip(last, given, strict=True)))
    return found


@register_zoom("put_add")
def _put_add(cell: Cell) -> Any:
    return total(cell.read(0, place) for place in _written(cell, cell.shape, 0))


@register_zoom("at_add")
def _at_add(cell: Cell) -> Any:
    places = _written(cell, cell.shape, 1)
    return total([cell.read(0, cell.index), *(cell.read(1, place) for place in places)])


@register_zoom("at_set")
def _at_set(cell: Cell) -> Any:
    places = _written(cell, cell.shape, 1)
    return cell.read(1, places[-1]) if places else cell.read(0, cell.index)


# --- reductions ----------------------------------------------------------------------------------


@register_zoom("sum")
def _sum(cell: Cell) -> Any:
    return total(cell.read(0, place) for place in window(cell))


@register_zoom("mean")
def _mean(cell: Cell) -> Any:
    places = window(cell)
    return total(cell.read(0, place) for place in places) / float(len(places))


@register_zoom("max")
def _max(cell: Cell) -> Any:
    return largest([cell.read(0, place) for place in window(cell)])


@register_zoom("min")
def _min(cell: Cell) -> Any:
    return -largest([-cell.read(0, place) for place in window(cell)])


@register_zoom("prod")
def _prod(cell: Cell) -> Any:
    return reduce(ops.multiply, [cell.read(0, place) for place in window(cell)], Constant(1.0))


@register_zoom("norm")
def _norm(cell: Cell) -> Any:
    terms = [cell.read(0, place) for place in window(cell)]
    squares = total(term * term for term in terms)
    # Its gradient at 0 is 0 by choice, and not what the root would say.
    return ops.sqrt(squares) if squares.data else total(term * 0.0 for term in terms)


@register_zoom("logsumexp")
def _logsumexp(cell: Cell) -> Any:
    terms = [cell.read(0, place) for place in window(cell)]
    top = max(term.data for term in terms)
    return ops.log(total(ops.exp(term - top) for term in terms)) + top


@register_zoom("sum_to")
def _sum_to(cell: Cell) -> Any:
    shape = cell.shapes[0]
    lead = len(shape) - len(cell.shape)
    ranges: list[Any] = [range(n) for n in shape[:lead]]
    for i, small, n in zip(cell.index, cell.shape, shape[lead:], strict=True):
        ranges.append(range(n) if small == 1 else [i])
    return total(cell.read(0, place) for place in itertools.product(*ranges))


@register_zoom("cumsum")
def _cumsum(cell: Cell) -> Any:
    axis = cell.params["axis"]
    index = list(cell.index)
    return total(
        cell.read(0, [*index[:axis], i, *index[axis + 1 :]]) for i in range(index[axis] + 1)
    )


@register_zoom("clip")
def _clip(cell: Cell) -> Any:
    x = cell.read(0, cell.index)
    low, high = cell.params["low"], cell.params["high"]
    # At a bound the slope is 1, where gates of max and min would share.
    if low is not None and x.data < low:
        return ops.maximum(x, float(np.broadcast_to(low, cell.shape)[cell.index]))
    if high is not None and x.data > high:
        return ops.minimum(x, float(np.broadcast_to(high, cell.shape)[cell.index]))
    return x + 0.0


# --- products ------------------------------------------------------------------------------------


@register_zoom("matmul")
def _matmul(cell: Cell) -> Any:
    a, b = cell.shapes
    rest = list(cell.index)
    column = [rest.pop()] if len(b) > 1 else []
    row = [rest.pop()] if len(a) > 1 else []

    def batch(shape: Index) -> list[int]:
        lead = shape[:-2]
        return [
            0 if n == 1 else i for i, n in zip(rest[len(rest) - len(lead) :], lead, strict=True)
        ]

    return total(
        cell.read(0, [*batch(a), *row, k]) * cell.read(1, [*batch(b), k, *column])
        for k in range(a[-1])
    )


@register_zoom("einsum")
def _einsum(cell: Cell) -> Any:
    *terms, out = cell.params["terms"]
    sizes = {
        c: n
        for term, s in zip(terms, cell.shapes, strict=True)
        for c, n in zip(term, s, strict=True)
    }
    fixed = dict(zip(out, cell.index, strict=True))
    free = [c for c in sizes if c not in fixed]
    found = []
    for places in itertools.product(*(range(sizes[c]) for c in free)):
        at = {**fixed, **dict(zip(free, places, strict=True))}
        parts = [cell.read(i, [at[c] for c in term]) for i, term in enumerate(terms)]
        found.append(reduce(ops.multiply, parts))
    return total(found)
