"""Softmax and cross-entropy: one pass over the classes forward, one backward.

A row of classes that lie side by side is read while it is in the nearest cache: its largest number,
the sum of its exponentials, and in the backward pass its gradient, which is written at once. Where
places lie side by side instead, as in pictures with a class for each pixel, a vector of places goes
through the classes together.

Sums run over the classes in one fixed order, whichever thread computes them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange, types
from numba.core import cgutils

from minigrad.noting import empty

from .arrays import Result, flat
from .compile import helper, kernel, summing_helper
from .curves import Curves, Mask
from .tile import VECTOR_BYTES, _Emitter, _tile

# Rows, or vectors of places, that a thread takes at a time.
CHUNK = 16
# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


@_tile
def exponential_sum(typingctx, x, x0, count, shift):
    """`Σ_k exp(x[x0 + k] − shift)` for `k < count`, in W partial sums."""
    at, number = types.intp, x.dtype
    signature = number(x, at, at, number)

    def generate(context, builder, signature, arguments):
        x_, x0_, count_, shift_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        curves = Curves(e)
        start, shifts = e.at(e.data(signature.args[0], x_), x0_), e.splat(shift_)
        ((total,),) = e.accumulators(1, 1)
        vectors = builder.sdiv(builder.add(count_, e.const(e.width - 1)), e.const(e.width))
        zero = curves.all(0.0)
        with cgutils.for_range(builder, vectors) as loop:
            place = builder.mul(loop.index, e.const(e.width))
            inside = Mask(e, builder.sub(count_, place))
            power = curves.exp(builder.fsub(inside.load(e.at(start, place)), shifts))
            power = builder.select(inside.mask, power, zero)
            builder.store(builder.fadd(builder.load(total), power), total)
        return e.add_lanes(builder.load(total))

    return signature, generate


@_tile
def exponential_line(typingctx, x, x0, shift, less, factor, y, y0, count):
    """`y[y0 + i] = factor · exp((x[x0 + i] − shift) − less)` for `i < count`."""
    at, number = types.intp, x.dtype
    signature = types.void(x, at, number, number, number, y, at, at)

    def generate(context, builder, signature, arguments):
        x_, x0_, shift_, less_, factor_, y_, y0_, count_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        curves = Curves(e)
        start = e.at(e.data(signature.args[0], x_), x0_)
        end = e.at(e.data(signature.args[5], y_), y0_)
        shifts, lesses, factors = e.splat(shift_), e.splat(less_), e.splat(factor_)
        vectors = builder.sdiv(builder.add(count_, e.const(e.width - 1)), e.const(e.width))
        with cgutils.for_range(builder, vectors) as loop:
            place = builder.mul(loop.index, e.const(e.width))
            inside = Mask(e, builder.sub(count_, place))
            value = builder.fsub(inside.load(e.at(start, place)), shifts)
            power = curves.exp(builder.fsub(value, lesses))
            inside.store(builder.fmul(factors, power), e.at(end, place))
        return context.get_dummy_value()

    return signature, generate


@_tile
def places_tile(typingctx, x, x0, step, classes, top, total, t0, lanes):
    """For W places side by side: `top[t0 + j]`, the largest of x, and the sum of exponentials.

    Class k of place j is `x[x0 + k·step + j]`; only the first `lanes` places are read and written.
    """
    at = types.intp
    signature = types.void(x, at, at, at, top, total, at, at)

    def generate(context, builder, signature, arguments):
        x_, x0_, step_, classes_, top_, total_, t0_, lanes_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        curves, inside = Curves(e), Mask(e, lanes_)
        start = e.at(e.data(signature.args[0], x_), x0_)
        tops = e.at(e.data(signature.args[4], top_), t0_)
        totals = e.at(e.data(signature.args[5], total_), t0_)
        largest = cgutils.alloca_once_value(builder, curves.all(-math.inf))
        with cgutils.for_range(builder, classes_) as loop:
            value = inside.load(e.at(start, builder.mul(loop.index, step_)))
            more = builder.fcmp_ordered(">", value, builder.load(largest))
            builder.store(builder.select(more, value, builder.load(largest)), largest)
        shift = builder.load(largest)
        inside.store(shift, tops)
        ((sums,),) = e.accumulators(1, 1)
        with cgutils.for_range(builder, classes_) as loop:
            value = inside.load(e.at(start, builder.mul(loop.index, step_)))
            power = curves.exp(builder.fsub(value, shift))
            builder.store(builder.fadd(builder.load(sums), power), sums)
        inside.store(builder.load(sums), totals)
        return context.get_dummy_value()

    return signature, generate


@_tile
def places_backward_tile(typingctx, x, x0, step, classes, g, top, log_sum, t0, y, lanes):
    """`y = g · exp((x − top) − log_sum)` for all classes of W places; arguments as before."""
    at = types.intp
    signature = types.void(x, at, at, at, g, top, log_sum, at, y, at)

    def generate(context, builder, signature, arguments):
        x_, x0_, step_, classes_, g_, top_, log_, t0_, y_, lanes_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        curves, inside = Curves(e), Mask(e, lanes_)
        start = e.at(e.data(signature.args[0], x_), x0_)
        end = e.at(e.data(signature.args[8], y_), x0_)
        factor, shift, less = (
            inside.load(e.at(e.data(signature.args[i], array), t0_))
            for i, array in ((4, g_), (5, top_), (6, log_))
        )
        with cgutils.for_range(builder, classes_) as loop:
            place = builder.mul(loop.index, step_)
            value = builder.fsub(inside.load(e.at(start, place)), shift)
            power = curves.exp(builder.fsub(value, less))
            inside.store(builder.fmul(factor, power), e.at(end, place))
        return context.get_dummy_value()

    return signature, generate


@helper
def largest(x, start, count):
    """The largest of `x[start : start + count]` but for NaN, in four chains that do not wait."""
    row = x[start : start + count]
    a = b = c = d = x.dtype.type(-np.inf)
    for i in range(0, count - 3, 4):
        a = row[i] if row[i] > a else a
        b = row[i + 1] if row[i + 1] > b else b
        c = row[i + 2] if row[i + 2] > c else c
        d = row[i + 3] if row[i + 3] > d else d
    for i in range(count - count % 4, count):
        a = row[i] if row[i] > a else a
    a, c = (b if b > a else a), (d if d > c else c)
    return c if c > a else a


@summing_helper
def mean_above(x, start, step, count, shift):
    """The mean of `x[start + k·step] − shift` for `k < count`."""
    total = x.dtype.type(0)
    for k in range(count):
        total += x[start + k * step] - shift
    return total / x.dtype.type(count)


@helper
def loss_of(x, start, step, classes, wanted, shift, log_sum, smoothing):
    """The loss of one place."""
    kept = x.dtype.type(1) - smoothing
    value = log_sum - kept * (x[start + wanted * step] - shift)
    if smoothing != 0:
        value -= smoothing * mean_above(x, start, step, classes, shift)
    return value


@helper
def take_target(y, start, step, classes, wanted, g, smoothing):
    """Subtract the target's probabilities, times g, from the gradient of one place."""
    y[start + wanted * step] -= (y.dtype.type(1) - smoothing) * g
    if smoothing != 0:
        share = smoothing / y.dtype.type(classes) * g
        for k in range(classes):
            y[start + k * step] -= share


@kernel
def rows_kernel(x, target, classes, smoothing, loss, top, log_sum):
    """Classes side by side."""
    for chunk in prange((len(target) + CHUNK - 1) // CHUNK):
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(target))):
            start = n * classes
            shift = largest(x, start, classes)
            less = x.dtype.type(math.log(exponential_sum(x, start, classes, shift)))
            top[n], log_sum[n] = shift, less
            loss[n] = loss_of(x, start, 1, classes, target[n], shift, less, smoothing)


@kernel
def rows_backward_kernel(g, x, target, top, log_sum, classes, smoothing, y):
    """Classes side by side."""
    for chunk in prange((len(target) + CHUNK - 1) // CHUNK):
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(target))):
            start = n * classes
            exponential_line(x, start, top[n], log_sum[n], g[n], y, start, classes)
            take_target(y, start, 1, classes, target[n], g[n], smoothing)


@kernel
def places_kernel(x, target, classes, places, smoothing, loss, top, log_sum):
    """Places side by side, `places` of them in each picture."""
    wide = WIDE_BYTES // x.itemsize
    size = CHUNK * wide
    chunks = (places + size - 1) // size
    for item in prange(len(target) // places * chunks):
        n, first = item // chunks, item % chunks * size
        last = min(first + size, places)
        for p in range(first, last, wide):
            start, at = n * classes * places + p, n * places + p
            # The sum stands for its logarithm until that is taken.
            places_tile(x, start, places, classes, top, log_sum, at, last - p)
        for p in range(first, last):
            start, at = n * classes * places + p, n * places + p
            less = x.dtype.type(math.log(log_sum[at]))
            log_sum[at] = less
            loss[at] = loss_of(x, start, places, classes, target[at], top[at], less, smoothing)


@kernel
def places_backward_kernel(g, x, target, top, log_sum, classes, places, smoothing, y):
    """Places side by side."""
    wide = WIDE_BYTES // x.itemsize
    size = CHUNK * wide
    chunks = (places + size - 1) // size
    for item in prange(len(target) // places * chunks):
        n, first = item // chunks, item % chunks * size
        last = min(first + size, places)
        for p in range(first, last, wide):
            start, at = n * classes * places + p, n * places + p
            places_backward_tile(x, start, places, classes, g, top, log_sum, at, y, last - p)
        for p in range(first, last):
            start, at = n * classes * places + p, n * places + p
            take_target(y, start, places, classes, target[at], g[at], smoothing)


def _places(x: np.ndarray) -> int:
    return math.prod(x.shape[2:])


def cross_entropy(
    x: np.ndarray, target: np.ndarray, smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.cross_entropy`."""
    loss, top, log_sum = (empty(target.shape, x.dtype) for _ in range(3))
    classes, places = x.shape[1], _places(x)
    made = (loss.reshape(-1), top.reshape(-1), log_sum.reshape(-1))
    share = x.dtype.type(smoothing)
    if target.size and places == 1:
        rows_kernel(flat(x), flat(target), classes, share, *made)
    elif target.size:
        places_kernel(flat(x), flat(target), classes, places, share, *made)
    return loss, top, log_sum


def cross_entropy_backward(
    g: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    top: np.ndarray,
    log_sum: np.ndarray,
    smoothing: float,
    out: Any,
) -> np.ndarray:
    """See `minigrad_nn.kernels.cross_entropy_backward`."""
    result = Result(x.shape, x.dtype, out, g, x, top, log_sum)
    classes, places = x.shape[1], _places(x)
    given = (flat(g), flat(x), flat(target), flat(top), flat(log_sum))
    share, y = x.dtype.type(smoothing), result.buffer.reshape(-1)
    if target.size and places == 1:
        rows_backward_kernel(*given, classes, share, y)
    elif target.size:
        places_backward_kernel(*given, classes, places, share, y)
    return result.deliver()
