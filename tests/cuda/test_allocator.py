"""The caching allocator, with a card that has little memory and notes what it is asked."""

import gc
import itertools
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad_nn.kernels.cuda.allocator import (
    GRAIN,
    LARGE_SEGMENT,
    SMALL_SEGMENT,
    Allocator,
    OutOfMemory,
    readable,
)

MIB = 2**20


class Event:
    past = False

    def query(self):
        return self.past


class FakeDriver:
    """A card with so many bytes; segments are Python objects with an address."""

    stream = "main"

    def __init__(self, room):
        self.room = room
        self.asked = []
        self.events = []
        self._next = 2**20

    def reserve(self, nbytes):
        self.asked.append(nbytes)
        if nbytes > self.room:
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY")
        self.room -= nbytes
        self._next += nbytes + 2**30
        return FakeSegment(self, nbytes, self._next)

    def address(self, segment):
        return segment.address

    def memory(self):
        return self.room, 64 * MIB

    def synchronise(self):
        for event in self.events:
            event.past = True

    def mark(self, stream):
        event = Event()
        self.events.append(event)
        return event


class FakeSegment:
    def __init__(self, driver, nbytes, address):
        self.driver, self.nbytes, self.address = driver, nbytes, address

    def __del__(self):
        self.driver.room += self.nbytes


@pytest.fixture
def driver():
    return FakeDriver(64 * MIB)


def test_a_size_that_came_back_is_handed_out_again(driver):
    memory = Allocator(driver)
    first = memory.take(1000)
    place = first.address
    del first
    again = memory.take(900)
    assert again.address == place
    assert driver.asked == [SMALL_SEGMENT]
    now = memory.statistics()
    assert (now.allocated, now.reserved, now.arrays) == (1024, SMALL_SEGMENT, 1)
    assert (now.requests, now.segments) == (2, 1)


def test_blocks_begin_at_grains_and_do_not_overlap(driver):
    memory = Allocator(driver)
    blocks = [memory.take(n) for n in (1, 511, 512, 513, 0)]
    ends = sorted(
        (b.address, b.address + max(GRAIN, -(-b.nbytes // GRAIN) * GRAIN)) for b in blocks
    )
    assert all(start % GRAIN == 0 for start, _ in ends)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))


def test_neighbours_become_one_again(driver):
    memory = Allocator(driver)
    blocks = [memory.take(MIB // 2) for _ in range(4)]
    assert driver.asked == [SMALL_SEGMENT]
    del blocks[0], blocks[1]  # the first and the third
    del blocks[:]
    whole = memory.take(MIB)
    assert driver.asked == [SMALL_SEGMENT]
    assert memory.statistics().allocated == whole.nbytes == MIB


def test_large_requests_share_a_segment_and_very_large_ones_have_their_own(driver):
    memory = Allocator(driver)
    held = [memory.take(5 * MIB), memory.take(5 * MIB), memory.take(23 * MIB + 1)]
    assert driver.asked == [LARGE_SEGMENT, 24 * MIB]
    assert memory.statistics().arrays == len(held)


def test_what_is_kept_goes_back_before_a_request_fails(driver):
    memory = Allocator(driver)
    kept = memory.take(40 * MIB)
    del kept
    assert memory.statistics().reserved == 40 * MIB
    other = memory.take(60 * MIB)
    assert memory.statistics().reserved == other.nbytes == 60 * MIB


def test_out_of_memory_names_the_request_and_what_is_held(driver):
    memory = Allocator(driver, "cuda:3")
    held = [memory.take(40 * MIB), memory.take(1000)]
    with pytest.raises(OutOfMemory) as told:
        memory.take(30 * MIB, what="an array of shape (8, 3) and float32")
    words = str(told.value)
    assert "cuda:3 has no room for 30.0 MiB (an array of shape (8, 3) and float32)" in words
    assert "22.0 MiB of 64.0 MiB are free" in words
    assert "holds 40.0 MiB in 2 arrays" in words
    assert "The largest arrays: 40.0 MiB, 1.0 KiB." in words
    assert isinstance(told.value, MemoryError)
    del held
    assert memory.take(30 * MIB).nbytes == 30 * MIB


def test_empty_gives_back_what_no_array_uses(driver):
    memory = Allocator(driver)
    kept = memory.take(20 * MIB)
    gone = memory.take(22 * MIB)
    del gone
    assert memory.empty() == 22 * MIB
    assert driver.room == 44 * MIB
    del kept
    assert memory.empty() == 20 * MIB
    assert driver.room == 64 * MIB
    assert memory.statistics().reserved == 0


def test_peaks_begin_again(driver):
    memory = Allocator(driver)
    block = memory.take(3 * MIB)
    del block
    assert memory.statistics().peak_allocated == 3 * MIB
    memory.reset_peak()
    now = memory.statistics()
    assert (now.peak_allocated, now.peak_reserved) == (0, LARGE_SEGMENT)


def test_streams_have_memory_of_their_own(driver):
    memory = Allocator(driver)
    block = memory.take(1000)
    place = block.address
    del block
    assert memory.take(1000, stream="copies").address != place
    assert memory.take(1000).address == place


def test_a_block_waits_for_the_other_streams_that_used_it(driver):
    memory = Allocator(driver)
    block = memory.take(1000, stream="copies")
    place = block.address
    block.used_on("main")
    del block
    assert memory.take(1000, stream="copies").address != place
    for event in driver.events:
        event.past = True
    assert memory.take(1000, stream="copies").address == place


def test_a_block_may_go_while_the_allocator_works(driver):
    """The garbage collector runs whenever it likes, on whatever thread."""
    memory = Allocator(driver)

    class Ring:
        def __init__(self):
            self.me, self.block = self, memory.take(100)

    for _ in range(200):
        Ring()
    gc.collect()
    assert memory.statistics().allocated == 0


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_any_order_of_taking_and_giving_back(seed):
    """Live blocks never overlap, the books are right, and in the end all is one piece again."""
    rng = random.Random(seed)
    driver = FakeDriver(2**40)
    memory = Allocator(driver)
    live = []
    for _ in range(120):
        if live and rng.random() < 0.45:
            live.pop(rng.randrange(len(live)))
        else:
            size = rng.choice([rng.randrange(4096), rng.randrange(MIB), rng.randrange(40 * MIB)])
            live.append(memory.take(size))
        spans = sorted((b.address, b.address + b.nbytes) for b in live)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        now = memory.statistics()
        assert now.arrays == len(live)
        assert sum(b.nbytes for b in live) <= now.allocated <= now.reserved
    live.clear()
    assert memory.statistics().allocated == 0
    memory.empty()
    assert memory.statistics().reserved == 0
    assert driver.room == 2**40


@pytest.mark.parametrize(
    "nbytes, words", [(0, "0 B"), (1536, "1.5 KiB"), (5 * 2**40, "5120.0 GiB")]
)
def test_bytes_are_readable(nbytes, words):
    assert readable(nbytes) == words


# --- memory apart --------------------------------------------------------------------------------


def test_what_a_pool_has_nobody_else_is_given(driver):
    memory = Allocator(driver)
    first = memory.take(1000)
    pool = memory.pool()
    with memory.within(pool):
        inside = memory.take(1000)
        place = inside.address
        del inside
        again = memory.take(900)  # it is used again there
        assert again.address == place and pool.has(again) and not pool.has(first)
        del again
        with memory.within(None):
            assert not pool.has(memory.take(1000))
    outside = [memory.take(1000) for _ in range(100)]
    assert driver.asked == [SMALL_SEGMENT] * 2
    assert place not in {block.address for block in outside}


def test_a_pool_is_kept_when_all_else_goes_back(driver):
    memory = Allocator(driver)
    pool = memory.pool()
    with memory.within(pool):
        memory.take(1000)  # free again, but graphs use it
    assert memory.empty() == 0
    del pool
    assert memory.empty() == SMALL_SEGMENT and driver.room == 64 * MIB


def test_a_pool_that_is_gone_gives_all_to_the_others(driver):
    memory = Allocator(driver)
    pool = memory.pool()
    with memory.within(pool):
        held, free = memory.take(5000), memory.take(3000)
    place = free.address
    del free, pool
    assert memory.take(2000).address == place
    assert not memory.pool().has(held)
    del held
    assert memory.empty() == SMALL_SEGMENT
    assert memory.statistics().reserved == 0 and list(memory._streams) == [id(driver.stream)]


def test_a_pool_that_is_too_large_does_not_wait_for_the_card(driver):
    """While a graph is noted nobody may wait; so nothing that is kept goes back."""
    memory = Allocator(driver)
    memory.take(40 * MIB)

    def synchronise():
        raise AssertionError("waited")

    driver.synchronise = synchronise
    with memory.within(memory.pool()), pytest.raises(OutOfMemory):
        memory.take(40 * MIB)


def test_other_threads_are_given_memory_after_a_pool(driver):
    """They must not wait for the card with the allocator's lock while a graph is noted."""
    memory = Allocator(driver)
    pool, found = memory.pool(), []

    def other():
        memory.empty()
        found.append(memory.take(1000))

    thread = threading.Thread(target=other)
    with memory.within(pool):
        thread.start()
        thread.join(0.05)
        assert pool.has(memory.take(1000)) and not found
    thread.join(10)
    assert not pool.has(found[0])
