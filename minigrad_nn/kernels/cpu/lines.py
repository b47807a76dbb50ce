"""Direct convolution along long lines of outputs: the row of the table for large enough planes.

Each image is packed once (see `plan`), which writes no more than a padded copy of it; then every
output line is computed from vectors loaded straight from the packed image, with all sums in
registers (see `tile`). Nothing is unrolled into a matrix of patches, which is what makes im2col
slow for few channels. The line is then copied into the result, with the epilogue, while it is
still in the nearest cache. The same code computes `conv` and `conv_input`; `weights` holds the
sums over places for `conv_weight`.

Sums run over channels and taps in one fixed order, so results do not depend on the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..workspace import Workspace
from . import plan as plans
from .arrays import Result, epilogue_arrays, flat, scratch
from .compile import helper, kernel, threads
from .tile import ROWS, VECTOR_BYTES, VECTORS, line_tile

# Numba sees these as constants.
NV = VECTORS
WIDE_BYTES = VECTOR_BYTES


@helper
def fill_row(out, start, count, value):
    """`out[start : start + count] = value`."""
    row = out[start : start + count]
    for i in range(count):
        row[i] = value


@helper
def pack_row(out, start, count, source, source0, size, first, step):
    """`out[start + z] = source[source0 + z·step + first]`, 0 where that is not in `0 .. size`."""
    low = min(max((-first + step - 1) // step, 0), count)
    high = min(max((size - first + step - 1) // step, low), count)
    fill_row(out, start, low, 0)
    fill_row(out, start + high, count - high, 0)
    row = out[start + low : start + high]
    if step == 1:
        origin = source0 + low + first
        line = source[origin : origin + high - low]
        for i in range(high - low):
            row[i] = line[i]
    else:
        origin = source0 + low * step + first
        for i in range(high - low):
            row[i] = source[origin + i * step]


@helper
def pack_plane(out, start, q, source, source0, size, first, step):
    """Pack one phase of one channel: `q` places on each axis, from a plane of `size`."""
    for d in range(q[0]):
        at_d = d * step[0] + first[0]
        for h in range(q[1]):
            at_h = h * step[1] + first[1]
            to = start + (d * q[1] + h) * q[2]
            if at_d < 0 or at_d >= size[0] or at_h < 0 or at_h >= size[1]:
                fill_row(out, to, q[2], 0)
            else:
                origin = source0 + (at_d * size[1] + at_h) * size[2]
                pack_row(out, to, q[2], source, origin, size[2], first[2], step[2])


@helper
def pack_image(out, start, channels, q, source, source0, size, phases, step):
    """Pack all phases of all channels of one image's group."""
    plane = q[0] * q[1] * q[2]
    volume = size[0] * size[1] * size[2]
    for c in range(channels):
        for f in range(len(phases)):
            pack_plane(out, start, q, source, source0 + c * volume, size, phases[f], step)
            start += plane


@helper
def pack_weights(out, w, groups, outputs, passes, channel, tap, group_step, out_step, in_step):
    """Order the weights as tiles read them: panels of up to 6 outputs, an entry's side by side."""
    to = 0
    for g in range(groups):
        for p in range(len(passes)):
            first, count = passes[p, 0], passes[p, 1]
            o = 0
            while o < outputs:
                rows = panel_rows(outputs - o)
                for k in range(first, first + count):
                    place = g * group_step + o * out_step + channel[k] * in_step + tap[k]
                    for i in range(rows):
                        out[to] = w[place + i * out_step]
                        to += 1
                o += rows


@helper
def panel_rows(left):
    """How many outputs the next panel takes: one of the tile's heights."""
    if left >= 6:
        return 6
    if left >= 4:
        return 4
    return 2 if left >= 2 else 1


@helper
def compute_line(rows, length, width, x, offsets, k0, count, w, w0, line, stride):
    """Fill `rows` lines of `length` numbers, in tiles that are as wide as fits."""
    j = 0
    while j + NV * width <= length:
        if rows == 6:
            line_tile(6, NV, x, j, offsets, k0, count, w, w0, line, j, stride)
        elif rows == 4:
            line_tile(4, NV, x, j, offsets, k0, count, w, w0, line, j, stride)
        elif rows == 2:
            line_tile(2, NV, x, j, offsets, k0, count, w, w0, line, j, stride)
        else:
            line_tile(1, NV, x, j, offsets, k0, count, w, w0, line, j, stride)
        j += NV * width
    while j < length:
        if rows == 6:
            line_tile(6, 1, x, j, offsets, k0, count, w, w0, line, j, stride)
        elif rows == 4:
            line_tile(4, 1, x, j, offsets, k0, count, w, w0, line, j, stride)
        elif rows == 2:
            line_tile(2, 1, x, j, offsets, k0, count, w, w0, line, j, stride)
        else:
            line_tile(1, 1, x, j, offsets, k0, count, w, w0, line, j, stride)
        j += width


@helper
def finish_row(out, to, step, count, line, at, bias, residual, relu):
    """Write a row of the result: the line's numbers, with the epilogue."""
    row = line[at : at + count]
    if bias != 0:
        for i in range(count):
            row[i] += bias
    if residual.size > 0:
        for i in range(count):
            row[i] += residual[to + i * step]
    if relu:
        for i in range(count):
            # Not max(): NaN is neither above nor below 0, and stays.
            row[i] = 0 if row[i] <= 0 else row[i]
    if step == 1:
        target = out[to : to + count]
        for i in range(count):
            target[i] = row[i]
    else:
        for i in range(count):
            out[to + i * step] = row[i]


@helper
def finish_plane(out, to, size, step, counts, line, at, q, bias, residual, relu):
    """Write the plane of one channel, or one phase of it, from its line."""
    for d in range(counts[0]):
        for h in range(counts[1]):
            row = to + (d * step[0] * size[1] + h * step[1]) * size[2]
            place = at + (d * q[1] + h) * q[2]
            finish_row(out, row, step[2], counts[2], line, place, bias, residual, relu)


@helper
def unit(
    n, group, first, last, fresh, x, w, out, bias, residual, relu, packed, line, groups,
    channels, outputs, q, phases, read_size, read_step, write_size, write_step, passes, offsets,
):  # fmt: skip
    """Outputs `first .. last` of one group of one image."""
    width = WIDE_BYTES // x.itemsize
    read_volume = read_size[0] * read_size[1] * read_size[2]
    write_volume = write_size[0] * write_size[1] * write_size[2]
    if fresh:
        source0 = (n * groups + group) * channels * read_volume
        pack_image(packed, 0, channels, q, x, source0, read_size, phases, read_step)
    w_group = group * outputs * len(offsets)
    stride = line.size // ROWS
    for p in range(len(passes)):
        k0, count, length = passes[p, 0], passes[p, 1], passes[p, 2]
        counts, starts = passes[p, 3:6], passes[p, 6:9]
        begin = (starts[0] * write_size[1] + starts[1]) * write_size[2] + starts[2]
        o = first
        while o < last:
            rows = panel_rows(outputs - o)
            w0 = w_group + outputs * k0 + o * count
            compute_line(rows, length, width, packed, offsets, k0, count, w, w0, line, stride)
            for i in range(rows):
                channel = group * outputs + o + i
                to = (n * groups * outputs + channel) * write_volume + begin
                b = bias[channel] if bias.size > 0 else x.dtype.type(0)
                finish_plane(
                    out, to, write_size, write_step, counts, line, i * stride, q, b, residual, relu
                )
            o += rows


@kernel
def lines_kernel(
    x, w, out, bias, residual, relu, w_packed, packed, line, images, groups, channels, outputs,
    split, group_step, out_step, in_step, q, phases, read_size, read_step, write_size,
    write_step, passes, offsets, channel, tap,
):  # fmt: skip
    """All images; each worker has a row of `packed` and of `line` for itself."""
    pack_weights(w_packed, w, groups, outputs, passes, channel, tap, group_step, out_step, in_step)
    units = images * groups * split
    workers = len(packed)
    # A part holds whole panels, so that the split changes no panel.
    panels = (outputs + ROWS - 1) // ROWS
    for worker in prange(workers):
        before = -1
        for u in range(units * worker // workers, units * (worker + 1) // workers):
            image_group, part = u // split, u % split
            first = min(panels * part // split * ROWS, outputs)
            last = min(panels * (part + 1) // split * ROWS, outputs)
            unit(
                image_group // groups, image_group % groups, first, last, image_group != before,
                x, w_packed, out, bias, residual, relu, packed[worker], line[worker], groups,
                channels, outputs, q, phases, read_size, read_step, write_size, write_step,
                passes, offsets,
            )  # fmt: skip
            before = image_group


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
    taps = 1
    for length in w.shape[2:]:
        taps *= length
    out_step, in_step = (taps, outputs * taps) if transposed else (channels * taps, taps)
    split = max(1, min(-(-outputs // ROWS), 8 // (images * groups)))
    workers = min(threads(), images * groups * split)
    room = scratch(workspace)
    lines_kernel(
        flat(x),
        flat(w),
        result.buffer.reshape(-1),
        bias,
        residual,
        relu,
        room.take((w.size,), x.dtype),
        room.take((workers, plan.packed), x.dtype),
        room.take((workers, ROWS * plan.line), x.dtype),
        images,
        groups,
        channels,
        outputs,
        split,
        channels * outputs * taps,
        out_step,
        in_step,
        plan.q,
        plan.phases,
        plan.read_size,
        plan.read_step,
        plan.write_size,
        plan.write_step,
        plan.passes,
        plan.offsets,
        plan.channel,
        plan.tap,
    )
    return result.deliver()
