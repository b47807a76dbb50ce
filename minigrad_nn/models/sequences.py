"""What the networks for sequences have in common: their recurrent layers, and checks of words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import backend
from minigrad.core import no_grad, raw
from minigrad.effects import value

from ..layers import GRU, LSTM, RNN
from ..module import Module

__all__ = ["check_words", "in_use", "recurrent"]

KINDS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def recurrent(name: str, kind: str, *sizes: int, **settings: Any) -> Any:
    """Recurrent layers of a kind.

    Args:
        name: of the network, for the message.
        kind: "rnn", "lstm" or "gru".
        sizes: of the input, of the state, and how many layers.
        settings: of the layer.

    Raises:
        ValueError: another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{name}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind](*sizes, **settings)


def check_words(name: str, what: str, words: Any, count: int, axes: str) -> NDArray[np.int64]:
    """Numbers of words as an array, or what is wrong with them.

    Args:
        name: of the network, for the message.
        what: of its arguments.
        words: integers.
        count: how many words there are.
        axes: the shape that is wanted, such as "(N, T)".

    Raises:
        TypeError: no integers.
        ValueError: another shape, no step, or a number that no word has.
    """
    return _checked(name, what, backend.on_cpu(raw(words)), count, axes)


@value
def running(lengths: Any, steps: int) -> Any:
    """Which steps of each sequence are words, `(N, steps)`."""
    return np.arange(steps) < np.asarray(lengths)[:, None]


@value
def _checked(name: str, what: str, words: Any, count: int, axes: str) -> NDArray[np.int64]:
    found = np.asarray(words)
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: {what} must be numbers of words, integers {axes}, got {found.dtype} of shape "
            f"{found.shape}"
        )
    if found.ndim != axes.count(",") + 1 or not found.size:
        raise ValueError(
            f"{name}: {what} must be {axes}, with a word at least, got shape {found.shape}"
        )
    if found.min() < 0 or found.max() >= count:
        wrong = found.min() if found.min() < 0 else found.max()
        raise ValueError(f"{name}: {what} holds {wrong}, but its words are 0 to {count - 1}")
    return found.astype(np.int64)


@contextmanager
def in_use(model: Module) -> Iterator[None]:
    """Let a network work inside the block as when it is used: in `eval` mode and off the graph.

    Each of its parts is in the mode that it was in before, afterwards.
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in before:
            module.__dict__["training"] = training
