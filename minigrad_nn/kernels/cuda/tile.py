"""The product of tiles that all dense kernels share: large in shared memory, small in registers.

A block computes `rows x columns` numbers of a product; each of its threads holds `tall x wide` of
them in registers. The operands come through shared memory, `depth` terms of the sums at a time: a
number that was read once from the card's memory takes part in `columns` (or `rows`) products, and
one that was read from shared memory in `wide` (or `tall`). While one slice is multiplied, the next
one is on its way into registers; two slices of shared memory take turns, so there is one barrier
for each.

What differs between kernels is where the operands come from: `product` reads matrices, `implicit`
and `weights` read a convolution's pictures in place of the matrix of patches that they never build
(Chetlur et al., 2014).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import uint32

from . import precision, simulator
from .driver import Limits, simulated
from .launch import inlined


class Tile(NamedTuple):
    """How a product is divided among blocks and threads; all are powers of 2.

    Attributes:
        rows, columns: what a block computes.
        depth: terms of the sums that lie in shared memory at a time.
        tall, wide: what a thread computes.
        speed: products in a microsecond and block against those of the largest tile, an estimate.
        tensor: "tf32" or "bfloat16" where tensor cores multiply numbers rounded to that, else "".
    """

    rows: int
    columns: int
    depth: int
    tall: int
    wide: int
    speed: float = 1.0
    tensor: str = ""

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.tall * (self.columns // self.wide)

    @property
    def runs(self) -> tuple[int, int, int, int]:
        """How a thread's rows and columns lie: runs of so many, and from one run to the next.

        A thread's row i is `i // run · step + i % run` rows below its first.
        """
        if self.tensor:  # as `mma` has them
            return 1, 8, 2, 8
        a_run, b_run = min(self.tall, 4), min(self.wide, 4)
        return a_run, self.rows * a_run // self.tall, b_run, self.columns * b_run // self.wide

    def pitch(self, length: int, dtype: Any) -> int:
        """Numbers from one row of a slice to the next: more than a row, against conflicts.

        Threads that store a column of the slice, or read a fragment for tensor cores, then meet
        other banks of shared memory.
        """
        return length + (8 if self.tensor else 16 // np.dtype(dtype).itemsize)

    @property
    def packed(self) -> bool:
        """Whether two terms lie in one number of shared memory, in 16 bits each."""
        return self.tensor == "bfloat16" and not simulated()

    def slice(self, length: int, dtype: Any) -> int:
        """Numbers of shared memory that a slice of `depth` terms takes."""
        return self.depth // (2 if self.packed else 1) * self.pitch(length, dtype)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}{'_' * bool(self.tensor)}{self.tensor}"


# A thread must copy as many numbers of each operand as any other, and a row of threads must not be
# longer than a row of the tile: `depth · rows` and `depth · columns` are multiples of `threads`.
TILES: dict[str, tuple[Tile, ...]] = {
    "float32": (
        Tile(128, 64, 16, 8, 4),
        Tile(64, 64, 16, 4, 4, 0.8),
        Tile(16, 128, 16, 2, 4, 0.5),
    ),
    "float64": (Tile(64, 64, 8, 4, 4), Tile(16, 64, 16, 2, 2, 0.6)),
}
ALIGNED = None if simulated() else 16
"""Bytes at which shared arrays begin, so that 4 numbers are read at once; simulated ones cannot."""
SMALL_TILES: tuple[Tile, ...] = (Tile(8, 16, 4, 2, 2), Tile(16, 8, 4, 4, 2))
# A warp has 32 x 32 numbers: 2 x 4 products of 16 x 8 by tensor cores.
TENSOR_TILES: dict[str, tuple[Tile, ...]] = {
    to: (
        (Tile(32, 32, 8, 4, 8, 1.0, to),)
        if simulated()
        else (Tile(128, 64, 16, 4, 8, 1.0, to), Tile(64, 32, 16, 4, 8, 0.6, to))
    )
    for to in ("tf32", "bfloat16")
}


def use_tf32(wanted: bool) -> None:
    """TF32 or float32: `minigrad.cuda.set_matmul_precision` under its older name."""
    precision.set_precision("tf32" if wanted else "float32")


def tiles(dtype: Any, limits: Limits | None = None) -> tuple[Tile, ...]:
    """The tiles there are for an element type, those of tensor cores where the card has them.

    The simulator's have few threads.
    """
    if limits is not None and np.dtype(dtype) == np.float32:
        to = precision.on(limits.capability)
        if to != "float32":
            return TENSOR_TILES[to]
    return SMALL_TILES if simulated() else TILES[np.dtype(dtype).name]


def pick(
    dtype: Any, limits: Limits, rows: int, columns: int, batches: int, depth: int
) -> tuple[Tile, int, int]:
    """The tile for a product, into how many parts its sums are cut, and how long each part is.

    The time is taken to be that of the waves of blocks that the card computes one after another.
    A product with few blocks and long sums is cut along them; the parts are added up afterwards, in
    order, so the result stays the same from run to run.

    Args:
        dtype: element type.
        limits: what the card can do.
        rows, columns, batches: the results.
        depth: terms of each sum.
    """
    best: tuple[float, Tile, int, int] | None = None
    processors = limits.processors
    for tile in tiles(dtype, limits):
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * batches
        steps = max(1, -(-depth // tile.depth))
        pieces = 1
        if blocks:
            pieces = max(1, min(2 * processors // blocks, steps // STEPS_OF_A_PART, MOST_PARTS))
            pieces = max(pieces, -(-depth // LONGEST_SUM))
        length = max(1, -(-steps // pieces)) * tile.depth
        pieces = max(1, -(-depth // length))
        waves = -(-blocks * pieces // processors)
        cost = waves * (length + START) * tile.rows * tile.columns / tile.speed
        cost += pieces * rows * columns * batches / processors * (pieces > 1)
        if best is None or cost < best[0]:
            best = cost, tile, pieces, length
    assert best is not None
    return best[1:]


STEPS_OF_A_PART = 4 if simulated() else 16
"""A part of a sum takes at least this many slices: less would not pay for adding it up."""
MOST_PARTS = 64
LONGEST_SUM = 1 << 16
"""Longer sums lose digits, and are cut in any case."""
START = 64
"""What a block costs before its first product, in terms of its sums."""


@cache
def multiplier(tile: Tile, dtype: Any) -> Any:
    """The helper that multiplies one slice: `multiply(sa, sb, at_a, at_b, left, right, sums)`.

    `sa` and `sb` hold slices, flat; `at_a` and `at_b` are where this thread's numbers begin.
    A thread's rows and columns come in runs, which are read in one instruction.
    """
    if tile.tensor and not simulated():
        from .tensor import multiplier as of_tensor_cores

        return of_tensor_cores(tile)
    depth, tall, wide = tile.depth, tile.tall, tile.wide
    a_pitch, b_pitch = tile.pitch(tile.rows, dtype), tile.pitch(tile.columns, dtype)
    a_run, a_step, b_run, b_step = tile.runs

    def multiply(sa, sb, at_a, at_b, left, right, sums):
        for k in range(depth):
            for i in range(tall):
                left[i] = sa[at_a + uint32(k * a_pitch + (i // a_run) * a_step + i % a_run)]
            for j in range(wide):
                right[j] = sb[at_b + uint32(k * b_pitch + (j // b_run) * b_step + j % b_run)]
            for i in range(tall):
                for j in range(wide):
                    sums[i, j] += left[i] * right[j]

    return inlined(multiply)


@cache
def placer(tile: Tile) -> Any:
    """The helper that says where a thread's numbers begin: `row, column = place(thread)`."""
    across, (a_run, _, b_run, _) = tile.columns // tile.wide, tile.runs
    warps = tile.columns // 32

    def place(thread):
        return thread // across * a_run, thread % across * b_run

    def place_in_warp(thread):
        warp, lane = thread // 32, thread % 32
        return warp // warps * 32 + lane // 4, warp % warps * 32 + lane % 4 * 2

    return inlined(place_in_warp if tile.tensor else place)


@cache
def putter(tile: Tile, dtype: Any, length: int) -> Any:
    """The helper that stores a number: `put(shared, at, k, i, x)`.

    It becomes term k of row or column i, of `length`, in the slice that begins at `at`, rounded to
    what tensor cores multiply.
    """
    pitch = tile.pitch(length, dtype)
    rounded = rounder(tile)

    def put(shared, at, k, i, x):
        shared[uint32(at + k * pitch + i)] = rounded(x)

    def put_half(shared, at, k, i, x):
        store_bfloat16(shared, uint32((at + (k >> 1) * pitch + i) * 2 + (k & 1)), x)

    if tile.packed:
        from .tensor import store_bfloat16

        return inlined(put_half)
    return inlined(put)


@cache
def rounder(tile: Tile) -> Any:
    """The helper that a number passes on its way into shared memory: rounded, or as it is."""

    def same(x):
        return x

    if simulated() and tile.tensor:
        return simulator.ROUND[tile.tensor]
    if tile.tensor == "tf32":
        from .tensor import to_tf32

        return to_tf32
    return inlined(same)
