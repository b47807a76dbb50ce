"""Keeping the threads that help with a kernel off the core of the thread that asked for it.

A helper that sleeps between kernels is woken by its caller, and Linux may put it on the caller's
own core, for milliseconds at a time: in a virtual machine, whose idle cores look as if they were
busy, that is the usual place.  Two threads on one core take longer than one alone (measured: 3 ms
instead of 1.3 for a product that one thread does in 2.6, and ResNet-18 trained 1.25 times slower).
So helpers may run on every core but the one where their caller is; where the caller moves, they are
told.  The caller itself is free.

Only Linux needs this, and only there it can be done.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any


def _core() -> Callable[[], int] | None:
    """The C library's function that tells the core of this thread, if there is one."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        found = ctypes.PyDLL(None).sched_getcpu
    except (OSError, AttributeError):
        return None
    return found


core = _core()


class _Team(threading.local):
    """The helpers of one calling thread, and the core that they keep off."""

    helpers: tuple[int, ...] | None = None
    away = -1


_team = _Team()


def _tasks() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}


def forget() -> None:
    """Look for helpers anew: there may be more of them, or others."""
    _team.helpers = None


def call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Run a parallel kernel, with this thread's helpers on other cores."""
    if core is None:
        return function(*arguments)
    if _team.helpers is None:
        before = _tasks()
        result = function(*arguments)
        # The first kernel starts them, and they stay.
        _team.helpers = tuple(_tasks() - before)
        _team.away = -1
        return result
    here = core()
    if here != _team.away:
        _team.away = here
        _move(here)
    return function(*arguments)


def _move(here: int) -> None:
    rest = os.sched_getaffinity(0) - {here}
    for helper in _team.helpers or ():
        try:
            if rest:
                os.sched_setaffinity(helper, rest)
        except OSError:  # it has ended, or this may not be changed: no harm is done
            _team.helpers = ()
