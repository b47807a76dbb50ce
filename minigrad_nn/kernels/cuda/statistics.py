"""Sums over each channel of a batch, in float64 and in an order that never changes.

A block takes one piece of one channel: it sums the piece, then the squared deviations from the
piece's own mean, while the numbers are in the cache. Pieces are put together by the formula of
Chan, Golub and LeVeque (1979), so no digits are lost where the mean is large against the
deviations. Backward sums two products in the same way. Within a block, threads add in a tree.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import float64, int64, uint64

from .card import Card
from .driver import numba_cuda, simulated
from .launch import BLOCK, Kernel, inlined, kernel

cuda: Any = numba_cuda()

THREADS = 4 if simulated() else BLOCK
"""Threads of a block; a power of 2."""
PIECE = THREADS * (2 if simulated() else 16)
"""The fewest numbers of a piece that has any company."""


class Pieces(NamedTuple):
    """How the numbers of a channel are divided among blocks: so many pieces of such a length."""

    number: int
    length: int


def pieces(card: Card, channels: int, numbers: int) -> Pieces:
    """As many pieces as fill the card, and none shorter than pays."""
    limits = card.driver.limits
    wanted = -(-4 * limits.processors * (limits.processor_threads // THREADS) // channels)
    count = max(1, min(wanted, -(-numbers // PIECE), 65535))
    length = -(-numbers // count)
    return Pieces(-(-numbers // length), length)


def let_through(g, value, zero, floor, ceiling):
    """A gradient behind an activation: 0 where its value is at one of its ends; NaN is at none."""
    return zero if value <= floor or value >= ceiling else g


def add_up(sums, thread):
    """The sum of what the threads of a block wrote into `sums`, for all of them."""
    width = THREADS // 2
    cuda.syncthreads()
    while width > 0:
        if thread < width:
            sums[thread] += sums[thread + width]
        cuda.syncthreads()
        width //= 2
    total = sums[0]
    cuda.syncthreads()
    return total


@cache
def piece_moments(dtype: Any) -> Kernel:
    """Σ x, and Σ (x − mean of the piece)², of each piece of each channel."""
    name = np.dtype(dtype).name
    threads, total_of = THREADS, inlined(add_up)

    def moments_kernel(x, sums, deviations, images, channels, plane, length):
        shared = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        c = cuda.blockIdx.x
        first = cuda.blockIdx.y * length
        last = min(first + length, images * plane)
        more_images, more = threads // plane, threads % plane
        image, place = (first + thread) // plane, (first + thread) % plane
        mine = 0.0
        for _ in range(first + thread, last, threads):
            mine += float64(x[uint64((image * channels + c) * plane + place)])
            image += more_images
            place += more
            if place >= plane:
                place -= plane
                image += 1
        shared[thread] = mine
        total = total_of(shared, thread)
        middle = total / float64(last - first)
        image, place = (first + thread) // plane, (first + thread) % plane
        mine = 0.0
        for _ in range(first + thread, last, threads):
            offset = float64(x[uint64((image * channels + c) * plane + place)]) - middle
            mine += offset * offset
            image += more_images
            place += more
            if place >= plane:
                place -= plane
                image += 1
        shared[thread] = mine
        squares = total_of(shared, thread)
        if thread == 0:
            sums[uint64(cuda.blockIdx.y * channels + c)] = total
            deviations[uint64(cuda.blockIdx.y * channels + c)] = squares

    moments_kernel.__name__ = f"piece_moments_{name}"
    made = kernel(f"void({name}[::1], float64[::1], float64[::1], int64, int64, int64, int64)")
    return made(moments_kernel)


@cache
def channel_moments(dtype: Any) -> Kernel:
    """Mean, biased variance and `1/sqrt(variance + eps)` of each channel, from its pieces."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    threads, total_of = THREADS, inlined(add_up)

    def channel_kernel(
        sums, deviations, mean, variance, inverse_std, channels, pieces, length, numbers, eps
    ):
        shared = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        c = cuda.blockIdx.x
        mine = 0.0
        for piece in range(thread, pieces, threads):
            mine += sums[uint64(piece * channels + c)]
        shared[thread] = mine
        middle = total_of(shared, thread) / float64(numbers)
        mine = 0.0
        for piece in range(thread, pieces, threads):
            count = float64(min(length, numbers - piece * length))
            offset = sums[uint64(piece * channels + c)] / count - middle
            mine += deviations[uint64(piece * channels + c)] + count * (offset * offset)
        shared[thread] = mine
        spread = total_of(shared, thread) / float64(numbers)
        if thread == 0:
            mean[c] = real(middle)
            variance[c] = real(spread)
            inverse_std[c] = real(float64(1) / float64(math.sqrt(spread + eps)))

    channel_kernel.__name__ = f"channel_moments_{name}"
    array = f"{name}[::1]"
    made = kernel(
        f"void(float64[::1], float64[::1], {array}, {array}, {array}, int64, int64, int64, int64, "
        "float64)"
    )
    return made(channel_kernel)


@cache
def piece_products(dtype: Any) -> Kernel:
    """Σ g and Σ g·(x − mean) of each piece of each channel, of what is let through of g."""
    name = np.dtype(dtype).name
    threads, total_of, passed_of = THREADS, inlined(add_up), inlined(let_through)
    one, zero = np.dtype(dtype).type(1), np.dtype(dtype).type(0)

    def products_kernel(
        g, x, y, mean, inverse_std, gamma, beta, sums, products, images, channels, plane, length,
        floor, ceiling,
    ):  # fmt: skip
        shared = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        c = int64(cuda.blockIdx.x)
        first = cuda.blockIdx.y * length
        last = min(first + length, images * plane)
        more_images, more = threads // plane, threads % plane
        image, place = (first + thread) // plane, (first + thread) % plane
        middle = mean[c]
        scale = inverse_std[c] * (gamma[c] if gamma.size > 0 else one)
        shift = beta[c] if beta.size > 0 else zero
        mine = 0.0
        moment = 0.0
        for _ in range(first + thread, last, threads):
            at = uint64((image * channels + c) * plane + place)
            value = y[at] if y.size > 0 else (x[at] - middle) * scale + shift
            passed = float64(passed_of(g[at], value, zero, floor, ceiling))
            mine += passed
            moment += passed * (float64(x[at]) - float64(middle))
            image += more_images
            place += more
            if place >= plane:
                place -= plane
                image += 1
        shared[thread] = mine
        total = total_of(shared, thread)
        shared[thread] = moment
        product = total_of(shared, thread)
        if thread == 0:
            sums[uint64(cuda.blockIdx.y * channels + c)] = total
            products[uint64(cuda.blockIdx.y * channels + c)] = product

    products_kernel.__name__ = f"piece_products_{name}"
    seven = ", ".join([f"{name}[::1]"] * 7)
    made = kernel(
        f"void({seven}, float64[::1], float64[::1], int64, int64, int64, int64, {name}, {name})"
    )
    return made(products_kernel)


@cache
def channel_products(dtype: Any) -> Kernel:
    """The gradients of gamma and beta, and what the last pass takes off each number of a channel.

    `taken` is `(2, C)`: a constant, and a slope against x − mean; zeros if `given`.
    """
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    threads, total_of = THREADS, inlined(add_up)

    def channel_kernel(
        sums, products, inverse_std, ggamma, gbeta, taken, channels, pieces, numbers, given
    ):
        shared = cuda.shared.array(threads, float64)
        thread = cuda.threadIdx.x
        c = cuda.blockIdx.x
        mine = 0.0
        for piece in range(thread, pieces, threads):
            mine += sums[uint64(piece * channels + c)]
        shared[thread] = mine
        total = total_of(shared, thread)
        mine = 0.0
        for piece in range(thread, pieces, threads):
            mine += products[uint64(piece * channels + c)]
        shared[thread] = mine
        product = total_of(shared, thread) * float64(inverse_std[c])
        if thread == 0:
            gbeta[c] = real(total)
            ggamma[c] = real(product)
            slope = product * float64(inverse_std[c]) / float64(numbers)
            taken[c] = real(0.0 if given else total / float64(numbers))
            taken[channels + c] = real(0.0 if given else slope)

    channel_kernel.__name__ = f"channel_products_{name}"
    four = ", ".join([f"{name}[::1]"] * 4)
    made = kernel(f"void(float64[::1], float64[::1], {four}, int64, int64, int64, int64)")
    return made(channel_kernel)


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    four = piece_moments, channel_moments, piece_products, channel_products
    return [f(t) for f in four for t in kinds]
