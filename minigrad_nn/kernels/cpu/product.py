"""Matrix products in register tiles, on all threads: what BLAS on one thread would take long for.

The right matrix is packed once, in panels as wide as a tile, so that its vectors lie side by side
whatever way the matrix lies in memory (Goto and van de Geijn, 2008). The left matrix is read where
it lies, one number at a time: a tile spreads each over a vector.

Every element is one sum over k in ascending order, by fused multiply-adds that start from 0. How
rows, columns and k are cut into tiles, blocks and threads has no influence on it, so results are
the same bits at any number of threads. Where the left matrix has few rows, the right one is read
once, from front to back, and the product is as fast as memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types
from numba.core import cgutils

from ..workspace import Workspace
from .arrays import Result, copied, scratch
from .compile import helper, kernel, threads
from .curves import Mask
from .tile import VECTOR_BYTES, VECTORS, _Emitter, _tile, product_tile

# Numba sees these as constants.
NV = VECTORS
WIDE_BYTES = VECTOR_BYTES
# What a block of k takes of the nearest caches: a panel of the right matrix, and rows of the left.
DEPTH = 256
# Rows of the left matrix that a thread takes at a time, about.
CHUNK = 96
# Rows of a panel that are packed at a time where the right matrix lies the other way.
CORNER = 16
# With fewer rows than this, packing the right matrix would cost more than the product.
SMALL = 17
# Rows and columns of the tiles for those, and how many rows of the right matrix they read at once.
FEW, STREAM = 4, 16


@_tile
def edge_tile(typingctx, rows, a, a0, a_row, a_k, b, b0, b_k, count, c, c0, c_row, add, lanes):
    """`product_tile` for one vector, of which only the first `lanes` lanes belong to c.

    The others are computed, from what b holds there, but c is neither read nor written there.
    """
    if not hasattr(rows, "literal_value"):
        return None
    n_rows = rows.literal_value
    at = types.intp
    signature = types.void(rows, a, at, at, at, b, at, at, at, c, at, at, types.boolean, at)

    def generate(context, builder, signature, arguments):
        a_, a0_, a_row_, a_k_, b_, b0_, b_k_, count_, c_, c0_, c_row_, add_, lanes_ = arguments[1:]
        e = _Emitter(context, builder, signature.args[1].dtype)
        left = e.at(e.data(signature.args[1], a_), a0_)
        right = e.at(e.data(signature.args[5], b_), b0_)
        result = e.at(e.data(signature.args[9], c_), c0_)
        starts = [e.at(left, builder.mul(a_row_, e.const(i))) for i in range(n_rows)]
        ends = [e.at(result, builder.mul(c_row_, e.const(i))) for i in range(n_rows)]
        inside = Mask(e, lanes_)
        sums = e.accumulators(n_rows, 1)
        with builder.if_then(context.is_true(builder, types.boolean, add_)):
            for i in range(n_rows):
                builder.store(inside.load(ends[i]), sums[i][0])
        with cgutils.for_range(builder, count_) as loop:
            vector = e.load(e.at(right, builder.mul(loop.index, b_k_)))
            step = builder.mul(loop.index, a_k_)
            for i in range(n_rows):
                factor = e.splat(builder.load(e.at(starts[i], step)))
                e.accumulate(sums[i][0], factor, vector)
        for i in range(n_rows):
            inside.store(builder.load(sums[i][0]), ends[i])
        return context.get_dummy_value()

    return signature, generate


@helper
def pack_panel(b, b_k, b_n, k0, count, n0, width, have, packed, to):
    """`packed[to + k·width + j] = b[(k0 + k)·b_k + (n0 + j)·b_n]` for `j < have`, else 0."""
    if b_n == 1:
        for k in range(count):
            row = packed[to + k * width : to + (k + 1) * width]
            start = (k0 + k) * b_k + n0
            source = b[start : start + have]
            for j in range(have):
                row[j] = source[j]
            for j in range(have, width):
                row[j] = 0
        return
    for first in range(0, count, CORNER):  # so many rows of the panel stay in the nearest cache
        last = min(first + CORNER, count)
        for j in range(have):
            start = (n0 + j) * b_n + k0 * b_k
            for k in range(first, last):
                # Numba would look whether a signed index counts from the end.
                packed[np.uintp(to + k * width + j)] = b[np.uintp(start + k * b_k)]
    for j in range(have, width):
        for k in range(count):
            packed[to + k * width + j] = 0


@helper
def panel_of(number, wide, columns):
    """First column and width of a panel: as wide as a tile, then single vectors for the rest."""
    whole = columns // (NV * wide)
    if number < whole:
        return number * NV * wide, NV * wide
    return whole * NV * wide + (number - whole) * wide, wide


@helper
def panels_in(wide, columns):
    """How many panels there are."""
    whole = columns // (NV * wide)
    return whole + (columns - whole * NV * wide + wide - 1) // wide


@helper
def multiply_rows(
    a, a0, a_row, a_k, packed, b0, count, width, wide, c, c0, c_row, rows, add, lanes
):  # fmt: skip
    """`rows` rows of a times one panel; a panel of one vector may have fewer lanes in c."""
    i = 0
    if width == wide:
        while i + 6 <= rows:
            edge_tile(
                6, a, a0 + i * a_row, a_row, a_k, packed, b0, width, count, c, c0 + i * c_row,
                c_row, add, lanes,
            )  # fmt: skip
            i += 6
        while i < rows:
            edge_tile(
                1, a, a0 + i * a_row, a_row, a_k, packed, b0, width, count, c, c0 + i * c_row,
                c_row, add, lanes,
            )  # fmt: skip
            i += 1
        return
    while i + 6 <= rows:
        product_tile(
            6, NV, a, a0 + i * a_row, a_row, a_k, packed, b0, width, count, c, c0 + i * c_row,
            c_row, add,
        )  # fmt: skip
        i += 6
    while i < rows:
        product_tile(
            1, NV, a, a0 + i * a_row, a_row, a_k, packed, b0, width, count, c, c0 + i * c_row,
            c_row, add,
        )  # fmt: skip
        i += 1


@kernel
def product_kernel(a, a_row, a_k, b, b_k, b_n, c, c_row, packed, rows, depth, columns):
    """`c = a · b`; `packed` is scratch for `depth` rows of whole vectors."""
    wide = WIDE_BYTES // c.itemsize
    panels = panels_in(wide, columns)
    for p in prange(panels):
        n0, width = panel_of(p, wide, columns)
        pack_panel(b, b_k, b_n, 0, depth, n0, width, min(width, columns - n0), packed, n0 * depth)
    chunks = max(4, (rows + CHUNK - 1) // CHUNK)
    tiles = (rows + 5) // 6
    for item in prange(chunks * panels):
        n0, width = panel_of(item % panels, wide, columns)
        chunk = item // panels
        first = chunk * tiles // chunks * 6
        here = min((chunk + 1) * tiles // chunks * 6, rows) - first
        k = 0
        while k < depth:
            count = min(DEPTH, depth - k)
            multiply_rows(
                a, first * a_row + k * a_k, a_row, a_k, packed, n0 * depth + k * width, count,
                width, wide, c, first * c_row + n0, c_row, here, k > 0, columns - n0,
            )  # fmt: skip
            k += count


@_tile
def dot_block(typingctx, rows, columns, a, a0, a_row, b, b0, b_row, count, c, c0, c_row):
    """`c[c0 + i·c_row + j] = Σ_k a[a0 + i·a_row + k] · b[b0 + j·b_row + k]`, W partial sums each.

    For `i < rows` and `j < columns`, which are literal integers, and `k < count`.
    """
    if not hasattr(rows, "literal_value") or not hasattr(columns, "literal_value"):
        return None
    n_rows, n_columns, at = rows.literal_value, columns.literal_value, types.intp
    signature = types.void(rows, columns, a, at, at, b, at, at, at, c, at, at)

    def generate(context, builder, signature, arguments):
        a_, a0_, a_row_, b_, b0_, b_row_, count_, c_, c0_, c_row_ = arguments[2:]
        e = _Emitter(context, builder, signature.args[2].dtype)
        left = e.at(e.data(signature.args[2], a_), a0_)
        right = e.at(e.data(signature.args[5], b_), b0_)
        result = e.at(e.data(signature.args[9], c_), c0_)
        a_rows = [e.at(left, builder.mul(a_row_, e.const(i))) for i in range(n_rows)]
        b_rows = [e.at(right, builder.mul(b_row_, e.const(j))) for j in range(n_columns)]
        sums = e.accumulators(n_rows, n_columns)

        def step(shift, load):
            window = [load(e.at(row, shift)) for row in b_rows]
            for i, row in enumerate(a_rows):
                vector = load(e.at(row, shift))
                for j in range(n_columns):
                    e.accumulate(sums[i][j], vector, window[j])

        whole = builder.sdiv(count_, e.const(e.width))
        with cgutils.for_range(builder, whole) as loop:
            step(builder.mul(loop.index, e.const(e.width)), e.load)
        done = builder.mul(whole, e.const(e.width))
        step(done, Mask(e, builder.sub(count_, done)).load)
        for i in range(n_rows):
            to = e.at(result, builder.mul(c_row_, e.const(i)))
            for j in range(n_columns):
                builder.store(e.add_lanes(builder.load(sums[i][j])), e.at(to, e.const(j)))
        return context.get_dummy_value()

    return signature, generate


@kernel
def dots_kernel(a, a_row, b, b_row, c, rows, depth, columns):
    """`c = a · bᵀ` for few rows of a: b is read once, from front to back, and never packed."""
    blocks = columns // FEW
    for block in prange(blocks):
        j = block * FEW
        i = 0
        while i + FEW <= rows:
            dot_block(
                FEW, FEW, a, i * a_row, a_row, b, j * b_row, b_row, depth, c, i * columns + j,
                columns,
            )  # fmt: skip
            i += FEW
        while i < rows:
            dot_block(
                1, FEW, a, i * a_row, a_row, b, j * b_row, b_row, depth, c, i * columns + j, columns
            )
            i += 1
    for j in range(blocks * FEW, columns):
        for i in range(rows):
            dot_block(
                1, 1, a, i * a_row, a_row, b, j * b_row, b_row, depth, c, i * columns + j, columns
            )


@kernel
def stream_kernel(a, a_row, a_k, b, b_k, c, rows, depth, columns, strips):
    """`c = a · b` for few rows of a: b is read once, row by row, and never packed."""
    wide = NV * (WIDE_BYTES // c.itemsize)
    panels = columns // wide
    for strip in prange(strips):
        k = 0
        while k < depth:
            count = min(STREAM, depth - k)
            for p in range(panels * strip // strips, panels * (strip + 1) // strips):
                j = p * wide
                i = 0
                while i + FEW <= rows:
                    product_tile(
                        FEW, NV, a, i * a_row + k * a_k, a_row, a_k, b, k * b_k + j, b_k, count, c,
                        i * columns + j, columns, k > 0,
                    )  # fmt: skip
                    i += FEW
                while i < rows:
                    product_tile(
                        1, NV, a, i * a_row + k * a_k, a_row, a_k, b, k * b_k + j, b_k, count, c,
                        i * columns + j, columns, k > 0,
                    )  # fmt: skip
                    i += 1
            k += count
    for i in range(rows):
        for j in range(panels * wide, columns):
            total = c.dtype.type(0)
            for k in range(depth):
                total += a[i * a_row + k * a_k] * b[k * b_k + j]
            c[i * columns + j] = total


class _Line:
    """The memory of a matrix as one writable line, from its first element to its last."""

    def __init__(self, array: np.ndarray, count: int) -> None:
        self.array = array
        self.__array_interface__ = {
            "shape": (count,),
            "typestr": array.dtype.str,
            "data": (array.__array_interface__["data"][0], False),
            "version": 3,
        }


def line_of(matrix: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A matrix as one line, and the steps of its two axes; a copy if both differ from 1."""
    size = matrix.itemsize
    steps = [step // size for step in matrix.strides]
    fine = matrix.flags.aligned and all(step % size == 0 for step in matrix.strides)
    if not (fine and 1 in steps and min(steps) > 0):
        matrix = copied(matrix)
        steps = [matrix.shape[1], 1]
    span = (matrix.shape[0] - 1) * steps[0] + (matrix.shape[1] - 1) * steps[1] + 1
    return np.asarray(_Line(matrix, span)), steps[0], steps[1]


def matmul(a: np.ndarray, b: np.ndarray, out: Any, workspace: Workspace | None) -> np.ndarray:
    """See `minigrad_nn.kernels.matmul`."""
    rows, depth, columns = a.shape[0], a.shape[1], b.shape[1]
    result = Result((rows, columns), a.dtype, out, a, b)
    if not depth:
        result.buffer[...] = 0
    elif result.buffer.size:
        left, a_row, a_k = line_of(a)
        right, b_k, b_n = line_of(b)
        made, sizes = result.buffer.reshape(-1), (rows, depth, columns)
        if rows < SMALL and b_n == 1 and columns > 1:
            stream_kernel(left, a_row, a_k, right, b_k, made, *sizes, threads())
        elif rows < SMALL and b_k == 1 and a_k == 1:
            dots_kernel(left, a_row, right, b_n, made, *sizes)
        else:
            wide = WIDE_BYTES // a.itemsize
            packed = scratch(workspace).take((depth * -(-columns // wide) * wide,), a.dtype)
            product_kernel(left, a_row, a_k, right, b_k, b_n, made, columns, packed, *sizes)
    return result.deliver()
