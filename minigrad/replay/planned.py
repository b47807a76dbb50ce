"""A captured step on NumPy's arrays as a list of calls, whose buffers are planned ahead.

The way from an operation to what computes it is Python: checks, tables, shapes, memory for the
result.  Where shapes are the same each time, it leads to the same calls of compiled kernels and of
NumPy, so `minigrad.noting` writes them down, and from then on they are all that a replay does.

The first replay goes piece by piece, and sees which pieces cannot be noted, and which arrays
besides the step's last (tables that are made once); the second notes what it calls.
Each array that a call reads or writes is one of

- *lasting*: a parameter or a table, which is where it is;
- *given*: an argument, or what a piece gives that is called as ever;
- *kept*: what leaves the step (gradients, results), new in each replay;
- *planned*: all others have places in one block, where those share memory that are not in use at
  the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigrad import backend, noting
from minigrad.memory import release_idle
from minigrad.noting import Call, Notebook, Noted, NotRecorded, Owner, Place
from minigrad.replay.entries import Entry
from minigrad.replay.pieces import WORK, Piece, arranged, classify, pieces_of
from minigrad.replay.tape import Recorder
from minigrad.replay.writing import Writer, hand, slots_of

__all__ = ["Planned", "offsets", "planned_of"]

ALIGNMENT = 64
LARGE = 1 << 25
"""Planned bytes from which idle memory is returned to the system before they are taken."""


def planned_of(writer: Writer, recorder: Recorder) -> Planned | None:
    """A program as calls, where all of its arrays are NumPy's; else None."""
    kinds = {type(data) for _, data, _ in recorder.tensors.values()}
    kinds.update(kind for kind in recorder.kinds.values() if backend.device_of_type(kind))
    return Planned(writer, recorder) if kinds == {np.ndarray} else None


def offsets(lives: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Places for buffers, and the bytes of all: those in use at the same time do not overlap.

    The largest first, each at the lowest place that is free while it lives (Pisarchyk and Lee,
    "Efficient Memory Management for Deep Neural Net Inference", 2020).

    Args:
        lives: for each buffer its bytes, and the times of its first and last use.

    >>> offsets([(64, 0, 1), (128, 1, 2), (64, 2, 3)])
    ([128, 0, 128], 192)
    """
    sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size, _, _ in lives]
    found = [0] * len(lives)
    begins, ends = (np.array([life[i] for life in lives], np.int64) for i in (1, 2))
    starts, stops = np.zeros(len(lives), np.int64), np.zeros(len(lives), np.int64)
    placed = np.zeros(len(lives), bool)
    for i in sorted(range(len(lives)), key=lambda i: -sizes[i]):
        beside = np.flatnonzero(placed & (begins <= ends[i]) & (ends >= begins[i]))
        at = 0
        for j in beside[np.argsort(starts[beside], kind="stable")]:
            if starts[j] - at >= sizes[i]:
                break
            at = max(at, int(stops[j]))
        found[i] = at
        starts[i], stops[i], placed[i] = at, at + sizes[i], True
    return found, int(stops.max(initial=0))


class _Step:
    """A part of a replay.

    Attributes:
        dropped: memory of this replay that nobody needs after it.
    """

    def __init__(self) -> None:
        self.dropped: list[Owner] = []

    def places(self) -> Iterator[Place]:
        """All places that it looks at, or writes to."""
        return iter(())

    def settle(self, static: Callable[[Any], Any]) -> None:
        """Put arrays into all places where they stay."""

    def __call__(self, turn: _Turn) -> None:
        """Do it."""
        raise NotImplementedError  # each kind of step has its own


class _Run(_Step):
    """Calls in a row."""

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__()
        self.calls = list(calls)
        self._groups: list[tuple[Any, list[tuple[Any, Any]]]] = []

    def places(self) -> Iterator[Place]:
        for call in self.calls:
            yield from _places((call.args, call.keywords))

    def settle(self, static: Callable[[Any], Any]) -> None:
        self._groups = []
        for call in self.calls:
            if not self._groups or call.errors not in (None, self._groups[-1][0]):
                self._groups.append((call.errors, []))
            args, keywords = static(call.args), static(call.keywords)
            ready: tuple[Callable[..., Any], Any]
            if next(_places((args, keywords)), None) is None:
                ready = partial(call.function, *args, **keywords), None
            else:
                ready = call.function, (args, keywords)
            self._groups[-1][1].append(ready)

    def __call__(self, turn: _Turn) -> None:
        for errors, group in self._groups:
            if errors is None or errors == turn.errors:
                _call_all(group, turn.bound)
            else:
                with np.errstate(**errors):
                    _call_all(group, turn.bound)
        for owner in self.dropped:
            turn.bound.pop(owner, None)


def _call_all(group: list[tuple[Any, Any]], bound: dict[Owner, np.ndarray]) -> None:
    for function, moving in group:
        if moving is None:
            function()
        else:
            args, keywords = moving
            function(*_filled(args, bound), **_filled(keywords, bound))


def _places(value: Any) -> Iterator[Place]:
    """All places in a nested value."""
    kind = type(value)
    if kind is Place:
        yield value
    elif kind is tuple or kind is dict:
        for part in value.values() if kind is dict else value:
            yield from _places(part)


def _mapped(change: Callable[[Place], Any], value: Any) -> Any:
    kind = type(value)
    if kind is Place:
        return change(value)
    if kind is tuple:
        return tuple([_mapped(change, part) for part in value])
    if kind is dict:
        return {name: _mapped(change, part) for name, part in value.items()}
    return value


def _filled(value: Any, bound: dict[Owner, np.ndarray]) -> Any:
    """A nested value with this replay's arrays in its places."""
    kind = type(value)
    if kind is Place:
        return _at(value, bound)
    if kind is tuple:
        return tuple([_filled(part, bound) for part in value])
    if kind is dict:
        return {name: _filled(part, bound) for name, part in value.items()}
    return value


def _at(place: Place, bound: dict[Owner, np.ndarray]) -> np.ndarray:
    """The array at a place in memory of this replay."""
    owner = place.owner
    memory = bound.get(owner)
    if memory is None:
        memory = bound[owner] = np.empty(owner.shape, owner.dtype)
    whole = place.shape == memory.shape and place.strides == memory.strides
    return memory if whole and place.dtype == memory.dtype else place.within(memory)


class _Called(_Step):
    """A piece that is called as ever."""

    def __init__(self, piece: Piece, sources: dict[int, Any]) -> None:
        super().__init__()
        self._piece = piece
        self._sources = sources  # where its arguments are, as far as noted calls know
        self._ready: dict[int, Any] = {}

    def places(self) -> Iterator[Place]:
        return _places(self._sources)

    def settle(self, static: Callable[[Any], Any]) -> None:
        self._ready = {number: static(source) for number, source in self._sources.items()}

    def __call__(self, turn: _Turn) -> None:
        frame, bound = turn.frame, turn.bound
        for number, source in self._ready.items():
            frame[number] = _at(source, bound) if type(source) is Place else source
        for owner in self.dropped:
            bound.pop(owner, None)
        piece, source = self._piece, None
        if piece.entry.kind == "hand":
            gradients = [frame[g] if type(g) is int else g for g in piece.gradients]
            for number in piece.last:
                frame.pop(number, None)
            hand(piece.function(turn.leaves), gradients)
        else:
            piece.run(frame, turn.leaves)


class _Bound(_Step):
    """What an argument is, or a called piece gave, is where calls expect it."""

    def __init__(self, number: int, owner: Owner) -> None:
        super().__init__()
        self._number, self._owner = number, owner

    def __call__(self, turn: _Turn) -> None:
        turn.bound[self._owner] = _open(turn.frame[self._number])


def _open(array: np.ndarray) -> np.ndarray:
    """An array as calls take it: in C order, and of a type that kernels know."""
    if not array.flags.c_contiguous:
        array = array.copy()
    return noting.writable(array)


class _Turn:
    """One replay."""

    def __init__(self, leaves: Any) -> None:
        self.leaves = leaves
        self.errors = np.geterr()
        self.frame: dict[int, Any] = {}
        self.bound: dict[Owner, np.ndarray] = {}


class Planned:
    """A program that is replayed by calls.

    Attributes:
        noted: how many calls a replay makes without the way to them; 0 before they are noted.
        calls: how many pieces it calls as ever besides.
        nbytes: of the planned block.
        plain: whether nothing can be noted, so that the program itself is as good.
    """

    graphs = 0

    def __init__(self, writer: Writer, recorder: Recorder) -> None:
        self._inputs = [slot.number for slot in recorder.inputs]
        pieces, self._result = pieces_of(writer)
        noted, _ = pieces_of(writer, lambda value: value.view(Noted))
        classify(pieces, dict(recorder.kinds), np.ndarray)
        self._noting: dict[Piece, Callable[..., Any]] = {}
        for piece, other in zip(pieces, noted, strict=True):
            self._noting[piece] = other.function
        self._pieces = arranged(pieces, self._inputs)
        self._returned = list(dict.fromkeys(slots_of(recorder.result)))
        needed = set(self._returned)
        for piece in reversed(self._pieces):
            piece.last = [n for n in {*piece.takes, *piece.gives} if n not in needed]
            needed.update(piece.takes)
        held = [value for value in writer.names.scope.values() if type(value) is np.ndarray]
        held += [data for _, data, _ in recorder.tensors.values()]
        self._lasting = {id(array): array for array in map(backend.storage, held)}
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._settings = _settings()
        self._tables: dict[int, np.ndarray] | None = None
        self._steps: list[_Step] = []
        self._results: dict[int, Any] = {}
        self._places: dict[Owner, int] = {}
        self._settled = False
        self.noted = self.calls = self.nbytes = 0
        for piece in self._pieces:
            piece.work = piece.entry.kind in WORK and _is_ours(piece.entry)
        self.plain = not any(piece.work for piece in self._pieces)

    def run(self, arrays: Sequence[Any], leaves: Any) -> tuple[bool, Any]:
        """Replay; whether it was done, and the result.

        It is not done while another thread does it, since the memory is there once; nor where an
        argument shares memory with a lasting tensor, or is not in C order.
        """
        if self.plain or not all(array.flags.c_contiguous for array in arrays):
            return False, None
        if any(id(backend.storage(array)) in self._lasting for array in arrays):
            return False, None
        if not self._lock.acquire(blocking=False):
            return False, None
        try:
            if self._settings != _settings():
                self._begin()
            turn = _Turn(leaves)
            turn.frame.update(zip(self._inputs, arrays, strict=True))
            if not self._steps:
                return True, self._note(turn)
            if not self._settled:
                self._settle()
            for step in self._steps:
                step(turn)
            return True, self._finish(turn)
        finally:
            self._lock.release()

    def _finish(self, turn: _Turn) -> Any:
        """The result of a replay."""
        values = []
        for number in self._returned:
            source = self._results.get(number)
            if source is None:
                values.append(turn.frame[number])
            else:
                values.append(_at(source, turn.bound) if type(source) is Place else source)
        return self._result(turn.leaves, *values)

    # --- noting ----------------------------------------------------------------------------------

    def _note(self, turn: _Turn) -> Any:
        """Replay piece by piece, and note what it calls: for good from the second time on."""
        rehearsal = self._tables is None
        book = Notebook({**self._lasting, **(self._tables or {})}, rehearsal)
        steps: list[_Step] = []
        for number in self._inputs:
            _give(book, steps, turn, number)
        sources: dict[int, Any] = {}
        for piece in self._pieces:
            if not (piece.work and self._noted(book, steps, turn, piece)):
                _call(book, steps, turn, piece)
        for number in self._returned:
            value = turn.frame[number]
            if isinstance(value, np.ndarray) and book.knows(value):
                sources[number] = book.place(value, keep=True)
        found = self._finish(turn)
        if rehearsal:
            self._tables = book.strange
            self.plain = not any(piece.work for piece in self._pieces)
        else:
            self._plan(steps, sources)
        return found

    def _noted(self, book: Notebook, steps: list[_Step], turn: _Turn, piece: Piece) -> bool:
        """Note a piece; whether that could be done."""
        frame, mark = turn.frame, len(book.calls)
        try:
            for number in piece.takes:
                value = frame[number]
                if type(value) is not np.ndarray:
                    raise NotRecorded(f"takes a {type(value).__name__}")
                if not book.knows(value):
                    _give(book, steps, turn, number)
            values = [frame[number].view(Noted) for number in piece.takes]
            with book.open(), np.errstate(**(piece.errors or {})):
                found = self._noting[piece](turn.leaves, *values)
            for value in found:
                if not isinstance(value, np.ndarray):
                    raise NotRecorded(f"gives a {type(value).__name__}")
                book.place(value)
        except Exception as refused:  # an error of the step's own is told when the piece is called
            del book.calls[mark:]
            piece.work, piece.left = False, [str(refused)]
            return False
        frame.update(zip(piece.gives, map(book.whole, found), strict=True))
        for number in piece.last:
            frame.pop(number, None)
        if steps and isinstance(steps[-1], _Run):
            steps[-1].calls.extend(book.calls[mark:])
        else:
            steps.append(_Run(book.calls[mark:]))
        return True

    # --- planning --------------------------------------------------------------------------------

    def _plan(self, steps: list[_Step], results: dict[int, Any]) -> None:
        """Find places for all that is neither given nor kept, and where the rest is done with."""
        last: dict[Owner, _Step | None] = {}
        for step in steps:
            for place in step.places():
                last[place.owner] = step
        for place in _places(results):
            last[place.owner] = None
        planned = [owner for owner in last if not owner.given and not owner.kept]
        found, self.nbytes = offsets([(o.nbytes, o.first, o.last) for o in planned])
        self._places = dict(zip(planned, found, strict=True))
        for owner, final in last.items():
            if final is not None and owner not in self._places:
                final.dropped.append(owner)
        self._steps, self._results = steps, results
        self.noted = sum(len(step.calls) for step in steps if isinstance(step, _Run))
        self.calls = sum(isinstance(step, _Called) for step in steps)
        self._tables = {}

    def _settle(self) -> None:
        """Take the planned memory, and put arrays into all places where they stay."""
        if self.nbytes > LARGE:  # what recording has left behind is idle from here on
            release_idle("cpu")
        block = np.empty(self.nbytes + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT

        def there(place: Place) -> Any:
            at = self._places.get(place.owner)
            return place if at is None else place.within(block, start + at)

        static = partial(_mapped, there)
        for step in self._steps:
            step.settle(static)
        self._results = static(self._results)
        self._settled = True


def _give(book: Notebook, steps: list[_Step], turn: _Turn, number: int) -> None:
    """Take up an array that is another one in each replay."""
    array = turn.frame[number]
    if not array.flags.c_contiguous:
        raise NotRecorded("takes an array that is not in C order, of a piece that is called")
    owner, shown = book.give(array)
    steps.append(_Bound(number, owner))
    turn.frame[number] = shown


def _call(book: Notebook, steps: list[_Step], turn: _Turn, piece: Piece) -> None:
    """Call a piece, and write down where its arguments are."""
    sources = {}
    for number in piece.takes:
        value = turn.frame[number]
        if isinstance(value, np.ndarray) and book.knows(value):
            keep = piece.entry.kind == "hand" or not piece.pure
            sources[number] = book.place(value, keep=keep)
    book.time += 1
    value = None  # who else refers to it would make it look shared
    steps.append(_Called(piece, sources))
    steps[-1](turn)


def _settings() -> Any:
    """What calls depend on besides the step; what was noted holds while it is equal."""
    return np.geterr(), *(ask() for ask in noting.settings)


def _is_ours(entry: Entry) -> bool:
    """Whether an operation's functions are known to decide by values only where they say so."""
    if entry.kind not in ("op", "pull"):
        return True
    op = entry.about[0]
    kernel = backend.kernel_of(op, ())
    return all(map(_is_known, (op.forward, op.backward, kernel, *op.rules)))


def _is_known(function: Any) -> bool:
    module = getattr(function, "__module__", None)
    return (
        function is None
        or isinstance(function, np.ufunc)
        or (
            isinstance(module, str)
            and module.partition(".")[0] in ("minigrad", "minigrad_nn", "numpy")
        )
    )
