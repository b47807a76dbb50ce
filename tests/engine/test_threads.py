"""Threads: graphs of different threads may share leaves; recording is each thread's own."""

import sys
import threading

import numpy as np
import pytest

import minigrad as mg

THREADS, ROUNDS = 4, 400


@pytest.fixture(autouse=True)
def hasty_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work):
    """Run `work(number)` in several threads at once; the first exception is raised here."""
    errors = []
    gate = threading.Barrier(THREADS)

    def run(number):
        try:
            gate.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_gradients_of_a_shared_leaf_add_up():
    w = mg.tensor(np.ones(3), requires_grad=True)

    def work(number):
        for _ in range(ROUNDS):
            (w * w * float(number + 1)).sum().backward()

    in_threads(work)
    assert w.grad.tolist() == [2.0 * ROUNDS * sum(range(1, THREADS + 1))] * 3


def test_gradients_of_a_shared_scalar_add_up():
    w = mg.scalar(1.0)

    def work(number):
        for _ in range(ROUNDS):
            (w * w * float(number + 1)).backward()

    in_threads(work)
    assert w.grad == 2.0 * ROUNDS * sum(range(1, THREADS + 1))


def test_recorded_passes_and_transforms_in_threads():
    w = mg.tensor(np.full(3, 0.5), requires_grad=True)
    wanted = mg.hessian(lambda x: mg.tanh(x * w).sum())(np.ones(3)).numpy()

    def work(number):
        for _ in range(ROUNDS // 20):
            found = mg.hessian(lambda x: mg.tanh(x * w).sum())(np.ones(3))
            np.testing.assert_array_equal(found.numpy(), wanted)
            assert mg.grad(mg.grad(lambda x: x**3))(2.0) == 12.0

    in_threads(work)
    assert w.grad is None


def test_one_graph_walked_by_several_threads():
    x = mg.tensor(np.ones(3), requires_grad=True)
    y = mg.tanh(x * 2.0).sum()

    def work(number):
        for _ in range(ROUNDS // 4):
            (g,) = mg.gradients(y, [x], retain_graph=True)
            np.testing.assert_allclose(g.numpy(), 2.0 * (1.0 - np.tanh(2.0) ** 2))

    in_threads(work)


def test_no_grad_of_one_thread_is_not_seen_by_the_others():
    x = mg.tensor(np.ones(3), requires_grad=True)

    def work(number):
        for _ in range(ROUNDS):
            if number % 2:
                with mg.no_grad():
                    assert not (x * x).requires_grad
            assert (x * x).requires_grad

    in_threads(work)
    assert mg.is_recording()
    from minigrad.core import paused

    assert not paused


def test_rules_are_compiled_by_whoever_comes_first():
    ops = [mg.op(f"op {n}", np.square, lambda g, x: g * 2.0 * x) for n in range(50)]

    def work(number):
        for op in ops:
            x = mg.tensor(np.ones(2), requires_grad=True)
            op(x).sum().backward()
            assert x.grad.tolist() == [2.0, 2.0]

    in_threads(work)
