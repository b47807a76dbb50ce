"""Random programs: whatever is composed, the derivatives are right and memory is nobody else's."""

import gc
import weakref

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.core import collect
from tests.engine.programs import MINIGRAD, programs, run


@settings(max_examples=settings.default.max_examples * 2)
@given(programs())
def test_derivatives_against_differences(program):
    # A maximum may meet a tie on the way; such points are left out.
    mg.check_gradients(
        lambda *inputs: run(program, inputs),
        *program.inputs,
        order=2,
        directions=2,
        rtol=1e-5,
        atol=1e-6,
        kinks="skip",
    )


def leaves(program):
    return [mg.tensor(x, requires_grad=True) for x in program.inputs]


def total(outputs):
    return sum(((y * y).sum() for y in outputs), start=mg.tensor(0.0, dtype=np.float64))


@given(programs())
def test_every_way_to_ask_for_gradients_agrees(program):
    inputs = leaves(program)
    total(run(program, inputs)).backward()
    wanted = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in inputs]

    def f(*inputs):
        return total(run(program, inputs))

    every = tuple(range(len(inputs)))
    ways = [
        mg.grad(f, every)(*program.inputs),
        mg.gradients(f(*inputs), inputs) if f(*inputs).requires_grad else [],
        mg.gradients(f(*inputs), inputs, create_graph=True) if f(*inputs).requires_grad else [],
        mg.vjp(f, *program.inputs)[1](1.0),
        mg.grad(mg.checkpoint(f), every)(*program.inputs),
    ]
    for found in ways:
        for g, w in zip(found, wanted, strict=len(found) > 0):
            np.testing.assert_allclose(g.numpy(), w, rtol=1e-9, atol=1e-12)
    direction = [np.cos(np.arange(x.size)).reshape(x.shape) for x in program.inputs]
    _, slope = mg.jvp(f, program.inputs, direction)
    along = sum(np.vdot(w, d) for w, d in zip(wanted, direction, strict=True))
    np.testing.assert_allclose(slope.item(), along, rtol=1e-9, atol=1e-9)


@given(programs(), st.booleans(), st.integers(1, 2))
def test_gradients_share_memory_with_nothing(program, create_graph, passes):
    inputs = leaves(program)
    values = list(inputs)
    for step in program.steps:
        values.append(MINIGRAD[step.name](*[values[i] for i in step.operands], step.static))
    for value in values:
        if value.requires_grad:
            value.retain_grad()
    seeds = [(values[i], np.ones(values[i].shape)) for i in program.outputs]
    flowing = [mg.tensor(seed) for _, seed in seeds]
    for _ in range(passes):
        for (value, _), seed in zip(seeds, flowing, strict=True):
            if value.requires_grad:
                value.backward(seed, retain_graph=True, create_graph=create_graph)
    owners = [v for v in values if v.requires_grad and v.grad is not None]
    others = [v._data for v in values] + [s._data for s in flowing] + [s for _, s in seeds]
    for step in program.steps:
        others += [step.static] if isinstance(step.static, np.ndarray) else []
    for node in collect([v.node for v in owners]):
        others += [a for a in node.saved or () if isinstance(a, np.ndarray)]
    grads = {id(v.grad): v.grad for v in owners}
    assert len(grads) == len({id(v) for v in owners})
    for n, g in enumerate(grads.values()):
        assert not any(np.shares_memory(g._data, other) for other in others)
        for h in list(grads.values())[:n]:
            assert not np.shares_memory(g._data, h._data)
    for v in values:  # under create_graph a cycle leads from x.grad to x: cut it
        v.zero_grad()


@given(programs())
def test_writing_over_a_gradient_changes_nothing_else(program):
    inputs = leaves(program)
    outputs = run(program, inputs)
    for y in outputs:
        if y.requires_grad:
            y.backward(np.ones(y.shape), retain_graph=True)
    found = [x for x in inputs if x.grad is not None]
    before = [x.grad.numpy().copy() for x in found]
    kept = [y.numpy().copy() for y in outputs]
    for x, g in zip(found, before, strict=True):
        x.grad.assign(np.nan)
        for other, h in zip(found, before, strict=True):
            if other is not x:
                np.testing.assert_array_equal(other.grad.numpy(), h)
        x.grad.assign(g)
    for y, k in zip(outputs, kept, strict=True):
        np.testing.assert_array_equal(y.numpy(), k)


@given(programs())
def test_graphs_are_freed_by_counting_references(program):
    gc.collect()
    gc.disable()
    try:
        inputs = leaves(program)
        outputs = run(program, inputs)
        held = [weakref.ref(a) for a in {id(y._data): y._data for y in outputs}.values()]
        held += [
            weakref.ref(a)
            for node in collect([y.node for y in outputs])
            for a in node.saved or ()
            if isinstance(a, np.ndarray)
        ]
        loss = total(outputs)
        if loss.requires_grad:
            loss.backward()
        del inputs, outputs, loss
        program.inputs.clear()
        assert not any(
            r() is not None and not any(r() is s.static for s in program.steps) for r in held
        )
    finally:
        gc.enable()


@given(programs())
def test_what_no_gradient_reaches_is_not_touched(program):
    inputs = leaves(program)
    outsider = mg.tensor(np.ones(2), requires_grad=True)
    loss = total(run(program, inputs))
    if loss.requires_grad:
        loss.backward()
    assert outsider.grad is None
    constants = [mg.tensor(x) for x in program.inputs]
    assert not any(y.requires_grad for y in run(program, constants))
