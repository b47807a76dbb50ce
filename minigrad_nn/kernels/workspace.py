"""Scratch memory that outlives a kernel call, so that its pages are first touched only once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.noting import books, current, empty

ALIGNMENT = 64


class Workspace:
    """An arena from which one kernel call at a time takes its scratch arrays.

    `begin()` opens a call: what was taken before may be handed out again. `take()` cuts the next
    array from the arena. What does not fit comes from a block of its own, and the next `begin()`
    replaces all blocks by one that is large enough: a repeated call allocates nothing. A
    workspace belongs to one thread at a time.

    Attributes:
        high_water: the most bytes that one call has taken so far.

    >>> workspace = Workspace()
    >>> workspace.begin()
    >>> workspace.take((2, 3), np.float32).shape
    (2, 3)
    """

    def __init__(
        self, nbytes: int = 0, allocate: Callable[[int], Any] | None = None, keep: int | None = None
    ) -> None:
        """An arena of `nbytes` to start with.

        Args:
            nbytes: bytes held from the beginning.
            allocate: gives a one-dimensional uint8 array of that many bytes; another device
                brings its own. The default is NumPy's memory.
            keep: the most bytes to hold between calls; None keeps whatever was needed.
        """
        self._allocate = allocate or (lambda n: np.empty(n, np.uint8))
        self._keep = keep
        self._block: Any = None
        self._start = 0  # where the block is aligned
        self._used = 0
        self._taken = 0
        self.high_water = 0
        if nbytes:
            self._hold(nbytes)

    def _hold(self, nbytes: int) -> None:
        """Replace the arena by one with room for so many bytes."""
        self._block = None  # before the new one is there, so that never both are held
        self._block = self._allocate(nbytes + ALIGNMENT)
        self._start = _misaligned(self._block)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return 0 if self._block is None else int(self._block.size)

    def begin(self) -> None:
        """Open a kernel call: every array taken before is free to be handed out again."""
        wanted = self.high_water
        if self._keep is not None and wanted > self._keep:
            wanted = 0
        if wanted and self.nbytes < wanted + ALIGNMENT:
            self._hold(wanted)
        self._used = 0
        self._taken = 0

    def take(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array that holds whatever was there: not zeros. It is aligned to 64 bytes."""
        if books and current() is not None:
            return empty(shape, dtype)  # noted work has memory of its own
        nbytes = _rounded(tuple(shape), dtype)
        self._taken += nbytes
        if self._taken > self.high_water:
            self.high_water = self._taken
        block = self._block
        if block is None or self._used + nbytes + ALIGNMENT > block.size:
            block = self._allocate(nbytes + ALIGNMENT)
            start = _misaligned(block)
        else:
            # What was taken before is a multiple of the alignment long.
            start = self._start + self._used
            self._used += nbytes
        if type(block) is np.ndarray:
            return np.ndarray(shape, dtype, block, start)
        length = math.prod(shape) * np.dtype(dtype).itemsize
        return block[start : start + length].view(dtype).reshape(shape)


@lru_cache(maxsize=4096)
def _rounded(shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes of an array, up to a multiple of the alignment."""
    return -(-math.prod(shape) * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT


def _misaligned(block: Any) -> int:
    """How many bytes from its beginning a block of NumPy's memory is aligned."""
    return -block.ctypes.data % ALIGNMENT if isinstance(block, np.ndarray) else 0
