"""A plain recurrent network over all steps, on NumPy's BLAS.

One product a step is what the recurrence forces; everything else is done for all steps at once. The
gradient of the weight, which step by step would be T products and T sums of `(H, H)`, is a single
product over `T·N` rows. BLAS stays on one thread: a step's product is small.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..blas import matmul, one_thread
from ..workspace import Workspace
from .arrays import Result, scratch


def rnn(
    x: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    nonlinearity: str,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.rnn`."""
    result = Result(x.shape, x.dtype, out, x, h, w)
    y = result.buffer
    transposed = scratch(workspace).take(w.shape, w.dtype)
    transposed[...] = w.T
    state = h
    with one_thread(), np.errstate(all="ignore"):
        for t in _order(len(x), reverse):
            here = y[t]
            np.matmul(state, transposed, out=here)
            here += x[t]
            if nonlinearity == "tanh":
                np.tanh(here, out=here)
            else:
                np.maximum(here, 0, out=here)
            state = here
    return result.deliver()


def rnn_backward(
    g: np.ndarray,
    y: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    nonlinearity: str,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.rnn_backward`."""
    result = Result(y.shape, y.dtype, out, g, y, h, w)
    d = result.buffer
    total = scratch(workspace).take(h.shape, h.dtype)
    carried = np.zeros(h.shape, h.dtype)
    with np.errstate(all="ignore"):
        # The slopes of all steps at once: 1 − y² of tanh, and 0 or 1 of ReLU.
        if nonlinearity == "tanh":
            np.multiply(y, y, out=d)
            np.subtract(1, d, out=d)
        else:
            np.greater(y, 0, out=d)
        with one_thread():
            for t in reversed(_order(len(y), reverse)):
                np.add(g[t], carried, out=total)
                d[t] *= total
                np.matmul(d[t], w, out=carried)
        size = y.shape[2]
        later, earlier, first = (d[:-1], y[1:], d[-1]) if reverse else (d[1:], y[:-1], d[0])
        gw = matmul(first.T, h)
        if len(later):
            gw += matmul(later.reshape(-1, size).T, earlier.reshape(-1, size))
    return result.deliver(), carried, gw


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)
