"""Anomaly mode finds a NaN that is born in any op, in the forward and in the backward pass."""

import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import minigrad
from minigrad import backend, observing, recording, study
from minigrad.observing import Interposer, stand
from minigrad.testing import View
from tests.engine.samples import SAMPLES
from tests.engine.test_ops import engine_ops
from tests.study.programs import scalar_programs, tensor_programs

ROOT = Path(__file__).parents[2]
OPS = engine_ops()
# Their results are booleans and integers, which hold neither NaN nor infinity.
EXACT = set(
    """
    equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not
    isnan isinf isfinite argmax argmin any all argsort _truncate
    """.split()
)
CARRYING = {name: op for name, op in OPS.items() if not {op.name, name.split(".")[-1]} & EXACT}

GRADIENTS = {
    n: op for n, op in CARRYING.items() if op.differentiable[0] and (op.rules or op.backward)
}


def run_sample(sample, drawn):
    """The sample's function on tensors that require gradients where they can."""
    arguments, params = drawn
    values = [
        minigrad.tensor(a, requires_grad=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a
        for a in arguments
    ]
    with np.errstate(all="ignore"):
        return sample.function(*values, **params)


def first_tensor(result):
    parts = result if isinstance(result, (list, tuple)) else [result]
    return next((p for p in parts if isinstance(p, minigrad.Tensor)), None)


@functools.cache
def runs():
    """For each op a sample and arguments with which it computes, healthily, and one with which
    a gradient flows through it.
    """
    forward, backward, passed = {}, {}, []

    class Seen(Interposer):
        def pull(self, proceed, node, g, needs, record, closed):
            found = proceed(node, g, needs, record, closed)
            if any(np.size(study.nodes.dense(part)) for part in found if part is not None):
                passed.append(node.op)
            return found

    def look(sample, examples):
        ops = set()

        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(sample.arguments)
        def run(drawn):
            computed, healthy = [], True
            passed.clear()
            arguments, params = drawn
            drawn = [a.array if isinstance(a, View) else a for a in arguments], params

            def watch(proceed, op, args, params):
                nonlocal healthy
                result = proceed(op, args, params)
                ops.add(op)
                for value in [*args, *(result if isinstance(result, tuple) else (result,))]:
                    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f":
                        healthy = healthy and bool(np.isfinite(value).all())
                first = result[0] if isinstance(result, tuple) else result
                if np.size(first) and np.asarray(first).dtype.kind == "f":
                    computed.append(op)
                return result

            with backend.interpose(watch):
                y = first_tensor(run_sample(sample, drawn))
            if not healthy:
                return
            for op in computed:
                forward.setdefault(op, (sample, drawn))
            if y is not None and y.requires_grad and y.size:
                with stand(Seen()):
                    y.backward(np.ones(y.shape, y.dtype))
                for op in passed:
                    backward.setdefault(op, (sample, drawn))

        run()
        return ops

    seen = [(sample, look(sample, 3)) for sample in SAMPLES]
    for sample, ops in seen:
        missing = {op for op in CARRYING.values() if op not in forward}
        missing |= {op for op in GRADIENTS.values() if op not in backward}
        if ops & missing:
            look(sample, 40)
    return forward, backward


def broken(value, bad):
    """A copy with one element that is no number."""
    if isinstance(value, tuple):
        return (broken(value[0], bad), *value[1:])
    value = np.array(value)
    if value.size:
        value.flat[0] = bad
    return value


@pytest.mark.parametrize("name", CARRYING)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_born_in_the_forward_pass_of_every_op(name, bad):
    op = CARRYING[name]
    sample, drawn = runs()[0][op]

    def inject(proceed, other, args, params):
        result = proceed(other, args, params)
        return broken(result, bad) if other is op else result

    with backend.interpose(inject), pytest.raises(study.AnomalyError) as caught:
        with study.anomalies():
            run_sample(sample, drawn)
    found = caught.value.anomaly
    assert (found.op, found.phase) == (op.name, "forward")
    assert found.kind == ("nan" if bad != bad else "inf")
    assert made_by_the_sample(found.where)


def made_by_the_sample(line):
    """Whether a source line is the one that called, or the sample's own where it is a formula."""
    return "run_sample: return sample.function" in line or line.startswith("samples.py:")


class Inject(Interposer):
    """Makes a contribution of one op no number."""

    def __init__(self, op, bad=np.nan):
        self.op, self.bad = op, bad

    def pull(self, proceed, node, g, needs, record, closed):
        found = list(proceed(node, g, needs, record, closed))
        if node.op is self.op:
            for i, flow in enumerate(found):
                if flow is not None and np.size(study.nodes.dense(flow)):
                    flow = study.nodes.dense(flow)
                    found[i] = self.bad if isinstance(flow, float) else broken(flow, self.bad)
                    break
        return found


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_born_in_the_backward_pass_of_every_op(name, bad):
    op = GRADIENTS[name]
    sample, drawn = runs()[1][op]
    with study.recording():
        y = first_tensor(run_sample(sample, drawn))
    with stand(Inject(op, bad)), study.anomalies(stop=False) as found:
        y.backward(np.ones(y.shape, y.dtype))
    assert (found[0].op, found[0].phase) == (op.name, "backward")
    assert found[0].kind == ("nan" if bad != bad else "inf")
    assert found[0].node.op is op and found[0].argument is not None
    assert found[0].inputs[0][0] == "gate gradient"
    assert made_by_the_sample(found[0].where)


SCALAR_OPS = {name: op for name, op in OPS.items() if op.scalar is not None}


@pytest.mark.parametrize("name", SCALAR_OPS)
def test_born_in_every_op_on_scalars(name, monkeypatch):
    op = SCALAR_OPS[name]
    inputs = [minigrad.scalar(v) for v in (0.5, 0.25, 0.75)][: len(op.inputs)]
    y = op(*inputs)
    if op.name != "where" and op.differentiable[0]:
        with stand(Inject(op)), pytest.raises(study.AnomalyError) as caught, study.anomalies():
            (y * 2.0).backward()
        assert (caught.value.anomaly.op, caught.value.anomaly.phase) == (op.name, "backward")
        assert caught.value.anomaly.where == "not recorded"
    monkeypatch.setattr(op, "scalar", lambda *args: float("nan"))
    with pytest.raises(study.AnomalyError) as caught, study.anomalies():
        op(*inputs)
    assert (caught.value.anomaly.op, caught.value.anomaly.phase) == (op.name, "forward")
    assert "test_born_in_every_op_on_scalars" in caught.value.anomaly.where


@given(scalar_programs() | tensor_programs() | tensor_programs(np.float32))
def test_a_healthy_run_is_not_accused_and_not_changed(program):
    plain = program.make_leaves()
    program.run(plain)[-1].backward()
    leaves = program.make_leaves()
    with study.anomalies() as found:
        program.run(leaves)[-1].backward()
    assert found == []
    for a, b in zip(leaves, plain, strict=True):
        if isinstance(a, minigrad.Tensor):
            assert (a.grad is None) == (b.grad is None)
            assert a.grad is None or np.array_equal(a.grad.numpy(), b.grad.numpy())
        else:
            assert a.grad == b.grad


def test_what_really_happens():
    x = minigrad.tensor([1.0, 0.0], requires_grad=True)
    with study.anomalies(stop=False) as found:
        y = minigrad.log(x)
        (y * y).sum().backward()
    assert [(a.op, a.kind, a.phase) for a in found][:1] == [("log", "inf", "forward")]
    assert found[0].inputs == (("x", "0 … 1, shape (2,)"),)
    assert "y = minigrad.log(x)" in str(found[0])

    s = minigrad.scalar(0.0)
    with pytest.raises(study.AnomalyError, match="backward pass of sqrt"), study.anomalies():
        (s.sqrt() * 2.0).backward()

    one = minigrad.tensor(np.ones(1, np.float32), requires_grad=True)
    with pytest.raises(study.AnomalyError, match="adding up the contributions to leaf"):
        with study.anomalies():
            (one * 1.0 + one).backward(np.array([3e38], np.float32))


def test_what_came_in_and_what_is_passed_on():
    data = minigrad.tensor([1.0, np.nan], requires_grad=True)
    with study.anomalies(stop=False) as found:
        y = data * 2.0
        (y + 1.0).sum().backward()
    assert [a.op for a in found] == ["multiply"]
    assert "since a came in like that" in found[0].how
    x = minigrad.tensor([1.0, 2.0], requires_grad=True)
    with study.anomalies(stop=False) as found:
        (x * 2.0).backward([np.inf, 1.0])
    assert [a.phase for a in found] == ["backward"] and "was given as" in found[0].how


def test_a_mask_of_minus_infinity_is_no_fault_where_nan_is_looked_for():
    x = minigrad.tensor([1.0, 2.0], requires_grad=True)
    mask = np.array([True, False])
    with study.anomalies(kinds=["nan"]):
        masked = minigrad.where(mask, x, -np.inf)
        minigrad.logsumexp(masked).backward()
    assert x.grad.tolist() == [1.0, 0.0]
    with pytest.raises(study.AnomalyError, match="minus|infinity"), study.anomalies():
        minigrad.where(mask, x, -np.inf)
    for kinds in ([], ["zero"]):
        with pytest.raises(ValueError, match="kinds must be"), study.anomalies(kinds=kinds):
            pass


def test_closed_gates_are_healthy():
    x = minigrad.tensor([0.0, 4.0], requires_grad=True)
    with study.anomalies():
        inside = minigrad.where(x.data > 0, x, 1.0)
        minigrad.log(inside).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_inside_a_checkpoint_and_with_no_gradient():
    x = minigrad.tensor([0.0], requires_grad=True)
    y = minigrad.checkpoint(lambda t: minigrad.sqrt(t) * 2.0)(x)
    with pytest.raises(study.AnomalyError, match="backward pass of checkpoint"):
        with study.anomalies():
            y.backward([1.0])
    with pytest.raises(study.AnomalyError, match="forward pass of log"), study.anomalies():
        with minigrad.no_grad():
            minigrad.log(x)
    with pytest.raises(study.AnomalyError, match="forward pass of divide"), study.anomalies():
        minigrad.tensor([1.0]) / minigrad.tensor([0.0])


def test_off_it_is_gone_and_other_threads_are_left_alone():
    with pytest.raises(study.AnomalyError), study.anomalies():
        minigrad.log(minigrad.tensor([0.0]))
    assert not observing.standing and not recording.paused and not backend._interposed
    with np.errstate(all="ignore"):
        minigrad.log(minigrad.tensor([0.0]))
    errors = []

    def work():
        try:
            with np.errstate(all="ignore"):
                minigrad.log(minigrad.tensor([0.0], requires_grad=True)).sum().backward()
        except study.AnomalyError as error:
            errors.append(error)

    with study.anomalies():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert errors == []


def test_off_the_engine_executes_what_it_did_before_it_was_ever_imported():
    """Instruction by instruction, so no clock has a say; the same file tells what was looked at."""
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("executed.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert found["loaded"] is False  # `import minigrad` and a backward pass do not load it
    for moment in ("imported", "left", "left by an error", "left by others"):
        assert found[moment] == found["before"], moment
    assert (found["changed"], found["empty"]) == ([], True)
    # And it can tell: inside, more is executed.
    for graph, told in found["before"].items():
        assert told["instructions"] > 2000 and told["calls"] > 100
        assert found["inside"][graph]["instructions"] > told["instructions"]
        assert found["inside"][graph]["calls"] > told["calls"]
        assert found["inside"][graph]["digest"] != told["digest"]
    assert found["empty inside"] is False
