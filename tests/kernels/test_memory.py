"""The pool behind NumPy's arrays: contents, sizes, views, limits, threads, and what is told."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad_nn.kernels import reuse_memory
from minigrad_nn.kernels.cpu import arena, memory

LARGE = 1 << 18  # bytes


@pytest.fixture(autouse=True)
def emptied():
    """Every test begins and ends with an empty pool."""
    mg.empty_memory()
    with reuse_memory(memory.DEFAULT_LIMIT):
        pass
    yield
    with reuse_memory(memory.DEFAULT_LIMIT):
        pass
    mg.empty_memory()


def handler(array=None):
    names = np._core.multiarray.get_handler_name
    return names() if array is None else names(array)


def test_memory_of_a_dead_array_serves_the_next():
    with reuse_memory():
        before = mg.memory_stats()
        x = np.empty(LARGE, np.uint8)
        address = x.ctypes.data
        assert handler(x) == "minigrad" and address % arena.ALIGNMENT == 0
        assert mg.memory_stats().live - before.live >= LARGE
        del x
        assert mg.memory_stats().idle >= LARGE
        y = np.empty(LARGE // 4, np.float32)
        assert y.ctypes.data == address
        assert mg.memory_stats().reused == before.reused + 1
        del y
    assert handler() == "default_allocator"


def test_a_view_keeps_the_memory_of_its_owner():
    with reuse_memory():
        owner = np.full(LARGE, 7, np.uint8)
        view = owner[LARGE // 2 :]
        del owner
        others = [np.zeros(LARGE, np.uint8) for _ in range(3)]
        assert (view == 7).all() and not any(np.shares_memory(view, o) for o in others)


def test_arrays_leave_the_context_and_die_anywhere():
    with reuse_memory():
        x = np.full(LARGE, 3, np.uint8)
    assert (x == 3).all()
    live = mg.memory_stats().live
    other = threading.Thread(target=lambda held: held.clear(), args=([x],))
    del x
    other.start()
    other.join()
    gc.collect()
    assert mg.memory_stats().live < live


def test_the_context_belongs_to_its_thread_and_ends_with_errors():
    seen = []
    with pytest.raises(KeyError), reuse_memory(), reuse_memory():
        thread = threading.Thread(target=lambda: seen.append(handler()))
        thread.start()
        thread.join()
        assert handler() == "minigrad"
        raise KeyError
    assert handler() == "default_allocator" and seen == ["default_allocator"]


@pytest.mark.parametrize("limit", [0, LARGE + LARGE // 2])
def test_no_more_than_the_limit_is_kept(limit):
    with reuse_memory(limit):
        arrays = [np.empty(LARGE, np.uint8) for _ in range(4)]
        del arrays
        assert mg.memory_stats().idle == (0 if limit == 0 else LARGE)
    with reuse_memory(0):
        assert mg.memory_stats().idle == 0
    with pytest.raises(ValueError, match="limit must be a number of bytes, 0 or more, got -1"):
        reuse_memory(-1)


def test_what_is_idle_can_be_given_back():
    with reuse_memory():
        x, y = np.empty(LARGE, np.uint8), np.empty(LARGE, np.uint8)
        del x
        mg.empty_memory()
        stats = mg.memory_stats()
        assert stats.idle == 0 and stats.peak == stats.live >= LARGE
        y[:] = 1
    with pytest.raises(ValueError, match="unknown device 'cud'"):
        mg.memory_stats("cud")
    with pytest.raises(ValueError, match="unknown device 'cud'"):
        mg.empty_memory("cud")


SIZES = st.one_of(
    st.integers(0, 3 * arena.SMALL),
    st.integers(arena.SMALL - 9, arena.SMALL + 9),
    st.integers(0, 60).map(lambda i: int(2 ** (15 + i / 8))),
)


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["empty", "zeros", "drop", "resize", "view"]), SIZES), max_size=30
    )
)
def test_contents_stay_apart_whatever_happens(steps):
    """A model of the heap: every live array keeps what was written into it."""
    array, held = None, []
    start = mg.memory_stats()
    with reuse_memory():
        for number, (what, size) in enumerate(steps):
            mark = number % 251 + 1
            if what == "drop" and held:
                held.pop(size % len(held))
            elif what == "resize" and held:
                array, marked = held.pop(size % len(held))
                if array.base is None:
                    kept = min(size, array.size)
                    array.resize(size, refcheck=False)
                    assert (array[:kept] == marked).all() and not array[kept:].any()
                    array[:] = marked
                    held.append((array, marked))
            elif what == "view" and held:
                array, marked = held.pop(size % len(held))
                held.append((array[array.size // 3 :], marked))
            elif what in ("empty", "zeros"):
                array = getattr(np, what)(size, np.uint8)
                assert what == "empty" or not array.any()
                array[:] = mark
                held.append((array, mark))
            for array, marked in held:
                assert (array == marked).all()
    del array, held
    gc.collect()
    assert mg.memory_stats().live == start.live


def test_results_are_the_same_bits(monkeypatch):
    x = mg.tensor(np.random.default_rng(0).standard_normal((64, 300)), requires_grad=True)

    def gradient():
        x.zero_grad()
        (mg.tanh(x @ x.T) ** 2).sum().backward()
        return x.grad.numpy().copy()

    plain = gradient()
    with reuse_memory():
        for _ in range(3):
            np.testing.assert_array_equal(gradient(), plain)


LATE = """
import numpy as np
from minigrad_nn.kernels import reuse_memory
class Late:
    pass
with reuse_memory():
    late = Late()
    late.self, late.array = late, np.ones(10**6)
    import sys
    sys.late = [late, np.ones(10**6)]
print("end")
"""


def test_arrays_may_outlive_everything_at_the_end_of_the_process():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_pool_of_its_own():
    script = LATE.replace('print("end")', "import os\nchild = os.fork()\n") + (
        "with reuse_memory():\n"
        "    x = np.ones(10**6); del x; y = np.zeros(10**6); assert not y.any()\n"
        "if child:\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_it_does_nothing_without_the_global_lock(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with reuse_memory():
        assert handler() == "default_allocator"
