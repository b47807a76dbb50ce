"""Arrays as compiled kernels want them, results as callers want them, scratch memory by thread."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.noting import empty, writable

from ..epilogue import NOTHING, Epilogue
from ..workspace import Workspace

# What a thread keeps between calls when its caller brings no workspace.
KEPT_BYTES = 64 * 2**20

_local = threading.local()


def plain(array: np.ndarray) -> np.ndarray:
    """The array itself if it is contiguous and aligned, else a copy.

    Numba has a type of its own for read-only arrays, and would compile each kernel again for
    every combination. Kernels never write to what they read, so a read-only array is passed
    under a writable alias instead.
    """
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        return copied(array)
    return writable(array)


def copied(array: np.ndarray) -> np.ndarray:
    """A copy in C order."""
    found = empty(array.shape, array.dtype)
    found[...] = array
    return found


def flat(array: np.ndarray) -> np.ndarray:
    """`plain`, in one dimension: kernels compute positions themselves, for 1 to 3 axes alike."""
    return plain(array).reshape(-1)


@lru_cache(maxsize=1024)
def multiples(count: int, step: int) -> np.ndarray:
    """The first multiples of a number, from 0 on: where rows start."""
    return np.arange(count, dtype=np.int64) * step


class Result:
    """Where a kernel writes its result, and how that reaches `out`.

    `buffer` is `out` itself where that is contiguous and shares no memory with an argument.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, out: Any, *arguments: Any) -> None:
        """A place for a result; `arguments` are the arrays that are read (None is skipped)."""
        self.out = out
        if (
            out is not None
            and out.flags.c_contiguous
            and out.flags.aligned
            and not any(a is not None and np.may_share_memory(out, a) for a in arguments)
        ):
            self.buffer = out
        else:
            self.buffer = empty(shape, dtype)

    def deliver(self) -> np.ndarray:
        """The finished result."""
        if self.out is None:
            return self.buffer
        if self.buffer is not self.out:
            self.out[...] = self.buffer
        return self.out


def scratch(workspace: Workspace | None) -> Workspace:
    """The caller's workspace, or this thread's own; opened for a kernel call."""
    if workspace is None:
        workspace = getattr(_local, "workspace", None)
        if workspace is None:
            workspace = _local.workspace = Workspace(keep=KEPT_BYTES)
    workspace.begin()
    return workspace


def epilogue_arrays(epilogue: Epilogue | None, dtype: Any) -> tuple[Any, Any, bool]:
    """An epilogue as kernels take it: bias, flat residual (both empty for None), whether ReLU."""
    epilogue = epilogue or NOTHING
    none = _nothing[np.dtype(dtype)]
    bias = none if epilogue.bias is None else flat(epilogue.bias)
    residual = none if epilogue.residual is None else flat(epilogue.residual)
    return bias, residual, epilogue.activation == "relu"


_nothing = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
