"""The checker is checked: it finds rules that are broken on purpose, and only those."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Op, check_gradients, op
from minigrad.check import GradientError, GradientReport, KinkError
from minigrad.core import raw

RNG = np.random.default_rng(7)
X = RNG.uniform(0.5, 1.5, (2, 3))
Y = RNG.uniform(0.5, 1.5, (3,))


def half_square(keep):
    """x * x / 2, whose slope x is remembered outside of the graph."""
    memory = []

    def forward(x):
        memory.append(np.array(x))
        return np.square(x) / 2

    return Op(
        "half square",
        forward,
        inputs=("x",),
        backward=lambda saved, g, needs: [g * memory[keep]],
    )


stale = half_square(-1)

# name -> (function, inputs, order at which it must be found, words that the message must have)
BROKEN = {
    "wrong factor": (op("exp2", np.exp, lambda g, y: g * y * 2.0), (X,), 1, "factor 2"),
    "wrong sign": (op("neg", np.negative, lambda g: g), (X,), 1, "factor -1"),
    "slightly wrong factor": (
        op("nearly", np.sin, lambda g, x: g * mg.cos(x) * 1.0001),
        (X,),
        1,
        "factor 1.0001",
    ),
    "wrong only in one element": (
        op("one", lambda x: 3.0 * x, lambda g, x: g * np.where(raw(x) == X[1, 2], 5.0, 3.0)),
        (X,),
        1,
        "output 0[1, 2] by input 0[1, 2]: the rules give 5.0, but differences give 3.0",
    ),
    "wrong for the second input": (
        op("ratio", np.divide, lambda g, b: g / b, lambda g, a, b: g * a / b),
        (X, X + 1.0),
        1,
        "by input 1[0, 0]",
    ),
    "gradient missing for one input": (
        op("left", np.multiply, lambda g, b: g * b, lambda g, a: None),
        (X, X + 1.0),
        1,
        "by input 1[0, 0]: the rules give 0.0",
    ),
    "un-broadcast keeps the first row instead of the sum": (
        Op(
            "add",
            np.add,
            inputs=("a", "b"),
            backward=lambda saved, g, needs: [g, g[0] if g.ndim == 2 else g],
        ),
        (X, Y),
        1,
        "output 0[1, 0] by input 1[0]: the rules give 0.0, but differences give 1.0",
    ),
    "wrong axis": (
        op(
            "sums",
            lambda x: x.sum(0),
            lambda g, x_shape: mg.broadcast_to(mg.flip(g, 0), x_shape),
        ),
        (X,),
        1,
        "by input 0[0, 0]",
    ),
    "transposed": (
        op("square matrix", lambda x: x @ x, lambda g, x: g @ x + x @ g),
        (X[:, :2],),
        1,
        "by input 0",
    ),
    "saved value of a later call": (lambda x: stale(x) + stale(mg.exp(x)), (X,), 1, "[0, 0]"),
    "saved value of the first call": (half_square(0), (X,), 1, "by input 0[0, 0]"),
    "not differentiable again": (
        op("sine", np.sin, lambda g, x: g * np.cos(raw(x))),
        (X,),
        2,
        "the gradient by input 0[0, 0] by input 0[0, 0]: the rules give 0.0",
    ),
    "not differentiable by what flows in": (
        op("scaled", lambda x: 3.0 * x, lambda g: 3.0 * raw(g)),
        (X,),
        2,
        "by the gradient that flows into output 0",
    ),
    "wrong in recorded passes only": (
        op("forked", np.sin, lambda g, x: g * mg.cos(x) * (2.0 if raw(g) is not g else 1.0)),
        (X,),
        1,
        "with create_graph=True",
    ),
    "wrong from the third order": (
        op(
            "cube",
            lambda x: x**3,
            lambda g, x: g * op("slope", lambda x: 3 * x**2, lambda g, x: g * 6 * raw(x))(x),
        ),
        (X,),
        3,
        "order 3",
    ),
    "off the graph": (lambda x: mg.tensor(x.data * 2.0), (X,), 1, "the rules give 0.0"),
    "detached half": (lambda x: x * x.detach(), (X,), 1, "factor 0.5"),
    "a like that is not like it": (
        Op(
            "fused",
            np.sin,
            inputs=("x",),
            saves=("x",),
            backward=lambda saved, g, needs: [g * np.cos(raw(saved.x))],
            like=lambda x: mg.cos(x),
        ),
        (X,),
        1,
        "with create_graph=True",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found_and_named(name):
    f, inputs, order, words = BROKEN[name]
    if order > 1:
        check_gradients(f, *inputs, order=order - 1)
    with pytest.raises(GradientError) as caught:
        check_gradients(f, *inputs, order=order + 1 if words.startswith("with") else order)
    message = str(caught.value)
    assert not isinstance(caught.value, KinkError), message
    assert words in message
    assert f"order {order}" in message


def test_the_broken_un_broadcast_would_not_be_seen_without_the_check():
    """It returns gradients of the right shapes, so nothing else complains."""
    f, inputs, *_ = BROKEN["un-broadcast keeps the first row instead of the sum"]
    a, b = (mg.tensor(x, requires_grad=True) for x in inputs)
    f(a, b).sum().backward()
    assert b.grad.shape == b.shape


HEALTHY = {
    "one input": (mg.tanh, (X,)),
    "two inputs that broadcast": (lambda a, b: a * b / (a + b), (X, Y)),
    "no axes": (mg.exp, (np.array(0.3),)),
    "no elements": (mg.exp, (np.zeros((0, 3)),)),
    "a size-0 axis summed away": (lambda x: mg.sum(x, 0), (np.zeros((0, 3)),)),
    "several outputs": (lambda a, b: (a * b, mg.sum(a), mg.argmax(b)), (X, Y)),
    "an integer input": (mg.take, (X, np.array([0, 0, 1]))),
    "static arguments": (lambda x, n, axis: mg.roll(x, n, axis), (X, 1, 0)),
    "linear": (lambda x: x * 3.0, (X,)),
    "constant": (mg.floor, (X + 0.01,)),
    "large values": (lambda x: x**3, (np.array([1e6, 3.0, 1e-6]),)),
    "near the edge of its domain": (mg.log, (np.array([1e-4, 1.0]),)),
    "near a kink": (mg.relu, (np.array([1e-5, -3e-5, 1.0]),)),
    "badly scaled": (mg.inv, (np.array([[1e-2, 1e-3], [0.0, 1e-2]]),)),
    "scalars": (lambda x, y: mg.sin(x) * y + x / y, (0.7, -1.3)),
    "Scalar objects": (lambda x, y: x * y, (mg.scalar(4.0), mg.scalar(-3.0))),
    "float32 is raised to float64": (lambda x: x * x, (mg.tensor([1.0, 2.0]),)),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_healthy_function_passes(name, order):
    f, inputs = HEALTHY[name]
    report = check_gradients(f, *inputs, order=order)
    assert isinstance(report, GradientReport)
    assert report.kinks == 0
    assert 0.0 <= report.largest_error < 1e-6
    assert report.compared > 0 or all(np.size(x) == 0 for x in inputs)


def test_each_element_is_compared_and_each_order_adds_its_own():
    assert check_gradients(mg.tanh, X, order=1).compared == 6
    # Order 2: six elements again, and one direction of what flows in.
    assert check_gradients(mg.tanh, X, order=2).compared == 6 + 6 + 1


def test_large_inputs_are_checked_along_directions_and_the_element_is_still_named():
    x = RNG.normal(size=(20, 20))
    assert check_gradients(mg.tanh, x, order=1).compared == 8
    assert check_gradients(mg.tanh, x, order=1, directions=3).compared == 3
    mask = np.ones((20, 20))
    mask[13, 4] = 2.0
    wrong = op("spot", np.tanh, lambda g, y: g * (1.0 - y * y) * mask)
    with pytest.raises(GradientError, match=r"output 0\[13, 4\] by input 0\[13, 4\].*factor 2"):
        check_gradients(wrong, x, order=1)


def test_few_directions_find_a_wrong_rule_too():
    f, inputs, *_ = BROKEN["wrong factor"]
    with pytest.raises(GradientError, match="factor 2"):
        check_gradients(f, *inputs, directions=1)


def test_names_of_inputs_are_told():
    f, *_ = BROKEN["wrong factor"]
    with pytest.raises(GradientError, match=r"input 0 \('weight'\)"):
        check_gradients(f, mg.tensor(X, name="weight"))


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_numbers_in_the_message_are_the_jacobian_entry(slope, wrong):
    """They are of one output by one input, not of some random mixture."""
    f = op("line", lambda x: slope * x, lambda g: g * wrong)
    if abs(slope - wrong) < 1e-4:
        return
    with pytest.raises(GradientError) as caught:
        check_gradients(f, np.array([1.0, 2.0]))
    told = re.search(r"rules give (\S+), but differences give (\S+) ", str(caught.value))
    given_, numeric = (float(number) for number in told.groups())
    assert given_ == pytest.approx(wrong, abs=1e-6)
    assert numeric == pytest.approx(slope, abs=1e-6)


# --- kinks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f, x, order",
    [
        (mg.relu, [0.0, 1.0], 1),
        (mg.abs, [0.0, 1.0], 2),
        (lambda x: mg.maximum(x, 0.5 * x), [0.0], 2),
        (lambda x: mg.clip(x, -1, 1), [1.0, 0.3], 1),
        (mg.floor, [1.0, 0.5], 1),
        (lambda x: mg.sum(mg.relu(x)), [0.0, -2.0, 0.7], 1),
    ],
)
def test_a_kink_is_reported_as_one(f, x, order):
    x = np.array(x)
    with pytest.raises(KinkError, match="kink or a jump"):
        check_gradients(f, x, order=order)
    report = check_gradients(f, x, order=order, kinks="skip")
    assert report.kinks >= 1


def test_the_slopes_on_both_sides_of_a_kink_are_told():
    with pytest.raises(KinkError, match="slope 0 on the left and 1 on the right; .* choose 0"):
        check_gradients(mg.relu, np.array(0.0))


def test_a_choice_outside_of_both_slopes_is_wrong_even_at_a_kink():
    f = op("relu", lambda x: np.maximum(x, 0), lambda g, x: g * 1.5)
    with pytest.raises(GradientError) as caught:
        check_gradients(f, np.array(0.0), kinks="skip")
    assert not isinstance(caught.value, KinkError)


def test_a_kink_elsewhere_does_not_hide_a_wrong_rule():
    f = op("relu", lambda x: np.maximum(x, 0), lambda g, x: g * 2.0 * (raw(x) > 0))
    with pytest.raises(GradientError, match=r"by input 0\[1\].*factor 2"):
        check_gradients(f, np.array([0.0, 1.0]), kinks="skip")


def test_an_edge_of_the_domain_is_told():
    with pytest.raises(GradientError, match="not finite on both sides"):
        check_gradients(mg.sqrt, np.array([0.0]))
    flat = op("sqrt", np.sqrt, lambda g: g * 0.0)
    with pytest.raises(KinkError, match="not finite on both sides"):
        check_gradients(flat, np.array([0.0]))


# --- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs, words",
    [((), "given: none"), ((3,), "int"), ((np.arange(3),), "ndarray of int64")],
)
def test_nothing_to_differentiate_is_told(inputs, words):
    with pytest.raises(TypeError, match=f"at least one input of floats.*{words}"):
        check_gradients(lambda *a: a, *inputs)


def test_a_function_that_leaves_double_precision_is_told():
    with pytest.raises(TypeError, match="returns float32; differences need double precision"):
        check_gradients(lambda x: x.astype(mg.float32), X)


def test_a_function_that_is_not_the_same_twice_is_told():
    with pytest.raises(ValueError, match="other values the second time"):
        check_gradients(lambda x: x * np.random.default_rng().normal(), X)
    calls = []
    with pytest.raises(ValueError, match="other values the second time"):
        check_gradients(lambda x: x * len(calls.append(0) or calls), X)


def test_a_function_that_is_not_finite_is_told():
    with pytest.raises(ValueError, match=r"output 0 is nan at element \(1,\)"):
        check_gradients(mg.log, np.array([1.0, -1.0]))


@pytest.mark.parametrize("result", [1.0, None, np.ones(3)])
def test_a_function_that_returns_no_variable_is_told(result):
    with pytest.raises(TypeError, match="must return tensors or scalars"):
        check_gradients(lambda x: result, X)


def test_a_function_that_returns_only_integers_is_told():
    with pytest.raises(TypeError, match="no floats"):
        check_gradients(lambda x: mg.argmax(x), X)


def test_bad_options_are_told():
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        check_gradients(mg.exp, X, order=0)
    with pytest.raises(ValueError, match="kinks must be 'raise' or 'skip', got 'ignore'"):
        check_gradients(mg.exp, X, kinks="ignore")


def test_checking_leaves_inputs_and_weights_alone():
    x, w = mg.tensor(X, requires_grad=True), mg.tensor(Y, requires_grad=True)
    check_gradients(lambda t: t * w, x)
    assert x.grad is None and w.grad is None
    np.testing.assert_array_equal(x.numpy(), X)


def test_checking_works_where_nothing_is_recorded():
    with mg.no_grad():
        assert check_gradients(mg.tanh, X).compared > 0
