"""Batch normalisation on a card: statistics (`statistics`), then one pass that normalises.

An activation is a floor and a ceiling, of which NaN stands for none: no number is below or above
it. Where it had closed is asked of the output, or without a residual of x again, which is cheaper
than reading the output.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import uint64

from ..epilogue import ENDS, NOTHING, Epilogue
from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, Scratch, flat, given, nothing, product, sheet
from .driver import numba_cuda
from .launch import Kernel, inlined, kernel
from .statistics import (
    THREADS,
    channel_moments,
    channel_products,
    let_through,
    piece_moments,
    piece_products,
    pieces,
)

cuda: Any = numba_cuda()


@cache
def normaliser(dtype: Any) -> Kernel:
    """`y = gamma·(x − mean)·inverse_std + beta`, with an epilogue."""
    one, zero, name = np.dtype(dtype).type(1), np.dtype(dtype).type(0), np.dtype(dtype).name

    def normalise_kernel(
        x, y, mean, inverse_std, gamma, beta, bias, residual, planes, channels, floor, ceiling
    ):
        length = x.size // planes
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            c = plane % channels
            middle = mean[c]
            scale = inverse_std[c] * (gamma[c] if gamma.size > 0 else one)
            shift = beta[c] if beta.size > 0 else zero
            if bias.size > 0:
                shift += bias[c]
            for i in range(first, length, step):
                at = uint64(plane * length + i)
                value = (x[at] - middle) * scale + shift
                if residual.size > 0:
                    value += residual[at]
                value = floor if value <= floor else value
                y[at] = ceiling if value >= ceiling else value

    normalise_kernel.__name__ = f"normaliser_{name}"
    eight = ", ".join([f"{name}[::1]"] * 8)
    return kernel(f"void({eight}, int64, int64, {name}, {name})")(normalise_kernel)


@cache
def denormaliser(dtype: Any) -> Kernel:
    """The gradient by x, and that by the residual where `gresidual` has room for it."""
    one, zero, name = np.dtype(dtype).type(1), np.dtype(dtype).type(0), np.dtype(dtype).name
    passed_of = inlined(let_through)

    def back_kernel(
        g, x, y, gx, gresidual, mean, inverse_std, gamma, beta, taken, planes, channels, given,
        floor, ceiling,
    ):  # fmt: skip
        length = x.size // planes
        first, start = cuda.grid(2)
        step, skip = cuda.gridsize(2)
        for plane in range(start, planes, skip):
            c = plane % channels
            middle = mean[c]
            scale = inverse_std[c] * (gamma[c] if gamma.size > 0 else one)
            shift = beta[c] if beta.size > 0 else zero
            constant, slope = taken[c], taken[channels + c]
            for i in range(first, length, step):
                at = uint64(plane * length + i)
                value = y[at] if y.size > 0 else (x[at] - middle) * scale + shift
                passed = passed_of(g[at], value, zero, floor, ceiling)
                if gresidual.size > 0:
                    gresidual[at] = passed
                off = zero if given else (x[at] - middle) * slope
                gx[at] = (passed - constant - off) * scale

    back_kernel.__name__ = f"denormaliser_{name}"
    ten = ", ".join([f"{name}[::1]"] * 10)
    return kernel(f"void({ten}, int64, int64, int64, {name}, {name})")(back_kernel)


def _ends(activation: str | None, dtype: Any) -> tuple[Any, Any]:
    floor, ceiling = ENDS[activation]
    return dtype.type(floor), dtype.type(ceiling)


def _statistics(
    x: CudaArray, eps: float, workspace: Workspace | None
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """Mean, biased variance, and `1/sqrt(variance + eps)` of each channel."""
    images, channels, plane = x.shape[0], x.shape[1], product(x.shape[2:])
    cut = pieces(x.card, channels, images * plane)
    room = Scratch(workspace, x)
    sums = room.take((cut.number * channels,), np.float64)
    deviations = room.take((cut.number * channels,), np.float64)
    piece_moments(x.dtype)(
        (channels, cut.number), THREADS, flat(x), sums, deviations, images, channels, plane,
        cut.length,
    )  # fmt: skip
    mean, variance, inverse_std = (x.empty(channels, x.dtype) for _ in range(3))
    channel_moments(x.dtype)(
        channels, THREADS, sums, deviations, mean, variance, inverse_std, channels, cut.number,
        cut.length, images * plane, float(eps),
    )  # fmt: skip
    return mean, variance, inverse_std


def moments(x: CudaArray, workspace: Workspace | None) -> tuple[CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.moments`."""
    return _statistics(x, 0.0, workspace)[:2]


def batch_norm(
    x: CudaArray,
    gamma: CudaArray | None,
    beta: CudaArray | None,
    eps: float,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.batch_norm`."""
    mean, _, inverse_std = _statistics(x, eps, workspace)
    y = batch_norm_given(x, gamma, beta, mean, inverse_std, out, workspace, epilogue)
    return y, mean, inverse_std


def batch_norm_given(
    x: CudaArray,
    gamma: CudaArray | None,
    beta: CudaArray | None,
    mean: CudaArray,
    inverse_std: CudaArray,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.batch_norm_given`."""
    epilogue = epilogue or NOTHING
    # Each number is read once, before it is written: x and the residual may be written in place.
    others = [a for a in (x, epilogue.residual, epilogue.bias) if a is not out]
    result = Result(x, x.shape, x.dtype, out, *others, gamma, beta, mean, inverse_std)
    if x.size:
        planes = x.shape[0] * x.shape[1]
        normaliser(x.dtype)(
            *sheet(x.card, planes, x.size // planes),
            flat(x),
            result.buffer.reshape(-1),
            flat(mean),
            flat(inverse_std),
            given(gamma, x),
            given(beta, x),
            given(epilogue.bias, x),
            given(epilogue.residual, x),
            planes,
            x.shape[1],
            *_ends(epilogue.activation, x.dtype),
        )
    return result.deliver()


def batch_norm_backward(
    g: CudaArray,
    x: CudaArray,
    gamma: CudaArray | None,
    mean: CudaArray,
    inverse_std: CudaArray,
    given_statistics: bool,
    out: Any,
    workspace: Workspace | None,
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.batch_norm_backward`."""
    gx, ggamma, gbeta, _ = batch_norm_epilogue_backward(
        g, x, gamma, None, mean, inverse_std, None, None, given_statistics, out, workspace
    )
    return gx, ggamma, gbeta


def batch_norm_epilogue_backward(
    g: CudaArray,
    x: CudaArray,
    gamma: CudaArray | None,
    beta: CudaArray | None,
    mean: CudaArray,
    inverse_std: CudaArray,
    activation: str | None,
    y: CudaArray | None,
    given_statistics: bool,
    out: Any,
    workspace: Workspace | None,
) -> tuple[CudaArray, CudaArray, CudaArray, CudaArray | None]:
    """See `minigrad_nn.kernels.batch_norm_epilogue_backward`."""
    images, channels, plane = x.shape[0], x.shape[1], product(x.shape[2:])
    result = Result(x, x.shape, x.dtype, out, g, x, gamma, beta, y, mean, inverse_std)
    gresidual = None if y is None else x.empty(x.shape, x.dtype)
    if not x.size:
        ggamma, gbeta = (x.from_numpy(np.zeros(channels, x.dtype)) for _ in range(2))
        return result.deliver(), ggamma, gbeta, gresidual
    ggamma, gbeta = x.empty(channels, x.dtype), x.empty(channels, x.dtype)
    cut = pieces(x.card, channels, images * plane)
    room = Scratch(workspace, x)
    sums = room.take((cut.number * channels,), np.float64)
    products = room.take((cut.number * channels,), np.float64)
    taken = room.take((2 * channels,), x.dtype)
    empty = nothing(type(x), x.dtype)
    ends = _ends(activation, x.dtype)
    # Copies that these make of arrays with gaps are made once.
    g, x, y = flat(g), flat(x), empty if y is None else flat(y)
    mean, inverse_std = flat(mean), flat(inverse_std)
    scale, shift = given(gamma, x), given(beta, x)
    piece_products(x.dtype)(
        (channels, cut.number), THREADS, g, x, y, mean, inverse_std, scale, shift, sums, products,
        images, channels, plane, cut.length, *ends,
    )  # fmt: skip
    channel_products(x.dtype)(
        channels, THREADS, sums, products, inverse_std, ggamma, gbeta, taken, channels, cut.number,
        images * plane, int(given_statistics),
    )  # fmt: skip
    denormaliser(x.dtype)(
        *sheet(x.card, images * channels, plane), g, x, y, result.buffer.reshape(-1),
        empty if gresidual is None else gresidual.reshape(-1), mean, inverse_std, scale, shift,
        taken, images * channels, channels, int(given_statistics), *ends,
    )  # fmt: skip
    return result.deliver(), ggamma, gbeta, gresidual


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [f(t) for f in (normaliser, denormaliser) for t in kinds]
