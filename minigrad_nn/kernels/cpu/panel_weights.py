"""The gradient of the weight as a matrix product in packed panels: the partner of `panels`.

`gw[o, k] = Σ g[o, place] · x[place, k]` over the places of all images, k being a tap of a channel.
The columns of a tile are entries k, so the input is turned on its way into panels: W places of W
entries at a time, in registers. `DEPTH` places are worked on at once: their panels stay in the
second cache of a core, and the gradients of a few outputs after the other meet them.

Places are divided into chunks whose number does not depend on the threads. Each has sums of its
own, which are added in order at the end; threads that are left over share the entries of a chunk,
whose sums are the same however they are shared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import plan as plans
from .arrays import Result, epilogue_arrays, flat, multiples, scratch
from .compile import helper, kernel, threads
from .gemm import (
    BREADTH,
    DEPTH,
    LOW,
    ROW,
    TALL,
    accumulate_tile,
    copy_runs,
    expect_tile,
    find_runs,
    tile_rows,
    turn_tile,
)
from .lines import fill_row, pack_plane
from .panels import packed_image
from .tile import VECTOR_BYTES, lanes

# Panels of the input that stay in the second cache of a core.
BLOCK_BYTES = 512 * 2**10
# Chunks of places with sums of their own: at most so many, of so many blocks each at least, and the
# most memory that their sums may take.
CHUNKS, FEWEST_BLOCKS, PARTIAL_BYTES = 8, 4, 16 * 2**20
# Images that must be packed are packed so many bytes at a time.
PACKED_BYTES = 16 * 2**20
# With fewer channels than this, and more outputs, a pointwise filter's outputs fill panels better.
FEW_CHANNELS = 64
# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


@helper
def pack_entries(source, s0, offsets, first, last, runs, lengths, number, depth, staging, rows, b):
    """Panels of the entries `first .. last`: `b[panel, place, entry]` for the places of the runs.

    `rows` tells where the rows of `staging` start.
    """
    width = WIDE_BYTES // source.itemsize
    panel = BREADTH * width
    for e in range(first, last, width):
        to = (e - first) // panel * panel * DEPTH + (e - first) % panel
        if number == 1 and depth % width == 0 and e + width <= len(offsets):
            for p in range(0, depth, width):
                turn_tile(source, s0 + runs[0] + p, offsets, e, b, to + p * panel)
            continue
        for i in range(width):
            if e + i < len(offsets):
                copy_runs(source, s0 + offsets[e + i], runs, lengths, number, staging, rows[i])
            else:
                fill_row(staging, rows[i], depth, 0)
        for p in range(0, depth, width):
            turn_tile(staging, p, rows, 0, b, to + p * panel)


@helper
def accumulate(
    g, g0, volume, runs, lengths, number, depth, outputs, a, b, panels, partial, to, breadth, add
):
    """Add the products of a block of places to `partial[to + o·breadth + k]`."""
    panel = BREADTH * (WIDE_BYTES // g.itemsize)
    o = 0
    while o < outputs:
        rows = tile_rows(outputs - o)
        for i in range(min(rows, outputs - o)):
            copy_runs(g, g0 + (o + i) * volume, runs, lengths, number, a, i * ROW)
        # The next rows are asked for a few at a time, while tiles are computed.
        more = min(TALL, outputs - o - rows)
        for j in range(panels):
            low, high = more * j // panels, more * (j + 1) // panels
            for r in range(number):
                at = g0 + (o + rows + low) * volume + runs[r]
                expect_tile(0, high - low, g, at, volume, lengths[r])
            place = to + o * breadth + j * panel
            accumulate_tile(rows, a, b, j * panel * DEPTH, depth, partial, place, breadth, add)
        o += rows


@helper
def work(
    begin, end, places, group, groups, first, last, x, image, q, g, counts, outputs, offsets,
    partial, to, breadth, add, most, a, b, staging, rows, runs, lengths,
):  # fmt: skip
    """Places `begin .. end` of one group, its panels `first .. last` of entries."""
    panel = BREADTH * (WIDE_BYTES // x.itemsize)
    volume = counts[0] * counts[1] * counts[2]
    whole = q[0] * q[1] * q[2] == volume
    for j in range(first, last, most):
        panels = min(most, last - j)
        more = add
        for place in range(begin, end, DEPTH):
            depth = min(DEPTH, min(end, places) - place)
            number = find_runs(
                place, depth, groups * image, volume, counts, q, whole, runs, lengths
            )
            pack_entries(
                x, group * image, offsets, j * panel, (j + panels) * panel, runs, lengths, number,
                depth, staging, rows, b,
            )  # fmt: skip
            number = find_runs(
                place, depth, groups * outputs * volume, volume, counts, q, True, runs, lengths
            )
            accumulate(
                g, group * outputs * volume, volume, runs, lengths, number, depth, outputs, a, b,
                panels, partial, to + j * panel, breadth, more,
            )  # fmt: skip
            more = True


@kernel
def panel_weights_kernel(
    x, g, gw, residual, partial, packed, a, b, staging, rows, runs, lengths, images, groups,
    channels, outputs, split, padded, breadth, begun, ended, q, phases, read_size, read_step,
    counts, offsets, most,
):  # fmt: skip
    """Some images; `begun`: add to the sums of images before, `ended`: add up the chunks."""
    kinds, entries = len(phases), len(offsets)
    plane = q[0] * q[1] * q[2]
    volume = read_size[0] * read_size[1] * read_size[2]
    for c in prange(len(packed) // max(kinds * plane, 1)):
        for f in range(kinds):
            to = (c * kinds + f) * plane
            pack_plane(packed, to, q, x, c * volume, read_size, phases[f], read_step)
    chunks, workers = len(partial), len(b)
    panels = breadth // (BREADTH * (WIDE_BYTES // x.itemsize))
    places = images * counts[0] * counts[1] * counts[2]
    blocks = (places + DEPTH - 1) // DEPTH
    units = groups * chunks * split
    for worker in prange(workers):
        for unit in range(units * worker // workers, units * (worker + 1) // workers):
            part, chunk, group = unit % split, unit // split % chunks, unit // split // chunks
            work(
                blocks * chunk // chunks * DEPTH, blocks * (chunk + 1) // chunks * DEPTH, places,
                group, groups, panels * part // split, panels * (part + 1) // split,
                packed if packed.size > 0 else x, channels * kinds * plane, q, g, counts, outputs,
                offsets, partial[chunk], group * padded * breadth, breadth, begun, most, a[worker],
                b[worker], staging[worker], rows, runs[worker], lengths[worker],
            )  # fmt: skip
    for o in prange(groups * outputs if ended else 0):
        row = gw[o * entries : (o + 1) * entries]
        for chunk in range(chunks):
            at = (o // outputs * padded + o % outputs) * breadth
            sums = partial[chunk, at : at + entries]
            for k in range(entries):
                row[k] = sums[k] if chunk == 0 else row[k] + sums[k]
        if residual.size > 0:
            addend = residual[o * entries : (o + 1) * entries]
            for k in range(entries):
                row[k] += addend[k]


def _chunks(places: int, numbers: int, itemsize: int) -> int:
    """How many chunks there are: a power of 2."""
    most = min(places // (FEWEST_BLOCKS * DEPTH), PARTIAL_BYTES // (numbers * itemsize), CHUNKS)
    return 1 << max(most, 1).bit_length() - 1


def pointwise(geometry: Geometry) -> bool:
    """Whether the input of a filter of one tap is a matrix as it is."""
    # Padding can make up for a stride: as many places, but others.
    same = geometry.size == geometry.output and not any(map(any, geometry.padding))
    return geometry.taps == 1 and same and geometry.groups == 1


def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` by panels."""
    groups, images = geometry.groups, x.shape[0]
    channels, outputs = x.shape[1] // groups, g.shape[1] // groups
    _, residual, _ = epilogue_arrays(epilogue, x.dtype)
    result = Result((g.shape[1], channels, *geometry.kernel), x.dtype, out, x, g, residual)
    if channels < min(outputs, FEW_CHANNELS) and pointwise(geometry):
        # Input and gradient enter alike: the transposed result is that of one for the other.
        turned = conv_weight(g, x, geometry, None, workspace, None)
        result.buffer[...] = turned.swapaxes(0, 1)
        if residual.size:
            result.buffer += residual.reshape(result.buffer.shape)
        return result.deliver()
    if 0 in g.shape:
        result.buffer[...] = 0
        if residual.size:
            result.buffer += residual.reshape(result.buffer.shape)
        return result.deliver()
    plan = plans.forward(geometry, channels, x.itemsize)
    image, volume = packed_image(plan, groups * channels), math.prod(geometry.output)
    some = images if not image else max(1, min(images, PACKED_BYTES // (image * x.itemsize)))
    lane = lanes(x.itemsize)
    panels = -(-len(plan.offsets) // (BREADTH * lane))
    breadth, padded = panels * BREADTH * lane, -(-outputs // LOW) * LOW
    chunks = _chunks(some * volume, groups * padded * breadth, x.itemsize)
    number = threads()
    split = min(max(1, number // (groups * chunks)), panels)
    workers = min(number, groups * chunks * split)
    most = max(1, min(BLOCK_BYTES // (DEPTH * BREADTH * VECTOR_BYTES), panels))
    room = scratch(workspace)
    partial = room.take((chunks, groups * padded * breadth), x.dtype)
    packed = room.take((some * image,), x.dtype)
    a = room.take((workers, TALL * ROW), x.dtype)
    b = room.take((workers, most * DEPTH * BREADTH * lane), x.dtype)
    staging = room.take((workers, lane * ROW), x.dtype)
    runs, lengths = (room.take((workers, DEPTH), np.int64) for _ in range(2))
    given, gradient = flat(x), flat(g)
    x_image, g_image = len(given) // images, len(gradient) // images
    for n in range(0, images, some):
        m = min(n + some, images)
        panel_weights_kernel(
            given[n * x_image : m * x_image],
            gradient[n * g_image : m * g_image],
            result.buffer.reshape(-1),
            residual,
            partial,
            packed[: (m - n) * image],
            a,
            b,
            staging,
            multiples(lane, ROW),
            runs,
            lengths,
            m - n,
            groups,
            channels,
            outputs,
            split,
            padded,
            breadth,
            n > 0,
            m == images,
            plan.q,
            plan.phases,
            plan.read_size,
            plan.read_step,
            plan.write_size,
            plan.offsets,
            most,
        )
    return result.deliver()
