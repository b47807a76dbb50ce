"""Reading planes at indices and adding into them, on a card, with indices that may be any.

Adding is done in an order that never changes: a block goes through a plane's indices in pieces, of
as many as it has threads, and the thread of the first of equal ones adds up for all of them.
"""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any

import numpy as np
from numba import uint64

from ..epilogue import Epilogue
from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, epilogue_arrays, flat, parts, product, sheet
from .driver import numba_cuda, simulated
from .launch import Kernel, kernel, line

cuda: Any = numba_cuda()

THREADS = 4 if simulated() else 128
"""Threads of a block that scatters: each index is compared with as many others."""

# Indices that were made on a card, and the planes into which they point.
_inside: weakref.WeakValueDictionary[tuple[int, int], CudaArray] = weakref.WeakValueDictionary()


def known_inside(indices: CudaArray, volume: int) -> None:
    """Say that indices lie in planes of so many numbers, so that nobody looks at them again."""
    _inside[id(indices), volume] = indices


@cache
def gatherer(dtype: Any) -> Kernel:
    """`y[plane, p] = x[plane, indices[plane, p]]`, with an epilogue."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name

    def gather_kernel(x, indices, y, bias, residual, planes, channels, volume, relu):
        places = y.size // planes
        floor = zero if relu else lowest
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            for p in range(first, places, step):
                at = uint64(plane * places + p)
                value = x[uint64(plane * volume + indices[at])]
                if bias.size > 0:
                    value += bias[uint64(plane % channels)]
                if residual.size > 0:
                    value += residual[at]
                y[at] = floor if value <= floor else value

    gather_kernel.__name__ = f"gatherer_{name}"
    array, rest = f"{name}[::1]", "int64, int64, int64, int64"
    return kernel(
        f"void({array}, int32[::1], {array}, {array}, {array}, {rest})",
        f"void({array}, int64[::1], {array}, {array}, {array}, {rest})",
    )(gather_kernel)


@cache
def scatterer(dtype: Any) -> Kernel:
    """`y[plane, indices[plane, p]] += g[plane, p]`, with an epilogue; a block takes a plane."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name
    threads = THREADS

    def scatter_kernel(g, indices, y, bias, residual, planes, channels, volume, relu):
        places = g.size // planes
        floor = zero if relu else lowest
        targets = cuda.shared.array(threads, np.int64)
        values = cuda.shared.array(threads, real)
        thread = cuda.threadIdx.x
        for plane in range(cuda.blockIdx.x, planes, cuda.gridDim.x):
            for q in range(thread, volume, threads):
                y[uint64(plane * volume + q)] = zero
            for start in range(0, places, threads):
                mine = -1
                if start + thread < places:
                    mine = indices[uint64(plane * places + start + thread)]
                    values[thread] = g[uint64(plane * places + start + thread)]
                targets[thread] = mine
                cuda.syncthreads()
                first = mine >= 0
                for other in range(thread):
                    first = first and targets[other] != mine
                if first:
                    at = uint64(plane * volume + mine)
                    total = y[at]
                    for other in range(thread, threads):
                        if targets[other] == mine:
                            total += values[other]
                    y[at] = total
                cuda.syncthreads()
            for q in range(thread, volume, threads):
                at = uint64(plane * volume + q)
                total = y[at]
                if bias.size > 0:
                    total += bias[uint64(plane % channels)]
                if residual.size > 0:
                    total += residual[at]
                y[at] = floor if total <= floor else total

    scatter_kernel.__name__ = f"scatterer_{name}"
    array, rest = f"{name}[::1]", "int64, int64, int64, int64"
    return kernel(
        f"void({array}, int32[::1], {array}, {array}, {array}, {rest})",
        f"void({array}, int64[::1], {array}, {array}, {array}, {rest})",
    )(scatter_kernel)


@cache
def outsiders() -> Kernel:
    """`found[0] = 1` if an index lies outside of `0 .. volume − 1`."""

    def outside_kernel(indices, found, volume):
        for i in range(cuda.grid(1), indices.size, cuda.gridsize(1)):
            if indices[i] < 0 or indices[i] >= volume:
                found[0] = 1

    outside_kernel.__name__ = "outsiders"
    return kernel("void(int32[::1], int32[::1], int64)", "void(int64[::1], int32[::1], int64)")(
        outside_kernel
    )


def gather(
    x: CudaArray,
    indices: CudaArray,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.gather`."""
    result = Result(x, indices.shape, x.dtype, out, x, indices, *parts(epilogue))
    if result.buffer.size:
        volume, planes = product(x.shape[2:]), x.shape[0] * x.shape[1]
        _all_inside("gather", indices, volume)
        bias, residual, relu = epilogue_arrays(epilogue, x)
        gatherer(x.dtype)(
            *sheet(x.card, planes, result.buffer.size // planes),
            flat(x),
            flat(indices),
            result.buffer.reshape(-1),
            bias,
            residual,
            planes,
            x.shape[1],
            volume,
            relu,
        )
    return result.deliver()


def scatter(
    g: CudaArray,
    indices: CudaArray,
    size: tuple[int, ...],
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.scatter`."""
    shape = (*g.shape[:2], *size)
    result = Result(g, shape, g.dtype, out, g, indices, *parts(epilogue))
    volume, planes = product(size), shape[0] * shape[1]
    if g.size:
        _all_inside("scatter", indices, volume)
    bias, residual, relu = epilogue_arrays(epilogue, g)
    if result.buffer.size:
        limits = g.card.driver.limits
        blocks = limits.processors * max(1, limits.processor_threads // THREADS)
        scatterer(g.dtype)(
            min(planes, blocks),
            THREADS,
            flat(g),
            flat(indices),
            result.buffer.reshape(-1),
            bias,
            residual,
            planes,
            shape[1],
            volume,
            relu,
        )
    return result.deliver()


def _all_inside(name: str, indices: CudaArray, volume: int) -> None:
    """Raise IndexError where an index lies outside; a look is taken once, unless it is known.

    This waits for the card.
    """
    if _inside.get((id(indices), volume)) is indices:
        return
    found = indices.from_numpy(np.zeros(1, np.int32))
    outsiders()(*line(indices.card, indices.size), flat(indices), found, volume)
    if found.item():
        there = indices.to_numpy()
        wrong = int(((there < 0) | (there >= volume)).sum())
        raise IndexError(
            f"{name}: {wrong} of {there.size} indices lie outside of 0 .. {volume - 1} "
            f"(smallest {there.min()}, largest {there.max()})"
        )


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [outsiders(), *(f(t) for f in (gatherer, scatterer) for t in kinds)]
