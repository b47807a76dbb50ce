"""Arrays as kernels want them, results as callers want them, scratch memory, epilogues."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..epilogue import NOTHING, Epilogue
from ..workspace import Workspace
from .array import CudaArray
from .card import Card
from .driver import simulated
from .launch import BLOCK, WAVES


def plain(array: CudaArray) -> CudaArray:
    """The array itself if it is contiguous, else a copy."""
    return array if array.flags.c_contiguous else array.copy()


def flat(array: CudaArray) -> CudaArray:
    """`plain`, in one dimension: kernels compute positions themselves, for 1 to 3 axes alike."""
    return plain(array).reshape(-1)


def product(lengths: Any) -> int:
    """How many there are of these sizes."""
    result = 1
    for length in lengths:
        result *= length
    return result


def numbered(kernel: str, **counts: int) -> None:
    """Raise ValueError where there are more of something than 31 bits can number.

    Kernels find their place with integers of 32 bits, which a card divides four times as fast.
    """
    for what, count in counts.items():
        if count >= 2**31:
            raise ValueError(
                f"{kernel}: {count} {what.replace('_', ' ')} are more than a card's kernel numbers "
                f"(2^31 - 1); use a smaller batch"
            )


class Result:
    """Where a kernel writes its result, and how that reaches `out`.

    `buffer` is `out` itself where that is contiguous and shares no memory with an argument.
    """

    def __init__(
        self, like: CudaArray, shape: tuple[int, ...], dtype: Any, out: Any, *arguments: Any
    ) -> None:
        """A place for a result.

        Args:
            like: an array of the card.
            shape: the result's.
            dtype: the result's.
            out: where the caller wants it, or None.
            arguments: the arrays that are read; None is skipped.
        """
        self.out = out
        if (
            out is not None
            and out.flags.c_contiguous
            and not any(a is not None and _owner(a) is _owner(out) for a in arguments)
        ):
            self.buffer = out
        else:
            self.buffer = like.empty(shape, dtype)

    def deliver(self) -> CudaArray:
        """The finished result."""
        if self.out is None:
            return self.buffer
        if self.buffer is not self.out:
            self.out[...] = self.buffer
        return self.out


def _owner(array: CudaArray) -> CudaArray:
    return array if array.base is None else array.base


def forwards(array: CudaArray) -> CudaArray:
    """The array itself if no axis runs backwards through memory, else a copy."""
    return array.copy() if any(stride < 0 for stride in array.strides) else array


def window(array: CudaArray) -> CudaArray:
    """The memory from an array's first element to its last, in one dimension.

    The element at `(i, j)` of the array is at `i · strides[0] + j · strides[1]` of the window, if
    no axis runs backwards.
    """
    ghost = array._ghost
    last = sum((n - 1) * s for n, s in zip(ghost.shape, ghost.strides, strict=True))
    span = last // ghost.itemsize + 1 if ghost.size else 0
    return array._like(np.lib.stride_tricks.as_strided(ghost, (span,), (ghost.itemsize,)))


def sheet(card: Card, planes: int, length: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block for a loop over planes (`y`) and the numbers of each (`x`), both with a step.

    A block is as wide as a short plane needs, and takes several of them: no thread has to divide to
    know its plane.
    """
    if simulated():
        return (1, 2), (2, 2)
    wide = 1
    while wide < min(length, BLOCK):
        wide *= 2
    high = BLOCK // wide
    limits = card.driver.limits
    most = WAVES * limits.processors * max(1, limits.processor_threads // BLOCK)
    beside = max(1, min(-(-length // wide), most))
    down = max(1, min(-(-planes // high), -(-most // beside), 65535))
    return (beside, down), (wide, high)


class Scratch:
    """Scratch memory for one kernel call: the caller's workspace, or the card's allocator.

    The allocator keeps what it gave out once, so a repeated call asks the card for nothing.  A
    workspace of the host's memory, which callers have who do not ask where they compute, is none.
    """

    def __init__(self, workspace: Workspace | None, like: CudaArray) -> None:
        """Open a kernel call on the card of `like`."""
        self._workspace = workspace
        self._kind = type(like)
        if workspace is not None:
            workspace.begin()

    def take(self, shape: tuple[int, ...], dtype: Any) -> CudaArray:
        """An array that holds whatever was there."""
        if self._workspace is not None:
            found = self._workspace.take(shape, dtype)
            if isinstance(found, self._kind):
                return found
            self._workspace = None
        return self._kind.empty(shape, dtype)


@lru_cache(maxsize=64)
def nothing(kind: type[CudaArray], dtype: Any) -> CudaArray:
    """An array without elements, which stands for one that was not given."""
    return kind.empty(0, dtype)


def given(array: CudaArray | None, like: CudaArray) -> CudaArray:
    """`flat`, or an array without elements for None."""
    return nothing(type(like), like.dtype) if array is None else flat(array)


def epilogue_arrays(epilogue: Epilogue | None, like: CudaArray) -> tuple[Any, Any, int]:
    """An epilogue as kernels take it: flat bias and residual, and 1 for ReLU."""
    epilogue = epilogue or NOTHING
    return (
        given(epilogue.bias, like),
        given(epilogue.residual, like),
        int(epilogue.activation == "relu"),
    )


def parts(epilogue: Epilogue | None) -> tuple[Any, Any]:
    """The arrays that an epilogue reads."""
    return (None, None) if epilogue is None else (epilogue.bias, epilogue.residual)


_tables: dict[tuple[Any, ...], CudaArray] = {}


def on_card(like: CudaArray, key: tuple[Any, ...], table: Any) -> CudaArray:
    """A table in the card's memory, copied there once.

    Args:
        like: an array of the card.
        key: what the table depends on.
        table: gives it, as a NumPy array.
    """
    found = _tables.get((type(like), *key))
    if found is None:
        if len(_tables) >= TABLES_KEPT:
            del _tables[next(iter(_tables))]
        found = type(like).from_numpy(np.ascontiguousarray(table()).reshape(-1))
        _tables[(type(like), *key)] = found
    return found


TABLES_KEPT = 4096
