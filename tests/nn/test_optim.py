"""Optimisers: steps by hand, groups, state, clipping, and what wrong use is told."""

import gc
import math

import numpy as np
import pytest

import minigrad as mg
import minigrad_nn as nn
from minigrad_nn import optim


def leaf(*values):
    return mg.tensor(np.array(values, np.float64), requires_grad=True)


def descend(x, optimizer, steps, f=lambda x: (x * x).sum() / 2):
    for _ in range(steps):
        optimizer.zero_grad()
        f(x).backward()
        optimizer.step()
    return x


@pytest.mark.parametrize(
    "momentum, lr, converges",
    [(0.0, 1.99, True), (0.0, 2.01, False), (0.99, 3.97, True), (0.99, 3.99, False)],
)
def test_step_sizes_of_the_lecture(momentum, lr, converges):
    # f = x**2 / 2 converges below 2, and with momentum 0.99 below 2 * (1 + 0.99) = 3.98.
    x = descend(leaf(1.0), optim.SGD([leaf(0.0)], lr), 0)
    descend(x, optim.SGD([x], lr, momentum), 3000)
    assert (abs(x.item()) < 0.1) == converges


def test_weight_decay_of_the_lecture():
    # lambda/(2m) * sum of squares has the gradient lambda*w/m.
    w, m, strength = leaf(1.0, -3.0), 8, 0.5
    penalty = strength / (2 * m) * (w * w).sum()
    penalty.backward()
    np.testing.assert_allclose(w.grad.data, strength * w.data / m)
    decayed, wanted = leaf(1.0, -3.0), w.data - 0.1 * w.grad.data
    optimizer = optim.SGD([decayed], lr=0.1, weight_decay=strength / m)
    decayed.grad = np.zeros(2)
    optimizer.step()
    np.testing.assert_allclose(decayed.data, wanted)


ALL = [
    lambda p: optim.SGD(p, 0.1),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.5),
    lambda p: optim.Adam(p, 0.1, weight_decay=0.01),
    lambda p: optim.AdamW(p, 0.1),
]


@pytest.mark.parametrize("make", ALL)
def test_gradients_stay_as_they_are_and_unused_parameters_too(make):
    x, unused = leaf(1.0, 2.0), leaf(3.0)
    optimizer = make([x, unused])
    (x * x).sum().backward()
    before = x.grad.data.copy()
    optimizer.step()
    assert (x.grad.data == before).all()
    assert unused.item() == 3.0
    assert (x.data < [1.0, 2.0]).all()


@pytest.mark.parametrize("make", ALL)
def test_state_resumes_bit_for_bit(make):
    def shapes():
        return [leaf(1.0, 2.0, 3.0), mg.tensor([[1.0], [-2.0]], requires_grad=True)]

    def f(ps):
        return mg.cos(ps[0]).sum() + (ps[1] ** 2).sum()

    def run(ps, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            f(ps).backward()
            optimizer.step()

    straight = shapes()
    run(straight, make(straight), 6)
    stopped = shapes()
    optimizer = make(stopped)
    run(stopped, optimizer, 3)
    state = optimizer.state_dict()
    resumed = [mg.tensor(p.data, requires_grad=True) for p in stopped]
    again = make(resumed)
    again.load_state_dict(state)
    run(stopped, optimizer, 1)  # what was saved is a copy
    run(resumed, again, 3)
    for a, b in zip(straight, resumed, strict=True):
        assert (a.data == b.data).all() and a.dtype == b.dtype


def test_state_is_plain_data():
    x = leaf(1.0, 2.0)
    optimizer = optim.Adam([{"params": [x], "lr": 0.5}, {"params": [leaf(1.0)]}], lr=0.1)
    x.grad = np.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0] and state["param_groups"][1]["params"] == [1]
    assert state["param_groups"][0]["lr"] == 0.5
    assert list(state["state"]) == [0] and state["state"][0]["step"] == 1
    assert type(state["state"][0]["exp_avg"]) is np.ndarray
    assert "lr=0.5" in repr(optimizer)


def test_a_state_that_does_not_fit_changes_nothing():
    x = leaf(1.0, 2.0)
    optimizer = optim.SGD([x], 0.1, momentum=0.9)
    descend(x, optimizer, 1)
    before = optimizer.state_dict()
    other = leaf(1.0, 2.0, 3.0)
    wrong = optim.SGD([other], 0.5, momentum=0.9)
    descend(other, wrong, 1)
    with pytest.raises(ValueError, match=r"momentum_buffer of parameter 0 has shape \(3,\)"):
        optimizer.load_state_dict(wrong.state_dict())
    with pytest.raises(ValueError, match=r"groups with \[1, 1\] parameters given, \[1\] wanted"):
        two = optim.SGD([{"params": [leaf(1.0)]}, {"params": [leaf(1.0)]}])
        optimizer.load_state_dict(two.state_dict())
    with pytest.raises(ValueError, match="another optimiser's state"):
        optimizer.load_state_dict(optim.Adam([leaf(1.0, 2.0)]).state_dict())
    with pytest.raises(ValueError, match='needs a mapping with "state"'):
        optimizer.load_state_dict({"param_groups": []})
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert (after["state"][0]["momentum_buffer"] == before["state"][0]["momentum_buffer"]).all()


def test_groups_have_settings_of_their_own():
    fast, slow = leaf(1.0), leaf(1.0)
    optimizer = optim.SGD([{"params": fast, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [slow]})
    (fast * 1.0 + slow).sum().backward()
    optimizer.step()
    assert fast.item() == 0.5 and slow.item() == 0.9
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert fast.item() == 0.5


def test_a_step_under_a_graph_is_told():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.grad = np.ones(2)
    optim.SGD([x], 0.1).step()
    with pytest.raises(mg.GraphError, match=r"SGD\.step"):
        y.backward()


def test_wrong_use_is_told():
    x = leaf(1.0)
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD(nn.ReLU().parameters())
    with pytest.raises(ValueError, match="given twice"):
        optim.SGD([x, x])
    with pytest.raises(TypeError, match="computed"):
        optim.SGD([x * 2])
    with pytest.raises(TypeError, match="must be a tensor"):
        optim.Adam([np.ones(2)])
    with pytest.raises(TypeError, match=r"got Linear; of a module pass module.parameters\(\)"):
        optim.SGD(nn.Sequential(nn.Linear(2, 2)), lr=0.1)
    with pytest.raises(ValueError, match=r"unknown setting\(s\) rate; there are lr, momentum"):
        optim.SGD([{"params": [x], "rate": 1}])
    with pytest.raises(TypeError, match='mapping with "params"'):
        optim.SGD([{"parms": [x]}])
    for call, name in (
        (lambda: optim.SGD([x], -1), "lr"),
        (lambda: optim.SGD([x], math.nan), "lr"),
        (lambda: optim.SGD([x], momentum=-0.5), "momentum"),
        (lambda: optim.SGD([x], nesterov=True), "nesterov"),
        (lambda: optim.Adam([x], betas=(0.9, 1.0)), "betas"),
        (lambda: optim.AdamW([x], eps=-1), "eps"),
        (lambda: optim.Adam([x], weight_decay=-1), "weight_decay"),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_clipping_by_norm():
    a, b, c = leaf(1.0, 1.0), leaf(1.0), leaf(1.0)
    a.grad, b.grad = np.array([3.0, 0.0]), np.array([4.0])
    assert optim.clip_grad_norm_([a, b, c], 10.0) == 5.0
    assert a.grad.tolist() == [3.0, 0.0]
    held = a.grad
    assert optim.clip_grad_norm_(iter([a, b, c]), 1.0) == 5.0
    np.testing.assert_allclose([*a.grad.data, *b.grad.data], [0.6, 0.0, 0.8], rtol=1e-6)
    # Who held the gradient still has what he had.
    assert held.tolist() == [3.0, 0.0] and c.grad is None
    assert optim.clip_grad_norm_(a, 1.0, math.inf) == pytest.approx(0.6)
    assert optim.clip_grad_norm_([], 1.0) == 0.0
    a.grad = np.array([math.nan, 1.0])
    with pytest.raises(FloatingPointError, match="nan"):
        optim.clip_grad_norm_([a], 1.0, error_if_nonfinite=True)
    assert math.isnan(optim.clip_grad_norm_([a], 1.0)) and np.isnan(a.grad.data).all()
    with pytest.raises(ValueError, match="norm_type"):
        optim.clip_grad_norm_([a], 1.0, 0)


def test_clipping_by_value():
    a = leaf(1.0, 1.0, 1.0)
    a.grad = np.array([-3.0, 0.25, 4.0])
    optim.clip_grad_value_([a, leaf(1.0)], 0.5)
    assert a.grad.tolist() == [-0.5, 0.25, 0.5]
    with pytest.raises(ValueError, match="clip_value"):
        optim.clip_grad_value_([a], -1)


def test_training_leaves_nothing_to_the_garbage_collector():
    model = nn.Sequential(
        nn.Conv1d(1, 2, 3),
        nn.BatchNorm1d(2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(6, 3),
    )
    optimizer = optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 1, 8)).astype("f"))

    def steps(n):
        for _ in range(n):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), [0, 1, 2, 0, 1, 2]).backward()
            optimizer.step()

    steps(3)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        steps(50)
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


@pytest.mark.parametrize("max_norm", [-1.0, float("nan")])
def test_clipping_to_less_than_nothing_is_refused(max_norm):
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    x.grad = mg.tensor([3.0, 4.0])
    with pytest.raises(ValueError, match="max_norm must be at least 0"):
        optim.clip_grad_norm_([x], max_norm)
    assert x.grad.tolist() == [3.0, 4.0]
