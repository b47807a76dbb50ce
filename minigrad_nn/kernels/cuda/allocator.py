"""A card's memory, kept: blocks that arrays give back are handed out again without asking the card.

Asking CUDA for memory makes the whole card wait; a training step asks for some hundred arrays, of
the same sizes each time.  So memory is taken in large *segments* and cut into *blocks*.  A block
that comes back joins its free neighbours; a request takes the smallest free block that is large
enough and gives back what is left of it.

Blocks belong to a stream, and work of one stream is done in order: a block that came back can be
handed out at once to the same stream, although the card has not done yet with its former content.
Who uses a block on another stream says so (`Block.used_on`); such a block is handed out again only
when that stream has passed the point at which it was given back.

A `Pool` is memory apart: what is taken `within` it comes from segments that nobody else is given
anything of, until the pool is gone.  So a graph, which names places in memory, can be run
again and again.
"""

from __future__ import annotations

import bisect
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minigrad.memory import MemoryStats

from .driver import Driver

GRAIN = 512
"""Sizes of blocks are multiples of this; blocks begin at multiples of it."""
SMALL = 2**20
"""Up to here a request is cut from a segment of small blocks."""
SMALL_SEGMENT = 2 * 2**20
LARGE_SEGMENT = 32 * 2**20
"""A large request takes a segment of this size, or of its own size rounded up to `LARGE_GRAIN`."""
LARGE_GRAIN = 2 * 2**20


class OutOfMemory(MemoryError):
    """The card has no room for an array."""


@dataclass(frozen=True)
class MemoryStatistics:
    """Bytes of a card's memory, as the allocator knows them.

    Attributes:
        allocated: in arrays that are alive, rounded up to whole blocks.
        peak_allocated: the most there ever were since the last `reset_peak`.
        reserved: held by this process: in arrays, and kept for the next ones.
        peak_reserved: the most there ever were since the last `reset_peak`.
        arrays: how many blocks are alive.
        requests: how often memory was asked for.
        segments: how often the card had to be asked.
    """

    allocated: int
    peak_allocated: int
    reserved: int
    peak_reserved: int
    arrays: int
    requests: int
    segments: int


class _Segment:
    """Memory as the card gave it, and the first of the pieces that it is cut into."""

    __slots__ = ("address", "memory", "nbytes", "small")

    def __init__(self, memory: Any, nbytes: int, address: int, small: bool) -> None:
        self.memory = memory
        self.nbytes = nbytes
        self.address = address
        self.small = small


class _Piece:
    """A part of a segment, in use or free; it knows its neighbours."""

    __slots__ = ("after", "before", "free", "nbytes", "segment", "start", "stream", "users")

    def __init__(self, segment: _Segment, start: int, nbytes: int, stream: Any) -> None:
        self.segment = segment
        self.start = start
        self.nbytes = nbytes
        self.stream = stream
        self.free = True
        self.before: _Piece | None = None
        self.after: _Piece | None = None
        self.users: list[Any] = []


class Block:
    """Memory of one array and its views; when the last of them is gone, it goes back."""

    __slots__ = ("__weakref__", "_piece", "_returned", "nbytes")

    def __init__(self, piece: _Piece, nbytes: int, returned: deque) -> None:
        self._piece = piece
        self._returned = returned
        self.nbytes = nbytes

    def __del__(self) -> None:
        # Python may call this at any moment, even inside the allocator: so only a note is left.
        self._returned.append(self._piece)

    @property
    def memory(self) -> Any:
        """The segment as the driver gave it."""
        return self._piece.segment.memory

    @property
    def start(self) -> int:
        """Where the block begins in its segment, in bytes."""
        return self._piece.start

    @property
    def address(self) -> int:
        """Where the block begins in the card's memory."""
        return self._piece.segment.address + self._piece.start

    def used_on(self, stream: Any) -> None:
        """Say that another stream than the block's own reads or writes it."""
        if stream is not self._piece.stream and stream not in self._piece.users:
            self._piece.users.append(stream)


class Pool:
    """Memory apart, which goes back to the others when the last reference to it is gone.

    It stands where a stream stands for other pieces: work in it is done in the order of the card's
    own stream.
    """

    __slots__ = ("__weakref__", "_gone", "_key")

    def __init__(self, gone: deque) -> None:
        self._gone = gone
        self._key = _Key()

    def __del__(self) -> None:
        self._gone.append(self._key)  # only a note, as for blocks

    def has(self, block: Any) -> bool:
        """Whether a block was taken within it."""
        return isinstance(block, Block) and block._piece.stream is self._key


class _Key:
    """What pieces know their pool by; it outlives the pool."""


class Allocator:
    """The memory of one card."""

    def __init__(self, driver: Driver, name: str = "cuda:0") -> None:
        """Nothing is taken from the card before the first request.

        Args:
            driver: the card.
            name: how messages call it.
        """
        self._driver = driver
        self._name = name
        self._lock = threading.RLock()
        self._returned: deque[_Piece] = deque()
        self._waiting: list[tuple[list[Any], _Piece]] = []
        self._gone: deque[_Key] = deque()
        self._within: Pool | None = None
        # Free pieces by (stream, small), each list sorted by size, then by age.
        self._free: dict[tuple[int, bool], list[tuple[int, int, _Piece]]] = {}
        self._streams: dict[int, Any] = {}  # keeps them alive, so that their ids stay theirs
        self._number = 0
        self._segments: list[_Segment] = []
        self._live: dict[int, _Piece] = {}
        self._allocated = self._reserved = self._peak_allocated = self._peak_reserved = 0
        self._requests = self._asked = 0

    # --- taking ----------------------------------------------------------------------------------

    def take(self, nbytes: int, stream: Any = None, what: str = "") -> Block:
        """A block of at least `nbytes`, which holds whatever was there.

        Args:
            nbytes: how many bytes.
            stream: whose work will use it; by default the card's own, or a pool's (`within`).
            what: what it is for, told when there is no room.

        Raises:
            OutOfMemory: the card has no room, even after all that was kept has gone back.
        """
        size = max(GRAIN, -(-nbytes // GRAIN) * GRAIN)
        with self._lock:
            if stream is None:
                stream = self._driver.stream if self._within is None else self._within._key
            self._collect()
            self._requests += 1
            piece = self._find(size, stream) or self._grow(size, stream, nbytes, what)
            self._split(piece, size)
            piece.free = False
            piece.users = []
            self._live[id(piece)] = piece
            self._allocated += piece.nbytes
            self._peak_allocated = max(self._peak_allocated, self._allocated)
            return Block(piece, nbytes, self._returned)

    def _find(self, size: int, stream: Any) -> _Piece | None:
        pieces = self._free.get((id(stream), size <= SMALL), [])
        place = bisect.bisect_left(pieces, (size, 0))
        if place == len(pieces):
            return None
        # A much larger block would be cut up for a small array, and be missing when it is wanted.
        if size > SMALL and pieces[place][0] > 8 * size and pieces[place][0] > LARGE_SEGMENT:
            return None
        return pieces.pop(place)[2]

    def _grow(self, size: int, stream: Any, nbytes: int, what: str) -> _Piece:
        small = size <= SMALL
        if small:
            wanted = SMALL_SEGMENT
        elif size < LARGE_SEGMENT // 2:
            wanted = LARGE_SEGMENT
        else:
            wanted = -(-size // LARGE_GRAIN) * LARGE_GRAIN
        memory = self._ask(wanted)
        if memory is None and not isinstance(stream, _Key):
            # What is kept goes back to the card; then as little as possible is asked for.
            self.empty()
            found = self._find(size, stream)
            if found is not None:
                return found
            memory = self._ask(wanted)
        if memory is None and wanted > size:
            wanted = size
            memory = self._ask(wanted)
        if memory is None:
            raise OutOfMemory(self._told(nbytes, what))
        segment = _Segment(memory, wanted, self._driver.address(memory), small)
        self._segments.append(segment)
        self._reserved += wanted
        self._peak_reserved = max(self._peak_reserved, self._reserved)
        self._streams[id(stream)] = stream
        return _Piece(segment, 0, wanted, stream)

    def _ask(self, nbytes: int) -> Any:
        self._asked += 1
        try:
            return self._driver.reserve(nbytes)
        except MemoryError:
            return None

    def _split(self, piece: _Piece, size: int) -> None:
        rest = piece.nbytes - size
        if rest < (GRAIN if piece.segment.small else SMALL):
            return
        tail = _Piece(piece.segment, piece.start + size, rest, piece.stream)
        tail.before, tail.after = piece, piece.after
        if piece.after is not None:
            piece.after.before = tail
        piece.after = tail
        piece.nbytes = size
        self._offer(tail)

    # --- memory apart ----------------------------------------------------------------------------

    def pool(self) -> Pool:
        """A new pool, which has no memory yet."""
        return Pool(self._gone)

    @contextmanager
    def within(self, pool: Pool | None) -> Iterator[None]:
        """What is taken inside of the `with` block comes from a pool; None for no pool.

        Other threads are given memory when it ends; and nothing that is kept goes back to the card
        meanwhile, since that waits for the card.
        """
        with self._lock:
            before, self._within = self._within, pool
            try:
                yield
            finally:
                self._within = before

    def _dissolve(self, key: _Key) -> None:
        """The memory of a pool that is gone becomes the card's own stream's.

        Graphs were launched on that stream, so what comes after them may use it at once.
        """
        stream = self._driver.stream
        waiting = [piece for _, piece in self._waiting]
        for piece in [*self._live.values(), *waiting]:
            if piece.stream is key:
                piece.stream = stream
        for small in (True, False):
            for _, _, piece in self._free.pop((id(key), small), ()):
                piece.stream = stream
                self._offer(piece)
        self._streams[id(stream)] = stream
        self._streams.pop(id(key), None)

    # --- giving back -----------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take back the blocks that are gone, and those that other streams have done with."""
        while self._gone:
            self._dissolve(self._gone.popleft())
        while self._returned:
            piece = self._returned.popleft()
            del self._live[id(piece)]
            self._allocated -= piece.nbytes
            if piece.users:
                events = [self._driver.mark(stream) for stream in piece.users]
                self._waiting.append((events, piece))
            else:
                self._join(piece)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for events, piece in waiting:
                left = [event for event in events if not event.query()]
                if left:
                    self._waiting.append((left, piece))
                else:
                    self._join(piece)

    def _join(self, piece: _Piece) -> None:
        """Make a piece free, as one with its free neighbours."""
        after = piece.after
        if after is not None and after.free:
            self._withdraw(after)
            piece.nbytes += after.nbytes
            piece.after = after.after
            if after.after is not None:
                after.after.before = piece
        before = piece.before
        if before is not None and before.free:
            self._withdraw(before)
            before.nbytes += piece.nbytes
            before.after = piece.after
            if piece.after is not None:
                piece.after.before = before
            piece = before
        self._offer(piece)

    def _offer(self, piece: _Piece) -> None:
        piece.free = True
        self._number += 1
        key = id(piece.stream), piece.segment.small
        bisect.insort(self._free.setdefault(key, []), (piece.nbytes, self._number, piece))

    def _withdraw(self, piece: _Piece) -> None:
        pieces = self._free[id(piece.stream), piece.segment.small]
        place = bisect.bisect_left(pieces, (piece.nbytes, 0))
        while pieces[place][2] is not piece:
            place += 1
        del pieces[place]

    def empty(self) -> int:
        """Give all segments back to the card in which no array lives; how many bytes those were.

        Those of pools stay.

        It waits for the card, so that blocks which other streams used come back too.
        """
        with self._lock:
            self._driver.synchronise()
            self._collect()
            gone = []
            for (of, _), pieces in self._free.items():
                if isinstance(self._streams.get(of), _Key):
                    continue  # graphs use what is free there
                whole = [p for _, _, p in pieces if p.before is None and p.after is None]
                gone += [piece.segment for piece in whole]
                pieces[:] = [entry for entry in pieces if entry[2] not in whole]
            nbytes = 0
            for segment in gone:
                self._segments.remove(segment)
                nbytes += segment.nbytes
            self._reserved -= nbytes
            return nbytes

    # --- telling ---------------------------------------------------------------------------------

    def statistics(self) -> MemoryStatistics:
        """What is held now, and what was at most."""
        with self._lock:
            self._collect()
            return MemoryStatistics(
                self._allocated,
                self._peak_allocated,
                self._reserved,
                self._peak_reserved,
                len(self._live),
                self._requests,
                self._asked,
            )

    def stats(self) -> MemoryStats:
        """The same in the words that all devices have in common."""
        now = self.statistics()
        return MemoryStats(
            live=now.allocated,
            peak=now.peak_allocated,
            idle=now.reserved - now.allocated,
            limit=self._driver.memory()[1],
            reused=now.requests - now.segments,
            fresh=now.segments,
        )

    def reset_peak(self) -> None:
        """Let the peaks begin again at what is held now."""
        with self._lock:
            self._collect()
            self._peak_allocated, self._peak_reserved = self._allocated, self._reserved

    def _told(self, nbytes: int, what: str) -> str:
        free, total = self._driver.memory()
        largest = sorted((piece.nbytes for piece in self._live.values()), reverse=True)[:5]
        kept = self._reserved - self._allocated
        lines = [
            f"{self._name} has no room for {readable(nbytes)}{what and f' ({what})'}: "
            f"{readable(free)} of {readable(total)} are free.",
            f"This process holds {readable(self._allocated)} in {len(self._live)} arrays",
            f"and keeps {readable(kept)} in pieces that are too small.",
        ]
        if largest:
            lines.append(f"The largest arrays: {', '.join(map(readable, largest))}.")
        lines.append(
            "Use a smaller batch, drop what is no longer needed (graphs keep what their rules "
            "need), or compute parts again with minigrad.checkpoint."
        )
        return " ".join(lines)


def readable(nbytes: int) -> str:
    """A number of bytes as people say it.

    >>> readable(512), readable(3 * 2**20)
    ('512 B', '3.0 MiB')
    """
    value = float(nbytes)
    for unit in "B", "KiB", "MiB", "GiB":
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
