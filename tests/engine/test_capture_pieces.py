"""Captured programs piece by piece: the same bits, in an order in which a device can note more.

Here a device stands in that notes nothing; `tests/cuda/device/test_graphs.py` has one that does.
"""

import collections
import contextlib
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import effects
from minigrad.replay import programs as programs_module
from minigrad.replay.steps import capture
from minigrad.replay.stretches import Stretches
from tests.engine.programs import programs, run
from tests.engine.samples import SAMPLES
from tests.engine.test_capture import bits, drawn, tensors_in


class Nothing:
    """A device that is asked for all, and can note nothing of it."""

    def settings(self):
        return None

    @contextlib.contextmanager
    def watching(self):
        yield types.SimpleNamespace(launches=1, left=["is done by NumPy"])

    def owns(self, array):
        return False

    def keep(self, array):
        return array

    def fill(self, target, array):
        pass


@pytest.fixture(autouse=True)
def in_pieces(monkeypatch):
    made = []

    def stretches_of(writer, recorder):
        made.append(Stretches(writer, recorder, np.ndarray, Nothing))
        return made[-1]

    monkeypatch.setattr(programs_module, "stretches_of", stretches_of)
    return made


def names(program):
    return [piece.entry.name.split(".")[-1] for piece in program._pieces]


@given(programs(), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_random_programs(program, seed):
    def step(*inputs):
        outputs = run(program, inputs)
        sum((y * y).sum() for y in outputs).backward()
        return outputs

    captured = capture(step)
    for i in range(4):
        factor = np.float64(1.0 + 0.1 * i * (seed + 1))
        mine, theirs = (
            [mg.tensor(x * factor, requires_grad=True) for x in program.inputs] for _ in range(2)
        )
        assert bits(captured(*mine)) == bits(step(*theirs))
        assert bits([t.grad for t in mine]) == bits([t.grad for t in theirs])
    assert captured.replays == 2


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_op(sample, in_pieces):
    if sample.name == "repeat":
        pytest.skip("its counts are made inside of the step")

    @settings(max_examples=1, deadline=None)
    @given(sample.arguments)
    def check(arguments):
        args, options = arguments
        values = [getattr(arg, "array", arg) for arg in args]

        def tensors():
            return [
                mg.tensor(v, requires_grad=v.dtype.kind == "f" and sample.order > 0)
                if isinstance(v, np.ndarray)
                else [getattr(part, "array", part) for part in v]
                if isinstance(v, list)
                else v
                for v in values
            ]

        def step(*values):
            found = sample.function(*values, **options)
            total = sum((y * y).sum() for y in tensors_in(found) if y.requires_grad)
            if isinstance(total, mg.Tensor):
                total.backward()
            return tensors_in(found)

        captured = capture(step)
        for _ in range(3):
            mine, theirs = tensors(), tensors()
            with np.errstate(all="ignore"):
                assert bits(captured(*mine)) == bits(step(*theirs))
            grads = [[t.grad for t in tensors_in(one)] for one in (mine, theirs)]
            assert bits(grads[0]) == bits(grads[1])
        assert captured.replays == 1 and len(in_pieces) == 1
        in_pieces.clear()

    check()


@effects.aside
def forgotten(state):
    state.append("forgotten")


@effects.value
def checked(labels):
    return labels + 1


@effects.effect
def told(value):
    pass


def test_what_looks_at_no_elements_goes_before_operations(in_pieces, monkeypatch):
    # Operations could be noted, if this were no test.
    monkeypatch.setattr(Nothing, "watching", lambda self: contextlib.nullcontext(
        types.SimpleNamespace(launches=1, left=[])))  # fmt: skip
    held = collections.deque()

    def step(x, labels):
        y = mg.tanh(x)
        told(y._data)
        z = mg.exp(y)
        forgotten(held)
        return z * 2.0, mg.tensor(checked(labels._data))

    captured = capture(step)
    x, labels = mg.tensor(drawn(3)), mg.tensor(np.arange(3))
    for _ in range(3):
        found = captured(x, labels)
        assert bits(found) == bits(step(x, labels))
    (program,) = in_pieces
    order = names(program)
    # Not before another effect, and in their own order.
    assert order.index("told") < order.index("forgotten") < order.index("exp")
    assert order.index("tanh") < order.index("told")
    assert len(held) == 6


def test_both_words_are_effects():
    @effects.writing
    def add(array, value):
        array += value

    total = np.zeros(2)
    add(total, 1.0)
    assert total.tolist() == [1.0, 1.0]
    assert add.__wrapped__ in effects.writers and forgotten.__wrapped__ in effects.asides


def test_without_a_device_that_notes_there_are_no_graphs(monkeypatch):
    monkeypatch.undo()
    w = mg.tensor(drawn(3))
    captured = capture(lambda x: x * w)
    for _ in range(4):
        captured(mg.tensor(drawn(3)))
    (program,) = captured.programs
    assert program.graphs == 0 and not isinstance(program._parts, Stretches)
    assert repr(program) == "<program: 2 replays, 1 noted call and 0 others each>"
