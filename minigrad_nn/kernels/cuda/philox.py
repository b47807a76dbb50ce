"""Random numbers drawn on a card: the very bits that `minigrad.random` draws on the CPU.

Philox computes the words of a stream from a key and their number, so any thread can have any of
them.  Here each thread computes blocks of four words.  Salmon and others, "Parallel random numbers:
as easy as 1, 2, 3", 2011; which bits of a word become a number is as in NumPy.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .array import CudaArray
from .driver import numba_cuda
from .launch import Kernel, helper, kernel, line

__all__ = ["uniform"]

cuda: Any = numba_cuda()

_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@helper
def _high(a: Any, b: Any) -> Any:
    """The upper 64 bits of a product of two numbers of 64 bits."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _32, b & _LOW, b >> _32
    middle = a_high * b_low + (a_low * b_low >> _32)
    other = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _32) + (other >> _32)


@helper
def _block(counter: Any, key0: Any, key1: Any) -> Any:
    """The four words of a block."""
    c0, c1, c2, c3 = counter, counter ^ counter, counter ^ counter, counter ^ counter
    for _ in range(10):
        high0, low0 = _high(_M0, c0), _M0 * c0
        high1, low1 = _high(_M1, c2), _M1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0, key1 = key0 + _W0, key1 + _W1
    return c0, c1, c2, c3


@cache
def _fill(dtype: np.dtype) -> Kernel:
    """The kernel for a type: one word makes one float64 or two float32, its lower half first."""
    real = dtype.type
    double = dtype.itemsize == 8
    shift = np.uint64(11 if double else 8)
    unit = real(2.0**-53 if double else 2.0**-24)
    halves = 1 if double else 2

    def fill(out, count, first, blocks, start, key0, key1):
        for b in range(cuda.grid(1), blocks, cuda.gridsize(1)):
            words = _block(np.uint64(first + b + 1), key0, key1)
            for w in range(4):
                word = words[w]
                for h in range(halves):
                    i = ((first + b) * 4 + w) * halves + h - start
                    part = word if double else (word >> _32 if h else word & _LOW)
                    if 0 <= i < count:
                        out[i] = real(part >> shift) * unit

    fill.__name__ = f"fill_{dtype.char}"
    of = dtype.name
    return kernel(f"void({of}[::1], int64, int64, int64, int64, uint64, uint64)")(fill)


def uniform(
    kind: type[CudaArray], key: int, words: int, shape: tuple[int, ...], dtype: Any, behind: int = 0
) -> CudaArray:
    """Uniform numbers in [0, 1) from the words of a stream.

    Args:
        kind: the class of a card's arrays.
        key: of the stream, 128 bits.
        words: how many words of the stream were drawn before.
        shape, dtype: of the result, float32 or float64.
        behind: how many elements at the beginning stay as they are: the caller fills them.
    """
    out = kind.empty(shape, dtype)
    per_word = 2 if out.itemsize == 4 else 1
    first = words // 4
    start = words * per_word - behind
    last = (start + out.size - 1) // (4 * per_word)
    blocks = last - first + 1
    if out.size > behind:
        flat = out.reshape(-1)
        _fill(out.dtype)(
            *line(kind.card, blocks),
            flat[behind:],
            *map(np.int64, (out.size - behind, first, blocks, start + behind)),
            *map(np.uint64, (key & 2**64 - 1, key >> 64)),
        )
    return out


def examples(full: bool) -> list[Kernel]:
    """Kernels that are compiled without a card."""
    return [_fill(np.dtype(np.float32)), _fill(np.dtype(np.float64))]
