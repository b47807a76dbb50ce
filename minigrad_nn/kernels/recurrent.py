"""Kernels of recurrent networks: all steps of a sequence in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import checks
from .registry import find
from .workspace import Workspace

__all__ = ["RNNBackward", "rnn", "rnn_backward"]

Array = Any

NONLINEARITIES = ("tanh", "relu")


class RNNBackward(NamedTuple):
    """What `rnn_backward` returns: `(T, N, H)`, `(N, H)`, `(H, H)`."""

    gx: Array
    gh: Array
    gw: Array


def rnn(
    x: Array,
    h: Array,
    w: Array,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> Array:
    """The states of a plain recurrent network: `y[t] = f(x[t] + w · y[t − 1])`, `y[−1] = h`.

    Args:
        x: `(T, N, H)`, what comes from the inputs at each step, biases included; T at least 1.
        h: `(N, H)`, the first state.
        w: `(H, H)`.
        nonlinearity: f, "tanh" or "relu".
        reverse: go from the last step to the first, so that y[t + 1] takes the place of y[t − 1].
        out: `(T, N, H)`.
        workspace: scratch memory.

    Returns:
        `(T, N, H)`.

    >>> import numpy as np
    >>> rnn(np.ones((3, 1, 1)), np.zeros((1, 1)), np.ones((1, 1)), "relu").ravel()
    array([1., 2., 3.])
    """
    compute = find("rnn", x=x, h=h, w=w, out=out)
    _check("rnn", x, h, w, nonlinearity)
    checks.result("rnn", x.shape, out, None)
    return compute(x, h, w, nonlinearity, reverse, out, workspace)


def rnn_backward(
    g: Array,
    y: Array,
    h: Array,
    w: Array,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> RNNBackward:
    """The gradients of `rnn`, by backpropagation through time.

    `d[t] = (g[t] + wᵀ · d[t + 1]) · f'`, where f' is a function of y[t] alone; then `gx = d`,
    `gh = wᵀ · d[0]` and `gw = Σ_t d[t] · y[t − 1]ᵀ`.

    Args:
        g: `(T, N, H)`, the gradient of y.
        y: `(T, N, H)`, what `rnn` returned.
        h, w, nonlinearity, reverse: as for `rnn`.
        out: `(T, N, H)`, for gx.
        workspace: scratch memory.
    """
    compute = find("rnn_backward", g=g, y=y, h=h, w=w, out=out)
    _check("rnn_backward", y, h, w, nonlinearity)
    if g.shape != y.shape:
        raise ValueError(
            f"rnn_backward: g must have the shape of y, {tuple(y.shape)}, got {tuple(g.shape)}"
        )
    checks.result("rnn_backward", y.shape, out, None)
    return RNNBackward(*compute(g, y, h, w, nonlinearity, reverse, out, workspace))


def _check(name: str, x: Array, h: Array, w: Array, nonlinearity: str) -> None:
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(
            f"{name}: nonlinearity must be one of {NONLINEARITIES}, got {nonlinearity!r}"
        )
    if len(x.shape) != 3 or not x.shape[0]:
        raise ValueError(
            f"{name}: a sequence must be (T, N, H) with at least one step, got {tuple(x.shape)}"
        )
    size = x.shape[2]
    for what, array, wanted in (("h", h, x.shape[1:]), ("w", w, (size, size))):
        if tuple(array.shape) != tuple(wanted):
            raise ValueError(
                f"{name}: {what} must have shape {tuple(wanted)} for a sequence of shape "
                f"{tuple(x.shape)}, got {tuple(array.shape)}"
            )
