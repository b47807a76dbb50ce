"""Sums of 2x2 windows that tile their plane, and the adjoint: the pool of nearly every network.

Without edges and tables, all planes are one long picture whose rows come in pairs.  The loops are
plain, and shorter rows than a vector's lanes cost no more than longer ones.
"""

from __future__ import annotations

from functools import cache

from numba import prange

from ..geometry import Geometry
from .compile import kernel

# Numbers of the input in one piece of work, about.
PIECE = 1 << 13


@cache
def able(geometry: Geometry) -> bool:
    """Whether the windows are 2x2, side by side, and cover the plane."""
    v = geometry.volume
    return (
        v.kernel == v.stride == (1, 2, 2)
        and v.dilation == (1, 1, 1)
        and not any(before or after for before, after in v.padding)
        and v.size[1] % 2 == v.size[2] % 2 == 0
    )


@kernel
def sum_kernel(x, y, width, share):
    """Each of y is the sum of four of x, times `share`; rows of y have `width` numbers."""
    rows = len(y) // width
    size = max(1, PIECE // (4 * width))
    for piece in prange((rows + size - 1) // size):
        for row in range(piece * size, min((piece + 1) * size, rows)):
            upper = x[4 * row * width : (4 * row + 2) * width]
            lower = x[(4 * row + 2) * width : (4 * row + 4) * width]
            made = y[row * width : (row + 1) * width]
            for i in range(width):
                total = upper[2 * i] + upper[2 * i + 1]
                total += lower[2 * i]
                total += lower[2 * i + 1]
                made[i] = total * share


@kernel
def spread_kernel(g, y, width, share):
    """The adjoint: each of g, times `share`, goes to four of y; rows of g have `width` numbers."""
    rows = len(g) // width
    size = max(1, PIECE // (4 * width))
    for piece in prange((rows + size - 1) // size):
        for row in range(piece * size, min((piece + 1) * size, rows)):
            given = g[row * width : (row + 1) * width]
            upper = y[4 * row * width : (4 * row + 2) * width]
            lower = y[(4 * row + 2) * width : (4 * row + 4) * width]
            for i in range(width):
                value = given[i] * share
                upper[2 * i] = value
                upper[2 * i + 1] = value
            for i in range(2 * width):
                lower[i] = upper[i]
