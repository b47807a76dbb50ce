"""Kernels that take the place of the engine's own elementwise operations, for large arrays.

The engine's operations are NumPy's, and their rules are written with each other; that is what is
drawn and studied, and what second derivatives are made of.  On large arrays the same numbers come
from kernels that pass over memory once, on all cores; those of tanh and sigmoid may differ in the
last two bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op
from minigrad.ops import elementwise

from .. import kernels

# Numbers from which a kernel is faster than NumPy's operations.
MANY = 1 << 15


def use_kernels() -> None:
    """Register the kernels with the engine."""
    for op, kernel, backward in (
        (elementwise.relu, kernels.relu, kernels.relu_backward),
        (elementwise.tanh, kernels.tanh, kernels.tanh_backward),
        (elementwise.sigmoid, kernels.sigmoid, kernels.sigmoid_backward),
    ):
        backend.register_kernel(op.name, "cpu", _forward(op, kernel), pull=_pull(backward))


def _forward(op: Op, kernel: Callable[[Any], Any]) -> Callable[[Any], Any]:
    plain = op.forward

    def forward(x: Any) -> Any:
        if isinstance(x, np.ndarray) and x.size >= MANY and kernels.offers("relu", x):
            return kernel(x)
        return plain(x)

    return forward


def _pull(kernel: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def pull(g: Any, y: Any) -> Any:
        if g.size >= MANY and g.dtype == y.dtype and kernels.offers("relu", g):
            return (kernel(g, y),)
        return None

    return pull
