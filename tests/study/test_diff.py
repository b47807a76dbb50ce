"""The first difference of two runs is the node that was perturbed."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad
from minigrad import backend, study
from minigrad.observing import Interposer, stand
from tests.study.programs import scalar_programs, tensor_programs

PROGRAMS = scalar_programs() | tensor_programs() | tensor_programs(np.float32)


def run(program, leaves=None):
    leaves = leaves or program.make_leaves()
    return study.trace(lambda: program.run(leaves)[-1])


@given(PROGRAMS)
def test_the_same_twice_does_not_differ(program):
    leaves = program.make_leaves()
    first, second = run(program, leaves), run(program, leaves)
    found = study.diff(first, second)
    assert not found and found.first is None
    assert str(found) == f"no difference in {len(first)} nodes"
    assert not study.diff(first, run(program))
    assert all(leaf.grad is None for leaf in leaves)


@given(PROGRAMS, st.data())
def test_a_leaf_with_another_value_is_the_one_reported(program, data):
    leaves = program.make_leaves()
    first = run(program, leaves)
    k = data.draw(st.integers(0, len(leaves) - 1))
    leaves[k].data = np.add(leaves[k].data, 0.25) if leaves[k].shape else leaves[k].data + 0.25
    found = study.diff(first, run(program, leaves))
    used = any(node.name == f"x{k}" for node in first.nodes)
    assert bool(found) == used
    if used:
        assert (found.first.kind, found.first.a.name) == ("value", f"x{k}")
        assert found.first.distance == pytest.approx(0.25, rel=1e-6)


@given(tensor_programs(), st.data())
def test_a_perturbed_computation_is_the_one_reported(program, data):
    leaves = program.make_leaves()
    first = run(program, leaves)
    gates = [n for n in first.nodes if n.inputs and n.value is not None and np.size(n.value)]
    victim = data.draw(st.sampled_from(gates))
    # Which computation of the forward pass that is: its value, as it comes out.
    hits = []

    def perturb(proceed, op, args, params):
        result = proceed(op, args, params)
        same = op.name == victim.op and np.shape(result) == victim.shape
        if same and np.array_equal(result, victim.value) and not hits:
            hits.append(True)
            return np.asarray(result) + 0.5
        return result

    with backend.interpose(perturb):
        second = run(program, leaves)
    found = study.diff(first, second)
    assume(hits)
    twins = [n for n in gates if n.op == victim.op and np.array_equal(n.value, victim.value)]
    if not found:  # it was a twin that does not lead to the loss
        return
    assert found.first.kind == "value" and found.first.distance == pytest.approx(0.5)
    assert found.first.a.id == twins[0].id or found.first.a.id == victim.id
    later = found.all[0]
    assert later is found.first and "by up to 0.5" in str(found)


class Perturb(Interposer):
    """Adds a little to a contribution of the gate of this age among the pulled ones."""

    def __init__(self, number):
        self.number = number
        self.victim = None

    def pull(self, proceed, node, g, needs, record, closed):
        found = list(proceed(node, g, needs, record, closed))
        self.number -= 1
        if self.number == -1:
            self.victim = node
            i = next(i for i, c in enumerate(found) if c is not None)
            found[i] = study.nodes.dense(found[i]) + 0.5
        return found


@given(scalar_programs() | tensor_programs(), st.integers(0, 12))
def test_a_perturbed_rule_is_the_one_reported(program, number):
    leaves = program.make_leaves()
    first = run(program, leaves)
    with stand(Perturb(number)) as perturbed:
        second = run(program, leaves)
    found = study.diff(first, second)
    if perturbed.victim is None:
        assert not found
        return
    # Not `index`: scalars of equal value are equal.
    place = next(i for i, n in enumerate(second.engine_nodes) if n is perturbed.victim)
    assert (found.first.kind, found.first.b.id) == ("gradient", place)
    assert "contribution to input" in found.first.words


@given(scalar_programs(), st.data())
def test_another_op_in_one_place_is_the_one_reported(program, data):
    leaves = program.make_leaves()
    first = run(program, leaves)
    swapped = {0: 1, 1: 2, 2: 0, 3: 0, 4: 5, 5: 6, 6: 7, 7: 4, 8: 4, 9: 4, 10: 4}
    k = data.draw(st.integers(0, len(program.steps) - 1))
    kind, i, j = program.steps[k]
    steps = list(program.steps)
    steps[k] = (swapped[kind % 11], i, j)
    second = run(type(program)(program.leaves, tuple(steps)), leaves)
    found = study.diff(first, second)
    ops = [[n.op for n in trace.nodes] for trace in (first, second)]
    if found and ops[0] != ops[1]:
        place = next(
            (n for n, (p, q) in enumerate(zip(*ops, strict=False)) if p != q), min(map(len, ops))
        )
        structural = next(d for d in found.all if d.kind == "structure")
        assert (structural.a or structural.b).id <= place


def two_implementations():
    x = minigrad.tensor([[0.2, 1.5, -0.7]], requires_grad=True, name="x")

    def plain(wrong=0.0):
        shifted = minigrad.exp(x)
        p = shifted / shifted.sum(axis=1, keepdims=True)
        loss = -minigrad.log(p[0, 1]) + wrong
        return loss * 1.0

    def stable():
        loss = minigrad.logsumexp(x) - x[0, 1]
        return loss * minigrad.ones(())

    return plain, stable


def test_two_implementations_are_compared_by_name():
    plain, stable = two_implementations()
    first, second = study.trace(plain), study.trace(stable)
    assert study.diff(first, second).first.kind == "structure"
    assert not study.diff(first, second, match="names", rtol=1e-5, atol=1e-6)
    found = study.diff(study.trace(plain, 0.25), second, match="names", rtol=1e-5, atol=1e-6)
    assert (found.first.kind, found.first.a.name) == ("value", "loss")
    assert "test_diff.py" in str(found)


def test_scalar_graphs_are_compared_as_they_are():
    def build(w):
        x = minigrad.scalar(2.0, name="x")
        w = minigrad.scalar(w, name="w")
        return minigrad.tanh(x * w)

    assert not study.diff(build(0.5), build(0.5))
    found = study.diff(build(0.5), build(0.75))
    assert found.first.a.name == "w" and found.first.words == "value 0.5 and 0.75"
    assert {d.kind for d in found.all} == {"value", "gradient"}
    assert not study.diff(build(0.5), build(0.5 + 1e-12), atol=1e-9)


def test_surgery_is_seen_as_a_difference_of_gradients():
    x = minigrad.tensor([-1.0, 2.0], requires_grad=True)

    def loss():
        h = minigrad.relu(x)
        return (h * h).sum()

    first = study.trace(loss)
    with study.override_backward("relu", study.straight_through):
        second = study.trace(loss)
    assert not study.diff(first, second)  # at a closed gate nothing arrives here anyway
    with study.override_backward("relu", study.gradient_reversal()):
        second = study.trace(loss)
    found = study.diff(first, second)
    assert (found.first.kind, found.first.a.op, found.first.a.name) == ("gradient", "relu", "h")


def test_the_first_difference_is_marked_in_the_picture():
    def build(w):
        x, w = minigrad.scalar(2.0, name="x"), minigrad.scalar(w, name="w")
        return minigrad.tanh(x * w)

    found = study.diff(build(0.5), build(0.75))
    for side in "ab":
        drawing = found.draw(side, engine="builtin")
        names = [node.name for node in drawing.graph.nodes]
        assert "▶ ≠ w" in names and "≠ x" in names  # x has another gradient
        # Its numbers are those of the run, contributions included.
        graph, run = drawing.graph, getattr(found, side)
        (top,) = graph.roots
        assert graph.nodes[top].gradient == 1.0
        assert all(graph.explains(n.id) for n in graph.nodes if n.id != top)
        gradients = {one.name: one.gradient for one in run.nodes}
        assert [n.gradient for n in graph.nodes if n.name == "≠ x"] == [gradients["x"]]
        svg = drawing.svg()
        assert svg.count('stroke-width="4"') == len(drawing.marks) == 4
        assert svg.count("stroke-dasharray") == 3
        assert "First difference: value" in svg and "▶ ≠ w" in drawing.text()
    with pytest.raises(ValueError, match="side"):
        found.draw("c")


def test_what_is_no_run_is_refused():
    x = minigrad.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match="under study.trace"):
        study.diff(x * 2.0, x * 3.0)
    with pytest.raises(TypeError, match="returned a float"):
        study.trace(lambda: 3.0)
    y = minigrad.scalar(1.0)
    with pytest.raises(ValueError, match="match"):
        study.diff(y, y, match="luck")
    with pytest.raises(ValueError, match="no name occurs"):
        study.diff(minigrad.scalar(1.0) * 2.0, minigrad.scalar(1.0) * 2.0, match="names")


def test_nodes_with_several_outputs_are_compared():
    x = minigrad.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True, name="x")

    def loss(k):
        a, b = minigrad.checkpoint(lambda t: (t * t, t.exp()))(x)
        return (a * k + b).sum()

    assert not study.diff(study.trace(loss, 2.0), study.trace(loss, 2.0))
    assert study.diff(study.trace(loss, 2.0), study.trace(loss, 3.0)).first.a.op == "multiply"
