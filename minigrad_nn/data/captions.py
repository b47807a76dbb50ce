"""Sentences about scenes of digits: how they are made, read back, checked and turned into numbers.

    caption = thing { relation thing }
    thing   = ("a" | "an") [colour] number
    relation = "left of" | "above"

The digits are named in the order of their distance from the top left corner, measured along the
diagonal: the first of two neighbours in it is then always left of, or above, the second.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "COLOURS",
    "END",
    "NUMBERS",
    "PAD",
    "RELATIONS",
    "START",
    "WORDS",
    "decode",
    "describe",
    "encode",
    "holds",
    "longest",
    "parse",
    "relation",
    "relation_accuracy",
]

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = ("red", "green", "blue", "yellow", "pink", "white")
RELATIONS = ("left of", "above")
WORDS = ("<pad>", "<start>", "<end>", "a", "an", "left", "of", "above", *NUMBERS, *COLOURS)
"""The vocabulary: a word's number is its place."""
PAD, START, END = range(3)

_NUMBER_OF = {word: number for number, word in enumerate(WORDS)}
Thing = tuple[int, int | None]


def _article(word: str) -> str:
    return "an" if word == "eight" else "a"  # "one" begins with the sound of "won"


def relation(first: ArrayLike, second: ArrayLike) -> str | None:
    """How the first of two boxes lies to the second; None if it is right of or below it.

    The centres decide: of the ways across and down, the longer one counts, and a tie counts as
    across.

    Args:
        first: (4,), x0, y0, x1, y1.
        second: (4,).

    >>> relation([0, 0, 10, 10], [20, 5, 30, 15])
    'left of'
    >>> relation([0, 0, 10, 10], [5, 20, 15, 30])
    'above'
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    across, down = ((b[:2] + b[2:]) - (a[:2] + a[2:])) / 2
    if abs(across) >= abs(down):
        return "left of" if across > 0 else None
    return "above" if down > 0 else None


def describe(classes: ArrayLike, boxes: ArrayLike, colours: ArrayLike | None = None) -> list[str]:
    """The caption of a scene, as words.

    Args:
        classes: (n,), digits 0 to 9, at least one of them.
        boxes: (n, 4), x0, y0, x1, y1.
        colours: (n,), places in `COLOURS`; None leaves them out.

    Raises:
        ValueError: no digits, lengths that differ, or two boxes with the same centre.

    >>> " ".join(describe([8, 3], [[30, 4, 40, 20], [2, 5, 16, 24]]))
    'a three left of an eight'
    """
    names, corners = np.asarray(classes), np.asarray(boxes, np.float64)
    if not len(names) or corners.shape != (len(names), 4):
        raise ValueError(
            f"describe: classes must be (n,) and boxes (n, 4) with n > 0, got {names.shape} and "
            f"{corners.shape}"
        )
    # Where the diagonal does not decide, what is further left comes first.
    order = np.lexsort((corners[:, 0] + corners[:, 2], corners.sum(1)))
    words: list[str] = []
    for k, here in enumerate(order):
        if k:
            told = relation(corners[order[k - 1]], corners[here])
            if told is None:
                raise ValueError(
                    f"describe: boxes {order[k - 1]} and {here} have the same centre, so neither "
                    "is left of the other"
                )
            words += told.split()
        noun = NUMBERS[names[here]]
        adjective = [] if colours is None else [COLOURS[np.asarray(colours)[here]]]
        words += [_article((adjective or [noun])[0]), *adjective, noun]
    return words


def parse(words: Sequence[str]) -> tuple[list[Thing], list[str]]:
    """What a caption says: its things, as (digit, colour or None), and the relations between them.

    Args:
        words: without <start>, <end> and <pad>.

    Raises:
        ValueError: no sentence of this grammar; the message names the first word that is not.

    >>> parse("a three left of an eight".split())
    ([(3, None), (8, None)], ['left of'])
    """
    things: list[Thing] = []
    told: list[str] = []
    rest = list(words)

    def take(wanted: str, allowed: Iterable[str]) -> str:
        if not rest or rest[0] not in allowed:
            got = repr(rest[0]) if rest else "the end"
            raise ValueError(f"parse: word {len(words) - len(rest)} must be {wanted}, got {got}")
        return rest.pop(0)

    while True:
        article = take("'a' or 'an'", ("a", "an"))
        first = take("a colour or a number", (*COLOURS, *NUMBERS))
        if article != _article(first):
            raise ValueError(f"parse: {article!r} does not stand before {first!r}")
        colour = COLOURS.index(first) if first in COLOURS else None
        number = first if colour is None else take("a number", NUMBERS)
        things.append((NUMBERS.index(number), colour))
        if not rest:
            return things, told
        if take("'left', 'above' or the end", ("left", "above")) == "left":
            take("'of'", ("of",))
            told.append("left of")
        else:
            told.append("above")


def holds(
    words: Sequence[str], classes: ArrayLike, boxes: ArrayLike, colours: ArrayLike | None = None
) -> bool:
    """Whether a caption is true of a scene: it names each digit once, and its relations hold.

    It need not be the caption that `describe` gives, only a true one.  What is no sentence is not
    true.

    Args:
        words: without <start>, <end> and <pad>.
        classes, boxes, colours: as for `describe`; without colours, those told are not checked.
    """
    try:
        things, told = parse(words)
    except ValueError:
        return False
    names, corners = np.asarray(classes), np.asarray(boxes, np.float64)
    hues = None if colours is None else np.asarray(colours)
    if sorted(number for number, _ in things) != sorted(names.tolist()):
        return False
    for order in itertools.permutations(range(len(names))):
        fits = all(
            number == names[i] and (hues is None or colour is None or colour == hues[i])
            for (number, colour), i in zip(things, order, strict=True)
        )
        if fits and all(
            relation(corners[order[k]], corners[order[k + 1]]) == told[k] for k in range(len(told))
        ):
            return True
    return False


def relation_accuracy(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """For each relation, the share of those in references that candidates tell of the same things.

    Things are the same if digit and colour are.  A candidate that is no sentence tells of none.

    Args:
        candidates: captions as words.
        references: the right one for each.

    Returns:
        By relation; NaN for one that no reference tells of.

    Raises:
        ValueError: another number of references, or one that is no sentence.

    >>> told = "a one left of a two left of a three".split()
    >>> relation_accuracy([told], ["a one left of a two above a three".split()])
    {'left of': 1.0, 'above': 0.0}
    """
    if len(candidates) != len(references):
        raise ValueError(
            f"relation_accuracy: as many references as candidates are wanted, got "
            f"{len(references)} and {len(candidates)}"
        )
    right, total = Counter[str](), Counter[str]()
    for candidate, reference in zip(candidates, references, strict=True):
        wanted = _facts(reference)
        try:
            both = wanted & _facts(candidate)
        except ValueError:
            both = Counter()
        for facts, counts in ((both, right), (wanted, total)):
            for (_, told, _), count in facts.items():
                counts[told] += count
    return {name: right[name] / total[name] if total[name] else np.nan for name in RELATIONS}


def _facts(words: Sequence[str]) -> Counter[tuple[Thing, str, Thing]]:
    """What a caption says of each two things that stand beside each other in it."""
    things, told = parse(words)
    return Counter(zip(things[:-1], told, things[1:], strict=True))


def longest(digits: int, coloured: bool) -> int:
    """How many tokens the longest caption of so many digits has, <start> and <end> included."""
    return digits * (3 if coloured else 2) + (digits - 1) * 2 + 2


def encode(words: Sequence[str], length: int) -> NDArray[np.int64]:
    """A caption as tokens, (length,): <start>, its words, <end>, and <pad> to the end.

    Raises:
        ValueError: an unknown word, or a caption that is too long.

    >>> encode(["a", "two"], 6).tolist()
    [1, 3, 10, 2, 0, 0]
    """
    unknown = [word for word in words if word not in _NUMBER_OF]
    if unknown:
        raise ValueError(f"encode: {unknown} stand not in the vocabulary {WORDS}")
    if len(words) + 2 > length:
        raise ValueError(f"encode: {len(words)} words with start and end do not fit in {length}")
    tokens = np.full(length, PAD, np.int64)
    tokens[: len(words) + 2] = [START, *(_NUMBER_OF[word] for word in words), END]
    return tokens


def decode(tokens: Any) -> list[str]:
    """The words of tokens, (length,), up to the first <end>, without <start> and <pad>.

    >>> decode([1, 3, 10, 2, 5])
    ['a', 'two']
    """
    words = []
    for token in np.asarray(tokens).tolist():
        if token == END:
            break
        if token not in (START, PAD):
            words.append(WORDS[token])
    return words
