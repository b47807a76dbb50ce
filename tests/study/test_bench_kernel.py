"""`bench_kernel` passes right kernels and rejects wrong ones, each for its own reason."""

import threading

import numba
import numpy as np
import pytest

import minigrad
from minigrad import study
from minigrad.study.bench import bench_kernel

SMALL = {"n": 24, "k": 20, "m": 16}


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
    assert [timing.name for timing in report.timings] == ["kernel", "reference", "einsum"]
    assert all(t.seconds > 0 and t.rate > 0 and t.bandwidth > 0 for t in report.timings)
    assert report.speedup() == pytest.approx(report.timings[1].seconds / report.timings[0].seconds)
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


def test_a_missing_bound_is_rejected():
    reading = report_on(_difference, difference, "n", {"n": 100}, out=True)
    assert "bounds" in failed(reading)
    assert "reads outside" in reading.check("bounds").text
    writing = report_on(_running, lambda x: 2.0 * x, "n", {"n": 100}, out=True)
    assert failed(writing) == {"bounds"}
    assert "writes behind the memory of its output" in writing.check("bounds").text
    assert report_on(_difference_right, difference, "n", {"n": 100}, out=True).passed


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
    assert failed(report) == {"deterministic"}


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
