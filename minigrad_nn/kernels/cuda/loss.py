"""Softmax and cross-entropy on a card, forward and back, without a probability in memory.

Where places lie next to each other a thread takes one of them, and neighbours read neighbouring
numbers; where only classes do, a block takes a row of them and adds up in a tree.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import uint64

from .array import CudaArray
from .arrays import Result, flat, product, sheet
from .driver import numba_cuda
from .launch import Kernel, inlined, kernel, line
from .statistics import THREADS, add_up

cuda: Any = numba_cuda()


@cache
def by_place(dtype: Any) -> Kernel:
    """Loss, largest x and logarithm of the sum; a thread takes a place."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    lowest, zero, one, unknown = real(-np.inf), real(0), real(1), real(np.nan)

    def place_kernel(x, target, loss, top, log_sum, classes, plane, smoothing):
        for i in range(cuda.grid(1), loss.size, cuda.gridsize(1)):
            at = i // plane * classes * plane + i % plane
            largest = lowest
            for c in range(classes):
                value = x[uint64(at + c * plane)]
                if value > largest:
                    largest = value
            total, mean, picked = zero, zero, unknown
            for c in range(classes):
                value = x[uint64(at + c * plane)] - largest
                total += real(math.exp(value))
                if smoothing > zero:
                    mean += value
                if c == target[i]:
                    picked = value
            logarithm = real(math.log(total))
            if smoothing > zero:
                picked = (one - smoothing) * picked + smoothing * (mean / real(classes))
            loss[i] = logarithm - picked
            top[i] = largest
            log_sum[i] = logarithm

    place_kernel.__name__ = f"by_place_{name}"
    array = f"{name}[::1]"
    made = kernel(f"void({array}, int64[::1], {array}, {array}, {array}, int64, int64, {name})")
    return made(place_kernel)


@cache
def by_row(dtype: Any) -> Kernel:
    """The same for rows of classes that lie next to each other; a block takes a row."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    lowest, zero, one, unknown = real(-np.inf), real(0), real(1), real(np.nan)
    threads, half, total_of = THREADS, THREADS // 2, inlined(add_up, globals())

    def row_kernel(x, target, loss, top, log_sum, classes, smoothing):
        shared = cuda.shared.array(threads, real)
        thread = cuda.threadIdx.x
        for i in range(cuda.blockIdx.x, loss.size, cuda.gridDim.x):
            at = i * classes
            mine = lowest
            for c in range(thread, classes, threads):
                value = x[uint64(at + c)]
                if value > mine:
                    mine = value
            shared[thread] = mine
            cuda.syncthreads()
            width = half
            while width > 0:
                if thread < width and shared[thread + width] > shared[thread]:
                    shared[thread] = shared[thread + width]
                cuda.syncthreads()
                width //= 2
            largest = shared[0]
            cuda.syncthreads()
            total, mean = zero, zero
            for c in range(thread, classes, threads):
                value = x[uint64(at + c)] - largest
                total += real(math.exp(value))
                if smoothing > zero:
                    mean += value
            shared[thread] = total
            logarithm = real(math.log(total_of(shared, thread)))
            shared[thread] = mean
            mean = total_of(shared, thread)
            if thread == 0:
                picked = unknown
                if 0 <= target[i] < classes:
                    picked = x[uint64(at + target[i])] - largest
                if smoothing > zero:
                    picked = (one - smoothing) * picked + smoothing * (mean / real(classes))
                loss[i] = logarithm - picked
                top[i] = largest
                log_sum[i] = logarithm

    row_kernel.__name__ = f"by_row_{name}"
    array = f"{name}[::1]"
    return kernel(f"void({array}, int64[::1], {array}, {array}, {array}, int64, {name})")(
        row_kernel
    )


@cache
def slopes(dtype: Any) -> Kernel:
    """The gradient: `g · (softmax(x) − the smoothed target)`."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    one = real(1)

    def slope_kernel(g, x, target, top, log_sum, gx, planes, classes, smoothing):
        length = x.size // planes
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        share = smoothing / real(classes)
        for plane in range(start, planes, skip):
            c = plane % classes
            for s in range(first, length, step):
                at = uint64(plane * length + s)
                i = uint64(plane // classes * length + s)
                wanted = share
                if target[i] == c:
                    wanted += one - smoothing
                gx[at] = g[i] * (real(math.exp(x[at] - top[i] - log_sum[i])) - wanted)

    slope_kernel.__name__ = f"slopes_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void({array}, {array}, int64[::1], {array}, {array}, {array}, int64, int64, {name})"
    )
    return made(slope_kernel)


def _targets(target: Any, like: CudaArray) -> CudaArray:
    """Targets in the card's memory: they may stand in the host's."""
    if not isinstance(target, CudaArray):
        target = like.from_numpy(np.asarray(target, np.int64))
    return flat(target.astype(np.int64, copy=False))


def cross_entropy(
    x: CudaArray, target: Any, smoothing: float
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.cross_entropy`."""
    shape, classes, plane = (x.shape[0], *x.shape[2:]), x.shape[1], product(x.shape[2:])
    loss, top, log_sum = (x.empty(shape, x.dtype) for _ in range(3))
    if loss.size:
        outs = [a.reshape(-1) for a in (loss, top, log_sum)]
        share = x.dtype.type(smoothing)
        places = _targets(target, x)
        if plane == 1:
            limits = x.card.driver.limits
            blocks = limits.processors * max(1, limits.processor_threads // THREADS)
            by_row(x.dtype)(min(loss.size, blocks), THREADS, flat(x), places, *outs, classes, share)
        else:
            by_place(x.dtype)(
                *line(x.card, loss.size), flat(x), places, *outs, classes, plane, share
            )
    return loss, top, log_sum


def cross_entropy_backward(
    g: CudaArray,
    x: CudaArray,
    target: Any,
    top: CudaArray,
    log_sum: CudaArray,
    smoothing: float,
    out: Any,
) -> CudaArray:
    """See `minigrad_nn.kernels.cross_entropy_backward`."""
    result = Result(x, x.shape, x.dtype, out, g, *(a for a in (x,) if a is not out), top, log_sum)
    if x.size:
        planes = x.shape[0] * x.shape[1]
        slopes(x.dtype)(
            *sheet(x.card, planes, x.size // planes),
            *(flat(g), flat(x), _targets(target, x), flat(top), flat(log_sum)),
            result.buffer.reshape(-1),
            planes,
            x.shape[1],
            x.dtype.type(smoothing),
        )
    return result.deliver()


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [f(t) for f in (by_place, by_row, slopes) for t in kinds]
