"""Convolution as one matrix product in packed panels: the row for pointwise filters.

The filters of a convolution are a matrix (outputs x entries), an entry being a tap of a channel,
and so is the input, once each entry's places lie side by side (entries x places of all images).
That second matrix is never made: the tiles of `gemm` want it in panels of a few columns, and a
block of panels that fits into the second cache is copied straight from the picture, used for all
outputs, and forgotten. The copy costs one move for as many products as there are outputs. Places of
all images count as one long line, so planes of 7x7 fill the tiles as well as large ones.

A pointwise filter reads the picture as it is. Others read it from an image that was cut into
phases before (see `plan`), where neighbouring places are neighbours at any stride. `conv_input` is
the same product with another plan; `panel_weights` holds the gradient of the weight.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..workspace import Workspace
from . import plan as plans
from .arrays import Result, epilogue_arrays, flat, scratch
from .compile import helper, kernel, threads
from .gemm import (
    BREADTH,
    LOW,
    TALL,
    expect_tile,
    fill_tile,
    find_runs,
    finish_tile,
    interleave_tile,
    multiply_tile,
    pack_columns,
    tile_rows,
)
from .lines import finish_row, pack_plane
from .tile import VECTOR_BYTES, lanes

# A block of packed panels stays in the second cache of a core, and has at most so many columns.
BLOCK_BYTES = 320 * 2**10
MOST_COLUMNS = 2048
# Fewer panels than this for each worker are not divided: workers take different outputs instead.
FEWEST_PANELS = 8
# Images that must be packed are packed so many bytes at a time.
PACKED_BYTES = 16 * 2**20
# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


@helper
def pack_filters(a, to, w, start, out_step, rows, real, place, k0, count):
    """A panel of A: `a[to + k·rows + i]` is entry k of output i; from `real` on, anything."""
    width = WIDE_BYTES // w.itemsize
    for i in range(0, rows, width):
        # Beyond the last output there is nothing to read.
        origin = start + i * out_step if i < real else start
        left, some = min(rows - i, width), max(real - i, 1)
        k = 0
        while k < count:
            first = origin + place[k0 + k]
            if out_step == 1:
                fill_tile(w, first, min(some, width), a, to + k * rows + i, left)
                k += 1
            elif k + width <= count and place[k0 + k + width - 1] - place[k0 + k] == width - 1:
                interleave_tile(
                    w, first, out_step, min(some, width), a, to + k * rows + i, rows, left
                )
                k += width
            else:
                for j in range(left):
                    a[to + k * rows + i + j] = w[first + min(j, some - 1) * out_step]
                k += 1


@helper
def write_tile(
    tile, rows, columns, panel, first, out, channel, all_channels, volume, write_volume,
    write_size, write_step, counts, starts, contiguous, bias, residual, relu,
):  # fmt: skip
    """Write a tile whose columns are places `first ..` through all images, with the epilogue.

    In pieces: it reaches into another image, or its places are not neighbours.
    """
    if contiguous and columns == panel and first % volume + panel <= volume:
        to = (first // volume * all_channels + channel) * write_volume + first % volume
        finish_tile(rows, tile, 0, panel, out, to, write_volume, bias, channel, residual, relu)
        return
    j = 0
    while j < columns:
        n, place = (first + j) // volume, (first + j) % volume
        if contiguous:
            # Also where the stride is not 1, and an axis of one place makes that no matter.
            length, to, step = min(volume - place, columns - j), place, 1
        else:
            row, column = place // counts[2], place % counts[2]
            d, h = row // counts[1], row % counts[1]
            length, step = min(counts[2] - column, columns - j), write_step[2]
            to = (d * write_step[0] + starts[0]) * write_size[1] + h * write_step[1] + starts[1]
            to = to * write_size[2] + column * write_step[2] + starts[2]
        for i in range(rows):
            at = (n * all_channels + channel + i) * write_volume + to
            b = bias[channel + i] if bias.size > 0 else tile.dtype.type(0)
            finish_row(out, at, step, length, tile, i * panel + j, b, residual, relu)
        j += length


@helper
def pack_tall(unit, a, w, outputs, group_step, out_step, passes, entries, place):
    """The panels of one tile's rows, of one pass of one group."""
    tall_panels = (outputs + TALL - 1) // TALL
    padded = (outputs + LOW - 1) // LOW * LOW
    group, p = unit // tall_panels // len(passes), unit // tall_panels % len(passes)
    k0, count = passes[p, 0], passes[p, 1]
    o = unit % tall_panels * TALL
    end = min(o + TALL, outputs)
    while o < end:
        rows = tile_rows(outputs - o)
        to = padded * (group * entries + k0) + o * count
        start = group * group_step + o * out_step
        pack_filters(a, to, w, start, out_step, rows, min(rows, end - o), place, k0, count)
        o += rows


@helper
def multiply_block(
    first, last, outputs, a, a0, b, count, columns, panel, tile, place0, out, channel0,
    all_channels, volume, write_volume, write_size, write_step, counts, starts, contiguous,
    bias, residual, relu,
):  # fmt: skip
    """Outputs `first .. last` of the columns of a block, written as soon as they are there."""
    o = first
    while o < last:
        rows = tile_rows(outputs - o)
        for at in range(0, columns, panel):
            left, real = min(columns - at, panel), min(rows, outputs - o)
            n, where = (place0 + at) // volume, (place0 + at) % volume
            to = (n * all_channels + channel0 + o) * write_volume + where
            whole = contiguous and left == panel and where + panel <= volume
            if whole:
                expect_tile(1, real, out, to, write_volume, panel)
            multiply_tile(rows, a, a0 + o * count, b, at * count, count, tile, 0, panel)
            if whole:
                finish_tile(
                    real, tile, 0, panel, out, to, write_volume, bias, channel0 + o, residual, relu
                )
                continue
            write_tile(
                tile, real, left, panel, place0 + at, out, channel0 + o,
                all_channels, volume, write_volume, write_size, write_step, counts, starts,
                contiguous, bias, residual, relu,
            )  # fmt: skip
        o += rows


@helper
def work(
    part, parts, column, across, x, out, bias, residual, relu, a, b, staging, tile, runs, lengths,
    images, groups, channels, outputs, image, q, write_size, write_step, passes, offsets, block,
):  # fmt: skip
    """What one worker does: a part of the outputs of a part of the columns of every pass."""
    panel = BREADTH * (WIDE_BYTES // x.itemsize)
    plane = q[0] * q[1] * q[2]
    write_volume = write_size[0] * write_size[1] * write_size[2]
    tall_panels = (outputs + TALL - 1) // TALL
    padded = (outputs + LOW - 1) // LOW * LOW
    first = tall_panels * part // parts * TALL
    last = min(tall_panels * (part + 1) // parts * TALL, outputs)
    for unit in range(groups * len(passes)):
        group, p = unit // len(passes), unit % len(passes)
        k0, count, counts, starts = passes[p, 0], passes[p, 1], passes[p, 3:6], passes[p, 6:9]
        volume = counts[0] * counts[1] * counts[2]
        panels = (images * volume + panel - 1) // panel
        most = max(min(block // max(count, 1), MOST_COLUMNS) // panel, 1)
        begin, end = panels * column // across, panels * (column + 1) // across
        for j in range(begin, end, most):
            place0 = j * panel
            columns = min(min(j + most, end) * panel, images * volume) - place0
            number = find_runs(
                place0, columns, groups * image, volume, counts, q, plane == volume, runs, lengths
            )
            exact = number == 1 and columns % panel == 0
            pack_columns(
                x, group * image, offsets, k0, count, runs, lengths, number, columns, staging, b,
                exact,
            )  # fmt: skip
            multiply_block(
                first, last, outputs, a, padded * (group * len(offsets) + k0), b, count, columns,
                panel, tile, place0, out, group * outputs, groups * outputs, volume, write_volume,
                write_size, write_step, counts, starts, write_volume == volume, bias, residual,
                relu,
            )  # fmt: skip


@kernel
def panels_kernel(
    x, w, out, bias, residual, relu, a, packed, b, staging, tile, runs, lengths, images, groups,
    channels, outputs, parts, group_step, out_step, q, phases, read_size, read_step, write_size,
    write_step, passes, offsets, place, block,
):  # fmt: skip
    """All images; `parts` workers share the outputs of the same columns."""
    kinds = len(phases)
    plane = q[0] * q[1] * q[2]
    volume = read_size[0] * read_size[1] * read_size[2]
    for c in prange(len(packed) // max(kinds * plane, 1)):
        for f in range(kinds):
            to = (c * kinds + f) * plane
            pack_plane(packed, to, q, x, c * volume, read_size, phases[f], read_step)
    for unit in prange(groups * len(passes) * ((outputs + TALL - 1) // TALL)):
        pack_tall(unit, a, w, outputs, group_step, out_step, passes, len(offsets), place)
    workers = len(b)
    for worker in prange(workers):
        work(
            worker % parts, parts, worker // parts, workers // parts,
            packed if packed.size > 0 else x, out, bias, residual, relu, a, b[worker],
            staging[worker], tile[worker], runs[worker], lengths[worker], images, groups,
            channels, outputs, channels * kinds * plane, q, write_size, write_step, passes,
            offsets, block,
        )  # fmt: skip


@lru_cache(maxsize=1024)
def packed_image(plan: plans.Plan, channels: int) -> int:
    """How many numbers a packed image has; 0 where packing would copy it without a change."""
    same = np.array_equal(plan.q, plan.read_size) and not plan.phases.any()
    if same and (plan.read_step == 1).all():
        return 0
    return channels * len(plan.phases) * int(plan.q.prod())


@lru_cache(maxsize=1024)
def _longest(plan: plans.Plan) -> tuple[int, int]:
    """The most places of one image and the most entries that a pass has."""
    return int(plan.passes[:, 3:6].prod(axis=1).max()), int(plan.passes[:, 1].max())


def _workers(panels: int, outputs: int) -> tuple[int, int]:
    """How many workers there are, and how many of them share the same columns."""
    number = threads()
    across = max(1, min(number, panels // FEWEST_PANELS))
    down = max(1, min(number // across, -(-outputs // TALL)))
    return across * down, down


@lru_cache(maxsize=1024)
def _weight_places(plan: plans.Plan, in_step: int) -> np.ndarray:
    """Where the weights of each entry of a plan are, for one result."""
    return plan.channel * in_step + plan.tap


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
    taps = math.prod(w.shape[2:])
    out_step, in_step = (taps, outputs * taps) if transposed else (channels * taps, taps)
    image = packed_image(plan, groups * channels)
    some = images if not image else max(1, min(images, PACKED_BYTES // (image * x.itemsize)))
    panel = BREADTH * lanes(x.itemsize)
    places, entries = _longest(plan)
    workers, parts = _workers(-(-some * places // panel), outputs)
    block = max(BLOCK_BYTES // x.itemsize, entries * panel)
    padded = -(-outputs // LOW) * LOW
    room = scratch(workspace)
    a = room.take((groups * padded * len(plan.offsets),), x.dtype)
    packed = room.take((some * image,), x.dtype)
    b = room.take((workers, block), x.dtype)
    staging = room.take((workers, MOST_COLUMNS), x.dtype)
    tile = room.take((workers, TALL * panel), x.dtype)
    runs = room.take((workers, MOST_COLUMNS), np.int64)
    lengths = room.take((workers, MOST_COLUMNS), np.int64)
    place = _weight_places(plan, in_step)
    given, made = flat(x), result.buffer.reshape(-1)
    x_image, out_image = len(given) // images, len(made) // images
    for n in range(0, images, some):
        m = min(n + some, images)
        panels_kernel(
            given[n * x_image : m * x_image],
            flat(w),
            made[n * out_image : m * out_image],
            bias,
            residual[n * out_image : m * out_image],
            relu,
            a,
            packed[: (m - n) * image],
            b,
            staging,
            tile,
            runs,
            lengths,
            m - n,
            groups,
            channels,
            outputs,
            parts,
            channels * outputs * taps,
            out_step,
            plan.q,
            plan.phases,
            plan.read_size,
            plan.read_step,
            plan.write_size,
            plan.write_step,
            plan.passes,
            plan.offsets,
            place,
            block,
        )
    return result.deliver()
