"""A captured step in stretches: what a device is asked for as a whole, and what is called between.

Some devices can note the work that they are asked for, and do it again at one request (CUDA graphs;
`backend.Device.graphs`).  What they note is addresses and numbers.  So of a program only operations
on arrays of that device can be noted, and effects that say that they do nothing else
(`effects.writing`); what looks at Python's state, such as an optimiser's step or a generator of
random numbers, is called as ever, between two *stretches* of noted work.

The first replay goes piece by piece and sees which pieces cannot be noted after all; the second
notes each stretch and asks for it; from the third on each is one request.  Memory is what makes
this more than a list:

- What comes from Python (arguments, random numbers) is copied to buffers that stay where they are.
- Noted work has memory of its own.  Its values are known later by their places there.
- What leaves the step must not change when it is replayed again.  Results are copied.  Gradients,
  and arrays that effects are given, are copied by the noted work itself to buffers that are then
  *lent*; where somebody still has what was lent the last time, the stretch is computed as if it
  were not noted, and all is noted anew, with copies that are given from then on.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from minigrad import backend
from minigrad.replay.pieces import Piece, arranged, classify, is_value, pieces_of
from minigrad.replay.tape import Recorder
from minigrad.replay.writing import Writer, hand, slots_of

__all__ = ["Maker", "Stretches", "stretches_of"]


class Maker(Protocol):
    """What a device notes work with, for one program: what `backend.Device.graphs` makes."""

    def settings(self) -> Any:
        """What work depends on besides the step; what was noted holds while it is equal."""

    def watching(self) -> AbstractContextManager[Any]:
        """See what work asks for: `.launches`, and `.left`, what of it cannot be noted."""

    def begin(self) -> None:
        """Make room for what is noted now."""

    def record(self, work: Callable[[], None]) -> Any:
        """Note work without doing it; what is given has `launch()` and `launches`."""

    def keep(self, array: Any) -> Any:
        """A buffer for an array, which stays where it is and is used for nothing else."""

    def fill(self, target: Any, array: Any) -> None:
        """Copy elements."""

    def lend(self, array: Any) -> Any:
        """A new array over a buffer."""

    def owns(self, array: Any) -> bool:
        """Whether noted work may write to an array's memory when it is done again."""

    def again(self, array: Any) -> Any:
        """The place of an array of noted work, which it does not hold."""


def stretches_of(writer: Writer, recorder: Recorder) -> Stretches | None:
    """A program in pieces, where its arrays lie on a device that notes work; else None."""
    found = {
        kind: device.graphs
        for kind in {*recorder.kinds.values(), *_lasting_kinds(recorder)}
        if (device := backend.device_of_type(kind)) is not None and device.graphs is not None
    }
    if len(found) != 1:
        return None
    ((kind, make),) = found.items()
    return Stretches(writer, recorder, kind, make)


def _lasting_kinds(recorder: Recorder) -> set[type]:
    return {type(data) for _, data, _ in recorder.tensors.values()}


class Stretch:
    """Pieces that are noted together.

    Attributes:
        takes: values from before, gives: values that are needed after, lends: those of them which
            are handed out; inputs, outs, lent: where they are.
        graph: what was noted.
        writes: lasting arrays that it writes into, and the writer.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        made = {n for piece in pieces for n in piece.gives}
        gone = {n for piece in pieces for n in piece.last}
        taken = dict.fromkeys(n for piece in pieces for n in piece.takes)
        self.takes = [n for n in taken if n not in made]
        self.gives = [n for n in made if n not in gone]
        self.last = [n for n in self.takes if n in gone]
        self.lends: list[int] = []
        self.graph: Any = None
        self.inputs: dict[int, Any] = {}
        self.outs: dict[int, Any] = {}
        self.lent: dict[int, Any] = {}
        self.writes: list[tuple[Any, str]] = []

    def run(self, frame: dict[int, Any], leaves: Any) -> None:
        """Compute it, as if it were not noted."""
        for piece in self.pieces:
            piece.run(frame, leaves)


# --- replaying -----------------------------------------------------------------------------------


class Stretches:
    """A program that is replayed in stretches.

    Attributes:
        graphs: how many stretches of noted work a replay asks for; 0 before they are noted.
        calls: how many pieces it calls besides.
        plain: whether nothing is to be noted, so that the program itself is as good.
    """

    noted = nbytes = 0

    def __init__(
        self, writer: Writer, recorder: Recorder, kind: Any, make: Callable[[], Maker]
    ) -> None:
        self._kind, self._make = kind, make
        self._maker: Maker = make()
        self._inputs = [slot.number for slot in recorder.inputs]
        self._pieces, self._result = pieces_of(writer)
        self._returned = list(dict.fromkeys(slots_of(recorder.result)))
        self._kinds = dict(recorder.kinds)
        lasting = [backend.storage(data) for _, data, _ in recorder.tensors.values()]
        self._lasting = {id(array): array for array in lasting}
        self._lock = threading.Lock()
        self._parts: list[Any] = []
        self._begin()
        self.plain = not any(piece.work for piece in self._pieces)

    def _begin(self) -> None:
        """All that can be known before a replay has shown more."""
        self._settings = self._maker.settings()
        self._rehearsed = self.plain = False
        self._forget()
        classify(self._pieces, self._kinds, self._kind)
        self._plan()

    def _forget(self, copied: Iterable[int] = ()) -> None:
        """Nothing is noted, and nothing lent; `copied` are values of which only copies are."""
        self._buffers: dict[int, Any] = {}
        self._lent: dict[int, Any] = {}
        self._out: dict[int, weakref.ref] = {}
        self._copied = set(copied)
        self._noted = False
        self.graphs = self.calls = 0

    def _plan(self) -> None:
        """What is noted together, and until when each value is needed."""
        self._pieces = arranged(self._pieces, self._inputs)
        needed = set(self._returned)
        for piece in reversed(self._pieces):
            piece.last = [n for n in {*piece.takes, *piece.gives} if n not in needed]
            needed.update(piece.takes)
        self._parts = []
        for piece in self._pieces:
            if not piece.work:
                self._parts.append(piece)
            elif self._parts and isinstance(self._parts[-1], list):
                self._parts[-1].append(piece)
            else:
                self._parts.append([piece])
        handed: set[int] = set()
        for i, part in enumerate(self._parts):
            if isinstance(part, Piece):
                if part.entry.kind == "hand" or not part.pure:
                    handed.update(part.takes)
            else:
                self._parts[i] = Stretch(part)
        for part in self._stretches():
            part.lends = [n for n in part.gives if n in handed]

    def _stretches(self) -> list[Stretch]:
        return [part for part in self._parts if isinstance(part, Stretch)]

    def run(self, arrays: Sequence[Any], leaves: Any) -> tuple[bool, Any]:
        """Replay; whether it was done, and the result.

        It is not done while another thread does it, since the memory is there once; nor where an
        argument shares memory with a lasting tensor, which the step may write to.
        """
        if self.plain or any(id(backend.storage(array)) in self._lasting for array in arrays):
            return False, None
        if not self._lock.acquire(blocking=False):
            return False, None
        try:
            frame = dict(zip(self._inputs, arrays, strict=True))
            if self._settings != self._maker.settings():
                self._drop()
                self._begin()
            if not self._rehearsed:
                return True, self._rehearse(frame, leaves)
            if not self._noted:
                return True, self._note(frame, leaves)
            turn = _Turn(self, frame, leaves)
            found = turn.take()
            if turn.kept:
                # The next replay notes all anew, in other places, and hands out copies.
                self._drop(self._copied | turn.kept)
            return True, found
        finally:
            self._lock.release()

    def _rehearse(self, frame: dict[int, Any], leaves: Any) -> Any:
        """Replay piece by piece, and see which cannot be noted."""
        turn = _Turn(self, frame, leaves)
        lasting = set(self._lasting)
        outside = lasting.union(id(backend.storage(frame[n])) for n in self._inputs)
        lends = {n for part in self._stretches() for n in part.lends}
        spoiled = False
        for piece in self._pieces:
            before = backend.last_write
            values = [frame[n] for n in piece.takes] if piece.entry.kind == "effect" else ()
            with self._maker.watching() as watch:
                turn.call(piece)
            for number in lends.intersection(piece.gives):
                # What copies it is not to be loaded while work is noted.
                if type(value := frame.get(number)) is self._kind:
                    self._maker.fill(self._maker.keep(value), value)
                value = None
            if backend.last_write != before:
                wrote = {id(array) for array, _ in backend.writes_since(before)}
                taken = {id(backend.storage(value)) for value in values if backend.is_array(value)}
                # Values of the step, of which others may have views: copies of them would not do.
                spoiled |= bool((wrote & taken) - outside)
                if not wrote <= lasting:
                    watch.left.append("writes into an array that may be another one")
            piece.launches = watch.launches
            if piece.work:
                piece.work, piece.left = not watch.left, watch.left
        values = ()
        found = turn.result()
        refused = [piece for piece in self._pieces if not piece.work]
        classify(self._pieces, self._kinds, self._kind)
        for piece in refused:
            piece.work = False
        self._refuse_opaque()
        self._plan()
        for part in self._stretches():
            if not any(piece.launches for piece in part.pieces):  # views only
                for piece in part.pieces:
                    piece.work = False
        self._refuse_opaque()
        self._plan()
        self.plain = spoiled or not self._stretches()
        self._rehearsed = True
        return found

    def _refuse_opaque(self) -> None:
        """What is no array cannot be copied: who takes it is noted only where it is made so."""
        loose: set[int] = set()
        for piece in self._pieces:
            if loose.intersection(piece.takes):
                piece.work = False
            if not piece.work:
                loose.update(n for n in piece.gives if not is_value(self._kinds.get(n)))

    def _note(self, frame: dict[int, Any], leaves: Any) -> Any:
        """Replay, and note each stretch before it is asked for."""
        turn = _Turn(self, frame, leaves)
        try:
            self._maker.begin()
            found = turn.take()
        except BaseException:  # the step's own, such as a wrong label: the next replay begins anew
            self._drop()
            raise
        if turn.failure is None:
            self._noted = True
            self.graphs = len(self._stretches())
            self.calls = len(self._parts) - self.graphs
        else:
            self.plain = True
            self._drop()
            warnings.warn(
                f"this step is replayed without graphs: {turn.failure}",
                RuntimeWarning,
                stacklevel=5,
            )
        return found

    def _drop(self, copied: Iterable[int] = ()) -> None:
        """Give back all that was noted, and its memory."""
        for part in self._stretches():
            part.graph = None
            part.inputs, part.outs, part.lent = {}, {}, {}
        self._forget(copied)
        self._maker = self._make()


class _Turn:
    """One replay: the values so far, by number."""

    def __init__(self, owner: Stretches, frame: dict[int, Any], leaves: Any) -> None:
        self._owner, self._maker, self._kind = owner, owner._maker, owner._kind
        self._frame, self._leaves = frame, leaves
        self._made: set[int] = set()  # values that lie where noted work has put them
        self._current: set[int] = set()  # values whose buffers hold them
        self.kept: set[int] = set()  # values of which somebody has kept what was lent
        self.failure: str | None = None

    def take(self) -> Any:
        """All parts in order; the result."""
        for part in self._owner._parts:
            if isinstance(part, Piece):
                self.call(part)
            elif self.failure is not None:
                self._plainly(part)
            elif part.graph is None:
                self._note(part)
            elif self._ready(part):
                self._launch(part)
            else:
                self._plainly(part)
        return self.result()

    # --- what is noted ---------------------------------------------------------------------------

    def _plainly(self, part: Stretch) -> None:
        self._made.difference_update(part.gives)
        before = backend.last_write
        part.run(self._frame, self._leaves)
        if backend.last_write != before:
            self._current.clear()

    def _ready(self, part: Stretch) -> bool:
        """Whether all is as it was noted; brings to their places what comes from elsewhere."""
        if any(map(self._is_out, part.lent)):  # somebody has what was lent the last time
            self.kept.update(part.lent)
            return False
        for number, place in part.inputs.items():
            value = self._frame[number]
            if value is place or number in self._current:
                continue
            if type(value) is not self._kind or type(place) is not self._kind:
                return False
            if value.shape != place.shape or value.dtype != place.dtype:
                return False
            if self._maker.owns(place):
                self._maker.fill(place, value)
            self._current.add(number)
        return True

    def _launch(self, part: Stretch) -> None:
        part.graph.launch()
        for array, writer in part.writes:
            backend.written(array, writer)
            self._current.clear()  # what was copied may have been a view of it
        self._frame.update(part.outs)
        self._made.update(part.outs)
        for number in part.last:
            self._frame.pop(number, None)

    def _settled(self, part: Stretch) -> dict[int, Any]:
        """Bring what a stretch takes to where it will be found; gives what it was before."""
        frame, maker, buffers = self._frame, self._maker, self._owner._buffers
        before = {}
        for number in part.takes:
            before[number] = value = frame[number]
            if type(value) is self._kind and number in self._made:
                # Not the value itself: its memory is to be used again when the stretch needs it no
                # more.  Nothing writes there before the stretch is asked for.
                before[number] = part.inputs[number] = maker.again(value)
                continue
            if type(value) is self._kind:
                if number not in buffers:
                    buffers[number] = maker.keep(value)
                if number not in self._current:
                    maker.fill(buffers[number], value)
                    self._current.add(number)
                frame[number] = buffers[number]
            part.inputs[number] = frame[number]
        return before

    def _note(self, part: Stretch) -> None:
        before = self._settled(part)
        frame, maker, since = self._frame, self._maker, backend.last_write

        def work() -> None:
            part.run(frame, self._leaves)
            for number in part.lends:
                made = frame[number]
                if type(made) is self._kind and maker.owns(made):
                    part.lent[number] = maker.keep(made)
                    maker.fill(part.lent[number], made)

        try:
            part.graph = maker.record(work)
            part.writes = backend.writes_since(since)
            part.graph.launch()
        except Exception as error:
            self.failure = " ".join(str(error).split()) or type(error).__name__
            frame.update(before)
            self._plainly(part)
            return
        if part.writes:
            self._current.clear()
        self._owner._lent.update(part.lent)
        for number in part.gives:
            made = frame[number]
            part.outs[number] = maker.again(made) if type(made) is self._kind else made
            del made
        self._made.update(part.gives)
        for number in part.takes:
            if number not in part.last and number not in self._made:
                frame[number] = before[number]

    # --- what is called --------------------------------------------------------------------------

    def call(self, piece: Piece) -> None:
        """Call a piece that is not noted."""
        frame = self._frame
        if piece.entry.kind == "hand":
            gradients = [self._handed(one) if type(one) is int else one for one in piece.gradients]
            for number in piece.last:
                frame.pop(number, None)
            hand(piece.function(self._leaves), gradients)
        elif piece.pure:
            piece.run(frame, self._leaves)
        else:
            self._effect(piece)

    def _effect(self, piece: Piece) -> None:
        frame = self._frame
        takes = {n: frame[n] for n in piece.takes}
        given = {n: g for n, value in takes.items() if (g := self._handed(n)) is not value}
        before = backend.last_write
        piece.run(frame, self._leaves, given)
        if backend.last_write == before:
            return
        self._current.clear()
        for number, handed in given.items():
            if backend.writer_since(handed, before) is not None:
                self._maker.fill(takes[number], handed)

    def _handed(self, number: int) -> Any:
        """A value as somebody gets it who may keep it."""
        value = self._frame[number]
        if type(value) is not self._kind or not self._maker.owns(value):
            return value
        owner = self._owner
        buffer = owner._lent.get(number) if number in self._made else None
        if buffer is None:
            return value.copy()
        if number in owner._copied or self._is_out(number):
            return buffer.copy()
        lent = self._maker.lend(buffer)
        owner._out[number] = weakref.ref(lent)
        return lent

    def _is_out(self, number: int) -> bool:
        """Whether somebody holds what was lent of a value."""
        ref = self._owner._out.get(number)
        return ref is not None and ref() is not None

    def result(self) -> Any:
        """What the step returns: copies of what the next replay writes over."""
        values = []
        for number in self._owner._returned:
            value = self._frame[number]
            if type(value) is self._kind and self._maker.owns(value):
                value = value.copy()
            values.append(value)
        return self._owner._result(self._leaves, *values)
