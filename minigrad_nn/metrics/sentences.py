"""How near sentences come to those that were wanted: words at their places, and BLEU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

__all__ = ["bleu", "exact_match", "ngram_precision", "word_accuracy"]

Sentence = Sequence[Hashable]


def _as_many(name: str, candidates: Sequence, references: Sequence) -> None:
    if len(candidates) != len(references):
        raise ValueError(
            f"{name}: as many references as candidates are wanted, got {len(references)} and "
            f"{len(candidates)}"
        )
    for value in (*candidates[:1], *references[:1]):
        if isinstance(value, str):
            raise TypeError(f"{name}: sentences must be lists of words; split {value!r} first")


def exact_match(candidates: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """The share of sentences that are right to the last word; NaN for none.

    Args:
        candidates: lists of words or tokens.
        references: the right one for each.

    Raises:
        ValueError: another number of them; TypeError: strings instead of lists of words.

    >>> exact_match([["a", "two"], ["a", "six"]], [["a", "two"], ["a", "nine"]])
    0.5
    """
    _as_many("exact_match", candidates, references)
    if not candidates:
        return float("nan")
    right = [list(c) == list(r) for c, r in zip(candidates, references, strict=True)]
    return sum(right) / len(right)


def word_accuracy(candidates: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """The share of places that have the right word; NaN for no places.

    A sentence has as many places as the longer of it and its reference, so words that are missing
    and words too many are wrong.

    Args, Raises: as `exact_match`.

    >>> word_accuracy([["a", "six"]], [["a", "nine", "above"]])
    0.3333333333333333
    """
    _as_many("word_accuracy", candidates, references)
    places = right = 0
    for candidate, reference in zip(candidates, references, strict=True):
        places += max(len(candidate), len(reference))
        right += sum(c == r for c, r in zip(candidate, reference, strict=False))
    return right / places if places else float("nan")


def _ngrams(words: Sentence, n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def ngram_precision(
    candidates: Sequence[Sentence], references: Sequence[Sequence[Sentence]], n: int
) -> tuple[int, int]:
    """How many runs of n words stand in a reference, and how many runs there are.

    A run counts at most as often as in the one reference that has it most often: the modified
    n-gram precision of Papineni and others.

    Args:
        candidates: lists of words or tokens.
        references: for each of them a list of one or more right sentences.
        n: 1 or more.

    Raises:
        ValueError: n below 1, another number of references, or a sentence without one.

    >>> cat, mat = "the the the the the the the".split(), "the cat is on the mat".split()
    >>> ngram_precision([cat], [[mat]], 1)
    (2, 7)
    """
    _as_many("ngram_precision", candidates, references)
    if n < 1:
        raise ValueError(f"ngram_precision: n must be at least 1, got {n}")
    right = total = 0
    for number, (candidate, several) in enumerate(zip(candidates, references, strict=True)):
        if not several or isinstance(several[0], str):
            raise ValueError(
                f"ngram_precision: references of sentence {number} must be a list of one or more "
                f"sentences, each a list of words, got {several!r}"
            )
        most: Counter = Counter()
        for reference in several:
            most |= _ngrams(reference, n)
        found = _ngrams(candidate, n)
        right += (found & most).total()
        total += found.total()
    return right, total


def bleu(
    candidates: Sequence[Sentence], references: Sequence[Sequence[Sentence]], order: int = 4
) -> float:
    """BLEU of a whole text: how many runs of 1 to `order` words are right, and not too few words.

    `min(1, exp(1 - r / c)) * (p_1 ... p_order)^(1 / order)`, where p_n is `ngram_precision`, c the
    number of words and r that of the references nearest in length (the shorter of two as near).
    Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine
    translation", 2002.  There is no smoothing: without one right run of `order` words it is 0.

    Args:
        candidates: lists of words or tokens.
        references: for each of them a list of one or more right sentences.
        order: the longest run; 4 for BLEU-4.

    Returns:
        From 0 to 1.

    Raises:
        ValueError, TypeError: as `ngram_precision`.

    >>> bleu([["a", "two", "above", "a", "six"]], [[["a", "two", "above", "a", "nine"]]], order=1)
    0.8
    """
    if order < 1:
        raise ValueError(f"bleu: order must be at least 1, got {order}")
    counts = [ngram_precision(candidates, references, n + 1) for n in range(order)]
    if not all(right for right, _ in counts):
        return 0.0
    mean = math.exp(sum(math.log(right / total) for right, total in counts) / order)
    words = sum(len(candidate) for candidate in candidates)
    wanted = sum(
        min((abs(len(reference) - len(candidate)), len(reference)) for reference in several)[1]
        for candidate, several in zip(candidates, references, strict=True)
    )
    return mean * min(1.0, math.exp(1.0 - wanted / words))
