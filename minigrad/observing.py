"""Where a debugger may stand: beside every node as it is recorded, and inside every backward walk.

Tracing, surgery, planted faults and the search for the birth of a NaN are all an `Interposer` of
their own, put in place by `stand` for the current thread.  Nobody stands here nearly always.  Then
recording asks only whether the set `paused` is empty, as it does anyway, and a walk asks once
whether anyone is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock, get_ident
from typing import Any, TypeVar

from minigrad.effects import current
from minigrad.recording import paused

__all__ = ["Interposer", "stand"]

standing: dict[int, list[Interposer]] = {}
"""Who stands where, by thread, from the innermost on; without an entry where nobody does."""

_OBSERVED = -1
"""In `paused` while anyone stands anywhere: no thread has this number, so nothing is paused by
it, but the short cuts that ask whether `paused` is empty are left."""

_lock = Lock()


class Interposer:
    """Stands in the way of recording and of walks; this one lets everything pass.

    Each method of a walk gets `proceed`, which does what would have been done without it (or what
    the interposer further in does), and may change what goes in and what comes out.

    Attributes:
        outermost: stay outside of those who come later; for who looks and changes nothing.
    """

    outermost: bool = False

    def recorded(self, node: Any, values: tuple) -> None:
        """A node was made.

        Args:
            node: it.
            values: raw values of inputs and outputs (of a leaf, its own); empty where the node
                stands for something whose values were seen before.
        """

    def observe(self, order: Sequence, table: dict) -> Iterable:
        """A walk begins: return its order, often as a generator that looks at the table."""
        return order

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        """A gate computes its contributions from its gate gradient `g`: see `Node.pull`."""
        return proceed(node, g, needs, record, closed)

    def merge(
        self, proceed: Callable, source: Any, total: Any, contribution: Any, owned: set
    ) -> Any:
        """A contribution is added to what a node has received so far: see `Node.merge`."""
        return proceed(source, total, contribution, owned)

    def receive(self, proceed: Callable, node: Any, g: Any, record: bool, owned: bool) -> None:
        """A finished gradient is handed over at the end of a walk: see `Node.receive`."""
        proceed(node, g, record, owned)


S = TypeVar("S", bound=Interposer)


@contextmanager
def stand(interposer: S) -> Iterator[S]:
    """Put an interposer in place for this thread; it leaves at the end, also when errors fly."""
    ident = get_ident()
    with _lock:
        others = [*standing.get(ident, ()), interposer]
        standing[ident] = sorted(others, key=lambda one: one.outermost)
        paused.add(_OBSERVED)
    try:
        yield interposer
    finally:
        with _lock:
            rest = [other for other in standing[ident] if other is not interposer]
            if rest:
                standing[ident] = rest
            else:
                del standing[ident]
            if not standing:
                paused.discard(_OBSERVED)


def recorded(node: Any, values: tuple) -> None:
    """Tell who stands here of a new node; the engine asks `paused` before it calls this."""
    for interposer in standing.get(get_ident(), ()):
        interposer.recorded(node, values)


class Passage:
    """Those who stand in the way of this thread's walk, as one chain."""

    def __init__(self, interposers: Iterable[Interposer]) -> None:
        self._interposers = tuple(interposers)
        self._pull: Callable = _pull
        self._merge: Callable = _merge
        self._receive: Callable = _receive
        for interposer in self._interposers:
            self._pull = partial(interposer.pull, self._pull)
            self._merge = partial(interposer.merge, self._merge)
            self._receive = partial(interposer.receive, self._receive)

    def observe(self, order: Iterable, table: dict) -> Iterable:
        """The order of the walk, as each of them wants to see it."""
        for interposer in self._interposers:
            order = interposer.observe(order, table)  # type: ignore[arg-type]
        return order

    def send(
        self, node: Any, g: Any, needs: tuple, record: bool, closed: bool, table: dict, owned: set
    ) -> None:
        """What `core.walk` does at a gate: compute the contributions, and add them up."""
        contributions = self._pull(node, g, needs, record, closed)
        for source, contribution in zip(node.inputs, contributions, strict=True):
            if contribution is not None:
                table[source] = self._merge(source, table.get(source), contribution, owned)

    def receive(self, node: Any, g: Any, record: bool, owned: bool) -> None:
        """What `core.walk` does at its end."""
        self._receive(node, g, record, owned)


def passage() -> Passage | None:
    """The chain for this thread, or None if nobody stands here."""
    found, recorder = standing.get(get_ident()), current()
    if recorder is not None:
        found = [recorder, *(found or ())]
    return None if found is None else Passage(found)


def _pull(node: Any, *args: Any) -> Sequence:
    return node.pull(*args)


def _merge(source: Any, *args: Any) -> Any:
    return source.merge(*args)


def _receive(node: Any, *args: Any) -> None:
    node.receive(*args)
