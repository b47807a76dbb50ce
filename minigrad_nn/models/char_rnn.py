"""The character RNN: it reads a text letter by letter, and always guesses the next one.

Sources: A. Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015; the
lecture's form "many to many, aligned", and "one to many" when it writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.core import raw
from minigrad.random import Generator
from minigrad.tensor import Tensor

from ..layers import Dropout, Embedding, Linear
from ..module import Module
from .decoding import draw_words
from .sequences import check_words, in_use, recurrent

__all__ = ["CharRNN"]


class CharRNN(Module):
    """Characters, one-hot or embedded; recurrent layers; and logits for the next character.

    ========= ========================================== ===========================
    part      what it does                               output
    ========= ========================================== ===========================
              numbers of characters                      (T, N)
    embedding one-hot, or a learned vector               (T, N, characters or width)
    rnn       h[t] = tanh(W_hh h[t-1] + W_xh x[t] + b)   (T, N, hidden)
    head      y[t] = W_hy h[t] + b                       (T, N, characters)
    ========= ========================================== ===========================

    Args:
        characters: how many there are.
        hidden: size of a state.
        layers: how many recurrent layers are stacked.
        kind: "rnn" for the plain one of the lecture, "lstm" or "gru".
        embedding: width of a learned vector for each character; None for one-hot.
        dropout: how much of each layer's output is dropped while training, the last one's too.
        batch_first: whether inputs and logits are `(N, T)` and `(N, T, characters)`.
        settings: further ones of the recurrent layer, such as `nonlinearity="relu"`.

    Raises:
        ValueError: another kind, or sizes below 1.

    >>> import minigrad
    >>> model = CharRNN(27, hidden=16)
    >>> logits, state = model(minigrad.random.integers((10, 4), 0, 27))
    >>> logits.shape, state.shape
    ((10, 4, 27), (1, 4, 16))
    """

    def __init__(
        self,
        characters: int,
        hidden: int = 128,
        layers: int = 1,
        kind: str = "rnn",
        embedding: int | None = None,
        dropout: float = 0.0,
        batch_first: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        if characters < 1:
            raise ValueError(f"CharRNN: needs at least one character, got {characters}")
        self.characters = characters
        self.batch_first = batch_first
        self.embedding = None if embedding is None else Embedding(characters, embedding)
        self.rnn = recurrent(
            "CharRNN",
            kind,
            characters if embedding is None else embedding,
            hidden,
            layers,
            dropout=dropout,
            batch_first=batch_first,
            **settings,
        )
        self.dropout = Dropout(dropout)
        ways = 2 if self.rnn.bidirectional else 1
        if ways > 1:
            raise ValueError(
                "CharRNN: a bidirectional network has read the character that it is to guess"
            )
        self.head = Linear(hidden, characters)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """Logits for the character after each one, and the state after the last.

        Args:
            x: numbers of characters, integers `(T, N)`, or `(N, T)` with `batch_first`.
            state: the first, as it came out of the last call; 0 if None.
            lengths: `(N,)`, where texts end before T.

        Returns:
            Logits `(T, N, characters)`, or `(N, T, characters)`, and the state.

        Raises:
            TypeError, ValueError: no such numbers.
        """
        axes = "(N, T)" if self.batch_first else "(T, N)"
        x = check_words("CharRNN", "x", x, self.characters, axes)
        outputs, state = self.rnn(self._encoded(x), state, lengths)
        return self.head(self.dropout(outputs)), state

    def _encoded(self, x: NDArray[np.int64]) -> Any:
        if self.embedding is not None:
            return self.embedding(x)
        return Tensor(np.eye(self.characters, dtype=self.head.weight.dtype)[x])

    def generate(
        self,
        start: Any,
        length: int,
        temperature: float = 1.0,
        generator: Generator | None = None,
        state: Any = None,
        stop: int | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """Write: each character that is drawn is the next input.

        Args:
            start: what is read first, at least one character: integers `(T,)`, or `(T, N)` (with
                `batch_first` `(N, T)`) for N texts at once.
            length: so many characters are written.
            temperature: as for `draw_words`; 0 takes the likeliest always.
            generator: draws; `minigrad.random`'s default one if None.
            state: the first; 0 if None.
            stop: a character before which a single text ends.

        Returns:
            The characters written, `(length,)` or fewer, or `(length, N)` (or `(N, length)`); and
            the state in which the last of them is still to be read, so that
            `generate(found[-1:], more, state=state)` goes on.

        Raises:
            TypeError, ValueError: no such numbers, or `stop` for several texts.
        """
        given = np.asarray(raw(start))
        single = given.ndim < 2
        if stop is not None and not single:
            raise ValueError("CharRNN.generate: stop is for a single text, got several")
        if single:
            x = check_words("CharRNN.generate", "start", given, self.characters, "(T)")[:, None]
        else:
            x = check_words("CharRNN.generate", "start", given, self.characters, "(T, N)")
            x = x.T if self.batch_first else x
        found = []
        with in_use(self):
            for _ in range(length):
                logits, state = self(x.T if self.batch_first else x, state)
                last = logits.numpy()[:, -1] if self.batch_first else logits.numpy()[-1]
                drawn = draw_words(last, temperature, generator)
                if single and drawn[0] == stop:
                    break
                found.append(drawn)
                x = drawn[None]
        text = np.array(found, np.int64).reshape(len(found), x.shape[1])
        if single:
            return text[:, 0], state
        return (text.T if self.batch_first else text), state

    def extra_repr(self) -> str:
        """How many characters it knows."""
        return f"characters={self.characters}"
