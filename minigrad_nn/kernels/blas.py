"""Matrix products: small ones by NumPy's BLAS on one thread, large ones by the CPU's own kernel.

A BLAS thread that has done its part stays awake for a while, in case there is more.  Between
products stand kernels with threads of their own, and both then share the cores: on two busy cores,
LeNet-5 trained 4 times slower with BLAS on two threads than on one, measured.  Its bits may depend
on how many threads it has, too.  So BLAS has one, and what takes it long is the kernel's, whose
threads are those of all other kernels; the setting is back when the product is done.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from typing import Any

import numpy as np

from minigrad.noting import books, current, empty, noted

from . import product as products
from .workspace import Workspace

__all__ = ["SMALL", "matmul", "one_thread"]

TINY = 5e5
"""Operations (multiplications and additions) for which BLAS wakes no second thread anyway."""
SMALL = 1.4e7
"""Operations up to which a product is one thread's.

The kernel's two threads gain from half of it on, up to 40 µs; but it takes 2.5 s to compile, and
LeNet-5 needs it for nothing larger.
"""
OWN = (np.dtype(np.float32), np.dtype(np.float64))
"""What the kernel multiplies."""

# What a thread keeps between products.
KEPT_BYTES = 64 * 2**20

_local = threading.local()
_lock = threading.Lock()
_inside = 0
_before: list[int] = []


@cache
def _libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


class one_thread:
    """Hold BLAS to one thread inside; several Python threads may be inside at once."""

    def __enter__(self) -> None:
        global _inside
        with _lock:
            _inside += 1
            if _inside == 1:
                _before[:] = [library.get_num_threads() for library in _libraries()]
                for library in _libraries():
                    library.set_num_threads(1)

    def __exit__(self, *failure: object) -> None:
        global _inside
        with _lock:
            _inside -= 1
            if _inside == 0:
                for library, count in zip(_libraries(), _before, strict=True):
                    library.set_num_threads(count)


def _own_workspace() -> Workspace:
    """Scratch memory for products alone: who multiplies may be a kernel in the midst of its own."""
    found = getattr(_local, "workspace", None)
    if found is None:
        found = _local.workspace = Workspace(keep=KEPT_BYTES)
    return found


def matmul(a: Any, b: Any, out: Any = None) -> Any:
    """The matrix product over the last two axes, as `numpy.matmul`."""
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous and out is None:
        # One large product rather than many small ones.
        flat = matmul(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b)
        return flat.reshape(*a.shape[:-1], b.shape[1])
    operations = 2.0 * a.size * b.shape[-1]
    if operations <= TINY or not isinstance(a, np.ndarray):
        return np.matmul(a, b, out)
    if operations > SMALL and a.ndim == b.ndim == 2 and a.dtype == b.dtype in OWN:
        return products.matmul(a, b, out=out, workspace=_own_workspace())
    if books and current() is not None:
        if out is None:
            rows = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            out = empty((*rows, a.shape[-2], b.shape[-1]), np.result_type(a, b))
        _multiply(a, b, out)
        return out
    with one_thread():
        return np.matmul(a, b, out)


@noted
def _multiply(a: Any, b: Any, out: Any) -> None:
    with one_thread():
        np.matmul(a, b, out)
