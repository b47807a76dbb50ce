"""Depthwise 3x3 filters, plane by plane: what `depthwise` does for them, without its tables.

`filter_plane`, `correlate_plane` and `add_taps` are for other kernels too, which have more to do
with a plane while it is at hand (`separable`).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..geometry import Geometry
from .arrays import flat
from .compile import helper, inlined_helper, kernel
from .lines import fill_row
from .plane_tile import SIZE, correlate_plane_tile, plane_tile, spread_plane_tile
from .tile import VECTOR_BYTES

# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


@inlined_helper
def filter_plane(
    x, x0, height, width, w, w0, y, to, rows, length, turned, above, before, step, stride, bias,
    channel, residual, relu,
):  # fmt: skip
    """One plane of `conv` by a 3x3 filter, or of `conv_input` where it is `turned`."""
    if stride == 2 and turned:
        spread_plane_tile(
            x, x0, height, width, w, w0, above, before, rows, length, bias, channel,
            bias.size > 0, residual, residual.size > 0, relu, y, to,
        )  # fmt: skip
    elif stride == 2:
        plane_tile(
            2, x, x0, height, width, w, w0, SIZE, above, -before, step, rows, length, bias,
            channel, bias.size > 0, residual, residual.size > 0, relu, y, to,
        )  # fmt: skip
    elif turned:  # the same, with the filter's rows and columns in reverse
        plane_tile(
            1, x, x0, height, width, w, w0 + (SIZE - 1) * SIZE, -SIZE, SIZE - 1 - above, before,
            -step, rows, length, bias, channel, bias.size > 0, residual, residual.size > 0, relu,
            y, to,
        )  # fmt: skip
    else:
        plane_tile(
            1, x, x0, height, width, w, w0, SIZE, above, -before, step, rows, length, bias,
            channel, bias.size > 0, residual, residual.size > 0, relu, y, to,
        )  # fmt: skip


@inlined_helper
def correlate_plane(
    x, x0, height, width, g, g0, rows, length, above, before, step, stride, sums, s0
):
    """What a plane and a plane of gradients add to the W sums of each tap of a 3x3 filter."""
    if stride == 1:
        correlate_plane_tile(
            1, x, x0, height, width, g, g0, rows, length, above, -before, step, sums, s0
        )
    else:
        correlate_plane_tile(
            2, x, x0, height, width, g, g0, rows, length, above, -before, step, sums, s0
        )


@helper
def add_taps(sums, s0, lanes, residual, gw, to):
    """The gradient of a 3x3 filter, from W sums for each tap, and what an epilogue adds."""
    for t in range(SIZE * SIZE):
        total = sums[s0 + t * lanes]
        for lane in range(1, lanes):
            total += sums[s0 + t * lanes + lane]
        if residual.size > 0:
            total += residual[to + t]
        gw[to + t] = total


@kernel
def three_kernel(
    x, w, y, bias, residual, relu, planes, filters, outputs, height, width, rows, length, turned,
    above, before, step, stride,
):  # fmt: skip
    """All planes of `conv` by 3x3 filters that see one channel each; `turned` for `conv_input`.

    There are `filters` of them for each image, and `outputs` for each channel that is read.
    """
    for plane in prange(planes):
        channel = plane % filters
        filter_plane(
            x, plane // outputs * height * width, height, width, w, channel * SIZE * SIZE, y,
            plane * rows * length, rows, length, turned, above, before, step, stride, bias,
            channel, residual, relu,
        )  # fmt: skip


@kernel
def three_weight_kernel(
    x, g, gw, residual, sums, images, filters, outputs, height, width, rows, length, above, before,
    step, stride,
):  # fmt: skip
    """The gradients of 3x3 filters that see one channel each; each worker has a row of `sums`."""
    workers = len(sums)
    for worker in prange(workers):
        mine = sums[worker]
        lanes = WIDE_BYTES // x.itemsize
        for o in range(filters * worker // workers, filters * (worker + 1) // workers):
            fill_row(mine, 0, SIZE * SIZE * lanes, 0)
            for n in range(images):
                x0 = (n * (filters // outputs) + o // outputs) * height * width
                g0 = (n * filters + o) * rows * length
                correlate_plane(
                    x, x0, height, width, g, g0, rows, length, above, before, step, stride, mine, 0
                )
            add_taps(mine, 0, lanes, residual, gw, o * SIZE * SIZE)


def able(geometry: Geometry, channels: int, transposed: bool = False) -> bool:
    """Whether filters are 3x3, see one channel, and move by 1 or 2 on both axes alike.

    Columns may be dilated, rows may not; in the adjoint at stride 2 neither.
    """
    v = geometry.volume
    return (
        channels == 1
        and v.kernel == (1, SIZE, SIZE)
        and v.size[0] == v.output[0] == 1
        and v.stride[1] == v.stride[2] <= 2
        and v.dilation[1] == 1
        and (v.dilation[2] == 1 or not (transposed and v.stride[1] == 2))
    )


def settings(geometry: Geometry, turned: bool) -> tuple[int, ...]:
    """The numbers that `filter_plane` takes of a geometry, in its order."""
    v = geometry.volume
    read, written = (v.output, v.size) if turned else (v.size, v.output)
    where = v.padding[1][0], v.padding[2][0], v.dilation[2], v.stride[1]
    return (*read[1:], *written[1:], *where)


def run(
    x: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    geometry: Geometry,
    turned: bool,
    bias: np.ndarray,
    residual: np.ndarray,
    relu: bool,
) -> None:
    """`conv` of x with w into y, or where `turned` `conv_input`."""
    filters = y.shape[1]
    outputs = filters // geometry.groups
    height, width, rows, length, *where = settings(geometry, turned)
    three_kernel(
        *(flat(x), flat(w), y.reshape(-1), bias, residual, relu, len(x) * filters, filters),
        *(outputs, height, width, rows, length, turned, *where),
    )


def run_weight(
    x: np.ndarray,
    g: np.ndarray,
    gw: np.ndarray,
    geometry: Geometry,
    residual: np.ndarray,
    sums: np.ndarray,
) -> None:
    """`conv_weight` of x with g into gw; `sums` has a row for each worker."""
    filters = g.shape[1]
    three_weight_kernel(
        *(flat(x), flat(g), gw.reshape(-1), residual, sums, len(x), filters),
        *(filters // geometry.groups, *settings(geometry, False)),
    )
