"""What memory a device holds for arrays: asked for and given back in one way for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from minigrad import backend

__all__ = ["MemoryStats", "empty_memory", "memory_stats", "register_memory"]


class MemoryStats(NamedTuple):
    """Memory of a device that is handed out to arrays, or kept for arrays to come.

    Attributes:
        live: bytes of arrays that are alive.
        peak: the most that `live` has been since the start, or since `empty_memory`.
        idle: bytes of dead arrays that are kept.
        limit: the most bytes that are kept.
        reused: how many arrays got memory that was kept.
        fresh: how many got new memory.
    """

    live: int
    peak: int
    idle: int
    limit: int
    reused: int
    fresh: int


_memories: dict[str, Any] = {}


def register_memory(device_name: str, memory: Any) -> None:
    """Make known who holds a device's memory.

    `stats()` gives `MemoryStats`, `empty()` releases what is idle, and `release()`, if it is there,
    does so and leaves the counts alone.
    """
    _memories[device_name] = memory


def release_idle(device: str) -> None:
    """As `empty_memory`, for the engine's own use: nothing is counted anew."""
    release = getattr(_memories.get(device), "release", None)
    if release is not None:
        release()


def memory_stats(device: str = "cpu") -> MemoryStats:
    """What a device holds in its pool of memory; zeros where it has none.

    On the CPU that is memory of large arrays that were made inside of
    `minigrad_nn.kernels.reuse_memory`, where training runs.

    Raises:
        ValueError: no such device is registered.

    >>> import minigrad
    >>> minigrad.memory_stats().live >= 0
    True
    """
    backend.get_device(device)
    memory = _memories.get(device)
    return MemoryStats(0, 0, 0, 0, 0, 0) if memory is None else memory.stats()


def empty_memory(device: str = "cpu") -> None:
    """Give a device's idle memory back to the system.

    Raises:
        ValueError: no such device is registered.
    """
    backend.get_device(device)
    if device in _memories:
        _memories[device].empty()
