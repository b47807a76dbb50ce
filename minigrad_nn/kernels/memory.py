"""Memory that results leave behind, kept for the results that follow."""

from __future__ import annotations

from contextlib import AbstractContextManager

__all__ = ["reuse_memory"]


def reuse_memory(limit: int | None = None) -> AbstractContextManager[None]:
    """Inside of this context, NumPy keeps the memory of large arrays that died, for new ones.

    A step of training makes and drops the same arrays as the one before, and memory that is fresh
    from the system costs time: each page is zeroed when it is first touched.  `train.fit` and
    `train.evaluate` work inside of this context.  It holds for the Python thread that enters it,
    and for all arrays that are made there, whoever makes them; arrays that leave it stay whole.

    Args:
        limit: the most bytes of dead arrays to keep from now on; 1 GiB at first.

    Raises:
        ValueError: a limit below 0.

    `minigrad.memory_stats()` tells what is held, `minigrad.empty_memory()` gives it back.

    >>> import minigrad, numpy as np
    >>> with reuse_memory():
    ...     for _ in range(3):
    ...         x = np.ones(100_000)
    >>> minigrad.memory_stats().reused > 0
    True
    """
    if limit is not None and limit < 0:
        raise ValueError(f"reuse_memory: limit must be a number of bytes, 0 or more, got {limit}")
    from .cpu import memory

    return memory.reuse_memory(limit)
