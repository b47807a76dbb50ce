"""Convolution and its adjoint in the input as a matrix product whose patches are never built.

Rows are the channels that are written, columns the places of all images, and the sums run over the
channels that are read and the taps (`plan`). See `tile` for how a block computes its part.
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
from .arrays import Result, Scratch, epilogue_arrays, flat, nothing, numbered, on_card, parts
from .driver import numba_cuda
from .launch import Kernel, kernel, line
from .plan import PASS, TERM, Plan
from .product import add_parts
from .tile import ALIGNED, TENSOR_TILES, Tile, multiplier, pick, placer, putter, tiles

cuda: Any = numba_cuda()

SIZES = 26
"""How many integers `convolve` takes."""
OUTSIDE = np.int32(1 << 29)
"""An offset that leads out of every axis."""


@cache
def convolve(tile: Tile, dtype: Any) -> Kernel:
    """The kernel of a tile; it serves every geometry."""
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
    b_dk = threads // columns
    slice_terms = depth * TERM
    term_room, weight_room = 2 * slice_terms, 2 * depth

    def convolve_kernel(x, w, y, bias, residual, terms, weights, passes, sizes):
        (
            images, groups, m, n_blocks, length, relu, a_by_term, row_step, group_step,
            read_channels, read_group, d, h, wd, write_channels, wr_d, wr_h, wr_w,
            rs_z, rs_y, rs_x, ws_z, ws_y, ws_x, pieces, _,
        ) = sizes  # fmt: skip
        sa = cuda.shared.array(a_room, real, ALIGNED)
        sb = cuda.shared.array(b_room, real, ALIGNED)
        term = cuda.shared.array(term_room, int32, ALIGNED)
        weight = cuda.shared.array(weight_room, int32)
        sums = cuda.local.array((tall, wide), real)
        left = cuda.local.array(tall, real)
        right = cuda.local.array(wide, real)
        a_next = cuda.local.array(a_share, real)
        b_next = cuda.local.array(b_share, real)
        to = cuda.local.array(wide, int64)
        floor = zero if relu else lowest
        thread = int32(cuda.threadIdx.x)
        # Neighbouring blocks read the same places: those are then in the card's cache.
        high = uint32((m + rows - 1) // rows)
        block = uint32(cuda.blockIdx.x)
        row = int32(block % high) * rows
        rest = block // high
        column = int32(rest % uint32(n_blocks)) * columns
        rest = rest // uint32(n_blocks)
        group = int32(rest % uint32(groups))
        rest = rest // uint32(groups)
        piece = int32(rest % uint32(pieces))
        this = int32(rest // uint32(pieces)) * PASS
        first_term, count = passes[this], passes[this + 1]
        p_z, p_y, p_x = uint32(passes[this + 2]), uint32(passes[this + 3]), uint32(passes[this + 4])
        line_size = uint32(p_y * p_x)
        places = uint32(p_z * line_size)
        n = int32(uint32(images) * places)
        if column >= n:  # of a pass with fewer places than the largest
            return
        first = int32(piece * length)
        last = int32(max(first, min(int32(count), first + int32(length))))
        # This thread's column of patches: where its first tap reads.
        b_j, b_k = thread % columns, thread // columns
        mine = uint32(min(column + b_j, n - 1))
        image = uint32(mine // places)
        place = uint32(mine % places)
        z = int32(uint32(place // line_size))
        place = uint32(place % line_size)
        o_z = int32(z * rs_z + passes[this + 5])
        o_y = int32(int32(uint32(place // p_x)) * rs_y + passes[this + 6])
        o_x = int32(int32(uint32(place % p_x)) * rs_x + passes[this + 7])
        channel = int64(image) * read_channels + group * read_group
        from_here = ((channel * d + o_z) * h + o_y) * wd + o_x
        if column + b_j >= n:
            o_z = OUTSIDE
        # Neighbouring threads read weights that lie next to each other.
        if a_by_term:
            a_i, a_k, a_di, a_dk = thread // depth, thread % depth, threads // depth, 0
        else:
            a_i, a_k, a_di, a_dk = thread % rows, thread // rows, 0, threads // rows
        # A weight has less than 2^31 numbers, which `_run` sees to.
        a_at = int32(group * group_step + (row + a_i) * row_step)
        a_jump = int32(a_di * row_step)
        for i in range(tall):
            for j in range(wide):
                sums[i, j] = zero
        my_row, my_column = whereabouts(thread)
        steps = int32((last - first + depth - 1) // depth)
        # The table of terms comes one slice ahead of the numbers that it leads to.
        at = first + thread // TERM
        if thread < slice_terms:
            term[thread] = OUTSIDE
            if at < last:
                term[thread] = terms[uint32((first_term + at) * TERM + thread % TERM)]
        at = first + thread
        if thread < depth:
            weight[thread] = 0
            if at < last:
                weight[thread] = weights[uint32(first_term + at)]
        cuda.syncthreads()
        for step in range(steps + 1):
            next_term = OUTSIDE
            next_weight = int32(0)
            if step < steps:
                start = int32(first + step * depth)
                turn = step % 2
                for s in range(a_share):
                    k = a_k + s * a_dk
                    a_next[s] = zero
                    if row + a_i + s * a_di < m and start + k < last:
                        a_next[s] = w[uint32(a_at + s * a_jump + weight[uint32(turn * depth + k)])]
                for s in range(b_share):
                    e = uint32((turn * depth + b_k + s * b_dk) * TERM)
                    offset = term[e]
                    i_z = uint32(o_z + term[e + uint32(1)])
                    i_y = uint32(o_y + term[e + uint32(2)])
                    i_x = uint32(o_x + term[e + uint32(3)])
                    b_next[s] = zero
                    # One comparison for both ends: what is below 0 is large without a sign.
                    if i_z < uint32(d) and i_y < uint32(h) and i_x < uint32(wd):
                        b_next[s] = x[uint64(from_here + offset)]
                at = int32(start + depth + thread // TERM)
                if thread < slice_terms and at < last:
                    next_term = terms[uint32((first_term + at) * TERM + thread % TERM)]
                at = int32(start + depth + thread)
                if thread < depth and at < last:
                    next_weight = weights[uint32(first_term + at)]
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
                    put_b(sb, turn * b_slice, b_k + s * b_dk, b_j, b_next[s])
                turn = (step + 1) % 2
                if thread < slice_terms:
                    term[uint32(turn * slice_terms + thread)] = next_term
                if thread < depth:
                    weight[uint32(turn * depth + thread)] = next_weight
                cuda.syncthreads()
        # Where each of this thread's columns is written, in the plane of its first row.
        row += my_row
        column += my_column
        plane = int64(wr_d * wr_h * wr_w)
        for j in range(wide):
            to[j] = -1
            at = column + (j // b_run) * b_step + j % b_run
            if at < n:
                image = uint32(uint32(at) // places)
                place = uint32(uint32(at) % places)
                z = int32(uint32(place // line_size)) * ws_z + passes[this + 8]
                place = uint32(place % line_size)
                z = z * wr_h + int32(uint32(place // p_x)) * ws_y + passes[this + 9]
                z = z * wr_w + int32(uint32(place % p_x)) * ws_x + passes[this + 10]
                to[j] = (int64(image) * write_channels + group * m + row) * plane + z
        if bias.size > 0:
            for i in range(tall):
                down = (i // a_run) * a_step + i % a_run
                left[i] = zero
                if row + down < m:
                    left[i] = bias[uint64(group * m + row + down)]
            for i in range(tall):
                for j in range(wide):
                    sums[i, j] += left[i]
        if residual.size > 0:
            for i in range(tall):
                down = (i // a_run) * a_step + i % a_run
                for j in range(wide):
                    if row + down < m and to[j] >= 0:
                        sums[i, j] += residual[uint64(to[j] + down * plane)]
        shift = piece * (images * write_channels * plane)
        for i in range(tall):
            down = (i // a_run) * a_step + i % a_run
            for j in range(wide):
                if row + down < m and to[j] >= 0:
                    # NaN is not below the floor, and stays.
                    value = sums[i, j]
                    y[uint64(shift + to[j] + down * plane)] = floor if value <= floor else value

    convolve_kernel.__name__ = f"convolve_{name}_{tile}"
    array = f"{name}[::1]"
    tables = "int32[::1], int32[::1], int32[::1]"
    made = kernel(
        f"void({array}, {array}, {array}, {array}, {array}, {tables}, UniTuple(int64, {SIZES}))"
    )
    return made(convolve_kernel)


def _run(
    a: CudaArray,
    w: CudaArray,
    plan: Plan,
    shape: tuple[int, ...],
    groups: int,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
    tile: Tile | None,
    pieces: int | None,
) -> CudaArray:
    """Read `a` by the plan's terms, and write a result of `shape`."""
    result = Result(a, shape, a.dtype, out, a, w, *parts(epilogue))
    if not result.buffer.size:
        return result.deliver()
    images, channels = shape[:2]
    m = channels // groups
    columns = images * plan.places
    passes = len(plan.passes)
    numbered(
        "convolution",
        places_of_all_images=columns,
        weights=w.size,
        numbers_of_an_image=a.size // images,
    )
    limits = a.card.driver.limits
    best, cut, length = pick(a.dtype, limits, m, columns, groups * passes, plan.longest)
    if tile is not None or pieces is not None:
        best, cut = tile or best, pieces or cut
        length = max(1, -(-plan.longest // (cut * best.depth))) * best.depth
        cut = max(1, -(-plan.longest // length))
    bias, residual, relu = epilogue_arrays(epilogue, a)
    empty, whole = nothing(type(a), a.dtype), cut == 1
    target = result.buffer.reshape(-1)
    to = target if whole else Scratch(workspace, a).take((cut * target.size,), a.dtype)
    n_blocks = -(-columns // best.columns)
    convolve(best, a.dtype)(
        -(-m // best.rows) * n_blocks * groups * passes * cut,
        best.threads,
        flat(a),
        flat(w),
        to,
        bias if whole else empty,
        residual if whole else empty,
        on_card(a, (*plan.key, "terms"), lambda: plan.terms),
        on_card(a, (*plan.key, "weights"), lambda: plan.weights),
        on_card(a, (*plan.key, "passes"), lambda: plan.passes),
        (
            images, groups, m, n_blocks, length, relu * whole, int(plan.row_step != 1),
            plan.row_step, w.size // groups, a.shape[1], a.shape[1] // groups, *plan.read,
            channels, *plan.write, *plan.read_step, *plan.write_step, cut, 0,
        ),
    )  # fmt: skip
    if not whole:
        plane = target.size // (images * channels)
        add_parts(a.dtype)(
            *line(a.card, target.size), to, target, bias, residual, cut, plane, channels, relu
        )
    return result.deliver()


def conv(
    x: CudaArray,
    w: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
    tile: Tile | None = None,
    pieces: int | None = None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv`; `tile` and `pieces` stand for what `pick` says."""
    plan = plans.forward(geometry, w.shape[1])
    shape = (x.shape[0], w.shape[0], *geometry.output)
    return _run(x, w, plan, shape, geometry.groups, out, workspace, epilogue, tile, pieces)


def conv_input(
    g: CudaArray,
    w: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
    tile: Tile | None = None,
    pieces: int | None = None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv_input`; `tile` and `pieces` stand for what `pick` says."""
    groups = geometry.groups
    plan = plans.backward(geometry, w.shape[1], w.shape[0] // groups)
    shape = (g.shape[0], w.shape[1] * groups, *geometry.size)
    return _run(g, w, plan, shape, groups, out, workspace, epilogue, tile, pieces)


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [convolve(tile, t) for t in kinds for tile in (tiles(t) if full else tiles(t)[:1])]


def tensor_examples(to: str) -> list[Kernel]:
    """Those of tensor cores, which not every card has."""
    return [convolve(tile, "float32") for tile in TENSOR_TILES[to]]
