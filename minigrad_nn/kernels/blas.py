"""Matrix products by NumPy's BLAS, small ones on one thread.

A BLAS thread that has done its part stays awake for a while, in case there is more.  Between
products stand kernels with threads of their own, and both then share the cores: on two busy cores,
LeNet-5 trained 4 times slower with BLAS on two threads than on one, measured.  A product that takes
less than a few milliseconds therefore runs on one thread; the setting is back when it is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

__all__ = ["SMALL", "matmul", "one_thread"]

SMALL = 2.5e8
"""Operations (a multiplication or an addition each) up to which a product keeps to one thread."""

_lock = threading.Lock()
_inside = 0
_before: list[int] = []


@cache
def _libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS to one thread inside; several Python threads may be inside at once."""
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _before[:] = [library.get_num_threads() for library in _libraries()]
            for library in _libraries():
                library.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for library, count in zip(_libraries(), _before, strict=True):
                    library.set_num_threads(count)


def matmul(a: Any, b: Any, out: Any = None) -> Any:
    """The matrix product over the last two axes, as `numpy.matmul`."""
    if 2.0 * a.size * b.shape[-1] > SMALL:
        return np.matmul(a, b, out)
    with one_thread():
        return np.matmul(a, b, out)
