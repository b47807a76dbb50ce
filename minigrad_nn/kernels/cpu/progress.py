"""Telling who waits that kernels are being compiled, and which one.

Compiling happens once for each machine and takes seconds, in which nothing else is seen.  A line on
standard error says so where somebody may read it: on a terminal, or wherever `MINIGRAD_PROGRESS` is
1; 0 switches it off.  The first second passes in silence.
"""

from __future__ import annotations

import os
import sys
import time

QUIET_SECONDS = 1.0

_spent = 0.0
_began: float | None = None


def _wanted() -> bool:
    asked = os.environ.get("MINIGRAD_PROGRESS")
    if asked is not None:
        return asked not in ("", "0")
    return sys.stderr is not None and sys.stderr.isatty()


def begins(name: str) -> None:
    """A kernel of this name is about to be compiled."""
    global _began
    _began = time.perf_counter()
    if _spent < QUIET_SECONDS or not _wanted():
        return
    text = f"compiling kernels, once for this machine: {name} ({_spent:.0f} s so far)"
    if sys.stderr.isatty():
        # One line, which the next kernel writes over and the end clears.
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def ends() -> None:
    """It is compiled."""
    global _began, _spent
    if _began is None:
        return
    told = _spent >= QUIET_SECONDS
    _spent += time.perf_counter() - _began
    _began = None
    if told and _wanted() and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
