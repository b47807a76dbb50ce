"""Recurrent networks over all steps in one call: the plain one here, gated ones in `gated`.

What one sequence becomes does not depend on its neighbours in the batch. So the batch is divided
among the threads once, and each goes through all steps by itself: there is nothing to wait for
between steps, and the states stay in the nearest cache. The weight is packed once for all steps, as
the tiles of `product` read it, and a step multiplies block after block of it with all its states
while that block is in the nearest cache. The gradient of the weight, which step by step would be T
products and T sums of `(H, H)`, is a single product over `T·N` rows.

Each number is one sum in a fixed order, however the batch is divided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from minigrad.noting import empty, full

from ..blas import matmul
from ..workspace import Workspace
from .arrays import Result, flat, scratch
from .compile import helper, kernel, threads
from .curves import RELU, TANH, curve_line
from .product import edge_tile, pack_panel, panel_of, panels_in
from .tile import VECTOR_BYTES, VECTORS, product_tile

# Numba sees these as constants.
NV = VECTORS
WIDE_BYTES = VECTOR_BYTES
# States that a tile multiplies at once, and how deep a block of the weight is.
TILE = 4
BLOCK = 64
CURVE_TANH, CURVE_RELU = TANH, RELU


@helper
def copy_numbers(source, s0, target, t0, count):
    """`target[t0 : t0 + count] = source[s0 : s0 + count]`."""
    row = target[t0 : t0 + count]
    given = source[s0 : s0 + count]
    for i in range(count):
        row[i] = given[i]


@helper
def add_product(a, a0, rows, packed, depth, columns, c, c0):
    """`c[c0 + i·columns + j] += Σ_k a[a0 + i·depth + k] · b[k, j]` for a packed matrix b."""
    wide = WIDE_BYTES // c.itemsize
    panels = panels_in(wide, columns)
    k = 0
    while k < depth:
        count = min(BLOCK, depth - k)
        for p in range(panels):
            n0, width = panel_of(p, wide, columns)
            b0 = n0 * depth + k * width
            i = 0
            while i < rows:
                from_a, to = a0 + i * depth + k, c0 + i * columns + n0
                if rows - i >= TILE:
                    if width > wide:
                        product_tile(
                            TILE, NV, a, from_a, depth, 1, packed, b0, width, count, c, to,
                            columns, True,
                        )  # fmt: skip
                    else:
                        edge_tile(
                            TILE, a, from_a, depth, 1, packed, b0, width, count, c, to, columns,
                            True, columns - n0,
                        )  # fmt: skip
                    i += TILE
                else:
                    if width > wide:
                        product_tile(
                            1, NV, a, from_a, depth, 1, packed, b0, width, count, c, to, columns,
                            True,
                        )  # fmt: skip
                    else:
                        edge_tile(
                            1, a, from_a, depth, 1, packed, b0, width, count, c, to, columns,
                            True, columns - n0,
                        )  # fmt: skip
                    i += 1
        k += count


@helper
def part_of(worker, workers, count):
    """The sequences of one worker, first and last + 1, in whole tiles as far as there are."""
    tiles = (count + TILE - 1) // TILE
    return (
        min(tiles * worker // workers * TILE, count),
        min(tiles * (worker + 1) // workers * TILE, count),
    )


@helper
def pack_whole(p, w, w_k, w_n, depth, columns, packed):
    """One panel of a weight, all of its rows."""
    n0, width = panel_of(p, WIDE_BYTES // packed.itemsize, columns)
    have = min(width, columns - n0)
    pack_panel(w, w_k, w_n, 0, depth, n0, width, have, packed, n0 * depth)


@kernel
def rnn_kernel(x, h, w, lengths, y, state, packed, steps, count, size, bend, reverse, workers):
    """`y[t] = f(x[t] + w·y[t − 1])`; `state` and `packed` are scratch."""
    wide = WIDE_BYTES // packed.itemsize
    for p in prange(panels_in(wide, size)):
        pack_whole(p, w, 1, size, size, size, packed)
    for worker in prange(workers):
        first, last = part_of(worker, workers, count)
        rows = last - first
        copy_numbers(h, first * size, state, first * size, rows * size)
        for number in range(steps):
            t = steps - 1 - number if reverse else number
            here = (t * count + first) * size
            copy_numbers(x, here, y, here, rows * size)
            add_product(state, first * size, rows, packed, size, size, y, here)
            if bend == 0:
                curve_line(CURVE_TANH, y, here, y, here, rows * size)
            else:
                curve_line(CURVE_RELU, y, here, y, here, rows * size)
            for n in range(first, last):
                at = (t * count + n) * size
                if t < lengths[n]:
                    copy_numbers(y, at, state, n * size, size)
                else:
                    for i in range(size):
                        y[at + i] = 0


@kernel
def rnn_backward_kernel(
    g, y, w, lengths, d, carried, packed, steps, count, size, bend, reverse, workers
):  # fmt: skip
    """`d[t] = (g[t] + wᵀ·d[t + 1])·f'`; `carried` becomes the gradient of the first state."""
    wide = WIDE_BYTES // packed.itemsize
    for p in prange(panels_in(wide, size)):
        pack_whole(p, w, size, 1, size, size, packed)
    for worker in prange(workers):
        first, last = part_of(worker, workers, count)
        rows = last - first
        for i in range(first * size, last * size):
            carried[i] = 0
        for number in range(steps):
            t = number if reverse else steps - 1 - number
            for n in range(first, last):
                at = (t * count + n) * size
                slope = d[at : at + size]
                if t >= lengths[n]:
                    for i in range(size):
                        slope[i] = 0
                    continue
                gate, state = g[at : at + size], y[at : at + size]
                later = carried[n * size : (n + 1) * size]
                if bend == 0:
                    for i in range(size):
                        slope[i] = (gate[i] + later[i]) * (1 - state[i] * state[i])
                else:
                    for i in range(size):
                        # A product, as in the chain rule: NaN and infinity stay what they are.
                        slope[i] = (gate[i] + later[i]) * (1 if state[i] > 0 else 0)
                for i in range(size):
                    later[i] = 0
            here = (t * count + first) * size
            add_product(d, here, rows, packed, size, size, carried, first * size)


def rnn(
    x: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    nonlinearity: str,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.rnn`."""
    steps, count, size = x.shape
    result = Result(x.shape, x.dtype, out, x, h, w)
    if x.size:
        room = scratch(workspace)
        rnn_kernel(
            *(flat(x), flat(h), flat(w), lengths_of(lengths, steps, count)),
            *(result.buffer.reshape(-1), room.take((count * size,), x.dtype)),
            *(room.take((packed_size(size, size, x.itemsize),), x.dtype), steps, count, size),
            *(_bend(nonlinearity), bool(reverse), workers_for(count)),
        )
    return result.deliver()


def rnn_backward(
    g: np.ndarray,
    y: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    nonlinearity: str,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.rnn_backward`."""
    steps, count, size = y.shape
    result = Result(y.shape, y.dtype, out, g, y, h, w)
    carried, ends = empty(h.shape, h.dtype), lengths_of(lengths, steps, count)
    if y.size:
        packed = scratch(workspace).take((packed_size(size, size, y.itemsize),), y.dtype)
        rnn_backward_kernel(
            *(flat(g), flat(y), flat(w), ends, result.buffer.reshape(-1), carried.reshape(-1)),
            *(packed, steps, count, size, _bend(nonlinearity), bool(reverse), workers_for(count)),
        )
    gw = weight_gradient(result.buffer, y, h, ends, reverse)
    return result.deliver(), carried, gw


def _bend(nonlinearity: str) -> int:
    return 0 if nonlinearity == "tanh" else 1


def lengths_of(lengths: Any, steps: int, count: int) -> np.ndarray:
    """Where each sequence ends, as kernels want it."""
    if lengths is None:
        return full(count, steps, np.int64)
    return np.array(lengths, np.int64)


def packed_size(depth: int, columns: int, itemsize: int) -> int:
    """How many numbers a packed matrix takes: its columns fill whole vectors."""
    wide = WIDE_BYTES // itemsize
    return depth * -(-columns // wide) * wide


def workers_for(count: int) -> int:
    """How many parts a batch is divided into."""
    return max(1, min(threads(), -(-count // TILE)))


def weight_gradient(
    d: np.ndarray, y: np.ndarray, h: np.ndarray, ends: np.ndarray, reverse: bool
) -> np.ndarray:
    """`Σ_t d[t]ᵀ · (the state before t)`, for d `(T, N, rows)`: two products.

    Behind the end of a sequence d and y are 0, so nothing comes from there.
    """
    later, earlier = (d[:-1], y[1:]) if reverse else (d[1:], y[:-1])
    first = d[0]
    if reverse:
        some = np.arange(len(ends))
        first = np.where((ends > 0)[:, None], d[ends - 1, some], 0).astype(d.dtype)
    with np.errstate(all="ignore"):
        gw = matmul(first.T, h)
        if len(later):
            gw += matmul(later.reshape(-1, d.shape[2]).T, earlier.reshape(-1, y.shape[2]))
    return gw
