"""Batch normalisation on the CPU, as few passes over memory as there can be.

A few channels of all images are a block of work, small enough to lie in the cache. So x comes from
memory once: the statistics are taken, and x is normalised, with what the epilogue adds, while it
is at hand; backward reads g and x once in the same way. A plane `(H, W)` of one channel of one
image is summed on its own, in float64, its squared deviations around its own mean, and planes are
put together by the formula of Chan, Golub and LeVeque (1979), image after image: no digits are lost
where the mean is large against the deviations, and neither threads nor blocks change the order.

An activation is a floor and a ceiling, of which NaN stands for none: no number is below or above
it. Where it had closed is asked of the output, or without a residual of x again, which is cheaper
than reading the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from minigrad.noting import empty, full, zeros

from ..epilogue import ENDS, NOTHING, Epilogue
from ..workspace import Workspace
from .arrays import Result, copied, flat, scratch
from .compile import helper, inlined_helper, kernel
from .norm_tile import gradient_tile, moments_tile, normalise_tile, products_tile

# Numbers of one image that a block of channels has where it can: fewer would be read in bits and
# pieces. Numbers of all images that it has at most, unless one channel has more. Blocks that there
# are at least, where there are channels.
PIECE, BLOCK, TASKS = 1 << 11, 1 << 16, 8


@inlined_helper
def plane_statistics(x, plane, sums, deviations):
    """The sum of one plane, and that of its squared deviations around its own mean."""
    length = x.shape[1]
    # Of offsets from a number of the plane itself, which is as near as any.
    first_number = np.float64(x[plane, 0])
    origin = first_number if np.isfinite(first_number) else 0.0
    total, squares = moments_tile(x, plane * length, length, origin)
    sums[plane] = total + length * origin
    deviations[plane] = squares - total * (total / length)


@helper
def settle_statistics(
    first, last, images, channels, length, eps, sums, deviations, mean, variance, inverse_std
):
    """Mean, biased variance and inverse deviation of the channels of a block, from their planes."""
    for c in range(first, last):
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
        inverse_std[c] = 1 / np.sqrt(variance[c] + eps)


@helper
def block_statistics(
    x, images, channels, first, last, eps, sums, deviations, mean, variance, inverse_std
):
    """The same from x itself, read from memory once."""
    for n in range(images):
        for c in range(first, last):
            plane_statistics(x, n * channels + c, sums, deviations)
    settle_statistics(
        first, last, images, channels, x.shape[1], eps, sums, deviations, mean, variance,
        inverse_std,
    )  # fmt: skip


@helper
def normalise_block(
    x, y, images, channels, first, last, mean, inverse_std, gamma, beta, residual, floor, ceiling
):
    """The result of the channels of a block, into y, which may be x itself."""
    length = x.shape[1]
    for n in range(images):
        for c in range(first, last):
            at = (n * channels + c) * length
            normalise_tile(
                x, at, y, at, length, mean[c], inverse_std[c] * gamma[c], beta[c], residual,
                residual.size > 0, floor, ceiling,
            )  # fmt: skip


@kernel
def normalise_kernel(
    x, y, images, channels, block, given, eps, mean, variance, inverse_std, gamma, beta, residual,
    floor, ceiling, sums, deviations,
):  # fmt: skip
    """Statistics, unless they are given, and the result, unless y is empty.

    `sums` and `deviations` are `(N·C,)` scratch.
    """
    for task in prange((channels + block - 1) // block):
        first = task * block
        last = min(first + block, channels)
        if not given:
            block_statistics(
                x, images, channels, first, last, eps, sums, deviations, mean, variance,
                inverse_std,
            )  # fmt: skip
        if y.size > 0:
            normalise_block(
                x, y, images, channels, first, last, mean, inverse_std, gamma, beta, residual,
                floor, ceiling,
            )  # fmt: skip


@helper
def settle_products(
    first, last, images, channels, count, inverse_std, given, g_sums, gx_sums, ggamma, gbeta
):
    """The gradients by scale and shift of the channels of a block, from the sums of their planes.

    What `gradient_tile` takes off each element then stands in the sums at the channel's number: a
    constant, and a slope.
    """
    for c in range(first, last):
        total = 0.0
        product = 0.0
        for n in range(images):
            total += g_sums[n * channels + c]
            product += gx_sums[n * channels + c]
        gbeta[c] = total
        ggamma[c] = product * inverse_std[c]
        g_sums[c] = 0.0 if given else total / count
        gx_sums[c] = product * inverse_std[c] * inverse_std[c] / count


@kernel
def backward_kernel(
    g, x, y, gx, gresidual, images, channels, block, mean, inverse_std, gamma, beta, given, floor,
    ceiling, g_sums, gx_sums, ggamma, gbeta,
):  # fmt: skip
    """The gradients; `g_sums` and `gx_sums` are `(N·C,)` scratch, y and gresidual may be empty."""
    length = x.shape[1]
    count = images * length
    for task in prange((channels + block - 1) // block):
        first = task * block
        last = min(first + block, channels)
        for n in range(images):
            for c in range(first, last):
                plane = n * channels + c
                g_sums[plane], gx_sums[plane] = products_tile(
                    g, plane * length, x, y, y.size > 0, plane * length, length, mean[c],
                    inverse_std[c] * gamma[c], beta[c], floor, ceiling,
                )  # fmt: skip
        settle_products(
            first, last, images, channels, count, inverse_std, given, g_sums, gx_sums, ggamma,
            gbeta,
        )  # fmt: skip
        for n in range(images):
            for c in range(first, last):
                at = (n * channels + c) * length
                gradient_tile(
                    g, at, x, y, gx, gresidual, y.size > 0, at, length, mean[c],
                    inverse_std[c] * gamma[c], beta[c], floor, ceiling, gx.dtype.type(g_sums[c]),
                    gx.dtype.type(gx_sums[c]), given,
                )  # fmt: skip


def planes(x: np.ndarray) -> np.ndarray:
    """`(N·C, length)`, as kernels want it."""
    length = 1
    for n in x.shape[2:]:
        length *= n
    return flat(x).reshape(x.shape[0] * x.shape[1], length)


def _turned(x: np.ndarray) -> bool:
    """Whether planes are single numbers: then those of a channel are laid side by side."""
    return x.shape[0] > 1 and x.size == x.shape[0] * x.shape[1]


def _rows(x: np.ndarray, turned: bool) -> np.ndarray:
    """`planes`, or `(C, N)` as if all were one image."""
    return copied(x.reshape(x.shape[:2]).T) if turned else planes(x)


def _turn_back(rows: np.ndarray, x: np.ndarray) -> None:
    """Write `(C, N)` into x."""
    x.reshape(x.shape[:2])[...] = rows.T


def blocks(x: np.ndarray) -> tuple[int, int, int]:
    """Images, channels, and how many channels are worked on together, which changes no result."""
    images, channels = (1 if _turned(x) else x.shape[0]), x.shape[1]
    of_one = max(1, x.size // max(1, channels))
    piece = PIECE * images // of_one
    return images, channels, max(1, min(piece, BLOCK // of_one, -(-channels // TASKS)))


def per_channel(vector: Any, channels: int, default: float, dtype: Any) -> np.ndarray:
    """A number for each channel, the same one for None."""
    return full(channels, default, dtype) if vector is None else flat(vector)


def ends(activation: str | None, dtype: Any) -> tuple[Any, Any]:
    """Floor and ceiling of an activation, in the type that kernels compute with."""
    floor, ceiling = ENDS[activation]
    return dtype.type(floor), dtype.type(ceiling)


def _run(
    x: np.ndarray,
    buffer: np.ndarray | None,
    given: bool,
    eps: float,
    mean: np.ndarray,
    variance: np.ndarray,
    inverse_std: np.ndarray,
    gamma: Any,
    beta: Any,
    workspace: Workspace | None,
    epilogue: Epilogue,
) -> None:
    images, channels, block = blocks(x)
    turned = _turned(x)
    source = _rows(x, turned)
    y = source[:0]
    if buffer is not None:
        y = np.empty_like(source) if turned else planes(buffer)
    shift = per_channel(beta, channels, 0, x.dtype)
    if epilogue.bias is not None:
        shift = shift + epilogue.bias
    room = scratch(workspace)
    count = 0 if given else images * channels
    normalise_kernel(
        source,
        y,
        images,
        channels,
        block,
        given,
        eps,
        mean,
        variance,
        inverse_std,
        per_channel(gamma, channels, 1, x.dtype),
        shift,
        y[:0] if epilogue.residual is None else _rows(epilogue.residual, turned),
        *ends(epilogue.activation, x.dtype),
        room.take((count,), np.float64),
        room.take((count,), np.float64),
    )
    if turned and buffer is not None:
        _turn_back(y, buffer)


def moments(x: np.ndarray, workspace: Workspace | None) -> tuple[np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.moments`."""
    mean, inverse_std = empty((2, x.shape[1]), x.dtype)
    variance = empty(x.shape[1], np.float64)
    _run(x, None, False, 0.0, mean, variance, inverse_std, None, None, workspace, NOTHING)
    return mean, variance.astype(x.dtype)


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
    epilogue = epilogue or NOTHING
    mean, inverse_std = empty(x.shape[1], x.dtype), empty(x.shape[1], x.dtype)
    variance = empty(x.shape[1], np.float64)
    result = Result(x.shape, x.dtype, out, *_others(out, x, epilogue), gamma, beta)
    buffer = result.buffer
    _run(x, buffer, False, eps, mean, variance, inverse_std, gamma, beta, workspace, epilogue)
    return result.deliver(), mean, inverse_std


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
    epilogue = epilogue or NOTHING
    result = Result(
        x.shape, x.dtype, out, *_others(out, x, epilogue), gamma, beta, mean, inverse_std
    )
    buffer = result.buffer
    if x.size:
        none = np.empty(0, np.float64)
        _run(
            x,
            buffer,
            True,
            0.0,
            flat(mean),
            none,
            flat(inverse_std),
            gamma,
            beta,
            workspace,
            epilogue,
        )
    return result.deliver()


def _others(out: Any, x: np.ndarray, epilogue: Epilogue) -> list[Any]:
    """The large arrays that are read, but for out itself: it may be written in place."""
    return [a for a in (x, epilogue.residual, epilogue.bias) if a is not out]


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
    found = batch_norm_epilogue_backward(
        g, x, gamma, None, mean, inverse_std, None, None, given, out, workspace
    )
    return found[:3]


def batch_norm_epilogue_backward(
    g: np.ndarray,
    x: np.ndarray,
    gamma: Any,
    beta: Any,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    activation: str | None,
    y: Any,
    given: bool,
    out: Any,
    workspace: Workspace | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """See `minigrad_nn.kernels.batch_norm_epilogue_backward`."""
    images, channels, block = blocks(x)
    result = Result(x.shape, x.dtype, out, g, x, gamma, beta, y, mean, inverse_std)
    gresidual = None if y is None else empty(x.shape, x.dtype)
    ggamma, gbeta = zeros(channels, x.dtype), zeros(channels, x.dtype)
    if x.size:
        turned = _turned(x)
        source = _rows(x, turned)
        gx = np.empty_like(source) if turned else planes(result.buffer)
        added = gx[:0]
        if gresidual is not None:
            added = np.empty_like(source) if turned else planes(gresidual)
        room = scratch(workspace)
        backward_kernel(
            _rows(g, turned),
            source,
            gx[:0] if y is None else _rows(y, turned),
            gx,
            added,
            images,
            channels,
            block,
            flat(mean),
            flat(inverse_std),
            per_channel(gamma, channels, 1, x.dtype),
            per_channel(beta, channels, 0, x.dtype),
            bool(given),
            *ends(activation, x.dtype),
            room.take((images * channels,), np.float64),
            room.take((images * channels,), np.float64),
            ggamma,
            gbeta,
        )
        if turned:
            _turn_back(gx, result.buffer)
            if gresidual is not None:
                _turn_back(added, gresidual)
    return result.deliver(), ggamma, gbeta, gresidual
