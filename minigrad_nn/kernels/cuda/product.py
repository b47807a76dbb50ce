"""Matrix products of arrays with any strides, by a kernel of our own.

`matmul` is the product over the last two axes, as NumPy's; a transposed operand is read where it
lies. cuBLAS does it instead where that was asked for (`library`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import int32, int64, uint32, uint64

from ..workspace import Workspace
from . import library
from .array import CudaArray
from .arrays import Result, Scratch, forwards, nothing, window
from .driver import numba_cuda
from .launch import Kernel, kernel, line
from .tile import ALIGNED, TENSOR_TILES, Tile, multiplier, pick, placer, putter, tiles

cuda: Any = numba_cuda()

SIZES = 14
"""How many integers `multiply_matrices` takes."""


@cache
def multiply_matrices(tile: Tile, dtype: Any) -> Kernel:
    """The kernel of a tile: `c[z, i, j] = Σ_k a[z, i, k] · b[z, k, j]`, with an epilogue."""
    real = np.dtype(dtype).type
    zero, lowest, name = real(0), real(-np.inf), np.dtype(dtype).name
    multiply = multiplier(tile, dtype)
    rows, columns, depth, tall, wide, threads = *tile[:5], tile.threads
    whereabouts = placer(tile)
    put_a, put_b = putter(tile, dtype, rows), putter(tile, dtype, columns)
    a_slice, b_slice = tile.slice(rows, dtype), tile.slice(columns, dtype)
    a_room, b_room = 2 * a_slice, 2 * b_slice
    a_share, b_share = rows * depth // threads, columns * depth // threads
    a_run, a_step, b_run, b_step = tile.runs

    def product_kernel(a, b, c, bias, residual, sizes):
        (
            m, n, k, a_row, a_term, a_batch, b_term, b_column, b_batch, batches, length,
            a_by_term, b_by_term, relu,
        ) = sizes  # fmt: skip
        floor = zero if relu else lowest
        sa = cuda.shared.array(a_room, real, ALIGNED)
        sb = cuda.shared.array(b_room, real, ALIGNED)
        sums = cuda.local.array((tall, wide), real)
        left = cuda.local.array(tall, real)
        right = cuda.local.array(wide, real)
        a_next = cuda.local.array(a_share, real)
        b_next = cuda.local.array(b_share, real)
        thread = int32(cuda.threadIdx.x)
        # Neighbouring blocks take the same columns of b: it is then read from the card's cache.
        high = uint32((m + rows - 1) // rows)
        block = uint32(cuda.blockIdx.x)
        row = int32(block % high) * rows
        rest = block // high
        across_all = uint32((n + columns - 1) // columns)
        column = int32(rest % across_all) * columns
        batch = int32(rest // across_all)  # of all parts: batches, for each part of the sums
        part = batch // int32(batches)
        first = part * length
        last = min(k, first + length)
        # Neighbouring threads read along the axis whose numbers lie next to each other.
        if a_by_term:
            a_i, a_k, a_di, a_dk = thread // depth, thread % depth, threads // depth, 0
        else:
            a_i, a_k, a_di, a_dk = thread % rows, thread // rows, 0, threads // rows
        if b_by_term:
            b_j, b_k, b_dj, b_dk = thread // depth, thread % depth, threads // depth, 0
        else:
            b_j, b_k, b_dj, b_dk = thread % columns, thread // columns, 0, threads // columns
        within = int64(batch - part * int32(batches))
        a_at = within * a_batch + (row + a_i) * a_row + (first + a_k) * a_term
        b_at = within * b_batch + (column + b_j) * b_column + (first + b_k) * b_term
        a_jump = a_di * a_row + a_dk * a_term
        b_jump = b_dj * b_column + b_dk * b_term
        for i in range(tall):
            for j in range(wide):
                sums[i, j] = zero
        my_row, my_column = whereabouts(thread)
        steps = int32((last - first + depth - 1) // depth)
        for step in range(steps + 1):
            if step < steps:
                start = first + step * depth
                for s in range(a_share):
                    a_next[s] = zero
                    if row + a_i + s * a_di < m and start + a_k + s * a_dk < last:
                        a_next[s] = a[uint64(a_at + s * a_jump)]
                for s in range(b_share):
                    b_next[s] = zero
                    if column + b_j + s * b_dj < n and start + b_k + s * b_dk < last:
                        b_next[s] = b[uint64(b_at + s * b_jump)]
                a_at += depth * a_term
                b_at += depth * b_term
            if step > 0:
                turn = (step + 1) % 2
                multiply(
                    sa, sb, uint32(turn * a_slice + my_row),
                    uint32(turn * b_slice + my_column), left, right, sums,
                )  # fmt: skip
            if step < steps:
                turn = step % 2
                for s in range(a_share):
                    put_a(sa, turn * a_slice, a_k + s * a_dk, a_i + s * a_di, a_next[s])
                for s in range(b_share):
                    put_b(sb, turn * b_slice, b_k + s * b_dk, b_j + s * b_dj, b_next[s])
                cuda.syncthreads()
        row += my_row
        column += my_column
        at = (int64(batch) * m + row) * n + column
        # One loop for each step, small enough that all of them are unrolled: an index that is not
        # known to the compiler would put the sums into memory.
        if bias.size > 0:
            for j in range(wide):
                right[j] = zero
                if column + (j // b_run) * b_step + j % b_run < n:
                    right[j] = bias[uint64(column + (j // b_run) * b_step + j % b_run)]
            for i in range(tall):
                for j in range(wide):
                    sums[i, j] += right[j]
        if residual.size > 0:
            for i in range(tall):
                down = (i // a_run) * a_step + i % a_run
                for j in range(wide):
                    beside = (j // b_run) * b_step + j % b_run
                    if row + down < m and column + beside < n:
                        sums[i, j] += residual[uint64(at + down * n + beside)]
        for i in range(tall):
            down = (i // a_run) * a_step + i % a_run
            for j in range(wide):
                beside = (j // b_run) * b_step + j % b_run
                if row + down < m and column + beside < n:
                    # NaN is not below the floor, and stays.
                    value = sums[i, j]
                    c[uint64(at + down * n + beside)] = floor if value <= floor else value

    product_kernel.__name__ = f"product_{name}_{tile}"
    array = f"{name}[::1]"
    ends = f"UniTuple(int64, {SIZES})"
    made = kernel(f"void({array}, {array}, {array}, {array}, {array}, {ends})")
    return made(product_kernel)


@cache
def add_parts(dtype: Any) -> Kernel:
    """The kernel that adds parts of sums up in order, with an epilogue: `c = Σ_s parts[s]`."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    zero = real(0)

    def add_parts_kernel(parts, c, bias, residual, pieces, inner, channels, relu):
        count = c.size
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            value = parts[i]
            for piece in range(1, pieces):
                value += parts[piece * count + i]
            if bias.size > 0:
                value += bias[i // inner % channels]
            if residual.size > 0:
                value += residual[i]
            if relu and value <= zero:
                value = zero
            c[i] = value

    add_parts_kernel.__name__ = f"add_parts_{name}"
    array = f"{name}[::1]"
    made = kernel(f"void({array}, {array}, {array}, {array}, int64, int64, int64, int64)")
    return made(add_parts_kernel)


def multiply_into(
    c: CudaArray,
    a: CudaArray,
    b: CudaArray,
    scratch: Scratch,
    bias: CudaArray | None = None,
    residual: CudaArray | None = None,
    relu: bool = False,
    tile: Tile | None = None,
    pieces: int | None = None,
) -> None:
    """`c = a · b` for `(batch, m, k)` and `(batch, k, n)` of any strides, into a contiguous c.

    Args:
        c: `(batch, m, n)`.
        a, b: the operands; a batch that is broadcast has stride 0.
        scratch: where parts of sums may lie.
        bias: `(n,)`, added to each row.
        residual: contiguous, the shape of c; it is added.
        relu: whether negative results become 0.
        tile: instead of the one that `pick` takes.
        pieces: into how many parts the sums are cut, instead of what `pick` says.
    """
    (batches, m, n), k = c.shape, a.shape[2]
    if not c.size:
        return
    card, size = c.card, c.itemsize
    best, cut, length = pick(c.dtype, card.driver.limits, m, n, batches, k)
    if tile is not None or pieces is not None:
        best, cut = tile or best, pieces or cut
        length = max(1, -(-k // (cut * best.depth))) * best.depth
        cut = max(1, -(-k // length))
    a, b = forwards(a), forwards(b)
    a_batch, a_row, a_term = (s // size for s in a.strides)
    b_batch, b_term, b_column = (s // size for s in b.strides)
    empty = nothing(type(c), c.dtype)
    plain_bias = empty if bias is None else bias
    plain_residual = empty if residual is None else residual.reshape(-1)
    whole = cut == 1
    to = c.reshape(-1) if whole else scratch.take((cut * c.size,), c.dtype)
    blocks = -(-m // best.rows) * -(-n // best.columns) * batches * cut
    multiply_matrices(best, c.dtype)(
        blocks,
        best.threads,
        window(a),
        window(b),
        to,
        plain_bias if whole else empty,
        plain_residual if whole else empty,
        (
            m, n, k, a_row, a_term, a_batch, b_term, b_column, b_batch, batches, length,
            int(abs(a_term) <= abs(a_row)), int(abs(b_term) < abs(b_column)), int(relu and whole),
        ),
    )  # fmt: skip
    if not whole:
        add_parts(c.dtype)(
            *line(card, c.size), to, c.reshape(-1), plain_bias, plain_residual, cut, 1, n, int(relu)
        )


def matmul(
    a: CudaArray,
    b: CudaArray,
    out: CudaArray | None = None,
    workspace: Workspace | None = None,
) -> CudaArray:
    """The matrix product over the last two axes, as `numpy.matmul`; the others are broadcast.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not belong together")
    left = a.reshape(1, -1) if a.ndim == 1 else a
    right = b.reshape(-1, 1) if b.ndim == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    (m, k), n = left.shape[-2:], right.shape[-1]
    shape = (*batch, *(m,) * (a.ndim > 1), *(n,) * (b.ndim > 1))
    result = Result(a, shape, a.dtype, out, a, b)
    c = result.buffer
    if right.ndim == 2 and left.ndim > 2 and left.flags.c_contiguous:
        # One matrix for all: the batch only makes the other one longer.
        batch, m, left = (), c.size // n if n else 0, left.reshape(-1, k)
    count = 1
    for length in batch:
        count *= length
    left, right = _stacked(left, batch, count), _stacked(right, batch, count)
    if library.wanted() and c.size and k:
        library.multiply_into(c.reshape(count, m, n), left, right)
    else:
        multiply_into(c.reshape(count, m, n), left, right, Scratch(workspace, a))
    return result.deliver()


def _stacked(array: CudaArray, batch: tuple[int, ...], count: int) -> CudaArray:
    """`(count, rows, columns)`, broadcast; a view where strides allow it."""
    wide = np.broadcast_to(array._ghost, (*batch, *array.shape[-2:]))
    return array._like(wide).reshape(count, *array.shape[-2:])


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [
        *(multiply_matrices(tile, t) for t in kinds for tile in tiles(t)),
        *(add_parts(t) for t in kinds),
    ]


def tensor_examples(to: str) -> list[Kernel]:
    """Those of tensor cores, which not every card has."""
    return [multiply_matrices(tile, "float32") for tile in TENSOR_TILES[to]]
