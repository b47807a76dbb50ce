"""Pools on a card: one thread computes one number of the result.

The adjoints are computed from the side of the result too: a place adds up what the windows over it
give, in their order, so nothing is added by several threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import int32, uint32, uint64

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, epilogue_arrays, flat, nothing, on_card, parts, product, sheet
from .driver import numba_cuda
from .launch import Kernel, kernel
from .places import known_inside
from .plan import NUMBERS, numbers

cuda: Any = numba_cuda()

# What a sum is divided by: nothing, its taps inside the input, or those inside the padded input
# (what `ceil` puts beyond counts for nothing).
NOTHING, INSIDE, PADDED = 0, 1, 2


@cache
def maxima(dtype: Any) -> Kernel:
    """The maximum of each window, and its flat place."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name

    def max_kernel(x, values, indices, bias, residual, planes, channels, relu, sizes):
        d, h, wd, _, p_y, p_x, k_z, k_y, k_x, s_z, s_y, s_x, b_z, b_y, b_x, d_z, d_y, d_x, _ = sizes
        places = values.size // planes
        floor = zero if relu else lowest
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            source = plane * (d * h * wd)
            for p in range(first, places, step):
                z0 = int32(uint32(p) // uint32(p_y * p_x)) * s_z - b_z
                rest = uint32(uint32(p) % uint32(p_y * p_x))
                y0 = int32(uint32(rest // uint32(p_x))) * s_y - b_y
                x0 = int32(uint32(rest % uint32(p_x))) * s_x - b_x
                best = lowest
                where = int32(-1)
                for i in range(k_z):
                    at_z = z0 + i * d_z
                    for j in range(k_y):
                        at_y = y0 + j * d_y
                        row = (at_z * h + at_y) * wd
                        inside = 0 <= at_z < d and 0 <= at_y < h
                        for k in range(k_x):
                            at_x = x0 + k * d_x
                            if inside and 0 <= at_x < wd:
                                value = x[uint64(source + row + at_x)]
                                if where < 0 or value > best or value != value:
                                    best = value
                                    where = int32(row + at_x)
                at = uint64(plane * places + p)
                if bias.size > 0:
                    best += bias[uint64(plane % channels)]
                if residual.size > 0:
                    best += residual[at]
                values[at] = floor if best <= floor else best
                indices[at] = where

    max_kernel.__name__ = f"maxima_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void({array}, {array}, int32[::1], {array}, {array}, int64, int64, int64, "
        f"UniTuple(int64, {NUMBERS}))"
    )
    return made(max_kernel)


@cache
def sums(dtype: Any) -> Kernel:
    """The sum of each window, over its divisor if `counts` has any."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name

    def sum_kernel(x, y, bias, residual, counts, planes, channels, relu, sizes):
        d, h, wd, p_z, p_y, p_x, k_z, k_y, k_x, s_z, s_y, s_x, b_z, b_y, b_x, d_z, d_y, d_x, _ = (
            sizes
        )
        places = y.size // planes
        floor = zero if relu else lowest
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            source = plane * (d * h * wd)
            for p in range(first, places, step):
                o_z = int32(uint32(uint32(p) // uint32(p_y * p_x)))
                rest = uint32(uint32(p) % uint32(p_y * p_x))
                o_y = int32(uint32(rest // uint32(p_x)))
                o_x = int32(uint32(rest % uint32(p_x)))
                total = zero
                for i in range(k_z):
                    at_z = o_z * s_z - b_z + i * d_z
                    for j in range(k_y):
                        at_y = o_y * s_y - b_y + j * d_y
                        row = source + (at_z * h + at_y) * wd
                        inside = 0 <= at_z < d and 0 <= at_y < h
                        for k in range(k_x):
                            at_x = o_x * s_x - b_x + k * d_x
                            if inside and 0 <= at_x < wd:
                                total += x[uint64(row + at_x)]
                if counts.size > 0:
                    total /= real(counts[o_z] * counts[p_z + o_y] * counts[p_z + p_y + o_x])
                at = uint64(plane * places + p)
                if bias.size > 0:
                    total += bias[uint64(plane % channels)]
                if residual.size > 0:
                    total += residual[at]
                y[at] = floor if total <= floor else total

    sum_kernel.__name__ = f"sums_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void({array}, {array}, {array}, {array}, int32[::1], int64, int64, int64, "
        f"UniTuple(int64, {NUMBERS}))"
    )
    return made(sum_kernel)


@cache
def returns(dtype: Any, chosen: bool) -> Kernel:
    """The adjoint of `sums`; with `chosen` that of `maxima`: only the window's maximum gets it."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name

    def return_kernel(g, y, bias, residual, table, planes, channels, relu, sizes):
        d, h, wd, p_z, p_y, p_x, k_z, k_y, k_x, s_z, s_y, s_x, b_z, b_y, b_x, d_z, d_y, d_x, _ = (
            sizes
        )
        volume = d * h * wd
        places = p_z * p_y * p_x
        floor = zero if relu else lowest
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            for q in range(first, volume, step):
                z0 = int32(uint32(uint32(q) // uint32(h * wd))) + b_z
                rest = uint32(uint32(q) % uint32(h * wd))
                y0 = int32(uint32(rest // uint32(wd))) + b_y
                x0 = int32(uint32(rest % uint32(wd))) + b_x
                total = zero
                # Windows in their order: the last tap is that of the first window.
                for i in range(k_z):
                    reach_z = int32(z0 - (k_z - 1 - i) * d_z)
                    at_z = int32(uint32(uint32(reach_z) // uint32(s_z)))
                    for j in range(k_y):
                        reach_y = int32(y0 - (k_y - 1 - j) * d_y)
                        at_y = int32(uint32(uint32(reach_y) // uint32(s_y)))
                        row = (at_z * p_y + at_y) * p_x
                        # A place before the first is large without a sign, and no multiple.
                        inside = reach_z == at_z * s_z and reach_y == at_y * s_y
                        inside = inside and 0 <= at_z < p_z and 0 <= at_y < p_y
                        for k in range(k_x):
                            reach_x = int32(x0 - (k_x - 1 - k) * d_x)
                            at_x = int32(uint32(uint32(reach_x) // uint32(s_x)))
                            if inside and reach_x == at_x * s_x and 0 <= at_x < p_x:
                                at = uint64(plane * places + row + at_x)
                                if chosen:
                                    if table[at] == q:
                                        total += g[at]
                                else:
                                    share = g[at]
                                    if table.size > 0:
                                        share /= real(
                                            table[uint64(at_z)]
                                            * table[uint64(p_z + at_y)]
                                            * table[uint64(p_z + p_y + at_x)]
                                        )
                                    total += share
                to = uint64(plane * volume + q)
                if bias.size > 0:
                    total += bias[uint64(plane % channels)]
                if residual.size > 0:
                    total += residual[to]
                y[to] = floor if total <= floor else total

    return_kernel.__name__ = f"returns_{'maxima' if chosen else 'sums'}_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void({array}, {array}, {array}, {array}, int32[::1], int64, int64, int64, "
        f"UniTuple(int64, {NUMBERS}))"
    )
    return made(return_kernel)


def max_pool(
    x: CudaArray,
    geometry: Geometry,
    values: Any,
    indices: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> tuple[CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.max_pool`."""
    shape = (*x.shape[:2], *geometry.output)
    result = Result(x, shape, x.dtype, values, x, indices, *parts(epilogue))
    places = Result(x, shape, np.int32, indices, x, values, *parts(epilogue))
    planes = shape[0] * shape[1]
    bias, residual, relu = epilogue_arrays(epilogue, x)
    if result.buffer.size:
        maxima(x.dtype)(
            *sheet(x.card, planes, result.buffer.size // planes),
            flat(x),
            result.buffer.reshape(-1),
            places.buffer.reshape(-1),
            bias,
            residual,
            planes,
            shape[1],
            relu,
            numbers(geometry),
        )
    made = places.deliver()
    if indices is None:
        known_inside(made, product(geometry.size))
    return result.deliver(), made


def _pool(
    maker: Kernel,
    a: CudaArray,
    table: CudaArray,
    spatial: tuple[int, ...],
    geometry: Geometry,
    out: Any,
    epilogue: Epilogue | None,
) -> CudaArray:
    shape = (*a.shape[:2], *spatial)
    result = Result(a, shape, a.dtype, out, a, table, *parts(epilogue))
    planes = shape[0] * shape[1]
    bias, residual, relu = epilogue_arrays(epilogue, a)
    if result.buffer.size:
        maker(
            *sheet(a.card, planes, result.buffer.size // planes),
            flat(a),
            result.buffer.reshape(-1),
            bias,
            residual,
            table,
            planes,
            shape[1],
            relu,
            numbers(geometry),
        )
    return result.deliver()


def _counts(like: CudaArray, geometry: Geometry, count: int) -> CudaArray:
    """How many taps count, for each window along each axis; empty where none does."""
    if count == NOTHING:
        return nothing(type(like), np.dtype(np.int32))

    def table() -> np.ndarray:
        v = geometry.volume
        found = []
        for axis in range(3):
            step, (before, after) = v.dilation[axis], v.padding[axis]
            first, end = (0, 0) if count == INSIDE else (-before, after)
            for place in range(v.output[axis]):
                reads = [place * v.stride[axis] - before + t * step for t in range(v.kernel[axis])]
                found.append(sum(first <= r < v.size[axis] + end for r in reads))
        return np.array(found, np.int32)

    return on_card(like, ("counts", geometry, count), table)


def max_pool_input(
    g: CudaArray,
    indices: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.max_pool_input`."""
    made = returns(g.dtype, True)
    return _pool(made, g, flat(indices), geometry.size, geometry, out, epilogue)


def sum_pool(
    x: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.sum_pool`."""
    counts = _counts(x, geometry, NOTHING)
    return _pool(sums(x.dtype), x, counts, geometry.output, geometry, out, epilogue)


def sum_pool_input(
    g: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.sum_pool_input`."""
    counts = _counts(g, geometry, NOTHING)
    return _pool(returns(g.dtype, False), g, counts, geometry.size, geometry, out, epilogue)


def average_pool(
    x: CudaArray,
    geometry: Geometry,
    count_include_pad: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.average_pool`."""
    counts = _counts(x, geometry, PADDED if count_include_pad else INSIDE)
    return _pool(sums(x.dtype), x, counts, geometry.output, geometry, out, epilogue)


def average_pool_input(
    g: CudaArray,
    geometry: Geometry,
    count_include_pad: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.average_pool_input`."""
    counts = _counts(g, geometry, PADDED if count_include_pad else INSIDE)
    return _pool(returns(g.dtype, False), g, counts, geometry.size, geometry, out, epilogue)


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [
        *(f(t) for f in (maxima, sums) for t in kinds),
        *(returns(t, chosen) for chosen in (False, True) for t in kinds),
    ]
