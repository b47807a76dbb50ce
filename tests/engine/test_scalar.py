"""Scalars: the lectures' circuits, gradients of nodes and edges, gradient descent, staleness."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GraphError, scalar
from minigrad.core import collect, walk
from minigrad.scalar import Constant, Scalar

finite = st.floats(-3, 3)

# --- the lectures' circuits ----------------------------------------------------------------------


def test_the_circuit_of_one_multiplication():
    x, y = scalar(4.0, name="x"), scalar(-3.0, name="y")
    f = x * y
    f.backward()
    assert (f.data, x.grad, y.grad, f.grad) == (-12.0, -3.0, 4.0, 1.0)


def test_the_circuit_of_a_sum_and_a_multiplication():
    """f = (x + y) z: df/dq = z, df/dz = q, df/dx = df/dq * dq/dx."""
    x, y, z = scalar(-2.0, name="x"), scalar(5.0, name="y"), scalar(-4.0, name="z")
    q = x + y
    f = q * z
    f.backward()
    assert (q.data, f.data) == (3.0, -12.0)
    assert q.grad == z.data == -4.0
    assert z.grad == q.data == 3.0
    assert x.grad == y.grad == -4.0
    assert f.grad == 1.0


def test_edges_tell_local_gradient_gate_gradient_and_contribution():
    x, y, z = scalar(-2.0), scalar(5.0), scalar(-4.0)
    q = x + y
    f = q * z
    f.backward()
    to_q, to_z = f.edges()
    assert (to_q.source, to_q.gate) == (q, f)
    assert (to_q.local_gradient, to_q.gate_gradient, to_q.contribution) == (-4.0, 1.0, -4.0)
    assert (to_z.local_gradient, to_z.gate_gradient, to_z.contribution) == (3.0, 1.0, 3.0)
    to_x, to_y = q.edges()
    assert (to_x.local_gradient, to_x.gate_gradient, to_x.contribution) == (1.0, -4.0, -4.0)
    assert to_y.contribution == to_y.local_gradient * to_y.gate_gradient
    assert x.edges() == []


def test_before_backward_gradients_are_not_computed_which_is_not_zero():
    x = scalar(2.0)
    f = x * x
    assert f.grad is None and x.grad is None
    edge, _ = f.edges()
    assert edge.local_gradient == 2.0
    assert edge.gate_gradient is None and edge.contribution is None
    (f * 0.0).backward()
    assert f.grad == 0.0 and x.grad == 0.0
    assert f.edges()[0].contribution == 0.0


def test_edges_leave_constants_out():
    x = scalar(2.0)
    (edge,) = (3.0 * x).edges()
    assert edge.source is x and edge.local_gradient == 3.0


def test_a_value_used_twice_adds_its_contributions():
    x = scalar(3.0)
    f = x * x + x
    f.backward()
    assert x.grad == 7.0


def test_every_node_knows_its_gradient_and_equals_the_sum_of_its_contributions():
    """Over a graph with shared parts, each gradient is what flows in along the edges."""
    x, y = scalar(0.7), scalar(-1.2)
    a = x * y
    b = mg.sin(a) + a
    c = b * x - y / b
    nodes = [c, b, a, x, y]
    c.backward()
    gates = [node for node in collect([c]) if node.op is not None]
    for node in nodes:
        assert node.grad is not None
        if node is c:
            continue
        flows = [e.contribution for gate in gates for e in gate.edges() if e.source is node]
        assert node.grad == pytest.approx(sum(flows), rel=1e-12)


# --- operators and functions ---------------------------------------------------------------------


@given(finite, finite)
def test_operators_are_those_of_floats(u, v):
    x, y = scalar(u), scalar(v)
    assert (x + y).data == u + v
    assert (x - y).data == u - v
    assert (x * y).data == u * v
    assert (-x).data == -u and (+x) is x and abs(x).data == abs(u)
    assert (x + 2).data == u + 2 and (2 + x).data == 2 + u
    assert (x - 2).data == u - 2 and (2 - x).data == 2 - u
    assert (x * 2).data == u * 2 and (2 * x).data == 2 * u
    assert (x / 2).data == u / 2
    if v:
        assert (x / y).data == u / v and (2 / y).data == 2 / v
    assert (x**2).data == pytest.approx(u**2) and (2**x).data == pytest.approx(2**u)
    assert (x < y) == (u < v) and (x >= y) == (u >= v) and (x == y) == (u == v)
    assert (x != y) == (u != v) and (x > 1) == (u > 1) and (x <= 1) == (u <= 1)


def test_methods_are_the_functions():
    x = scalar(0.8)
    for name in "exp log sqrt square sin cos tan tanh sigmoid relu abs".split():
        assert getattr(x, name)().data == getattr(mg, name)(x).data == getattr(mg, name)(0.8)
    assert x.pow(2.0).data == pytest.approx(0.64)
    assert x.max(1.0).data == 1.0 and x.min(1.0).data == 0.8
    assert mg.max(x, 1.0).data == 1.0 and mg.min(x, scalar(0.1)).data == 0.1


def test_a_scalar_reads_like_a_number():
    x = scalar(2.5, name="x")
    assert float(x) == x.item() == x.data == 2.5
    assert f"{x:.2f}" == "2.50" and f"{x}" == "scalar(2.5, name='x')"
    assert bool(scalar(0.0)) is False and bool(x) is True
    (x * 2.0).backward()
    assert repr(x) == "scalar(2.5, name='x', grad=2.0)"
    assert {x: 1}[x] == 1 and hash(x) != hash(scalar(2.5))


@given(finite, finite, st.floats(0.1, 3))
def test_gradients_against_differences(u, v, w):
    def f(x, y, z):
        return mg.tanh(x * y) + mg.exp(-y * y) / z + mg.log(z) * mg.sigmoid(x) + z ** (x * 0.3)

    mg.check_gradients(f, u, v, w, order=3)


def test_the_scalar_walk_is_the_general_walk():
    """`backward` of scalars is written out for floats; `core.walk` is the same on any node."""
    rng = np.random.default_rng(0)
    leaves = [scalar(float(v)) for v in rng.uniform(0.5, 1.5, 4)]
    nodes = list(leaves)
    for _ in range(60):
        a, b = (nodes[i] for i in rng.integers(0, len(nodes), 2))
        make = rng.integers(0, 6)
        nodes.append([a + b, a * b * 0.5, a - b, mg.tanh(a), mg.sin(b) + 2.0, a / 3.0][make])
    root = nodes[-1] + nodes[-5]
    (*general,) = walk([(root, 1.0)], wanted=nodes)
    root.backward()
    reached = {id(node) for node in collect([root])}
    for node, g in zip(nodes, general, strict=True):
        if id(node) in reached:
            assert node.grad == pytest.approx(g, rel=1e-12)
        else:
            assert node.grad is None and g is None


# --- backward passes -----------------------------------------------------------------------------


def test_leaves_add_up_over_passes_and_gates_show_the_last():
    x = scalar(3.0)
    q = x * x
    f = q + 1.0
    f.backward()
    f.backward()
    assert (x.grad, q.grad) == (12.0, 1.0)
    f.backward(10.0)
    assert (x.grad, q.grad) == (72.0, 10.0)
    x.zero_grad()
    assert x.grad is None
    f.backward()
    assert x.grad == 6.0


def test_backward_from_a_leaf_and_from_a_constant():
    x = scalar(2.0)
    x.backward(5.0)
    assert x.grad == 5.0
    with pytest.raises(GraphError, match="depends on no scalar that requires a gradient"):
        (scalar(1.0, requires_grad=False) * 2.0).backward()
    with mg.no_grad():
        y = x * x
    with pytest.raises(GraphError, match="outside of no_grad"):
        y.backward()


def test_gradients_of_gradients():
    x = scalar(2.0)
    f = x**4
    f.backward(create_graph=True)
    assert float(x.grad) == 32.0
    (second,) = mg.gradients(x.grad, [x], create_graph=True)
    (third,) = mg.gradients(second, [x])
    assert (float(second), float(third)) == (48.0, 48.0)


def test_hooks_of_scalars():
    x = scalar(3.0)
    q = x * 2.0
    seen = []
    remove = q.register_hook(lambda g: seen.append(g))
    scale = q.register_hook(lambda g: g * 10.0)
    q.register_hook(lambda g: seen.append(g))
    (q * 1.0).backward()
    assert seen == [1.0, 10.0]
    assert (q.grad, x.grad) == (10.0, 20.0)
    remove()
    remove()
    scale()
    x.zero_grad()
    (q * 1.0).backward()
    assert seen == [1.0, 10.0, 1.0] and x.grad == 2.0
    x.register_hook(lambda g: 0.5)
    x.zero_grad()
    q.backward()
    q.backward()
    assert x.grad == 1.0  # each pass adds what the hook returned


def test_a_hook_that_fails_leaves_the_leaves_alone():
    x, y = scalar(2.0), scalar(3.0)
    (x * y).backward()
    q = x * x

    def fail(g):
        raise RuntimeError("no")

    q.register_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        (q * y).backward()
    assert (x.grad, y.grad) == (3.0, 2.0)


def test_detach_cuts_the_graph():
    x = scalar(3.0, name="x")
    f = x * x.detach()
    f.backward()
    assert x.grad == 3.0
    assert isinstance(x.detach(), Constant) and not x.detach().requires_grad


# --- gradient descent ----------------------------------------------------------------------------


def test_a_step_of_gradient_descent_lowers_the_function():
    x, y = scalar(1.0), scalar(-2.0)

    def f():
        return (x - 3.0) ** 2 + (x + y) ** 2

    before = f()
    before.backward()
    for v in (x, y):
        v.data -= 0.1 * v.grad
        v.zero_grad()
    assert f().data < before.data
    assert (x.data, y.data) == pytest.approx((1.6, -1.8))


def test_gradient_descent_finds_the_minimum():
    x, y = scalar(1.0), scalar(-2.0)
    for _ in range(200):
        loss = (x - 3.0) ** 2 + (x + y) ** 2
        loss.backward()
        for v in (x, y):
            v.data -= 0.1 * v.grad
            v.zero_grad()
    assert (x.data, y.data) == pytest.approx((3.0, -3.0), abs=1e-6)


@pytest.mark.parametrize(
    "ask",
    [
        lambda f, x: f.backward(),
        lambda f, x: f.backward(create_graph=True),
        lambda f, x: mg.gradients(f, [x]),
        lambda f, x: mg.gradients(f, [x], create_graph=True),
    ],
    ids=["backward", "create_graph", "gradients", "recorded gradients"],
)
@pytest.mark.parametrize("later", [False, True], ids=["after all", "in between"])
def test_a_stale_graph_is_told(ask, later):
    x = scalar(2.0, name="weight")
    q = x * x
    if later:  # used before and after the change
        x.data = 5.0
        f = q * x
    else:
        f = q * 3.0
        x.data = 5.0
    with pytest.raises(GraphError, match=r"scalar\(5.0, name='weight'.*multiply.*compute"):
        ask(f, x)
    assert x.grad is None
    fresh = x * x * 3.0
    fresh.backward()
    assert x.grad == 30.0


def test_setting_another_leaf_does_not_make_a_graph_stale():
    x, other = scalar(2.0), scalar(1.0)
    f = x * x
    other.data = 7.0
    f.backward()
    assert x.grad == 4.0


def test_only_leaves_are_set():
    x = scalar(2.0)
    q = x * x
    with pytest.raises(GraphError, match="computed by multiply"):
        q.data = 1.0


# --- wrong use, copies ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["1.0", None, 1j, [1.0], np.ones(2)])
def test_a_scalar_is_made_of_a_real_number(data):
    with pytest.raises(TypeError, match=f"real number, got {type(data).__name__}"):
        scalar(data)
    with pytest.raises(TypeError, match="detach"):
        scalar(scalar(1.0))


def test_numbers_of_numpy_are_numbers():
    assert scalar(np.float32(0.5)).data == 0.5
    f = np.float64(2.0) * scalar(3.0)
    assert isinstance(f, Scalar) and f.data == 6.0


def test_what_scalars_cannot_do_is_told():
    x = scalar(1.0)
    with pytest.raises(TypeError, match="sum with axis, keepdims works on tensors"):
        mg.sum(x)
    with pytest.raises(TypeError, match="argument 1 is a str"):
        mg.add(x, "1")
    with pytest.raises(TypeError, match="a Scalar and a Tensor do not mix"):
        x + mg.tensor(1.0)
    with pytest.raises(TypeError, match="a Scalar and a Tensor do not mix"):
        mg.tensor(1.0) * x
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "1"
    with pytest.raises(TypeError, match="data is a Scalar"):
        mg.tensor(x)


def test_copies_and_pickles_are_leaves():
    x = scalar(2.0, name="x")
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert (twin.data, twin.name, twin.op) == (2.0, "x", None)
        twin.data = 3.0
        assert x.data == 2.0
    for give in (copy.deepcopy, pickle.dumps):
        with pytest.raises(GraphError, match="only a leaf"):
            give(x * x)


def test_infinities_and_nan_flow_without_exceptions():
    x = scalar(0.0)
    f = 1.0 / x
    assert f.data == math.inf
    f.backward()
    assert x.grad == -math.inf
    assert math.isnan((scalar(math.inf) - math.inf).data)
    assert mg.exp(scalar(1e4)).data == math.inf
    assert math.isnan(mg.log(scalar(-1.0)).data)
