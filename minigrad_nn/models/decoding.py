"""From probabilities of the next word to whole sentences: by chance, greedily, or by beam search.

All three go forward step by step, since each word is an input of the next step.  What a network is
asked for is one function,

    step(words, state) -> (logits, state, looked)

with words `(B,)`, logits `(B, words)`, a state whose arrays have the batch in axis 1, and what was
looked at `(B, ...)`, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigrad.core import raw
from minigrad.ops.index import getitem
from minigrad.random import Generator, default_generator

__all__ = ["Sentence", "beam_search", "draw_words", "greedy_search"]

Step = Callable[[NDArray[np.int64], Any], tuple[Any, Any, Any]]


class Sentence(NamedTuple):
    """What was decoded.

    Attributes:
        words: their numbers, without those for start and end.
        score: the logarithm of the probability of the whole sentence, its end included.
        ended: whether it came to an end, or was cut off.
        attention: for each word, and the end, where was looked: `(steps, ...)`; or None.
    """

    words: list[int]
    score: float
    ended: bool
    attention: NDArray[Any] | None


def _log_probabilities(logits: Any) -> NDArray[np.float64]:
    x = np.asarray(raw(logits), np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _rows(state: Any, rows: NDArray[np.int64]) -> Any:
    """The same state for other rows of the batch."""
    if isinstance(state, tuple):
        return tuple(_rows(part, rows) for part in state)
    return None if state is None else getitem(state, index=(slice(None), rows))


def draw_words(
    logits: Any, temperature: float = 1.0, generator: Generator | None = None
) -> NDArray[np.int64]:
    """One word for each row, drawn by its probability `softmax(logits / temperature)`.

    Args:
        logits: `(N, words)`.
        temperature: below 1 likely words become likelier, and at 0 only the likeliest is left;
            above 1 it becomes more even.
        generator: `minigrad.random`'s default one if None.

    Raises:
        ValueError: a negative temperature.

    >>> draw_words([[0.0, 5.0, 1.0]], temperature=0).tolist()
    [1]
    """
    if not temperature >= 0:
        raise ValueError(f"draw_words: temperature must be at least 0, got {temperature}")
    x = np.asarray(raw(logits), np.float64)
    if temperature == 0:
        return x.argmax(-1)
    p = np.exp(_log_probabilities(x / temperature))
    source = default_generator() if generator is None else generator
    dice = source.random((len(p), 1), dtype=np.float64)
    # The last sum may be a little below 1; the dice may not fall behind it.
    return np.minimum((np.cumsum(p, -1) <= dice).sum(-1), p.shape[-1] - 1)


def greedy_search(
    step: Step, state: Any, count: int, start: int, end: int, length: int
) -> list[Sentence]:
    """The likeliest word at each step, for a whole batch at once.

    Args:
        step: as the file says.
        state: the first.
        count: how many sentences.
        start, end: numbers of the words that stand for them.
        length: at most so many words each.
    """
    words = np.full(count, start, np.int64)
    sentences: list[list[int]] = [[] for _ in range(count)]
    looks: list[list[Any]] = [[] for _ in range(count)]
    scores = np.zeros(count)
    running = np.ones(count, bool)
    for number in range(length + 1):
        if not running.any():
            break
        logits, state, looked = step(words, state)
        log_p = _log_probabilities(logits)
        # With all its words said, a sentence may still end, but not go on.
        words = log_p.argmax(-1)
        for row in np.flatnonzero(running):
            if number == length and words[row] != end:
                continue
            scores[row] += log_p[row, words[row]]
            if looked is not None:
                looks[row].append(np.asarray(raw(looked))[row])
            if words[row] == end:
                running[row] = False
            else:
                sentences[row].append(int(words[row]))
    return [
        Sentence(said, float(score), not going, np.stack(seen) if seen else None)
        for said, score, going, seen in zip(sentences, scores, running, looks, strict=True)
    ]


def beam_search(step: Step, state: Any, start: int, end: int, width: int, length: int) -> Sentence:
    """The likeliest sentence that is found by following the `width` likeliest beginnings.

    A greedy first word may lead nowhere; with a wide beam another one gets its chance.  Scores are
    not divided by length, so among equals the short ones win.

    Args:
        step: as the file says.
        state: the first, of a batch of one.
        start, end: numbers of the words that stand for them.
        width: of the beam, at least 1.
        length: at most so many words.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"beam_search: width must be at least 1, got {width}")
    beams = [Sentence([], 0.0, False, None)]
    looks: list[list[Any]] = [[]]
    words = np.array([start], np.int64)
    best: Sentence | None = None
    for number in range(length + 1):
        logits, state, looked = step(words, state)
        totals = np.array([beam.score for beam in beams])[:, None] + _log_probabilities(logits)
        order = np.argsort(-totals, axis=None, kind="stable")[:width]
        going: list[tuple[int, int]] = []
        for place in order:
            row, word = divmod(int(place), totals.shape[1])
            if word != end:
                going.append((row, word))
            elif best is None or totals[row, word] > best.score:
                seen = [*looks[row], _look(looked, row)]
                best = Sentence(beams[row].words, float(totals[row, word]), True, _stacked(seen))
        if number == length:
            if best is None:  # none came to an end: the likeliest beginning is what there is
                best = beams[0]._replace(attention=_stacked(looks[0]))
            break
        # Probabilities only get smaller, so what is behind a whole sentence now stays behind it.
        if best is not None:
            going = [(row, word) for row, word in going if totals[row, word] > best.score]
        if not going:
            break
        looks = [[*looks[row], _look(looked, row)] for row, _ in going]
        beams = [
            Sentence([*beams[row].words, word], float(totals[row, word]), False, None)
            for row, word in going
        ]
        words = np.array([word for _, word in going], np.int64)
        state = _rows(state, np.array([row for row, _ in going]))
    assert best is not None
    return best


def _look(looked: Any, row: int) -> Any:
    return None if looked is None else np.asarray(raw(looked))[row]


def _stacked(looks: list[Any]) -> NDArray[Any] | None:
    return np.stack(looks) if looks and looks[0] is not None else None
