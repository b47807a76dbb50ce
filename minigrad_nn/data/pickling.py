"""Objects as bytes for another process, arrays uncopied, and a word on what cannot be sent."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .dataset import Dataset, Transform

if TYPE_CHECKING:
    from multiprocessing.shared_memory import SharedMemory

__all__ = ["bytes_of", "pickled", "segments_of", "sizes_of"]


def segments_of(value: Any) -> list[memoryview]:
    """Pickled, with the contents of arrays beside it, uncopied."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [memoryview(data), *(buffer.raw() for buffer in buffers)]


def sizes_of(segments: Sequence[memoryview]) -> list[int]:
    """The bytes in each segment."""
    return [segment.nbytes for segment in segments]


def bytes_of(block: SharedMemory) -> memoryview:
    """The bytes of shared memory that is open."""
    assert block.buf is not None  # it is open
    return block.buf


def pickled(dataset: Dataset, transform: Transform | None) -> list[memoryview]:
    """A dataset and a transform as segments; a TypeError names the part that cannot be pickled."""
    try:
        return segments_of((dataset, transform))
    except Exception as error:  # objects may raise anything when they are pickled
        for name, part in (("dataset", dataset), ("transform", transform)):
            if (found := _unpicklable(name, part)) is not None:
                path, what, why = found
                raise TypeError(
                    f"worker processes need a picklable dataset and transform, but {path} is "
                    f"{what}: {why}. Use a function or class of a module instead of a lambda or a "
                    "nested one, open files when they are read, or use worker_kind='thread'"
                ) from error
        raise


def _unpicklable(path: str, value: Any, depth: int = 8) -> tuple[str, str, Exception] | None:
    """The innermost part that cannot be pickled: its path, what it is, and the error."""
    try:
        segments_of(value)
        return None
    except Exception as error:
        parts: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
        elif isinstance(value, list | tuple):
            parts = [(f"{path}[{number}]", part) for number, part in enumerate(value)]
        elif not isinstance(value, type) and hasattr(value, "__dict__"):
            parts = [(f"{path}.{name}", part) for name, part in vars(value).items()]
        for name, part in parts if depth else []:
            if (found := _unpicklable(name, part, depth - 1)) is not None:
                return found
        return path, f"a {type(value).__name__}", error
