"""Pools on the CPU: one block of work is a row of one plane, W places at a time.

A row of the result is a function of a few rows of what is read: which ones stands in tables that
are made once for each geometry. The adjoints are computed in the same way, each input place adding
up what the windows over it give, so no two threads write to one place, and every place is
written once. `pool_tile` has the innermost loops.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import pool_quads as quads
from .arrays import Result, flat
from .compile import kernel
from .finish import finish
from .pool_tile import ANY, max_tile, spread_tile, sum_tile
from .tile import VECTOR_BYTES

# Numba sees it as a constant.
BYTES = VECTOR_BYTES

# What a sum is divided by: nothing, its taps inside the input, or those inside the padded input
# (what `ceil` puts beyond counts for nothing).
NOTHING, INSIDE, PADDED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables of a pool. A row is `(d, h)` of a plane; places are counted in the flat plane.

    Attributes:
        windows: int64 `(rows of the output + 1,)`: which entries of `reads` each row has.
        reads: int64: where the input rows begin that a row of windows reads, in order.
        places: int64 `(rows of the input + 1,)`: which entries of `gets` each row has.
        gets: int64: where the rows of windows begin that reach a row of the input, in order.
        sources: int64: which rows those are.
        reach: int64 `(kernel,)`: place `z·stride + phase` is read by windows `z + reach[k]`.
        bounds: int64 `(stride + 1,)`: which entries of `reach` each phase has.
        divisors: int64 `(3, rows of the output)`: the taps that count, without the last axis.
        counts: int64 `(3, windows in a row)`: the taps that count along the last axis.
        last: `(input, output, stride, padding before, dilation, kernel)` of the last axis.
    """

    windows: np.ndarray
    reads: np.ndarray
    places: np.ndarray
    gets: np.ndarray
    sources: np.ndarray
    reach: np.ndarray
    bounds: np.ndarray
    divisors: np.ndarray
    counts: np.ndarray
    last: tuple[int, int, int, int, int, int]


@lru_cache(maxsize=512)
def _plan(geometry: Geometry) -> Plan:
    v = geometry.volume
    inside: list[list[list[int]]] = []
    counts: list[np.ndarray] = []
    for axis in range(3):
        step, (before, after), size = v.dilation[axis], v.padding[axis], v.size[axis]
        starts = [place * v.stride[axis] - before for place in range(v.output[axis])]
        reads = [[a + t * step for t in range(v.kernel[axis])] for a in starts]
        inside.append([[r for r in some if 0 <= r < size] for some in reads])
        padded = [sum(r < size + after for r in some) for some in reads]
        counts.append(np.array([[1] * len(starts), [len(s) for s in inside[axis]], padded]))
    read: list[list[int]] = []
    got: list[list[int]] = [[] for _ in range(v.size[0] * v.size[1])]
    for number, (d, h) in enumerate(itertools.product(*inside[:2])):
        rows = [i * v.size[1] + j for i in d for j in h]
        read.append([row * v.size[2] for row in rows])
        for row in rows:
            got[row].append(number)
    step, stride, before = v.dilation[2], v.stride[2], v.padding[2][0]
    # Windows in order: the last tap belongs to the first window.
    taps = range(v.kernel[2] - 1, -1, -1)
    phases = [[k for k in taps if (k * step - before) % stride == r] for r in range(stride)]
    windows, reads_ = _joined(read)
    places, sources = _joined(got)
    bounds, taken = _joined(phases)
    phase = np.repeat(np.arange(stride), np.diff(bounds))
    divisors = counts[0][:, :, None] * counts[1][:, None, :]
    return Plan(
        windows=windows,
        reads=reads_,
        places=places,
        gets=sources * v.output[2],
        sources=sources,
        reach=(phase + before - taken * step) // stride,
        bounds=bounds,
        divisors=divisors.reshape(3, -1),
        counts=counts[2],
        last=(v.size[2], v.output[2], stride, before, step, v.kernel[2]),
    )


def _joined(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists end to end, with the place where each begins, and the end."""
    bounds = np.cumsum([0, *(len(some) for some in lists)], dtype=np.int64)
    return bounds, np.array(list(itertools.chain(*lists)), np.int64)


@lru_cache(maxsize=512)
def _divisors(geometry: Geometry, count: int, dtype: Any) -> tuple[Any, ...]:
    """Divisors of rows of windows, of what the rows of the input get, and along the last axis.

    Where all are powers of 2 they are inverted, and the last of the four is True.
    """
    plan = _plan(geometry)
    rows, counts = plan.divisors[count].astype(dtype), plan.counts[count].astype(dtype)
    exact = bool(np.all(np.frexp(rows)[0] == 0.5) and np.all(np.frexp(counts)[0] == 0.5))
    if exact:
        rows, counts = 1 / rows, 1 / counts
    return rows, rows[plan.sources], counts, exact


# Planes are cut into parts where there are fewer of them than this.
MANY_PLANES = 64


def _units(x: np.ndarray, rows: np.ndarray) -> tuple[int, int]:
    """How many units of work there are, and into how many each plane is cut."""
    planes = x.shape[0] * x.shape[1]
    split = max(1, min(len(rows) - 1, MANY_PLANES // planes))
    return planes * split, split


@kernel
def max_kernel(x, values, indices, units, split, volume, windows, reads, last):
    """The maximum of each window of each plane, and its flat place."""
    width, outputs, step, before, dilation, taps = last
    rows = len(windows) - 1
    lanes = BYTES // x.itemsize
    for unit in prange(units):
        plane, part = unit // split, unit % split
        for number in range(rows * part // split, rows * (part + 1) // split):
            x0, r0 = plane * volume, windows[number]
            count, row = windows[number + 1] - r0, plane * rows + number
            for w in range(0, outputs, lanes):
                first, to, left = w * step - before, row * outputs + w, outputs - w
                if step == 1:
                    max_tile(1, step, x, x0, reads, r0, count, first, width, dilation, taps,
                             values, indices, to, left)  # fmt: skip
                elif step == 2:
                    max_tile(2, step, x, x0, reads, r0, count, first, width, dilation, taps,
                             values, indices, to, left)  # fmt: skip
                else:
                    max_tile(ANY, step, x, x0, reads, r0, count, first, width, dilation, taps,
                             values, indices, to, left)  # fmt: skip


@kernel
def sum_kernel(x, y, units, split, volume, windows, reads, shares, counts, exact, last):
    """The sum of each window, over its divisor."""
    width, outputs, step, before, dilation, taps = last
    rows = len(windows) - 1
    lanes = BYTES // x.itemsize
    for unit in prange(units):
        plane, part = unit // split, unit % split
        for number in range(rows * part // split, rows * (part + 1) // split):
            x0, r0 = plane * volume, windows[number]
            count, row = windows[number + 1] - r0, plane * rows + number
            for w in range(0, outputs, lanes):
                first, to, left = w * step - before, row * outputs + w, outputs - w
                if step == 1:
                    sum_tile(1, step, x, x0, reads, r0, count, first, width, dilation, taps,
                             shares, number, counts, w, exact, y, to, left)  # fmt: skip
                elif step == 2:
                    sum_tile(2, step, x, x0, reads, r0, count, first, width, dilation, taps,
                             shares, number, counts, w, exact, y, to, left)  # fmt: skip
                else:
                    sum_tile(ANY, step, x, x0, reads, r0, count, first, width, dilation, taps,
                             shares, number, counts, w, exact, y, to, left)  # fmt: skip


@kernel
def spread_kernel(
    g, y, units, split, outputs, places, gets, shares, reach, bounds, counts, exact, last
):
    """The adjoint of `sum_kernel`."""
    length, width, step = last[0], last[1], last[2]
    rows = len(places) - 1
    lanes = BYTES // g.itemsize
    for unit in prange(units):
        plane, part = unit // split, unit % split
        for number in range(rows * part // split, rows * (part + 1) // split):
            g0, r0, row = plane * outputs, places[number], plane * rows + number
            count, to = places[number + 1] - r0, row * length
            for z in range(0, (length + step - 1) // step, lanes):
                if step == 1:
                    spread_tile(1, step, g, g0, gets, shares, r0, count, width, reach, bounds,
                                counts, exact, None, 0, z, y, to, length)  # fmt: skip
                elif step == 2:
                    spread_tile(2, step, g, g0, gets, shares, r0, count, width, reach, bounds,
                                counts, exact, None, 0, z, y, to, length)  # fmt: skip
                else:
                    spread_tile(ANY, step, g, g0, gets, shares, r0, count, width, reach, bounds,
                                counts, exact, None, 0, z, y, to, length)  # fmt: skip


@kernel
def return_kernel(g, indices, y, units, split, outputs, places, gets, reach, bounds, last):
    """The adjoint of reading at the places of maxima: each goes back to where it came from."""
    length, width, step = last[0], last[1], last[2]
    rows = len(places) - 1
    lanes = BYTES // g.itemsize
    for unit in prange(units):
        plane, part = unit // split, unit % split
        for number in range(rows * part // split, rows * (part + 1) // split):
            g0, r0, row = plane * outputs, places[number], plane * rows + number
            count, to, place = places[number + 1] - r0, row * length, number * length
            for z in range(0, (length + step - 1) // step, lanes):
                if step == 1:
                    spread_tile(1, step, g, g0, gets, g, r0, count, width, reach, bounds, g, False,
                                indices, place, z, y, to, length)  # fmt: skip
                elif step == 2:
                    spread_tile(2, step, g, g0, gets, g, r0, count, width, reach, bounds, g, False,
                                indices, place, z, y, to, length)  # fmt: skip
                else:
                    spread_tile(ANY, step, g, g0, gets, g, r0, count, width, reach, bounds, g,
                                False, indices, place, z, y, to, length)  # fmt: skip


@kernel
def gather_kernel(x, indices, y, volume, outputs):
    """`y[plane, p] = x[plane, indices[plane, p]]`; returns how many lie outside of each."""
    planes = len(y) // outputs
    wrong = np.zeros(planes, np.int64)
    for plane in prange(planes):
        bad = 0
        for p in range(plane * outputs, (plane + 1) * outputs):
            at = indices[p]
            if at < 0 or at >= volume:
                bad += 1
            else:
                y[p] = x[plane * volume + at]
        wrong[plane] = bad
    return wrong


@kernel
def scatter_kernel(g, indices, y, volume, outputs):
    """`y[plane, indices[plane, p]] += g[plane, p]`; returns how many lie outside of each."""
    planes = len(g) // outputs
    wrong = np.zeros(planes, np.int64)
    for plane in prange(planes):
        bad = 0
        target = y[plane * volume : (plane + 1) * volume]
        for i in range(volume):
            target[i] = 0
        for p in range(plane * outputs, (plane + 1) * outputs):
            at = indices[p]
            if at < 0 or at >= volume:
                bad += 1
            else:
                target[at] += g[p]
        wrong[plane] = bad
    return wrong


def max_pool(
    x: np.ndarray,
    geometry: Geometry,
    values: Any,
    indices: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> tuple[np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.max_pool`."""
    shape = (*x.shape[:2], *geometry.output)
    bias, residual = _parts(epilogue)
    result = Result(shape, x.dtype, values, x, bias, residual, indices)
    places = Result(shape, np.int32, indices, x, bias, residual, values)
    if 0 not in shape:
        plan = _plan(geometry)
        max_kernel(
            flat(x),
            result.buffer.reshape(-1),
            places.buffer.reshape(-1),
            *_units(x, plan.windows),
            _product(geometry.size),
            plan.windows,
            plan.reads,
            plan.last,
        )
    finish(result.buffer, epilogue)
    return result.deliver(), places.deliver()


def max_pool_input(
    g: np.ndarray,
    indices: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.max_pool_input`."""
    result = Result((*g.shape[:2], *geometry.size), g.dtype, out, g, indices, *_parts(epilogue))
    if result.buffer.size:
        plan = _plan(geometry)
        return_kernel(
            flat(g),
            flat(indices),
            result.buffer.reshape(-1),
            *_units(g, plan.places),
            _product(geometry.output),
            plan.places,
            plan.gets,
            plan.reach,
            plan.bounds,
            plan.last,
        )
    finish(result.buffer, epilogue)
    return result.deliver()


def gather(
    x: np.ndarray,
    indices: np.ndarray,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.gather`."""
    result = Result(indices.shape, x.dtype, out, x, indices, *_parts(epilogue))
    if 0 not in indices.shape:
        volume, outputs = _product(x.shape[2:]), _product(indices.shape[2:])
        wrong = gather_kernel(flat(x), flat(indices), result.buffer.reshape(-1), volume, outputs)
        _all_inside("gather", wrong, indices, volume)
    finish(result.buffer, epilogue)
    return result.deliver()


def scatter(
    g: np.ndarray,
    indices: np.ndarray,
    size: tuple[int, ...],
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.scatter`."""
    shape = (*g.shape[:2], *size)
    result = Result(shape, g.dtype, out, g, indices, *_parts(epilogue))
    if 0 in g.shape:
        result.buffer[...] = 0
    else:
        volume, outputs = _product(size), _product(g.shape[2:])
        wrong = scatter_kernel(flat(g), flat(indices), result.buffer.reshape(-1), volume, outputs)
        _all_inside("scatter", wrong, indices, volume)
    finish(result.buffer, epilogue)
    return result.deliver()


def _pool(
    x: np.ndarray, geometry: Geometry, count: int, out: Any, epilogue: Epilogue | None
) -> np.ndarray:
    result = Result((*x.shape[:2], *geometry.output), x.dtype, out, x, *_parts(epilogue))
    if result.buffer.size and quads.able(geometry):
        share = x.dtype.type(1.0 if count == NOTHING else 0.25)
        quads.sum_kernel(flat(x), result.buffer.reshape(-1), geometry.output[-1], share)
    elif result.buffer.size:
        plan, (shares, _, counts, exact) = _plan(geometry), _divisors(geometry, count, x.dtype)
        sum_kernel(
            flat(x),
            result.buffer.reshape(-1),
            *_units(x, plan.windows),
            _product(geometry.size),
            plan.windows,
            plan.reads,
            shares,
            counts,
            exact,
            plan.last,
        )
    finish(result.buffer, epilogue)
    return result.deliver()


def _pool_input(
    g: np.ndarray, geometry: Geometry, count: int, out: Any, epilogue: Epilogue | None
) -> np.ndarray:
    result = Result((*g.shape[:2], *geometry.size), g.dtype, out, g, *_parts(epilogue))
    if result.buffer.size and quads.able(geometry):
        share = g.dtype.type(1.0 if count == NOTHING else 0.25)
        quads.spread_kernel(flat(g), result.buffer.reshape(-1), geometry.output[-1], share)
    elif result.buffer.size:
        plan, (_, shares, counts, exact) = _plan(geometry), _divisors(geometry, count, g.dtype)
        spread_kernel(
            flat(g),
            result.buffer.reshape(-1),
            *_units(g, plan.places),
            _product(geometry.output),
            plan.places,
            plan.gets,
            shares,
            plan.reach,
            plan.bounds,
            counts,
            exact,
            plan.last,
        )
    finish(result.buffer, epilogue)
    return result.deliver()


def sum_pool(
    x: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.sum_pool`."""
    return _pool(x, geometry, NOTHING, out, epilogue)


def sum_pool_input(
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.sum_pool_input`."""
    return _pool_input(g, geometry, NOTHING, out, epilogue)


def average_pool(
    x: np.ndarray,
    geometry: Geometry,
    count_include_pad: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.average_pool`."""
    return _pool(x, geometry, PADDED if count_include_pad else INSIDE, out, epilogue)


def average_pool_input(
    g: np.ndarray,
    geometry: Geometry,
    count_include_pad: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.average_pool_input`."""
    return _pool_input(g, geometry, PADDED if count_include_pad else INSIDE, out, epilogue)


def _parts(epilogue: Epilogue | None) -> tuple[Any, Any]:
    return (None, None) if epilogue is None else (epilogue.bias, epilogue.residual)


def _product(lengths: tuple[int, ...]) -> int:
    result = 1
    for length in lengths:
        result *= length
    return result


def _all_inside(kernel_name: str, wrong: np.ndarray, indices: np.ndarray, volume: int) -> None:
    if wrong.any():
        raise IndexError(
            f"{kernel_name}: {wrong.sum()} of {indices.size} indices lie outside of "
            f"0 .. {volume - 1} (smallest {indices.min()}, largest {indices.max()})"
        )
