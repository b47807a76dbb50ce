"""Direct convolution with an image in each lane: the row of the table for small planes.

W images are stacked: packed so that the W numbers at one place of one channel lie side by side.
Then every vector is full, whatever the size of the plane, and nothing is computed that is not
wanted: no line runs on through the end of a row (see `lines`), and a tile of places leaves out
the taps that lie in the padding for all of them (see `stack_plan`). In the adjoint of a 5x5 filter
on a small plane that saves a third of the products. The price is two transpositions, of what is
read and of what is written, which pay where a number takes part in many products.

The same code computes `conv` and `conv_input`. Sums run over channels and taps in one
fixed order; `conv_weight` adds up the places of a stack, then its images, then the stacks of a
chunk and the chunks, whose number does not depend on the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from minigrad.noting import zeros

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import stack_plan as plans
from .arrays import Result, epilogue_arrays, flat, multiples, scratch
from .compile import helper, kernel, threads
from .lines import fill_row, pack_weights, panel_rows
from .stack_tile import stack_dot_tile, stack_tile
from .tile import ROWS, VECTOR_BYTES, VECTORS, gather_tile, lanes, scatter_tile

# Numba sees these as constants.
NV = VECTORS
WIDE_BYTES = VECTOR_BYTES
# Parts of a batch with sums of their own in `conv_weight`.
CHUNKS = 16


@helper
def pack_stack(out, length, places, x, x0, image, count, width):
    """`out[places[p] + i] = x[x0 + i·image + p]` for `count` images and `length` places."""
    if count == width and length >= width:
        p = 0
        while p < length:
            # The last tile starts early, and does some places again.
            p = min(p, length - width)
            gather_tile(x, x0 + p, image, out, 0, places, p, 1)
            p += width
    else:
        for i in range(count):
            source = x[x0 + i * image : x0 + i * image + length]
            for p in range(length):
                out[places[p] + i] = source[p]


@helper
def unpack_row(out, to, image, length, order, line, at, count, width):
    """`out[to + i·image + p] = line[at + order[p] + i]` for `count` images and `length` places."""
    if count == width and length >= width:
        p = 0
        while p < length:
            p = min(p, length - width)
            scatter_tile(line[at:], 0, order, p, 1, out, to + p, image)
            p += width
    else:
        for i in range(count):
            target = out[to + i * image : to + i * image + length]
            for p in range(length):
                target[p] = line[at + order[p] + i]


@helper
def compute_panel(rows, x, starts, lists, offsets, taps, all_taps, channels, channel, w, w0, bias,
                  b0, line, stride, width):  # fmt: skip
    """Fill `rows` rows of `line`: all places of as many filters."""
    for t in range(len(lists)):
        k0, count, s0, c0 = lists[t, 0], lists[t, 1], t * NV, t * NV * width
        if rows == 6:
            stack_tile(6, NV, x, 0, starts, s0, channels, channel, offsets, taps, k0, count, w,
                       w0, all_taps * 6, bias, b0, line, c0, stride)  # fmt: skip
        elif rows == 4:
            stack_tile(4, NV, x, 0, starts, s0, channels, channel, offsets, taps, k0, count, w,
                       w0, all_taps * 4, bias, b0, line, c0, stride)  # fmt: skip
        elif rows == 2:
            stack_tile(2, NV, x, 0, starts, s0, channels, channel, offsets, taps, k0, count, w,
                       w0, all_taps * 2, bias, b0, line, c0, stride)  # fmt: skip
        else:
            stack_tile(1, NV, x, 0, starts, s0, channels, channel, offsets, taps, k0, count, w,
                       w0, all_taps, bias, b0, line, c0, stride)  # fmt: skip


@helper
def finish_plane(out, to, length, residual, relu):
    """What an epilogue still does to a plane that is written."""
    row = out[to : to + length]
    if residual.size > 0:
        addend = residual[to : to + length]
        for i in range(length):
            row[i] += addend[i]
    if relu:
        for i in range(length):
            # Not max(): NaN is neither above nor below 0, and stays.
            row[i] = 0 if row[i] <= 0 else row[i]


@kernel
def stacks_kernel(
    x, w, out, bias, residual, relu, w_packed, packed, line, images, groups, channels, outputs,
    split, group_step, out_step, in_step, read, write, all_taps, channel, places, starts, lists,
    offsets, taps, weights, order,
):  # fmt: skip
    """All stacks; each worker has a row of `packed` and of `line` for itself."""
    width = WIDE_BYTES // x.itemsize
    entries = channels * all_taps
    passes = np.zeros((1, 2), np.int64)
    passes[0, 1] = entries
    pack_weights(
        w_packed, w, groups, outputs, passes, weights[0], weights[1], group_step, out_step, in_step
    )
    units = (images + width - 1) // width * groups * split
    panels = (outputs + ROWS - 1) // ROWS
    stride = len(starts) * width
    workers = len(packed)
    for worker in prange(workers):
        fill_row(packed[worker], 0, packed.shape[1], 0)
        before = -1
        for u in range(units * worker // workers, units * (worker + 1) // workers):
            part, group, stack = u % split, u // split % groups, u // (split * groups)
            n = stack * width
            count = min(width, images - n)
            if u // split != before:
                x0 = (n * groups + group) * channels * read
                image = groups * channels * read
                pack_stack(packed[worker], len(places), places, x, x0, image, count, width)
                before = u // split
            o = min(panels * part // split * ROWS, outputs)
            while o < min(panels * (part + 1) // split * ROWS, outputs):
                rows = panel_rows(outputs - o)
                first = group * outputs + o
                compute_panel(
                    rows, packed[worker], starts, lists, offsets, taps, all_taps, channels,
                    channel, w_packed, first * entries, bias, first, line[worker], stride, width,
                )  # fmt: skip
                for i in range(rows):
                    to = (n * groups * outputs + first + i) * write
                    image = groups * outputs * write
                    unpack_row(out, to, image, write, order, line[worker], i * stride, count, width)
                    if relu or residual.size > 0:
                        for k in range(count):
                            finish_plane(out, to + k * image, write, residual, relu)
                o += rows


def run(
    x: np.ndarray,
    w: np.ndarray,
    plan: plans.Plan,
    shape: tuple[int, ...],
    groups: int,
    transposed: bool,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv`, or with `transposed` and a backward plan `conv_input`, of x with w."""
    images, channels, outputs = x.shape[0], x.shape[1] // groups, shape[1] // groups
    bias, residual, relu = epilogue_arrays(epilogue, x.dtype)
    result = Result(shape, x.dtype, out, x, w, bias, residual)
    if 0 in shape:
        return result.deliver()
    if not bias.size:
        bias = zeros(shape[1], x.dtype)
    taps = len(plan.every) // channels
    out_step, in_step = (taps, outputs * taps) if transposed else (channels * taps, taps)
    width = lanes(x.itemsize)
    units = -(-images // width) * groups
    split = max(1, min(-(-outputs // ROWS), 8 // units))
    workers = min(threads(), units * split)
    room = scratch(workspace)
    stacks_kernel(
        flat(x),
        flat(w),
        result.buffer.reshape(-1),
        bias,
        residual,
        relu,
        room.take((w.size,), x.dtype),
        room.take((workers, channels * plan.channel), x.dtype),
        room.take((workers, ROWS * len(plan.starts) * width), x.dtype),
        images,
        groups,
        channels,
        outputs,
        split,
        channels * outputs * taps,
        out_step,
        in_step,
        len(plan.packed) // channels,
        len(plan.order),
        taps,
        plan.channel,
        plan.packed,
        plan.starts,
        plan.lists,
        plan.offsets,
        plan.taps,
        plan.weights,
        plan.order,
    )
    return result.deliver()


# --- the gradient of the weight -------------------------------------------------------------------


@helper
def add_products(rows, taps, g, g0, g_row, x, starts, places, offsets, k0, sums, partial, to,
                 stride):  # fmt: skip
    """Add the products of a tile to `partial[to + i·stride + k]`."""
    if taps == NV:
        if rows == 6:
            stack_dot_tile(6, NV, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
        elif rows == 4:
            stack_dot_tile(4, NV, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
        elif rows == 2:
            stack_dot_tile(2, NV, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
        else:
            stack_dot_tile(1, NV, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
    elif rows == 6:
        stack_dot_tile(6, 1, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
    elif rows == 4:
        stack_dot_tile(4, 1, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
    elif rows == 2:
        stack_dot_tile(2, 1, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
    else:
        stack_dot_tile(1, 1, g, g0, g_row, x, 0, starts, places, offsets, k0, sums, 0)
    for i in range(rows):
        for k in range(taps):
            partial[to + i * stride + k] += sums[i * taps + k]


@kernel
def stack_weights_kernel(
    x, g, partial, packed, laid, sums, images, groups, channels, outputs, split, read, write,
    places, starts, offsets, order,
):  # fmt: skip
    """All chunks of stacks; `partial` is `(chunks, O·C/groups·taps)`."""
    width = WIDE_BYTES // x.itemsize
    chunks = len(partial)
    units = chunks * groups * split
    stacks = (images + width - 1) // width
    workers = len(packed)
    panels = (outputs + ROWS - 1) // ROWS
    entries = len(offsets)
    for worker in prange(workers):
        fill_row(packed[worker], 0, packed.shape[1], 0)
        for u in range(units * worker // workers, units * (worker + 1) // workers):
            part, group, chunk = u % split, u // split % groups, u // (split * groups)
            first = min(panels * part // split * ROWS, outputs)
            last = min(panels * (part + 1) // split * ROWS, outputs)
            own = partial[chunk]
            fill_row(own, (group * outputs + first) * entries, (last - first) * entries, 0)
            for stack in range(stacks * chunk // chunks, stacks * (chunk + 1) // chunks):
                n = stack * width
                count = min(width, images - n)
                if count < width:
                    # Lanes without an image add nothing.
                    fill_row(packed[worker], 0, packed.shape[1], 0)
                    fill_row(laid[worker], 0, laid.shape[1], 0)
                x0 = (n * groups + group) * channels * read
                image = groups * channels * read
                pack_stack(packed[worker], len(places), places, x, x0, image, count, width)
                g0 = (n * groups * outputs + group * outputs + first) * write
                image = groups * outputs * write
                pack_stack(laid[worker], (last - first) * write, order, g, g0, image, count, width)
                o = first
                while o < last:
                    rows = panel_rows(outputs - o)
                    to = (group * outputs + o) * entries
                    at = (o - first) * write * width
                    k = 0
                    while k < entries:
                        taps = NV if k + NV <= entries else 1
                        add_products(
                            rows, taps, laid[worker], at, write * width, packed[worker], starts,
                            write, offsets, k, sums[worker], own, to + k, entries,
                        )  # fmt: skip
                        k += taps
                    o += rows


@np.errstate(all="ignore")
def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` by stacks."""
    groups, images = geometry.groups, x.shape[0]
    channels, outputs = x.shape[1] // groups, g.shape[1] // groups
    residual = None if epilogue is None else epilogue.residual
    shape = (g.shape[1], channels, *geometry.kernel)
    result = Result(shape, x.dtype, out, x, g, residual)
    plan, width = plans.forward(geometry, channels, x.itemsize), lanes(x.itemsize)
    chunks = min(-(-images // width), CHUNKS)
    panels = -(-outputs // ROWS)
    split = max(1, min(panels, 8 // max(chunks * groups, 1)))
    # Each part lays out its own outputs; the largest part has this many.
    part = min(outputs, -(-panels // split) * ROWS)
    workers = min(threads(), chunks * groups * split)
    places = len(plan.order)
    room = scratch(workspace)
    partial = room.take((chunks, result.buffer.size), x.dtype)
    if chunks:
        stack_weights_kernel(
            flat(x),
            flat(g),
            partial,
            room.take((workers, channels * plan.channel), x.dtype),
            room.take((workers, part * places * width), x.dtype),
            room.take((workers, ROWS * NV), x.dtype),
            images,
            groups,
            channels,
            outputs,
            split,
            len(plan.packed) // channels,
            places,
            plan.packed,
            plan.starts,
            plan.every,
            multiples(part * places, width),
        )
    # Over axis 0 NumPy adds row after row, in order.
    np.add.reduce(partial, axis=0, out=result.buffer.reshape(-1))
    if residual is not None:
        result.buffer += residual
    return result.deliver()
