"""Rows of numbers that a lecture gives and that the framework computes again.

A row is a function that computes, with the decorator `row` naming the deck, what it is about, and
each `value`.  The decorator makes a test of it, and keeps it for the page `docs/lectures.md`.
Accuracies and speeds that take hours are `measured` values: they are read from the records which
the scripts in `examples/` leave in `examples/results`, and until there is one they are not there.
`python docs/make_lectures.py` writes the page.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "examples" / "results"
DECKS = {
    "000": "Convolutional Networks (Agarwal)",
    "001": "CNN, Convolutional Neural Network (Byun)",
    "002": "Convolutional Neural Networks (Noceti)",
    "003": "Convolutional Neural Network (Laiteerapong)",
    "004": "Convolutional Neural Networks (Huang)",
}

ROWS: dict[tuple[str, str], Row] = {}
"""By the file and the name of the test."""

SHOWN: dict[str, tuple[str, Callable]] = {}
"""The deck and the test, by the name of the test."""


@dataclass(frozen=True)
class Value:
    """A number, or several, of a lecture.

    Attributes:
        what: it is, or "".
        lecture: the value; a string of digits is compared as rounded to as many of them.
        ours: whether it was computed by us instead of printed in a deck (marked + on the page).
        deck: what the deck prints besides, rounded.
        near: the deck's rounded number, and how far away ours may be.
    """

    what: str
    lecture: Any
    ours: bool = False
    deck: str = ""
    near: tuple[float, float] | None = None

    def text(self, found: Any) -> str:
        """A value as the page shows it: rounded where the lecture's is."""
        if isinstance(self.lecture, str) and isinstance(found, (int, float)):
            return f"{found:.{len(self.lecture.partition('.')[2])}f}"
        return written(found)

    def check(self, found: Any) -> None:
        """Raise AssertionError where ours is another."""
        found = plain(found)
        if isinstance(self.lecture, float):
            assert found == pytest.approx(self.lecture), self.what
        elif isinstance(self.lecture, str):
            assert self.text(found) == self.lecture, self.what
        else:
            assert found == self.lecture, self.what
        if self.near is not None:
            number, margin = self.near
            assert abs(found - number) <= margin, f"{self.what}: deck {self.deck}"


def value(what: str, lecture: Any, deck: str = "", near: Any = None) -> Value:
    """A value that is printed in the deck."""
    return Value(what, lecture, False, deck, near)


def plus(what: str, lecture: Any, deck: str = "", near: Any = None) -> Value:
    """A value that was computed by us; the deck may print it rounded."""
    return Value(what, lecture, True, deck, near)


@dataclass(frozen=True)
class Measured:
    """A value that only a long run can give, to be reached and beaten.

    Attributes:
        what: was measured.
        lecture: the deck's number.
        better: whether ours is to be "above" or "below" it.
        beyond: what ours is to be above or below, where the deck's number is of another machine or
            another task; the deck's number if it is None.
        unit: of both.
        record: file in `examples/results` (without suffix), and the keys that lead to the runs
            there: `{seed: {"accuracy": ..., "command": ...}}`, of which the median counts.
        scale: what the number in the record is multiplied by.
        field: the name of the number in each run.
    """

    what: str
    lecture: float
    record: tuple[str, ...]
    better: str = "above"
    beyond: float | None = None
    unit: str = "%"
    scale: float = 100.0
    field: str = "accuracy"

    def runs(self) -> dict[str, dict[str, Any]]:
        """The runs of the record, by seed; empty if nothing was measured yet."""
        path = RESULTS / f"{self.record[0]}.json"
        found: Any = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for key in self.record[1:]:
            found = found.get(key, {})
        return found

    def read(self) -> float | None:
        """The median of the runs, or None."""
        numbers = [self.scale * run[self.field] for run in self.runs().values()]
        return statistics.median(numbers) if numbers else None

    def text(self, found: float | None) -> str:
        """What the page shows."""
        if found is None:
            return "not yet measured"
        runs = self.runs()
        commands = sorted({run["command"] for run in runs.values()})
        of = f" (median of {len(runs)})" if len(runs) > 1 else ""
        return f"{found:.4g} {self.unit}{of}, by " + ", ".join(f"`{c}`" for c in commands)

    def check(self, found: float | None) -> None:
        """Raise AssertionError where it is not reached."""
        if found is not None:
            bound = self.lecture if self.beyond is None else self.beyond
            assert found > bound if self.better == "above" else found < bound, self.what


@dataclass(eq=False)
class Row:
    """Something that a deck computes, and the function that computes it here.

    Attributes:
        decks: numbers of the decks; the first one is where it is shown.
        what: it is about.
        values: one for each number that `compute` returns.
        compute: the function.
    """

    decks: tuple[str, ...]
    what: str
    values: tuple[Any, ...]
    compute: Callable[[], Any]

    @cached_property
    def found(self) -> tuple[Any, ...]:
        """Our values, computed once."""
        found = self.compute()
        found = found if isinstance(found, tuple) and len(self.values) > 1 else (found,)
        assert len(found) == len(self.values), f"{self.what}: {len(found)} values computed"
        return tuple(map(plain, found))

    def check(self) -> None:
        """Raise AssertionError where a value of ours is another than the lecture's."""
        for expected, found in zip(self.values, self.found, strict=True):
            expected.check(found)


def row(decks: str, what: str, *values: Any) -> Callable[[Callable], Callable]:
    """Make a test of a function that computes values of a lecture.

    Args:
        decks: numbers such as "003, 000".
        what: the row is about.
        values: what the function is to return: one, or a tuple of as many as there are.
    """

    def decorate(compute: Callable) -> Callable:
        one = Row(tuple(decks.split(", ")), what, values, compute)
        ROWS[compute.__module__.rpartition(".")[2], compute.__name__] = one

        def test() -> None:
            one.check()
            if any(found is None for found in one.found):
                missing = [v.what for v, f in zip(values, one.found, strict=True) if f is None]
                pytest.skip(f"not yet measured: {', '.join(missing)}")

        test.__name__, test.__doc__ = compute.__name__, f"{decks}: {what}"
        test.row = one
        return test

    return decorate


def shown(deck: str) -> Callable[[Callable], Callable]:
    """Keep a test for the page, as something that a deck says and the test shows."""

    def decorate(test: Callable) -> Callable:
        SHOWN[test.__name__] = (deck, test)
        return test

    return decorate


# --- values as plain data, and as text -----------------------------------------------------------


def plain(found: Any) -> Any:
    """Tensors, arrays and numbers of NumPy as lists and numbers of Python."""
    if hasattr(found, "numpy"):
        found = found.numpy()
    if isinstance(found, (np.ndarray, np.generic)):
        found = found.tolist()
    if isinstance(found, tuple):
        return tuple(map(plain, found))
    if isinstance(found, list):
        return [plain(part) for part in found]
    if isinstance(found, float) and found == round(found) and abs(found) < 2**53:
        return int(found)
    return found


def written(found: Any) -> str:
    """A value as text: numbers with separators, shapes with crosses, rows of a matrix apart."""
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int):
        return f"{found:,}".replace("-", "−")
    if isinstance(found, float):
        return f"{found:.6g}".replace("-", "−")
    if isinstance(found, tuple):
        return " × ".join(map(written, found))
    if isinstance(found, Sequence) and not isinstance(found, str):
        apart = "; " if any(isinstance(part, list) for part in found) else " "
        return apart.join(map(written, found))
    return str(found)
