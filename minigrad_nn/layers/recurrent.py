"""Recurrent layers and cells; names, arguments and state are PyTorch's.

The forms of the lectures differ only in which inputs are given and which outputs are used:

>>> import minigrad
>>> from minigrad_nn.layers import Linear
>>> rnn, cell, head = RNN(3, 5), RNNCell(3, 5), Linear(5, 3)
>>> sequence, x = minigrad.zeros((4, 2, 3)), minigrad.zeros((2, 3))  # T = 4 steps, N = 2

One to one: a single step, which is an ordinary layer.

>>> head(cell(x)).shape
(2, 3)

One to many (a caption, a name): each output is the next input.

>>> h, outputs = cell(x), []
>>> for _ in range(4):
...     outputs.append(head(h))
...     h = cell(outputs[-1], h)
>>> len(outputs), outputs[-1].shape
(4, (2, 3))

Many to one (sentiment): only the last state is used.

>>> _, last = rnn(sequence)
>>> head(last[-1]).shape
(2, 3)

Many to many, aligned (the next character): an output for each input.

>>> states, _ = rnn(sequence)
>>> head(states).shape
(4, 2, 3)

Many to many, encoder and decoder (translation): the last state of one begins the other.

>>> decoder = RNN(3, 5)
>>> states, _ = decoder(minigrad.zeros((6, 2, 3)), rnn(sequence)[1])
>>> head(states).shape
(6, 2, 3)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.effects import constant
from minigrad.ops.shape import concatenate, stack, swapaxes
from minigrad.tensor import Tensor
from minigrad_nn import functional as F
from minigrad_nn import init
from minigrad_nn.functional.recurrent import _bend
from minigrad_nn.module import Module, Parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "detached", "truncated_bptt"]


def _zeros(like: Any, shape: tuple[int, ...]) -> Tensor:
    data = like._data
    return Tensor(constant(backend.device_of(data).from_numpy(np.zeros(shape, data.dtype))))


class _Weights(Module):
    """What cells and layers have in common: sizes, and weights drawn alike."""

    gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size and hidden_size must be at least 1, got "
                f"{input_size} and {hidden_size}"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

    def _add(self, suffix: str, inputs: int, dtype: Any) -> None:
        rows = self.gates * self.hidden_size
        for name, shape in (
            ("weight_ih", (rows, inputs)),
            ("weight_hh", (rows, self.hidden_size)),
            ("bias_ih", (rows,)),
            ("bias_hh", (rows,)),
        ):
            held = self.bias or not name.startswith("bias")
            setattr(self, name + suffix, Parameter(np.zeros(shape, dtype)) if held else None)

    def _weights(self, suffix: str) -> tuple[Any, Any, Any, Any]:
        ih, hh = getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}")
        return ih, hh, getattr(self, f"bias_ih{suffix}"), getattr(self, f"bias_hh{suffix}")

    def reset_parameters(self) -> None:
        """Draw new weights and biases: uniform within 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)


# --- cells ---------------------------------------------------------------------------------------


class _Cell(_Weights):
    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = np.float32
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._add("", input_size, dtype)
        self.reset_parameters()

    def _start(self, x: Any, h: Any) -> Any:
        return _zeros(x, (x.shape[0], self.hidden_size)) if h is None else h

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of a plain recurrent network: `h = tanh(W_ih x + b_ih + W_hh h + b_hh)`.

    Args:
        input_size, hidden_size: of the input and of the state.
        bias: whether there are biases.
        nonlinearity: "tanh" or "relu".
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1, or another nonlinearity.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = np.float32,
    ) -> None:
        _bend("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, h: Any = None) -> Any:
        """The next state `(N, hidden_size)` of an input `(N, input_size)`; the first is 0."""
        return F.rnn_cell(x, self._start(x, h), *self._weights(""), self.nonlinearity)


class LSTMCell(_Cell):
    """One step of a long short-term memory; arguments as `RNNCell`, but the nonlinearity."""

    gates = 4

    def forward(self, x: Any, state: Any = None) -> Any:
        """The next pair h, c, `(N, hidden_size)` each; the first is 0."""
        state = (self._start(x, None), self._start(x, None)) if state is None else state
        return F.lstm_cell(x, state, *self._weights(""))


class GRUCell(_Cell):
    """One step of gated recurrent units; arguments as `RNNCell`, but the nonlinearity."""

    gates = 3

    def forward(self, x: Any, h: Any = None) -> Any:
        """The next state `(N, hidden_size)`; the first is 0."""
        return F.gru_cell(x, self._start(x, h), *self._weights(""))


# --- layers --------------------------------------------------------------------------------------


class _Recurrent(_Weights):
    """What the three have in common: layers, directions, and where the state comes from."""

    parts = 1
    """How many arrays a state has."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        unrolled: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        kind = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{kind}: num_layers must be at least 1, got {num_layers}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"{kind}: dropout must be in [0, 1], got {dropout}")
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.unrolled = unrolled
        self._suffixes = [
            f"_l{layer}{way}"
            for layer in range(num_layers)
            for way in (("", "_reverse") if bidirectional else ("",))
        ]
        ways = 2 if bidirectional else 1
        for number, suffix in enumerate(self._suffixes):
            self._add(suffix, input_size if number < ways else ways * hidden_size, dtype)
        self.reset_parameters()

    def _sequence(self, x: Any, state: tuple, suffix: str, lengths: Any) -> tuple[Any, tuple]:
        raise NotImplementedError  # each kind has its own

    def _states(self, x: Any, state: Any) -> list[Any]:
        """The first state of every layer and direction, `(layers * directions, N, hidden)` each."""
        shape = (len(self._suffixes), x.shape[1], self.hidden_size)
        if state is None:
            return [_zeros(x, shape) for _ in range(self.parts)]
        given = [state] if self.parts == 1 else list(state)
        for part in given:
            if part.shape != shape:
                raise ValueError(
                    f"{type(self).__name__}: the state must have shape {shape} (layers * "
                    f"directions, N, hidden_size), got {part.shape}"
                )
        return given

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        """Outputs of the last layer, and the last states of all layers.

        Args:
            x: `(T, N, input_size)`, or `(N, T, input_size)` with `batch_first`.
            state: the first states, `(num_layers * directions, N, hidden_size)`, for `LSTM` a pair
                h, c of them; 0 if None.
            lengths: `(N,)` integers, where sequences end before T; their outputs are 0 from there
                on, and the last state is that at their end.

        Returns:
            `(T, N, directions * hidden_size)` (with `batch_first` `(N, T, ...)`), and the last
            states in the form of `state`.

        Raises:
            ValueError: shapes that do not belong together, or lengths that do not fit.
        """
        if x.ndim != 3 or x.shape[2] != self.input_size:
            wanted = "(N, T, {})" if self.batch_first else "(T, N, {})"
            raise ValueError(
                f"{type(self).__name__}: x must be {wanted.format(self.input_size)}, got shape "
                f"{x.shape}"
            )
        if self.batch_first:
            x = swapaxes(x, 0, 1)
        starts = self._states(x, state)
        lasts: list[list[Any]] = [[] for _ in starts]
        ways = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for way in range(ways):
                number = layer * ways + way
                first = tuple(start[number] for start in starts)
                y, last = self._sequence(x, first, self._suffixes[number], lengths)
                outputs.append(y)
                for found, part in zip(lasts, last, strict=True):
                    found.append(part)
            x = outputs[0] if ways == 1 else concatenate(outputs, -1)
        stacked = [stack(found) for found in lasts]
        y = swapaxes(x, 0, 1) if self.batch_first else x
        return y, stacked[0] if self.parts == 1 else tuple(stacked)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        usual = (
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        )
        for name, value in usual:
            found = getattr(self, name)
            text += f", {name}={found}" if found != value else ""
        return text


class RNN(_Recurrent):
    """Plain recurrent layers, `h = tanh(W_ih x + b_ih + W_hh h + b_hh)` at each step.

    Args:
        input_size, hidden_size: of the input and of a state.
        num_layers: stacked: each layer's outputs are the next one's inputs.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases.
        batch_first: whether x and the outputs are `(N, T, ...)` rather than `(T, N, ...)`.
        dropout: on the outputs of each layer but the last, while training.
        bidirectional: a second set of weights reads the sequence backwards, and the outputs of
            both stand side by side.
        dtype: of the parameters.
        unrolled: put each step on the graph, for pictures and study, instead of all as one
            operation.

    Raises:
        ValueError: an argument out of its range.

    >>> import minigrad
    >>> outputs, last = RNN(4, 8, num_layers=2)(minigrad.zeros((10, 3, 4)))
    >>> outputs.shape, last.shape
    ((10, 3, 8), (2, 3, 8))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        unrolled: bool = False,
    ) -> None:
        _bend("RNN", nonlinearity)
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(*sizes, bias, batch_first, dropout, bidirectional, dtype, unrolled)
        self.nonlinearity = nonlinearity

    def _sequence(self, x: Any, state: tuple, suffix: str, lengths: Any) -> tuple[Any, tuple]:
        weights, reverse = self._weights(suffix), suffix.endswith("_reverse")
        settings = (self.nonlinearity, reverse, lengths, self.unrolled)
        y, h = F.rnn(x, state[0], *weights, *settings)
        return y, (h,)


class LSTM(_Recurrent):
    """Layers of long short-term memory; arguments as `RNN`, but the nonlinearity.

    Its state is a pair: h, which is also the output, and the memory c.
    """

    gates = 4
    parts = 2

    def _sequence(self, x: Any, state: tuple, suffix: str, lengths: Any) -> tuple[Any, tuple]:
        settings = (suffix.endswith("_reverse"), lengths, self.unrolled)
        return F.lstm(x, (state[0], state[1]), *self._weights(suffix), *settings)


class GRU(_Recurrent):
    """Layers of gated recurrent units; arguments as `RNN`, but the nonlinearity."""

    gates = 3

    def _sequence(self, x: Any, state: tuple, suffix: str, lengths: Any) -> tuple[Any, tuple]:
        settings = (suffix.endswith("_reverse"), lengths, self.unrolled)
        y, h = F.gru(x, state[0], *self._weights(suffix), *settings)
        return y, (h,)


# --- truncated backpropagation through time ------------------------------------------------------


def detached(state: Any) -> Any:
    """A state, or a tuple of states, cut off from the graph: its values go on, gradients do not."""
    if isinstance(state, (tuple, list)):
        return tuple(detached(part) for part in state)
    return None if state is None else state.detach()


def truncated_bptt(
    layer: Callable[..., tuple[Any, Any]],
    x: Any,
    loss: Callable[[Any, int, int], Any],
    steps: int,
    state: Any = None,
) -> Iterator[tuple[float, Any]]:
    """Go through long sequences in pieces: states are handed on, gradients stop between pieces.

    After each piece the gradients are in the parameters, so the caller makes a step of the
    optimiser; memory and the depth of the graph are those of one piece.

    Args:
        layer: `layer(x, state) -> (outputs, state)` with time in axis 0, such as `RNN`.
        x: `(T, N, inputs)`.
        loss: `loss(outputs, start, stop)`, a number, for the outputs of steps start to stop - 1.
        steps: the length of a piece, at least 1; the last one may be shorter.
        state: the first state.

    Yields:
        The loss of each piece, and the state after it.

    Raises:
        ValueError: steps below 1.

    >>> import minigrad
    >>> layer, x = RNN(1, 4), minigrad.ones((7, 2, 1))
    >>> losses = [value for value, _ in truncated_bptt(layer, x, lambda y, a, b: y.sum(), steps=3)]
    >>> len(losses)
    3
    """
    if steps < 1:
        raise ValueError(f"truncated_bptt: steps must be at least 1, got {steps}")
    for start in range(0, x.shape[0], steps):
        stop = min(start + steps, x.shape[0])
        outputs, state = layer(x[start:stop], detached(state))
        value = loss(outputs, start, stop)
        value.backward()
        yield float(value), detached(state)
