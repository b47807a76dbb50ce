"""Batch normalisation on the CPU, as few passes over memory as there can be.

Forward reads x twice: once for the statistics, once to normalise. A plane `(H, W)` of one channel
of one image is a block of work. Its sum and its squared deviations from its own mean are taken
while it lies in the cache, in float64, and planes are put together by the formula of Chan, Golub
and LeVeque (1979), image after image: no digits are lost where the mean is large against the
deviations, and the order does not depend on the threads. Backward reads g and x twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from ..workspace import Workspace
from .arrays import Result, epilogue_arrays, flat, scratch
from .compile import kernel, summing_helper

Planes = tuple[int, int, int]


@summing_helper
def plane_sum(row):
    """Σ row, in float64."""
    total = 0.0
    for i in range(len(row)):
        total += np.float64(row[i])
    return total


@summing_helper
def plane_deviation(row, mean):
    """Σ (row − mean)², in float64."""
    total = 0.0
    for i in range(len(row)):
        difference = np.float64(row[i]) - mean
        total += difference * difference
    return total


@summing_helper
def plane_product(g, x, mean):
    """Σ g·(x − mean), in float64."""
    total = 0.0
    for i in range(len(g)):
        total += np.float64(g[i]) * (np.float64(x[i]) - mean)
    return total


@kernel
def moments_kernel(x, images, channels, length, sums, deviations, mean, variance):
    """Mean and biased variance of each channel; `sums` and `deviations` are `(N·C,)` scratch."""
    for plane in prange(images * channels):
        row = x[plane * length : (plane + 1) * length]
        total = plane_sum(row)
        sums[plane] = total
        deviations[plane] = plane_deviation(row, total / length)
    for c in prange(channels):
        total = 0.0
        for n in range(images):
            total += sums[n * channels + c]
        middle = total / (images * length)
        squares = 0.0
        for n in range(images):
            offset = sums[n * channels + c] / length - middle
            squares += deviations[n * channels + c] + length * (offset * offset)
        mean[c] = middle
        variance[c] = squares / (images * length)


@kernel
def normalise_kernel(x, y, channels, length, mean, inverse_std, gamma, beta, residual, relu):
    """`y = gamma·(x − mean)·inverse_std + beta`, with the epilogue."""
    for plane in prange(len(x) // length):
        c = plane % channels
        middle = mean[c]
        scale = inverse_std[c] * gamma[c]
        shift = beta[c]
        source = x[plane * length : (plane + 1) * length]
        target = y[plane * length : (plane + 1) * length]
        for i in range(length):
            target[i] = (source[i] - middle) * scale + shift
        if residual.size > 0:
            addend = residual[plane * length : (plane + 1) * length]
            for i in range(length):
                target[i] += addend[i]
        if relu:
            for i in range(length):
                # Not max(): NaN is neither above nor below 0, and stays.
                target[i] = 0 if target[i] <= 0 else target[i]


@kernel
def backward_kernel(
    g, x, gx, images, channels, length, mean, inverse_std, gamma, given, g_sums, gx_sums,
    ggamma, gbeta,
):  # fmt: skip
    """The three gradients; `g_sums` and `gx_sums` are `(N·C,)` scratch."""
    for plane in prange(images * channels):
        row = g[plane * length : (plane + 1) * length]
        source = x[plane * length : (plane + 1) * length]
        g_sums[plane] = plane_sum(row)
        gx_sums[plane] = plane_product(row, source, np.float64(mean[plane % channels]))
    for c in prange(channels):
        first = 0.0
        second = 0.0
        for n in range(images):
            first += g_sums[n * channels + c]
            second += gx_sums[n * channels + c]
        gbeta[c] = first
        ggamma[c] = second * inverse_std[c]
        # What the second pass takes off each element, for the whole channel.
        g_sums[c] = first / (images * length)
        gx_sums[c] = second * inverse_std[c] * inverse_std[c] / (images * length)
    for plane in prange(images * channels):
        c = plane % channels
        row = g[plane * length : (plane + 1) * length]
        source = x[plane * length : (plane + 1) * length]
        target = gx[plane * length : (plane + 1) * length]
        scale = gamma[c] * inverse_std[c]
        if given:
            for i in range(length):
                target[i] = row[i] * scale
        else:
            middle = mean[c]
            constant = gx.dtype.type(g_sums[c])
            slope = gx.dtype.type(gx_sums[c])
            for i in range(length):
                target[i] = (row[i] - constant - (source[i] - middle) * slope) * scale


def _planes(x: np.ndarray) -> Planes:
    images, channels = x.shape[:2]
    length = 1
    for n in x.shape[2:]:
        length *= n
    return images, channels, length


def _vector(vector: Any, channels: int, default: float, dtype: Any) -> np.ndarray:
    return np.full(channels, default, dtype) if vector is None else flat(vector)


def moments(x: np.ndarray, workspace: Workspace | None) -> tuple[np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.moments`."""
    mean, variance = _moments(flat(x), *_planes(x), scratch(workspace))
    return mean.astype(x.dtype), variance.astype(x.dtype)


def _moments(
    x: np.ndarray, images: int, channels: int, length: int, room: Workspace
) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = np.empty(channels, np.float64), np.empty(channels, np.float64)
    sums = room.take((images * channels,), np.float64)
    deviations = room.take((images * channels,), np.float64)
    moments_kernel(x, images, channels, length, sums, deviations, mean, variance)
    return mean, variance


def batch_norm(
    x: np.ndarray,
    gamma: Any,
    beta: Any,
    eps: float,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.batch_norm`."""
    source = flat(x)
    mean, variance = _moments(source, *_planes(x), scratch(workspace))
    middle = mean.astype(x.dtype)
    with np.errstate(all="ignore"):
        inverse_std = (1 / np.sqrt(variance + eps)).astype(x.dtype)
    y = batch_norm_given(x, gamma, beta, middle, inverse_std, out, workspace, epilogue)
    return y, middle, inverse_std


def batch_norm_given(
    x: np.ndarray,
    gamma: Any,
    beta: Any,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.batch_norm_given`."""
    _, channels, length = _planes(x)
    bias, residual, relu = epilogue_arrays(epilogue, x.dtype)
    shift = _vector(beta, channels, 0, x.dtype)
    if bias.size:
        shift = shift + bias
    result = Result(x.shape, x.dtype, out, x, gamma, beta, mean, inverse_std, residual)
    if x.size:
        normalise_kernel(
            flat(x),
            result.buffer.reshape(-1),
            channels,
            length,
            flat(mean),
            flat(inverse_std),
            _vector(gamma, channels, 1, x.dtype),
            shift,
            residual,
            relu,
        )
    return result.deliver()


def batch_norm_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: Any,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    given: bool,
    out: Any,
    workspace: Workspace | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.batch_norm_backward`."""
    images, channels, length = _planes(x)
    result = Result(x.shape, x.dtype, out, g, x, gamma, mean, inverse_std)
    ggamma, gbeta = np.zeros(channels, x.dtype), np.zeros(channels, x.dtype)
    if x.size:
        room = scratch(workspace)
        backward_kernel(
            flat(g),
            flat(x),
            result.buffer.reshape(-1),
            images,
            channels,
            length,
            flat(mean),
            flat(inverse_std),
            _vector(gamma, channels, 1, x.dtype),
            bool(given),
            room.take((images * channels,), np.float64),
            room.take((images * channels,), np.float64),
            ggamma,
            gbeta,
        )
    return result.deliver(), ggamma, gbeta
