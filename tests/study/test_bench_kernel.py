"""`bench_kernel` passes right kernels and rejects wrong ones, each for its own reason."""

import threading

import numba
import numpy as np
import pytest

import minigrad
from minigrad import study
from minigrad.study import bench
from minigrad.study.bench import bench_kernel

SMALL = {"n": 24, "k": 20, "m": 16}


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    monkeypatch.setattr(bench, "BUDGET", 0.002)


def matmul(a, b):
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        c += a[:, k, None] * b[k]
    return c


def report_on(fn, like=np.matmul, shapes="n k, k m", at=SMALL, **options):
    return bench_kernel(fn, like, shapes, at=at, examples=options.pop("examples", 25), **options)


def failed(report):
    return {check.name for check in report.checks if check.passed is False}


def test_a_right_kernel_passes_and_is_measured():
    report = report_on(
        matmul, operations="2*n*k*m", against={"einsum": lambda a, b: np.einsum("ij,jk", a, b)}
    )
    assert report.passed, str(report)
    assert report.shapes == [(24, 20), (20, 16)]
    assert report.bytes == 8 * (24 * 20 + 20 * 16 + 24 * 16)
    assert report.operations == 2 * 24 * 20 * 16
    names = [timing.name for timing in report.timings]
    assert names == ["kernel", "reference", "built-in", "einsum"]
    assert report.builtin == "minigrad.matmul"
    assert all(t.seconds > 0 and t.rate > 0 and t.bandwidth > 0 for t in report.timings)
    assert report.speedup() == pytest.approx(report.timings[1].seconds / report.timings[0].seconds)
    assert report.speedup("built-in") == report.timings[2].seconds / report.timings[0].seconds
    with pytest.raises(
        KeyError, match="timed were kernel, reference, built-in, einsum, not 'torch'"
    ):
        report.speedup("torch")
    assert "passed" in str(report) and "GFLOP/s" in str(report)
    assert "<pre>" in report._repr_html_()


def test_an_off_by_one_is_rejected_with_the_smallest_shapes():
    def short(a, b):
        c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        for k in range(max(1, a.shape[1] - 1)):
            c += a[:, k, None] * b[k]
        return c

    report = report_on(short)
    assert failed(report) == {"values"} and not report.timings
    assert "(at k=2, m=1, n=1)" in report.check("values").text
    assert "REJECTED" in str(report)


def test_an_edge_that_is_forgotten_is_rejected():
    def only_blocks(x):
        y = np.zeros_like(x)
        whole = len(x) // 8 * 8 or len(x)
        y[:whole] = 2 * x[:whole]
        return y

    report = report_on(only_blocks, lambda x: 2 * x, "n", {"n": 64})
    assert "values" in failed(report) and "n=17" in report.check("values").text


@numba.njit
def _difference(x, y):
    for i in range(len(x)):
        y[i] = x[i + 1] - x[i]  # reads behind the last


@numba.njit
def _difference_right(x, y):
    for i in range(len(x)):
        y[i] = (x[i + 1] if i + 1 < len(x) else 0.0) - x[i]


@numba.njit
def _running(x, y):
    for i in range(len(x) + 1):  # writes behind the last
        y[i] = 2.0 * x[min(i, len(x) - 1)]


def difference(x):
    return np.append(x[1:], 0.0) - x


class Opaque:
    """Somebody else's compiled code: nothing in it can be looked into."""

    def __init__(self, kernel):
        self.call = kernel

    def __call__(self, *arrays):
        return self.call(*arrays)


def test_a_missing_bound_is_rejected():
    reading = report_on(Opaque(_difference), difference, "n", {"n": 100}, out=True)
    assert "bounds" in failed(reading)
    assert "reads outside" in reading.check("bounds").text
    writing = report_on(Opaque(_running), lambda x: 2.0 * x, "n", {"n": 100}, out=True)
    assert failed(writing) == {"bounds"}
    assert "writes behind the memory of its output" in writing.check("bounds").text
    assert report_on(_difference_right, difference, "n", {"n": 100}, out=True).passed


def test_a_missing_bound_in_a_kernel_that_can_be_looked_into_is_told_before_it_runs():
    compiled = len(_difference.signatures), len(_running.signatures)
    reading = report_on(_difference, difference, "n", {"n": 100}, out=True)
    assert failed(reading) == {"bounds"} and not reading.timings
    text = reading.check("bounds").text
    assert "it reads [1] of input 0, whose shape is (1,) (line" in text
    assert text.endswith("y[i] = x[i + 1] - x[i]  # reads behind the last) (at n=1)")
    writing = report_on(_running, lambda x: 2.0 * x, "n", {"n": 100}, out=True)
    assert "it writes [1] of its output" in writing.check("bounds").text
    assert writing.check("values").text == "not run, since it leaves its arrays"
    assert compiled == (len(_difference.signatures), len(_running.signatures))


@numba.njit
def _far_away(x, y):
    for i in range(len(x)):
        y[i] = x[i]
    if len(x) > 16:
        y[len(x) + 10_000_000] = 1.0  # beyond any red zone: compiled, it would end the process


def test_a_write_far_beyond_is_rejected_and_nothing_is_harmed():
    report = report_on(_far_away, lambda x: x, "n", {"n": 100}, out=True)
    assert failed(report) == {"bounds"}
    assert "it writes [10000017] of its output" in report.check("bounds").text
    assert "(at n=17)" in report.check("bounds").text


class LostUpdate:
    """A sum of which, as in a race, an update gets lost now and then: at each call another."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        kept = np.ones(len(x))
        if len(x) > 16:
            kept[self.calls % len(x)] = 0.0
        return np.array([(kept * x).sum()])


def test_a_race_is_rejected():
    report = report_on(LostUpdate(), lambda x: np.array([x.sum()]), "n", {"n": 64})
    assert failed(report) == {"values", "bounds", "deterministic"}
    assert "11 of 11 runs differ" in report.check("deterministic").text


def test_a_race_that_hits_the_large_shape_only_is_rejected():
    kernel = LostUpdate()

    def large(x):
        return kernel(x) if len(x) > 33 else np.array([x.sum()])

    report = report_on(large, lambda x: np.array([x.sum()]), "n", {"n": 64})
    assert failed(report) == {"values", "deterministic"}
    assert report.check("values").text.endswith("(at n=64)")


def test_what_is_wrong_at_the_large_shape_only_is_rejected():
    def large(x):
        return 2.0 * x if len(x) < 64 else 2.0 * x - (np.arange(len(x)) == 63)

    report = report_on(large, lambda x: 2.0 * x, "n", {"n": 64})
    assert failed(report) == {"values"}
    assert "1 of 64 elements differ, first [63]" in report.check("values").text


@numba.njit(parallel=True)
def _racy_histogram(places, counts):
    for k in range(len(counts)):
        counts[k] = 0.0
    for i in numba.prange(len(places)):
        counts[int(places[i]) % len(counts)] += 1.0


@numba.njit(parallel=True)
def _histogram(places, counts):
    for k in numba.prange(len(counts)):
        counts[k] = 0.0
        for i in range(len(places)):
            if int(places[i]) % len(counts) == k:
                counts[k] += 1.0


def histogram(places):
    return np.bincount(places.astype(int) % 4, minlength=4).astype(float)


def places(rng, shape):
    return rng.integers(0, 100, shape)


def test_a_race_of_a_compiled_kernel_is_rejected_every_time():
    """Whether or not two threads happen to meet: what is found does not depend on it."""
    seen = set()
    for _ in range(3):
        report = report_on(
            _racy_histogram, histogram, "n", {"n": 64}, out=True, values=places, examples=5
        )
        assert "races" in failed(report) and not report.timings
        seen.add(report.check("races").text)
    (text,) = seen
    assert "of its output" in text and "counts[int(places[i]) % len(counts)] += 1.0" in text


def test_a_compiled_kernel_without_a_race_runs_on_all_its_threads():
    threads = numba.get_num_threads()
    report = report_on(_histogram, histogram, "n", {"n": 64}, out=True, values=places, examples=5)
    assert report.passed and report.check("races").passed, str(report)
    assert "iterations of prange did not touch each other's elements" in str(report)
    assert numba.get_num_threads() == threads and numba.get_parallel_chunksize() == 0
    if numba.config.NUMBA_NUM_THREADS > 1:
        assert "on 1, 2" in report.check("deterministic").text


@numba.njit(parallel=True)
def _carried(x, y):
    last = 0.0
    for i in numba.prange(len(x)):
        y[i] = x[i] + last
        last = x[i]


def test_iterations_that_depend_on_each_other_are_rejected():
    """Nothing is written twice, and still their order decides."""

    def carried(x):
        return x + np.append(0.0, x[:-1])

    report = report_on(_carried, carried, "n", {"n": 64}, out=True, examples=5)
    assert report.check("races").passed is False
    assert "depend on each other: in another order" in report.check("races").text


class FewThreads:
    """Is right on one thread, and on two it is not: as Numba would run it."""

    def __init__(self, kernel):
        self.py_func = kernel.py_func
        self.targetoptions = {"parallel": True}

    def __call__(self, x):
        return 2.0 * x + (numba.get_num_threads() == 1)


def test_a_result_that_depends_on_the_number_of_threads_is_rejected():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("there is one thread only")

    @numba.njit(parallel=True)
    def double(x):
        return 2.0 * x

    report = report_on(FewThreads(double), lambda x: 2.0 * x, "n", {"n": 64}, examples=5)
    assert "deterministic" in failed(report)
    assert "on 1 threads" in report.check("deterministic").text


def threaded_sum(x):
    """Two threads add into one number, and both read it before either has written."""
    total = np.zeros(1)
    both_have_read = threading.Barrier(2)

    def add(part):
        before = total[0]
        both_have_read.wait()
        total[0] = before + part.sum()

    threads = [threading.Thread(target=add, args=(part,)) for part in np.array_split(x, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total


def test_a_race_of_threads_is_rejected():
    report = report_on(threaded_sum, lambda x: np.array([x.sum()]), "n", {"n": 64}, examples=10)
    assert "values" in failed(report)


def test_what_cannot_be_looked_into_is_told():
    report = report_on(LostUpdate(), lambda x: np.array([x.sum()]), "n", {"n": 8}, examples=2)
    assert report.check("races").passed is None
    assert "nothing compiled to look into" in report.check("races").text

    @numba.njit
    def in_order(x):
        return x + 1.0

    report = report_on(in_order, lambda x: x + 1.0, "n", {"n": 8}, examples=2)
    assert report.passed and report.check("races").text == "no loop of prange ran"

    @numba.njit(error_model="numpy")
    def infinite(x):
        return x + 1.0 / (len(x) - len(x))  # in Python an error

    report = report_on(infinite, lambda x: x + np.inf, "n", {"n": 8}, examples=2)
    assert "cannot be watched, it raises ZeroDivisionError" in report.check("races").text
    assert report.check("races").passed is None


def test_a_kernel_that_changes_its_input_is_rejected():
    def in_place(x):
        x *= 2.0
        return x

    report = report_on(in_place, lambda x: 2.0 * x, "n m", {"n": 8, "m": 8})
    assert "inputs" in failed(report) and "changes input 0" in report.check("inputs").text


def test_a_kernel_that_raises_is_rejected_in_its_words():
    def broken(x):
        if x.shape[0] > 3:
            raise RuntimeError("no room")
        return x

    report = report_on(broken, lambda x: x, "n", {"n": 8})
    assert "it raises RuntimeError: no room (at n=5)" in report.check("values").text


def test_a_wrong_shape_is_told():
    report = report_on(lambda x: x[None], lambda x: x, "n", {"n": 4})
    assert "shape (1, 1) instead of (1,)" in report.check("values").text


def test_gradients_of_ops_are_checked():
    right = minigrad.op("cube", lambda x: x**3, lambda g, x: g * 3 * x**2)
    wrong = minigrad.op("cube", lambda x: x**3, lambda g, x: g * 2 * x**2)
    assert report_on(right, lambda x: x**3, "n", {"n": 8}).check("gradient").passed
    report = report_on(wrong, lambda x: x**3, "n", {"n": 8})
    assert failed(report) == {"gradient"}


def test_gradients_of_plain_kernels_are_held_to_the_reference():
    def backward(g, a, b):
        return g @ b.T, a.T @ g

    def swapped(g, a, b):
        return g @ b.T, -(a.T @ g)

    assert report_on(matmul, minigrad.matmul, backward=backward).check("gradient").passed
    report = report_on(matmul, minigrad.matmul, backward=swapped)
    assert failed(report) == {"gradient"} and "by input 1" in report.check("gradient").text
    plain = report_on(lambda x: np.array(x) * 2, lambda x: x * 2, "n", {"n": 4})
    assert plain.check("gradient").passed is None and plain.passed


def test_integers_and_single_numbers():
    report = report_on(
        lambda x: x + x, lambda x: 2 * x, "n", {"n": 8}, dtype=np.int64,
        values=lambda rng, shape: rng.integers(-9, 9, shape),
    )  # fmt: skip
    assert report.passed and report.check("gradient").passed is None
    assert report_on(lambda x, s: x * s, lambda x, s: s * x, "n,", {"n": 4}).passed


# --- the built-in --------------------------------------------------------------------------------


def builtin(fn, like, shapes="n", **options):
    report = report_on(
        fn, like, shapes, dict.fromkeys(set(shapes) & set("nkm"), 8), examples=2, **options
    )
    assert report.passed, str(report)
    names = [timing.name for timing in report.timings]
    assert f"built-in: {report.builtin}" in str(report)
    return report.builtin, "built-in" in names


def swish(x):
    return x / (1.0 + np.exp(-x))


def logsumexp(x):
    return np.log(np.exp(x).sum())


def test_the_built_in_is_found_by_what_it_is_and_by_its_name():
    assert builtin(lambda x: np.exp(x), np.exp) == ("minigrad.exp", True)
    assert builtin(matmul, minigrad.matmul, "n k, k m") == (
        "minigrad.matmul, which is the reference", True,
    )  # fmt: skip
    # The reference has no name; the kernel has, and does the same as the function of its name.
    assert builtin(logsumexp, lambda x: np.log(np.sum(np.exp(x)))) == ("minigrad.logsumexp", True)


def test_functions_of_networks_are_built_in_once_they_are_loaded():
    from minigrad_nn import functional

    assert builtin(lambda x: swish(x), lambda x: swish(x))[1] is False

    def silu(x):
        return swish(x)

    assert builtin(lambda x: swish(x), silu) == ("minigrad_nn.functional.silu", True)
    assert builtin(silu, functional.silu) == (
        "minigrad_nn.functional.silu, which is the reference", True,
    )  # fmt: skip


def test_where_nothing_matches_no_built_in_is_guessed():
    words, there = builtin(swish, lambda x: x / (1.0 + np.exp(-x)))
    assert not there and words.startswith("none: no public function of minigrad")
    assert "is called swish; name one by against={'built-in': ...}" in words
    words, there = builtin(lambda x: x + 1.0, lambda x: x + 1.0)
    assert not there and "neither function has a name" in words

    def sqrt(x):
        return x + 1.0

    words, there = builtin(lambda x: x + 1.0, sqrt)
    assert not there and words.startswith("none: minigrad.sqrt gives something else")

    def solve(x):
        return x + 1.0

    words, there = builtin(solve, lambda x: x + 1.0)
    assert not there and "minigrad.solve does not take these inputs (" in words


def test_a_built_in_can_be_named():
    words, there = builtin(swish, swish, against={"built-in": minigrad.exp, "exp": np.exp})
    assert (words, there) == ("exp, as given", True)


def test_what_cannot_be_read_is_told():
    with pytest.raises(ValueError, match="neither a name nor a number"):
        bench_kernel(matmul, np.matmul, "n*k, k m")
    with pytest.raises(ValueError, match="must be a formula of k, m, n"):
        bench_kernel(matmul, np.matmul, "n k, k m", operations="__import__('os')")
    with pytest.raises(ValueError, match="at names q"):
        bench_kernel(matmul, np.matmul, "n k, k m", at={"q": 3})
    with pytest.raises(KeyError, match="values, bounds"):
        study.KernelReport(
            "x", [study.KernelCheck("values", True, ""), study.KernelCheck("bounds", True, "")]
        ).check("y")
