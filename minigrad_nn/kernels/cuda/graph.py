"""CUDA graphs: what a piece of work asks of a card, noted once and asked for again as a whole.

A launch from Python costs tens of microseconds, which is more than most kernels of a small network
take; a graph is one request, however many launches are in it.  It holds addresses and numbers, so
all that it reads and writes must stay where it is, and whatever Python decides is decided for good:
who notes work sees to that (see `minigrad.replay.stretches`).  What a graph cannot hold (reading
values, copies from the host's memory) raises `NotRecorded` while one is noted.

`Graphs` is the graphs of one program: they share a pool of the allocator, in which nobody else is
given memory, and die with it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from minigrad.backend import NotRecorded

from . import elementwise, library, precision
from .allocator import Pool
from .array import CudaArray, ghost_of
from .launch import launching

if TYPE_CHECKING:
    from .card import Card

__all__ = ["Graph", "Graphs", "Watch"]


class Watch:
    """Who sees what a thread asks of a card, and what of it no graph can hold.

    Attributes:
        stream: where work goes meanwhile; None for the card's own stream.
        launches: how many launches, and copies within the card's memory, there were.
        left: what no graph can hold, in the order in which it came.
    """

    stream: Any = None

    def __init__(self) -> None:
        self.launches = 0
        self.left: list[str] = []

    def launched(self, arguments: Any) -> None:
        """A launch with these arguments comes now."""
        self.launches += 1

    def leaving(self, what: str) -> None:
        """Something comes now that no graph can hold."""
        self.left.append(what)


class _Noting(Watch):
    """A graph is noted; arrays that it names are kept, but for those of its pool.

    These are to be used again as soon as the work has done with them.
    """

    def __init__(self, stream: Any, pool: Pool) -> None:
        super().__init__()
        self.stream = stream
        self.kept: dict[int, CudaArray] = {}
        self._pool = pool

    def launched(self, arguments: Any) -> None:
        super().launched(arguments)
        for argument in arguments:
            if isinstance(argument, CudaArray) and not self._pool.has(argument._block):
                self.kept[id(argument)] = argument

    def leaving(self, what: str) -> None:
        raise NotRecorded(f"a CUDA graph cannot hold what {what}")


class _Place:
    """A place in a pool's memory, as a block: it keeps the pool, and not the place in it."""

    __slots__ = ("__weakref__", "_pool", "address", "memory", "nbytes", "start")

    def __init__(self, block: Any, pool: Pool) -> None:
        self.memory, self.start = block.memory, block.start
        self.address, self.nbytes = block.address, block.nbytes
        self._pool = pool

    def used_on(self, stream: Any) -> None:
        """The pool goes back when all work on the card's own stream may use it."""


class Graph:
    """Work that was noted.

    Attributes:
        launches: how many launches and copies it holds.
    """

    def __init__(self, card: Card, handle: Any, launches: int, kept: list[Any]) -> None:
        """Take over what the driver made; `Graphs.record` does."""
        self.launches = launches
        self._card, self._handle, self._kept = card, handle, kept
        weakref.finalize(self, card.driver.forget_graph, handle).atexit = False

    def launch(self) -> None:
        """Do it all, after what the card was asked before; this does not wait for it."""
        with launching:
            self._card.driver.launch_graph(self._handle)


class Graphs:
    """The graphs of one program, and the memory that stays theirs."""

    def __init__(self, card: Card) -> None:
        """Nothing is taken before the first graph is noted."""
        self._card = card
        self._pool = card.allocator.pool()
        self._own: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._places: dict[Any, CudaArray] = {}

    def settings(self) -> Any:
        """What decides besides shapes which kernels are launched; graphs hold while it is equal."""
        return precision.get_precision(), library.wanted()

    # --- noting ----------------------------------------------------------------------------------

    @contextmanager
    def _watched_by(self, watch: Any) -> Iterator[None]:
        me, watches = threading.get_ident(), self._card.watches
        before = watches.get(me)
        watches[me] = watch
        try:
            yield
        finally:
            del watches[me]
            if before is not None:
                watches[me] = before

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """See what the work inside of the `with` block asks of the card, which does it as ever."""
        watch = Watch()
        with self._watched_by(watch):
            yield watch

    def begin(self) -> None:
        """Make room before graphs are noted: what is kept and free goes back to the card."""
        self._card.driver.synchronise()
        self._card.allocator.empty()

    def record(self, work: Callable[[], None]) -> Graph:
        """Note what `work` asks of the card, instead of doing it.

        Raises:
            NotRecorded: it reads values, or copies from the host's memory.
            Exception: whatever else it raises, or the driver; nothing of it was done then.
        """
        card, driver = self._card, self._card.driver
        # Memory first: who waits for the card does so with the allocator's lock, or with none.
        with driver, card.allocator.within(self._pool):
            noting = _Noting(driver.begin_graph(), self._pool)
            try:
                with self._watched_by(noting):
                    work()
            except BaseException:
                driver.abandon_graph()
                raise
            handle = driver.end_graph()
        return Graph(card, handle, noting.launches, [self._pool, *noting.kept.values()])

    # --- memory ----------------------------------------------------------------------------------

    def keep(self, array: CudaArray) -> CudaArray:
        """An array like this one, in C order, in memory that nothing else of the program uses."""
        with self._card.allocator.within(None):
            found = array.empty(array.shape, array.dtype)
        self._own[id(found._block)] = found._block
        return found

    def fill(self, target: CudaArray, array: CudaArray) -> None:
        """Copy the elements of an array into another one of its shape and dtype."""
        if not array.size:
            return
        if target.flags.c_contiguous and array.flags.c_contiguous:
            array._copied_into(target)
        else:
            elementwise.assign(target, array)

    def lend(self, array: CudaArray) -> CudaArray:
        """A new array in the place of one from `keep`: who holds it can be told from nobody."""
        return array._over(array._block, ghost_of(array.shape, array.dtype), None)

    def owns(self, array: CudaArray) -> bool:
        """Whether an array lies in memory that a later launch of these graphs may write to."""
        block: Any = array._block
        if isinstance(block, _Place):
            return block._pool is self._pool
        return self._pool.has(block) or self._own.get(id(block)) is block

    def again(self, array: CudaArray) -> CudaArray:
        """An array at the same place, for later launches; the place may be used for others between.

        What does not lie in the pool is given back as it is.
        """
        block = array._block
        if not self._pool.has(block):
            return array
        whole = array if array.base is None else array.base
        key = block.address, whole.shape, whole.dtype
        found = self._places.get(key)
        if found is None:
            place: Any = _Place(block, self._pool)
            found = self._places[key] = array._over(place, whole._ghost, None)
        return found if array is whole else found._like(array._ghost)
