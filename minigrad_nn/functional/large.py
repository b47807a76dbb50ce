"""Kernels that take the place of the engine's own elementwise operations, for large arrays.

The engine's operations are NumPy's, and their rules are written with each other; that is what is
drawn and studied, and what second derivatives are made of.  On large arrays the same numbers come
from kernels that pass over memory once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.ops import elementwise

from .. import kernels

# Numbers from which a kernel is faster than NumPy's operations.
MANY = 1 << 15


def use_kernels() -> None:
    """Register the kernels with the engine."""
    backend.register_kernel("relu", "cpu", _relu, pull=_pull(kernels.relu_backward))
    backend.register_kernel("tanh", "cpu", pull=_pull(kernels.tanh_backward))
    backend.register_kernel("sigmoid", "cpu", pull=_pull(kernels.sigmoid_backward))


def _relu(x: Any) -> Any:
    if type(x) is np.ndarray and x.size >= MANY and kernels.offers("relu", x):
        return kernels.relu(x)
    return elementwise.relu.forward(x)


def _pull(kernel: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def pull(g: Any, y: Any) -> Any:
        if g.size >= MANY and g.dtype == y.dtype and kernels.offers("relu", g):
            return (kernel(g, y),)
        return None

    return pull
