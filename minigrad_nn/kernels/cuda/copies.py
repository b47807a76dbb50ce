"""Copies that run while the card computes: from pinned memory, on a stream of their own.

The host's memory can be swapped out, so the card reads from *pinned* memory only; what is sent is
copied there first.  Pinned memory is dear to get, so it is kept.  Two streams meet in events: the
computing stream waits for the copy when the array is asked for, not when it is sent, or nothing
would run beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .array import CudaArray, ghost_of

if TYPE_CHECKING:
    from .card import Card


class Sender:
    """Sends arrays to one card."""

    def __init__(self, card: Card) -> None:
        """Nothing is held before the first array is sent."""
        self._card = card
        self._stream: Any = None
        # Pinned memory, and the event after which it may be written again.
        self._pinned: list[tuple[np.ndarray, Any]] = []

    def send(self, array: np.ndarray) -> Callable[[], CudaArray]:
        """Begin to copy an array; the caller may change it at once.

        Returns:
            A function that gives the array on the card, ready for what is computed from then on.
        """
        card, driver = self._card, self._card.driver
        card.leaving("copies from the host's memory")
        if self._stream is None:
            self._stream = driver.new_stream()
        source = np.asarray(array, order="C")
        ghost = ghost_of(source.shape, source.dtype.newbyteorder("="))
        if not ghost.size:
            return lambda: card.from_numpy(source)
        what = f"an array of shape {ghost.shape} and {ghost.dtype}"
        block = card.allocator.take(ghost.nbytes, self._stream, what)
        sent = card.array_type._over(block, ghost, None)
        staged = self._staging(ghost.nbytes)
        buffer = staged[: ghost.nbytes].view(ghost.dtype)
        buffer[...] = source.reshape(-1)
        with driver:
            sent.span[0].copy_to_device(buffer, stream=self._stream)
        done = driver.mark(self._stream)
        self._pinned.append((staged, done))

        def arrive() -> CudaArray:
            driver.wait(card.stream, done)
            block.used_on(card.stream)
            return sent

        return arrive

    def _staging(self, nbytes: int) -> np.ndarray:
        """Pinned memory that no copy reads any more."""
        for i, (buffer, done) in enumerate(self._pinned):
            if buffer.size >= nbytes and done.query():
                del self._pinned[i]
                return buffer
        # What was too small is not kept beside what is large enough.
        self._pinned = [
            (b, done) for b, done in self._pinned if b.size >= nbytes or not done.query()
        ]
        return self._card.driver.pinned(-(-nbytes // 4096) * 4096)
