"""The entries of a captured program as functions of their own, and which of them can be noted.

A device that notes work (see `stretches`) can note operations on its own arrays, and effects that
say that they do nothing else.  What looks only at arguments of the step, or at Python's state, is
brought before such work where that changes nothing, so that little stands between it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import backend, effects
from minigrad.replay.entries import Entry, Held, Made, Slot, Source
from minigrad.replay.writing import Writer, compiled, resolved, slots_of
from minigrad.tensor import Tensor

__all__ = ["WORK", "Piece", "arranged", "classify", "is_value", "pieces_of"]

WORK = ("op", "pull", "sum", "add", "spread", "onto", "scatter")


class Piece:
    """One entry of a program, or gradients that are handed together.

    Attributes:
        entry: what it does.
        function: does it, with the leaves and the values of `takes`; gives those of `gives`.
        work: whether it can be noted.
        moves: whether it may be called before operations that stand before it.
        pure: whether it keeps nothing that it is given.
        last: values that nobody needs after it.
        launches: how often it asked the device for something.
        left: what it did that cannot be noted.
    """

    def __init__(self, entry: Entry, function: Callable[..., Any], errors: Any) -> None:
        self.entry, self.function = entry, function
        self.takes = list(dict.fromkeys(slots_of((entry.args, entry.params))))
        self.gives = [out.number for out in entry.outs if out is not None]
        self.errors = None if errors is None else dict(errors)
        self.work = self.moves = False
        self.pure = entry.kind != "effect" or entry.function in effects.pure
        self.gradients: list[Any] = []
        self.last: list[int] = []
        self.launches = 0
        self.left: list[str] = []

    def run(self, frame: dict[int, Any], leaves: Any, given: dict[int, Any] | None = None) -> None:
        """Do it; `given` are other arrays for some values."""
        if given:
            values = [given.get(n, frame[n]) for n in self.takes]
        else:
            values = [frame[n] for n in self.takes]
        if self.errors is None:
            found = self.function(leaves, *values)
        else:
            with np.errstate(**self.errors):
                found = self.function(leaves, *values)
        del values
        for number, value in zip(self.gives, found, strict=True):
            frame[number] = value
        for number in self.last:
            frame.pop(number, None)


def pieces_of(
    writer: Writer, shown: Callable[[np.ndarray], Any] | None = None
) -> tuple[list[Piece], Callable[..., Any]]:
    """The entries of a program, each with a function of its own, and what makes the result.

    With `shown`, their constant NumPy arrays are what that makes of them.
    """
    groups: list[tuple[list[Entry], Any]] = []
    errors: Any = None
    for entry in writer.order:
        if entry.kind in ("begin", "end"):
            errors = entry.about if entry.kind == "begin" else None
        elif entry.kind == "hand" and groups and groups[-1][0][0].kind == "hand":
            groups[-1][0].append(entry)
        else:
            groups.append(([entry], errors))
    names = [writer.names.fresh(f"piece{i}") for i in range(len(groups) + 1)]
    sources = [
        writer.leaves_piece(name, entries)
        if entries[0].kind == "hand"
        else writer.piece(name, entries[0])
        for name, (entries, _) in zip(names, groups, strict=False)
    ]
    sources.append(writer.result_piece(names[-1]))
    scope = writer.names.scope
    if shown is not None:
        scope = {k: shown(v) if type(v) is np.ndarray else v for k, v in scope.items()}
    scope = compiled("\n\n".join(sources), scope)
    pieces = []
    for name, (entries, errors) in zip(names, groups, strict=False):
        piece = Piece(entries[0], scope.pop(name), errors)
        if entries[0].kind == "hand":
            given = [entry.args[1] for entry in entries]
            piece.takes = list(dict.fromkeys(slots_of(given)))
            piece.gradients = [g.number if isinstance(g, Slot) else resolved(g) for g in given]
        pieces.append(piece)
    return pieces, scope.pop(names[-1])


def _held(reference: Any) -> Iterable[Any]:
    """The constants and lasting tensors in a reference, slots left out."""
    if isinstance(reference, Held):
        yield reference
    elif isinstance(reference, Source):
        yield reference
    elif isinstance(reference, Made):
        yield from _held(reference.of)
    elif isinstance(reference, dict):
        yield from _held(list(reference.values()))
    elif isinstance(reference, (tuple, list)) and not isinstance(reference, Slot):
        for part in reference:
            yield from _held(part)


def classify(pieces: Sequence[Piece], kinds: dict[int, type], kind: type) -> None:
    """Which pieces may be noted, as far as it can be told from what they take and give."""
    noted: set[int] = set()  # values that are no arrays, of pieces that are noted
    for piece in pieces:
        entry = piece.entry
        lasting = list(_held((entry.args, entry.params)))
        arrays = [
            one.tensor._data
            if isinstance(one, Source)
            else one.value._data
            if isinstance(one.value, Tensor)
            else one.value
            for one in lasting
            if isinstance(one, Source) or one.array or isinstance(one.value, Tensor)
        ]
        there = any(type(a) is kind for a in arrays)
        there = there or any(kinds.get(n) is kind for n in piece.takes)
        # What is in an array of the host may be another at each replay.
        elsewhere = any(
            isinstance(one, Held) and isinstance(one.value, np.ndarray) and not one.by_value
            for one in lasting
        )
        fits = entry.kind in WORK or (
            entry.kind == "effect"
            and (entry.function in effects.pure or entry.function in effects.writers)
        )
        opaque = [n for n in piece.gives if not is_value(kinds.get(n))]
        piece.work = (
            fits
            and there
            and not elsewhere
            and all(kinds.get(n) is kind or n in noted for n in piece.takes)
            and all(kinds.get(n) is kind or n in opaque for n in piece.gives)
        )
        if piece.work:
            noted.update(opaque)
        alone = not arrays or all(isinstance(a, np.ndarray) for a in arrays)
        alone = alone and not any(isinstance(one, Source) for one in lasting)
        piece.moves = (piece.pure and alone and entry.kind in ("op", "effect")) or (
            entry.kind == "effect" and entry.function in effects.asides
        )


def is_value(kind: type | None) -> bool:
    """Whether values of a kind are arrays or numbers; what is not, such as a lazy gradient, is."""
    return (
        kind is None
        or issubclass(kind, (np.ndarray, np.generic, float, int))
        or (backend.device_of_type(kind) is not None)
    )


def arranged(pieces: Sequence[Piece], inputs: Iterable[int]) -> list[Piece]:
    """Pieces in an order in which few stand between those that are noted.

    What only looks at arguments, or at Python's state, goes before operations; never before
    another effect.
    """
    found: list[Piece] = []
    spot = 0  # where the next that moves is put
    known = set(inputs)
    there = set(known)
    for piece in pieces:
        if piece.moves and not piece.work and there.issuperset(piece.takes):
            found.insert(spot, piece)
            spot += 1
            there.update(piece.gives)
        else:
            found.append(piece)
            if not piece.work:
                spot, there = len(found), set(known)
                there.update(piece.gives)
        known.update(piece.gives)
    return found
