"""checkpoint: the same values and gradients as without, and nothing stored inside."""

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import GraphError, backend, checkpoint, random
from minigrad.core import collect

RNG = np.random.default_rng(11)
X, W = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3))


def leaf(array):
    return mg.tensor(np.array(array, float), requires_grad=True)


def both_ways(build):
    """Leaves' gradients with the segment as it is, and checkpointed."""
    found = []
    for wrap in (lambda f: f, checkpoint):
        leaves = [leaf(X), leaf(W)]
        build(wrap, *leaves).sum().backward()
        found.append([None if v.grad is None else v.grad.numpy() for v in leaves])
    return found


def same(build):
    plain, again = both_ways(build)
    for a, b in zip(plain, again, strict=True):
        # Sums may come about in another order.
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_arguments_get_the_gradients_they_would_have():
    same(lambda wrap, x, w: wrap(lambda x, w: mg.tanh(x @ w) * x)(x, w))


def test_weights_that_the_function_refers_to_get_theirs():
    same(lambda wrap, x, w: wrap(lambda x: mg.tanh(x @ w))(x))
    same(lambda wrap, x, w: wrap(lambda: mg.tanh(x @ w))())


def test_weights_on_the_way_and_behind():
    """A value that reaches the segment in two ways counts in both, and once each."""

    def build(wrap, x, w):
        inner = mg.sin(w) * 2.0
        return wrap(lambda x: mg.tanh(x @ inner) + (x @ w))(x @ inner)

    same(build)


def test_several_outputs_and_other_results():
    def build(wrap, x, w):
        a, n, b = wrap(lambda x: (x @ w, 3, mg.exp(x)))(x)
        assert n == 3
        return a * n + b

    same(build)

    def unused(wrap, x, w):
        a, _ = wrap(lambda x: (x @ w, mg.exp(x)))(x)
        return a

    same(unused)


def test_keywords_and_constants_are_handed_on():
    def build(wrap, x, w):
        return wrap(lambda x, n, *, w: x @ w * n)(x, 2.0, w=w)

    same(build)


def test_nested():
    def build(wrap, x, w):
        inner = wrap(lambda h: mg.tanh(h @ w))
        outer = wrap(lambda h: inner(inner(h)) + h)
        return outer(outer(x))

    same(build)


def test_nothing_that_needs_a_gradient():
    f = checkpoint(lambda x: x * 2.0)
    assert not f(mg.tensor(X)).requires_grad
    with mg.no_grad():
        assert not f(leaf(X)).requires_grad
    assert f(2.0) == 4.0
    passed = checkpoint(lambda x: x)(leaf(X))
    passed.sum().backward()


def test_what_is_inside_is_not_stored():
    x = leaf(X)
    inside = []

    def f(x):
        h = mg.exp(x)
        inside.append(weakref.ref(h._data))
        return mg.sin(h).sum()

    gc.disable()
    try:
        y = checkpoint(f)(x)
        assert inside[0]() is None
        assert len(inside) == 1
        y.backward()
        assert len(inside) == 2 and inside[1]() is None
    finally:
        gc.enable()


def test_a_chain_of_checkpoints_grows_linearly():
    """Each holds its own boundary, not everything before it."""
    x, w = leaf(X), leaf(W)
    f = checkpoint(lambda h: mg.tanh(h @ w))
    h = x
    for _ in range(50):
        h = f(h)
    nodes = collect([h.node])
    assert max(len(node.inputs) for node in nodes) <= 2
    h.sum().backward()
    assert np.isfinite(w.grad.numpy()).all()


def test_random_numbers_come_out_the_same_again():
    x = leaf(X)
    masks = []

    def dropout(x):
        mask = random.default_generator().random(x.shape) < 0.5
        masks.append(np.array(mask))
        return x * mask

    mg.manual_seed(3)
    y = checkpoint(dropout)(x)
    between = random.default_generator().random(3)
    y.sum().backward()
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(x.grad.numpy(), masks[0])
    # And the stream outside goes on as if nothing had been drawn again.
    after = random.default_generator().random(3)
    mg.manual_seed(3)
    dropout(mg.tensor(X))
    np.testing.assert_array_equal(random.default_generator().random(3), between)
    np.testing.assert_array_equal(random.default_generator().random(3), after)


def test_double_backward():
    def energy(wrap):
        x, w = leaf(X), leaf(W)
        f = wrap(lambda x: mg.tanh(x @ w))
        (g,) = mg.gradients(f(x).sum(), [x], create_graph=True)
        (g * g).sum().backward()
        return x.grad.numpy(), w.grad.numpy()

    for a, b in zip(energy(lambda f: f), energy(checkpoint), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    mg.check_gradients(checkpoint(lambda x, w: mg.tanh(x @ w)), X, W, order=3, directions=2)


def test_backward_through_it_twice():
    x = leaf(X)
    y = checkpoint(mg.exp)(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(X))


def test_retained_gradients_and_hooks_of_its_output():
    x = leaf(X)
    y = checkpoint(mg.exp)(x)
    y.retain_grad()
    y.register_hook(lambda g: g * 2.0)
    (y * 3.0).sum().backward()
    assert (y.grad.numpy() == 6.0).all()
    np.testing.assert_allclose(x.grad.numpy(), 6.0 * np.exp(X))


@pytest.mark.parametrize("what", ["argument", "weight", "view of an argument"])
def test_values_that_changed_since_are_told(what):
    x, w = leaf(X), leaf(W)
    given = x[1:] if what.startswith("view") else x
    y = checkpoint(lambda x: mg.tanh(x @ w))(given)
    (w if what == "weight" else x).assign(1.0, writer="SGD.step")
    with pytest.raises(GraphError, match="through checkpoint: .*changed in place by SGD.step"):
        y.sum().backward()
    assert x.grad is None and w.grad is None


def test_a_function_that_is_not_the_same_again_is_told():
    calls = []

    def fickle(x):
        calls.append(0)
        return x * 2.0 if len(calls) == 1 else (x * 2.0, x * 3.0)

    y = checkpoint(fickle)(leaf(X))
    with pytest.raises(GraphError, match="checkpoint: .* returned 2 tensor.* 1 the first time"):
        y.sum().backward()

    shapes = iter([(4, 3), (3, 4)])
    y = checkpoint(lambda x: mg.reshape(x, next(shapes)) * 2.0)(leaf(X))
    with pytest.raises(GraphError, match=r"checkpoint: .*shape \(3, 4\).*\(4, 3\)"):
        y.sum().backward()


def test_each_segment_runs_twice_and_no_more():
    runs = []

    def watch(proceed, op, args, params):
        runs.append(op.name)
        return proceed(op, args, params)

    x = leaf(X)
    with backend.interpose(watch):
        y = checkpoint(mg.sinh)(x).sum()
        y.backward()
    assert runs.count("sinh") == 2
