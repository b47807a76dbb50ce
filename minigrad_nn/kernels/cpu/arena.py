"""One heap for large arrays: blocks that lie side by side, are split and joined, the lowest first.

What a step of training makes and drops has dozens of sizes.  Blocks that are kept by size are idle
while other sizes are short of memory.  Here a dead block joins its dead neighbours, and the next
array is cut from the dead block at the lowest address that has room.  The same sequence of arrays
soon finds the same places again, so that the heap of a training loop stops growing.  The smallest
block with room seems the better fit, but in traces of training it never settled: after 60 steps of
ResNet-18 its heap was 20 % larger than all that was ever alive at once, and this one 1 %.

While the heap is small, blocks keep their sizes, and an array takes the block of just its size that
died last.  Each thread then writes where it wrote before.  Where blocks are cut anew, the numbers
that one thread is to write may wait in the other core's cache: LeNet-5 took 1.2 to 1.4 times as
long.  Once the heap has outgrown the caches, little of what it holds is in them.

The heap is one range of addresses, reserved once and larger than the machine's memory.  The system
gives it pages as they are touched, so what was never reached costs nothing; huge pages are asked
for throughout, since neighbours share them.  Where no range can be reserved (another system, a
limit on addresses) each miss asks malloc for a segment of its own, whose blocks are split and
joined in the same way; segments that are dead as a whole go back before more than five quarters of
what was ever alive is held.

A block is `head | numbers ...`; both begin at a multiple of 64 bytes, so that vectors lie in one
cache line each.  All functions here are compiled, and share a state: an array of words.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

from numba import types
from numba.extending import intrinsic

from .compile import helper

# Blocks of fewer bytes are left to malloc, which is good at them.
SMALL = 1 << 15
ALIGNMENT = 64

# The words of a block's head.  Small blocks have the last two only.
#   the blocks at lower and at higher addresses, 0 at the ends of the range or segment
#   bytes of a dead block whose pages the system has given; -1 in a block that is alive
#   the dead blocks after and before it in the list of its size
#   what malloc returned, 0 where that is not for this block; bytes of numbers
BELOW, ABOVE, DIRTY, AFTER, BEFORE, _, ORIGIN, CAPACITY = range(8)
HEAD = 64
SMALL_HEAD = 16
# What is left of a block becomes one of its own from so many bytes on.
LEAST = 1024

# The words of the state.
#   settings and counters; see `minigrad.memory.MemoryStats`
#   of the range: its start and its end, the end of its blocks, where zeros begin for sure, its last
#   block; up to how many bytes blocks keep their sizes, and whether dead neighbours are joined now
#   the largest size of a block that ever died; from BINS on, the first dead block of each size
LIMIT, IDLE, LIVE, PEAK, HITS, MISSES = range(6)
START, END, TOP, TOUCHED, LAST, FIXED, JOINS, SIZE, BINS = range(6, 15)
# Eight sizes from a power of two to the next.
STEPS = 16
SIZES = 60 * STEPS
WORDS = BINS + SIZES
# So many dead blocks of one size are looked at, however many there are.
REACH = 64

PAGE, MADV_DONTNEED = mmap.PAGESIZE, 4

# As functions of kernels these cast.
_unsigned: Any = types.uintp
_int: Any = types.int32

_malloc: Any = types.ExternalFunction("malloc", types.intp(types.uintp))
_calloc: Any = types.ExternalFunction("calloc", types.intp(types.uintp, types.uintp))
_free = types.ExternalFunction("free", types.void(types.intp))
_set: Any = types.ExternalFunction("memset", types.intp(types.intp, types.int32, types.uintp))
_copy: Any = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.uintp))
_untyped: Any = intrinsic


@_untyped
def as_pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to words."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.intp)(address), codegen


@helper
def _head(block):
    """The words in front of a block's numbers."""
    return as_pointer(block - HEAD)


@helper
def size_of(nbytes):
    """The number of the smallest size that has room."""
    power = 0
    while nbytes > STEPS << power:
        power += 1
    return power * STEPS + ((nbytes - 1) >> power)


@helper
def capacity_of(size):
    """The most bytes of a block of this size."""
    return (size % STEPS + 1) << (size // STEPS)


if sys.platform == "linux":
    _madvise = types.ExternalFunction("madvise", types.int32(types.intp, types.uintp, types.int32))

    @helper
    def _release(start, end):
        """Return whole pages to the system, which gives zeros in their place; whether it did."""
        start = (start + PAGE - 1) & ~(PAGE - 1)
        end = end & ~(PAGE - 1)
        return end > start and _madvise(start, _unsigned(end - start), _int(MADV_DONTNEED)) == 0

else:

    @helper
    def _release(start, end):
        return False


@helper
def _clear(block, nbytes):
    _set(block, _int(0), _unsigned(nbytes))


@helper
def copy(target, source, nbytes):
    """Copy bytes from one place to another."""
    _copy(target, source, _unsigned(nbytes))


# --- lists of dead blocks ------------------------------------------------------------------------


@helper
def _enlist(state, block, dirty):
    head = _head(block)
    place = BINS + size_of(head[CAPACITY])
    after = state[place]
    head[DIRTY] = dirty
    head[AFTER] = after
    head[BEFORE] = 0
    if after != 0:
        _head(after)[BEFORE] = block
    state[place] = block
    state[SIZE] = max(state[SIZE], place - BINS)
    state[IDLE] += dirty


@helper
def _delist(state, block):
    """Take a block out of the list of its size; how many of its bytes had pages."""
    head = _head(block)
    after, before, dirty = head[AFTER], head[BEFORE], head[DIRTY]
    if after != 0:
        _head(after)[BEFORE] = before
    if before != 0:
        _head(before)[AFTER] = after
    else:
        state[BINS + size_of(head[CAPACITY])] = after
    head[DIRTY] = -1
    state[IDLE] -= dirty
    return dirty


@helper
def _equal(state, nbytes):
    """Of the dead blocks with just so many bytes, the last that died; 0 for none."""
    block = state[BINS + size_of(nbytes)]
    for _ in range(REACH):
        if block == 0 or _head(block)[CAPACITY] == nbytes:
            break
        block = _head(block)[AFTER]
    return block if block != 0 and _head(block)[CAPACITY] == nbytes else 0


@helper
def _lowest(state, nbytes):
    """Of the dead blocks with room, the one at the lowest address; 0 for none."""
    found = 0
    for size in range(size_of(nbytes), state[SIZE] + 1):
        block = state[BINS + size]
        for _ in range(REACH):
            if block == 0:
                break
            if (found == 0 or block < found) and _head(block)[CAPACITY] >= nbytes:
                found = block
            block = _head(block)[AFTER]
    return found


# --- new memory ----------------------------------------------------------------------------------


@helper
def _small(nbytes, zeroed):
    """A block of malloc's with a short head, or 0 where memory is at its end."""
    room = _unsigned(nbytes + ALIGNMENT + SMALL_HEAD)
    origin = _calloc(_unsigned(1), room) if zeroed else _malloc(room)
    if origin == 0:
        return origin
    block = (origin + SMALL_HEAD + ALIGNMENT - 1) & ~(ALIGNMENT - 1)
    words = as_pointer(block - SMALL_HEAD)
    words[0] = origin
    words[1] = nbytes
    return block


@helper
def _segment(nbytes, zeroed):
    """A segment of malloc's with one block that is alive, or 0 where memory is at its end."""
    room = _unsigned(nbytes + ALIGNMENT + HEAD)
    origin = _calloc(_unsigned(1), room) if zeroed else _malloc(room)
    if origin == 0:
        return origin
    block = (origin + HEAD + ALIGNMENT - 1) & ~(ALIGNMENT - 1)
    head = _head(block)
    head[BELOW] = 0
    head[ABOVE] = 0
    head[DIRTY] = -1
    head[ORIGIN] = origin
    head[CAPACITY] = nbytes
    return block


@helper
def _absorb(state, block):
    """Join a block with the one above it; both are in no list."""
    head = _head(block)
    above = head[ABOVE]
    head[CAPACITY] += HEAD + _head(above)[CAPACITY]
    head[ABOVE] = _head(above)[ABOVE]
    if head[ABOVE] != 0:
        _head(head[ABOVE])[BELOW] = block
    if state[LAST] == above:
        state[LAST] = block


@helper
def _join(state):
    """Join all dead neighbours of the range, from its end on."""
    block = state[LAST]
    while block != 0:
        below = _head(block)[BELOW]
        if below != 0 and _head(block)[DIRTY] >= 0 and _head(below)[DIRTY] >= 0:
            dirty = _delist(state, block) + _delist(state, below)
            _absorb(state, below)
            _enlist(state, below, dirty)
        block = below


@helper
def _append(state, nbytes):
    """A block at the end of the range, on from a dead last one; 0 where the range is at its end.

    Also how many of its bytes were idle.
    """
    last = state[LAST]
    dead = state[JOINS] != 0 and last != 0 and _head(last)[DIRTY] >= 0
    block = last if dead else state[TOP] + HEAD
    if block + nbytes > state[END]:
        return 0, 0
    dirty = 0
    head = _head(block)
    if dead:
        dirty = _delist(state, block)
    else:
        head[BELOW] = last
        head[ABOVE] = 0
        head[DIRTY] = -1
        head[ORIGIN] = 0
        if last != 0:
            _head(last)[ABOVE] = block
    head[CAPACITY] = nbytes
    state[LAST] = block
    state[TOP] = block + nbytes
    return block, dirty


@helper
def _cut(state, block, nbytes, dirty):
    """Make a block of what this one has beyond so many bytes; how many idle bytes it keeps."""
    head = _head(block)
    rest = head[CAPACITY] - nbytes - HEAD
    if rest < LEAST:
        return dirty
    other = block + nbytes + HEAD
    new = _head(other)
    new[BELOW] = block
    new[ABOVE] = head[ABOVE]
    new[ORIGIN] = 0
    new[CAPACITY] = rest
    if head[ABOVE] != 0:
        _head(head[ABOVE])[BELOW] = other
    if state[LAST] == block:
        state[LAST] = other
    head[ABOVE] = other
    head[CAPACITY] = nbytes
    kept = min(dirty, nbytes)
    _enlist(state, other, min(dirty - kept, rest))
    return kept


@helper
def _free_segments(state):
    """Return the segments that are dead as a whole to malloc."""
    for size in range(state[SIZE] + 1):
        block = state[BINS + size]
        while block != 0:
            head = _head(block)
            after = head[AFTER]
            if head[ORIGIN] != 0 and head[ABOVE] == 0:
                _delist(state, block)
                _free(head[ORIGIN])
            block = after


# --- taking and giving ---------------------------------------------------------------------------


@helper
def take(state, nbytes, zeroed):
    """The address of so many bytes, or 0 where memory is at its end."""
    nbytes = (nbytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1)
    if nbytes < SMALL:
        return _small(nbytes, zeroed)
    block = 0
    if state[JOINS] == 0:
        block = _equal(state, nbytes)
        end = min(state[END], state[START] + state[FIXED])
        if block == 0 and state[TOP] + HEAD + nbytes > end:
            state[JOINS] = 1
            _join(state)
    if state[JOINS] != 0:
        block = _lowest(state, nbytes)
    dirty, unclean = 0, nbytes
    if block != 0:
        dirty = _cut(state, block, nbytes, _delist(state, block))
    else:
        block, dirty = _append(state, nbytes)
        if block != 0:
            unclean = min(nbytes, max(0, state[TOUCHED] - block))
            state[TOUCHED] = max(state[TOUCHED], state[TOP])
        else:
            if state[LIVE] + state[IDLE] + nbytes > state[PEAK] + state[PEAK] // 4:
                _free_segments(state)
            block, unclean = _segment(nbytes, zeroed), 0
            if block == 0:
                return block
    if zeroed:
        _clear(block, unclean)
    if 2 * dirty >= nbytes:
        state[HITS] += 1
    else:
        state[MISSES] += 1
    state[LIVE] += _head(block)[CAPACITY]
    state[PEAK] = max(state[PEAK], state[LIVE])
    return block


@helper
def capacity(block):
    """How many bytes a block has."""
    return as_pointer(block - 8)[0]


@helper
def give(state, block):
    """Keep a block for those who come, joined with its dead neighbours."""
    if capacity(block) < SMALL:
        _free(as_pointer(block - SMALL_HEAD)[0])
        return
    head = _head(block)
    size = head[CAPACITY]
    state[LIVE] -= size
    full = state[IDLE] + size > state[LIMIT]
    dirty = 0 if full and _release(block, block + size) else size
    if state[JOINS] != 0 or block < state[START] or block >= state[END]:
        above, below = head[ABOVE], head[BELOW]
        if above != 0 and _head(above)[DIRTY] >= 0:
            dirty += _delist(state, above)
            _absorb(state, block)
        if below != 0 and _head(below)[DIRTY] >= 0:
            dirty += _delist(state, below)
            _absorb(state, below)
            block = below
            head = _head(block)
    if full and head[ORIGIN] != 0 and head[ABOVE] == 0:
        _free(head[ORIGIN])
        return
    _enlist(state, block, dirty)


@helper
def empty(state):
    """Return what dead blocks hold to the system; where there is no way, they stay, and count."""
    _free_segments(state)
    for size in range(state[SIZE] + 1):
        block = state[BINS + size]
        while block != 0:
            head = _head(block)
            if head[DIRTY] > 0 and _release(block, block + head[CAPACITY]):
                state[IDLE] -= head[DIRTY]
                head[DIRTY] = 0
            block = head[AFTER]
    _join(state)
    last = state[LAST]
    if last != 0 and _head(last)[DIRTY] >= 0:
        _delist(state, last)
        below = _head(last)[BELOW]
        state[LAST] = below
        if below != 0:
            _head(below)[ABOVE] = 0
        state[TOP] = last - HEAD
        start = (state[TOP] + PAGE - 1) & ~(PAGE - 1)
        if _release(start, state[TOUCHED] + PAGE - 1):
            state[TOUCHED] = start
    state[JOINS] = 1 if state[TOP] > state[START] + state[FIXED] else 0
