"""Small languages made by rule, to see what a recurrent network learns: no file, no noise.

Each split is a function of the seed and the count.  Which split a text belongs to is decided by a
hash of it, so no text of a test split is in a training split, whatever the seeds and counts.
"""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Callable
from typing import SupportsIndex

from minigrad.random import Generator, as_generator

from .samplers import _count
from .sequences import SPECIALS, LabelledTexts, TextPairs
from .vocabulary import Characters, Words

__all__ = ["Dates", "Reversals", "Sentiments"]

SPLITS = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
# So many draws in vain, and the language has no further text.
PATIENCE = 10_000


class Reversals(TextPairs):
    """Random strings and the same read backwards, such as "abcd" and "dcba".

    Nothing but the order is to be learned: an encoder must keep the whole string in its state.

    Args:
        split: `"train"`, `"validation"` or `"test"`; no string is in two of them.
        count: N, how many pairs, all different.
        seed: a number or a generator (which is forked, not drawn from).
        alphabet: two or more different characters.
        lengths: the shortest and the longest string; each length between is equally likely.

    Raises:
        TypeError, ValueError: another split; arguments of which no such pairs can be made.

    >>> pairs = Reversals("test", count=2)
    >>> for number in range(2):
    ...     print(pairs.source(number))
    'zeobbf' -> 'fbboez'
    'yktrnua' -> 'aunrtky'
    """

    def __init__(
        self,
        split: str = "train",
        count: int = 10_000,
        seed: Generator | SupportsIndex = 0,
        *,
        alphabet: str = "abcdefghijklmnopqrstuvwxyz",
        lengths: tuple[int, int] = (3, 10),
    ) -> None:
        shortest, longest = (_count("lengths", length, least=1) for length in lengths)
        if shortest > longest or len(set(alphabet)) < max(2, len(alphabet)):
            raise ValueError(
                "Reversals needs lengths (shortest, longest) and an alphabet of two or more "
                f"different characters, got {lengths} and {alphabet!r}"
            )

        def string(draw: _Draws) -> str:
            length = shortest + draw.below(longest - shortest + 1)
            return "".join(alphabet[draw.below(len(alphabet))] for _ in range(length))

        sources = _distinct("reversals", split, count, seed, string)
        vocabulary = Characters(alphabet, SPECIALS)
        super().__init__(sources, [text[::-1] for text in sources], vocabulary, vocabulary)
        self.split = split


MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


# How people write a date.  Each is unambiguous: with slashes the month comes first, with dots the
# day, and a year of two digits is between 1950 and 2049.
FORMATS: tuple[Callable[[datetime.date, str, str], str], ...] = (
    lambda d, month, day: f"{d.day} {month} {d.year}",
    lambda d, month, day: f"{month} {d.day}, {d.year}",
    lambda d, month, day: f"{day}, {month} {d.day}, {d.year}",
    lambda d, month, day: f"{day} {d.day} {month} {d.year}",
    lambda d, month, day: f"the {_ordinal(d.day)} of {month} {d.year}",
    lambda d, month, day: f"{month} {_ordinal(d.day)} {d.year}",
    lambda d, month, day: f"{day[:3]}, {d.day} {month[:3]} {d.year}",
    lambda d, month, day: f"{d.day} {month[:3]} {d.year % 100:02}",
    lambda d, month, day: f"{d.day:02}-{month[:3]}-{d.year % 100:02}",
    lambda d, month, day: f"{d.month}/{d.day}/{d.year}",
    lambda d, month, day: f"{d.month:02}/{d.day:02}/{d.year % 100:02}",
    lambda d, month, day: f"{d.day}.{d.month}.{d.year}",
    lambda d, month, day: f"{d.day:02}.{d.month:02}.{d.year % 100:02}",
    lambda d, month, day: f"{d.year} {month} {d.day}",
    lambda d, month, day: f"{d.year}/{d.month:02}/{d.day:02}",
)


class Dates(TextPairs):
    """Dates as people write them, and as ISO 8601: "Sat, 3 May 1980" and "1980-05-03".

    There are 15 forms, in lower case, upper case or as usual; the days are from 1950 to 2049.  With
    slashes the month comes first, with dots the day.

    Args:
        split: `"train"`, `"validation"` or `"test"`; no day, in whatever form, is in two of them.
        count: N, how many pairs, all with different sources.
        seed: a number or a generator (which is forked, not drawn from).

    Raises:
        TypeError, ValueError: another split, or a count that is negative or too large.

    >>> pairs = Dates("test", count=2)
    >>> for number in range(2):
    ...     print(pairs.source(number))
    '11.05.56' -> '1956-05-11'
    'Monday 30 April 1973' -> '1973-04-30'
    """

    def __init__(
        self,
        split: str = "train",
        count: int = 10_000,
        seed: Generator | SupportsIndex = 0,
    ) -> None:
        days = (LAST - FIRST).days + 1
        targets: dict[str, str] = {}

        def date(draw: _Draws) -> tuple[str, str]:
            day = FIRST + datetime.timedelta(days=draw.below(days))
            write = FORMATS[draw.below(len(FORMATS))]
            text = write(day, MONTHS[day.month - 1], DAYS[day.weekday()])
            return (text, text.lower(), text.upper())[draw.below(3)], day.isoformat()

        def source(draw: _Draws) -> str:
            text, target = date(draw)
            targets[text] = target
            return text

        sources = _distinct("dates", split, count, seed, source, targets.__getitem__)
        digits = Characters("-0123456789", SPECIALS)
        super().__init__(sources, [targets[text] for text in sources], _date_letters(), digits)
        self.split = split


def _date_letters() -> Characters:
    """Every character that a date can be written with."""
    samples = [
        write(datetime.date(1950, month, day), MONTHS[month - 1], DAYS[day % 7])
        for write in FORMATS
        for month in range(1, 13)
        for day in range(1, 29)
    ]
    texts = ["0123456789", *samples, *map(str.lower, samples), *map(str.upper, samples)]
    return Characters.of(texts, SPECIALS)


THINGS = ("film", "music", "story", "acting", "ending", "plot", "food", "service", "room", "view")
GOOD = ("good", "great", "lovely", "clever", "brilliant", "charming", "fresh", "superb")
BAD = ("bad", "awful", "boring", "stupid", "terrible", "dull", "stale", "poor")
DEGREES = ("", "very ", "really ", "rather ")
NEGATIONS = ("not ", "never ", "hardly ")


class Sentiments(LabelledTexts):
    """Sentences of a small language and what they say in the end: 1 for good, 0 for bad.

    A clause praises or blames a thing, and a negation turns it round: "the film was not very good".
    Clauses joined by "and" agree; "but" and "although" stand between opposites.  What counts comes
    after "but", and before "although": "the plot was dull but the music was never boring" is good,
    and so is "the music was never boring although the plot was dull".  The tokens are words.

    The words alone do not tell: a sentence of opposites has the same words as the one with its
    halves exchanged, which is as likely and says the opposite.  Whatever a classifier makes of a
    bag of words, it gets half of these sentences right, and they are about half of all.

    Args:
        split: `"train"`, `"validation"` or `"test"`; no sentence is in two of them.
        count: N, how many sentences, all different.
        seed: a number or a generator (which is forked, not drawn from).

    Raises:
        TypeError, ValueError: another split, or a count that is negative or too large.

    >>> sentences = Sentiments("test", count=2)
    >>> for number in range(2):
    ...     print(sentences.texts[number], "->", sentences.classes[sentences.labels[number]])
    the film was hardly very superb and the view was never clever -> bad
    the film was fresh -> good
    """

    classes = ("bad", "good")

    def __init__(
        self,
        split: str = "train",
        count: int = 10_000,
        seed: Generator | SupportsIndex = 0,
    ) -> None:
        sentences = _distinct("sentiments", split, count, seed, _sentence)
        labels = [sentiment(text) for text in sentences]
        words = " ".join((*THINGS, *GOOD, *BAD, *DEGREES, *NEGATIONS, "the was and but although"))
        super().__init__(sentences, labels, Words.of(words, SPECIALS))
        self.split = split


def _clause(draw: _Draws, good: bool) -> str:
    """A thing is said to be good, or bad."""
    negated = draw.below(2) == 1
    words = GOOD if good != negated else BAD
    negation = NEGATIONS[draw.below(len(NEGATIONS))] if negated else ""
    thing, degree = THINGS[draw.below(len(THINGS))], DEGREES[draw.below(len(DEGREES))]
    return f"the {thing} was {negation}{degree}{words[draw.below(len(words))]}"


def _half(draw: _Draws, good: bool) -> str:
    """One or two clauses that agree."""
    return " and ".join(_clause(draw, good) for _ in range(1 + draw.below(2)))


def _sentence(draw: _Draws) -> str:
    good, joined = draw.below(2) == 1, ("", "", "but", "although")[draw.below(4)]
    half = _half(draw, good)
    return f"{half} {joined} {_half(draw, not good)}" if joined else half


def sentiment(sentence: str) -> int:
    """What a sentence of `Sentiments` says in the end, read by the rules: 1 for good, 0 for bad.

    >>> sentiment("the film was good but the plot was really awful")
    0
    >>> sentiment("the film was not bad although the plot was really awful")
    1
    """
    # The end of the clause that counts: "was", a negation, a degree, and how it was.
    words = sentence.partition(" although ")[0].split()[-3:]
    negated = any(word in words for word in map(str.strip, NEGATIONS))
    return int((words[-1] in GOOD) != negated)


class _Draws:
    """Random whole numbers one by one, drawn many at a time."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._drawn: list[float] = []

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1, each equally likely."""
        if not self._drawn:
            self._drawn = self._generator.random(4096, dtype="float64").tolist()
        return math.floor(self._drawn.pop() * limit)


def _distinct(
    language: str,
    split: str,
    count: int,
    seed: Generator | SupportsIndex,
    make: Callable[[_Draws], str],
    key: Callable[[str], str] = str,
) -> list[str]:
    """Different texts of a language whose keys belong to a split."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    count = _count("count", count)
    draw = _Draws(as_generator(seed).fork(language, split))
    found: dict[str, None] = {}
    vain = 0
    while len(found) < count:
        text = make(draw)
        if text in found or _tenth(key(text)) not in SPLITS[split]:
            vain += 1
            if vain > PATIENCE:
                raise ValueError(
                    f"there seem to be only about {len(found)} different texts for {split!r}, and "
                    f"{count} are wanted; give a smaller count, or choose from more texts"
                )
        else:
            found[text] = None
            vain = 0
    return list(found)


def _tenth(text: str) -> int:
    """One of ten parts of all texts, by a hash that is the same on every machine."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()[0] * 10 // 256
