"""A pool of memory for NumPy's arrays: what one result leaves behind, the next one takes.

A fresh result of some megabytes comes from the system page by page, each zeroed when it is first
touched, and goes back when the result dies: a training step pays for the same pages again and
again.  Inside of `reuse_memory()` NumPy allocates by the functions below (its documented hook,
`PyDataMem_SetHandler`).  Blocks that die are kept, by size, for the next array that fits.

An array's memory returns when NumPy frees it, so it is correct whatever views outlive their owner:
they hold it.  Arrays remember by whom they were allocated, and may be freed anywhere, at any time.
All calls come with Python's global lock held; where there is none, nothing is pooled.

A block is `... | address of malloc | capacity | numbers ...`, the numbers at a multiple of 64
bytes, so that vectors lie in one cache line each.  A dead block's first word is the next dead
block of its size.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import carray, types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from minigrad.memory import MemoryStats, register_memory

from . import cache
from .compile import helper

# Blocks of fewer bytes are left to malloc, which is good at them.
SMALL = 1 << 15
ALIGNMENT = 64
HEADER = 16
# The state is an array of words: first these, then the first dead block of each size.
LIMIT, IDLE, LIVE, PEAK, HITS, MISSES, BINS = range(7)
# Eight sizes from a power of two to the next, so at most an eighth of a block is wasted.
STEPS = 16
SIZES = 60 * STEPS
# A block serves requests down to so many sizes below its own.
NEAR = 2
# Bytes of dead blocks that are kept.
DEFAULT_LIMIT = 1 << 30

# From so many bytes on the system is asked for huge pages, as NumPy asks.
HUGE = 1 << 22
PAGE, MADV_HUGEPAGE = 4096, 14

# As functions of kernels these cast.
_unsigned: Any = types.uintp
_int: Any = types.int32

_malloc: Any = types.ExternalFunction("malloc", types.intp(types.uintp))
_calloc: Any = types.ExternalFunction("calloc", types.intp(types.uintp, types.uintp))
_free = types.ExternalFunction("free", types.void(types.intp))
_untyped: Any = intrinsic


@_untyped
def _as_pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to words."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.intp)(address), codegen


@helper
def _word(address):
    """The word at an address, as an array of one."""
    return carray(_as_pointer(address), 1)


@helper
def _size(nbytes):
    """The number of the smallest block size that has room."""
    power = 0
    while nbytes > STEPS << power:
        power += 1
    return power * STEPS + ((nbytes - 1) >> power)


@helper
def _capacity(size):
    """Bytes in a block of this size."""
    return (size % STEPS + 1) << (size // STEPS)


if sys.platform == "linux":
    _madvise = types.ExternalFunction("madvise", types.int32(types.intp, types.uintp, types.int32))

    @helper
    def _advise(address, nbytes):
        if nbytes >= HUGE:
            start = (address + PAGE - 1) & ~(PAGE - 1)
            _madvise(start, _unsigned(nbytes - (start - address)), _int(MADV_HUGEPAGE))

else:

    @helper
    def _advise(address, nbytes):
        pass


@helper
def _fresh(capacity, zeroed):
    """A new block of the system's memory, or 0 where that is at its end."""
    room = _unsigned(capacity + ALIGNMENT + HEADER)
    origin = _calloc(_unsigned(1), room) if zeroed else _malloc(room)
    if origin == 0:
        return origin
    block = (origin + HEADER + ALIGNMENT - 1) & ~(ALIGNMENT - 1)
    _advise(block, capacity)
    _word(block - 16)[0] = origin
    _word(block - 8)[0] = capacity
    return block


@helper
def _clear(block, nbytes):
    words = carray(_as_pointer(block), (nbytes + 7) // 8)
    words[:] = 0


@helper
def _take(state, nbytes, zeroed):
    """The address of a block, or 0 where memory is at its end."""
    nbytes = (nbytes + 7) & ~7
    if nbytes < SMALL:
        return _fresh(nbytes, zeroed)
    size = _size(nbytes)
    block = 0
    for near in range(size, size + NEAR + 1):
        if state[BINS + near] != 0:
            block = state[BINS + near]
            state[BINS + near] = _word(block)[0]
            state[IDLE] -= _word(block - 8)[0]
            state[HITS] += 1
            if zeroed:
                _clear(block, nbytes)
            break
    if block == 0:
        block = _fresh(_capacity(size), zeroed)
        if block == 0:
            return block
        state[MISSES] += 1
    state[LIVE] += _word(block - 8)[0]
    state[PEAK] = max(state[PEAK], state[LIVE])
    return block


@helper
def _give(state, block):
    """Keep a block for the next who wants its size, or return it to the system."""
    capacity = _word(block - 8)[0]
    if capacity < SMALL:
        _free(_word(block - 16)[0])
        return
    state[LIVE] -= capacity
    if state[IDLE] + capacity > state[LIMIT]:
        _free(_word(block - 16)[0])
        return
    size = _size(capacity)
    _word(block)[0] = state[BINS + size]
    state[BINS + size] = block
    state[IDLE] += capacity


@helper
def _empty(state):
    """Return every dead block to the system."""
    for size in range(SIZES):
        block = state[BINS + size]
        while block != 0:
            after = _word(block)[0]
            _free(_word(block - 16)[0])
            block = after
        state[BINS + size] = 0
    state[IDLE] = 0


# --- what NumPy calls ----------------------------------------------------------------------------


def _on_malloc(context, nbytes):
    return _take(carray(_as_pointer(context), BINS + SIZES), nbytes, False)


def _on_calloc(context, count, nbytes):
    return _take(carray(_as_pointer(context), BINS + SIZES), count * nbytes, True)


def _on_free(context, block, nbytes):
    if block != 0:
        _give(carray(_as_pointer(context), BINS + SIZES), block)


def _on_realloc(context, block, nbytes):
    state = carray(_as_pointer(context), BINS + SIZES)
    moved = _take(state, nbytes, False)
    if block != 0 and moved != 0:
        kept = min(_word(block - 8)[0], nbytes)
        words = (kept + 7) // 8
        carray(_as_pointer(moved), words)[:] = carray(_as_pointer(block), words)
        _give(state, block)
    return moved


def _on_empty(context):
    _empty(carray(_as_pointer(context), BINS + SIZES))


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


class Pool:
    """The blocks of this process, and NumPy's hook into them.

    It is made once and never goes: arrays may call it as long as there are any.
    """

    def __init__(self) -> None:
        """Compile, or load from the cache, what NumPy calls."""
        word = types.intp
        self.state = np.zeros(BINS + SIZES, np.intp)
        self.state[LIMIT] = DEFAULT_LIMIT
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
    def empty() -> None:
        """Return dead blocks to the system, and count the peak from here."""
        for found in _pools:
            found.empty(found.state.ctypes.data)
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
