"""Each planted fault is named, at the node where it is; no fault is named on a healthy run."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad
from minigrad import observing, recording, study
from minigrad.study.sabotage import _PLANTS
from tests.study.programs import scalar_programs, tensor_programs

PLANTABLE = list(_PLANTS)


def training(program, seen=None):
    """A random program as steps of training: gradients are forgotten, leaves move each time."""
    leaves = program.make_leaves()
    number = iter(range(1000))

    def step():
        for leaf in leaves:
            leaf.zero_grad()
        loss = program.run(leaves)[-1]
        loss.backward()
        if seen is not None:
            grads = [leaf.grad for leaf in leaves]
            seen.extend(np.array(getattr(g, "_data", g), dtype=float) for g in grads)
        shift = 0.1 + 0.07 * next(number)
        for leaf in leaves:
            leaf.data = leaf.data * 0.9 + shift

    return step


def differ(some, others):
    """Whether gradients differ by more than rounding."""
    return len(some) != len(others) or any(
        a.shape != b.shape or not np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True)
        for a, b in zip(some, others, strict=True)
    )


@given(scalar_programs() | tensor_programs() | tensor_programs(np.float32))
def test_no_fault_is_named_on_a_healthy_run(program):
    found = study.diagnose(training(program), runs=3)
    assert not found, str(found)
    assert str(found) == f"no fault found in {found.checked} gates"


@given(scalar_programs() | tensor_programs(), st.sampled_from(PLANTABLE))
def test_a_planted_fault_is_named_wherever_it_changes_something(program, name):
    healthy, wrong = [], []
    study.diagnose(training(program, healthy), runs=3)
    with study.sabotage(name) as planted:
        found = study.diagnose(training(program, wrong), runs=3)
    if not planted.count:
        assert not found, str(found)
    if differ(healthy, wrong):
        assert planted.count and found
    if found:
        assert name in (found.fault, *found.also), str(found)
        assert study.FAULTS[found.fault].remedy in str(found)


# --- drills: one program a fault, the node known -------------------------------------------------


class Drill:
    """A small network whose every value has a name."""

    def __init__(self):
        rng = np.random.default_rng(5)

        def leaf(name, *shape):
            return minigrad.tensor(rng.normal(size=shape), requires_grad=True, name=name)

        self.w, self.b, self.v = leaf("w", 4, 3), leaf("b", 3), leaf("v", 3, 2)
        self.leaves = [self.w, self.b, self.v]

    def step(self):
        for leaf in self.leaves:
            leaf.zero_grad()
        with study.recording():
            x = minigrad.tensor(np.linspace(-1, 1, 20).reshape(5, 4))
            product = x @ self.w
            h = product + self.b
            active = minigrad.relu(h)
            out = active @ self.v
            total = out.mean(axis=1)
            error = total - 0.3
            twice = error * error
            loss = minigrad.square(twice).sum()
        loss.backward()
        for leaf in self.leaves:
            leaf.data = leaf.data * 0.9 + 0.05


EXPECTED = {
    "no_unbroadcast": "h",
    "overwrite_instead_of_add": "error",
    "forgot_zero_grad": ("w", "b", "v"),
    "wrong_axis": "total",
    "stale_value": "loss",
    "wrong_sign": "h",
    "wrong_factor": "loss",
    "missing_transpose": "out",
    "detached_branch": "twice",
    "forgot_gate_gradient": "twice",
    "gate_left_open": "active",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_drill_is_named_at_its_node(name):
    with study.sabotage(name, at="h" if name == "wrong_sign" else None):
        found = study.diagnose(Drill().step)
    assert found.fault == name and found.also == (), str(found)
    # `loss` sums the square, which stands on its line without a name.
    shown = found.node.name or found.where.split(": ")[-1].split(" = ")[0]
    assert shown in EXPECTED[name], str(found)
    if found.node.op is not None:
        assert found.where.startswith("test_sabotage.py:") and found.where in str(found)


def test_a_wrong_order_is_named_at_the_node_that_came_too_early():
    x = minigrad.scalar(2.0, name="x")

    def step():
        x.zero_grad()
        q = minigrad.tanh(x)
        q.name = "q"
        (q * minigrad.exp(q)).backward()

    with study.sabotage("no_topological_order") as planted:
        found = study.diagnose(step)
    assert (found.fault, found.node.name) == ("no_topological_order", "q")
    assert planted.count > 0
    assert x.grad != pytest.approx(0.0)


@pytest.mark.parametrize("name", ["overwrite_instead_of_add", "stale_value", "forgot_zero_grad"])
def test_planted_inside_the_program_it_is_named_as_well(name):
    drill = Drill()

    with study.sabotage(name) as planted:
        pass

    def step():
        with observing.stand(planted):
            drill.step()

    assert study.diagnose(step).fault == name


def test_a_step_that_really_forgets_zero_grad():
    x = minigrad.scalar(3.0, name="x")
    found = study.diagnose(lambda: x * x)
    assert (found.fault, found.node) == ("forgot_zero_grad", x)
    x.zero_grad()
    assert not study.diagnose(lambda: x * x, accumulates=True)
    t = minigrad.tensor([3.0], requires_grad=True, name="t")
    found = study.diagnose(lambda: (t * t).sum())
    assert (found.fault, found.node.name) == ("forgot_zero_grad", "t")


WRONG_RULES = {
    "wrong_sign": lambda g, x: -3.0 * g * x**2,
    "wrong_factor": lambda g, x: g * x**2,
    "detached_branch": lambda g, x: 0.0 * g * x,
    "wrong_rule": lambda g, x: 3.0 * g * x,
}


@pytest.mark.parametrize("name", WRONG_RULES)
@pytest.mark.parametrize("scalar", [True, False])
def test_a_wrong_rule_of_ones_own_op_is_named(name, scalar):
    cube = minigrad.op("cube", lambda x: x**3, WRONG_RULES[name], scalar=lambda x: x**3)
    right = minigrad.op("cube", lambda x: x**3, lambda g, x: 3.0 * g * x**2, scalar=lambda x: x**3)
    x = minigrad.scalar(1.7) if scalar else minigrad.tensor([0.5, -1.3, 2.0], requires_grad=True)

    def step(op):
        x.zero_grad()
        y = op(x) * 2.0
        (y if scalar else y.sum()).backward()

    found = study.diagnose(step, cube)
    if name == "wrong_rule" and scalar:  # one number is always a multiple of another
        assert found.fault == "wrong_factor"
    else:
        assert found.fault == name
    assert found.node.op is cube and "finite differences" in found.evidence
    assert not study.diagnose(step, right)


def test_kinks_and_edges_of_ones_own_op_are_no_fault():
    kink = minigrad.op("kink", np.abs, lambda g, x: g * np.sign(x))
    root = minigrad.op("root", np.sqrt, lambda g, y: g / (2 * y))
    x = minigrad.tensor([0.0, 1e-3, 4.0], requires_grad=True)

    def step(op):
        x.zero_grad()
        op(x).sum().backward()

    assert not study.diagnose(step, kink)
    assert not study.diagnose(step, root)


def test_an_error_that_a_fault_explains_is_kept_and_another_one_flies():
    w = minigrad.tensor(np.ones((3,)), requires_grad=True)

    def step():
        w.zero_grad()
        (minigrad.tanh(w.reshape(3)).sum(axis=0, keepdims=True) * np.ones((4, 3))).sum().backward()
        raise RuntimeError("later")

    with study.sabotage("no_unbroadcast"):
        found = study.diagnose(step)
    assert found.fault == "no_unbroadcast" and found.error is not None
    with pytest.raises(RuntimeError, match="later"):
        study.diagnose(step)
    assert not observing.standing and not recording.paused


def test_after_the_drill_the_engine_is_healthy_and_other_threads_always_were():
    x = minigrad.scalar(3.0)
    grads = []

    def work():
        y = minigrad.scalar(3.0)
        (y * y).backward()
        grads.append(y.grad)

    with pytest.raises(RuntimeError), study.sabotage("overwrite_instead_of_add"):
        (x * x).backward()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        raise RuntimeError
    assert x.grad == 3.0 and grads == [6.0]
    x.zero_grad()
    (x * x).backward()
    assert x.grad == 6.0
    with pytest.raises(ValueError, match="unknown fault 'typo'"), study.sabotage("typo"):
        pass


def test_every_fault_that_can_be_planted_is_described_and_drilled():
    assert set(PLANTABLE) <= set(study.FAULTS)
    assert set(PLANTABLE) == {*EXPECTED, "no_topological_order"}


def test_faults_are_found_inside_a_checkpoint_too():
    x = minigrad.tensor([[0.5, 2.0], [1.0, 3.0]], requires_grad=True)

    def step():
        x.zero_grad()
        minigrad.checkpoint(lambda t: minigrad.relu(t - 1.0) @ t)(x).sum().backward()

    assert not study.diagnose(step)
    with study.sabotage("gate_left_open"):
        assert study.diagnose(step).fault == "gate_left_open"
