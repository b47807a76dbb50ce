"""How a kernel is compiled, cached and called: `@kernel` for entry points, `@helper` for the rest.

Entry points are compiled for the types of their first call, in parallel. They never use
`fastmath=True`, which would make `isnan` false; division follows NumPy instead of raising.

Two Python threads must not be inside parallel code at once: Numba's `workqueue` layer aborts the
process. So calls take a lock. A forked child must not use the threads of its parent: GNU OpenMP
ends the process. So a child runs serial twins, which give the same bits, because parallel kernels
divide their work in ways that do not depend on the number of threads.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numba

from minigrad.noting import books, current, settings
from minigrad.threads import register_threads

from . import cache, placement

OPTIONS: dict[str, Any] = dict(nogil=True, error_model="numpy", boundscheck=None)
# Sums may be reassociated into vector lanes. The flags keep NaN and infinity as they are, and the
# order is fixed when the kernel is compiled, so results stay the same from run to run.
REASSOCIATE = {"reassoc", "contract", "nsz"}

# How threads of GNU OpenMP wait: half a millisecond awake, so that one kernel after another finds
# them there, then asleep.
WAIT = {"GOMP_SPINCOUNT": "30000", "OMP_WAIT_POLICY": "passive"}


def _choose_threads() -> None:
    """Ask Numba for OpenMP's threads where they are, else for those of `workqueue`.

    `workqueue` wakes all of its threads for a kernel while the caller sleeps; on Linux they may all
    wake on the caller's core and share it for some milliseconds (measured: a kernel of 2 ms gains
    nothing from a second core).  OpenMP's caller works itself, and its helpers stay on their cores.
    But between kernels they spin for long, and take the cores from whatever else computes: on two
    busy cores that made training 10 times slower.  So GNU OpenMP, which reads its settings when it
    is loaded, is loaded here with half a millisecond of spinning. `placement` keeps helpers off
    their caller's core, where spinning would keep each other waiting.
    """
    if "NUMBA_THREADING_LAYER" in os.environ:
        return
    ours = WAIT.keys() if os.environ.keys().isdisjoint(WAIT) else ()
    os.environ.update({name: WAIT[name] for name in ours})
    try:
        importlib.import_module("numba.np.ufunc.omppool")
        layer = "omp"
    except ImportError:  # it stands on a library that not every system has
        layer = "workqueue"
    finally:
        for name in ours:
            del os.environ[name]
    numba.config.THREADING_LAYER = layer  # type: ignore[attr-defined]  # set at run time


_choose_threads()

_state: dict[str, Any] = {"lock": threading.RLock(), "forked": False, "threads": None}


def _set_threads(number: int) -> None:
    config: Any = numba.config  # its settings are made at run time
    _state["threads"] = min(number, config.NUMBA_NUM_THREADS)


register_threads(_set_threads)


def _after_fork() -> None:
    _state.update(lock=threading.RLock(), forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Every entry point of the package.
known: list[Kernel] = []


class Kernel:
    """A compiled entry point: called like a function, with arrays and integers."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        """Nothing is compiled before the first call."""
        self.__doc__ = py_func.__doc__
        self.__name__ = py_func.__name__
        self.py_func = py_func
        self._variants: dict[bool, Any] = {}
        known.append(self)

    def variant(self, parallel: bool) -> Any:
        """Numba's dispatcher for the parallel kernel or its serial twin."""
        found = self._variants.get(parallel)
        if found is None:
            found = numba.njit(parallel=parallel, **OPTIONS)(self.py_func)
            home = cache.folder()
            if home is not None:
                found._cache = cache.KernelCache(
                    self.py_func, "parallel" if parallel else "serial", home
                )
            self._variants[parallel] = found
        return found

    def __call__(self, *arguments: Any) -> Any:
        """Run it; only one thread at a time is inside."""
        if books:
            book = current()
            if book is not None:
                book.done(self, arguments, exact=False)
                return None
        with _state["lock"]:
            if _state["forked"]:
                return self.variant(parallel=False)(*arguments)
            number = _state["threads"]
            # Numba keeps a number for each Python thread.
            if number is not None and number != numba.get_num_threads():
                numba.set_num_threads(number)
            return placement.call(self.variant(parallel=True), arguments)


def kernel(py_func: Callable[..., Any]) -> Kernel:
    """Make an entry point of a function that Numba can compile."""
    return Kernel(py_func)


def helper(py_func: Callable[..., Any]) -> Any:
    """A function that kernels call; it becomes part of the code of each of them."""
    return numba.njit(**OPTIONS)(py_func)


def inlined_helper(py_func: Callable[..., Any]) -> Any:
    """A helper that is written out wherever it is called, since it is called for each plane."""
    return numba.njit(forceinline=True, **OPTIONS)(py_func)


def summing_helper(py_func: Callable[..., Any]) -> Any:
    """A helper whose own sums may be reassociated into vector lanes."""
    return numba.njit(fastmath=REASSOCIATE, **OPTIONS)(py_func)


def threads() -> int:
    """How many threads a parallel kernel uses now."""
    if _state["forked"]:
        return 1
    return int(_state["threads"] or numba.get_num_threads())


settings.append(threads)
