"""How one output element of each network operation is computed, for `minigrad.study.zoom`.

`minigrad.study.zoom` imports this by itself when it meets an operation of this package.  Batch
normalisation and cross-entropy need no entry: they say which plain composition they equal, and
that is written out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.ops import elementwise as ops
from minigrad.scalar import Scalar
from minigrad.study.expansions import largest, total
from minigrad.study.zoom import Cell, register_zoom

from ..kernels import Geometry

Place = tuple[int, ...]


# --- windows -------------------------------------------------------------------------------------


def taps(geometry: Geometry, place: Place, inside: bool = True) -> Iterator[tuple[Place, Place]]:
    """Where the taps of a filter lie for one output place: (place in the filter, in the input).

    Args:
        geometry: of the filter over the input.
        place: in the output's spatial axes.
        inside: leave out the taps that fall on padding.
    """
    for tap in itertools.product(*map(range, geometry.kernel)):
        at = tuple(
            p * step - before + t * spread
            for p, t, step, (before, _), spread in zip(
                place, tap, geometry.stride, geometry.padding, geometry.dilation, strict=True
            )
        )
        if not inside or all(0 <= i < n for i, n in zip(at, geometry.size, strict=True)):
            yield tap, at


def meeting(geometry: Geometry, at: Place) -> Iterator[tuple[Place, Place]]:
    """The output places whose window holds an input place: (place in the filter, in the output)."""
    for tap in itertools.product(*map(range, geometry.kernel)):
        place = []
        for i, t, step, (before, _), spread, n in zip(
            at, tap, geometry.stride, geometry.padding, geometry.dilation, geometry.output,
            strict=True,
        ):  # fmt: skip
            start, rest = divmod(i + before - t * spread, step)
            if rest or not 0 <= start < n:
                break
            place.append(start)
        else:
            yield tap, tuple(place)


# --- convolution ---------------------------------------------------------------------------------


@register_zoom("conv", "conv_bias")
def _conv(cell: Cell) -> Any:
    geometry = cell.params["geometry"]
    n, o, *place = cell.index
    channels = cell.shapes[1][1]
    first = o // (cell.shapes[1][0] // geometry.groups) * channels
    products = [
        cell.read(0, (n, first + c, *at)) * cell.read(1, (o, c, *tap))
        for c in range(channels)
        for tap, at in taps(geometry, tuple(place))
    ]
    y = total(products)
    return y + cell.read(2, (o,)) if cell.op.name == "conv_bias" else y


@register_zoom("conv_input")
def _conv_input(cell: Cell) -> Any:
    """The adjoint by the input: each output whose window holds this place, times its tap."""
    geometry = cell.params["geometry"]
    n, channel, *at = cell.index
    filters, channels = cell.shapes[1][:2]
    group, c = divmod(channel, channels)
    each = filters // geometry.groups
    return total(
        cell.read(0, (n, o, *place)) * cell.read(1, (o, c, *tap))
        for o in range(group * each, (group + 1) * each)
        for tap, place in meeting(geometry, tuple(at))
    )


@register_zoom("conv_weight")
def _conv_weight(cell: Cell) -> Any:
    """The adjoint by the filter: over all places, what the tap saw times what came out."""
    geometry = cell.params["geometry"]
    o, c, *tap = cell.index
    filters = cell.shapes[1][1]
    first = o // (filters // geometry.groups) * cell.shape[1]
    terms = []
    for n in range(cell.shapes[0][0]):
        for place in itertools.product(*map(range, geometry.output)):
            for other, at in taps(geometry, place):
                if other == tuple(tap):
                    seen = cell.read(0, (n, first + c, *at))
                    terms.append(seen * cell.read(1, (n, o, *place)))
    return total(terms)


@register_zoom("channel_sum")
def _channel_sum(cell: Cell) -> Any:
    n, _, *rest = cell.shapes[0]
    places = itertools.product(range(n), *map(range, rest))
    return total(cell.read(0, (i, *cell.index, *place)) for i, *place in places)


# --- pooling -------------------------------------------------------------------------------------


def _read_window(cell: Cell) -> list[Scalar]:
    n, c, *place = cell.index
    return [cell.read(0, (n, c, *at)) for _, at in taps(cell.params["geometry"], tuple(place))]


@register_zoom("max_pool")
def _max_pool(cell: Cell) -> Any:
    if cell.output != 0:
        raise ValueError("zoom: the second output of max_pool holds places, not values")
    return largest(_read_window(cell), first=True)


@register_zoom("sum_pool")
def _sum_pool(cell: Cell) -> Any:
    return total(_read_window(cell))


@register_zoom("average_pool")
def _average_pool(cell: Cell) -> Any:
    geometry = cell.params["geometry"]
    return total(_read_window(cell)) / float(
        _divisor(geometry, tuple(cell.index[2:]), cell.params["pad"])
    )


def _divisor(geometry: Geometry, place: Place, pad: bool) -> int:
    """How many elements an average is over: those that are there, or with the padding."""
    count = 0
    for _, at in taps(geometry, place, inside=not pad):
        # Rounding up lets a window reach beyond the padding, which never counts.
        count += all(
            i < n + after
            for i, n, (_, after) in zip(at, geometry.size, geometry.padding, strict=True)
        )
    return count


@register_zoom("sum_pool_input", "average_pool_input")
def _pool_input(cell: Cell) -> Any:
    geometry = cell.params["geometry"]
    n, c, *at = cell.index
    terms = []
    for _, place in meeting(geometry, tuple(at)):
        h = cell.read(0, (n, c, *place))
        if cell.op.name == "average_pool_input":
            h = h / float(_divisor(geometry, place, cell.params["pad"]))
        terms.append(h)
    return total(terms)


@register_zoom("gather")
def _gather(cell: Cell) -> Any:
    n, c, *_ = cell.index
    flat = int(cell.array(1)[cell.index])
    return cell.read(0, (n, c, *map(int, np.unravel_index(flat, cell.shapes[0][2:]))))


@register_zoom("scatter")
def _scatter(cell: Cell) -> Any:
    n, c, *at = cell.index
    flat = int(np.ravel_multi_index(tuple(at), cell.params["size"]))
    places = np.argwhere(cell.array(1)[n, c] == flat)
    return total(cell.read(0, (n, c, *place)) for place in places)


# --- dense layers and heads ----------------------------------------------------------------------


@register_zoom("linear", "linear_bias")
def _linear(cell: Cell) -> Any:
    *row, o = cell.index
    y = total(cell.read(0, (*row, k)) * cell.read(1, (o, k)) for k in range(cell.shapes[0][-1]))
    return y + cell.read(2, (o,)) if cell.op.name == "linear_bias" else y


def _along(cell: Cell) -> list[Scalar]:
    axis = cell.params["axis"] % len(cell.shape)
    before, after = cell.index[:axis], cell.index[axis + 1 :]
    return [cell.read(0, (*before, i, *after)) for i in range(cell.shape[axis])]


@register_zoom("softmax")
def _softmax(cell: Cell) -> Any:
    """exp(x - top) / sum(exp(x - top)); the shift by a constant changes no gradient."""
    row = _along(cell)
    top = max(x.data for x in row)
    powers = [ops.exp(x - top) for x in row]
    return powers[cell.index[cell.params["axis"]]] / total(powers)


@register_zoom("log_softmax")
def _log_softmax(cell: Cell) -> Any:
    row = _along(cell)
    top = max(x.data for x in row)
    shifted = [x - top for x in row]
    return shifted[cell.index[cell.params["axis"]]] - ops.log(total(map(ops.exp, shifted)))


@register_zoom("pick")
def _pick(cell: Cell) -> Any:
    n, *rest = cell.index
    return cell.read(0, (n, int(cell.array(1)[cell.index]), *rest))


@register_zoom("place")
def _place(cell: Cell) -> Any:
    n, c, *rest = cell.index
    h = cell.read(0, (n, *rest))
    return h if int(cell.array(1)[(n, *rest)]) == c else h * 0.0
