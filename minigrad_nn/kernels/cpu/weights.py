"""The gradient of the weight along long lines: the partner of `lines`.

`gw[o, k] = Σ g[n, o, place] · x[n, place + offset(k)]`: input and gradient are laid out in the
same lines (see `plan`), so the sum runs over neighbouring memory, with the sums of 6 outputs and
several taps in registers (see `tile`). Where a line runs on through the end of a row the gradient
is 0, and the input is masked, so a NaN that no window reads does no harm.

Images are divided into chunks whose number does not depend on the threads. Each chunk has partial
sums of its own, which are added in order at the end: the same bits at any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import plan as plans
from .arrays import Result, flat, scratch
from .compile import helper, kernel, threads
from .lines import fill_row, pack_image, panel_rows
from .tile import ROWS, VECTORS, dot_tile

NV = VECTORS
# Chunks of images with sums of their own, and the most memory those may take.
CHUNKS = 16
PARTIAL_BYTES = 32 * 2**20
# A chunk is worked on in blocks that stay in the cache of a core, but have at least so many places:
# adding up the lanes of a tile costs as much as 100 of them.
BLOCK_BYTES = 192 * 2**10
BLOCK_PLACES = 512


@helper
def pack_gradient(out, start, rows, length, q, size, g, g0):
    """Lay the planes of `rows` channels out in lines of the packed image, zeros between rows."""
    volume = size[0] * size[1] * size[2]
    for r in range(rows):
        to = start + r * length
        fill_row(out, to, length, 0)
        for d in range(size[0]):
            for h in range(size[1]):
                at = g0 + r * volume + (d * size[1] + h) * size[2]
                place = to + (d * q[1] + h) * q[2]
                target = out[place : place + size[2]]
                source = g[at : at + size[2]]
                for i in range(size[2]):
                    target[i] = source[i]


@helper
def add_dots(rows, taps, g, g0, length, g_image, x, offsets, k0, x_image, mask, images,
             sums, partial, to, stride):  # fmt: skip
    """Add the products of a tile to `partial[to + i·stride + k]`."""
    if taps == NV:
        if rows == 6:
            dot_tile(6, NV, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                     images, sums, 0)  # fmt: skip
        elif rows == 4:
            dot_tile(4, NV, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                     images, sums, 0)  # fmt: skip
        elif rows == 2:
            dot_tile(2, NV, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                     images, sums, 0)  # fmt: skip
        else:
            dot_tile(1, NV, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                     images, sums, 0)  # fmt: skip
    elif rows == 6:
        dot_tile(6, 1, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                 images, sums, 0)  # fmt: skip
    elif rows == 4:
        dot_tile(4, 1, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                 images, sums, 0)  # fmt: skip
    elif rows == 2:
        dot_tile(2, 1, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                 images, sums, 0)  # fmt: skip
    else:
        dot_tile(1, 1, g, g0, length, g_image, x, 0, offsets, k0, x_image, mask, length,
                 images, sums, 0)  # fmt: skip
    for i in range(rows):
        for k in range(taps):
            partial[to + i * stride + k] += sums[i * taps + k]


@helper
def unit(
    begin, end, block, group, first, last, x, g, partial, packed, laid, sums, groups, channels,
    outputs, q, phases, read_size, read_step, write_size, offsets, mask,
):  # fmt: skip
    """Images `begin .. end`, outputs `first .. last` of one group: add to `partial`."""
    read_volume = read_size[0] * read_size[1] * read_size[2]
    write_volume = write_size[0] * write_size[1] * write_size[2]
    entries, length = len(offsets), len(mask)
    x_image, g_image = len(packed) // block, len(laid) // block
    n = begin
    while n < end:
        images = min(block, end - n)
        for i in range(images):
            source0 = ((n + i) * groups + group) * channels * read_volume
            pack_image(packed, i * x_image, channels, q, x, source0, read_size, phases, read_step)
            g0 = (((n + i) * groups + group) * outputs + first) * write_volume
            pack_gradient(laid, i * g_image, last - first, length, q, write_size, g, g0)
        o = first
        while o < last:
            rows = panel_rows(outputs - o)
            g0 = (o - first) * length
            to = (group * outputs + o) * entries
            k = 0
            while k < entries:
                taps = NV if k + NV <= entries else 1
                add_dots(
                    rows, taps, laid, g0, length, g_image, packed, offsets, k, x_image,
                    mask, images, sums, partial, to + k, entries,
                )  # fmt: skip
                k += taps
            o += rows
        n += images


@kernel
def weights_kernel(
    x, g, partial, packed, laid, sums, images, block, groups, channels, outputs, split, q,
    phases, read_size, read_step, write_size, offsets, mask,
):  # fmt: skip
    """All chunks of images; `partial` is `(chunks, O·C/groups·taps)`."""
    chunks = len(partial)
    units = chunks * groups * split
    workers = len(packed)
    panels = (outputs + ROWS - 1) // ROWS
    for worker in prange(workers):
        for u in range(units * worker // workers, units * (worker + 1) // workers):
            part, group, chunk = u % split, u // split % groups, u // (split * groups)
            first = min(panels * part // split * ROWS, outputs)
            last = min(panels * (part + 1) // split * ROWS, outputs)
            sums_of_unit = partial[chunk]
            entries = len(offsets)
            fill_row(sums_of_unit, (group * outputs + first) * entries, (last - first) * entries, 0)
            unit(
                images * chunk // chunks, images * (chunk + 1) // chunks, block, group, first,
                last, x, g, sums_of_unit, packed[worker], laid[worker], sums[worker], groups,
                channels, outputs, q, phases, read_size, read_step, write_size, offsets, mask,
            )  # fmt: skip


@np.errstate(all="ignore")
def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` by lines."""
    groups, images = geometry.groups, x.shape[0]
    channels, outputs = x.shape[1] // groups, g.shape[1] // groups
    shape = (g.shape[1], channels, *geometry.kernel)
    residual = None if epilogue is None else epilogue.residual
    result = Result(shape, x.dtype, out, x, g, residual)
    plan = plans.forward(geometry, channels, x.itemsize)
    mask = plans.mask(geometry, x.itemsize)
    size = result.buffer.size
    chunks = min(images, CHUNKS, max(1, PARTIAL_BYTES // max(size * x.itemsize, 1)))
    panels = -(-outputs // ROWS)
    split = max(1, min(panels, 8 // max(chunks * groups, 1)))
    # Each part lays out its own outputs; the largest part has this many.
    part = min(outputs, -(-panels // split) * ROWS)
    one = (plan.packed + part * plan.line) * x.itemsize
    block = max(BLOCK_BYTES // one, BLOCK_PLACES // plan.line, 1)
    block = min(block, -(-images // max(chunks, 1)))
    workers = min(threads(), chunks * groups * split)
    room = scratch(workspace)
    partial = room.take((chunks, size), x.dtype)
    if chunks:
        weights_kernel(
            flat(x),
            flat(g),
            partial,
            room.take((workers, block * plan.packed), x.dtype),
            room.take((workers, block * part * plan.line), x.dtype),
            room.take((workers, ROWS * NV), x.dtype),
            images,
            block,
            groups,
            channels,
            outputs,
            split,
            plan.q,
            plan.phases,
            plan.read_size,
            plan.read_step,
            plan.write_size,
            plan.offsets,
            mask,
        )
    # Over axis 0 NumPy adds row after row, in order.
    np.add.reduce(partial, axis=0, out=result.buffer.reshape(-1))
    if residual is not None:
        result.buffer += residual
    return result.deliver()
