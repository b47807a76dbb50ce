"""Scratch memory that outlives a kernel call, so that its pages are first touched only once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

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
        self._block = self._allocate(nbytes + ALIGNMENT) if nbytes else None
        self._used = 0
        self._taken = 0
        self.high_water = 0

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
            self._block = self._allocate(wanted + ALIGNMENT)
        self._used = 0
        self._taken = 0

    def take(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array that holds whatever was there: not zeros. It is aligned to 64 bytes."""
        dtype = np.dtype(dtype)
        count = 1
        for length in shape:
            count *= length
        nbytes = -(-count * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        self._taken += nbytes
        self.high_water = max(self.high_water, self._taken)
        if self._block is None or self._used + nbytes + ALIGNMENT > self._block.size:
            block, start = self._allocate(nbytes + ALIGNMENT), 0
        else:
            block, start = self._block, self._used
            self._used += nbytes
        if isinstance(block, np.ndarray):
            start += -(block.ctypes.data) % ALIGNMENT
        return block[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
