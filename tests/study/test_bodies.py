"""The body of a compiled kernel, watched: races and indices outside are found, and only those.

Nothing is compiled here but where it says so: `njit` compiles when it is first called.
"""

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, prange
from numba import prange as in_parallel
from numpy import zeros as fresh

from minigrad.study import bodies
from minigrad.study.bodies import Body, Outside
from minigrad_nn import kernels
from minigrad_nn.kernels.cpu import compile as compiling
from minigrad_nn.kernels.cpu import normalise

ROOT = Path(__file__).parents[2]


def watch(kernel, *arguments, backwards=False):
    body = Body(kernel)
    assert body.compiled
    names = [f"input {i}" for i in range(len(arguments))]
    return body.run(arguments, names, backwards)


def race(kernel, *arguments):
    """What is found in both directions; a race does not depend on them."""
    found = [watch(kernel, *arguments, backwards=b)[1].race for b in (False, True)]
    assert (found[0] is None) == (found[1] is None)
    return found[0]


X = np.arange(1.0, 7.0)


# --- kernels with a race -------------------------------------------------------------------------


@njit(parallel=True)
def one_cell(x, total):
    for i in prange(len(x)):
        total[0] += x[i]


@njit(parallel=True)
def a_cell_of_its_own_array(x):
    total = np.zeros(1)
    for i in numba.prange(len(x)):
        total[0] += x[i]
    return total


@njit(parallel=True)
def made_otherwise(x):
    total = fresh(1)
    for i in in_parallel(len(x)):
        total[-1] += x[i]
    return total


@njit(parallel=True)
def histogram(bins, counts):
    for i in prange(len(bins)):
        counts[bins[i]] += 1.0


@njit(parallel=True)
def shift_in_place(x):
    for i in prange(len(x) - 1):
        x[i] = x[i + 1]


@njit(parallel=True)
def scratch_in_common(x, y):
    scratch = np.empty(2)
    for i in prange(len(x)):
        scratch[:] = x[i]
        y[i] = scratch.sum()


@njit(parallel=True)
def columns_into_one_row(x, y):
    for i in prange(x.shape[0]):
        y[0, :] += x[i]


@njit(parallel=True)
def overlapping_slices(x, y):
    for i in prange(len(x) - 1):
        part = y[i : i + 2]
        part.fill(x[i])


@njit(parallel=True)
def by_out(x, y):
    for _ in prange(len(x)):
        np.add(x, 1.0, y)


@njit
def add_to(total, value):
    total[0] += value


@njit(parallel=True)
def in_a_helper(x, total):
    for i in prange(len(x)):
        add_to(total, x[i])


def in_a_wrapper(x):
    total = np.zeros(1)
    one_cell(x, total)
    return total


RACY = [
    (one_cell, (X, np.zeros(1)), "element [0] of input 1"),
    (a_cell_of_its_own_array, (X,), "element [0] of an array that it makes"),
    (made_otherwise, (X,), "element [0] of an array that it makes"),
    (histogram, (np.array([0, 1, 2, 1]), np.zeros(3)), "element [1] of input 1"),
    (shift_in_place, (X,), "element [1] of input 0, which iteration 1 writes"),
    (scratch_in_common, (X, X.copy()), "iterations 0 and 1 both write element [0] of an array"),
    (columns_into_one_row, (X.reshape(3, 2), np.zeros((1, 2))), "element [0, 0] of input 1"),
    (overlapping_slices, (X, X.copy()), "iterations 0 and 1 both write element [1] of input 1"),
    (by_out, (X, X.copy()), "iterations 0 and 1 both write element [0] of input 1"),
    (in_a_helper, (X, np.zeros(1)), "total[0] += value)"),
    (in_a_wrapper, (X,), "element [0] of an array that it makes"),
]


@pytest.mark.parametrize("kernel, arguments, words", RACY, ids=lambda v: getattr(v, "__name__", ""))
def test_a_race_is_found(kernel, arguments, words):
    assert words in race(kernel, *(a.copy() for a in arguments))


def test_a_race_is_found_in_the_line_where_it_happens():
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = source.index("def one_cell(x, total):") + 3
    assert f"(line {line}: total[0] += x[i])" in race(one_cell, X, np.zeros(1))


# --- kernels without -----------------------------------------------------------------------------


@njit(parallel=True)
def reductions(x):
    total = 0.0
    parts = np.zeros(2)
    biggest = 0.0
    for i in prange(len(x)):
        total += x[i]
        parts += np.ones(2) * x[i]
        biggest = max(biggest, x[i])
    return parts * total + biggest


@njit(parallel=True)
def products(a, b):
    c = np.zeros((a.shape[0], b.shape[1]))
    for i in prange(a.shape[0]):
        for j in prange(b.shape[1]):  # within an iteration, so in order
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@njit(parallel=True)
def scratch_of_their_own(x, y):
    for i in prange(len(x)):
        scratch = np.empty(2)
        scratch[:] = x[i]
        scratch += 1.0
        y[i] = scratch.sum() + np.zeros_like(y)[0]


@njit(parallel=True)
def two_loops(x, y):
    for i in prange(len(x)):
        y[i] = x[i] * 2.0
    for i in prange(len(x)):
        y[i] += y[len(x) - 1 - i] * 0.0 if i == len(x) - 1 - i else 0.0


@njit(parallel=True)
def by_thread(x):
    parts = np.zeros(numba.get_num_threads())
    for i in prange(len(x)):
        parts[numba.get_thread_id()] += x[i]
    return parts.sum()


@njit(parallel=True)
def rows(x, y):
    for i in prange(x.shape[0]):
        row = x[i]
        for j, value in enumerate(row):
            y[i, j] = value * row.shape[0] + row.max() + np.dot(row, row)
        y[i] *= 2.0
        y.T[0, i] = x.flat[i]


@njit
def serial(x, total):
    for i in prange(len(x)):  # without parallel=True it is a range
        total[0] += x[i]


@njit(parallel=True)
def plain_range(x, total):
    for i in range(len(x)):
        total[0] += x[i]


RIGHT = [
    (reductions, (X,), np.full(2, 21.0 * 21.0 + 6.0)),
    (products, (X.reshape(2, 3), X.reshape(3, 2)), X.reshape(2, 3) @ X.reshape(3, 2)),
    (scratch_of_their_own, (X, np.zeros(6)), None),
    (two_loops, (X, np.zeros(6)), None),
    (by_thread, (np.arange(150.0),), 149.0 * 75.0),
    (rows, (X.reshape(3, 2), np.zeros((3, 2))), None),
    (serial, (X, np.zeros(1)), None),
    (plain_range, (X, np.zeros(1)), None),
]


@pytest.mark.parametrize(
    "kernel, arguments, wanted", RIGHT, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_kernel_without_a_race_is_not_accused_and_computes_as_it_does(kernel, arguments, wanted):
    given = [a.copy() for a in arguments]
    found, seen = watch(kernel, *given)
    assert seen.race is None and race(kernel, *(a.copy() for a in arguments)) is None
    assert (seen.loops > 0) == (kernel not in (serial, plain_range))
    plain = [a.copy() for a in arguments]
    usual = kernel.py_func(*plain)
    if kernel is not by_thread:
        np.testing.assert_array_equal(found, usual)
        for a, b in zip(given, plain, strict=True):
            np.testing.assert_array_equal(a, b)
    if wanted is not None:
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


INDICES = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 7), min_size=n, max_size=n)] * 3)
)


@njit(parallel=True)
def by_index(y, writes, reads, others):
    for i in prange(len(writes)):
        y[writes[i]] = y[reads[i]] + y[others[i] : others[i] + 2].sum()


@given(INDICES)
def test_what_is_found_is_what_sets_of_indices_say(drawn):
    writes, reads, others = drawn
    touched = [{r, o, o + 1} for r, o in zip(reads, others, strict=True)]
    wanted = any(
        writes[i] == writes[j] or writes[i] in touched[j] or writes[j] in touched[i]
        for i, j in combinations(range(len(writes)), 2)
    )
    found = race(by_index, np.ones(9), *map(np.array, drawn))
    assert (found is not None) == wanted


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 3)), min_size=2, max_size=5
    )
)
def test_slices_of_views_clash_where_their_elements_do(parts):
    def written(array, k, start, length):
        view = [array, array.T, array[::-1], array.reshape(-1)[3:].reshape(3, 3)][k]
        view[start % len(view) : start % len(view) + length, 0] = 1.0

    marks = []
    for part in parts:
        mark = np.zeros((4, 3))
        written(mark, *part)
        marks.append(mark)
    wanted = any((a * b).any() for a, b in combinations(marks, 2))

    body = Body(one_cell)
    seen = bodies.Watch(body._codes)
    array = seen.array(np.zeros((4, 3)), "y")
    for i in seen.prange(len(parts)):
        written(array, *parts[i])
    assert (seen.race is not None) == wanted
    np.testing.assert_array_equal(np.asarray(array) > 0, sum(marks) > 0)


# --- indices outside -----------------------------------------------------------------------------


@njit
def reads_behind(x, y):
    for i in range(len(x)):
        y[i] = x[i + 1]


@njit
def writes_far_before(x, y):
    for i in range(len(x)):
        y[i - 5000] = x[i]


@njit
def a_row_too_many(x, y):
    for i in range(len(x) + 1):
        y[i] += x[i]


@njit
def a_column_too_many(x, y):
    for i in range(x.shape[0]):
        y[i, x.shape[1]] = x[i, 0]


@njit
def wraps_around(x, y):
    for i in range(len(x)):
        y[i] = x[i - 1]  # the last one for i = 0, in Numba as in Python


OUTSIDE = [
    (
        reads_behind,
        (X, X.copy()),
        r"it reads \[6\] of input 0, whose shape is \(6,\) \(line \d+: y",
    ),
    (writes_far_before, (X, X.copy()), r"it writes \[-5000\] of input 1"),
    (a_row_too_many, (X.reshape(3, 2), np.zeros((3, 2))), r"it reads \[3\] of input 1"),
    (a_column_too_many, (X.reshape(3, 2), np.zeros((3, 2))), r"it writes \[0, 2\] of input 1"),
]


@pytest.mark.parametrize(
    "kernel, arguments, words", OUTSIDE, ids=lambda v: getattr(v, "__name__", "")
)
def test_an_index_outside_is_found_before_compiled_code_runs(kernel, arguments, words):
    with pytest.raises(Outside, match=words):
        watch(kernel, *(a.copy() for a in arguments))
    assert not kernel.signatures  # nothing was compiled for it


def test_negative_indices_wrap_around():
    y = np.zeros(6)
    _, seen = watch(wraps_around, X, y)
    assert y.tolist() == [6.0, 1.0, 2.0, 3.0, 4.0, 5.0] and seen.accesses == 12


# --- what it can, and cannot ---------------------------------------------------------------------


def test_who_is_not_compiled_is_not_looked_into():
    def plain(x):
        return x + 1.0

    assert not Body(plain).compiled and not Body(np.add).compiled and not Body(len).compiled


def test_a_body_is_left_as_it_is():
    before = dict(one_cell.py_func.__globals__)
    race(one_cell, X, np.zeros(1))
    assert one_cell.py_func.__globals__ == before and one_cell.py_func.__globals__["np"] is np
    assert X.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] and type(X) is np.ndarray


def test_a_body_that_does_too_much_is_watched_as_far_as_wanted():
    found, seen = watch(products, np.ones((40, 40)), np.ones((40, 40)))
    assert found is None and seen.accesses > bodies.LIMIT and seen.race is None
    found, seen = watch(one_cell, np.ones(50_000), np.zeros(1))
    assert found is None and "element [0]" in seen.race


@pytest.mark.full
def test_numba_itself_finds_them_right():
    """Compiled: those that are said to have no race give what they should, on any threads."""
    before = numba.get_num_threads()
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            np.testing.assert_allclose(reductions(X), np.full(2, 21.0 * 21.0 + 6.0))
            assert by_thread(X) == pytest.approx(21.0)
    finally:
        numba.set_num_threads(before)


# --- the project's own kernels -------------------------------------------------------------------


# Tiles are no Python: here are loops that read and write the same numbers.


def number_at(planes, i):
    return planes[divmod(i, planes.shape[1])]


def plain_moments(x, x0, length, origin):
    offsets = [number_at(x, x0 + j) - origin for j in range(length)]
    return sum(offsets), sum(offset * offset for offset in offsets)


def plain_normalise(x, x0, y, y0, length, middle, scale, shift, *_):
    for j in range(length):
        y[divmod(y0 + j, y.shape[1])] = (number_at(x, x0 + j) - middle) * scale + shift


def plain_products(g, g0, x, y, given, at, length, middle, *_):
    pairs = [(number_at(g, g0 + j), number_at(x, at + j) - middle) for j in range(length)]
    return sum(p for p, _ in pairs), sum(p * offset for p, offset in pairs)


def plain_gradient(
    g, g0, x, y, gx, gy, given, at, length, middle, scale, shift, floor, ceiling, constant, slope, _
):
    for j in range(length):
        taken = constant + (number_at(x, at + j) - middle) * slope
        gx[divmod(at + j, gx.shape[1])] = (number_at(g, g0 + j) - taken) * scale


PLAIN_TILES = {
    "moments_tile": plain_moments,
    "normalise_tile": plain_normalise,
    "products_tile": plain_products,
    "gradient_tile": plain_gradient,
}


@pytest.fixture
def watched_kernels(monkeypatch):
    """Each kernel of the project is watched before it runs; gives what was seen, by name."""
    seen = {}
    usual = compiling.Kernel.__call__

    def call(self, *arguments):
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        with pytest.MonkeyPatch.context() as patch:
            for name, loop in PLAIN_TILES.items():
                patch.setattr(normalise, name, loop)
            _, found = watch(self, *copies)
        assert found.race is None, f"{self.__name__}: {found.race}"
        seen[self.__name__] = seen.get(self.__name__, 0) + found.iterations
        return usual(self, *arguments)

    monkeypatch.setattr(compiling.Kernel, "__call__", call)
    return seen


def test_the_projects_own_pools_and_norms_have_no_race(watched_kernels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 5, 5))
    for geometry in (
        kernels.Geometry.of((5, 5), (3, 3), stride=1, padding=1),
        kernels.Geometry.of((5, 5), (2, 2), stride=2),
    ):
        g = rng.normal(size=(2, 2, *geometry.output))
        indices = rng.integers(0, 25, g.shape)
        kernels.gather(x, indices)
        kernels.scatter(g, indices, (5, 5))
    kernels.moments(x)
    normal = kernels.batch_norm(x, np.ones(2), np.ones(2))
    kernels.batch_norm_backward(x, x, np.ones(2), normal.mean, normal.inverse_std)
    wanted = {"gather_kernel", "scatter_kernel", "normalise_kernel", "backward_kernel"}
    assert set(watched_kernels) >= wanted
    assert all(iterations > 1 for iterations in watched_kernels.values())


def test_on_a_machine_with_one_thread_it_is_found_as_well():
    program = (
        "import numba, numpy as np\n"
        "from minigrad import study\n"
        "from tests.study.test_bodies import a_cell_of_its_own_array as kernel\n"
        "assert numba.get_num_threads() == 1\n"
        "report = study.bench_kernel(kernel, lambda x: np.array([x.sum()]), 'n', at={'n': 64})\n"
        "print([check.name for check in report.checks if check.passed is False])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "['races']"
