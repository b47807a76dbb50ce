"""All steps of a recurrent network: on the graph one by one, or as one operation.

Each kind of network has a step (`rnn_step`, ...), a sequence of such steps on the ordinary graph
(`rnn_steps_plain`, ...), and an operation with kernels of its own that equals it (`rnn_steps`,
...).  All of them start where the inputs have met their weights already, for all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Saved, raw
from minigrad.effects import decided, value
from minigrad.ops.elementwise import relu, sigmoid, tanh, where
from minigrad.ops.index import getitem
from minigrad.ops.shape import concatenate, stack
from minigrad_nn import kernels
from minigrad_nn.functional.linear import linear

NONLINEARITIES = {"tanh": tanh, "relu": relu}
State = tuple[Any, ...]


def _parts(x: Any, count: int) -> list[Any]:
    """Equal parts of the last axis."""
    size = raw(x).shape[-1] // count
    return [getitem(x, index=(Ellipsis, slice(i * size, (i + 1) * size))) for i in range(count)]


# --- one step: what comes from the input, the state, and the weights of the state ----------------


def rnn_step(gx: Any, state: State, w: Any, b: Any, bend: Callable) -> State:
    """The next h."""
    return (bend(gx + linear(state[0], w, b)),)


def lstm_step(gx: Any, state: State, w: Any, b: Any) -> State:
    """The next h and c, and the gates that made them."""
    h, c = state
    i, f, g, o = _parts(gx + linear(h, w, b), 4)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    c = f * c + i * g
    return o * tanh(c), c, concatenate((i, f, g, o), -1)


def gru_step(gx: Any, state: State, w: Any, b: Any) -> State:
    """The next h, and r, z, n and the state's part of n."""
    (h,) = state
    xr, xz, xn = _parts(gx, 3)
    hr, hz, hn = _parts(linear(h, w, b), 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + r * hn)
    return n + z * (h - n), concatenate((r, z, n, hn), -1)


# --- all steps, one by one ------------------------------------------------------------------------


def checked_lengths(name: str, x: Any, lengths: Any) -> Any:
    """Where sequences end, as an array of integers; None if none of them ends before the last step.

    Raises:
        ValueError: they are no integers from 0 to T, one for each sequence.
    """
    if lengths is None:
        return None
    steps, count = raw(x).shape[:2]
    numbers = _counted(name, raw(lengths), steps, count)
    return None if decided(_all, numbers, steps) else numbers


def _all(numbers: Any, steps: int) -> bool:
    return bool((numbers == steps).all())


def _some(numbers: Any) -> bool:
    return bool((numbers > 0).all())


@value
def _counted(name: str, lengths: Any, steps: int, count: int) -> Any:
    numbers = np.asarray(lengths)
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
    return numbers.astype(np.int64)


@value
def _running(steps: int, lengths: Any) -> Any:
    """Which sequences have not ended, `(T, N, 1)`."""
    return (np.arange(steps)[:, None] < lengths[None, :])[:, :, None]


@value
def _row(array: Any, number: int) -> Any:
    return array[number]


@value
def _ends(lengths: Any) -> tuple[Any, Any]:
    """The index that reads the last step of each sequence."""
    return np.maximum(lengths - 1, 0), np.arange(len(lengths))


@value
def _begun(lengths: Any) -> Any:
    return (lengths > 0)[:, None]


def one_by_one(
    step: Callable[..., State],
    gx: Any,
    state: State,
    w: Any,
    b: Any,
    reverse: bool,
    lengths: Any,
    *settings: Any,
) -> tuple[list[Any], State]:
    """All that a step returns, a stack over the steps of each, and the last state.

    Where a sequence has ended, its state stays, and what the step returned counts as 0.
    """
    times = range(raw(gx).shape[0])
    alive = None
    if lengths is not None:
        alive = backend.beside(_running(len(times), lengths), raw(gx))
    found: list[Any] = [None] * len(times)
    for t in reversed(times) if reverse else times:
        new = step(getitem(gx, index=t), state, w, b, *settings)
        if alive is None:
            state, found[t] = new[: len(state)], new
        else:
            now = _row(alive, t)
            state = tuple(where(now, n, s) for n, s in zip(new, state, strict=False))
            found[t] = tuple(where(now, part, 0.0) for part in new)
    return [stack(list(parts)) for parts in zip(*found, strict=True)], state


def rnn_steps_plain(
    x: Any, h: Any, w: Any, *, nonlinearity: str, reverse: bool, lengths: Any
) -> Any:
    """What the fused steps equal: `y[t] = f(x[t] + w y[t - 1])`, one after the other."""
    bend = NONLINEARITIES[nonlinearity]
    return one_by_one(rnn_step, x, (h,), w, None, reverse, lengths, bend)[0][0]


def lstm_steps_plain(
    x: Any, h: Any, c: Any, w: Any, *, reverse: bool, lengths: Any
) -> tuple[Any, ...]:
    """What the fused steps equal: h, c, and the gates i, f, g, o of all steps, one by one."""
    return tuple(one_by_one(lstm_step, x, (h, c), w, None, reverse, lengths)[0])


def gru_steps_plain(
    x: Any, h: Any, w: Any, b: Any, *, reverse: bool, lengths: Any
) -> tuple[Any, ...]:
    """What the fused steps equal: h, and r, z, n and the state's part of n, one by one."""
    return tuple(one_by_one(gru_step, x, (h,), w, b, reverse, lengths)[0])


# --- all steps as one operation -------------------------------------------------------------------


def _rnn_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    settings = (saved.nonlinearity, saved.reverse, saved.lengths)
    return list(kernels.rnn_backward(g, saved.y, saved.h, saved.w, *settings))


rnn_steps = Op(
    "rnn_steps",
    lambda x, h, w, *, nonlinearity, reverse, lengths: kernels.rnn(
        x, h, w, nonlinearity, reverse, lengths
    ),
    inputs=("x", "h", "w"),
    saves=("h", "w", "y"),
    backward=_rnn_rule,
    like=rnn_steps_plain,
)


def _or_zeros(g: Any, like: Any) -> Any:
    return np.zeros_like(like) if g is None else g


def _lstm_rule(saved: Saved, g: tuple, needs: tuple[bool, ...]) -> list:
    gy, gm = _or_zeros(g[0], saved.y), _or_zeros(g[1], saved.memory)
    made = (saved.y, saved.memory, saved.gates, saved.h, saved.c, saved.w)
    return list(kernels.lstm_backward(gy, gm, *made, saved.reverse, saved.lengths))


lstm_steps = Op(
    "lstm_steps",
    lambda x, h, c, w, *, reverse, lengths: tuple(kernels.lstm(x, h, c, w, reverse, lengths)),
    inputs=("x", "h", "c", "w"),
    outputs=("y", "memory", "gates"),
    differentiable=(True, True, False),
    saves=("h", "c", "w", "y", "memory", "gates"),
    backward=_lstm_rule,
    like=lstm_steps_plain,
)


def _gru_rule(saved: Saved, g: tuple, needs: tuple[bool, ...]) -> list:
    made = (saved.y, saved.gates, saved.h, saved.w, saved.reverse, saved.lengths)
    return list(kernels.gru_backward(g[0], *made))


gru_steps = Op(
    "gru_steps",
    lambda x, h, w, b, *, reverse, lengths: tuple(kernels.gru(x, h, w, b, reverse, lengths)),
    inputs=("x", "h", "w", "b"),
    outputs=("y", "gates"),
    differentiable=(True, False),
    saves=("h", "w", "y", "gates"),
    backward=_gru_rule,
    like=gru_steps_plain,
)


def last_of(y: Any, first: Any, reverse: bool, lengths: Any) -> Any:
    """The state after all steps, from the states of all steps and the one before them."""
    if lengths is None:
        return getitem(y, index=0 if reverse else -1)
    if reverse:
        found = getitem(y, index=0)
    else:
        found = getitem(y, index=_ends(lengths))
    if decided(_some, lengths):
        return found
    return where(backend.beside(_begun(lengths), raw(y)), found, first)
