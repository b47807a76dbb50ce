"""Kernels for CUDA cards, compiled by Numba when they are first called.

Read in this order: `driver` (what is asked of CUDA), `allocator` (memory, kept), `array`
(`CudaArray`, whose views NumPy computes), `card` (cards by number, and how they become known to the
engine), `launch` (how a kernel is written, compiled and started).

Importing this package loads no compiler: Numba is imported with the first card that is opened.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
"""Element types that kernels compute with."""

# Where each kernel of `minigrad_nn.kernels` stands; imported when it is first called.
_HOME: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    """Import a kernel when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def open_device(number: int) -> None:
    """Make the card of this number known to the engine as "cuda:0", "cuda:1", ...

    Raises:
        RuntimeError: no card can be used here; the message says why.
        ValueError: there are not as many cards.
    """
    from .card import card

    card(number)
