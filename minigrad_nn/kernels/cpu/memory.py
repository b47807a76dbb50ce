"""A pool of memory for NumPy's arrays: what one result leaves behind, the next one takes.

A fresh result of some megabytes comes from the system page by page, each zeroed when it is first
touched, and goes back when the result dies: a training step pays for the same pages again and
again.  Inside of `reuse_memory()` NumPy allocates by the functions below (its documented hook,
`PyDataMem_SetHandler`).  Memory of arrays that died is kept for the arrays to come, in the heap of
`arena`.

An array's memory returns when NumPy frees it, so it is correct whatever views outlive their owner:
they hold it.  Arrays remember by whom they were allocated, and may be freed anywhere, at any time.
All calls come with Python's global lock held; where there is none, nothing is pooled.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import types
from numba.core.ccallback import CFunc

from minigrad.memory import MemoryStats, register_memory

from . import cache
from .arena import (
    END,
    FIXED,
    HITS,
    IDLE,
    LIMIT,
    LIVE,
    MISSES,
    PEAK,
    START,
    TOP,
    TOUCHED,
    WORDS,
    as_pointer,
    capacity,
    copy,
    empty,
    give,
    take,
)

# Bytes of dead blocks that are kept.
DEFAULT_LIMIT = 1 << 30
# Up to so many bytes the heap's blocks keep their sizes: what the caches of a processor hold.
FIXED_BYTES = 1 << 25
# The range of addresses that is reserved, in multiples of the machine's memory.
RESERVED = 4
# A flag of `mmap` on Linux that Python 3.11 has no name for: nothing is set aside for the range.
MAP_NORESERVE = 0x4000


# --- what NumPy calls ----------------------------------------------------------------------------


def _on_malloc(context, nbytes):
    return take(as_pointer(context), nbytes, context == 0)


def _on_calloc(context, count, nbytes):
    return take(as_pointer(context), count * nbytes, context != 0)


def _on_free(context, block, nbytes):
    if block != 0:
        give(as_pointer(context), block)


def _on_realloc(context, block, nbytes):
    state = as_pointer(context)
    moved = take(state, nbytes, context == 0)
    if block != 0 and moved != 0:
        copy(moved, block, min(capacity(block), nbytes))
        give(state, block)
    return moved


def _on_empty(context):
    empty(as_pointer(context))


def _callback(function: Any, *arguments: Any, result: Any = types.void) -> Any:
    """Machine code that C can call; from the cache on disk where it is there."""
    made: Any = CFunc(function, (arguments, result), {}, {"nogil": True, "error_model": "numpy"})
    home = cache.folder()
    if home is not None:
        made._cache = cache.KernelCache(function, "callback", home)
    made.compile()
    return made


class _Allocator(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")
    ]


class _Handler(ctypes.Structure):
    """NumPy's `PyDataMem_Handler`, version 1 (NumPy 1.22 and later, NEP 49)."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("allocator", _Allocator),
    ]


# The place of `PyDataMem_SetHandler` in the table of NumPy's C interface.
SET_HANDLER = 304


def _reserve() -> mmap.mmap | None:
    """Addresses for the heap, to which the system gives pages as they are touched; None if not.

    Elsewhere than on Linux a range may count as used from the start.
    """
    if sys.platform != "linux":
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    try:
        found = mmap.mmap(-1, RESERVED * memory, flags=flags)
    except (OSError, OverflowError):  # a limit on addresses, or a system that promises no memory
        return None
    with contextlib.suppress(OSError):  # a kernel without huge pages
        found.madvise(mmap.MADV_HUGEPAGE)
    return found


class Pool:
    """The blocks of this process, and NumPy's hook into them.

    It is made once and never goes: arrays may call it as long as there are any.
    """

    def __init__(self) -> None:
        """Compile, or load from the cache, what NumPy calls."""
        word = types.intp
        self.state = np.zeros(WORDS, np.intp)
        self.state[[LIMIT, FIXED]] = DEFAULT_LIMIT, FIXED_BYTES
        self._range = _reserve()
        if self._range is not None:
            start = ctypes.addressof(ctypes.c_char.from_buffer(self._range))
            self.state[[START, TOP, TOUCHED]] = start
            self.state[END] = start + len(self._range)
        self._callbacks = [
            _callback(_on_malloc, word, word, result=word),
            _callback(_on_calloc, word, word, word, result=word),
            _callback(_on_realloc, word, word, word, result=word),
            _callback(_on_free, word, word, word),
            _callback(_on_empty, word),
        ]
        addresses = [made.address for made in self._callbacks]
        self._handler = _Handler(b"minigrad", 1, _Allocator(self.state.ctypes.data, *addresses[:4]))
        self.empty = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(addresses[4])
        api = ctypes.pythonapi
        new, get, hold = api.PyCapsule_New, api.PyCapsule_GetPointer, api.Py_IncRef
        new.restype, get.restype, hold.restype = ctypes.py_object, ctypes.c_void_p, None
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        get.argtypes = [ctypes.py_object, ctypes.c_char_p]
        hold.argtypes = [ctypes.py_object]
        interface = importlib.import_module("numpy._core.multiarray")
        table = get(interface._ARRAY_API, None)
        entry = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[SET_HANDLER]
        self.set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(entry)
        self.capsule = new(ctypes.addressof(self._handler), b"mem_handler", None)
        # Arrays may outlive this module when the interpreter ends.
        hold(self)


_pools: list[Pool] = []


def pool() -> Pool | None:
    """The pool of this process; None where Python has no global lock, which it counts on."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    if not _pools:
        _pools.append(Pool())
    return _pools[0]


class Memory:
    """What `minigrad.memory_stats` and `minigrad.empty_memory` ask of the CPU."""

    @staticmethod
    def stats() -> MemoryStats:
        """Bytes and blocks of the pool; zeros as long as nothing was taken from it."""
        if not _pools:
            return MemoryStats(0, 0, 0, DEFAULT_LIMIT, 0, 0)
        state = _pools[0].state
        return MemoryStats(*(int(state[i]) for i in (LIVE, PEAK, IDLE, LIMIT, HITS, MISSES)))

    @staticmethod
    def release() -> None:
        """Return dead blocks to the system."""
        for found in _pools:
            found.empty(found.state.ctypes.data)

    @classmethod
    def empty(cls) -> None:
        """Return dead blocks to the system, and count the peak from here."""
        cls.release()
        for found in _pools:
            found.state[PEAK] = found.state[LIVE]


register_memory("cpu", Memory)


@contextlib.contextmanager
def reuse_memory(limit: int | None) -> Iterator[None]:
    """See `minigrad_nn.kernels.reuse_memory`."""
    found = pool()
    if found is None:
        yield
        return
    if limit is not None:
        found.state[LIMIT] = limit
        if found.state[IDLE] > limit:
            found.empty(found.state.ctypes.data)
    before = found.set_handler(found.capsule)
    try:
        yield
    finally:
        found.set_handler(before)
