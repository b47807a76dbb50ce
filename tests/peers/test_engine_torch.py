"""Gradients of ops and of random programs against PyTorch, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.testing import (
    NONZERO,
    POSITIVE,
    REAL,
    UNIT,
    arrays,
    broadcastable,
    distinct,
    indices,
    positive_definite,
    shapes,
    well_conditioned,
)
from tests.engine.programs import programs, run

quick = settings(max_examples=max(10, settings.default.max_examples // 2))


def derivatives_of_minigrad(f, inputs):
    """Outputs, their gradient with fixed weights, and the gradient of that, by every input."""
    leaves = [mg.tensor(x, requires_grad=True) for x in inputs]
    outputs = as_tuple(f(*leaves))
    weights = [mg.tensor(w) for w in weights_for([y.shape for y in outputs])]
    live = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    first = mg.gradients([y for y, _ in live], leaves, [w for _, w in live], create_graph=True)
    energy = [(g * g).sum() for g in first if g.requires_grad]
    second = mg.gradients(energy, leaves) if energy else [mg.zeros_like(x) for x in leaves]
    return [x.detach().numpy() for x in (*outputs, *first, *second)]


def derivatives_of_torch(f, inputs):
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    outputs = as_tuple(f(*leaves))
    weights = [torch.tensor(w) for w in weights_for([tuple(y.shape) for y in outputs])]
    live = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]

    def by_all(outs, flows, **options):
        found = torch.autograd.grad(outs, leaves, flows, allow_unused=True, **options)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]

    first = by_all([y for y, _ in live], [w for _, w in live], create_graph=True)
    energy = [(g * g).sum() for g in first if g.requires_grad]
    second = by_all(energy, None) if energy else [torch.zeros_like(x) for x in leaves]
    return [x.detach().numpy(force=True) for x in (*outputs, *first, *second)]


def as_tuple(outputs):
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def weights_for(sizes):
    return [np.cos(1.0 + np.arange(int(np.prod(s)), dtype=float)).reshape(s) for s in sizes]


def same(ours, theirs, *inputs):
    found = derivatives_of_minigrad(ours, inputs)
    wanted = derivatives_of_torch(theirs, inputs)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


UNARY = {
    "abs": NONZERO, "arccos": UNIT, "arcsin": UNIT, "arctan": REAL, "cos": REAL, "cosh": REAL,
    "exp": REAL, "expm1": REAL, "log": POSITIVE, "log10": POSITIVE, "log1p": POSITIVE,
    "log2": POSITIVE, "negative": REAL, "relu": NONZERO, "sigmoid": REAL, "sin": REAL,
    "sinh": REAL, "sqrt": POSITIVE, "square": REAL, "tan": UNIT, "tanh": REAL,
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
@quick
@given(data=st.data())
def test_functions_of_one_argument(name, data):
    x = data.draw(arrays(shapes(), UNARY[name]))
    same(getattr(mg, name), getattr(torch, name), x)


BINARY = {
    "add": (REAL, REAL),
    "arctan2": (NONZERO, NONZERO),
    "divide": (REAL, NONZERO),
    "logaddexp": (REAL, REAL),
    "maximum": (REAL, REAL),
    "minimum": (REAL, REAL),
    "multiply": (REAL, REAL),
    "power": (POSITIVE, REAL),
    "subtract": (REAL, REAL),
}


@pytest.mark.parametrize("name", BINARY)
@quick
@given(data=st.data())
def test_functions_of_two_arguments(name, data):
    sizes = data.draw(broadcastable())
    inputs = [data.draw(arrays(s, d)) for s, d in zip(sizes, BINARY[name], strict=True)]
    theirs = getattr(torch, {"power": "pow"}.get(name, name))
    same(getattr(mg, name), theirs, *inputs)


REDUCTIONS = {
    "sum": torch.sum,
    "mean": torch.mean,
    "prod": torch.prod,
    "max": torch.amax,
    "min": torch.amin,
    "std": lambda x, d, keepdim: torch.std(x, d, correction=0, keepdim=keepdim),
    "var": lambda x, d, keepdim: torch.var(x, d, correction=0, keepdim=keepdim),
    "logsumexp": torch.logsumexp,
    "norm": lambda x, d, keepdim: torch.linalg.vector_norm(x, dim=d, keepdim=keepdim),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@quick
@given(data=st.data())
def test_reductions(name, data):
    x = data.draw(distinct(shapes(1, 3, 2, 3)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    keepdims = data.draw(st.booleans())
    same(
        lambda t: getattr(mg, name)(t, axis=axis, keepdims=keepdims),
        lambda t: REDUCTIONS[name](t, axis, keepdim=keepdims),
        x,
    )


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_as_in_amax(name):
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    theirs = {"max": torch.amax, "min": torch.amin}[name]
    same(lambda t: getattr(mg, name)(t, axis=1), lambda t: theirs(t, 1), x)
    same(lambda t: getattr(mg, name)(t), lambda t: theirs(t, (0, 1)), x)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (mg.maximum, torch.maximum),
        (mg.minimum, torch.minimum),
    ],
)
def test_ties_of_two_share_as_in_torch(ours, theirs):
    same(ours, theirs, np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 3.0]))


@pytest.mark.parametrize("name", ["relu", "abs"])
def test_kinks_are_as_in_torch(name):
    same(getattr(mg, name), getattr(torch, name), np.array([0.0, -1.0, 1.0]))


def test_clip_at_its_bounds_is_as_in_torch():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    same(lambda t: mg.clip(t, -1, 1), lambda t: torch.clip(t, -1, 1), x)


@quick
@given(data=st.data())
def test_indexing(data):
    size = data.draw(shapes(1, 3, 1, 3))
    index = data.draw(indices(size))
    x = data.draw(arrays(size))
    as_torch = _torch_index(index)
    if as_torch is None:
        return
    same(lambda t: t[index] * t[index], lambda t: t[as_torch] * t[as_torch], x)


def _torch_index(index):
    """An index as torch takes it, or None where it has no such thing (negative steps)."""
    parts = index if isinstance(index, tuple) else (index,)
    found = []
    for part in parts:
        if isinstance(part, slice) and part.step is not None and part.step < 0:
            return None
        if isinstance(part, (np.ndarray, list)):
            part = np.asarray(part, np.intp if np.size(part) == 0 else None)
            part = torch.from_numpy(part)
        found.append(part)
    return tuple(found) if isinstance(index, tuple) else found[0]


@quick
@given(data=st.data())
def test_gather_and_scatter(data):
    x = data.draw(arrays(shapes(2, 2, 1, 4)))
    axis = data.draw(st.integers(0, 1))
    n = x.shape[axis]
    where = np.argsort(data.draw(distinct(x.shape)), axis)[: max(1, n - 1)]
    where = where if axis == 0 else np.argsort(data.draw(distinct(x.shape)), axis)
    v = data.draw(arrays(where.shape))
    index = torch.from_numpy(where)
    same(lambda t: mg.take_along_axis(t, where, axis), lambda t: torch.gather(t, axis, index), x)
    same(
        lambda t, u: mg.put_along_axis(t * t, where, u * u, axis),
        lambda t, u: (t * t).scatter(axis, index, u * u),
        x,
        v,
    )


@quick
@given(data=st.data())
def test_sort_and_cumsum(data):
    x = data.draw(distinct(shapes(1, 3, 1, 3)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    same(lambda t: mg.sort(t * t * t, axis), lambda t: torch.sort(t * t * t, axis).values, x)
    same(lambda t: mg.cumsum(mg.sin(t), axis), lambda t: torch.cumsum(torch.sin(t), axis), x)


@quick
@given(data=st.data())
def test_matrices(data):
    n = data.draw(st.integers(1, 3))
    batch = data.draw(shapes(0, 2, 1, 2))
    a = data.draw(well_conditioned(n, batch))
    s = data.draw(positive_definite(n, batch))
    b = data.draw(arrays((*batch, n, 2)))
    same(mg.matmul, torch.matmul, a, b)
    same(mg.inv, torch.linalg.inv, a)
    same(mg.det, torch.linalg.det, a)
    same(mg.solve, torch.linalg.solve, a, b)
    same(
        lambda t: mg.cholesky(t @ mg.swapaxes(t, -1, -2)),
        lambda t: torch.linalg.cholesky(t @ t.mT),
        np.linalg.cholesky(s),
    )
    formula = "...ij,...jk->...ki"
    same(lambda u, v: mg.einsum(formula, u, v), lambda u, v: torch.einsum(formula, u, v), a, b)


@pytest.mark.parametrize("p", [1, 2, 3, np.inf])
def test_norms_of_vectors_also_at_zero(p):
    x = np.array([[0.3, -0.4, 1.2], [2.0, 1.0, -0.5]])
    same(lambda t: mg.norm(t, p, axis=1), lambda t: torch.linalg.vector_norm(t, p, dim=1), x)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    torch.linalg.vector_norm(zero, p).backward()
    ours = mg.tensor(np.zeros(3), requires_grad=True)
    mg.norm(ours, p).backward()
    np.testing.assert_array_equal(ours.grad.numpy(), zero.grad.numpy())


# --- random programs -----------------------------------------------------------------------------

TORCH = {
    "tanh": lambda x, _: torch.tanh(x),
    "sin": lambda x, _: torch.sin(x),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "exp": lambda x, _: torch.exp(x * 0.3),
    "square": lambda x, _: x * x * 0.5,
    "sqrt": lambda x, _: torch.sqrt(x * x + 1.0),
    "log": lambda x, _: torch.log(x * x + 1.0),
    "negative": lambda x, _: -x,
    "shift": lambda x, c: c - x,
    "add": lambda x, y, _: x + y,
    "subtract": lambda x, y, _: x - y,
    "multiply": lambda x, y, _: x * y,
    "divide": lambda x, y, _: x / (y * y + 1.0),
    "maximum": lambda x, y, _: torch.maximum(x, y + 0.37),
    "where": lambda x, y, mask: torch.where(torch.from_numpy(np.asarray(mask)), x, y),
    "matmul": lambda x, y, _: x @ y,
    "sum": lambda x, axis: torch.sum(x, axis),
    "mean": lambda x, axis: torch.mean(x, axis, keepdim=True),
    "logsumexp": lambda x, axis: torch.logsumexp(x, axis),
    "cumsum": lambda x, axis: torch.cumsum(x, axis),
    "reshape": lambda x, _: torch.reshape(x, (-1,)),
    "transpose": lambda x, _: x.permute(*range(x.ndim)[::-1]),
    "expand": lambda x, _: x.expand(2, *x.shape),
    "row": lambda x, i: x[i],
    "every other": lambda x, _: x[..., ::2],
    "take": lambda x, places: x[torch.from_numpy(places)],
    "concatenate": lambda x, y, _: torch.cat([x.reshape(-1), y.reshape(-1)]),
    "stack": lambda x, _: torch.stack([x, x * 2.0]),
}


@given(programs())
def test_random_programs(program):
    same(
        lambda *inputs: run(program, inputs),
        lambda *inputs: run(program, inputs, TORCH),
        *program.inputs,
    )


@given(programs(max_steps=6))
def test_third_derivatives_of_random_programs(program):
    def energy(outputs):
        return sum((y * y).sum() for y in outputs)

    x, *rest = program.inputs
    ours = lambda t: energy(run(program, (t, *map(mg.tensor, rest))))  # noqa: E731
    theirs = lambda t: energy(run(program, (t, *map(torch.tensor, rest)), TORCH))  # noqa: E731
    v = np.cos(np.arange(x.size, dtype=float)).reshape(x.shape)

    def along(f):
        return lambda t: (mg.grad(f)(t) * v).sum()

    found = mg.grad(along(along(ours)))(mg.tensor(x)).numpy()
    leaf = torch.tensor(x, requires_grad=True)
    current, reached = theirs(leaf), True
    for _ in range(2):
        if reached := current.requires_grad:
            (g,) = torch.autograd.grad(current, leaf, create_graph=True, allow_unused=True)
            reached = g is not None
        if not reached:
            break
        current = (g * torch.tensor(v)).sum()
    if reached and current.requires_grad:
        (g,) = torch.autograd.grad(current, leaf, allow_unused=True)
        wanted = np.zeros(x.shape) if g is None else g.numpy()
    else:
        wanted = np.zeros(x.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)
