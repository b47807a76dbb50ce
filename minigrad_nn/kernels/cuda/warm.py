"""Compiling a card's kernels ahead, so that the first training step does not wait for them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import Warmed
from . import _HOME, precision
from .card import card
from .driver import simulated
from .launch import Kernel

__all__ = ["warmup"]


def warmup(
    kernels: Iterable[str] | None = None,
    dtypes: Iterable[Any] = ("float32",),
    progress: Callable[[Warmed], None] | None = None,
) -> list[Warmed]:
    """Compile, for the card in use, the commonest forms of these kernels.

    A kernel that is wanted in another form is compiled when it is first called.  The simulator
    compiles nothing.

    Raises:
        ValueError: a name is not that of a kernel.
    """
    names = sorted(set(_HOME) - {"warmup"}) if kernels is None else list(kernels)
    for name in names:
        if name not in _HOME:
            raise ValueError(f"no kernel {name!r}; there are {', '.join(sorted(_HOME))}")
    wanted = {np.dtype(dtype).name for dtype in dtypes}
    found: list[Warmed] = []
    done: set[str] = set()
    for place, name in enumerate(names, 1):
        start = time.perf_counter()
        if _HOME[name] not in done:
            done.add(_HOME[name])
            module = importlib.import_module(f"{__package__}.{_HOME[name]}")
            for kernel in _examples(module, wanted):
                _compile(kernel, wanted)
        seconds = time.perf_counter() - start
        found.append(Warmed(name, ", ".join(sorted(wanted)), place, len(names), seconds))
        if progress is not None:
            progress(found[-1])
    return found


def _examples(module: Any, wanted: set[str]) -> list[Kernel]:
    """The kernels of a module that are likely to be called, those of tensor cores where wanted."""
    found = module.examples(wanted != {"float32"}) if hasattr(module, "examples") else []
    to = precision.on(card().driver.limits.capability)
    if to != "float32" and "float32" in wanted and hasattr(module, "tensor_examples"):
        found = [*found, *module.tensor_examples(to)]
    return found


def _compile(kernel: Kernel, wanted: set[str]) -> None:
    for signature in kernel.signatures:
        if not simulated() and any(name in signature for name in wanted):
            with card().driver:
                kernel.dispatcher.compile(signature)
