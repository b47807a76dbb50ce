"""The heap behind NumPy's arrays: blocks that are split and joined, none lost and none shared."""

import ctypes
import itertools
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigrad_nn.kernels.cpu import arena, memory

KIB = 1024
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="there a range is reserved")


class Heap:
    """A pool of our own, called as NumPy calls it, beside a model of what it should hold."""

    def __init__(self):
        self.pool = memory.Pool()
        self.state = self.pool.state
        self.start, self.end = int(self.state[arena.TOP]), int(self.state[arena.END])
        self.calls = [made.ctypes for made in self.pool._callbacks]
        self.held = []

    def again(self, room, limit, small=0):
        """Empty, with so many bytes in the range; what does not fit there comes from malloc.

        Blocks keep their sizes while the heap has up to `small` bytes.
        """
        while self.held:
            self.drop(0)
        self.calls[4](self.state.ctypes.data)
        assert not self.state[arena.BINS :].any()
        assert self.state[arena.TOP] == self.start
        self.state[arena.END] = min(self.end, self.start + room)
        self.state[arena.FIXED] = small
        self.state[arena.LIMIT] = limit
        self.state[arena.PEAK] = self.state[arena.HITS] = self.state[arena.MISSES] = 0

    def take(self, nbytes, zeroed=False):
        context = self.state.ctypes.data
        block = self.calls[1](context, 1, nbytes) if zeroed else self.calls[0](context, nbytes)
        assert block != 0 and block % arena.ALIGNMENT == 0
        numbers = bytes_at(block, nbytes)
        assert not zeroed or not numbers.any()
        mark = len(self.held) % 251 + 1
        numbers[:] = mark
        self.held.append((block, nbytes, mark))
        return block

    def drop(self, which):
        block, nbytes, mark = self.held.pop(which % len(self.held))
        assert (bytes_at(block, nbytes) == mark).all()
        self.calls[3](self.state.ctypes.data, block, nbytes)

    def resize(self, which, nbytes):
        block, before, mark = self.held.pop(which % len(self.held))
        block = self.calls[2](self.state.ctypes.data, block, nbytes)
        assert (bytes_at(block, min(before, nbytes)) == mark).all()
        bytes_at(block, nbytes)[:] = mark
        self.held.append((block, nbytes, mark))

    def blocks(self):
        """Every block of the range, from low addresses to high: (block, capacity, dirty)."""
        found, below = [], 0
        block = self.start + arena.HEAD if self.state[arena.LAST] else 0
        while block:
            words = head(block)
            assert words[arena.BELOW] == below
            found.append((block, int(words[arena.CAPACITY]), int(words[arena.DIRTY])))
            above = int(words[arena.ABOVE])
            assert above in (0, block + found[-1][1] + arena.HEAD)
            block, below = above, block
        assert below == self.state[arena.LAST]
        last = found[-1][0] + found[-1][1] if found else self.start
        assert last == self.state[arena.TOP] <= self.state[arena.TOUCHED] or not found
        return found

    def dead(self):
        """Every block of the lists of sizes: block -> (capacity, dirty)."""
        found = {}
        for place in np.flatnonzero(self.state[arena.BINS :]):
            block, before = int(self.state[arena.BINS + place]), 0
            while block:
                words = head(block)
                assert block not in found and words[arena.BEFORE] == before
                assert arena.size_of.py_func(int(words[arena.CAPACITY])) == place
                found[block] = (int(words[arena.CAPACITY]), int(words[arena.DIRTY]))
                block, before = int(words[arena.AFTER]), block
        return found

    def check(self):
        """All that is promised of the heap."""
        dead, blocks = self.dead(), self.blocks()
        large = {block: n for block, n, _ in self.held if capacity(block) >= arena.SMALL}
        inside = [block for block, _, _ in blocks]
        # Blocks of the range are alive or in a list, never both; dead neighbours are one block.
        assert {b for b, _, dirty in blocks if dirty < 0} == set(large).intersection(inside)
        assert {b for b, _, dirty in blocks if dirty >= 0} == set(dead).intersection(inside)
        if self.state[arena.JOINS]:
            assert not any(x[2] >= 0 and y[2] >= 0 for x, y in itertools.pairwise(blocks))
        # No two blocks overlap, wherever they come from.
        spans = [(b, b + max(n, capacity(b))) for b, n, _ in self.held]
        spans += [(b, b + n) for b, (n, _) in dead.items()]
        spans.sort()
        assert all(x[1] <= y[0] for x, y in itertools.pairwise(spans))
        # Bytes are accounted for.
        assert all(0 <= dirty <= n for n, dirty in dead.values())
        assert self.state[arena.IDLE] == sum(dirty for _, dirty in dead.values())
        assert self.state[arena.LIVE] == sum(capacity(block) for block in large)
        assert all(n <= capacity(b) < n + 64 + arena.HEAD + arena.LEAST for b, n in large.items())
        assert self.state[arena.PEAK] >= self.state[arena.LIVE]
        if sys.platform == "linux":
            assert self.state[arena.IDLE] <= self.state[arena.LIMIT]


def head(block):
    return np.frombuffer((ctypes.c_ssize_t * 8).from_address(block - arena.HEAD), np.intp)


def capacity(block):
    return int(head(block)[arena.CAPACITY])


def bytes_at(block, nbytes):
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(block), np.uint8)


@pytest.fixture(scope="module")
def heap():
    made = Heap()
    yield made
    made.again(0, 0)


SIZES = st.one_of(
    st.integers(arena.SMALL - 70, arena.SMALL + 70),
    st.integers(1, 40).map(lambda i: i * 8 * KIB),
    st.integers(1, 400 * KIB),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "zeros", "drop", "drop", "resize", "empty"]), SIZES),
    max_size=40,
)


@settings(max_examples=150)
@given(
    steps=STEPS,
    room=st.sampled_from([0, 256 * KIB, 1 << 20, 1 << 40]),
    limit=st.sampled_from([0, 100 * KIB, 1 << 20, 1 << 30]),
    small=st.sampled_from([0, 1 << 19, 1 << 25]),
)
@example(steps=[("take", 32765), ("drop", 0)], room=1 << 20, limit=1 << 20, small=0)
@example(steps=[("take", 65536)] * 2 + [("drop", 0), ("zeros", 32768)], room=0, limit=0, small=0)
def test_blocks_never_overlap_and_all_bytes_are_accounted_for(heap, steps, room, limit, small):
    heap.again(room, limit, small)
    for what, size in steps:
        if what in ("take", "zeros"):
            heap.take(size, what == "zeros")
        elif what == "empty":
            heap.calls[4](heap.state.ctypes.data)
        elif heap.held:
            heap.drop(size) if what == "drop" else heap.resize(size, size)
        heap.check()
    heap.again(room, limit)
    assert heap.state[arena.LIVE] == heap.state[arena.IDLE] == 0


def test_the_lowest_fit_is_cut_and_neighbours_join(heap):
    heap.again(1 << 40, 1 << 30)
    sizes = [256 * KIB, 64 * KIB, 128 * KIB, 64 * KIB, 512 * KIB, 64 * KIB]
    blocks = [heap.take(n) for n in sizes]
    for which in (4, 2, 0):  # dead: 512, 128 and 256 KiB, with others between
        heap.drop(which)
    assert heap.take(130 * KIB) == blocks[0]
    assert heap.take(120 * KIB) == blocks[0] + 130 * KIB + arena.HEAD  # what was left of it
    assert heap.take(200 * KIB) == blocks[4]
    assert heap.take(100 * KIB) == blocks[2]
    heap.check()
    heap.again(1 << 40, 1 << 30)
    for n in sizes:
        heap.take(n)
    for _ in sizes:
        heap.drop(0)
    assert len(heap.blocks()) == 1  # all joined
    whole = sum(sizes) + arena.HEAD * (len(sizes) - 1)
    assert heap.take(whole) == blocks[0] and heap.state[arena.HITS] == 1


@on_linux
def test_a_small_heap_keeps_sizes_until_it_has_outgrown_the_caches(heap):
    heap.again(1 << 40, 1 << 30, small=1 << 20)
    sizes = [64 * KIB, 128 * KIB, 256 * KIB]
    first = [heap.take(n) for n in sizes]
    for _ in sizes:
        heap.drop(0)
    assert [heap.take(n) for n in sizes[::-1]] == first[::-1]
    for _ in sizes:
        heap.drop(0)
    fourth = heap.take(100 * KIB)
    assert fourth > first[2]  # nothing is cut
    assert len(heap.blocks()) == 4 and not heap.state[arena.JOINS]
    heap.check()
    assert heap.take(1 << 20) > fourth and heap.state[arena.JOINS]
    assert len(heap.blocks()) == 3  # the three dead ones are one
    heap.check()
    assert heap.take(440 * KIB) == first[0]


@on_linux
def test_a_dead_last_block_grows(heap):
    heap.again(1 << 40, 1 << 30)
    block = heap.take(64 * KIB)
    heap.drop(0)
    assert heap.take(1 << 20, zeroed=True) == block
    assert len(heap.blocks()) == 1 and heap.state[arena.MISSES] == 2
    heap.drop(0)
    assert heap.take(600 * KIB, zeroed=True) == block and heap.state[arena.HITS] == 1


@on_linux
def test_pages_go_back_to_the_system(heap):
    heap.again(1 << 40, 1 << 30)
    heap.take(1 << 26)
    heap.take(64 * KIB)
    before = resident()
    heap.drop(0)
    heap.calls[4](heap.state.ctypes.data)
    assert before - resident() > 0.9 * (1 << 26)  # though a later block is alive
    assert heap.state[arena.IDLE] == 0
    heap.take(1 << 26, zeroed=True)
    heap.check()


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_the_same_steps_find_the_same_places(heap):
    heap.again(1 << 40, 1 << 30)
    sizes = [(i * 7919 % 97 + 4) * 8 * KIB for i in range(60)]

    def step():
        found = []
        for i, n in enumerate(sizes):
            found.append(heap.take(n))
            if i % 3 == 2:
                heap.drop(i * 31)
        while heap.held:
            heap.drop(len(heap.held) // 2)
        return found

    step()
    assert step() == step()


def test_without_a_range_no_more_than_five_quarters_of_the_peak_is_held(heap):
    heap.again(0, 1 << 30)
    for i in range(40):  # always a little more than any dead segment has
        heap.take(256 * KIB + i * 4 * KIB)
        heap.drop(0)
        heap.check()
        assert heap.state[arena.IDLE] <= heap.state[arena.PEAK] * 5 // 4


def test_many_dead_blocks_of_one_size(heap):
    heap.again(1 << 40, 1 << 30)
    for _ in range(4 * arena.REACH):
        heap.take(arena.SMALL)
    for i in range(2 * arena.REACH):
        heap.drop(i)  # every other
    heap.check()
    for _ in range(2 * arena.REACH):
        heap.take(arena.SMALL)
    assert heap.state[arena.IDLE] == 0
    heap.check()


def test_sizes_are_in_order_and_close():
    sizes = [arena.size_of.py_func(n) for n in range(1, 5000)]
    assert sizes == sorted(sizes)


@given(nbytes=st.integers(1, 2**50))
def test_a_size_has_room_for_its_bytes(nbytes):
    size = arena.size_of.py_func(nbytes)
    most = arena.capacity_of.py_func(size)
    assert nbytes <= most <= max(arena.STEPS, nbytes * 1.125 + 1)
    assert arena.size_of.py_func(most) == size < arena.SIZES
