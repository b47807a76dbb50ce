"""Transforms: each against analytic derivatives, and nested in any order."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GraphError
from minigrad.testing import arrays

RNG = np.random.default_rng(3)
A = RNG.normal(size=(3, 3))
S = A + A.T
X = RNG.uniform(0.5, 1.5, 3)
V = RNG.normal(size=3)


def t(x, **options):
    return mg.tensor(np.asarray(x, float), **options)


def close(found, wanted, tolerance=1e-9):
    found = found.numpy() if isinstance(found, mg.Tensor) else found
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def quadratic(x):
    """x' A x / 2 + sum(x**3)."""
    return (x @ (t(A) @ x)) * 0.5 + (x**3).sum()


GRADIENT = S @ X / 2 + 3 * X**2
HESSIAN = S / 2 + np.diag(6 * X)


# --- each on its own -----------------------------------------------------------------------------


def test_grad_and_value_and_grad():
    close(mg.grad(quadratic)(t(X)), GRADIENT)
    value, g = mg.value_and_grad(quadratic)(t(X))
    close(value, X @ A @ X / 2 + (X**3).sum())
    close(g, GRADIENT)


def test_grad_of_numbers_gives_numbers():
    assert mg.grad(lambda x: x**3)(2.0) == 12.0
    assert type(mg.grad(lambda x: x**3)(2.0)) is float
    assert mg.value_and_grad(lambda x: x**3)(2) == (8.0, 12.0)
    assert mg.grad(lambda x: 5.0)(2.0) == 0.0
    assert mg.grad(lambda x, y: x * y, (0, 1))(2.0, 3.0) == (3.0, 2.0)


def test_argnums_choose_arguments():
    def f(x, y, scale=1.0):
        return (x * x * y).sum() * scale

    x, y = t([1.0, 2.0]), t([3.0, 4.0])
    close(mg.grad(f)(x, y), 2 * x.numpy() * y.numpy())
    close(mg.grad(f, 1)(x, y), x.numpy() ** 2)
    close(mg.grad(f, -1)(x, y, scale=2.0), 2 * x.numpy() ** 2)
    one, two = mg.grad(f, (1, 0))(x, y)
    close(one, x.numpy() ** 2)
    close(two, 2 * x.numpy() * y.numpy())
    assert isinstance(mg.grad(f, (0,))(x, y), tuple)
    value, gs = mg.value_and_grad(f, (0, 1))(x, y)
    assert len(gs) == 2 and value.item() == 19.0


def test_arrays_are_taken_too():
    close(mg.grad(quadratic)(X), GRADIENT)
    close(mg.hessian(quadratic)(X), HESSIAN)


def test_vjp_pulls_as_often_as_one_likes():
    value, pull = mg.vjp(lambda x, y: x * y, t([1.0, 2.0]), t([3.0, 4.0]))
    close(value, [3.0, 8.0])
    for v in ([1.0, 0.0], [0.5, 2.0]):
        gx, gy = pull(t(v))
        close(gx, np.array(v) * [3.0, 4.0])
        close(gy, np.array(v) * [1.0, 2.0])


def test_jvp_is_the_directional_derivative():
    value, d = mg.jvp(quadratic, [t(X)], [t(V)])
    close(value, quadratic(t(X)).item())
    close(d, GRADIENT @ V)
    y, d = mg.jvp(lambda a, b: a @ b, [t(A), t(X)], [t(S), t(V)])
    close(y, A @ X)
    close(d, S @ X + A @ V)
    assert mg.jvp(lambda x: x**2, [3.0], [1.0]) == (9.0, 6.0)
    # Linear functions, constants, and functions that ignore an argument.
    close(mg.jvp(lambda x: t(A) @ x, [t(X)], [t(V)])[1], A @ V)
    close(mg.jvp(lambda x: x, [t(X)], [t(V)])[1], V)
    close(mg.jvp(lambda x: t([1.0]), [t(X)], [t(V)])[1], [0.0])
    close(mg.jvp(lambda x, y: y * 2.0, [t(X), t(V)], [t(V), t(X)])[1], 2 * X)


def test_jacobian_and_hessian():
    close(mg.jacobian(lambda x: t(A) @ x)(t(X)), A)
    close(mg.jacobian(lambda x: mg.sin(x))(t(X)), np.diag(np.cos(X)))
    close(mg.hessian(quadratic)(t(X)), HESSIAN)
    shape = mg.jacobian(lambda x: mg.outer(x, x))(t(X)).shape
    assert shape == (3, 3, 3)
    by_a, by_x = mg.jacobian(lambda a, x: a @ x, (0, 1))(t(A), t(X))
    assert by_a.shape == (3, 3, 3)
    close(by_x, A)
    assert mg.jacobian(lambda x: x[:0])(t(X)).shape == (0, 3)
    assert mg.jacobian(lambda x: x.sum())(mg.tensor(np.zeros((0, 2)))).shape == (0, 2)
    close(mg.jacobian(lambda x: t([1.0, 2.0]))(t(X)), np.zeros((2, 3)))
    assert mg.hessian(lambda x: x**3)(2.0) == 12.0


def test_hvp_is_the_hessian_times_a_vector():
    close(mg.hvp(quadratic, t(X), t(V)), HESSIAN @ V)
    assert mg.hvp(lambda x: x**3, 2.0, 10.0) == 120.0


@given(arrays((4,)), arrays((4,)))
def test_vjp_and_jvp_are_adjoint(x, v):
    def f(z):
        return mg.tanh(mg.cumsum(z * z)) + mg.sin(z[0])

    w = np.arange(1.0, 5.0)
    _, pushed = mg.jvp(f, [t(x)], [t(v)])
    _, pull = mg.vjp(f, t(x))
    close(w @ pushed.numpy(), pull(t(w))[0].numpy() @ v)


# --- nested --------------------------------------------------------------------------------------


def by_grad(f):
    return mg.grad(f)


def by_vjp(f):
    return lambda x: mg.vjp(f, x)[1](mg.ones_like(f(x)) if isinstance(x, mg.Tensor) else 1.0)[0]


def by_jvp(f):
    return lambda x: mg.jvp(f, [x], [mg.ones_like(x) if isinstance(x, mg.Tensor) else 1.0])[1]


def by_jacobian(f):
    return mg.jacobian(f)


def by_value_and_grad(f):
    return lambda x: mg.value_and_grad(f)(x)[1]


WAYS = [by_grad, by_vjp, by_jvp, by_jacobian, by_value_and_grad]


def names(ways):
    return " of ".join(way.__name__.removeprefix("by_") for way in ways)


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, repeat=2)), ids=names)
def test_two_derivatives_nested_in_any_order(ways):
    outer, inner = ways
    second = outer(inner(lambda x: mg.sin(x) * x**2))
    x = 0.7
    wanted = 2 * np.sin(x) + 4 * x * np.cos(x) - x * x * np.sin(x)
    close(second(x), wanted)
    close(second(t(x)), wanted)


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, repeat=3)), ids=names)
def test_three_derivatives_nested_in_any_order(ways):
    third = ways[0](ways[1](ways[2](lambda x: x**4 + mg.exp(x * 0.5))))
    close(third(1.5), 24 * 1.5 + 0.125 * np.exp(0.75))
    close(third(t(1.5)), 24 * 1.5 + 0.125 * np.exp(0.75))


def test_an_inner_derivative_that_uses_an_outer_variable():
    """The classic confusion of perturbations: d/dx (x * d/dy (x + y)) is 1, not 2."""

    def f(x):
        return x * mg.grad(lambda y: x + y)(1.0)

    assert mg.grad(f)(2.0) == 1.0
    assert mg.jvp(f, [2.0], [1.0])[1] == 1.0

    def g(x):
        return x * mg.grad(lambda y: x * y * y)(3.0)  # x * 2 x 3 = 6 x**2

    assert mg.grad(g)(2.0) == 24.0
    assert mg.jvp(lambda x: x * mg.jvp(lambda y: x * y * y, [3.0], [1.0])[1], [2.0], [1.0])[1] == 24

    def h(x):
        return mg.grad(lambda y: mg.grad(lambda z: x * y * z * z)(y))(x)

    # By z: 2 x y z, which at z = y is 2 x y**2; by y: 4 x y, which at y = x is 4 x**2; by x: 8 x.
    assert mg.grad(h)(3.0) == 24.0


def test_reverse_over_forward_and_forward_over_reverse_agree():
    f = quadratic
    forward_over_reverse = mg.jvp(mg.grad(f), [t(X)], [t(V)])[1]
    reverse_over_forward = mg.grad(lambda x: mg.jvp(f, [x], [t(V)])[1])(t(X))
    close(forward_over_reverse, HESSIAN @ V)
    close(reverse_over_forward, HESSIAN @ V)
    close(mg.jacobian(lambda x: mg.vjp(f, x)[1](1.0)[0])(t(X)), HESSIAN)


def test_derivatives_by_tangents_and_by_what_flows_in():
    close(mg.grad(lambda v: mg.jvp(quadratic, [t(X)], [v])[1])(t(V)), GRADIENT)

    def pulled(v):
        return (mg.vjp(mg.sin, t(X))[1](v)[0] * t(V)).sum()

    close(mg.grad(pulled)(t(np.ones(3))), np.cos(X) * V)


def test_a_tower_of_derivatives():
    f = mg.sin
    for n, wanted in enumerate([np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)] * 2):
        assert f(0.3) == pytest.approx(wanted(0.3), rel=1e-12), n
        f = mg.grad(f)


def test_transforms_of_checkpoints_and_hooks():
    f = mg.checkpoint(lambda x: mg.sin(x) * x)
    close(mg.grad(mg.grad(lambda x: f(x).sum()))(t(0.7)), 2 * np.cos(0.7) - 0.7 * np.sin(0.7))
    close(mg.hessian(lambda x: f(x).sum())(t(X)), np.diag(2 * np.cos(X) - X * np.sin(X)))


# --- what they leave alone -----------------------------------------------------------------------


def test_transforms_touch_no_grad_and_return_plain_results():
    x = t(X, requires_grad=True)
    plain = t(X)
    for f in (mg.grad(quadratic), mg.jacobian(quadratic), mg.hessian(quadratic)):
        assert f(plain).requires_grad is False
        f(x)
    assert x.grad is None and plain.grad is None and not plain.requires_grad
    value, pull = mg.vjp(quadratic, plain)
    assert not value.requires_grad and not pull(1.0)[0].requires_grad


def test_results_join_the_graph_of_what_they_were_computed_from():
    """On tensors that require a gradient, a transform's result can be differentiated on."""
    x = t(X, requires_grad=True)
    (mg.grad(quadratic)(x) ** 2).sum().backward()
    close(x.grad, 2 * HESSIAN @ GRADIENT)
    w = t(A, requires_grad=True)
    g = mg.grad(lambda x: (w @ x).sum())(t(X))
    g[0].backward()
    close(w.grad, np.array([[1.0, 0, 0]] * 3))


def test_under_no_grad_transforms_work_and_results_are_plain():
    x = t(X, requires_grad=True)
    with mg.no_grad():
        g = mg.grad(quadratic)(x)
        close(mg.hessian(quadratic)(x), HESSIAN)
        assert mg.grad(lambda x: x * x)(3.0) == 6.0
    close(g, GRADIENT)
    assert not g.requires_grad


def test_an_unused_argument_has_gradient_zero():
    gx, gy = mg.grad(lambda x, y: x.sum(), (0, 1))(t(X), t(A))
    close(gx, np.ones(3))
    close(gy, np.zeros((3, 3)))
    x, y = t(X, requires_grad=True), t(X, requires_grad=True)
    x.sum().backward()
    assert y.grad is None


def test_dtypes_are_kept():
    for dtype in (np.float32, np.float64, np.float16):
        x = mg.tensor(np.ones(3, dtype))
        f = lambda x: (x * x).sum()  # noqa: E731 - one function for all transforms
        for transform in (mg.grad, mg.jacobian, mg.hessian):
            assert transform(f)(x).dtype == dtype
        assert mg.jvp(f, [x], [x])[1].dtype == dtype
        assert mg.hvp(f, x, x).dtype == dtype


# --- gradients() ---------------------------------------------------------------------------------


def test_gradients_of_several_outputs_and_of_interior_variables():
    x = t(X, requires_grad=True)
    y = x * 2.0
    z = y.sum()
    gx, gy = mg.gradients([z, y], [x, y], [None, t(V)])
    close(gy, 1.0 + V)
    close(gx, 2.0 * (1.0 + V))
    assert x.grad is None


def test_gradients_keep_or_free_the_graph():
    x = t(X, requires_grad=True)
    y = mg.exp(x).sum()
    mg.gradients(y, [x], retain_graph=True)
    mg.gradients(y, [x])
    with pytest.raises(GraphError, match="walked before"):
        mg.gradients(y, [x])


# --- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use, kind, words",
    [
        (lambda: mg.grad(lambda x: x * 2.0)(t(X)), ValueError, r"returned shape \(3,\).*jacobian"),
        (lambda: mg.grad(lambda x: (x, x))(2.0), TypeError, "returned a tuple"),
        (lambda: mg.grad(lambda x: None)(2.0), TypeError, "returned a NoneType"),
        (lambda: mg.grad(lambda x: x, 1)(2.0), ValueError, "argnums 1, but 1 argument"),
        (
            lambda: mg.grad(lambda x: x.sum())(mg.arange(3)),
            TypeError,
            "argument 0 is of dtype int64",
        ),
        (lambda: mg.jvp(mg.sin, [t(X)], [t(A)]), ValueError, r"tangent 0 has shape \(3, 3\)"),
        (lambda: mg.jvp(mg.sin, [t(X)], []), ValueError, r"1 primal\(s\), but 0 tangent"),
        (lambda: mg.vjp(mg.sin, t(X))[1](t(A)), ValueError, r"shape \(3, 3\)"),
        (lambda: mg.vjp(mg.sin, t(X))[1](1.0), ValueError, r"shape \(\), the tensor \(3,\)"),
        (lambda: mg.gradients(t(X), [t(X)]), GraphError, "depends on nothing"),
        (lambda: mg.gradients(t(X, requires_grad=True) * 1, []), ValueError, "3 elements"),
    ],
)
def test_wrong_use_is_told(use, kind, words):
    with pytest.raises(kind, match=words):
        use()


@given(st.integers(1, 4))
def test_wrapped_functions_keep_their_names(n):
    def polynomial(x):
        """x to the n."""
        return x**n

    for transform in (mg.grad, mg.value_and_grad, mg.jacobian, mg.checkpoint):
        assert transform(polynomial).__name__ == "polynomial"
        assert transform(polynomial).__doc__ == "x to the n."
