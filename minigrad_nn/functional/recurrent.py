"""Recurrent functions: one step (`*_cell`) and whole sequences (`rnn`, `lstm`, `gru`).

The inputs of all steps are multiplied by their weights at once, since they do not wait for the
state.  What is left, the step written again and again, is one operation with kernels of its own.
With `unrolled` each step stands on the ordinary graph, where backpropagation through time is
nothing but the walk over it; `recurrent_steps` holds both forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw
from minigrad.effects import constant
from minigrad_nn.functional.linear import linear
from minigrad_nn.functional.recurrent_steps import (
    NONLINEARITIES,
    State,
    checked_lengths,
    gru_step,
    gru_steps,
    last_of,
    lstm_step,
    lstm_steps,
    one_by_one,
    rnn_step,
    rnn_steps,
)
from minigrad_nn.kernels.registry import offers

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell"]


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
    return rnn_step(linear(x, w_ih, b_ih), (h,), w_hh, b_hh, bend)[0]


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
    return lstm_step(linear(x, w_ih, b_ih), state, w_hh, b_hh)[:2]


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
    return gru_step(linear(x, w_ih, b_ih), (h,), w_hh, b_hh)[0]


# --- whole sequences -----------------------------------------------------------------------------


def _fused(name: str, gx: Any, *others: Any) -> bool:
    """Whether there is a kernel for these values, and for the gradient."""
    dtypes = {np.dtype(raw(value).dtype) for value in (gx, *others)}
    return len(dtypes) == 1 and all(offers(part, raw(gx)) for part in (name, f"{name}_backward"))


def _some_steps(name: str, x: Any) -> None:
    if not raw(x).shape[0]:
        raise ValueError(f"{name}: x of shape {raw(x).shape} has no step")


def _sum(b_ih: Any, b_hh: Any) -> Any:
    """Both biases as one, where both are added to the same."""
    return b_ih if b_hh is None else b_hh if b_ih is None else b_ih + b_hh


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
            one operation, which is faster.

    Returns:
        The states of all steps `(T, N, hidden)`, and the last one `(N, hidden)`.

    Raises:
        ValueError: shapes that do not belong together, no step, or lengths that do not fit.
    """
    _check("rnn", x, (h,), w_ih, w_hh, 1, 3)
    bend, ends = _bend("rnn", nonlinearity), checked_lengths("rnn", x, lengths)
    _some_steps("rnn", x)
    if not unrolled:
        gx = linear(x, w_ih, _sum(b_ih, b_hh))
        if _fused("rnn", gx, h, w_hh):
            settings = dict(nonlinearity=nonlinearity, reverse=bool(reverse), lengths=ends)
            y = rnn_steps(gx, h, w_hh, **settings)
            return y, last_of(y, h, reverse, ends)
    gx = linear(x, w_ih, b_ih)
    found, state = one_by_one(rnn_step, gx, (h,), w_hh, b_hh, reverse, ends, bend)
    return found[0], state[0]


def lstm(
    x: Any,
    state: tuple[Any, Any],
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    reverse: bool = False,
    lengths: Any = None,
    unrolled: bool = False,
) -> tuple[Any, tuple[Any, Any]]:
    """A long short-term memory over sequences: `lstm_cell` at each step.

    Args:
        x: `(T, N, inputs)`.
        state: the first pair h, c, `(N, hidden)` each.
        w_ih, w_hh, b_ih, b_hh: as for `lstm_cell`.
        reverse, lengths, unrolled: as for `rnn`.

    Returns:
        The h of all steps `(T, N, hidden)`, and the last pair h, c.

    Raises:
        ValueError: as `rnn`.
    """
    _check("lstm", x, state, w_ih, w_hh, 4, 3)
    ends = checked_lengths("lstm", x, lengths)
    _some_steps("lstm", x)
    if not unrolled:
        gx = linear(x, w_ih, _sum(b_ih, b_hh))
        if _fused("lstm", gx, *state, w_hh):
            y, memory, _ = lstm_steps(gx, *state, w_hh, reverse=bool(reverse), lengths=ends)
            h, c = state
            return y, (last_of(y, h, reverse, ends), last_of(memory, c, reverse, ends))
    gx = linear(x, w_ih, b_ih)
    found, (h, c) = one_by_one(lstm_step, gx, tuple(state), w_hh, b_hh, reverse, ends)
    return found[0], (h, c)


def gru(
    x: Any,
    h: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    reverse: bool = False,
    lengths: Any = None,
    unrolled: bool = False,
) -> tuple[Any, Any]:
    """Gated recurrent units over sequences: `gru_cell` at each step; arguments as `rnn`.

    Args:
        x: `(T, N, inputs)`.
        h: `(N, hidden)`, the first state.
        w_ih, w_hh, b_ih, b_hh: as for `gru_cell`.
        reverse, lengths, unrolled: as for `rnn`.

    Returns:
        The states of all steps `(T, N, hidden)`, and the last one `(N, hidden)`.

    Raises:
        ValueError: as `rnn`.
    """
    _check("gru", x, (h,), w_ih, w_hh, 3, 3)
    ends = checked_lengths("gru", x, lengths)
    _some_steps("gru", x)
    gx = linear(x, w_ih, b_ih)
    if not unrolled and _fused("gru", gx, h, w_hh):
        b = b_hh
        if b is None:
            values = raw(gx)
            zeros = np.zeros(values.shape[2], values.dtype)
            b = constant(backend.device_of(values).from_numpy(zeros))
        y, _ = gru_steps(gx, h, w_hh, b, reverse=bool(reverse), lengths=ends)
        return y, last_of(y, h, reverse, ends)
    found, state = one_by_one(gru_step, gx, (h,), w_hh, b_hh, reverse, ends)
    return found[0], state[0]
