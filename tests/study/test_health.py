"""The health of gradients: planted causes are found, and gains add up along a chain."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
import minigrad_nn as nn
from minigrad import study
from minigrad.study.health import HealthRecorder, health
from minigrad_nn.data import ArrayDataset, Loader
from minigrad_nn.inspect import HealthMonitor
from minigrad_nn.train import fit
from tests.study.programs import scalar_programs, tensor_programs

rng = np.random.default_rng(7)


def kinds(found):
    return {finding.kind for finding in found.findings}


@given(
    st.lists(
        st.sampled_from(["tanh", "double", "sigmoid", "matmul", "sin"]), min_size=1, max_size=9
    )
)
def test_log_gains_add_up_along_a_chain(steps):
    x = minigrad.tensor(rng.normal(size=(3, 4)), requires_grad=True, name="x")
    h = x
    for step in steps:
        if step == "double":
            h = h * 2.0
        elif step == "matmul":
            h = h @ minigrad.tensor(rng.normal(size=(4, 4)))
        else:
            h = getattr(minigrad, step)(h)
    found = health(h.sum())
    way = found.way_to("x")
    assert [gate.op for gate, _ in way][::-1] == [gate.op for gate in found.gates]
    gains = [gain for _, gain in way]
    assert gains[::-1] == pytest.approx([gate.gain for gate in found.gates], nan_ok=True)
    if found.leaves["x"] == 0.0:
        # Saturated to the last bit: one gate lets nothing through, and behind it nothing comes in.
        gone = next(i for i in reversed(range(len(gains))) if not math.isfinite(gains[i]))
        assert gains[gone] == -math.inf
        assert all(math.isnan(gain) for gain in gains[:gone])
        return
    total = math.fsum(gains)
    assert total == pytest.approx(math.log(found.leaves["x"] / found.start), abs=1e-9)


def test_what_is_saturated_to_the_last_bit_passes_nothing():
    x = minigrad.tensor(np.full((3, 4), 5.0), requires_grad=True, name="x")
    found = health((minigrad.tanh(x * 2.0 * 50.0) * 2.0).sum())
    gains = [gain for _, gain in found.way_to("x")]
    assert found.leaves["x"] == 0.0
    assert [math.isnan(gain) for gain in gains] == [True, True, False, False, False]
    assert gains[2] == -math.inf and all(math.isfinite(gain) for gain in gains[3:])


@given(st.one_of(scalar_programs(), tensor_programs()))
def test_norms_are_those_of_the_gradients_and_nothing_changes(program):
    leaves = program.make_leaves()
    loss = program.run(leaves)[-1]
    found = health(loss)
    assert all(leaf.grad is None for leaf in leaves)
    loss.backward()
    for leaf in leaves:
        if leaf.grad is not None and leaf.name in found.leaves:
            grad = leaf.grad if isinstance(leaf.grad, float) else leaf.grad.numpy()
            assert found.leaves[leaf.name] == pytest.approx(float(np.linalg.norm(grad)))


def deep(depth, scale, activation, width=16):
    x = minigrad.tensor(rng.normal(size=(8, width)))
    first = None
    h = x
    for _ in range(depth):
        w = minigrad.tensor(
            rng.normal(size=(width, width)) * scale / math.sqrt(width), requires_grad=True
        )
        if first is None:
            first = w
            w.name = "first"
        h = activation(h @ w)
    return h


def test_small_weights_make_gradients_vanish_and_are_named():
    loss = deep(12, 0.1, lambda h: h).sum()
    found = [f for f in health(loss).findings if f.where == "first"]
    assert [f.kind for f in found] == ["vanishing"]
    assert "its weights are too small" in found[0].text and "12 matmul gates" in found[0].text


def test_large_weights_make_gradients_explode_and_are_named():
    loss = deep(8, 6.0, lambda h: h).sum()
    found = [f for f in health(loss).findings if f.where == "first"]
    assert [f.kind for f in found] == ["exploding"]
    assert "its weights are too large" in found[0].text


def test_sigmoids_make_gradients_vanish_and_are_named():
    loss = deep(10, 1.0, minigrad.sigmoid).sum()
    (found,) = [f for f in health(loss).findings if f.where == "first"]
    assert found.kind == "vanishing" and "whose slope is at most 0.25" in found.text


def test_saturated_tanh_is_found():
    h = minigrad.tanh(minigrad.tensor(rng.normal(size=(8, 16)), requires_grad=True) * 20.0)
    h.name = "h"
    found = health(h.sum())
    (finding,) = [f for f in found.findings if f.kind == "saturated"]
    assert finding.where == "h" and finding.value == found.gate("h").share > 0.8
    healthy = minigrad.tanh(minigrad.tensor(rng.normal(size=(8, 16)), requires_grad=True) * 0.5)
    assert kinds(health(healthy.sum())) == set()


def test_dead_units_are_units_that_no_sample_wakes():
    w = minigrad.tensor(rng.normal(size=(8, 10)), requires_grad=True, name="w")
    x = minigrad.tensor(np.abs(rng.normal(size=(32, 8))))
    bias = np.zeros(10)
    bias[:6] = -100.0
    h = minigrad.relu(x @ w + bias)
    h.name = "h"
    found = health(h.sum())
    dead = np.mean(~(h.numpy() > 0).any(axis=0))
    assert found.gate("h").share == dead >= 0.6
    assert [f.where for f in found.findings if f.kind == "dead relu"] == ["h"]


def test_a_relu_that_is_wholly_dead_gives_no_gradient():
    w = minigrad.tensor(np.ones((3, 3)), requires_grad=True, name="w")
    h = minigrad.relu(minigrad.tensor(np.ones((2, 3))) @ w - 10.0)
    found = health(h.sum())
    (finding,) = [f for f in found.findings if f.kind == "no gradient"]
    assert finding.where == "w" and "100 % of its units are dead" in finding.text


def test_the_first_gate_that_is_not_finite_is_named():
    x = minigrad.tensor([0.0, 1.0], requires_grad=True, name="x")
    h = minigrad.sqrt(x)
    h.name = "h"
    found = health((h * 3.0).sum())
    (finding,) = found.findings
    assert finding.kind == "not finite" and finding.where == "h"


def test_a_healthy_network_has_no_findings():
    found = health(minigrad.relu(deep(3, 1.0, lambda h: h)).mean() * 100.0)
    assert found.findings == [] and str(found).endswith("healthy")


def test_the_walk_stays_the_same_to_the_bit():
    def run():
        local = np.random.default_rng(1)
        w = minigrad.tensor(local.normal(size=(6, 6)), requires_grad=True)
        h = minigrad.tensor(local.normal(size=(4, 6)))
        for _ in range(4):
            h = minigrad.tanh(h @ w)
        (h[0] * h[1]).sum().backward()
        return w.grad.numpy().tobytes()

    plain = run()
    recorder = HealthRecorder()
    with minigrad.observing.stand(recorder):
        assert run() == plain
    assert recorder.found is not None and len(recorder.found.gates) == 12


def test_module_paths_are_shown_where_they_were_recorded():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    with study.recording():
        loss = model(minigrad.ones((2, 3))).sum()
    gates = health(loss).gates
    assert [gate.module for gate in gates if gate.op != "sum"] == ["1", "0"]


def test_a_picture_is_drawn():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot as plt

    found = health(deep(10, 0.1, minigrad.tanh).sum())
    figure = found.plot()
    (axis,) = figure.axes
    line = axis.lines[0].get_ydata()
    assert list(line) == [gate.gate_gradient for gate in found.gates]
    assert any(text.get_text() == "vanishing" for text in axis.get_legend().get_texts())
    plt.close(figure)


# --- while training ------------------------------------------------------------------------------


def train(lr, monitor, epochs=2, model=None):
    local = np.random.default_rng(3)
    inputs = local.normal(size=(64, 4)).astype(np.float32)
    targets = (inputs.sum(axis=1) > 0).astype(np.int64)
    minigrad.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    loader = Loader(ArrayDataset(inputs, targets), batch_size=16)
    optimizer = nn.optim.SGD(model.parameters(), lr=lr)
    callbacks = [monitor] if monitor is not None else []
    run = fit(model, loader, optimizer, epochs, callbacks=callbacks)
    return run, model


def test_training_under_watch_is_the_same_training():
    _, plain = train(0.1, None)
    monitor = HealthMonitor(every=3)
    _, watched = train(0.1, monitor)
    for name, value in plain.state_dict().items():
        assert np.array_equal(value, watched.state_dict()[name])
    assert [row.step for row in monitor.rows] == [1, 3, 6]
    row = monitor.rows[0]
    assert set(row.gradients) == set(row.updates) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert [gate.name for gate in row.health.gates] == ["2.cross_entropy", "2", "0.relu", "0"]
    assert not minigrad.observing.standing


def test_the_ratio_of_update_to_weight_is_that_of_the_step():
    monitor = HealthMonitor(every=1)
    _, model = train(0.1, monitor, epochs=1)
    for row in monitor.rows:
        # Plain SGD: the update is the learning rate times the gradient.
        assert row.gradients["0.weight"] == pytest.approx(row.health.leaves["0.weight"], rel=1e-5)
    last = monitor.rows[-1]
    after = np.linalg.norm(model.state_dict()["0.weight"])
    assert last.updates["0.weight"] == pytest.approx(
        0.1 * last.gradients["0.weight"] / after, rel=1e-4
    )


@pytest.mark.parametrize("lr, kind", [(30.0, "update too large"), (1e-8, "update too small")])
def test_a_wrong_learning_rate_is_found(lr, kind):
    monitor = HealthMonitor(every=1)
    train(lr, monitor, epochs=1)
    assert any(words.startswith(kind) for words in monitor.findings())
    assert kind in str(monitor)


def test_the_monitor_leaves_when_training_fails():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train(0.1, HealthMonitor(), model=Broken())
    assert not minigrad.observing.standing
    with pytest.raises(ValueError, match="every"):
        HealthMonitor(every=0)


def test_a_picture_over_time_is_drawn():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot as plt

    monitor = HealthMonitor(every=1)
    train(0.1, monitor)
    figure = monitor.plot()
    first = figure.axes[0].lines[0]
    assert first.get_label() == "0.weight"
    assert list(first.get_ydata()) == [row.gradients["0.weight"] for row in monitor.rows]
    plt.close(figure)
