"""Ops of the engine and of `minigrad_nn.functional` that a card computes in a way of its own.

Most ops run on a card as they are written, by NumPy's functions (see `protocol`).  These are the
others: compositions that are one pass over memory here, and those whose NumPy is all the CPU's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend

from . import elementwise, index
from .array import CudaArray
from .scalars import Factory, math

__all__ = ["register_ops"]


def _sigmoid(T: Any) -> Callable[[Any], Any]:
    one, nought = T(1), T(0)

    def function(x: Any) -> Any:
        small = math.exp(-math.fabs(x))
        return (one if x >= nought else small) / (one + small)

    return function


def _relu(T: Any) -> Callable[[Any], Any]:
    nought = T(0)
    return lambda x: x if x > nought or x != x else nought


ONE_PASS: dict[str, tuple[Factory, Callable[[np.dtype], np.dtype]]] = {
    "relu": (_relu, lambda kind: np.result_type(kind, 0)),
    "sigmoid": (_sigmoid, lambda kind: np.exp.resolve_dtypes((kind, None))[1]),
}
"""Functions of one element by the name of their op, and the dtype of what they give."""


def _in_one_pass(name: str) -> Callable[[CudaArray], CudaArray]:
    factory, result = ONE_PASS[name]

    def compute(x: CudaArray) -> CudaArray:
        kind = result(x.dtype)
        return elementwise.run(factory, name, x.empty(x.shape, kind), [x], [kind])

    return compute


def _add_rows(h: CudaArray, numbers: CudaArray, *, rows: int) -> CudaArray:
    width = h.shape[-1]
    table = elementwise.assign(h.empty((rows, width), h.dtype), 0)
    index.add_at(table, numbers.reshape(-1), h.reshape(-1, width))
    return table


def _shut(T: Any) -> Callable[..., Any]:
    nought = T(0)
    return lambda g, x: nought if g == nought and not x - x == nought else x


def _shutting(g: CudaArray, x: CudaArray) -> CudaArray:
    kind = x.dtype
    return elementwise.run(_shut, "shut", x.empty(x.shape, kind), [g, x], [kind, kind])


def register_ops(device_name: str) -> None:
    """Make the engine use these kernels on a card."""
    backend.register_kernel("shut", device_name, _shutting)
    for name in ONE_PASS:
        backend.register_kernel(name, device_name, _in_one_pass(name))
    backend.register_kernel("add_rows", device_name, _add_rows)
