"""Recurrent functions: one step (`*_cell`) and whole sequences (`rnn`, `lstm`, `gru`).

A sequence is the step written again and again, on the ordinary graph: backpropagation through time
is nothing but the walk over it.  The inputs of all steps are multiplied by their weights at once,
before the loop, since they do not wait for the state.  The plain network's steps are one operation
unless they shall be seen; `rnn_steps_plain` is what it equals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Saved, raw
from minigrad.ops.elementwise import relu, sigmoid, tanh, where
from minigrad.ops.index import getitem
from minigrad.ops.shape import stack
from minigrad_nn import kernels
from minigrad_nn.functional.linear import linear

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell"]

NONLINEARITIES = {"tanh": tanh, "relu": relu}
State = tuple[Any, ...]


def _parts(x: Any, count: int) -> list[Any]:
    """Equal parts of the last axis."""
    size = raw(x).shape[-1] // count
    return [getitem(x, index=(Ellipsis, slice(i * size, (i + 1) * size))) for i in range(count)]


# --- one step: what comes from the input, the state, and the weights of the state ----------------


def _rnn_step(gx: Any, state: State, w: Any, b: Any, bend: Callable) -> State:
    return (bend(gx + linear(state[0], w, b)),)


def _lstm_step(gx: Any, state: State, w: Any, b: Any) -> State:
    h, c = state
    i, f, g, o = _parts(gx + linear(h, w, b), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_step(gx: Any, state: State, w: Any, b: Any) -> State:
    (h,) = state
    xr, xz, xn = _parts(gx, 3)
    hr, hz, hn = _parts(linear(h, w, b), 3)
    z = sigmoid(xz + hz)
    n = tanh(xn + sigmoid(xr + hr) * hn)
    return (n + z * (h - n),)


def _bend(name: str, nonlinearity: str) -> Callable:
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(
            f"{name}: nonlinearity must be one of {tuple(NONLINEARITIES)}, got {nonlinearity!r}"
        )
    return NONLINEARITIES[nonlinearity]


def _check(name: str, x: Any, state: State, w_ih: Any, w_hh: Any, gates: int, axes: int) -> None:
    """Refuse shapes that do not belong together."""
    shape, weights, own = (np.shape(raw(v)) for v in (x, w_ih, w_hh))
    if len(shape) != axes:
        wanted, advice = (
            ("(N, inputs)", "x[None]") if axes == 2 else ("(T, N, inputs)", "x[:, None]")
        )
        raise ValueError(
            f"{name}: x must be {wanted}, got shape {shape}; a single sample is {advice}"
        )
    hidden = own[-1]
    if own != (gates * hidden, hidden) or weights != (gates * hidden, shape[-1]):
        raise ValueError(
            f"{name}: w_ih must be ({gates} * hidden, inputs) and w_hh ({gates} * hidden, hidden), "
            f"got shapes {weights} and {own} for x of shape {shape}"
        )
    for part in state:
        if np.shape(raw(part)) != (shape[-2], hidden):
            raise ValueError(
                f"{name}: the state must have shape {(shape[-2], hidden)}, got "
                f"{np.shape(raw(part))} for x of shape {shape}"
            )


def rnn_cell(
    x: Any,
    h: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    nonlinearity: str = "tanh",
) -> Any:
    """The next state of a plain recurrent network: `tanh(w_ih x + b_ih + w_hh h + b_hh)`.

    Elman, "Finding structure in time", 1990.

    Args:
        x: `(N, inputs)`.
        h: `(N, hidden)`, the state.
        w_ih: `(hidden, inputs)`.
        w_hh: `(hidden, hidden)`.
        b_ih, b_hh: `(hidden,)`, or None.
        nonlinearity: "tanh" or "relu".

    Returns:
        `(N, hidden)`.

    Raises:
        ValueError: shapes that do not belong together, or another nonlinearity.
    """
    _check("rnn_cell", x, (h,), w_ih, w_hh, 1, 2)
    bend = _bend("rnn_cell", nonlinearity)
    return _rnn_step(linear(x, w_ih, b_ih), (h,), w_hh, b_hh, bend)[0]


def lstm_cell(
    x: Any, state: tuple[Any, Any], w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Any, Any]:
    """The next state of a long short-term memory: `c = f * c + i * g`, `h = o * tanh(c)`.

    The gates i, f and o are sigmoids and g a tanh of `w_ih x + b_ih + w_hh h + b_hh`, in the order
    i, f, g, o (Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the forget gate of
    Gers and others, 2000).

    Args:
        x: `(N, inputs)`.
        state: the pair h, c, `(N, hidden)` each.
        w_ih: `(4 * hidden, inputs)`.
        w_hh: `(4 * hidden, hidden)`.
        b_ih, b_hh: `(4 * hidden,)`, or None.

    Returns:
        The next pair h, c.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check("lstm_cell", x, state, w_ih, w_hh, 4, 2)
    h, c = _lstm_step(linear(x, w_ih, b_ih), state, w_hh, b_hh)
    return h, c


def gru_cell(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """The next state of a gated recurrent unit: `(1 - z) * n + z * h`.

    The gates r and z are sigmoids, `n = tanh(w_in x + b_in + r * (w_hn h + b_hn))`, and the rows of
    the weights are in the order r, z, n (Cho and others, "Learning phrase representations", 2014).

    Args:
        x: `(N, inputs)`.
        h: `(N, hidden)`, the state.
        w_ih: `(3 * hidden, inputs)`.
        w_hh: `(3 * hidden, hidden)`.
        b_ih, b_hh: `(3 * hidden,)`, or None.

    Returns:
        `(N, hidden)`.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check("gru_cell", x, (h,), w_ih, w_hh, 3, 2)
    return _gru_step(linear(x, w_ih, b_ih), (h,), w_hh, b_hh)[0]


# --- whole sequences -----------------------------------------------------------------------------


def _alive(name: str, x: Any, lengths: Any) -> Any:
    """For each step, `(T, N, 1)`, whether a sequence is still running; None if all are, always."""
    if lengths is None:
        return None
    steps, count = raw(x).shape[:2]
    numbers = np.asarray(raw(lengths))
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: lengths must be {count} integers, one for each sequence, got "
            f"{numbers.dtype} of shape {numbers.shape}"
        )
    if numbers.size and (numbers.min() < 0 or numbers.max() > steps):
        raise ValueError(
            f"{name}: lengths reach from {numbers.min()} to {numbers.max()}, but x has {steps} "
            "steps"
        )
    if (numbers == steps).all():
        return None
    alive = np.arange(steps)[:, None] < numbers[None, :]
    return backend.device_of(raw(x)).from_numpy(alive[:, :, None])


def _run(
    name: str,
    step: Callable[..., State],
    x: Any,
    state: State,
    weights: tuple[Any, Any, Any, Any],
    reverse: bool,
    lengths: Any,
    *settings: Any,
) -> tuple[Any, State]:
    """All steps; a sequence that has ended keeps its state, and its outputs are 0."""
    w_ih, w_hh, b_ih, b_hh = weights
    alive = _alive(name, x, lengths)
    gx = linear(x, w_ih, b_ih)
    times = range(raw(x).shape[0])
    outputs = [None] * len(times)
    for t in reversed(times) if reverse else times:
        new = step(getitem(gx, index=t), state, w_hh, b_hh, *settings)
        if alive is None:
            state, outputs[t] = new, new[0]
        else:
            state = tuple(where(alive[t], n, s) for n, s in zip(new, state, strict=True))
            outputs[t] = where(alive[t], new[0], 0.0)
    if not outputs:
        raise ValueError(f"{name}: x of shape {raw(x).shape} has no step")
    return stack(outputs), state


def rnn_steps_plain(x: Any, h: Any, w: Any, *, nonlinearity: str, reverse: bool) -> Any:
    """What the fused steps equal: `y[t] = f(x[t] + w y[t - 1])`, one after the other."""
    times = range(raw(x).shape[0])
    outputs = [None] * len(times)
    for t in reversed(times) if reverse else times:
        h = NONLINEARITIES[nonlinearity](getitem(x, index=t) + linear(h, w))
        outputs[t] = h
    return stack(outputs)


def _rnn_steps_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    settings = (saved.nonlinearity, saved.reverse)
    return list(kernels.rnn_backward(g, saved.y, saved.h, saved.w, *settings))


_rnn_steps = Op(
    "rnn_steps",
    lambda x, h, w, *, nonlinearity, reverse: kernels.rnn(x, h, w, nonlinearity, reverse),
    inputs=("x", "h", "w"),
    saves=("h", "w", "y"),
    backward=_rnn_steps_rule,
    like=rnn_steps_plain,
)


def rnn(
    x: Any,
    h: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    lengths: Any = None,
    unrolled: bool = False,
) -> tuple[Any, Any]:
    """A plain recurrent network over sequences: `rnn_cell` at each step.

    Args:
        x: `(T, N, inputs)`.
        h: `(N, hidden)`, the first state.
        w_ih, w_hh, b_ih, b_hh, nonlinearity: as for `rnn_cell`.
        reverse: go from the last step to the first.
        lengths: `(N,)` integers, where sequences end before T; from there on outputs are 0 and the
            state stays.
        unrolled: put each step on the graph, as the lecture draws it, instead of all of them as
            one operation, which is faster.  With lengths they always are.

    Returns:
        The states of all steps `(T, N, hidden)`, and the last one `(N, hidden)`.

    Raises:
        ValueError: shapes that do not belong together, no step, or lengths that do not fit.
    """
    _check("rnn", x, (h,), w_ih, w_hh, 1, 3)
    bend = _bend("rnn", nonlinearity)
    if not unrolled and _alive("rnn", x, lengths) is None and raw(x).shape[0]:
        bias = b_ih if b_hh is None else b_hh if b_ih is None else b_ih + b_hh
        gx = linear(x, w_ih, bias)
        y = _rnn_steps(gx, h, w_hh, nonlinearity=nonlinearity, reverse=bool(reverse))
        return y, getitem(y, index=0 if reverse else -1)
    weights = (w_ih, w_hh, b_ih, b_hh)
    outputs, state = _run("rnn", _rnn_step, x, (h,), weights, reverse, lengths, bend)
    return outputs, state[0]


def lstm(
    x: Any,
    state: tuple[Any, Any],
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    reverse: bool = False,
    lengths: Any = None,
) -> tuple[Any, tuple[Any, Any]]:
    """A long short-term memory over sequences: `lstm_cell` at each step.

    Args:
        x: `(T, N, inputs)`.
        state: the first pair h, c, `(N, hidden)` each.
        w_ih, w_hh, b_ih, b_hh: as for `lstm_cell`.
        reverse, lengths: as for `rnn`.

    Returns:
        The h of all steps `(T, N, hidden)`, and the last pair h, c.

    Raises:
        ValueError: as `rnn`.
    """
    _check("lstm", x, state, w_ih, w_hh, 4, 3)
    weights = (w_ih, w_hh, b_ih, b_hh)
    outputs, (h, c) = _run("lstm", _lstm_step, x, tuple(state), weights, reverse, lengths)
    return outputs, (h, c)


def gru(
    x: Any,
    h: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    reverse: bool = False,
    lengths: Any = None,
) -> tuple[Any, Any]:
    """Gated recurrent units over sequences: `gru_cell` at each step; arguments as `rnn`.

    Args:
        x: `(T, N, inputs)`.
        h: `(N, hidden)`, the first state.
        w_ih, w_hh, b_ih, b_hh: as for `gru_cell`.
        reverse, lengths: as for `rnn`.

    Returns:
        The states of all steps `(T, N, hidden)`, and the last one `(N, hidden)`.

    Raises:
        ValueError: as `rnn`.
    """
    _check("gru", x, (h,), w_ih, w_hh, 3, 3)
    weights = (w_ih, w_hh, b_ih, b_hh)
    outputs, state = _run("gru", _gru_step, x, (h,), weights, reverse, lengths)
    return outputs, state[0]
