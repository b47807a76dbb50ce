"""Contributions into a node, added in the walk's order, are its gradient exactly."""

import numpy as np
import pytest
from hypothesis import given

import minigrad
from minigrad import study
from minigrad.ops.index import IndexedGradient
from tests.study.programs import scalar_programs, tensor_programs


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


@given(scalar_programs())
def test_on_scalars_they_add_up_to_the_gradient_bit_for_bit(program):
    leaves = program.make_leaves()
    values = program.run(leaves)
    flows = study.contributions(values[-1])
    assert all(leaf.grad is None for leaf in leaves)
    values[-1].backward()
    for value in values[:-1]:
        total = None
        for flow in flows.into(value):
            total = 0.0 + flow.contribution if total is None else total + flow.contribution
        expected = value.grad
        assert (expected is None) == (total is None)
        if total is not None:
            assert same(total, expected)
            assert np.signbit(total) == np.signbit(expected)
            assert same(flows.total(value), expected)
            assert same(flows.gradient(value), expected)
    for flow in flows:
        if flow.gate_gradient:
            assert flow.contribution == pytest.approx(
                flow.gate_gradient * flow.local_gradient, rel=1e-12
            )


@given(tensor_programs())
def test_on_tensors_they_add_up_to_the_gradient_bit_for_bit(program):
    leaves = program.make_leaves()
    values = program.run(leaves)
    flows = study.contributions(values[-1], values=True)
    assert all(leaf.grad is None for leaf in leaves)
    for value in values:
        if value.requires_grad:
            value.retain_grad()
    values[-1].backward()
    for value in values[:-1]:
        if value.grad is None:
            continue
        into = flows.into(value)
        assert same(flows.total(value), value.grad.numpy())
        assert same(flows.gradient(value), value.grad.numpy())
        total = None
        for flow in into:
            part = flow.contribution.values
            assert part.shape == value.shape == flow.contribution.shape
            assert flow.contribution.norm == pytest.approx(np.linalg.norm(part.ravel()))
            assert flow.local_gradient is None
            total = part if total is None else total + part
        assert np.allclose(total, value.grad.numpy(), rtol=1e-12, atol=1e-300)
        if not any(isinstance(raw, IndexedGradient) for raw in flows._raw[value.node]):
            assert same(total, value.grad.numpy())


def test_values_are_kept_on_request_only():
    x = minigrad.tensor([3.0, 4.0], requires_grad=True)
    loss = (x * x).sum()
    (flow, _) = study.contributions(loss).into(x)
    assert flow.contribution == study.Amount((2,), 5.0, None)
    (flow, _) = study.contributions(loss, values=True).into(x)
    assert flow.contribution.values.tolist() == [3.0, 4.0]


def test_a_node_with_several_outputs_and_a_checkpoint():
    x = minigrad.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)

    def segment(t):
        return t * t, t.exp()

    a, b = minigrad.checkpoint(segment)(x)
    loss = (a * 2.0 + b).sum()
    flows = study.contributions(loss, values=True)
    loss.backward()
    # What the checkpoint computes inside is its own business: one contribution arrives at x.
    (flow,) = flows.into(x)
    assert same(flow.contribution.values, x.grad.numpy())
    assert [part.tolist() for part in flow.gate_gradient.values] == [
        np.full((2, 2), 2.0).tolist(),
        np.ones((2, 2)).tolist(),
    ]


def test_hooks_and_given_gradients():
    x = minigrad.scalar(3.0)
    y = x * x
    y.register_hook(lambda g: g * 10)
    flows = study.contributions(y, gradient=2.0)
    assert flows.gradient(x) == 120.0
    t = minigrad.tensor([1.0, 2.0], requires_grad=True)
    flows = study.contributions(t * 3.0, gradient=[1.0, 10.0])
    assert flows.gradient(t).tolist() == [3.0, 30.0]


@pytest.mark.parametrize(
    "value, error",
    [(3.0, TypeError), (minigrad.tensor([1.0]), ValueError), (minigrad.tensor(1.0), ValueError)],
)
def test_what_stands_on_no_graph_is_refused(value, error):
    with pytest.raises(error, match="contributions"):
        study.contributions(value)


def test_the_observer_leaves_when_an_error_flies():
    from minigrad import observing, recording

    x = minigrad.tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(minigrad.GraphError, match="walked before"):
        study.contributions(y)
    assert not observing.standing and not recording.paused


def test_a_watched_walk_gives_zeros_the_same_sign():
    x, zero = minigrad.scalar(2.0), minigrad.scalar(-0.0)
    y = x * zero
    assert not np.signbit(study.contributions(y).gradient(x))
    y.backward()
    plain = x.grad
    x.zero_grad()
    with study.recording():
        y.backward()
    assert np.signbit(plain) == np.signbit(x.grad)
