"""A convolution's adjoint in its weight as a matrix product whose patches are never built.

Rows are filters, columns the weights of one filter `(c, t)`, and the sums run over all places of
all images: they are long and the results few, so the sums are cut into parts that run beside each
other, and are added up in order. See `tile` for how a block computes its part.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import int32, int64, uint32, uint64

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import plan as plans
from .array import CudaArray
from .arrays import (
    Result,
    Scratch,
    epilogue_arrays,
    flat,
    nothing,
    numbered,
    on_card,
    parts,
    product,
)
from .driver import numba_cuda
from .launch import Kernel, kernel, line
from .plan import TERM
from .product import add_parts
from .tile import ALIGNED, TENSOR_TILES, Tile, multiplier, pick, placer, putter, tiles

cuda: Any = numba_cuda()

SIZES = 21
"""How many integers `correlate` takes."""


@cache
def correlate(tile: Tile, dtype: Any) -> Kernel:
    """The kernel of a tile; it serves every geometry."""
    real = np.dtype(dtype).type
    zero, name = real(0), np.dtype(dtype).name
    multiply = multiplier(tile, dtype)
    rows, columns, depth, tall, wide, threads = *tile[:5], tile.threads
    whereabouts = placer(tile)
    put_a, put_b = putter(tile, dtype, rows), putter(tile, dtype, columns)
    a_slice, b_slice = tile.slice(rows, dtype), tile.slice(columns, dtype)
    a_room, b_room = 2 * a_slice, 2 * b_slice
    a_share, b_share = rows * depth // threads, columns * depth // threads
    a_run, a_step, b_run, b_step = tile.runs
    apart = threads // depth
    term_room = columns * TERM

    def correlate_kernel(x, g, gw, residual, terms, sizes):
        (
            images, groups, m, n, n_blocks, length, read_channels, read_group, d, h, wd,
            p_z, p_y, p_x, rs_z, rs_y, rs_x, o_z, o_y, o_x, filters,
        ) = sizes  # fmt: skip
        sa = cuda.shared.array(a_room, real, ALIGNED)
        sb = cuda.shared.array(b_room, real, ALIGNED)
        term = cuda.shared.array(term_room, int32, ALIGNED)
        sums = cuda.local.array((tall, wide), real)
        left = cuda.local.array(tall, real)
        right = cuda.local.array(wide, real)
        a_next = cuda.local.array(a_share, real)
        b_next = cuda.local.array(b_share, real)
        thread = int32(cuda.threadIdx.x)
        high = uint32((m + rows - 1) // rows)
        block = uint32(cuda.blockIdx.x)
        row = int32(block % high) * rows
        rest = block // high
        column = int32(rest % uint32(n_blocks)) * columns
        rest = rest // uint32(n_blocks)
        group = int32(rest % uint32(groups))
        piece = int64(rest // uint32(groups))
        line_size = uint32(p_y * p_x)
        places = uint32(p_z * p_y * p_x)
        first = piece * length
        last = min(images * int64(places), first + length)
        # Where each of the block's columns reads, from a place's first tap.
        for e in range(thread, term_room, threads):
            term[uint32(e)] = 0
            if column + e // TERM < n:
                term[uint32(e)] = terms[uint64(column * TERM + e)]
        # A thread's numbers all belong to one place, which is computed once a slice.
        mine = thread % depth
        beside = thread // depth
        for i in range(tall):
            for j in range(wide):
                sums[i, j] = zero
        my_row, my_column = whereabouts(thread)
        plane = int64(d * h * wd)
        steps = int32((last - first + depth - 1) // depth)
        cuda.syncthreads()
        for step in range(steps + 1):
            if step < steps:
                at = first + step * depth + mine
                image = uint32(at) // places
                place = uint32(uint32(at) % places)
                g_at = int64(image) * filters + group * m + row + beside
                g_at = g_at * int64(places) + int64(place)
                z = int32(uint32(place // line_size)) * rs_z + o_z
                place = uint32(place % line_size)
                y0 = int32(uint32(place // p_x)) * rs_y + o_y
                x0 = int32(uint32(place % p_x)) * rs_x + o_x
                x_at = (int64(image) * read_channels + group * read_group) * plane
                x_at += (int64(z) * h + y0) * wd + x0
                inside = at < last
                for s in range(a_share):
                    a_next[s] = zero
                    if inside and row + beside + s * apart < m:
                        a_next[s] = g[uint64(g_at + s * apart * int64(places))]
                for s in range(b_share):
                    e = uint32((beside + s * apart) * TERM)
                    i_z = uint32(int32(z + term[e + uint32(1)]))
                    i_y = uint32(int32(y0 + term[e + uint32(2)]))
                    i_x = uint32(int32(x0 + term[e + uint32(3)]))
                    b_next[s] = zero
                    # One comparison for both ends: what is below 0 is large without a sign.
                    if inside and i_z < uint32(d) and i_y < uint32(h) and i_x < uint32(wd):
                        b_next[s] = x[uint64(x_at + term[e])]
            if step > 0:
                turn = (step + 1) % 2
                multiply(
                    sa, sb, uint32(turn * a_slice + my_row),
                    uint32(turn * b_slice + my_column), left, right, sums,
                )  # fmt: skip
            if step < steps:
                turn = step % 2
                for s in range(a_share):
                    put_a(sa, turn * a_slice, mine, beside + s * apart, a_next[s])
                for s in range(b_share):
                    put_b(sb, turn * b_slice, mine, beside + s * apart, b_next[s])
                cuda.syncthreads()
        row += my_row
        column += my_column
        to = (int64(group) * m + row) * n + column
        if residual.size > 0:
            for i in range(tall):
                down = (i // a_run) * a_step + i % a_run
                for j in range(wide):
                    right_of = (j // b_run) * b_step + j % b_run
                    if row + down < m and column + right_of < n:
                        sums[i, j] += residual[uint64(to + down * n + right_of)]
        to += piece * (filters * n)
        for i in range(tall):
            down = (i // a_run) * a_step + i % a_run
            for j in range(wide):
                right_of = (j // b_run) * b_step + j % b_run
                if row + down < m and column + right_of < n:
                    gw[uint64(to + down * n + right_of)] = sums[i, j]

    correlate_kernel.__name__ = f"correlate_{name}_{tile}"
    array = f"{name}[::1]"
    made = kernel(f"void({array}, {array}, {array}, {array}, int32[::1], UniTuple(int64, {SIZES}))")
    return made(correlate_kernel)


def conv_weight(
    x: CudaArray,
    g: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
    tile: Tile | None = None,
    pieces: int | None = None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv_weight`; `tile` and `pieces` stand for what `pick` says."""
    groups, images = geometry.groups, x.shape[0]
    filters, read_group = g.shape[1], x.shape[1] // groups
    plan = plans.forward(geometry, read_group)
    result = Result(
        x, (filters, read_group, *geometry.kernel), x.dtype, out, x, g, *parts(epilogue)
    )
    m, n = filters // groups, len(plan.terms)
    depth = images * plan.places
    numbered(
        "conv_weight",
        places_of_all_images=depth,
        weights=filters * n,
        numbers_of_an_image=product(x.shape[1:]),
    )
    best, cut, length = pick(x.dtype, x.card.driver.limits, m, n, groups, depth)
    if tile is not None or pieces is not None:
        best, cut = tile or best, pieces or cut
        length = max(1, -(-depth // (cut * best.depth))) * best.depth
        cut = max(1, -(-depth // length))
    _, residual, _ = epilogue_arrays(epilogue, x)
    empty, whole = nothing(type(x), x.dtype), cut == 1
    target = result.buffer.reshape(-1)
    to = target if whole else Scratch(workspace, x).take((cut * target.size,), x.dtype)
    n_blocks = -(-n // best.columns)
    correlate(best, x.dtype)(
        -(-m // best.rows) * n_blocks * groups * cut,
        best.threads,
        flat(x),
        flat(g),
        to,
        residual if whole else empty,
        on_card(x, (*plan.key, "terms"), lambda: plan.terms),
        (
            images, groups, m, n, n_blocks, length, x.shape[1], read_group, *plan.read,
            *plan.write, *plan.read_step, *(int(o) for o in plan.passes[0, 5:8]), filters,
        ),
    )  # fmt: skip
    if not whole:
        add_parts(x.dtype)(*line(x.card, target.size), to, target, empty, residual, cut, 1, 1, 0)
    return result.deliver()


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [correlate(tile, t) for t in kinds for tile in (tiles(t) if full else tiles(t)[:1])]


def tensor_examples(to: str) -> list[Kernel]:
    """Those of tensor cores, which not every card has."""
    return [correlate(tile, "float32") for tile in TENSOR_TILES[to]]
