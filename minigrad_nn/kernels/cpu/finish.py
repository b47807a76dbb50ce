"""The epilogue as a pass of its own, for kernels that cannot take it along, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from minigrad.noting import zeros

from ..epilogue import Epilogue
from ..workspace import Workspace
from .arrays import Result, epilogue_arrays, scratch
from .compile import kernel
from .norm_tile import moments_tile, passed_tile
from .normalise import ends, planes


@kernel
def finish_kernel(y, channels, bias, residual, relu):
    """Add bias and residual to each of the planes of `y` (planes, length), then ReLU."""
    length = y.shape[1]
    for plane in prange(y.shape[0]):
        row = y[plane]
        if bias.size > 0:
            b = bias[plane % channels]
            for i in range(length):
                row[i] += b
        if residual.size > 0:
            addend = residual[plane * length : (plane + 1) * length]
            for i in range(length):
                row[i] += addend[i]
        if relu:
            for i in range(length):
                # Not max(): NaN is neither above nor below 0, and stays.
                row[i] = 0 if row[i] <= 0 else row[i]


def finish(y: np.ndarray, epilogue: Epilogue | None) -> None:
    """Apply an epilogue in place to a contiguous `(N, C, ...)`."""
    if epilogue is None or y.size == 0:
        return
    bias, residual, relu = epilogue_arrays(epilogue, y.dtype)
    if bias.size or residual.size or relu:
        planes = y.reshape(y.shape[0] * y.shape[1], -1)
        finish_kernel(planes, y.shape[1], bias, residual, relu)


@kernel
def epilogue_backward_kernel(g, y, passed, images, channels, floor, ceiling, sums, gbias):
    """What the activation lets through, and its sum for each channel; `sums` is scratch."""
    length = g.shape[1]
    for plane in prange(images * channels):
        sums[plane] = passed_tile(g, y, passed, plane * length, length, floor, ceiling)
    for c in prange(channels):
        total = 0.0
        for n in range(images):
            total += sums[n * channels + c]
        gbias[c] = total


@kernel
def channel_sum_kernel(x, images, channels, sums, totals):
    """The sum of each channel; `sums` is scratch."""
    length = x.shape[1]
    for plane in prange(images * channels):
        sums[plane] = moments_tile(x, plane * length, length, 0.0)[0]
    for c in range(channels):
        total = 0.0
        for n in range(images):
            total += sums[n * channels + c]
        totals[c] = total


def channel_sum(x: np.ndarray, workspace: Workspace | None) -> np.ndarray:
    """See `minigrad_nn.kernels.channel_sum`."""
    images, channels = x.shape[:2]
    totals = zeros(channels, x.dtype)
    if x.size:
        sums = scratch(workspace).take((images * channels,), np.float64)
        channel_sum_kernel(planes(x), images, channels, sums, totals)
    return totals


def epilogue_backward(
    g: np.ndarray, y: np.ndarray, activation: str | None, out: Any, workspace: Workspace | None
) -> tuple[np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.epilogue_backward`."""
    images, channels = g.shape[:2]
    others = [a for a in (g, y) if a is not out]
    result = Result(g.shape, g.dtype, out, *others)
    gbias = zeros(channels, g.dtype)
    if g.size:
        sums = scratch(workspace).take((images * channels,), np.float64)
        floor, ceiling = ends(activation, g.dtype)
        epilogue_backward_kernel(
            *(planes(g), planes(y), planes(result.buffer)),
            *(images, channels, floor, ceiling, sums, gbias),
        )
    return result.deliver(), gbias
