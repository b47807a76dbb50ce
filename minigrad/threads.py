"""How many processor threads compute: one number for compiled kernels and for NumPy's BLAS."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["get_num_threads", "register_threads", "set_num_threads"]

_setters: list[Callable[[int], None]] = []
_chosen: list[int] = []


def available() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def register_threads(setter: Callable[[int], None]) -> None:
    """Tell `setter` the number now, if one was chosen, and whenever one is."""
    _setters.append(setter)
    if _chosen:
        setter(_chosen[0])


def get_num_threads() -> int:
    """How many threads kernels and matrix products may use; all cores until it is set."""
    return _chosen[0] if _chosen else available()


def set_num_threads(number: int) -> None:
    """Let kernels and NumPy's matrix products use so many threads, in the whole process.

    Results of kernels have the same bits whatever the number.  It cannot exceed the number of
    threads that the process began with: the cores, or NUMBA_NUM_THREADS.

    Args:
        number: 1 or more.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than 1, or more than there can be.

    >>> import minigrad
    >>> before = minigrad.get_num_threads()
    >>> minigrad.set_num_threads(1)
    >>> minigrad.get_num_threads()
    1
    >>> minigrad.set_num_threads(before)
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(
            f"set_num_threads: number must be an integer, got {type(number).__name__} {number!r}"
        )
    most = int(os.environ.get("NUMBA_NUM_THREADS") or available())
    if not 1 <= number <= most:
        raise ValueError(f"set_num_threads: number must be in 1 to {most} here, got {number}")
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        library.set_num_threads(number)
    _chosen[:] = [number]
    for setter in _setters:
        setter(number)
