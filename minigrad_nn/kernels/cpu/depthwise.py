"""Convolution plane by plane: the row for filters that see one channel each, or few.

With as many groups as channels there is no sum over channels that a matrix product could make: each
number that is read takes part in a few products, and memory sets the pace. So planes are read where
they are and as they are: W outputs of a row are computed at once from vectors that are loaded
straight from the input, with lanes beyond its ends masked, and written with the epilogue. Nothing
is packed or padded. At stride 2 every other lane of two vectors is kept; the adjoint computes the
even places of a row and the odd ones apart, and deals them out.

Which rows of the input an output row reads stands in tables, made once for each geometry; they
serve `conv` and `conv_input` alike. More channels in a group are added one after the other.

Nearly all such filters are 3x3; `three` has those, which walk down a plane without tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import three
from .arrays import Result, epilogue_arrays, flat, scratch
from .compile import helper, kernel, threads
from .lines import fill_row
from .tile import VECTOR_BYTES, lanes
from .window_tile import correlate_tile, deal_tile, window_tile

# Output rows that are computed together, where all of them read all of their taps.
TOGETHER = 4
# Taps of a row whose products with a gradient are summed together.
BESIDE = 3
# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


@dataclass(frozen=True, eq=False)
class Tables:
    """Which rows and columns the outputs of a plane read; `w` is the row length of what is read.

    Attributes:
        bounds: int64 `(rows + 1,)`: row r reads entries `bounds[r] .. bounds[r + 1] - 1` of
        starts: where the rows that are read start, and
        taps: where the filter's row starts that they meet.
        heights: how many rows, from each one on, can be computed together.
        x_row: how far apart those read.
        width: the length of a row that is read, and
        length: of one that is written.
        first, step: output column j reads places `first + j·stride + k·step`.
        stride: 1, or 2 in `conv`; in `conv_input` at stride 2 it is 0, and there
        reach, columns, middle: input place `2·z + phase` gets `g[z + reach[k]]` times the filter's
            column `columns[k]`, for k below `middle` in phase 0 and from there on in phase 1.
    """

    bounds: np.ndarray
    starts: np.ndarray
    taps: np.ndarray
    heights: np.ndarray
    x_row: int
    width: int
    length: int
    first: int
    step: int
    stride: int
    reach: np.ndarray
    columns: np.ndarray
    middle: int


def _row_tables(
    rows: list[list[tuple[int, int]]], x_row: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`bounds`, `starts`, `taps` and `heights` of rows of `(start, tap)`."""
    heights = []
    for r, row in enumerate(rows):
        like = [
            rows[r + i : r + i + 1] == [[(start + i * x_row, tap) for start, tap in row]]
            for i in range(TOGETHER)
        ]
        heights.append(TOGETHER if all(like) else 1)
    bounds = [0]
    for row in rows:
        bounds.append(bounds[-1] + len(row))
    starts, taps = ([pair[i] for row in rows for pair in row] for i in range(2))
    ints = [np.array(numbers, np.int64) for numbers in (bounds, starts, taps, heights)]
    return ints[0], ints[1], ints[2], ints[3]


@lru_cache(maxsize=512)
def forward(geometry: Geometry) -> Tables:
    """The tables of `conv`."""
    v = geometry.volume
    (_, height, width), (_, stride, across) = v.size, v.stride
    (_, (above, _), (before, _)), (_, dilation, step) = v.padding, v.dilation
    rows = []
    for r in range(v.output[1]):
        places = [(r * stride + t * dilation - above, t) for t in range(v.kernel[1])]
        rows.append([(p * width, t * v.kernel[2]) for p, t in places if 0 <= p < height])
    none = np.zeros(0, np.int64)
    tables = _row_tables(rows, stride * width)
    return Tables(*tables, stride * width, width, v.output[2], -before, step, across, none, none, 0)


@lru_cache(maxsize=512)
def spans(geometry: Geometry) -> np.ndarray:
    """int64 `(kernel rows, 3)`: the first output row that reads, how many do, where it starts."""
    v = geometry.volume
    height, stride, above = v.size[1], v.stride[1], v.padding[1][0]
    found = []
    for t in range(v.kernel[1]):
        shift = t * v.dilation[1] - above
        low = max(-(shift // stride), 0)
        high = min((height - 1 - shift) // stride + 1, v.output[1])
        found.append((low, max(high - low, 0), (low * stride + shift) * v.size[2]))
    return np.array(found, np.int64)


@lru_cache(maxsize=512)
def backward(geometry: Geometry) -> Tables:
    """The tables of `conv_input`."""
    v = geometry.volume
    (_, height, width), (_, stride, across) = v.output, v.stride
    (_, (above, _), (before, _)), (_, dilation, step) = v.padding, v.dilation
    rows = []
    for r in range(v.size[1]):
        places = [(r + above - t * dilation, t) for t in range(v.kernel[1])]
        rows.append(
            [
                (p // stride * width, t * v.kernel[2])
                for p, t in places
                if p % stride == 0 and 0 <= p // stride < height
            ]
        )
    phases = [
        [
            (p // across, k)
            for k in range(v.kernel[2])
            if (p := phase + before - k * step) % across == 0
        ]
        for phase in range(across)
    ]
    pairs = [pair for phase in phases for pair in phase]
    reach, columns = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
    # Rows of different phases read different taps, so only at stride 1 are neighbours alike.
    return Tables(
        *_row_tables(rows, width), width, width, v.size[2], before, -step,
        1 if across == 1 else 0, reach, columns, len(phases[0]),
    )  # fmt: skip


@helper
def compute_plane(
    x, x0, w, w0, y, y0, bounds, starts, taps, heights, x_row, width, length, first, step, stride,
    reach, columns, middle, kernel, add, bias, channel, has_bias, residual, has_residual, relu,
):  # fmt: skip
    """One plane of outputs from one plane that is read."""
    lanes = WIDE_BYTES // x.itemsize
    r = 0
    while r < len(heights):
        r0, r1, to = bounds[r], bounds[r + 1], y0 + r * length
        if stride == 0:
            for j in range(0, length, 2 * lanes):
                deal_tile(
                    x, x0, starts, taps, r0, r1, j // 2, reach, columns, middle, width, w, w0,
                    kernel, length - j, add, bias, channel, has_bias, residual, has_residual, relu,
                    y, to + j,
                )  # fmt: skip
            r += 1
            continue
        for j in range(0, length, lanes):
            begin, left = first + j * stride, length - j
            if heights[r] == 1:
                if stride == 1:
                    window_tile(
                        1, 1, x, x0, x_row, starts, taps, r0, r1, begin, step, width, w, w0,
                        kernel, length, left, add, bias, channel, has_bias, residual, has_residual,
                        relu, y, to + j,
                    )  # fmt: skip
                else:
                    window_tile(
                        1, 2, x, x0, x_row, starts, taps, r0, r1, begin, step, width, w, w0,
                        kernel, length, left, add, bias, channel, has_bias, residual, has_residual,
                        relu, y, to + j,
                    )  # fmt: skip
            elif stride == 1:
                window_tile(
                    TOGETHER, 1, x, x0, x_row, starts, taps, r0, r1, begin, step, width, w, w0,
                    kernel, length, left, add, bias, channel, has_bias, residual, has_residual,
                    relu, y, to + j,
                )  # fmt: skip
            else:
                window_tile(
                    TOGETHER, 2, x, x0, x_row, starts, taps, r0, r1, begin, step, width, w, w0,
                    kernel, length, left, add, bias, channel, has_bias, residual, has_residual,
                    relu, y, to + j,
                )  # fmt: skip
        r += heights[r]


@kernel
def depthwise_kernel(
    x, w, y, bias, residual, relu, images, groups, channels, outputs, read, written, area,
    out_step, in_step, bounds, starts, taps, heights, x_row, width, length, first, step, stride,
    reach, columns, middle, kernel,
):  # fmt: skip
    """All planes: `read` and `written` are their sizes, `area` is that of a filter."""
    for plane in prange(images * groups * outputs):
        n, channel = plane // (groups * outputs), plane % (groups * outputs)
        group, o = channel // outputs, channel % outputs
        for c in range(channels):
            last = c == channels - 1
            compute_plane(
                x, ((n * groups + group) * channels + c) * read,
                w, (group * channels * outputs + o * out_step + c * in_step) * area,
                y, plane * written, bounds, starts, taps, heights, x_row, width, length, first,
                step, stride, reach, columns, middle, kernel, c > 0, bias, channel,
                last and bias.size > 0, residual, last and residual.size > 0, last and relu,
            )  # fmt: skip


@helper
def correlate_rows(taps, stride, x, x0, x_row, first, step, width, g, g0, length, rows, sums, s0):
    """Rows of a gradient with what one or `BESIDE` taps read."""
    if taps == BESIDE:
        if stride == 1:
            correlate_tile(
                BESIDE, 1, x, x0, x_row, first, step, width, g, g0, length, rows, sums, s0
            )
        else:
            correlate_tile(
                BESIDE, 2, x, x0, x_row, first, step, width, g, g0, length, rows, sums, s0
            )
    elif stride == 1:
        correlate_tile(1, 1, x, x0, x_row, first, step, width, g, g0, length, rows, sums, s0)
    else:
        correlate_tile(1, 2, x, x0, x_row, first, step, width, g, g0, length, rows, sums, s0)


@helper
def correlate_planes(
    x, x0, x_image, g, g0, g_image, images, spans, x_row, width, length, first, step, stride,
    columns, sums,
):  # fmt: skip
    """The products of a channel of all images with a gradient, W sums for each tap."""
    lanes = WIDE_BYTES // x.itemsize
    fill_row(sums, 0, len(spans) * columns * lanes, 0)
    for n in range(images):
        for t in range(len(spans)):
            row, rows = spans[t, 0], spans[t, 1]
            start, upper = x0 + n * x_image + spans[t, 2], g0 + n * g_image + row * length
            k = 0
            while k < columns:
                taps = BESIDE if k + BESIDE <= columns else 1
                correlate_rows(
                    taps, stride, x, start, x_row, first + k * step, step, width, g, upper,
                    length, rows, sums, (t * columns + k) * lanes,
                )  # fmt: skip
                k += taps


@kernel
def correlation_kernel(
    x, g, gw, residual, sums, images, groups, channels, outputs, read, written, spans, x_row,
    width, length, first, step, stride, columns,
):  # fmt: skip
    """The filters of all pairs of channels; each worker has a row of `sums`."""
    area = len(spans) * columns
    pairs = groups * outputs * channels
    workers = len(sums)
    for worker in prange(workers):
        mine = sums[worker]
        lanes = WIDE_BYTES // x.itemsize
        for pair in range(pairs * worker // workers, pairs * (worker + 1) // workers):
            output, c = pair // channels, pair % channels
            correlate_planes(
                x, (output // outputs * channels + c) * read, groups * channels * read, g,
                output * written, groups * outputs * written, images, spans, x_row, width, length,
                first, step, stride, columns, mine,
            )  # fmt: skip
            for t in range(area):
                total = mine[t * lanes]
                for lane in range(1, lanes):
                    total += mine[t * lanes + lane]
                if residual.size > 0:
                    total += residual[pair * area + t]
                gw[pair * area + t] = total


def able(geometry: Geometry) -> bool:
    """Whether rows are read in steps of 1 or 2, and images have at most two axes."""
    return geometry.axes <= 2 and geometry.stride[-1] <= 2


def run(
    x: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    shape: tuple[int, ...],
    transposed: bool,
    out: Any,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv`, or with `transposed` `conv_input`, of x with w."""
    groups = geometry.groups
    images, channels, outputs = x.shape[0], x.shape[1] // groups, shape[1] // groups
    bias, residual, relu = epilogue_arrays(epilogue, x.dtype)
    result = Result(shape, x.dtype, out, x, w, bias, residual)
    if 0 in shape:
        return result.deliver()
    if three.able(geometry, channels, transposed):
        three.run(x, w, result.buffer, geometry, transposed, bias, residual, relu)
        return result.deliver()
    tables = backward(geometry) if transposed else forward(geometry)
    depthwise_kernel(
        flat(x),
        flat(w),
        result.buffer.reshape(-1),
        bias,
        residual,
        relu,
        images,
        groups,
        channels,
        outputs,
        math.prod(x.shape[2:]),
        math.prod(shape[2:]),
        math.prod(w.shape[2:]),
        1 if transposed else channels,
        outputs if transposed else 1,
        tables.bounds,
        tables.starts,
        tables.taps,
        tables.heights,
        tables.x_row,
        tables.width,
        tables.length,
        tables.first,
        tables.step,
        tables.stride,
        tables.reach,
        tables.columns,
        tables.middle,
        w.shape[-1],
    )
    return result.deliver()


def conv(
    x: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv` plane by plane."""
    shape = (x.shape[0], w.shape[0], *geometry.output)
    return run(x, w, geometry, shape, False, out, epilogue)


def conv_input(
    g: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_input` plane by plane."""
    shape = (g.shape[0], w.shape[1] * geometry.groups, *geometry.size)
    return run(g, w, geometry, shape, True, out, epilogue)


def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` plane by plane."""
    groups = geometry.groups
    channels, outputs = x.shape[1] // groups, g.shape[1] // groups
    _, residual, _ = epilogue_arrays(epilogue, x.dtype)
    shape = (g.shape[1], channels, *geometry.kernel)
    result = Result(shape, x.dtype, out, x, g, residual)
    tables = forward(geometry)
    area = geometry.taps * lanes(x.itemsize)
    workers = min(threads(), groups * channels * outputs)
    if three.able(geometry, channels):
        sums = scratch(workspace).take((workers, area), x.dtype)
        three.run_weight(x, g, result.buffer, geometry, residual, sums)
        return result.deliver()
    correlation_kernel(
        flat(x),
        flat(g),
        result.buffer.reshape(-1),
        residual,
        scratch(workspace).take((workers, area), x.dtype),
        x.shape[0],
        groups,
        channels,
        outputs,
        math.prod(x.shape[2:]),
        math.prod(g.shape[2:]),
        spans(geometry),
        tables.x_row,
        tables.width,
        tables.length,
        tables.first,
        tables.step,
        tables.stride,
        geometry.kernel[-1],
    )
    return result.deliver()
