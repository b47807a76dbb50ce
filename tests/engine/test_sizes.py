"""Large graphs and long runs: no recursion, and no growth with the garbage collector off."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest

import minigrad as mg

CHAIN = 1_000_000
FAN = 100_000
STEPS = 10_000


@pytest.fixture
def shallow_stack():
    """Little room for recursion, so that it would be seen at once."""
    before = sys.getrecursionlimit()
    depth = len(_frames())
    sys.setrecursionlimit(depth + 150)
    yield
    sys.setrecursionlimit(before)


def _frames():
    frame, found = sys._getframe(), []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# --- large graphs --------------------------------------------------------------------------------


def test_a_chain_of_a_million_scalar_ops(shallow_stack, no_collector):
    x, c = mg.scalar(1.0), mg.scalar(0.0)
    y = x
    for _ in range(CHAIN):
        y = y + c
    middle = y.inputs[0].inputs[0]
    y.backward()
    assert (y.data, x.grad, c.grad, middle.grad) == (1.0, 1.0, float(CHAIN), 1.0)
    before = len(gc.get_objects())
    del y, middle  # freed here, link by link, by counting references
    assert before - len(gc.get_objects()) >= CHAIN
    assert x.grad == 1.0


def test_a_fan_of_a_hundred_thousand_scalar_ops(shallow_stack, no_collector):
    x = mg.scalar(2.0)
    branches = [x * float(i) for i in range(FAN)]
    total = branches[0]
    for branch in branches[1:]:
        total = total + branch
    total.backward()
    assert x.grad == sum(range(FAN))
    assert branches[-1].grad == 1.0
    before = len(gc.get_objects())
    del branches, branch, total
    assert before - len(gc.get_objects()) >= 2 * FAN


def test_second_derivatives_of_a_long_chain(shallow_stack):
    x = mg.scalar(1.0)
    y = x * x
    for _ in range(20_000):
        y = y + 0.0
    (g,) = mg.gradients(y, [x], create_graph=True)
    (h,) = mg.gradients(g, [x])
    assert (float(g), float(h)) == (2.0, 2.0)


def test_a_long_chain_of_tensor_ops(shallow_stack, no_collector):
    n = 50_000
    x = mg.tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(n):
        y = y + x
    z = y.sum()
    z.backward()
    assert x.grad.tolist() == [n + 1.0] * 2
    before = len(gc.get_objects())
    del y, z
    assert before - len(gc.get_objects()) >= n


def test_a_long_chain_of_checkpoints(shallow_stack):
    x = mg.tensor(np.ones(2), requires_grad=True)
    step = mg.checkpoint(lambda h: h * 1.0 + x)
    y = x
    for _ in range(2_000):
        y = step(y)
    y.sum().backward()
    assert x.grad.tolist() == [2_001.0] * 2


# --- long runs -----------------------------------------------------------------------------------


def grown(step, steps=STEPS):
    """How many objects and bytes a training loop leaves behind, the collector being off."""
    for _ in range(20):  # caches fill
        step()
    tracemalloc.start()
    objects, (held, _) = len(gc.get_objects()), tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for _ in range(steps):
        step()
    tracemalloc.start()
    step()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return len(gc.get_objects()) - objects, left - held


def scalar_training():
    w, b = mg.scalar(0.5), mg.scalar(0.0)

    def step():
        loss = (mg.tanh(w * 1.5 + b) - 0.3) ** 2
        loss.backward()
        for p in (w, b):
            p.data -= 0.01 * p.grad
            p.zero_grad()

    return step


def tensor_training():
    w = mg.tensor(np.full((3, 2), 0.1), requires_grad=True)
    b = mg.tensor(np.zeros(2), requires_grad=True)
    x = mg.tensor(np.ones((4, 3)))
    w.register_hook(lambda g: g * 0.5)

    def step():
        h = mg.tanh(x @ w + b)
        h.retain_grad()
        h.register_hook(lambda g: None)
        loss = (h[1:] * h[:-1]).sum()
        loss.backward()
        for p in (w, b):
            p.assign(p.numpy() - 0.01 * p.grad.numpy(), writer="step")
            p.zero_grad()

    return step


def second_order_training():
    w = mg.tensor(np.full((3, 2), 0.1), requires_grad=True)
    x = mg.tensor(np.ones((4, 3)))

    def step():
        y = mg.tanh(x @ w).sum()
        (g,) = mg.gradients(y, [w], create_graph=True)
        (g * g).sum().backward()
        w.assign(w.numpy() - 0.01 * w.grad.numpy())
        w.zero_grad()

    return step


def transformed_training():
    w = np.full(3, 0.1)

    def step():
        f = lambda v: mg.tanh(v * v).sum()  # noqa: E731 - a new one each step
        mg.hvp(f, w, w)
        mg.jvp(mg.checkpoint(f), [w], [w])
        mg.value_and_grad(f)(w)

    return step


def several_outputs_training():
    from tests.engine.test_custom import polar, silu

    w = mg.tensor(np.full(3, 0.5), requires_grad=True)

    def step():
        radius, angle, _ = polar(w, w + 1.0)
        silu(radius * angle).sum().backward()
        w.zero_grad()

    return step


@pytest.mark.parametrize(
    "training, steps",
    [
        (scalar_training, STEPS),
        (tensor_training, STEPS),
        (second_order_training, STEPS // 10),
        (transformed_training, STEPS // 10),
        (several_outputs_training, STEPS // 10),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_training_does_not_grow(training, steps, no_collector):
    objects, held = grown(training(), steps)
    # A leak of one object a step would be `steps` objects.
    assert objects < 50
    assert held < 20_000


def test_the_test_sees_a_leak(no_collector):
    kept = []
    step = tensor_training()

    def leaking():
        step()
        kept.append([])

    objects, _ = grown(leaking, 500)
    assert objects >= 500
    w = mg.tensor(np.ones(2), requires_grad=True)

    def cycle():  # x.grad leads back to x: what create_graph cannot avoid
        x = mg.tensor(np.ones(2), requires_grad=True)
        (x * x * w).sum().backward(create_graph=True)

    objects, _ = grown(cycle, 500)
    assert objects >= 500
