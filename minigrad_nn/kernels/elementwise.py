"""What the elementwise kernels mean: activations and their gradients, in one pass over memory."""

from __future__ import annotations

from typing import Any

from . import checks
from .registry import find

__all__ = ["relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward"]

# An array of any registered device.
Array = Any


def relu(x: Array, *, out: Array | None = None) -> Array:
    """`max(x, 0)`; NaN stays NaN, and −0.0 becomes 0.0.

    Args:
        x: of any shape.
        out: of the same shape.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _forward("relu", x, out)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """The hyperbolic tangent, to within 4 units in the last place; NaN stays NaN.

    Args:
        x: of any shape.
        out: of the same shape.

    >>> import numpy as np
    >>> tanh(np.array([0.0, 100.0]))
    array([0., 1.])
    """
    return _forward("tanh", x, out)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """`1 / (1 + exp(−x))`, to within 4 units in the last place; NaN stays NaN.

    Args:
        x: of any shape.
        out: of the same shape.

    >>> import numpy as np
    >>> sigmoid(np.array([0.0, 100.0]))
    array([0.5, 1. ])
    """
    return _forward("sigmoid", x, out)


def _forward(kernel: str, x: Array, out: Array | None) -> Array:
    compute = find(kernel, x=x, out=out)
    checks.result(kernel, x.shape, out, None)
    return compute(x, out)


def relu_backward(g: Array, y: Array, *, out: Array | None = None) -> Array:
    """The gradient behind `y = relu(x)`: g where y is above 0 or NaN, and 0 elsewhere.

    Args:
        g, y: of one shape.
        out: of the same shape.
    """
    return _backward("relu_backward", g, y, out)


def tanh_backward(g: Array, y: Array, *, out: Array | None = None) -> Array:
    """The gradient behind `y = tanh(x)`: `g · (1 − y · y)`.

    Args:
        g, y: of one shape.
        out: of the same shape.

    >>> import numpy as np
    >>> tanh_backward(np.array([2.0]), np.array([0.5]))
    array([1.5])
    """
    return _backward("tanh_backward", g, y, out)


def sigmoid_backward(g: Array, y: Array, *, out: Array | None = None) -> Array:
    """The gradient behind `y = 1 / (1 + exp(−x))`: `g · (y · (1 − y))`.

    Args:
        g, y: of one shape.
        out: of the same shape.
    """
    return _backward("sigmoid_backward", g, y, out)


def _backward(kernel: str, g: Array, y: Array, out: Array | None) -> Array:
    compute = find(kernel, g=g, y=y, out=out)
    checks.same_shape(kernel, "y", y, g, "g")
    checks.result(kernel, g.shape, out, None)
    return compute(g, y, out)
