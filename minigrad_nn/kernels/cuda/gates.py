"""Activations and their gradients on a card, and what an epilogue lets through of a gradient."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import float64, uint64

from ..epilogue import ENDS
from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, Scratch, flat, product
from .driver import numba_cuda
from .launch import Kernel, inlined, kernel, line
from .statistics import THREADS, add_up, let_through, pieces

cuda: Any = numba_cuda()

RULES = ("relu", "tanh", "sigmoid")


@cache
def gate(name: str, dtype: Any) -> Kernel:
    """The kernel of an activation's gradient (`RULES`); of the activation itself as "of_relu", ...

    The latter is given its argument twice.
    """
    real, of_type = np.dtype(dtype).type, np.dtype(dtype).name
    zero, one = real(0), real(1)

    def relu(g, y):
        return zero if y <= zero else g

    def tanh(g, y):
        return g * (one - y * y)

    def sigmoid(g, y):
        return g * (y * (one - y))

    def of_tanh(x, y):
        return math.tanh(x)

    def of_sigmoid(x, y):
        return one / (one + math.exp(-x))

    rules = {"relu": relu, "tanh": tanh, "sigmoid": sigmoid}
    rules |= {"of_relu": relu, "of_tanh": of_tanh, "of_sigmoid": of_sigmoid}
    rule = inlined(rules[name])

    def gate_kernel(g, y, gx):
        for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
            gx[i] = rule(g[i], y[i])

    gate_kernel.__name__ = f"gate_{name}_{of_type}"
    array = f"{of_type}[::1]"
    return kernel(f"void({array}, {array}, {array})")(gate_kernel)


def _gate(name: str, g: CudaArray, y: CudaArray, out: Any) -> CudaArray:
    # Each number is read before it is written, so out may be an argument.
    result = Result(g, g.shape, g.dtype, out, *(a for a in (g, y) if a is not out))
    if g.size:
        gate(name, g.dtype)(*line(g.card, g.size), flat(g), flat(y), result.buffer.reshape(-1))
    return result.deliver()


def relu(x: CudaArray, out: Any = None) -> CudaArray:
    """See `minigrad_nn.kernels.relu`."""
    return _gate("of_relu", x, x, out)


def tanh(x: CudaArray, out: Any = None) -> CudaArray:
    """See `minigrad_nn.kernels.tanh`."""
    return _gate("of_tanh", x, x, out)


def sigmoid(x: CudaArray, out: Any = None) -> CudaArray:
    """See `minigrad_nn.kernels.sigmoid`."""
    return _gate("of_sigmoid", x, x, out)


def relu_backward(g: CudaArray, y: CudaArray, out: Any = None) -> CudaArray:
    """See `minigrad_nn.kernels.relu_backward`."""
    return _gate("relu", g, y, out)


def tanh_backward(g: CudaArray, y: CudaArray, out: Any = None) -> CudaArray:
    """See `minigrad_nn.kernels.tanh_backward`."""
    return _gate("tanh", g, y, out)


def sigmoid_backward(g: CudaArray, y: CudaArray, out: Any = None) -> CudaArray:
    """See `minigrad_nn.kernels.sigmoid_backward`."""
    return _gate("sigmoid", g, y, out)


@cache
def passer(dtype: Any) -> Kernel:
    """What is let through of each piece of each channel, and its sum."""
    name, zero = np.dtype(dtype).name, np.dtype(dtype).type(0)
    threads, total_of, passed_of = THREADS, inlined(add_up, globals()), inlined(let_through)

    def pass_kernel(g, y, to, sums, images, channels, plane, length, floor, ceiling):
        shared = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        c = cuda.blockIdx.x
        first = cuda.blockIdx.y * length
        last = min(first + length, images * plane)
        more_images, more = threads // plane, threads % plane
        image, place = (first + thread) // plane, (first + thread) % plane
        mine = 0.0
        for _ in range(first + thread, last, threads):
            at = uint64((image * channels + c) * plane + place)
            passed = passed_of(g[at], y[at], zero, floor, ceiling)
            to[at] = passed
            mine += float64(passed)
            image += more_images
            place += more
            if place >= plane:
                place -= plane
                image += 1
        shared[thread] = mine
        total = total_of(shared, thread)
        if thread == 0:
            sums[uint64(cuda.blockIdx.y * channels + c)] = total

    pass_kernel.__name__ = f"passer_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void({array}, {array}, {array}, float64[::1], int64, int64, int64, int64, {name}, {name})"
    )
    return made(pass_kernel)


@cache
def channel_sums(dtype: Any) -> Kernel:
    """The sum of each channel from those of its pieces."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    threads, total_of = THREADS, inlined(add_up, globals())

    def sums_kernel(sums, totals, channels, number):
        shared = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        c = cuda.blockIdx.x
        mine = 0.0
        for piece in range(thread, number, threads):
            mine += sums[uint64(piece * channels + c)]
        shared[thread] = mine
        total = total_of(shared, thread)
        if thread == 0:
            totals[c] = real(total)

    sums_kernel.__name__ = f"channel_sums_{name}"
    return kernel(f"void(float64[::1], {name}[::1], int64, int64)")(sums_kernel)


def epilogue_backward(
    g: CudaArray, y: CudaArray, activation: str | None, out: Any, workspace: Workspace | None
) -> tuple[CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.epilogue_backward`."""
    images, channels, plane = g.shape[0], g.shape[1], product(g.shape[2:])
    # Each number is read before it is written, so out may be g.
    result = Result(g, g.shape, g.dtype, out, *(a for a in (g, y) if a is not out))
    if not g.size:
        return result.deliver(), g.from_numpy(np.zeros(channels, g.dtype))
    cut = pieces(g.card, channels, images * plane)
    sums = Scratch(workspace, g).take((cut.number * channels,), np.float64)
    floor, ceiling = (g.dtype.type(end) for end in ENDS[activation])
    passer(g.dtype)(
        (channels, cut.number), THREADS, flat(g), flat(y), result.buffer.reshape(-1), sums, images,
        channels, plane, cut.length, floor, ceiling,
    )  # fmt: skip
    gbias = g.empty(channels, g.dtype)
    channel_sums(g.dtype)(channels, THREADS, sums, gbias, channels, cut.number)
    return result.deliver(), gbias


def channel_sum(x: CudaArray, workspace: Workspace | None) -> CudaArray:
    """See `minigrad_nn.kernels.channel_sum`."""
    planes = x.reshape(*x.shape[:2], product(x.shape[2:]))
    return np.add.reduce(planes, axis=(0, 2), dtype=np.float64).astype(x.dtype)


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [
        *(gate(f"{of}{n}", t) for of in ("", "of_") for n in RULES for t in kinds),
        *(f(t) for f in (passer, channel_sums) for t in kinds),
    ]
