"""Where each tap of a convolution reads: tables made once for each geometry, in the card's memory.

A convolution is a matrix product in which one matrix is never built: the number in row `(c, t)` and
column `(n, p)` of the matrix of patches is `x[n, c, p·stride + t·dilation − before]`. `Plan.terms`
has one row for each `(c, t)`: how far from the column's first place it reads, in flat memory and
along each axis. A column's place is computed once by a thread, so each number costs a few additions
and the comparison with the ends of the axes.

The adjoint in the input is the same computation with the roles turned around, once for each phase
(places of the result that are equal modulo the stride), with the taps that reach it: then
no product is with a zero that the stride put there. A phase is one row of `Plan.passes`.

All of it is written for 3 spatial axes; missing ones have size 1 (`Geometry.volume`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import Geometry

TERM = 4
"""Columns of `Plan.terms`: the offset in a plane's memory, and those along the 3 axes."""
PASS = 12
"""Columns of `Plan.passes`: first term, how many; places, origin, first place written (3 each)."""
NUMBERS = 19
"""How many integers `numbers` gives."""


def numbers(geometry: Geometry) -> tuple[int, ...]:
    """A geometry as kernels without tables take it.

    Input, output, kernel, stride, padding before and dilation, 3 numbers each; and the taps.
    """
    v = geometry.volume
    before = tuple(pair[0] for pair in v.padding)
    return (*v.size, *v.output, *v.kernel, *v.stride, *before, *v.dilation, v.taps)


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables of one convolution in one direction.

    Attributes:
        key: what they were made from, to find them on a card again.
        terms: int32 `(K, 4)`.
        weights: int32 `(K,)`: where the weight of each term stands, from the group's first.
        passes: int32 `(P, 12)`.
        read: `(D, H, W)` of what is read.
        write: `(D, H, W)` of what is written.
        read_step: places read from one column to the next along each axis.
        write_step: places written, likewise.
        row_step: from a row's first weight to that of the next row.
    """

    key: tuple[object, ...]
    terms: np.ndarray
    weights: np.ndarray
    passes: np.ndarray
    read: tuple[int, ...]
    write: tuple[int, ...]
    read_step: tuple[int, ...]
    write_step: tuple[int, ...]
    row_step: int

    @property
    def places(self) -> int:
        """The most places that a pass has in one image."""
        return int(np.prod(self.passes[:, 2:5], axis=1).max())

    @property
    def longest(self) -> int:
        """The most terms that a pass has."""
        return int(self.passes[:, 1].max())


def _rows(channels: int, size: tuple[int, ...], shifts: list[tuple[int, int, int]]) -> np.ndarray:
    """The terms of all channels: their offsets in planes of `size`, and along the axes."""
    along = np.array(shifts, np.int64).reshape(-1, 3)
    flat = (along[:, 0] * size[1] + along[:, 1]) * size[2] + along[:, 2]
    planes = np.arange(channels, dtype=np.int64) * (size[0] * size[1] * size[2])
    table = np.empty((channels, len(along), TERM), np.int32)
    table[:, :, 0] = planes[:, None] + flat
    table[:, :, 1:] = along
    return table.reshape(-1, TERM)


@lru_cache(maxsize=1024)
def forward(geometry: Geometry, channels: int) -> Plan:
    """The plan of `conv`, and of the columns of `conv_weight`; `channels` are those of a group."""
    v = geometry.volume
    shifts = [
        (z * v.dilation[0], y * v.dilation[1], x * v.dilation[2])
        for z, y, x in itertools.product(*map(range, v.kernel))
    ]
    terms = _rows(channels, v.size, shifts)
    one = np.zeros((1, PASS), np.int32)
    one[0, 1] = len(terms)
    one[0, 2:5] = v.output
    one[0, 5:8] = [-before for before, _ in v.padding]
    return Plan(
        ("forward", geometry, channels),
        terms,
        np.arange(len(terms), dtype=np.int32),
        one,
        v.size,
        v.output,
        v.stride,
        (1, 1, 1),
        len(terms),
    )


@lru_cache(maxsize=1024)
def backward(geometry: Geometry, channels: int, filters: int) -> Plan:
    """The plan of `conv_input`; `channels` and `filters` are those of a group."""
    v = geometry.volume
    terms, weights, passes = [], [], []
    first = 0
    for phase in itertools.product(
        *(range(min(s, n)) for s, n in zip(v.stride, v.size, strict=True))
    ):
        reach = [
            [
                (t, (r + before - t * step) // stride)
                for t in range(taps)
                if (r + before - t * step) % stride == 0
            ]
            for r, taps, stride, (before, _), step in zip(
                phase, v.kernel, v.stride, v.padding, v.dilation, strict=True
            )
        ]
        shifts, taps = [], []
        for (z, dz), (y, dy), (x, dx) in itertools.product(*reach):
            shifts.append((dz, dy, dx))
            taps.append((z * v.kernel[1] + y) * v.kernel[2] + x)
        count = filters * len(shifts)
        terms.append(_rows(filters, v.output, shifts))
        per_filter = np.arange(filters)[:, None] * (channels * geometry.taps)
        weights.append((per_filter + np.array(taps, np.int64)).astype(np.int32).reshape(-1))
        places = [-(-(n - r) // s) for n, r, s in zip(v.size, phase, v.stride, strict=True)]
        passes.append([first, count, *places, 0, 0, 0, *phase, 0])
        first += count
    return Plan(
        ("backward", geometry, channels, filters),
        np.concatenate(terms),
        np.concatenate(weights),
        np.array(passes, np.int32).reshape(-1, PASS),
        v.output,
        v.size,
        (1, 1, 1),
        v.stride,
        geometry.taps,
    )
