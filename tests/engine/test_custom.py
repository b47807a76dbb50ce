"""Custom functions: the short form `op`, the full form `Op`, several outputs, and `like`."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import GraphError, Op, check_gradients, op
from minigrad.core import raw
from minigrad.testing import check_op

X = np.random.default_rng(5).uniform(0.5, 1.5, (2, 3))


def leaf(array):
    return mg.tensor(np.array(array, float), requires_grad=True)


# --- the short form ------------------------------------------------------------------------------


def test_a_rule_names_what_it_needs():
    cube = op("cube", lambda x: x**3, lambda g, x: g * 3 * x**2)
    check_op(cube, lambda x: x**3, X, order=3)
    exp = op("exp", np.exp, lambda g, y: g * y)
    check_op(exp, np.exp, X)
    hypot = op("hypot", np.hypot, lambda g, a, y: g * a / y, lambda g, b, y: g * b / y)
    check_op(hypot, np.hypot, X, X[0] + 1.0)
    mean = op(
        "mean of columns",
        lambda x: x.mean(0),
        lambda g, x_shape: mg.broadcast_to(g, x_shape) / x_shape[0],
    )
    check_op(mean, lambda x: x.mean(0), X)


def test_static_parameters_are_keywords_with_or_without_defaults():
    scale = op("scale", lambda x, *, by, plus=0.0: x * by + plus, lambda g, by: g * by)
    x = leaf(X)
    scale(x, by=3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 3.0))
    power = op(
        "nth",
        lambda x, *, n=2: x**n,
        lambda g, x, n: g * n * x ** (n - 1),
    )
    check_op(power, lambda x, n=2: x**n, X)
    check_op(power, lambda x, n=2: x**n, X, n=5)


def test_only_what_the_needed_rules_ask_for_is_kept():
    product = op("product", np.multiply, lambda g, b: g * b, lambda g, a: g * a)
    a, b = leaf(X), mg.tensor(X)
    assert [s is b._data for s in product(a, b).node.saved] == [True]
    assert [s is b._data for s in product(b, a).node.saved] == [True]
    assert len(product(a, a).node.saved) == 2
    assert op("twice", lambda x: 2 * x, lambda g: g * 2.0)(a).node.saved == ()
    assert product(b, b).is_leaf


def test_rules_run_only_for_arguments_that_need_a_gradient():
    def never(g, a):
        raise AssertionError("this rule was not needed")

    product = op("product", np.multiply, lambda g, b: g * b, never)
    x = leaf(X)
    product(x, X).sum().backward()
    product(x, 2.0).sum().backward()
    with pytest.raises(AssertionError, match="not needed"):
        product(x, leaf(X)).sum().backward()


def test_it_works_on_everything():
    cube = op("cube", lambda x: x**3, lambda g, x: g * 3.0 * x * x, scalar=lambda x: x * x * x)
    assert cube(2.0) == 8.0
    np.testing.assert_array_equal(cube(X), X**3)
    assert cube(mg.tensor([2.0])).tolist() == [8.0]
    s = mg.scalar(2.0)
    y = cube(s)
    y.backward()
    assert (y.data, s.grad, repr(cube)) == (8.0, 12.0, "<op cube>")
    check_gradients(cube, 2.0, order=3)
    assert mg.hessian(lambda x: cube(x).sum())(mg.tensor([2.0])).item() == 12.0
    with pytest.raises(TypeError, match="works on tensors, not on scalars"):
        op("none", np.exp, lambda g, y: g * y)(s)


def test_none_is_an_argument():
    affine = op(
        "affine",
        lambda x, w, b: x * w if b is None else x * w + b,
        lambda g, w: g * w,
        lambda g, x: g * x,
        lambda g: g,
    )
    check_op(affine, lambda x, w, b: x * w, X, X, None)
    check_op(affine, lambda x, w, b: x * w + b, X, X, X[0])
    x = leaf(X)
    affine(x, 2.0, None).sum().backward(create_graph=True)
    assert (x.grad.numpy() == 2.0).all()


def test_an_op_is_a_method_when_it_stands_in_a_class():
    class Box(mg.Tensor):
        cube = op("cube", lambda x: x**3, lambda g, x: g * 3 * x**2)

    assert Box([2.0]).cube().tolist() == [8.0]
    assert isinstance(Box.cube, Op)


def test_a_broadcast_gradient_is_summed_and_cast():
    add = op("add", np.add, lambda g: g, lambda g: g)
    a, b = leaf(np.ones((2, 3))), mg.tensor(np.ones((3,), np.float32), requires_grad=True)
    c = leaf(np.ones((2, 1)))
    add(add(a, b), c).sum().backward()
    assert a.grad.shape == (2, 3) and c.grad.tolist() == [[3.0], [3.0]]
    assert b.grad.tolist() == [2.0, 2.0, 2.0] and b.grad.dtype == np.float32


def test_a_number_as_gradient_is_spread():
    x = leaf(X)
    op("flat", np.floor, lambda g: 0.0)(x).sum().backward()
    assert (x.grad.numpy() == 0.0).all() and x.grad.shape == (2, 3)


# --- the full form -------------------------------------------------------------------------------

# Polar coordinates and the quadrant: two outputs with gradients that share work, one without.
polar = Op(
    "polar",
    lambda x, y, *, turn=0.0: (
        np.hypot(x, y),
        np.arctan2(y, x) + turn,
        (np.arctan2(y, x) // (np.pi / 2)).astype(np.int64),
    ),
    inputs=("x", "y"),
    outputs=("radius", "angle", "quadrant"),
    differentiable=(True, True, False),
    saves=("x", "y", "radius"),
    backward=lambda saved, g, needs: polar_backward(saved, g, needs),
)


def polar_backward(saved, g, needs):
    g_radius, g_angle, g_quadrant = g
    assert g_quadrant is None
    assert saved.turn is not None  # a static parameter, with its default
    x, y, r = saved.x, saved.y, saved.radius
    along = 0.0 if g_radius is None else g_radius / r
    around = 0.0 if g_angle is None else g_angle / (r * r)
    return [
        along * x - around * y if needs[0] else None,
        along * y + around * x if needs[1] else None,
    ]


def test_several_outputs_with_shared_work():
    def reference(x, y):
        return np.hypot(x, y), np.arctan2(y, x), (np.arctan2(y, x) // (np.pi / 2)).astype(int)

    check_op(polar, reference, X, X + 0.5, order=3)
    radius, angle, quadrant = polar(leaf(X), leaf(X))
    assert radius.requires_grad and angle.requires_grad
    assert not quadrant.requires_grad and quadrant.dtype == np.int64
    assert radius.node.inputs[0] is angle.node.inputs[0]


@pytest.mark.parametrize("use", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("by", [(0,), (1,), (0, 1)])
def test_each_output_by_each_input(use, by):
    def f(*given):
        inputs = [X, X + 0.5]
        for i, value in zip(by, given, strict=True):
            inputs[i] = value
        outputs = polar(*inputs)
        return [outputs[i] for i in use]

    check_gradients(f, *[[X, X + 0.5][i] for i in by], order=2)


def test_several_outputs_without_recording():
    plain = polar(X, X)
    assert all(isinstance(p, np.ndarray) for p in plain)
    with mg.no_grad():
        assert not any(out.requires_grad for out in polar(leaf(X), leaf(X)))
    assert not any(out.requires_grad for out in polar(mg.tensor(X), mg.tensor(X)))


def test_an_output_used_twice_and_one_never_used():
    x = leaf(X)
    radius, _, _ = polar(x, X + 0.5)
    (radius * radius + radius).sum().backward()
    r = np.hypot(X, X + 0.5)
    np.testing.assert_allclose(x.grad.numpy(), 2 * X + X / r)


def test_any_number_of_inputs():
    total = Op(
        "total",
        lambda *parts, power: sum(p**power for p in parts),
        inputs=("*parts",),
        saves=("parts",),
        backward=lambda saved, g, needs: [
            g * saved.power * getattr(saved, f"parts{i}") ** (saved.power - 1) if need else None
            for i, need in enumerate(needs)
        ],
    )
    check_gradients(lambda a, b, c: total(a, b, X, c, power=3), X, X + 1.0, X[0])


# --- like ----------------------------------------------------------------------------------------


def silu_plain(x, *, slope=1.0):
    return x * mg.sigmoid(x * slope)


def silu_kernel(x, *, slope=1.0):
    return x / (1.0 + np.exp(-x * slope))


def silu_backward(saved, g, needs):
    # A kernel: plain arrays only, so that a recorded pass must take the composition instead.
    x = saved.x
    assert isinstance(x, np.ndarray) and isinstance(g, np.ndarray)
    s = 1.0 / (1.0 + np.exp(-x * saved.slope))
    return [g * s * (1.0 + saved.slope * x * (1.0 - s))]


silu = Op("silu", silu_kernel, inputs=("x",), saves=("x",), backward=silu_backward, like=silu_plain)


@pytest.mark.parametrize("slope", [1.0, 2.5])
def test_a_fused_op_is_differentiated_as_what_it_equals(slope):
    check_op(silu, silu_kernel, X, order=3, slope=slope)
    x = mg.tensor(X)
    np.testing.assert_allclose(
        mg.hessian(lambda t: silu(t, slope=slope).sum())(x).numpy(),
        mg.hessian(lambda t: silu_plain(t, slope=slope).sum())(x).numpy(),
    )


def test_a_fused_op_of_several_outputs_and_inputs():
    fused = Op(
        "sum and product",
        lambda a, b: (a + b, a * b),
        inputs=("a", "b"),
        outputs=("s", "p"),
        saves=("a", "b"),
        backward=lambda saved, g, needs: [
            (0.0 if g[0] is None else g[0]) + (0.0 if g[1] is None else g[1] * raw(other))
            if need
            else None
            for other, need in zip((saved.b, saved.a), needs, strict=True)
        ],
        like=lambda a, b: (a + b, a * b),
    )
    for outputs in ((0,), (1,), (0, 1)):
        check_gradients(lambda a, b, use=outputs: [fused(a, b)[i] for i in use], X, X[0] + 1.0)
        check_gradients(lambda a, use=outputs: [fused(a, X)[i] for i in use], X)


# --- wrong declarations and wrong rules ----------------------------------------------------------


@pytest.mark.parametrize(
    "declare, kind, words",
    [
        (lambda: op("f", np.add, lambda g: g), ValueError, r"op f: its inputs are a, b.*1 given"),
        (lambda: op("f", np.exp, lambda x: x), ValueError, "first parameter of a rule"),
        (lambda: op("f", np.exp, lambda: 1.0), ValueError, "first parameter of a rule"),
        (lambda: op("f", np.exp, np.cos), TypeError, "rule 0 must be a lambda or def"),
        (
            lambda: op("f", lambda x, *, n: x, lambda g, z: g),
            ValueError,
            "rule 0 asks for `z`; it can have n, x, x_shape, y",
        ),
    ],
)
def test_wrong_declarations_are_told(declare, kind, words):
    with pytest.raises(kind, match=words):
        declare()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "rule, shape",
    [
        (lambda g, x: (g * x).sum(), r"\(\)"),
        (lambda g, x: g[0], r"\(3,\)"),
        (lambda g, x: mg.transpose(g), r"\(3, 2\)"),
    ],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_that_returns_a_wrong_shape_is_told(rule, shape, dtype, create_graph):
    f = op("shapeless", lambda x: x * 2, rule)
    x = mg.tensor(X.astype(dtype), requires_grad=True)
    with pytest.raises(
        GraphError,
        match=rf"shapeless: the rule for its argument 0 .* shape {shape}, .* has shape \(2, 3\)",
    ):
        f(x).sum().backward(create_graph=create_graph)


def test_a_backward_that_returns_the_wrong_number_of_gradients_is_told():
    for found in ([], [1.0, 2.0]):
        f = Op("miscounted", np.exp, inputs=("x",), backward=lambda s, g, n, f=found: f)
        with pytest.raises(GraphError, match=rf"miscounted: .* returned {len(found)} gradient"):
            f(leaf(X)).sum().backward()


def test_an_op_without_rules_says_so():
    f = Op("ruleless", np.exp, inputs=("x",))
    y = f(leaf(X)).sum()
    with pytest.raises(GraphError, match="ruleless was declared without rules"):
        y.backward()


def test_ops_are_not_pickled():
    import pickle

    with pytest.raises(TypeError, match="op exp cannot be pickled"):
        pickle.dumps(mg.exp)
