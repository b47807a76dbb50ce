"""Cards by number: each has a driver, its memory, and a class of arrays of its own.

Arrays of two cards are of two classes, so everything that chooses by the type of an array, such as
`minigrad.backend`, tells them apart without asking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from minigrad import backend
from minigrad.memory import register_memory

from .. import registry
from .allocator import Allocator, MemoryStatistics
from .driver import Driver, count, open_driver, why_unavailable

__all__ = ["Card", "card", "count", "opened", "why_unavailable"]

_cards: dict[int, Card] = {}
_lock = threading.RLock()


class Card:
    """A CUDA card.

    Attributes:
        index: its number.
        name: "cuda:0", ...
        driver: its memory and streams.
        allocator: the memory that arrays are cut from.
        array_type: the class of its arrays, a subclass of `CudaArray`.
        watches: who notes what a thread asks of the card, by thread; empty nearly always.
    """

    def __init__(self, index: int, driver: Driver, array_type: type) -> None:
        """Take a card over; `card` is what gives one out."""
        self.index = index
        self.name = f"cuda:{index}"
        self.driver = driver
        self.allocator = Allocator(driver, self.name)
        self.watches: dict[int, Any] = {}
        members = {"__slots__": (), "card": self, "__module__": array_type.__module__}
        self.array_type: Any = type(array_type.__name__, (array_type,), members)

    def __repr__(self) -> str:
        return f"<{self.name} {self.driver.limits.name}>"

    @property
    def watch(self) -> Any:
        """Who notes what this thread asks of the card (see `graph`); None where nobody does."""
        return self.watches.get(threading.get_ident()) if self.watches else None

    @property
    def stream(self) -> Any:
        """The stream that its work goes to."""
        watch = self.watch
        return self.driver.stream if watch is None or watch.stream is None else watch.stream

    def leaving(self, what: str) -> None:
        """Say that something is asked of the card which no graph can hold.

        Raises:
            NotRecorded: a graph is being noted by this thread.
        """
        watch = self.watch
        if watch is not None:
            watch.leaving(what)

    def empty(self, shape: Any, dtype: Any = "float32") -> Any:
        """An array that holds whatever was there."""
        return self.array_type.empty(shape, dtype)

    def from_numpy(self, array: Any) -> Any:
        """A copy of a NumPy array."""
        return self.array_type.from_numpy(array)

    def synchronise(self) -> None:
        """Wait until all work is done."""
        self.leaving("waits for the card")
        self.driver.synchronise()

    def memory(self) -> MemoryStatistics:
        """What the card's allocator holds."""
        return self.allocator.statistics()


def card(index: int = 0, open_it: Callable[[int], Driver] = open_driver) -> Card:
    """The card of this number; the first time, it is opened and made known to the engine.

    Raises:
        RuntimeError: no card can be used here; the message says why.
        ValueError: there are not as many cards.
    """
    found = _cards.get(index)
    if found is not None:
        return found
    with _lock:
        if index not in _cards:
            from . import DTYPES
            from .array import CudaArray
            from .copies import Sender
            from .graph import Graphs
            from .ops import register_ops
            from .protocol import Functions

            new = Card(index, open_it(index), CudaArray)
            registry.register(
                registry.Device(new.name, new.array_type, "minigrad_nn.kernels.cuda", DTYPES)
            )
            backend.register_device(
                backend.Device(
                    new.name,
                    new.array_type,
                    new.array_type.from_numpy,
                    lambda array: array.to_numpy(),
                    Functions(new.array_type),
                    Sender(new).send,
                    lambda: Graphs(new),
                )
            )
            register_memory(new.name, new.allocator)
            register_ops(new.name)
            _cards[index] = new
        return _cards[index]


def opened() -> list[Card]:
    """The cards that are in use, by number."""
    return [_cards[index] for index in sorted(_cards)]
