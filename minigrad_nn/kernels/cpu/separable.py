"""Batch norm, activation, depthwise 3x3, batch norm, activation: each channel while it is at hand.

All five work on a channel by itself. So a few channels of all images go through all of them before
the next ones come: x is read from memory once and the result written once, and what lies between
never leaves the cache. Backward has x and the gradient, and computes what lies between again, which
is cheaper than having kept it. The tiles are those of `normalise` and `three`, in the same order,
and so are the bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from minigrad.noting import empty

from ..geometry import Geometry
from ..separable import composed, composed_backward
from ..workspace import Workspace
from . import three
from .arrays import flat, scratch
from .compile import kernel, threads
from .lines import fill_row
from .norm_tile import gradient_tile, normalise_tile, products_tile
from .normalise import (
    block_statistics,
    blocks,
    ends,
    normalise_block,
    plane_statistics,
    planes,
    settle_products,
    settle_statistics,
)
from .plane_tile import SIZE
from .three import add_taps, correlate_plane, filter_plane
from .tile import VECTOR_BYTES, lanes

# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


@kernel
def forward_kernel(
    x, y, rooms, none, images, channels, block, gamma, beta, w, gamma2, beta2, eps, eps2, mean,
    inverse_std, mean2, inverse_std2, variance, sums, deviations, floor, ceiling, floor2, ceiling2,
    height, width, rows, length, above, before, step, stride,
):  # fmt: skip
    """Blocks of channels; each worker has a row of `rooms`, of one plane."""
    read, written = x.shape[1], y.shape[1]
    tasks, workers = (channels + block - 1) // block, len(rooms)
    for worker in prange(workers):
        room = rooms[worker]
        for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
            first = task * block
            last = min(first + block, channels)
            block_statistics(
                x, images, channels, first, last, eps, sums, deviations, mean, variance,
                inverse_std,
            )  # fmt: skip
            for n in range(images):
                for c in range(first, last):
                    plane = n * channels + c
                    normalise_tile(
                        x, plane * read, room, 0, read, mean[c], inverse_std[c] * gamma[c],
                        beta[c], none, False, floor, ceiling,
                    )  # fmt: skip
                    filter_plane(
                        room, 0, height, width, w, c * SIZE * SIZE, y, plane * written, rows,
                        length, False, above, before, step, stride, none, c, none, False,
                    )  # fmt: skip
                    plane_statistics(y, plane, sums, deviations)
            settle_statistics(
                first, last, images, channels, written, eps2, sums, deviations, mean2, variance,
                inverse_std2,
            )  # fmt: skip
            normalise_block(
                y, y, images, channels, first, last, mean2, inverse_std2, gamma2, beta2, none,
                floor2, ceiling2,
            )  # fmt: skip


@kernel
def backward_kernel(
    g, x, gx, gw, rooms, kept, taps, none, images, channels, block, gamma, beta, mean, inverse_std,
    w, gamma2, beta2, mean2, inverse_std2, ggamma, gbeta, ggamma2, gbeta2, g_sums, gx_sums,
    g_sums2, gx_sums2, floor, ceiling, floor2, ceiling2, height, width, rows, length, above,
    before, step, stride,
):  # fmt: skip
    """Blocks of channels; each worker has a plane in `rooms`, a block in `kept`, and sums."""
    read, written = x.shape[1], g.shape[1]
    tasks, workers = (channels + block - 1) // block, len(rooms)
    for worker in prange(workers):
        room, held, sums = rooms[worker], kept[worker], taps[worker]
        lanes = WIDE_BYTES // x.itemsize
        area = SIZE * SIZE * lanes
        for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
            first = task * block
            last = min(first + block, channels)
            many = last - first
            fill_row(sums, 0, many * area, 0)
            # What the filter made, again, and what the second norm asks of all of it.
            for n in range(images):
                for c in range(first, last):
                    plane, at = n * channels + c, (n * many + c - first) * written
                    normalise_tile(
                        x, plane * read, room, 0, read, mean[c], inverse_std[c] * gamma[c],
                        beta[c], none, False, floor, ceiling,
                    )  # fmt: skip
                    filter_plane(
                        room, 0, height, width, w, c * SIZE * SIZE, held, at, rows, length, False,
                        above, before, step, stride, none, c, none, False,
                    )  # fmt: skip
                    g_sums2[plane], gx_sums2[plane] = products_tile(
                        g, plane * written, held, none, False, at, written, mean2[c],
                        inverse_std2[c] * gamma2[c], beta2[c], floor2, ceiling2,
                    )  # fmt: skip
            settle_products(
                first, last, images, channels, images * written, inverse_std2, False, g_sums2,
                gx_sums2, ggamma2, gbeta2,
            )  # fmt: skip
            for n in range(images):
                for c in range(first, last):
                    plane, at = n * channels + c, (n * many + c - first) * written
                    gradient_tile(
                        g, plane * written, held, none, held, none, False, at, written, mean2[c],
                        inverse_std2[c] * gamma2[c], beta2[c], floor2, ceiling2,
                        gx.dtype.type(g_sums2[c]), gx.dtype.type(gx_sums2[c]), False,
                    )  # fmt: skip
                    normalise_tile(
                        x, plane * read, room, 0, read, mean[c], inverse_std[c] * gamma[c],
                        beta[c], none, False, floor, ceiling,
                    )  # fmt: skip
                    correlate_plane(
                        room, 0, height, width, held, at, rows, length, above, before, step,
                        stride, sums, (c - first) * area,
                    )  # fmt: skip
                    filter_plane(
                        held, at, rows, length, w, c * SIZE * SIZE, gx, plane * read, height,
                        width, True, above, before, step, stride, none, c, none, False,
                    )  # fmt: skip
                    g_sums[plane], gx_sums[plane] = products_tile(
                        gx, plane * read, x, none, False, plane * read, read, mean[c],
                        inverse_std[c] * gamma[c], beta[c], floor, ceiling,
                    )  # fmt: skip
            settle_products(
                first, last, images, channels, images * read, inverse_std, False, g_sums, gx_sums,
                ggamma, gbeta,
            )  # fmt: skip
            for n in range(images):
                for c in range(first, last):
                    at = (n * channels + c) * read
                    gradient_tile(
                        gx, at, x, none, gx, none, False, at, read, mean[c],
                        inverse_std[c] * gamma[c], beta[c], floor, ceiling,
                        gx.dtype.type(g_sums[c]), gx.dtype.type(gx_sums[c]), False,
                    )  # fmt: skip
            for c in range(first, last):
                add_taps(sums, (c - first) * area, lanes, none, gw, c * SIZE * SIZE)


def _able(geometry: Geometry) -> bool:
    """Whether the filters are 3x3, and planes more than single numbers (see `normalise`)."""
    return (
        three.able(geometry, 1, True) and min(map(math.prod, (geometry.size, geometry.output))) > 1
    )


def norm_depthwise_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    w: np.ndarray,
    gamma2: np.ndarray,
    beta2: np.ndarray,
    geometry: Geometry,
    activations: tuple[str | None, str | None],
    eps: tuple[float, float],
    workspace: Workspace | None,
) -> tuple[np.ndarray, ...]:
    """See `minigrad_nn.kernels.norm_depthwise_norm`."""
    if not _able(geometry):
        return composed(x, gamma, beta, w, gamma2, beta2, geometry, activations, eps, workspace)
    images, channels, block = blocks(x)
    y = empty((images, channels, *geometry.output), x.dtype)
    found = empty((4, channels), x.dtype)
    room, workers = scratch(workspace), threads()
    source = planes(x)
    forward_kernel(
        source,
        planes(y),
        room.take((workers, source.shape[1]), x.dtype),
        np.empty(0, x.dtype),
        *(images, channels, block),
        *(flat(gamma), flat(beta), flat(w), flat(gamma2), flat(beta2), *eps, *found),
        room.take((channels,), np.float64),
        *(room.take((images * channels,), np.float64) for _ in range(2)),
        *ends(activations[0], x.dtype),
        *ends(activations[1], x.dtype),
        *three.settings(geometry, False),
    )
    return (y, *found)


def norm_depthwise_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    w: np.ndarray,
    gamma2: np.ndarray,
    beta2: np.ndarray,
    mean2: np.ndarray,
    inverse_std2: np.ndarray,
    geometry: Geometry,
    activations: tuple[str | None, str | None],
    workspace: Workspace | None,
) -> tuple[np.ndarray, ...]:
    """See `minigrad_nn.kernels.norm_depthwise_norm_backward`."""
    if not _able(geometry):
        return composed_backward(
            *(g, x, gamma, beta, mean, inverse_std, w, gamma2, beta2, mean2, inverse_std2),
            *(geometry, activations, workspace),
        )
    images, channels, block = blocks(x)
    gx, gw = empty(x.shape, x.dtype), empty(w.shape, x.dtype)
    gradients = empty((4, channels), x.dtype)
    room, workers = scratch(workspace), threads()
    source, gradient = planes(x), planes(g)
    many = block * images * gradient.shape[1]
    backward_kernel(
        gradient,
        source,
        planes(gx),
        gw.reshape(-1),
        room.take((workers, source.shape[1]), x.dtype),
        room.take((workers, many), x.dtype),
        room.take((workers, block * SIZE * SIZE * lanes(x.itemsize)), x.dtype),
        np.empty(0, x.dtype),
        *(images, channels, block),
        *(flat(v) for v in (gamma, beta, mean, inverse_std, w)),
        *(flat(v) for v in (gamma2, beta2, mean2, inverse_std2)),
        *gradients,
        *(room.take((images * channels,), np.float64) for _ in range(4)),
        *ends(activations[0], x.dtype),
        *ends(activations[1], x.dtype),
        *three.settings(geometry, False),
    )
    return gx, gradients[0], gradients[1], gw, gradients[2], gradients[3]
