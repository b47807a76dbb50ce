"""Winograd's convolution F(4x4, 3x3): a quarter of the multiplications of a 3x3 filter.

Each tile of 4x4 outputs reads 6x6 inputs d. With fixed matrices A, B and G (`toom.matrices`),

    y = Aᵀ [ Σ_c (G w Gᵀ) ⊙ (Bᵀ d B) ] A

takes 36 products for each channel where the definition takes 144 (S. Winograd, 1980; A. Lavin and
S. Gray, "Fast algorithms for convolutional neural networks", 2015). The sums over channels are 36
matrix products, one for each place of a tile, and the gradient of the weight is the same three
transforms in another order: `gw = Gᵀ [ Σ_tiles (A g Aᵀ) ⊙ (Bᵀ d B) ] G`. `conv_input` is `conv`
with flipped filters.

The price is rounding: sums and differences with factors up to 4 cancel, which makes the error of
float32 about ten times that of the definition (a test bounds it). And a NaN or infinity reaches
all of its tile, not only the windows that read it. `enabled` turns the method off.

Channels lie side by side in all scratch arrays, so every step works on whole vectors of them:
planes are exchanged with channels on the way in and out, W x W numbers at a time in registers.
"""

from __future__ import annotations

import os
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from minigrad.noting import settings

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from .arrays import Result, epilogue_arrays, flat, scratch
from .compile import helper, kernel, threads
from .finish import finish
from .lines import fill_row, finish_row
from .tile import (
    VECTOR_BYTES,
    VECTORS,
    gather_tile,
    lanes,
    product_tile,
    sandwich_tile,
    scatter_tile,
)
from .toom import matrices

OUT, TAPS = 4, 3
IN = OUT + TAPS - 1
PLACES = IN * IN
# Where the polynomials are evaluated, beside infinity. Of the usual choices these round least:
# half the error of 0, ±1, ±2 (B. Barabasz and others, 2020, on such points; measured here too).
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))

enabled = os.environ.get("MINIGRAD_WINOGRAD", "1") != "0"
settings.append(lambda: enabled)


def _floats(matrix: list[list[Fraction]]) -> list[list[float]]:
    return [[float(number) for number in row] for row in matrix]


def _transpose(matrix: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*matrix, strict=True)]


AT, G, BT = (_floats(matrix) for matrix in matrices(OUT, TAPS, POINTS))

transform_input = sandwich_tile(BT)
transform_filter = sandwich_tile(G)
transform_output = sandwich_tile(AT)
transform_gradient = sandwich_tile(_transpose(AT))
transform_taps = sandwich_tile(_transpose(G))

# Numba sees these as constants.
NV = VECTORS
WIDE_BYTES = VECTOR_BYTES
GROUP = 8
# Tiles that are worked on at once: their numbers stay in the second cache of a core.
BLOCK_BYTES = 1 * 2**20
FEWEST, MOST = 24, 96
# What is transformed before it is multiplied, for the gradient of the weight.
CHUNK_BYTES, FEWEST_SUMMED = 4 * 2**20, 64


@helper
def load_rows(to, x, x0, plane, size, channels, padded, first, count, before, columns, places):
    """`to[i, j, c] = x[c, first + i − before, j − before]`: rows of planes, channels side by side.

    Rows and columns that are not in the picture are 0, as are the channels that fill up vectors.
    """
    width = WIDE_BYTES // x.itemsize
    height, breadth = size
    low = min(max(before[0] - first, 0), count)
    high = min(max(height + before[0] - first, low), count)
    line = columns * padded
    fill_row(to, 0, low * line, 0)
    fill_row(to, high * line, (count - high) * line, 0)
    for i in range(low, high):
        fill_row(to, i * line, before[1] * padded, 0)
        end = min(before[1] + breadth, columns)
        fill_row(to, i * line + end * padded, (columns - end) * padded, 0)
    start = x0 + (first + low - before[0]) * breadth
    entries = (high - low) * breadth
    corner = low * line + before[1] * padded
    c = 0
    while c < channels:
        if c + width <= channels and entries >= width:
            p = 0
            while p < entries:
                # The last vector begins early rather than ends late.
                q = min(p, entries - width)
                gather_tile(x, start + c * plane + q, plane, to, corner + c, places, q, padded)
                p += width
        else:
            for k in range(c, min(c + width, padded)):
                for p in range(entries):
                    place = corner + places[p] * padded + k
                    to[place] = x[start + k * plane + p] if k < channels else 0
        c += width


@helper
def products(left, l0, l_row, l_k, right, r0, r_k, count, result, c0, c_row, rows, length, add):
    """`result[i, j] = Σ_k left[i, k] · right[k, j]`, or `+=`: 8 rows at a time, whole vectors."""
    width = WIDE_BYTES // left.itemsize
    j = 0
    while j < length:
        vectors = (length - j) // width
        if vectors >= NV:
            for i in range(0, rows, 4):
                product_tile(
                    4, NV, left, l0 + i * l_row, l_row, l_k, right, r0 + j, r_k, count,
                    result, c0 + i * c_row + j, c_row, add,
                )  # fmt: skip
            j += NV * width
        elif NV > 2 and vectors >= 2:
            for i in range(0, rows, 8):
                product_tile(
                    8, 2, left, l0 + i * l_row, l_row, l_k, right, r0 + j, r_k, count,
                    result, c0 + i * c_row + j, c_row, add,
                )  # fmt: skip
            j += 2 * width
        else:
            for i in range(0, rows, 8):
                product_tile(
                    8, 1, left, l0 + i * l_row, l_row, l_k, right, r0 + j, r_k, count,
                    result, c0 + i * c_row + j, c_row, add,
                )  # fmt: skip
            j += width


@helper
def transform_rows(rows, columns, across, tile_rows, padded, v, v_place, t):
    """Bᵀ d B of each tile of some rows: `v[place, t, c]`; returns the next free tile."""
    width = WIDE_BYTES // rows.itemsize
    line = columns * padded
    for r in range(tile_rows):
        for q in range(across):
            at = r * OUT * line + q * OUT * padded
            for c in range(0, padded, width):
                transform_input(
                    rows, at + c, line, padded, v, t * padded + c, IN * v_place, v_place
                )
            t += 1
    return t


@helper
def store_rows(y, out, to, plane, filters, padded, first, count, places):
    """The inverse of `load_rows` without padding: `count` places of each filter, from `first`."""
    width = WIDE_BYTES // y.itemsize
    k = 0
    while k < filters:
        if k + width <= filters and count >= width:
            p = 0
            while p < count:
                q = min(p, count - width)
                scatter_tile(y, k, places, q, padded, out, to + k * plane + first + q, plane)
                p += width
        else:
            for o in range(k, min(k + width, filters)):
                row = out[to + o * plane + first : to + o * plane + first + count]
                for p in range(count):
                    row[p] = y[places[p] * padded + o]
        k += width


@kernel
def filter_kernel(w, u, taps, steps, channels, filters, channel_step, filter_step, sign):
    """`u[place, c, k]` of all filters; a tap of channel c and filter k is `w[c·.. + k·.. + tap]`.

    `steps` counts up from 0; each worker has a row of `taps`.
    """
    width = WIDE_BYTES // w.itemsize
    out_padded = u.size // (PLACES * channels)
    workers = len(taps)
    for worker in prange(workers):
        mine = taps[worker]
        for c in range(channels * worker // workers, channels * (worker + 1) // workers):
            for k in range(0, out_padded, width):
                w0 = c * channel_step + k * filter_step
                end = w0 + (width - 1) * filter_step + max(width, TAPS * TAPS)
                if k + width <= filters and end <= w.size:
                    t = 0
                    while t < TAPS * TAPS:
                        # W numbers of each filter at once; the last ones begin early.
                        q = max(min(t, TAPS * TAPS - width), 0)
                        gather_tile(w, w0 + q, filter_step, mine, q * width, steps, 0, width)
                        t += width
                else:
                    for t in range(TAPS * TAPS):
                        for lane in range(width):
                            place = w0 + lane * filter_step + t
                            mine[t * width + lane] = w[place] if k + lane < filters else 0
                place = channels * out_padded
                transform_filter(
                    mine, 0 if sign > 0 else 8 * width, sign * TAPS * width, sign * width,
                    u, c * out_padded + k, IN * place, place,
                )  # fmt: skip


@kernel
def winograd_kernel(
    x, u, out, bias, residual, relu, rows, v, m, images, channels, filters, in_padded,
    out_padded, in_size, out_size, before, down, across, band, group, in_places, out_places,
):  # fmt: skip
    """All blocks: `group` whole images at once, or `band` rows of tiles of one; see `convolve`."""
    width = WIDE_BYTES // x.itemsize
    bands = (down + band - 1) // band
    units = (images + group - 1) // group * bands
    workers = len(rows)
    in_plane, out_plane = in_size[0] * in_size[1], out_size[0] * out_size[1]
    columns = across * OUT + TAPS - 1
    for worker in prange(workers):
        mine, products_in, products_out = rows[worker], v[worker], m[worker]
        for unit in range(units * worker // workers, units * (worker + 1) // workers):
            n0, r0 = unit // bands * group, unit % bands * band
            n1, r1 = min(n0 + group, images), min(r0 + band, down)
            tiles = (n1 - n0) * (r1 - r0) * across
            room = (tiles + GROUP - 1) // GROUP * GROUP
            t = 0
            for n in range(n0, n1):
                load_rows(
                    mine, x, n * channels * in_plane, in_plane, in_size, channels, in_padded,
                    r0 * OUT, (r1 - r0) * OUT + TAPS - 1, before, columns, in_places,
                )  # fmt: skip
                t = transform_rows(
                    mine, columns, across, r1 - r0, in_padded, products_in, room * in_padded, t
                )
            for place in range(PLACES):
                fill_row(products_in, (place * room + t) * in_padded, (room - t) * in_padded, 0)
                products(
                    products_in, place * room * in_padded, in_padded, 1,
                    u, place * channels * out_padded, out_padded, channels,
                    products_out, place * room * out_padded, out_padded, room, out_padded, False,
                )  # fmt: skip
            t = 0
            line = across * OUT * out_padded
            count = (min(r1 * OUT, out_size[0]) - r0 * OUT) * out_size[1]
            for n in range(n0, n1):
                for r in range(r1 - r0):
                    for q in range(across):
                        to = r * OUT * line + q * OUT * out_padded
                        for k in range(0, out_padded, width):
                            transform_output(
                                products_out, t * out_padded + k, IN * room * out_padded,
                                room * out_padded, mine, to + k, line, out_padded,
                            )  # fmt: skip
                        t += 1
                first = r0 * OUT * out_size[1]
                to = n * filters * out_plane
                store_rows(mine, out, to, out_plane, filters, out_padded, first, count, out_places)
                if bias.size > 0 or residual.size > 0 or relu:
                    for k in range(filters):
                        b = bias[k] if bias.size > 0 else x.dtype.type(0)
                        at = to + k * out_plane + first
                        finish_row(out, at, 1, count, out, at, b, residual, relu)


@kernel
def gradient_kernel(
    x, g, gw, sums, rows, v, m, images, channels, filters, in_padded, out_padded, in_size,
    out_size, before, down, across, band, group, chunk, in_places, out_places, taps,
):  # fmt: skip
    """Gᵀ [ Σ (A g Aᵀ) ⊙ (Bᵀ x B) ] G: chunks of blocks one after the other, in a fixed order.

    Within a chunk, threads first share the blocks and then the 36 places: no sum is shared.
    """
    width = WIDE_BYTES // x.itemsize
    bands = (down + band - 1) // band
    units = (images + group - 1) // group * bands
    workers = len(rows)
    in_plane, out_plane = in_size[0] * in_size[1], out_size[0] * out_size[1]
    columns = across * OUT + TAPS - 1
    block = group * band * across
    fill_row(sums, 0, sums.size, 0)
    for begin in range(0, units, chunk):
        end = min(begin + chunk, units)
        room = (end - begin) * block
        for worker in prange(workers):
            mine = rows[worker]
            some = end - begin
            for unit in range(
                begin + some * worker // workers, begin + some * (worker + 1) // workers
            ):
                n0, r0 = unit // bands * group, unit % bands * band
                n1, r1 = min(n0 + group, images), min(r0 + band, down)
                t = (unit - begin) * block
                stop = t + block
                for n in range(n0, n1):
                    load_rows(
                        mine, x, n * channels * in_plane, in_plane, in_size, channels, in_padded,
                        r0 * OUT, (r1 - r0) * OUT + TAPS - 1, before, columns, in_places,
                    )  # fmt: skip
                    transform_rows(
                        mine, columns, across, r1 - r0, in_padded, v, room * in_padded, t
                    )
                    load_rows(
                        mine, g, n * filters * out_plane, out_plane, out_size, filters,
                        out_padded, r0 * OUT, (r1 - r0) * OUT, (0, 0), across * OUT, out_places,
                    )  # fmt: skip
                    line = across * OUT * out_padded
                    for r in range(r1 - r0):
                        for q in range(across):
                            at = r * OUT * line + q * OUT * out_padded
                            for k in range(0, out_padded, width):
                                transform_gradient(
                                    mine, at + k, line, out_padded, m, t * out_padded + k,
                                    IN * room * out_padded, room * out_padded,
                                )  # fmt: skip
                            t += 1
                # Blocks at an edge have fewer tiles than there is room for.
                for place in range(PLACES):
                    fill_row(v, (place * room + t) * in_padded, (stop - t) * in_padded, 0)
                    fill_row(m, (place * room + t) * out_padded, (stop - t) * out_padded, 0)
        for place in prange(PLACES):
            products(
                m, place * room * out_padded, 1, out_padded,
                v, place * room * in_padded, in_padded, room,
                sums, place * out_padded * in_padded, in_padded, out_padded, in_padded, True,
            )  # fmt: skip
    for worker in prange(workers):
        mine = taps[worker]
        for k in range(filters * worker // workers, filters * (worker + 1) // workers):
            for c in range(0, channels, width):
                place = out_padded * in_padded
                transform_taps(
                    sums, k * in_padded + c, IN * place, place, mine, 0, TAPS * width, width
                )
                to = (k * channels + c) * TAPS * TAPS
                for lane in range(min(width, channels - c)):
                    for t in range(TAPS * TAPS):
                        gw[to] = mine[t * width + lane]
                        to += 1


def _padded(channels: int, itemsize: int) -> int:
    """Channels with those that fill up vectors, and the 8 rows of a tile."""
    unit = max(WIDE_BYTES // itemsize, GROUP)
    return -(-channels // unit) * unit


@lru_cache(maxsize=256)
def _places(height: int, breadth: int, columns: int) -> np.ndarray:
    """Where the places of a plane lie in rows of `columns`, int64 `(height · breadth,)`."""
    return (np.arange(height)[:, None] * columns + np.arange(breadth)).reshape(-1)


def _blocks(images: int, down: int, across: int, most: int, workers: int) -> tuple[int, int]:
    """Rows of tiles, and images, that are worked on at once: about `most` tiles.

    Images are divided so that the workers have the same number of blocks where that is possible.
    """
    band = min(max(most // across, 1), down)
    if band < down:
        return band, 1
    blocks = -(-images * down * across // most)
    blocks = min(-(-blocks // workers) * workers, images)
    return band, -(-images // blocks)


def able(geometry: Geometry) -> bool:
    """Whether the method computes a geometry: 3x3, stride 1, at most 2 of padding, one group."""
    return (
        geometry.kernel == (TAPS, TAPS)
        and geometry.stride == (1, 1)
        and geometry.dilation == (1, 1)
        and geometry.groups == 1
        and all(0 <= n < TAPS for pair in geometry.padding for n in pair)
    )


class _Tiling:
    """How a plane of outputs is divided into tiles and blocks."""

    def __init__(self, images: int, size: tuple[int, ...], most: int, workers: int = 1) -> None:
        """For planes of `size`, with blocks of about `most` tiles."""
        self.down, self.across = (-(-length // OUT) for length in size)
        self.band, self.group = _blocks(images, self.down, self.across, most, workers)
        self.block = self.band * self.group * self.across
        self.blocks = -(-images // self.group) * -(-self.down // self.band)
        self.columns = self.across * OUT + TAPS - 1
        self.rows = self.band * OUT + TAPS - 1


def convolve(
    x: np.ndarray,
    w: np.ndarray,
    flipped: bool,
    out_size: tuple[int, int],
    before: tuple[int, int],
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """The correlation of x (N, C, H, W) with filters w (K, C, 3, 3), or `flipped` (C, K, 3, 3)."""
    images, channels, height, breadth = x.shape
    filters = w.shape[1] if flipped else w.shape[0]
    bias, residual, relu = epilogue_arrays(epilogue, x.dtype)
    result = Result((images, filters, *out_size), x.dtype, out, x, w, bias, residual)
    if result.buffer.size == 0:
        return result.deliver()
    in_padded, out_padded = _padded(channels, x.itemsize), _padded(filters, x.itemsize)
    numbers = PLACES * (in_padded + out_padded)
    most = min(max(BLOCK_BYTES // (numbers * x.itemsize), FEWEST), MOST)
    tiling = _Tiling(images, out_size, most, threads())
    tiles = -(-tiling.block // GROUP) * GROUP
    workers = min(threads(), tiling.blocks)
    room = scratch(workspace)
    u = room.take((PLACES * channels * out_padded,), x.dtype)
    lane = lanes(x.itemsize)
    taps = room.take((threads(), max(TAPS * TAPS, lane) * lane), x.dtype)
    area = TAPS * TAPS
    filter_kernel(
        flat(w),
        u,
        taps,
        _places(1, max(area, lane), 0),
        channels,
        filters,
        area * filters if flipped else area,
        area if flipped else area * channels,
        -1 if flipped else 1,
    )
    winograd_kernel(
        flat(x),
        u,
        result.buffer.reshape(-1),
        bias,
        residual,
        relu,
        room.take((workers, tiling.rows * tiling.columns * max(in_padded, out_padded)), x.dtype),
        room.take((workers, PLACES * tiles * in_padded), x.dtype),
        room.take((workers, PLACES * tiles * out_padded), x.dtype),
        images,
        channels,
        filters,
        in_padded,
        out_padded,
        (height, breadth),
        out_size,
        before,
        tiling.down,
        tiling.across,
        tiling.band,
        tiling.group,
        _places(min(tiling.rows, height), breadth, tiling.columns),
        _places(min(tiling.band * OUT, out_size[0]), out_size[1], tiling.across * OUT),
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
    """`conv` by Winograd's method."""
    before = (geometry.padding[0][0], geometry.padding[1][0])
    size = (geometry.output[0], geometry.output[1])
    return convolve(x, w, False, size, before, out, workspace, epilogue)


def conv_input(
    g: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_input` by Winograd's method: `conv` of the gradient with flipped filters."""
    before = (TAPS - 1 - geometry.padding[0][0], TAPS - 1 - geometry.padding[1][0])
    size = (geometry.size[0], geometry.size[1])
    return convolve(g, w, True, size, before, out, workspace, epilogue)


def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` by Winograd's method."""
    images, channels, height, breadth = x.shape
    filters = g.shape[1]
    out_size = (geometry.output[0], geometry.output[1])
    result = Result((filters, channels, TAPS, TAPS), x.dtype, out, x, g)
    if 0 in g.shape or 0 in x.shape:
        result.buffer[...] = 0
        return result.deliver()
    in_padded, out_padded = _padded(channels, x.itemsize), _padded(filters, x.itemsize)
    numbers = PLACES * (in_padded + out_padded) * x.itemsize
    tiling = _Tiling(images, out_size, min(max(BLOCK_BYTES // numbers, 8), MOST))
    # A chunk is long enough that adding to the sums costs little beside the products.
    chunk = max(CHUNK_BYTES // numbers, FEWEST_SUMMED) // tiling.block
    chunk = min(max(chunk, 1), tiling.blocks)
    workers = min(threads(), chunk)
    room = scratch(workspace)
    lane = lanes(x.itemsize)
    gradient_kernel(
        flat(x),
        flat(g),
        result.buffer.reshape(-1),
        room.take((PLACES * in_padded * out_padded,), x.dtype),
        room.take((workers, tiling.rows * tiling.columns * max(in_padded, out_padded)), x.dtype),
        room.take((PLACES * chunk * tiling.block * in_padded,), x.dtype),
        room.take((PLACES * chunk * tiling.block * out_padded,), x.dtype),
        images,
        channels,
        filters,
        in_padded,
        out_padded,
        (height, breadth),
        out_size,
        (geometry.padding[0][0], geometry.padding[1][0]),
        tiling.down,
        tiling.across,
        tiling.band,
        tiling.group,
        chunk,
        _places(min(tiling.rows, height), breadth, tiling.columns),
        _places(min(tiling.band * OUT, out_size[0]), out_size[1], tiling.across * OUT),
        room.take((workers, TAPS * TAPS * lane), x.dtype),
    )
    finish(result.buffer, epilogue)
    return result.deliver()
