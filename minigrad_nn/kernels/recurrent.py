"""Kernels of recurrent networks: all steps of a sequence in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import checks
from .registry import find
from .workspace import Workspace

__all__ = [
    "GRU",
    "LSTM",
    "GRUBackward",
    "LSTMBackward",
    "RNNBackward",
    "gru",
    "gru_backward",
    "lstm",
    "lstm_backward",
    "rnn",
    "rnn_backward",
]

Array = Any

NONLINEARITIES = ("tanh", "relu")


class RNNBackward(NamedTuple):
    """What `rnn_backward` returns: `(T, N, H)`, `(N, H)`, `(H, H)`."""

    gx: Array
    gh: Array
    gw: Array


class LSTM(NamedTuple):
    """What `lstm` returns: `(T, N, H)`, `(T, N, H)`, `(T, N, 4H)`."""

    y: Array
    memory: Array
    gates: Array


class LSTMBackward(NamedTuple):
    """What `lstm_backward` returns: `(T, N, 4H)`, `(N, H)`, `(N, H)`, `(4H, H)`."""

    gx: Array
    gh: Array
    gc: Array
    gw: Array


class GRU(NamedTuple):
    """What `gru` returns: `(T, N, H)`, `(T, N, 4H)`."""

    y: Array
    gates: Array


class GRUBackward(NamedTuple):
    """What `gru_backward` returns: `(T, N, 3H)`, `(N, H)`, `(3H, H)`, `(3H,)`."""

    gx: Array
    gh: Array
    gw: Array
    gb: Array


def rnn(
    x: Array,
    h: Array,
    w: Array,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    lengths: Array | None = None,
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
        lengths: `(N,)` integers in 0 .. T, where sequences end: from there on y is 0 and the state
            stays what it was. None means T for all.
        out: `(T, N, H)`.
        workspace: scratch memory.

    Returns:
        `(T, N, H)`.

    >>> import numpy as np
    >>> rnn(np.ones((3, 1, 1)), np.zeros((1, 1)), np.ones((1, 1)), "relu").ravel()
    array([1., 2., 3.])
    """
    compute = find("rnn", x=x, h=h, w=w, out=out)
    _check_bend("rnn", nonlinearity)
    _check("rnn", 1, x, w, lengths, h=h)
    checks.result("rnn", x.shape, out, None)
    return compute(x, h, w, nonlinearity, reverse, out, workspace, **_ends(lengths))


def rnn_backward(
    g: Array,
    y: Array,
    h: Array,
    w: Array,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    lengths: Array | None = None,
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
        h, w, nonlinearity, reverse, lengths: as for `rnn`.
        out: `(T, N, H)`, for gx.
        workspace: scratch memory.
    """
    compute = find("rnn_backward", g=g, y=y, h=h, w=w, out=out)
    _check_bend("rnn_backward", nonlinearity)
    _check("rnn_backward", 1, y, w, lengths, h=h)
    if g.shape != y.shape:
        raise ValueError(
            f"rnn_backward: g must have the shape of y, {tuple(y.shape)}, got {tuple(g.shape)}"
        )
    checks.result("rnn_backward", y.shape, out, None)
    return RNNBackward(
        *compute(g, y, h, w, nonlinearity, reverse, out, workspace, **_ends(lengths))
    )


def lstm(
    x: Array,
    h: Array,
    c: Array,
    w: Array,
    reverse: bool = False,
    lengths: Array | None = None,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> LSTM:
    """The states of a long short-term memory, with gates of `x[t] + w · y[t − 1]`.

    The gates are i, f, o, logistic curves, and g, a tanh, in the order i, f, g, o:
    `memory[t] = f · memory[t − 1] + i · g` and `y[t] = o · tanh(memory[t])`.

    Args:
        x: `(T, N, 4H)`, what comes from the inputs at each step, biases included; T at least 1.
        h: `(N, H)`, y before the first step.
        c: `(N, H)`, the memory before the first step.
        w: `(4H, H)`.
        reverse, lengths: as for `rnn`.
        out: `(T, N, H)`, for y.
        workspace: scratch memory.

    Returns:
        y, the memory, and the four gates of each step; all are 0 behind the end of a sequence.

    >>> import numpy as np
    >>> zero = np.zeros((1, 1))
    >>> found = lstm(np.full((1, 1, 4), 100.0), zero, zero, np.zeros((4, 1)))
    >>> found.memory.item(), found.gates.tolist()
    (1.0, [[[1.0, 1.0, 1.0, 1.0]]])
    """
    compute = find("lstm", x=x, h=h, c=c, w=w, out=out)
    _check("lstm", 4, x, w, lengths, h=h, c=c)
    checks.result("lstm", (*x.shape[:2], h.shape[1]), out, None)
    return LSTM(*compute(x, h, c, w, reverse, out, workspace, **_ends(lengths)))


def lstm_backward(
    g: Array,
    gm: Array,
    y: Array,
    memory: Array,
    gates: Array,
    h: Array,
    c: Array,
    w: Array,
    reverse: bool = False,
    lengths: Array | None = None,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> LSTMBackward:
    """The gradients of `lstm`, by backpropagation through time.

    Args:
        g, gm: `(T, N, H)`, the gradients of y and of the memory.
        y, memory, gates: what `lstm` returned.
        h, c, w, reverse, lengths: as for `lstm`.
        out: `(T, N, 4H)`, for gx.
        workspace: scratch memory.
    """
    compute = find(
        "lstm_backward", g=g, gm=gm, y=y, memory=memory, gates=gates, h=h, c=c, w=w, out=out
    )
    _check("lstm_backward", 4, gates, w, lengths, h=h, c=c)
    _check_steps("lstm_backward", gates, h, g=g, gm=gm, y=y, memory=memory)
    checks.result("lstm_backward", gates.shape, out, None)
    return LSTMBackward(
        *compute(g, gm, y, memory, gates, h, c, w, reverse, out, workspace, **_ends(lengths))
    )


def gru(
    x: Array,
    h: Array,
    w: Array,
    b: Array,
    reverse: bool = False,
    lengths: Array | None = None,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> GRU:
    """The states of gated recurrent units: `y[t] = (1 − z) · n + z · y[t − 1]`.

    With `s = w · y[t − 1] + b`, in three parts as x is: r and z are logistic curves of
    `x[t] + s`, and `n = tanh(x[t] + r · s)`.

    Args:
        x: `(T, N, 3H)`, what comes from the inputs at each step, in the order r, z, n; T at least
            1.
        h: `(N, H)`, the first state.
        w: `(3H, H)`.
        b: `(3H,)`.
        reverse, lengths: as for `rnn`.
        out: `(T, N, H)`, for y.
        workspace: scratch memory.

    Returns:
        y, and r, z, n and the last part of s at each step; all are 0 behind the end of a sequence.

    >>> import numpy as np
    >>> x = np.array([[[0.0, 100.0, 3.0]]])
    >>> gru(x, np.full((1, 1), 7.0), np.zeros((3, 1)), np.zeros(3)).y.item()
    7.0
    """
    compute = find("gru", x=x, h=h, w=w, b=b, out=out)
    _check("gru", 3, x, w, lengths, h=h)
    if tuple(b.shape) != (3 * h.shape[1],):
        raise ValueError(f"gru: b must have shape {(3 * h.shape[1],)}, got {tuple(b.shape)}")
    checks.result("gru", (*x.shape[:2], h.shape[1]), out, None)
    return GRU(*compute(x, h, w, b, reverse, out, workspace, **_ends(lengths)))


def gru_backward(
    g: Array,
    y: Array,
    gates: Array,
    h: Array,
    w: Array,
    reverse: bool = False,
    lengths: Array | None = None,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> GRUBackward:
    """The gradients of `gru`, by backpropagation through time.

    Args:
        g: `(T, N, H)`, the gradient of y.
        y, gates: what `gru` returned.
        h, w, reverse, lengths: as for `gru`.
        out: `(T, N, 3H)`, for gx.
        workspace: scratch memory.
    """
    compute = find("gru_backward", g=g, y=y, gates=gates, h=h, w=w, out=out)
    _check("gru_backward", 4, gates, None, lengths, h=h)
    _check_steps("gru_backward", gates, h, g=g, y=y)
    size = h.shape[1]
    if tuple(w.shape) != (3 * size, size):
        raise ValueError(
            f"gru_backward: w must have shape {(3 * size, size)}, got {tuple(w.shape)}"
        )
    shape = (*y.shape[:2], 3 * size)
    checks.result("gru_backward", shape, out, None)
    return GRUBackward(*compute(g, y, gates, h, w, reverse, out, workspace, **_ends(lengths)))


def _ends(lengths: Array | None) -> dict[str, Array]:
    """Lengths as a keyword, for packages whose kernels know them."""
    return {} if lengths is None else {"lengths": lengths}


def _check_bend(name: str, nonlinearity: str) -> None:
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(
            f"{name}: nonlinearity must be one of {NONLINEARITIES}, got {nonlinearity!r}"
        )


def _check(
    name: str, parts: int, x: Array, w: Array | None, lengths: Array | None, **states: Array
) -> None:
    """Check a sequence `(T, N, parts · H)`, its weight, its lengths, and states `(N, H)`."""
    if len(x.shape) != 3 or not x.shape[0] or x.shape[2] % parts:
        size = "H" if parts == 1 else f"{parts}H"
        raise ValueError(
            f"{name}: a sequence must be (T, N, {size}) with at least one step, got "
            f"{tuple(x.shape)}"
        )
    count, size = x.shape[1], x.shape[2] // parts
    wanted = dict.fromkeys(states, (count, size))
    given = dict(states)
    if w is not None:
        given["w"], wanted["w"] = w, (parts * size, size)
    for what, array in given.items():
        if tuple(array.shape) != wanted[what]:
            raise ValueError(
                f"{name}: {what} must have shape {wanted[what]} for a sequence of shape "
                f"{tuple(x.shape)}, got {tuple(array.shape)}"
            )
    if lengths is not None:
        if tuple(lengths.shape) != (count,) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: lengths must be {count} integers, got {lengths.dtype} of shape "
                f"{tuple(lengths.shape)}"
            )
        if count and (lengths.min() < 0 or lengths.max() > x.shape[0]):
            raise ValueError(
                f"{name}: lengths must be in 0 .. {x.shape[0]}, got {lengths.min()} to "
                f"{lengths.max()}"
            )


def _check_steps(name: str, gates: Array, h: Array, **arrays: Array) -> None:
    shape = (*gates.shape[:2], h.shape[1])
    for what, array in arrays.items():
        if tuple(array.shape) != shape:
            raise ValueError(f"{name}: {what} must have shape {shape}, got {tuple(array.shape)}")
