"""Captions for pictures: a convolutional network looks, and a recurrent one tells.

Sources: O. Vinyals, A. Toshev, S. Bengio, D. Erhan, "Show and tell: a neural image caption
generator", 2015; K. Xu and others, "Show, attend and tell: neural image caption generation with
visual attention", 2015; the lecture's "CNN + RNN".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import backend
from minigrad.core import raw
from minigrad.effects import value
from minigrad.ops.elementwise import sigmoid, tanh, where
from minigrad.ops.index import getitem
from minigrad.ops.reduce import mean
from minigrad.ops.reduce import sum as sum_over
from minigrad.ops.shape import concatenate, expand_dims, reshape, stack, swapaxes

from .. import init
from ..layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Embedding,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    ReLU,
)
from ..module import Module, Sequential
from .attention import AdditiveAttention
from .decoding import Sentence, Step, beam_search, greedy_search
from .sequences import check_words, in_use, recurrent

__all__ = ["AttentionCaptioner", "Captioner", "attention_penalty", "small_encoder"]

FEEDS = ("input", "state")


def small_encoder(in_channels: int = 1, widths: Sequence[int] = (16, 32, 64)) -> Sequential:
    """A small convolutional network: maps `(N, widths[-1], H / 8, W / 8)` of pictures.

    Args:
        in_channels: of the pictures.
        widths: filters of each stage, which is a convolution of 3x3, batch norm, ReLU and a pool.
    """
    layers: list[Module] = []
    for given, width in zip((in_channels, *widths), widths, strict=False):
        conv = Conv2d(given, width, 3, padding=1, bias=False)
        init.kaiming_normal_(conv.weight)
        layers += [conv, BatchNorm2d(width), ReLU(), MaxPool2d(2)]
    return Sequential(*layers)


class _Teller(Module):
    """What the two captioners have in common: words, and telling them one by one."""

    def __init__(self, encoder: Module, features: int, words: int, start: int, end: int) -> None:
        super().__init__()
        if not 0 <= start < words or not 0 <= end < words or start == end:
            raise ValueError(
                f"{type(self).__name__}: start and end must be two of the {words} words, got "
                f"{start} and {end}"
            )
        self.encoder = encoder
        self.features = features
        self.words = words
        self.start = start
        self.end = end

    def begin(self, pictures: Any) -> tuple[Any, Any]:
        """Look: the first state, and what may be looked at again; each captioner has its own."""
        raise NotImplementedError(f"{type(self).__name__} does not define begin()")

    def step(self, words: Any, state: Any, memory: Any) -> tuple[Any, Any, Any]:
        """Go on by one word: logits, state, and where was looked."""
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    def decode(self, pictures: Any, length: int = 20, width: int = 1) -> list[Sentence]:
        """Captions, word by word, until the end or so many words.

        Args:
            pictures: `(N, C, H, W)`.
            length: at most so many words are said.
            width: of the beam; with 1 the likeliest word is taken at each step, greedily.

        Returns:
            N captions, with where was looked for each word if there is attention.

        Raises:
            ValueError: pictures that the encoder does not take, or a width below 1.
        """
        with in_use(self):
            if width == 1:
                state, step = self._stepper(pictures)
                count = pictures.shape[0]
                return greedy_search(step, state, count, self.start, self.end, length)
            found = []
            for row in range(pictures.shape[0]):
                state, step = self._stepper(pictures[row : row + 1])
                found.append(beam_search(step, state, self.start, self.end, width, length))
            return found

    def _stepper(self, pictures: Any) -> tuple[Any, Step]:
        first, memory = self.begin(pictures)
        return first, lambda words, state: self.step(words, state, memory)

    def _words(self, words: Any, axes: str) -> NDArray[np.int64]:
        return check_words(type(self).__name__, "words", words, self.words, axes)

    def _refuse(self, found: tuple[int, ...], wanted: str) -> None:
        raise ValueError(
            f"{type(self).__name__}: the encoder must give {wanted}, got shape {found}; features= "
            "says how many it gives"
        )

    def extra_repr(self) -> str:
        """How many words it knows, and which of them begin and end a caption."""
        return f"words={self.words}, start={self.start}, end={self.end}"


def _first_state(made: Any, layers: int, parts: int) -> Any:
    """`(N, parts * layers * hidden)` as a state of recurrent layers."""
    count, size = made.shape[0], made.shape[1] // (parts * layers)
    split = swapaxes(reshape(made, (count, parts * layers, size)), 0, 1)
    if parts == 1:
        return split
    pieces = (slice(i * layers, (i + 1) * layers) for i in range(parts))
    return tuple(getitem(split, index=(piece,)) for piece in pieces)


class Captioner(_Teller):
    """Show and tell: the picture is the first thing that the recurrent network hears.

    ========= ================================================= ====================
    part      what it does                                      output
    ========= ================================================= ====================
    encoder   looks; maps are averaged over all places          (N, features)
    see       makes a vector like a word's of that, or a state  (N, embedding)
    norm      batch norm, so that it is as loud as a word       (N, embedding)
    embedding a vector for the word said last                   (N, T, embedding)
    decoder   LSTM                                              (N, T, hidden)
    output    logits for the next word                          (N, T, words)
    ========= ================================================= ====================

    The norm is not in the paper, which begins with an encoder that was trained before: averages
    over all places differ so little at first that a decoder hardly hears them.

    While training, the decoder is given the right words, whatever it would have said ("teacher
    forcing"): `forward`.  In use it is given its own: `decode`.

    Args:
        encoder: makes features `(N, features)`, or maps `(N, features, H, W)`, of pictures.
        features: how many.
        words: how many there are.
        embedding: length of a word's vector.
        hidden: size of a state.
        layers: of the decoder.
        kind: "lstm", "gru" or "rnn".
        feed: "input" shows the picture as if it were the first word (Vinyals and others); "state"
            makes the first state of it.
        dropout: on vectors of words, between layers, and in front of the output, while training.
        start, end: numbers of the words that begin and end a caption.

    Raises:
        ValueError: another kind or feed, or words that do not fit.

    >>> import minigrad
    >>> model = Captioner(small_encoder(), 64, words=20, hidden=32)
    >>> model(minigrad.zeros((2, 1, 32, 32)), [[1, 5, 6], [1, 7, 0]]).shape
    (2, 3, 20)
    """

    def __init__(
        self,
        encoder: Module,
        features: int,
        words: int,
        embedding: int = 64,
        hidden: int = 128,
        layers: int = 1,
        kind: str = "lstm",
        feed: str = "input",
        dropout: float = 0.0,
        start: int = 1,
        end: int = 2,
    ) -> None:
        super().__init__(encoder, features, words, start, end)
        if feed not in FEEDS:
            raise ValueError(f"Captioner: feed must be one of {FEEDS}, got {feed!r}")
        self.feed = feed
        self.average = GlobalAvgPool()
        self.embedding = Embedding(words, embedding)
        self.decoder = recurrent("Captioner", kind, embedding, hidden, layers, dropout=dropout)
        made = embedding if feed == "input" else self.decoder.parts * layers * hidden
        self.see = Linear(features, made)
        self.norm = BatchNorm1d(made)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden, words)

    def begin(self, pictures: Any) -> tuple[Any, None]:
        """Look: the decoder's state once it knows the pictures, and nothing to look at again."""
        found = self.encoder(pictures)
        if found.ndim == 4:
            found = self.average(found)
        if found.ndim != 2 or found.shape[1] != self.features:
            self._refuse(found.shape, f"(N, {self.features}) or (N, {self.features}, H, W)")
        seen = self.norm(self.see(found))
        if self.feed == "state":
            return _first_state(tanh(seen), self.decoder.num_layers, self.decoder.parts), None
        return self.decoder(expand_dims(seen, 0))[1], None

    def step(self, words: Any, state: Any, memory: None = None) -> tuple[Any, Any, None]:
        """Go on by one word.

        Args:
            words: `(N,)`, those said last.
            state: from `begin`, or the step before.

        Returns:
            Logits for the next word `(N, words)`, the state, and None.
        """
        y = self._words(words, "(N)")
        h, state = self.decoder(self.dropout(self.embedding(y[None])), state)
        return self.output(self.dropout(getitem(h, index=0))), state, None

    def forward(self, pictures: Any, words: Any, lengths: Any = None) -> Any:
        """Logits for what comes after each word of the right caption.

        Args:
            pictures: `(N, C, H, W)`.
            words: the captions that the decoder is given, integers `(N, T)`: `start`, and the words
                without the end.
            lengths: `(N,)`, where they end before T; behind it the logits mean nothing, with or
                without lengths.

        Returns:
            `(N, T, words)`; to be compared with the words and their end.

        Raises:
            TypeError, ValueError: no such words or lengths, or features that do not fit.
        """
        y = self._words(words, "(N, T)")
        state, _ = self.begin(pictures)
        h, _ = self.decoder(self.dropout(self.embedding(y.T)), state, lengths)
        return swapaxes(self.output(self.dropout(h)), 0, 1)


class AttentionCaptioner(_Teller):
    """Show, attend and tell: before each word, look at the places that matter for it.

    =========== ================================================ ==================
    part        what it does                                     output
    =========== ================================================ ==================
    encoder     looks                                            (N, features, H, W)
    first       makes the first state of the average place       (N, hidden)
    attention   weighs places by the state, and averages them    (N, features)
    gate        how much that average matters now                (N, 1)
    embedding   a vector for the word said last                  (N, embedding)
    decoder     LSTM, of that word and what was seen             (N, hidden)
    from_state  and from_seen: both as vectors like a word's     (N, embedding)
    output      logits for the next word                         (N, words)
    =========== ================================================ ==================

    Args:
        encoder: makes maps `(N, features, H, W)` of pictures.
        features, words, embedding, hidden, layers, kind, dropout, start, end: as for `Captioner`.
        width: of the small network that weighs; as `hidden` if None.

    Raises:
        ValueError: another kind, or words that do not fit.

    >>> import minigrad
    >>> model = AttentionCaptioner(small_encoder(), 64, words=20, hidden=32)
    >>> logits, weights = model(minigrad.zeros((2, 1, 32, 48)), [[1, 5, 6], [1, 7, 0]])
    >>> logits.shape, weights.shape
    ((2, 3, 20), (2, 3, 4, 6))
    """

    def __init__(
        self,
        encoder: Module,
        features: int,
        words: int,
        embedding: int = 64,
        hidden: int = 128,
        layers: int = 1,
        kind: str = "lstm",
        width: int | None = None,
        dropout: float = 0.0,
        start: int = 1,
        end: int = 2,
    ) -> None:
        super().__init__(encoder, features, words, start, end)
        self.embedding = Embedding(words, embedding)
        self.decoder = recurrent(
            "AttentionCaptioner", kind, embedding + features, hidden, layers, dropout=dropout
        )
        self.first = Linear(features, self.decoder.parts * layers * hidden)
        self.attention = AdditiveAttention(hidden, features, hidden if width is None else width)
        self.gate = Linear(hidden, 1)
        self.from_state = Linear(hidden, embedding)
        self.from_seen = Linear(features, embedding)
        self.dropout = Dropout(dropout)
        self.output = Linear(embedding, words)

    def begin(self, pictures: Any) -> tuple[Any, Any]:
        """Look: the first state, and the places that may be looked at again."""
        maps = self.encoder(pictures)
        if maps.ndim != 4 or maps.shape[1] != self.features:
            self._refuse(maps.shape, f"maps (N, {self.features}, H, W)")
        count, features, height, width = maps.shape
        places = swapaxes(reshape(maps, (count, features, height * width)), 1, 2)
        start = tanh(self.first(mean(places, axis=1)))
        state = _first_state(start, self.decoder.num_layers, self.decoder.parts)
        return state, (places, self.attention.remember(places), (height, width))

    def step(self, words: Any, state: Any, memory: Any) -> tuple[Any, Any, Any]:
        """Go on by one word.

        Args:
            words: `(N,)`, those said last.
            state, memory: from `begin`, or the state of the step before.

        Returns:
            Logits for the next word `(N, words)`, the state, and where was looked `(N, H, W)`.
        """
        places, remembered, size = memory
        h = getitem(state[0] if isinstance(state, tuple) else state, index=-1)
        seen, weights = self.attention(expand_dims(h, 1), places, None, remembered)
        seen = sigmoid(self.gate(h)) * getitem(seen, index=(slice(None), 0))
        word = self.dropout(self.embedding(self._words(words, "(N)")))
        y, state = self.decoder(expand_dims(concatenate([word, seen], -1), 0), state)
        mixed = word + self.from_state(getitem(y, index=0)) + self.from_seen(seen)
        looked = reshape(weights, (weights.shape[0], *size))
        return self.output(self.dropout(mixed)), state, looked

    def forward(self, pictures: Any, words: Any, lengths: Any = None) -> tuple[Any, Any]:
        """Logits for what comes after each word of the right caption, and where was looked.

        Args:
            pictures, words: as for `Captioner.forward`.
            lengths: `(N,)`, where captions end before T; from there on weights are 0, and logits
                mean nothing.

        Returns:
            Logits `(N, T, words)`, and weights `(N, T, H, W)`, which add up to 1 for each word.

        Raises:
            TypeError, ValueError: no such words or lengths, or features that do not fit.
        """
        y = self._words(words, "(N, T)")
        state, memory = self.begin(pictures)
        logits, looks = [], []
        for t in range(y.shape[1]):
            said, state, looked = self.step(_column(y, t), state, memory)
            logits.append(said)
            looks.append(looked)
        weights = stack(looks, 1)
        if lengths is not None:
            ends = backend.on_cpu(raw(lengths))
            ends = np.asarray(ends) if isinstance(ends, (list, tuple)) else ends
            if ends.shape != y.shape[:1] or ends.dtype.kind not in "iu":
                raise ValueError(
                    f"AttentionCaptioner: lengths must be {y.shape[0]} integers, one for each "
                    f"caption, got {ends.dtype} of shape {ends.shape}"
                )
            weights = where(_alive(ends, y.shape[1]), weights, 0.0)
        return stack(logits, 1), weights


@value
def _alive(ends: Any, steps: int) -> Any:
    """Which words of each caption are words, `(N, T, 1, 1)`."""
    return (np.arange(steps) < np.asarray(ends)[:, None])[:, :, None, None]


@value
def _column(words: Any, step: int) -> Any:
    return words[:, step]


def attention_penalty(weights: Any) -> Any:
    """How unevenly a caption looked: `sum((1 - sum(weights over words)) ** 2)` over all places.

    Added to the loss with a small factor, it asks to look at every place once ("doubly stochastic
    attention", Xu and others).

    Args:
        weights: `(N, T, H, W)`.

    Returns:
        The mean over captions.
    """
    missed = 1.0 - sum_over(weights, axis=1)
    return sum_over(missed * missed) * (1.0 / weights.shape[0])
