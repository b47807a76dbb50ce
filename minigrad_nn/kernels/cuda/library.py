"""Matrix products by cuBLAS, through CuPy, where that is asked for: the yardstick of our own.

`MINIGRAD_CUBLAS=1`, or `use_cublas(True)`; it needs the extra `cublas`.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from .array import CudaArray

__all__ = ["multiply_into", "use_cublas", "wanted"]

_asked = {"for": os.environ.get("MINIGRAD_CUBLAS", "0") not in ("", "0")}


def use_cublas(yes: bool) -> None:
    """Whether cuBLAS multiplies matrices; off unless MINIGRAD_CUBLAS=1 is set.

    Raises:
        ImportError: CuPy is not installed; the message says how to have it.
    """
    if yes:
        _cupy()
    _asked["for"] = bool(yes)


def wanted() -> bool:
    """Whether cuBLAS was asked for."""
    return _asked["for"]


@cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            f"cuBLAS is reached through CuPy ({error}); install it with: "
            "pip install 'minigrad[cublas]'"
        ) from error
    return cupy


class _Memory:
    """An array as CuPy takes it, without a wait: both work on one stream."""

    def __init__(self, array: CudaArray) -> None:
        self.__cuda_array_interface__ = {
            "version": 2,
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array._block.address + array.offset, False),
            "strides": array.strides,
        }
        self.owner = array  # keeps the memory


def multiply_into(c: CudaArray, a: CudaArray, b: CudaArray) -> None:
    """`c = a · b` over the last two axes, on the stream of the card."""
    # CuPy's own memory may be somebody else's when a graph is launched again.
    c.card.leaving("is computed by another library")
    cupy = _cupy()
    with cupy.cuda.Device(c.card.index), cupy.cuda.ExternalStream(int(c.card.stream)):
        there = [cupy.asarray(_Memory(array)) for array in (a, b, c)]
        cupy.matmul(there[0], there[1], out=there[2])
