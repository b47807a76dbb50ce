"""Gradients of random programs and of what torch has differently against HIPS autograd."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import REAL, arrays, axes, distinct, shapes, well_conditioned
from tests.engine.programs import programs, run

autograd = pytest.importorskip("autograd")
anp = pytest.importorskip("autograd.numpy")

AUTOGRAD = {
    "tanh": lambda x, _: anp.tanh(x),
    "sin": lambda x, _: anp.sin(x),
    "sigmoid": lambda x, _: 1.0 / (1.0 + anp.exp(-x)),
    "exp": lambda x, _: anp.exp(x * 0.3),
    "square": lambda x, _: x * x * 0.5,
    "sqrt": lambda x, _: anp.sqrt(x * x + 1.0),
    "log": lambda x, _: anp.log(x * x + 1.0),
    "negative": lambda x, _: -x,
    "shift": lambda x, c: c - x,
    "add": lambda x, y, _: x + y,
    "subtract": lambda x, y, _: x - y,
    "multiply": lambda x, y, _: x * y,
    "divide": lambda x, y, _: x / (y * y + 1.0),
    "maximum": lambda x, y, _: anp.maximum(x, y + 0.37),
    # Its own where and broadcast_to do not sum back over what was broadcast.
    "where": lambda x, y, mask: anp.where(
        mask, x + anp.zeros(np.shape(mask)), y + anp.zeros(np.shape(mask))
    ),
    "matmul": lambda x, y, _: anp.dot(x, y),
    "sum": lambda x, axis: anp.sum(x, axis),
    "mean": lambda x, axis: anp.mean(x, axis, keepdims=True),
    "logsumexp": lambda x, axis: anp.log(anp.sum(anp.exp(x), axis)),
    "cumsum": lambda x, axis: anp.cumsum(x, axis),
    "reshape": lambda x, _: anp.reshape(x, -1),
    "transpose": lambda x, _: anp.transpose(x),
    "expand": lambda x, _: x * anp.ones((2, *x.shape)),
    "row": lambda x, i: x[i],
    "every other": lambda x, _: x[..., ::2],
    "take": lambda x, places: x[places],
    "concatenate": lambda x, y, _: anp.concatenate([anp.reshape(x, -1), anp.reshape(y, -1)]),
    "stack": lambda x, _: anp.stack([x, x * 2.0]),
}


def same(ours, theirs, *inputs):
    """First and second derivatives of the sum of squares of all outputs, by every input."""
    every = tuple(range(len(inputs)))

    def energy(f, total):
        def value(*args):
            outputs = f(*args)
            outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
            return sum(total(y * y) for y in outputs)

        return value

    our_energy, their_energy = energy(ours, mg.sum), energy(theirs, anp.sum)
    found = mg.grad(our_energy, every)(*inputs)
    wanted = autograd.grad(their_energy, every)(*inputs)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-8, atol=1e-9)

    def our_second(*args):
        return sum((g * g).sum() for g in mg.grad(our_energy, every)(*args))

    def their_second(*args):
        return sum(anp.sum(g * g) for g in autograd.grad(their_energy, every)(*args))

    found = mg.grad(our_second, every)(*inputs)
    wanted = autograd.grad(their_second, every)(*inputs)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-7, atol=1e-8)


@given(programs(max_steps=8))
@pytest.mark.filterwarnings("ignore:Output seems independent of input")
def test_random_programs(program):
    same(
        lambda *inputs: run(program, inputs),
        lambda *inputs: run(program, inputs, AUTOGRAD),
        *program.inputs,
    )


@given(st.data())
def test_reductions_over_several_axes(data):
    x = data.draw(distinct(shapes(1, 3, 2, 3)))
    axis = data.draw(axes(x.ndim))
    keepdims = data.draw(st.booleans())
    for name in ("sum", "mean", "var", "std", "max", "min", "prod"):
        same(
            lambda t, n=name: getattr(mg, n)(t, axis=axis, keepdims=keepdims),
            lambda t, n=name: getattr(anp, n)(t, axis=axis, keepdims=keepdims),
            x,
        )


@given(st.data())
def test_products(data):
    a = data.draw(arrays((2, 3, 2), REAL))
    b = data.draw(arrays((2, 2, 3), REAL))
    axes_ = data.draw(st.sampled_from([1, ([0, 1], [0, 2]), ([2], [0]), 0]))
    same(lambda x, y: mg.tensordot(x, y, axes_), lambda x, y: anp.tensordot(x, y, axes_), a, b)
    same(mg.matmul, anp.matmul, a, b)
    formula = data.draw(st.sampled_from(["ijk,ikl->ijl", "ijk,ikj->", "ijk,lmj->iklm"]))
    same(lambda x, y: mg.einsum(formula, x, y), lambda x, y: anp.einsum(formula, x, y), a, b)


@given(st.data())
def test_matrices(data):
    a = data.draw(well_conditioned(3))
    same(mg.inv, anp.linalg.inv, a)
    same(mg.det, anp.linalg.det, a)
    same(mg.norm, anp.linalg.norm, a)
    same(lambda x: mg.diagonal(x, 0, -1, -2), lambda x: anp.diagonal(x, 0, -1, -2), a)
    same(lambda x: mg.trace(x @ x), lambda x: anp.trace(anp.dot(x, x)), a)


@given(st.data())
def test_arrangements(data):
    x = data.draw(arrays((2, 3)))
    pairs = [
        (lambda t: mg.pad(t, ((1, 0), (2, 1))), lambda t: anp.pad(t, ((1, 0), (2, 1)), "constant")),
        (lambda t: mg.tile(t, (2, 1, 2)), lambda t: anp.tile(t, (2, 1, 2))),
        (lambda t: mg.repeat(t, 2, 1), lambda t: anp.repeat(t, 2, 1)),
        (lambda t: mg.roll(t, 1, 0), lambda t: anp.roll(t, 1, 0)),
        (lambda t: mg.moveaxis(t, 0, 1), lambda t: anp.moveaxis(t, 0, 1)),
        (lambda t: mg.split(t, 3, 1)[1], lambda t: anp.split(t, 3, 1)[1]),
        (lambda t: mg.sort(t, 1), lambda t: anp.array([anp.sort(t[0]), anp.sort(t[1])])),
    ]
    for ours, theirs in pairs:
        same(lambda t, f=ours: f(t * t), lambda t, f=theirs: f(t * t), x)
