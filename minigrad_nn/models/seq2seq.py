"""Encoder and decoder: read a whole sequence, then write another one, of any length.

Sources: I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning with neural networks",
2014; attention as in M. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural
machine translation", 2015; the lecture's form "many to many" for translation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import backend
from minigrad.core import raw
from minigrad.ops.elementwise import tanh
from minigrad.ops.index import getitem
from minigrad.ops.shape import concatenate

from ..layers import Dropout, Embedding, Linear
from ..module import Module
from .attention import AdditiveAttention, DotAttention
from .decoding import Sentence, beam_search, greedy_search
from .sequences import check_words, in_use, recurrent, running

__all__ = ["Seq2Seq"]

ATTENTIONS = (None, "additive", "dot")
Memory = tuple[Any, Any, Any]


class Seq2Seq(Module):
    """Two recurrent networks: one reads, and with its last state the other begins to write.

    ================= =========================================== =======================
    part              what it does                                output
    ================= =========================================== =======================
    source_embedding  a vector for each word that is read         (N, S, embedding)
    encoder           reads them                                  (N, S, hidden)
    target_embedding  a vector for the word said last             (N, T, embedding)
    decoder           begins with the encoder's last state        (N, T, hidden)
    attention         averages of the encoder's states, if wanted (N, T, hidden)
    combine           tanh of both, if there is attention         (N, T, hidden)
    output            logits for the next word                    (N, T, target_words)
    ================= =========================================== =======================

    Without attention all that was read must fit into one state, whose size does not depend on how
    long it was.  With it, each step of the decoder looks back at all of them.

    While training, the decoder is given the right words, whatever it would have said ("teacher
    forcing"): `forward`.  In use it is given its own: `decode`.

    Args:
        source_words, target_words: how many words there are on each side.
        hidden: size of a state.
        embedding: length of a word's vector; as `hidden` if None.
        layers: of each network.
        kind: "gru", "lstm" or "rnn".
        attention: None, "additive" (Bahdanau's small network) or "dot" (Luong).
        dropout: on vectors of words, between layers, and in front of the output, while training.
        start, end: numbers of the target words that begin and end a sentence.

    Raises:
        ValueError: another kind or attention, or sizes that do not fit.

    >>> model = Seq2Seq(12, 15, hidden=16, attention="dot")
    >>> model([[3, 4, 5, 0], [6, 3, 4, 4]], [[1, 7, 8], [1, 9, 0]], lengths=[3, 4]).shape
    (2, 3, 15)
    >>> [sentence.ended for sentence in model.decode([[3, 4, 5]], length=0)]
    [False]
    """

    attention: AdditiveAttention | DotAttention | None

    def __init__(
        self,
        source_words: int,
        target_words: int,
        hidden: int = 128,
        embedding: int | None = None,
        layers: int = 1,
        kind: str = "gru",
        attention: str | None = None,
        dropout: float = 0.0,
        start: int = 1,
        end: int = 2,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"Seq2Seq: attention must be one of {ATTENTIONS}, got {attention!r}")
        if not 0 <= start < target_words or not 0 <= end < target_words or start == end:
            raise ValueError(
                f"Seq2Seq: start and end must be two of the {target_words} target words, got "
                f"{start} and {end}"
            )
        self.source_words = source_words
        self.target_words = target_words
        self.start = start
        self.end = end
        width = hidden if embedding is None else embedding
        sizes, settings = (width, hidden, layers), {"batch_first": True, "dropout": dropout}
        self.source_embedding = Embedding(source_words, width)
        self.encoder = recurrent("Seq2Seq", kind, *sizes, **settings)
        self.target_embedding = Embedding(target_words, width)
        self.decoder = recurrent("Seq2Seq", kind, *sizes, **settings)
        self.attention = None
        if attention is not None:
            additive = attention == "additive"
            self.attention = (
                AdditiveAttention(hidden, hidden, hidden) if additive else DotAttention()
            )
            self.combine = Linear(2 * hidden, hidden)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden, target_words)

    def begin(self, sources: Any, lengths: Any = None) -> tuple[Any, Memory]:
        """Read: the state in which the decoder begins, and what it may look back at.

        Args:
            sources: numbers of words, integers `(N, S)`.
            lengths: `(N,)`, where each ends before S.

        Raises:
            TypeError, ValueError: no such words or lengths.
        """
        x = check_words("Seq2Seq", "sources", sources, self.source_words, "(N, S)")
        given = None if lengths is None else backend.on_cpu(raw(lengths))
        read, state = self.encoder(self.dropout(self.source_embedding(x)), None, given)
        mask = None if given is None else running(given, x.shape[1])
        there = None if self.attention is None else self.attention.remember(read)
        return state, (read, there, mask)

    def step(self, words: Any, state: Any, memory: Memory) -> tuple[Any, Any, Any]:
        """Go on by some words: what comes after each of them, the new state, and where was looked.

        Args:
            words: `(N, T)`, numbers of target words.
            state, memory: from `begin`, or the state of the step before.

        Returns:
            Logits `(N, T, target_words)`, the state, and weights `(N, T, S)`, or None without
            attention.
        """
        y = check_words("Seq2Seq", "words", words, self.target_words, "(N, T)")
        h, state = self.decoder(self.dropout(self.target_embedding(y)), state)
        weights = None
        if self.attention is not None:
            read, there, mask = memory
            seen, weights = self.attention(h, read, mask, there)
            h = tanh(self.combine(concatenate([h, seen], -1)))
        return self.output(self.dropout(h)), state, weights

    def forward(
        self, sources: Any, words: Any, lengths: Any = None, return_attention: bool = False
    ) -> Any:
        """Logits for what comes after each word of the right answer.

        Args:
            sources: what is read, integers `(N, S)`.
            words: the answers that the decoder is given, integers `(N, T)`: `start`, and the words
                without the end.  What follows an answer does not matter.
            lengths: `(N,)`, where sources end before S.
            return_attention: return weights `(N, T, S)` beside them.

        Returns:
            `(N, T, target_words)`; to be compared with the words and their end.

        Raises:
            TypeError, ValueError: no such words or lengths.
        """
        state, memory = self.begin(sources, lengths)
        logits, _, weights = self.step(words, state, memory)
        return (logits, weights) if return_attention else logits

    def decode(
        self, sources: Any, lengths: Any = None, length: int = 50, width: int = 1
    ) -> list[Sentence]:
        """Answers, word by word, until the end or so many words.

        Args:
            sources: integers `(N, S)`.
            lengths: `(N,)`, where each ends before S.
            length: at most so many words are said.
            width: of the beam; with 1 the likeliest word is taken at each step, greedily.

        Returns:
            N sentences.

        Raises:
            TypeError, ValueError: no such words or lengths, or a width below 1.
        """
        x = check_words("Seq2Seq.decode", "sources", sources, self.source_words, "(N, S)")
        given = None if lengths is None else np.asarray(raw(lengths))
        with in_use(self):
            if width == 1:
                step, state = self._stepper(x, given)
                return greedy_search(step, state, len(x), self.start, self.end, length)
            found = []
            for row in range(len(x)):
                alone = slice(row, row + 1)
                step, state = self._stepper(x[alone], None if given is None else given[alone])
                found.append(beam_search(step, state, self.start, self.end, width, length))
            return found

    def _stepper(self, sources: NDArray[np.int64], lengths: Any) -> tuple[Any, Any]:
        first, memory = self.begin(sources, lengths)

        def step(words: NDArray[np.int64], state: Any) -> tuple[Any, Any, Any]:
            logits, state, weights = self.step(words[:, None], state, memory)
            here = (slice(None), 0)
            looked = None if weights is None else getitem(weights, index=here)
            return getitem(logits, index=here), state, looked

        return step, first

    def extra_repr(self) -> str:
        """Which words begin and end a sentence."""
        return f"start={self.start}, end={self.end}"
