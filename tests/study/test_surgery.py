"""Surgery: the forward pass stays as it is bit for bit, and the results equal the formulas."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
from minigrad import observing, recording, study
from tests.study.programs import scalar_programs, tensor_programs

RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 4))
W = RNG.normal(size=(4, 3))
V = RNG.normal(size=(3, 2))


def network():
    """A two-layer perceptron, and by hand what a rule for its ReLU makes of its gradient."""
    x = minigrad.tensor(X, requires_grad=True)
    h = minigrad.relu(x @ W)
    loss = (h @ V).sum()
    return x, h, loss


def by_hand(rule):
    g = np.ones((5, 2)) @ V.T
    return rule(g, np.maximum(X @ W, 0)) @ W.T


FORMULAS = {
    "guided": (study.guided_backprop, lambda g, y: g * (g > 0) * (y > 0)),
    "deconvnet": (study.deconvnet, lambda g, y: g * (g > 0)),
    "straight through": (study.straight_through, lambda g, y: g),
    "reversed": (study.gradient_reversal(0.3), lambda g, y: -0.3 * g * (y > 0)),
    "nothing": (lambda g: g * 0.0, lambda g, y: g * 0),
    "usual": (lambda usual: usual, lambda g, y: g * (y > 0)),
}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_rules_equal_their_formulas(name, inside):
    rule, reference = FORMULAS[name]
    plain = network()
    if inside:
        with study.override_backward("relu", rule) as override:
            x, h, loss = network()
            loss.backward()
    else:
        x, h, loss = network()
        with study.override_backward("relu", rule) as override:
            loss.backward()
    assert np.array_equal(h.numpy(), plain[1].numpy()) and loss.item() == plain[2].item()
    assert np.allclose(x.grad.numpy(), by_hand(reference), rtol=1e-12)
    assert override.count == 1
    # Afterwards everything is as it was.
    again = network()
    again[2].backward()
    assert np.allclose(again[0].grad.numpy(), by_hand(lambda g, y: g * (y > 0)), rtol=1e-12)
    assert not observing.standing and not recording.paused


@given(scalar_programs() | tensor_programs())
def test_forward_is_unchanged_and_the_usual_rule_changes_nothing(program):
    plain = program.run(program.make_leaves())
    leaves = program.make_leaves()
    with study.override_backward(lambda node: True, lambda usual: usual):
        values = program.run(leaves)
        values[-1].backward()
    for a, b in zip(plain, values, strict=True):
        assert np.array_equal(np.asarray(a.data), np.asarray(b.data), equal_nan=True)
    others = program.make_leaves()
    program.run(others)[-1].backward()
    for a, b in zip(leaves, others, strict=True):
        if isinstance(a, minigrad.Scalar):
            assert a.grad == b.grad
        else:
            assert (a.grad is None) == (b.grad is None)
            assert a.grad is None or np.array_equal(a.grad.numpy(), b.grad.numpy())


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_straight_through_makes_steps_differentiable(numbers):
    x = minigrad.tensor(np.array(numbers), requires_grad=True)
    with study.override_backward(["sign", "floor"], study.straight_through):
        (minigrad.sign(x) + 2.0 * minigrad.floor(x)).sum().backward()
    assert x.grad.tolist() == [3.0] * len(numbers)
    # Clipped, it needs the input, which `sign` does not keep: the forward pass runs inside.
    x.zero_grad()
    with study.override_backward("sign", lambda g, x: g * (np.abs(x) <= 1)):
        minigrad.sign(x).sum().backward()
    assert x.grad.tolist() == [float(abs(n) <= 1) for n in numbers]


def test_scalars_are_operated_on_too():
    x = minigrad.scalar(-2.0)
    y = minigrad.relu(x) * 3.0
    with study.override_backward("relu", study.deconvnet):
        y.backward()
    assert x.grad == 3.0
    x.zero_grad()
    with study.override_backward("relu", study.guided_backprop):
        y.backward()
    assert x.grad == 0.0
    assert y.inputs[0].grad == 3.0


def test_every_kind_of_selector():
    def gradient(selector):
        x = minigrad.scalar(1.0)
        with study.recording():
            inner = x * 2.0
            outer = inner * 3.0
        with study.override_backward(selector(inner, outer), lambda g: (g * 10, None)) as override:
            outer.backward()
        return x.grad, override.count

    assert gradient(lambda inner, outer: inner) == (30.0, 1)
    assert gradient(lambda inner, outer: "inn*") == (30.0, 1)
    assert gradient(lambda inner, outer: lambda node: node is outer) == (20.0, 1)
    assert gradient(lambda inner, outer: minigrad.multiply) == (100.0, 2)
    assert gradient(lambda inner, outer: [inner, "outer"]) == (100.0, 2)
    assert gradient(lambda inner, outer: "multiply") == (100.0, 2)
    assert gradient(lambda inner, outer: "relu") == (6.0, 0)
    with pytest.raises(TypeError, match="selector"):
        gradient(lambda inner, outer: 3)


def test_rules_record_a_graph_of_their_own():
    def penalty(rule):
        x = minigrad.tensor([1.0, 2.0], requires_grad=True)
        with study.override_backward("exp", rule):
            y = minigrad.exp(x * x).sum()
            y.backward(create_graph=True)
        first = x.grad
        x.grad = None
        (first * first).sum().backward()
        return first.detach().numpy(), x.grad.numpy()

    usual = penalty(lambda usual: usual)
    own = penalty(lambda g, y: g * y)
    x = np.array([1.0, 2.0], np.float32)
    assert np.allclose(own[0], 2 * x * np.exp(x * x))
    for a, b in zip(usual, own, strict=True):
        assert np.allclose(a, b)
    x, y = minigrad.scalar(2.0), minigrad.scalar(3.0)
    with study.override_backward("multiply", lambda g, a, b: (g * b * a, 1.0)):
        (x * y).backward(create_graph=True)
    assert x.grad.item() == 6.0 and y.grad.item() == 1.0
    assert minigrad.gradients(x.grad, [x])[0].item() == 3.0


def test_inside_a_checkpoint_and_with_transforms():
    x = minigrad.tensor([-1.0, 1.0], requires_grad=True)
    with study.override_backward("relu", study.straight_through):
        minigrad.checkpoint(minigrad.relu)(x).sum().backward()
        assert minigrad.grad(lambda t: minigrad.relu(t).sum())(x.detach()).tolist() == [1.0, 1.0]
    assert x.grad.tolist() == [1.0, 1.0]


def test_the_composition_of_a_fused_op_is_left_alone():
    x = minigrad.tensor([2.0, 3.0], requires_grad=True)
    with study.override_backward("multiply", lambda g: (g * 100, g * 100)):
        minigrad.prod(x).backward(create_graph=True)
    assert x.grad.tolist() == [3.0, 2.0]


def test_broadcasting_is_undone_for_a_rule_of_ones_own():
    x = minigrad.tensor([[1.0], [2.0]], requires_grad=True)
    with study.override_backward("multiply", lambda g, b: (g * b, None)):
        (x * np.ones((2, 3), np.float32)).sum().backward()
    assert x.grad.tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize(
    "rule, message",
    [
        (lambda g, x: g, "asks for x"),
        (lambda g: (g, g), r"returned 2 contribution\(s\)"),
    ],
)
def test_rules_that_do_not_fit_are_explained(rule, message):
    x = minigrad.tensor([1.0], requires_grad=True)
    y = minigrad.sign(x).sum()
    with pytest.raises(TypeError, match=message), study.override_backward("sign", rule):
        y.backward()
    assert not observing.standing


def test_another_thread_is_not_operated_on():
    found = []

    def work():
        x = minigrad.scalar(-1.0)
        minigrad.relu(x).backward()
        found.append(x.grad)

    with study.override_backward("relu", study.straight_through):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [0.0]


def test_values_of_steps_that_are_over_are_let_go():
    x = minigrad.tensor([0.5], requires_grad=True)
    with study.override_backward("sign", lambda g, x: g * (np.abs(x) <= 1)) as override:
        for _ in range(5):
            x.zero_grad()
            loss = minigrad.sign(x).sum()
            loss.backward(retain_graph=True)
            loss.backward()
            assert x.grad.tolist() == [2.0]
            assert len(override.values) == 1
    assert not override.values
    with study.override_backward("sign", study.straight_through) as override:
        minigrad.sign(x).sum().backward()
        assert not override.values


def test_overrides_nest():
    x = minigrad.scalar(1.0)
    y = x * 2.0
    with (
        study.override_backward("multiply", lambda g: (g * 5, None)),
        study.override_backward("multiply", lambda usual: (usual[0] + 1, None)),
    ):
        y.backward()
    assert x.grad == 6.0
