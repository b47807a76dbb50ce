"""Pools on the CPU: one block of work is a plane `(D, H, W)` of one channel of one image.

Taps that lie inside the input are found once for each window and axis, so the inner loops hold
no test. Windows may overlap, so the adjoints add into planes: each plane belongs to one thread,
and its windows are taken in order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from .arrays import Result, flat
from .compile import helper, kernel
from .finish import finish


@lru_cache(maxsize=512)
def spans(geometry: Geometry) -> np.ndarray:
    """int64 `(3, longest output, 3)`: first place, number of taps in the input, padded taps.

    For each axis and each window along it. Padded taps are those inside the padded input: what
    `ceil` puts beyond counts for nothing.
    """
    v = geometry.volume
    table = np.zeros((3, max(v.output), 3), np.int64)
    for axis in range(3):
        step, (before, after) = v.dilation[axis], v.padding[axis]
        for place in range(v.output[axis]):
            reads = [place * v.stride[axis] - before + t * step for t in range(v.kernel[axis])]
            inside = [r for r in reads if 0 <= r < v.size[axis]]
            padded = [r for r in reads if r < v.size[axis] + after]
            table[axis, place] = inside[0] if inside else 0, len(inside), len(padded)
    return table


@lru_cache(maxsize=512)
def _sizes(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    v = geometry.volume
    return tuple(np.array(a, np.int64) for a in (v.size, v.output, v.dilation))  # type: ignore[return-value]  # three of them


@helper
def place(size, d, h, w):
    """The flat place of `(d, h, w)` in a plane."""
    return (d * size[1] + h) * size[2] + w


@kernel
def max_kernel(x, values, indices, size, output, dilation, table):
    """The maximum of each window of each plane, and its flat place."""
    volume = size[0] * size[1] * size[2]
    outputs = output[0] * output[1] * output[2]
    for plane in prange(len(x) // volume):
        source = x[plane * volume : (plane + 1) * volume]
        to = plane * outputs
        for d in range(output[0]):
            for h in range(output[1]):
                for w in range(output[2]):
                    d0, dn = table[0, d, 0], table[0, d, 1]
                    h0, hn = table[1, h, 0], table[1, h, 1]
                    w0, wn = table[2, w, 0], table[2, w, 1]
                    where = place(size, d0, h0, w0)
                    best = source[where]
                    for i in range(dn):
                        for j in range(hn):
                            row = place(size, d0 + i * dilation[0], h0 + j * dilation[1], w0)
                            for k in range(wn):
                                at = row + k * dilation[2]
                                value = source[at]
                                if value > best or value != value:
                                    best = value
                                    where = at
                    values[to] = best
                    indices[to] = where
                    to += 1


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


@kernel
def sum_kernel(x, y, size, output, dilation, table, count):
    """The sum of each window, over its divisor.

    `count` is the column of `table` that is the divisor along each axis, 0 for none.
    """
    volume = size[0] * size[1] * size[2]
    outputs = output[0] * output[1] * output[2]
    for plane in prange(len(y) // outputs):
        source = x[plane * volume : (plane + 1) * volume]
        to = plane * outputs
        for d in range(output[0]):
            for h in range(output[1]):
                for w in range(output[2]):
                    d0, dn = table[0, d, 0], table[0, d, 1]
                    h0, hn = table[1, h, 0], table[1, h, 1]
                    w0, wn = table[2, w, 0], table[2, w, 1]
                    total = y.dtype.type(0)
                    for i in range(dn):
                        for j in range(hn):
                            row = place(size, d0 + i * dilation[0], h0 + j * dilation[1], w0)
                            for k in range(wn):
                                total += source[row + k * dilation[2]]
                    if count > 0:
                        total /= table[0, d, count] * table[1, h, count] * table[2, w, count]
                    y[to] = total
                    to += 1


@kernel
def spread_kernel(g, y, size, output, dilation, table, count):
    """The adjoint of `sum_kernel`."""
    volume = size[0] * size[1] * size[2]
    outputs = output[0] * output[1] * output[2]
    for plane in prange(len(g) // outputs):
        target = y[plane * volume : (plane + 1) * volume]
        for i in range(volume):
            target[i] = 0
        at = plane * outputs
        for d in range(output[0]):
            for h in range(output[1]):
                for w in range(output[2]):
                    d0, dn = table[0, d, 0], table[0, d, 1]
                    h0, hn = table[1, h, 0], table[1, h, 1]
                    w0, wn = table[2, w, 0], table[2, w, 1]
                    share = g[at]
                    if count > 0:
                        share /= table[0, d, count] * table[1, h, count] * table[2, w, count]
                    at += 1
                    for i in range(dn):
                        for j in range(hn):
                            row = place(size, d0 + i * dilation[0], h0 + j * dilation[1], w0)
                            for k in range(wn):
                                target[row + k * dilation[2]] += share


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
    places = Result(shape, np.int64, indices, x, bias, residual, values)
    if 0 not in shape:
        size, output, dilation = _sizes(geometry)
        max_kernel(
            flat(x),
            result.buffer.reshape(-1),
            places.buffer.reshape(-1),
            size,
            output,
            dilation,
            spans(geometry),
        )
    finish(result.buffer, epilogue)
    return result.deliver(), places.deliver()


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
    if result.buffer.size:
        size, output, dilation = _sizes(geometry)
        sum_kernel(
            flat(x), result.buffer.reshape(-1), size, output, dilation, spans(geometry), count
        )
    finish(result.buffer, epilogue)
    return result.deliver()


def _pool_input(
    g: np.ndarray, geometry: Geometry, count: int, out: Any, epilogue: Epilogue | None
) -> np.ndarray:
    result = Result((*g.shape[:2], *geometry.size), g.dtype, out, g, *_parts(epilogue))
    if result.buffer.size:
        size, output, dilation = _sizes(geometry)
        spread_kernel(
            flat(g), result.buffer.reshape(-1), size, output, dilation, spans(geometry), count
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
    return _pool(x, geometry, 0, out, epilogue)


def sum_pool_input(
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.sum_pool_input`."""
    return _pool_input(g, geometry, 0, out, epilogue)


def average_pool(
    x: np.ndarray,
    geometry: Geometry,
    count_include_pad: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.average_pool`."""
    return _pool(x, geometry, 2 if count_include_pad else 1, out, epilogue)


def average_pool_input(
    g: np.ndarray,
    geometry: Geometry,
    count_include_pad: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.average_pool_input`."""
    return _pool_input(g, geometry, 2 if count_include_pad else 1, out, epilogue)


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
