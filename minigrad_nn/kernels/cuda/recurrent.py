"""A plain recurrent network over all steps in one launch.

The sequences of a batch have nothing to do with each other, so a block takes a few of them through
all steps, and no block waits for another: a step costs a product with the weight, which comes from
the card's cache, and no launch. The terms of a product are divided among groups of threads, so that
enough reads are on their way at once, and added up in order.

Backward is the same walk the other way with the weight turned around; the gradient of the weight is
then one product over all steps.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import uint64

from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, Scratch, flat, nothing, plain
from .driver import numba_cuda, simulated
from .launch import Kernel, kernel
from .product import multiply_into

cuda: Any = numba_cuda()

LANES, GROUPS, TERMS = (4, 2, 4) if simulated() else (128, 4, 256)
"""Threads along a state, groups among which the terms are divided, terms in shared memory."""
ROWS = (1, 2) if simulated() else (1, 4)
"""Sequences that a block takes: few where the card has places for all of them."""


@cache
def walk(dtype: Any, rows: int, backward: bool) -> Kernel:
    """The kernel: all steps of `rows` sequences a block.

    Forward, `target[t] = f(source[t] + target[t − 1] · w)`, from the state `edge`. Backward,
    `target[t] = (source[t] + target[t + 1] · w) · f'(y[t])`, and `edge = target[0] · w` at the end.
    """
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    zero, one = real(0), real(1)
    lanes, groups, terms, share = LANES, GROUPS, TERMS, TERMS // GROUPS
    threads = lanes * groups
    state_room, part_room = rows * terms, groups * rows * lanes

    def walk_kernel(source, y, edge, w, target, steps, count, size, reverse, relu):
        state = cuda.shared.array(state_room, real)
        part = cuda.shared.array(part_room, real)
        sums = cuda.local.array(rows, real)
        thread = cuda.threadIdx.x
        lane = thread % lanes
        group = thread // lanes
        first = cuda.blockIdx.x * rows
        plane = count * size
        for step in range(steps + (1 if backward else 0)):
            # Backward begins where forward ends.
            t = steps - 1 - step if (reverse != 0) != backward else step
            before = (t + 1 if (reverse != 0) != backward else t - 1) * plane
            for start in range(0, size, lanes):
                j = start + lane
                for r in range(rows):
                    sums[r] = zero
                for k0 in range(0, size if step > 0 or not backward else 0, terms):
                    for e in range(thread, state_room, threads):
                        n = first + e // terms
                        k = k0 + e % terms
                        value = zero
                        if n < count and k < size:
                            if step > 0:
                                value = target[uint64(before + n * size + k)]
                            elif not backward:
                                value = edge[uint64(n * size + k)]
                        state[e] = value
                    cuda.syncthreads()
                    if j < size:
                        for k in range(group * share, min((group + 1) * share, size - k0)):
                            weight = w[uint64((k0 + k) * size + j)]
                            for r in range(rows):
                                sums[r] += state[r * terms + k] * weight
                    cuda.syncthreads()
                for r in range(rows):
                    part[(group * rows + r) * lanes + lane] = sums[r]
                cuda.syncthreads()
                for e in range(thread, rows * lanes, threads):
                    n = first + e // lanes
                    j = start + e % lanes
                    if n < count and j < size:
                        value = zero
                        for s in range(groups):
                            value += part[s * rows * lanes + e]
                        if backward:
                            if step < steps:
                                at = uint64(t * plane + n * size + j)
                                value += source[at]
                                there = y[at]
                                if relu:
                                    value *= one if there > zero else zero
                                else:
                                    value *= one - there * there
                                target[at] = value
                            else:
                                edge[uint64(n * size + j)] = value
                        else:
                            at = uint64(t * plane + n * size + j)
                            value += source[at]
                            if relu:
                                value = zero if value <= zero else value
                            else:
                                value = real(math.tanh(value))
                            target[at] = value
                cuda.syncthreads()

    way = "back" if backward else "forth"
    walk_kernel.__name__ = f"walk_{way}_{name}_{rows}"
    five = ", ".join([f"{name}[::1]"] * 5)
    signature = f"void({five}, int64, int64, int64, int64, int64)"
    return kernel(signature, launch_bounds=(threads, 1))(walk_kernel)


def _start(
    like: CudaArray,
    source: CudaArray,
    y: CudaArray,
    edge: CudaArray,
    w: CudaArray,
    target: CudaArray,
    nonlinearity: str,
    reverse: bool,
    backward: bool,
) -> None:
    steps, count, size = target.shape
    if not target.size:
        return
    few = count <= 2 * like.card.driver.limits.processors
    rows = ROWS[0] if few else ROWS[1]
    walk(like.dtype, rows, backward)(
        -(-count // rows),
        LANES * GROUPS,
        flat(source),
        flat(y),
        flat(edge),
        flat(w),
        target.reshape(-1),
        steps,
        count,
        size,
        int(reverse),
        int(nonlinearity == "relu"),
    )


def rnn(
    x: CudaArray,
    h: CudaArray,
    w: CudaArray,
    nonlinearity: str,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.rnn`."""
    result = Result(x, x.shape, x.dtype, out, x, h, w)
    # Neighbouring threads read neighbouring numbers of the weight turned around.
    turned = w.T.copy()
    unused = nothing(type(x), x.dtype)
    _start(x, x, unused, h, turned, result.buffer, nonlinearity, reverse, False)
    return result.deliver()


def rnn_backward(
    g: CudaArray,
    y: CudaArray,
    h: CudaArray,
    w: CudaArray,
    nonlinearity: str,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.rnn_backward`."""
    result = Result(g, y.shape, y.dtype, out, g, y, h, w)
    d, y = result.buffer, plain(y)
    steps, count, size = y.shape
    gh = g.empty(h.shape, h.dtype)
    _start(g, g, y, gh, w, d, nonlinearity, reverse, True)
    # The first step reads h, all others the state before them.
    gw = g.empty((1, size, size), g.dtype)
    scratch = Scratch(workspace, g)
    begin = d[steps - 1 :] if reverse else d[:1]
    one = gw if steps == 1 else scratch.take((1, size, size), g.dtype)
    multiply_into(one, begin.swapaxes(1, 2), h.reshape(1, count, size), scratch)
    if steps > 1:
        later, earlier = (d[:-1], y[1:]) if reverse else (d[1:], y[:-1])
        later = later.reshape(1, -1, size).swapaxes(1, 2)
        multiply_into(gw, later, earlier.reshape(1, -1, size), scratch, residual=one)
    return result.deliver(), gh, gw.reshape(size, size)


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [walk(t, rows, way) for t in kinds for rows in ROWS for way in (False, True)]
