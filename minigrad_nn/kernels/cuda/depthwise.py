"""Convolution where each channel is filtered for itself: sums too short for products of tiles.

Such a convolution is limited by memory. A thread computes one number, and its neighbours read the
same places from the cache. The weight's gradient is a sum over all places of all images for each
tap: blocks take parts of it, and the parts are added up in order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import int32, int64, uint32, uint64

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, Scratch, epilogue_arrays, flat, nothing, numbered, parts, product, sheet
from .driver import numba_cuda, simulated
from .launch import BLOCK, Kernel, kernel, line
from .plan import NUMBERS, numbers
from .product import add_parts

cuda: Any = numba_cuda()

THREADS = 8 if simulated() else BLOCK
"""Threads of a block that sums; a power of 2."""
PLACES_OF_A_PART = THREADS * (4 if simulated() else 32)


@cache
def filter_planes(dtype: Any) -> Kernel:
    """The kernel of `conv`: `multiple` filters for each channel."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name

    def filter_kernel(x, w, y, bias, residual, planes, filters, multiple, relu, sizes):
        d, h, wd, _, p_y, p_x, k_z, k_y, k_x, s_z, s_y, s_x, b_z, b_y, b_x, d_z, d_y, d_x, t = sizes
        places = y.size // planes
        floor = zero if relu else lowest
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            o = plane % filters
            source = (plane // filters * (filters // multiple) + o // multiple) * (d * h * wd)
            for p in range(first, places, step):
                z0 = int32(uint32(p) // uint32(p_y * p_x)) * s_z - b_z
                rest = uint32(uint32(p) % uint32(p_y * p_x))
                y0 = int32(uint32(rest // uint32(p_x))) * s_y - b_y
                x0 = int32(uint32(rest % uint32(p_x))) * s_x - b_x
                total = zero
                tap = o * t
                for i in range(k_z):
                    at_z = z0 + i * d_z
                    for j in range(k_y):
                        at_y = y0 + j * d_y
                        row = source + (at_z * h + at_y) * wd
                        inside = 0 <= at_z < d and 0 <= at_y < h
                        for k in range(k_x):
                            at_x = x0 + k * d_x
                            if inside and 0 <= at_x < wd:
                                total += w[uint64(tap)] * x[uint64(row + at_x)]
                            tap += 1
                if bias.size > 0:
                    total += bias[uint64(o)]
                at = uint64(plane * places + p)
                if residual.size > 0:
                    total += residual[at]
                y[at] = floor if total <= floor else total

    filter_kernel.__name__ = f"filter_planes_{name}"
    array = f"{name}[::1]"
    five = ", ".join([array] * 5)
    made = kernel(f"void({five}, int64, int64, int64, int64, UniTuple(int64, {NUMBERS}))")
    return made(filter_kernel)


@cache
def filter_back(dtype: Any) -> Kernel:
    """The kernel of `conv_input`."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name

    def back_kernel(g, w, y, bias, residual, planes, channels, multiple, relu, sizes):
        d, h, wd, p_z, p_y, p_x, k_z, k_y, k_x, s_z, s_y, s_x, b_z, b_y, b_x, d_z, d_y, d_x, t = (
            sizes
        )
        volume = d * h * wd
        places = p_z * p_y * p_x
        floor = zero if relu else lowest
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            c = plane % channels
            for q in range(first, volume, step):
                z0 = int32(uint32(q) // uint32(h * wd)) + b_z
                rest = uint32(uint32(q) % uint32(h * wd))
                y0 = int32(uint32(rest // uint32(wd))) + b_y
                x0 = int32(uint32(rest % uint32(wd))) + b_x
                total = zero
                for m in range(multiple):
                    source = (plane * multiple + m) * places
                    tap = (c * multiple + m) * t
                    for i in range(k_z):
                        reach_z = int32(z0 - i * d_z)
                        at_z = int32(uint32(uint32(reach_z) // uint32(s_z)))
                        for j in range(k_y):
                            reach_y = int32(y0 - j * d_y)
                            at_y = int32(uint32(uint32(reach_y) // uint32(s_y)))
                            row = source + (at_z * p_y + at_y) * p_x
                            # A place before the first is large without a sign, and no multiple.
                            inside = reach_z == at_z * s_z and reach_y == at_y * s_y
                            inside = inside and 0 <= at_z < p_z and 0 <= at_y < p_y
                            for k in range(k_x):
                                reach_x = int32(x0 - k * d_x)
                                at_x = int32(uint32(uint32(reach_x) // uint32(s_x)))
                                if inside and reach_x == at_x * s_x and 0 <= at_x < p_x:
                                    total += w[uint64(tap)] * g[uint64(row + at_x)]
                                tap += 1
                if bias.size > 0:
                    total += bias[uint64(c)]
                at = uint64(plane * volume + q)
                if residual.size > 0:
                    total += residual[at]
                y[at] = floor if total <= floor else total

    back_kernel.__name__ = f"filter_back_{name}"
    array = f"{name}[::1]"
    five = ", ".join([array] * 5)
    made = kernel(f"void({five}, int64, int64, int64, int64, UniTuple(int64, {NUMBERS}))")
    return made(back_kernel)


@cache
def filter_weight(dtype: Any) -> Kernel:
    """The kernel of `conv_weight`: a block sums one tap over a part of all places."""
    real = np.dtype(dtype).type
    zero, name = real(0), np.dtype(dtype).name
    threads, half = THREADS, THREADS // 2

    def weight_kernel(x, g, gw, images, filters, multiple, length, sizes):
        d, h, wd, p_z, p_y, p_x, _, k_y, k_x, s_z, s_y, s_x, b_z, b_y, b_x, d_z, d_y, d_x, t = sizes
        sums = cuda.shared.array(threads, real)
        thread = cuda.threadIdx.x
        o = cuda.blockIdx.x // t
        tap = cuda.blockIdx.x % t
        piece = cuda.blockIdx.y
        o_z = tap // (k_y * k_x) * d_z - b_z
        o_y = tap // k_x % k_y * d_y - b_y
        o_x = tap % k_x * d_x - b_x
        places = p_z * p_y * p_x
        last = min(images * places, (piece + 1) * length)
        total = zero
        for at in range(piece * length + thread, last, threads):
            image = int64(uint32(at) // uint32(places))
            place = uint32(uint32(at) % uint32(places))
            z = int32(uint32(place // uint32(p_y * p_x))) * s_z + o_z
            rest = uint32(place % uint32(p_y * p_x))
            y = int32(uint32(rest // uint32(p_x))) * s_y + o_y
            x0 = int32(uint32(rest % uint32(p_x))) * s_x + o_x
            if 0 <= z < d and 0 <= y < h and 0 <= x0 < wd:
                plane = image * (filters // multiple) + o // multiple
                here = g[uint64((image * filters + o) * places + int64(place))]
                total += here * x[uint64(((plane * d + z) * h + y) * wd + x0)]
        sums[thread] = total
        cuda.syncthreads()
        width = half
        while width > 0:
            if thread < width:
                sums[thread] += sums[thread + width]
            cuda.syncthreads()
            width //= 2
        if thread == 0:
            gw[uint64(piece * (filters * t) + o * t + tap)] = sums[0]

    weight_kernel.__name__ = f"filter_weight_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void({array}, {array}, {array}, int64, int64, int64, int64, UniTuple(int64, {NUMBERS}))"
    )
    return made(weight_kernel)


def conv(
    x: CudaArray,
    w: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv`; a group has one channel."""
    shape = (x.shape[0], w.shape[0], *geometry.output)
    return _run(filter_planes, x, w, shape, w.shape[0], geometry, out, epilogue)


def conv_input(
    g: CudaArray,
    w: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv_input`; a group has one channel."""
    shape = (g.shape[0], geometry.groups, *geometry.size)
    return _run(filter_back, g, w, shape, geometry.groups, geometry, out, epilogue)


def _run(
    maker: Any,
    a: CudaArray,
    w: CudaArray,
    shape: tuple[int, ...],
    channels: int,
    geometry: Geometry,
    out: Any,
    epilogue: Epilogue | None,
) -> CudaArray:
    result = Result(a, shape, a.dtype, out, a, w, *parts(epilogue))
    bias, residual, relu = epilogue_arrays(epilogue, a)
    target = result.buffer.reshape(-1)
    if target.size:
        planes = shape[0] * shape[1]
        maker(a.dtype)(
            *sheet(a.card, planes, target.size // planes),
            flat(a),
            flat(w),
            target,
            bias,
            residual,
            planes,
            channels,
            w.shape[0] // geometry.groups,
            relu,
            numbers(geometry),
        )
    return result.deliver()


def conv_weight(
    x: CudaArray,
    g: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv_weight`; a group has one channel."""
    images, filters = g.shape[:2]
    result = Result(x, (filters, 1, *geometry.kernel), x.dtype, out, x, g, *parts(epilogue))
    _, residual, _ = epilogue_arrays(epilogue, x)
    target = result.buffer.reshape(-1)
    # As many parts as fill the card, and none shorter than pays.
    count = images * product(geometry.output)
    numbered("conv_weight", places_of_all_images=count)
    limits = x.card.driver.limits
    most = -(-4 * limits.processors * (limits.processor_threads // THREADS) // target.size)
    pieces = max(1, min(most, -(-count // PLACES_OF_A_PART), 65535))
    length = -(-count // pieces)
    room = Scratch(workspace, x).take((pieces * target.size,), x.dtype)
    filter_weight(x.dtype)(
        (target.size, pieces),
        THREADS,
        flat(x),
        flat(g),
        room,
        images,
        filters,
        filters // geometry.groups,
        length,
        numbers(geometry),
    )
    add_parts(x.dtype)(
        *line(x.card, target.size),
        room,
        target,
        nothing(type(x), x.dtype),
        residual,
        pieces,
        1,
        1,
        0,
    )
    return result.deliver()


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [f(t) for f in (filter_planes, filter_back, filter_weight) for t in kinds]
