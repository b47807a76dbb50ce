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
from .arrays import Result, Scratch, flat, nothing, on_card, plain
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

    def walk_kernel(source, y, edge, w, target, ends, steps, count, size, reverse, relu):
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
            before = t + 1 if (reverse != 0) != backward else t - 1
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
                            # A state stays where it is behind the end of its sequence: forward
                            # it is there at first, in reverse; backward, at last.
                            there = before
                            if backward and step == steps and reverse:
                                there = ends[n] - 1
                            if step > 0 and 0 <= there < ends[n]:
                                value = target[uint64(there * plane + n * size + k)]
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
                        alive = t < ends[n]
                        if backward:
                            if step < steps:
                                at = uint64(t * plane + n * size + j)
                                value += source[at]
                                there = y[at]
                                if relu:
                                    value *= one if there > zero else zero
                                else:
                                    value *= one - there * there
                                target[at] = value if alive else zero
                            else:
                                edge[uint64(n * size + j)] = value
                        else:
                            at = uint64(t * plane + n * size + j)
                            value += source[at]
                            if relu:
                                value = zero if value <= zero else value
                            else:
                                value = real(math.tanh(value))
                            target[at] = value if alive else zero
                cuda.syncthreads()

    way = "back" if backward else "forth"
    walk_kernel.__name__ = f"walk_{way}_{name}_{rows}"
    five = ", ".join([f"{name}[::1]"] * 5)
    signature = f"void({five}, int64[::1], int64, int64, int64, int64, int64)"
    return kernel(signature, launch_bounds=(threads, 1))(walk_kernel)


def _start(
    like: CudaArray,
    source: CudaArray,
    y: CudaArray,
    edge: CudaArray,
    w: CudaArray,
    target: CudaArray,
    ends: CudaArray,
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
        ends,
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
    lengths: Any = None,
) -> CudaArray:
    """See `minigrad_nn.kernels.rnn`."""
    result = Result(x, x.shape, x.dtype, out, x, h, w)
    # Neighbouring threads read neighbouring numbers of the weight turned around.
    turned = w.T.copy()
    unused = nothing(type(x), x.dtype)
    ends = ends_of(x, lengths, *x.shape[:2])
    _start(x, x, unused, h, turned, result.buffer, ends, nonlinearity, reverse, False)
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
    lengths: Any = None,
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.rnn_backward`."""
    result = Result(g, y.shape, y.dtype, out, g, y, h, w)
    d, y = result.buffer, plain(y)
    gh = g.empty(h.shape, h.dtype)
    ends = ends_of(g, lengths, *y.shape[:2])
    _start(g, g, y, gh, w, d, ends, nonlinearity, reverse, True)
    gw = weight_gradient(d, y, h, lengths, reverse, Scratch(workspace, g))
    return result.deliver(), gh, gw


def order(steps: int, reverse: bool) -> range:
    """The steps as the network takes them."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def ends_of(like: CudaArray, lengths: Any, steps: int, count: int) -> CudaArray:
    """Where each sequence ends, as kernels want it."""
    if lengths is None:
        return on_card(like, ("ends", steps, count), lambda: np.full(count, steps, np.int64))
    return like.from_numpy(_on_host(lengths))


def _on_host(lengths: Any) -> np.ndarray:
    if isinstance(lengths, CudaArray):
        lengths = lengths.to_numpy()
    return np.array(lengths, np.int64)


def weight_gradient(
    d: CudaArray, y: CudaArray, h: CudaArray, lengths: Any, reverse: bool, scratch: Scratch
) -> CudaArray:
    """`Σ_t d[t]ᵀ · (the state before t)`, for d `(T, N, rows)`: two products.

    Behind the end of a sequence d and y are 0, so nothing comes from there.
    """
    (steps, count, rows), size = d.shape, h.shape[1]
    first = d[steps - 1] if reverse else d[0]
    if reverse and lengths is not None:
        # A sequence of no steps finds the last step, which is 0.
        first = d[_on_host(lengths) - 1, np.arange(count)]
    gw = d.empty((1, rows, size), d.dtype)
    one = gw if steps == 1 else scratch.take((1, rows, size), d.dtype)
    begin = first.reshape(1, count, rows).swapaxes(1, 2)
    multiply_into(one, begin, h.reshape(1, count, size), scratch)
    if steps > 1:
        later, earlier = (d[:-1], y[1:]) if reverse else (d[1:], y[:-1])
        later = later.reshape(1, -1, rows).swapaxes(1, 2)
        multiply_into(gw, later, earlier.reshape(1, -1, size), scratch, residual=one)
    return gw.reshape(rows, size)


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [walk(t, rows, way) for t in kinds for rows in ROWS for way in (False, True)]
