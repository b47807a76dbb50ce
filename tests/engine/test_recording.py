"""no_grad and enable_grad: as context and decorator, per thread, through exceptions, generators."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import enable_grad, is_recording, no_grad


@pytest.fixture(autouse=True)
def recording_is_on_before_and_after():
    assert is_recording()
    yield
    assert is_recording()


def leaf():
    return mg.tensor(np.array([1.0, 2.0]), requires_grad=True)


def test_inside_nothing_is_recorded():
    x, s = leaf(), mg.scalar(3.0)
    with no_grad():
        assert not is_recording()
        results = [x * x, mg.exp(x), x[0], mg.concatenate([x, x]), x.at[0].set(1.0), -s, s * 2.0]
        assert not any(y.requires_grad for y in results)
        assert all(y.is_leaf for y in results[:5])
    assert (x * x).requires_grad and (s * 2.0).requires_grad


def test_results_keep_nothing_alive():
    import weakref

    x = leaf()
    with no_grad():
        inner = mg.exp(x)
        watch = weakref.ref(inner)
        y = inner * 2.0
        del inner
    assert watch() is None and not y.requires_grad


def test_nesting_and_enabling_again():
    x = leaf()
    with no_grad():
        with no_grad():
            assert not is_recording()
        assert not is_recording()
        with enable_grad():
            assert (x * x).requires_grad
            with no_grad():
                assert not is_recording()
            assert is_recording()
        assert not is_recording()
    context = no_grad()
    with context, context:
        assert not is_recording()


def test_it_ends_when_an_exception_flies():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_recording()

    @no_grad()
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_as_a_decorator():
    x = leaf()

    @no_grad()
    def evaluate(x, scale=1.0):
        """Evaluates."""
        assert not is_recording()
        return x * scale

    assert not evaluate(x, scale=2.0).requires_grad
    assert (evaluate.__name__, evaluate.__doc__) == ("evaluate", "Evaluates.")

    @no_grad()
    def recursive(n):
        assert not is_recording()
        return 0 if n == 0 else recursive(n - 1)

    recursive(3)

    @enable_grad()
    def train(x):
        return x * x

    with no_grad():
        assert train(x).requires_grad
        assert not is_recording()


def test_as_a_decorator_of_methods():
    class Model:
        def __init__(self):
            self.w = leaf()

        @no_grad()
        def predict(self, x):
            return self.w * x

    assert not Model().predict(2.0).requires_grad


def test_it_holds_for_its_own_thread_only():
    entered, checked = threading.Event(), threading.Event()
    found = []

    def other():
        entered.wait(10)
        found.append(is_recording())
        with no_grad():
            found.append(is_recording())
        found.append(is_recording())
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        entered.set()
        assert checked.wait(10)
        assert not is_recording()
    thread.join()
    assert found == [True, False, True]


def test_a_recorded_backward_pass_records_wherever_it_is_asked_for():
    """create_graph says so explicitly, and is not silenced by no_grad around it."""
    x, s = leaf(), mg.scalar(3.0)
    y, z = (x**3).sum(), s**3
    with no_grad():
        y.backward(create_graph=True)
        z.backward(create_graph=True)
        (g,) = mg.gradients(y, [x], create_graph=True)
        assert not is_recording()
    assert x.grad.requires_grad and s.grad.requires_grad and g.requires_grad
    np.testing.assert_array_equal(mg.gradients(x.grad.sum(), [x])[0].numpy(), 6.0 * x.numpy())
    assert float(mg.gradients(s.grad, [s])[0]) == 18.0


# --- generators ----------------------------------------------------------------------------------


def test_a_generator_is_off_inside_and_on_outside():
    @no_grad()
    def batches():
        for i in range(3):
            assert not is_recording()
            yield i
            assert not is_recording()
        return "done"

    seen = []
    for i in batches():
        assert is_recording()
        seen.append(i)
    assert seen == [0, 1, 2]

    def delegate():
        result = yield from batches()
        assert result == "done"

    assert list(delegate()) == [0, 1, 2]


def test_interleaved_generators_do_not_disturb_each_other():
    @no_grad()
    def off():
        while True:
            assert not is_recording()
            yield

    @enable_grad()
    def on():
        while True:
            assert is_recording()
            yield

    a, b = off(), on()
    for _ in range(3):
        next(a)
        assert is_recording()
        next(b)
        with no_grad():
            next(b)
            assert not is_recording()
    a.close()
    b.close()


def test_values_are_sent_into_generators():
    @no_grad()
    def running_sum():
        total = 0
        while True:
            received = yield total
            assert not is_recording()
            total += received

    sums = running_sum()
    assert [next(sums), sums.send(2), sums.send(5)] == [0, 2, 7]
    assert is_recording()


def test_exceptions_are_thrown_into_generators():
    @no_grad()
    def patient():
        try:
            yield "before"
        except KeyError:
            assert not is_recording()
            yield "caught"
        yield "after"

    g = patient()
    assert next(g) == "before"
    assert g.throw(KeyError()) == "caught"
    assert is_recording()
    assert next(g) == "after"
    with pytest.raises(ValueError, match="out"):
        g.throw(ValueError("out"))
    assert is_recording()
    with pytest.raises(StopIteration):
        next(g)


def test_generators_are_closed():
    seen = []

    @no_grad()
    def careful():
        try:
            yield 1
        finally:
            seen.append(is_recording())

    g = careful()
    next(g)
    g.close()
    assert seen == [False] and is_recording()
    g.close()

    @no_grad()
    def stubborn():
        try:
            yield 1
        except GeneratorExit:
            yield 2

    g = stubborn()
    next(g)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        g.close()
    assert is_recording()


def test_a_generator_that_fails_leaves_recording_on():
    @no_grad()
    def failing():
        yield 1
        raise KeyError("inside")

    g = failing()
    next(g)
    with pytest.raises(KeyError, match="inside"):
        next(g)
    assert is_recording()


# --- detach --------------------------------------------------------------------------------------


def test_detach_cuts_and_shares_memory():
    x = leaf()
    y = x * x
    d = y.detach()
    assert not d.requires_grad and d.is_leaf
    assert np.shares_memory(d.numpy(), y.numpy())
    (y * d).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy() * d.numpy())
    with pytest.raises(ValueError, match="shares its memory"):
        d.assign(0.0)


def test_a_detached_tensor_can_be_a_leaf_of_its_own():
    x = leaf()
    d = (x * x).detach().requires_grad_()
    (d * 3.0).sum().backward()
    np.testing.assert_array_equal(d.grad.numpy(), [3.0, 3.0])
    assert x.grad is None


def test_requires_grad_is_set_on_leaves_of_floats():
    x = mg.tensor([1.0])
    assert not x.requires_grad
    x.requires_grad = True
    y = x * x
    assert y.requires_grad
    with pytest.raises(mg.GraphError, match="computed by multiply; take `.detach"):
        y.requires_grad = False
    x.requires_grad_(False)
    assert not (x * x).requires_grad
    y.sum().backward()  # the older graph still ends at the leaf that there was
    with pytest.raises(TypeError, match="only tensors of floats can require a gradient"):
        mg.tensor(np.arange(3), requires_grad=True)
