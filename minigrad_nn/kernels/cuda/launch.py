"""How a kernel is written, compiled and started: `@kernel` for entry points, `@helper` for others.

An entry point is compiled for the types of its first call.  It takes `CudaArray`s and numbers, and
is started on the card, and on the stream, of its arrays::

    @kernel("void(float32[::1], float32[::1], int64)")
    def double(x, y, n):
        for i in range(cuda.grid(1), n, cuda.gridsize(1)):
            y[i] = numpy.float32(2) * x[i]

    double(*line(card, n), x, y, n)

The signatures are those that a card is to compile: tests compile each of them for every supported
generation of cards, without a card, and hold its registers and its shared memory to a budget.
Numba's simulator runs the same functions; there each thread costs a tenth of a millisecond, so a
launch has few of them (`line`).
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from .array import CudaArray
from .card import Card
from .driver import numba_cuda, simulated

__all__ = ["Kernel", "helper", "inlined", "kernel", "known", "launching", "line"]

known: list[Kernel] = []
"""Every entry point of the package, as far as its files are imported."""

launching = threading.RLock()
"""Held while a kernel is launched: Numba's simulator knows one launch at a time."""

_WARNS = "CUDA_LOW_OCCUPANCY_WARNINGS"

BLOCK = 256
"""Threads of a block where a kernel does not mind."""
WAVES = 8
"""Blocks for each place on the card that a block can take; more work is done in a loop."""


class _Quiet:
    """A function that gives no floating-point warnings, as a card gives none."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        # The simulator puts its own `cuda` there while a kernel runs.
        self.__globals__ = getattr(function, "__globals__", {})

    def __call__(self, *arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return self._function(*arguments)


class Kernel:
    """An entry point: called as `kernel(grid, block, *arguments)`.

    Attributes:
        signatures: what it is compiled for, as Numba writes types.
        options: what `numba.cuda.jit` is told beside the defaults.
    """

    def __init__(
        self, py_func: Callable[..., Any], signatures: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        """Nothing is compiled before the first call."""
        functools.update_wrapper(self, py_func)
        self.py_func = py_func
        self.signatures = signatures
        self.options = options
        self._dispatcher: Any = None
        known.append(self)

    @property
    def name(self) -> str:
        """Its module and its own name: "elementwise.add"."""
        return f"{self.py_func.__module__.split('.')[-1]}.{self.py_func.__name__}"

    @property
    def dispatcher(self) -> Any:
        """Numba's own object for it."""
        if self._dispatcher is None:
            cuda = numba_cuda()
            if simulated():
                self._dispatcher = cuda.jit(self.py_func)
                self._dispatcher.fn = _Quiet(self.py_func)
            else:
                self._dispatcher = cuda.jit(**self.options)(self.py_func)
        return self._dispatcher

    def __call__(
        self, grid: Any, block: Any, *arguments: Any, shared: int = 0, card: Card | None = None
    ) -> None:
        """Start it on the card of its arrays; this does not wait for the result.

        Args:
            grid: how many blocks: an integer, or two or three of them.
            block: how many threads in each block, likewise.
            arguments: what the kernel takes; `CudaArray`s as they are.
            shared: bytes of dynamic shared memory.
            card: where to start it, where all arrays are given as Numba's.

        Raises:
            TypeError: an array in the host's memory, which Numba would copy there and back.
        """
        passed = []
        for argument in arguments:
            if isinstance(argument, CudaArray):
                card = argument.card
                argument = argument.device_array
            elif isinstance(argument, np.ndarray):
                raise TypeError(f"{self.name}: a NumPy array of shape {argument.shape} on a card")
            passed.append(argument)
        if card is None:
            raise TypeError(f"{self.name}: a kernel needs an array, to know its card")
        stream, watch = card.stream, card.watch
        if watch is not None:
            watch.launched(arguments)
        with launching, card.driver:
            card.driver.submit(lambda: self.configured(grid, block, stream, shared)(*passed))

    def configured(self, grid: Any, block: Any, stream: Any, shared: int) -> Any:
        """Numba's launch of this size.

        Numba would warn of every launch that does not fill a card, as a small array does not.
        """
        dispatcher = self.dispatcher
        config = getattr(sys.modules[type(dispatcher).__module__], "config", None)
        warns = getattr(config, _WARNS, 0)
        if not warns:
            return dispatcher[grid, block, stream, shared]
        setattr(config, _WARNS, 0)
        try:
            return dispatcher[grid, block, stream, shared]
        finally:
            setattr(config, _WARNS, warns)


def kernel(*signatures: str, **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make an entry point.

    Args:
        signatures: the types that it is compiled for, such as "void(float32[::1], int64)".
        options: more for `numba.cuda.jit`, such as `max_registers`; the simulator has none.
    """
    return lambda py_func: Kernel(py_func, signatures, options)


def helper(py_func: Callable[..., Any]) -> Any:
    """A function that kernels call; it becomes part of their code."""
    if simulated():
        return _Quiet(py_func)
    return numba_cuda().jit(device=True)(py_func)


def inlined(function: Any, names: dict[str, Any] | None = None) -> Any:
    """A helper that becomes part of a kernel before it is compiled.

    The simulator puts its `cuda` among the names of the kernel's module while the kernel runs: a
    helper of another module that uses it is given those names.
    """
    if simulated():
        return function if names is None else types.FunctionType(function.__code__, names)
    return numba_cuda().jit(device=True, inline="always")(function)


def line(card: Card, count: int, block: int = BLOCK) -> tuple[int, int]:
    """Grid and block for a loop over `count` elements with a step of `gridsize(1)`.

    Enough blocks to fill the card some times over, and no more than there are elements.
    """
    limits = card.driver.limits
    block = min(block, limits.block_threads)
    if simulated():
        return 2, 2  # two blocks and two threads, so that both are seen to be counted
    places = limits.processors * max(1, limits.processor_threads // block)
    return max(1, min(-(-count // block), WAVES * places)), block
