"""Samples for every op: the function, NumPy's counterpart, and how arguments are drawn.

A new op gets one row here; `test_ops` fails by name for one that has none.
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad.ops import index, reduce, shape
from minigrad.testing import (
    NONZERO,
    POSITIVE,
    REAL,
    UNIT,
    Domain,
    arrays,
    axes,
    broadcastable,
    distinct,
    indices,
    one_axis,
    positive_definite,
    shapes,
    views,
    well_conditioned,
)


class Sample(NamedTuple):
    """One row: a public function under test, or an op that only the engine itself uses."""

    name: str
    function: Callable
    reference: Callable
    arguments: st.SearchStrategy  # of (positional arguments, keyword arguments)
    order: int = 2  # 0 where the result carries no gradient
    domains: tuple[Domain, ...] = ()  # of elementwise functions, one an argument
    promotes: bool = False  # whether any dtype is taken, and NumPy's promotion expected


SAMPLES: list[Sample] = []


def sample(name, function, reference, arguments, order=2, domains=(), promotes=False):
    SAMPLES.append(Sample(name, function, reference, arguments, order, domains, promotes))


def call(*args, **params):
    """Positional arguments as strategies; keyword arguments as they are."""
    return st.tuples(st.tuples(*args), st.just(params))


def view(of, domain=REAL):
    return views(of, lambda size: arrays(size, domain))


def apart(of):
    """Without ties, and none near 0."""
    return views(of, distinct, ties=False)


# --- elementwise ---------------------------------------------------------------------------------


@st.composite
def elementwise_arguments(draw, domains):
    sizes = draw(broadcastable(len(domains)))
    return tuple(draw(view(s, d)) for s, d in zip(sizes, domains, strict=True)), {}


def elementwise_sample(name, reference, *domains, order=2):
    sample(
        name,
        getattr(mg, name),
        reference,
        elementwise_arguments(domains),
        order,
        domains,
        promotes=True,
    )


WHOLES = tuple(float(n) for n in range(-3, 4))
STEPS = Domain(holes=WHOLES, low=-2.5, high=2.5)

elementwise_sample("abs", np.abs, NONZERO)
elementwise_sample("absolute", np.absolute, NONZERO)
elementwise_sample("add", np.add, REAL, REAL)
elementwise_sample("arccos", np.arccos, UNIT)
elementwise_sample("arcsin", np.arcsin, UNIT)
elementwise_sample("arctan", np.arctan, REAL)
elementwise_sample("arctan2", np.arctan2, NONZERO, NONZERO)
elementwise_sample("ceil", np.ceil, STEPS)
elementwise_sample("cos", np.cos, REAL)
elementwise_sample("cosh", np.cosh, REAL)
elementwise_sample("divide", np.divide, REAL, NONZERO)
elementwise_sample("exp", np.exp, REAL)
elementwise_sample("expm1", np.expm1, REAL)
elementwise_sample("floor", np.floor, STEPS)
elementwise_sample("log", np.log, POSITIVE)
elementwise_sample("log10", np.log10, POSITIVE)
elementwise_sample("log1p", np.log1p, Domain(-0.8, 2.0))
elementwise_sample("log2", np.log2, POSITIVE)
elementwise_sample("logaddexp", np.logaddexp, REAL, REAL)
# One near whole numbers, one near halves: either may win, and there are no ties.
NEAR_WHOLES = Domain(-2.2, 2.2, holes=(-1.5, -0.5, 0.5, 1.5), gap=0.3)
NEAR_HALVES = Domain(-1.7, 1.7, holes=(-1.0, 0.0, 1.0), gap=0.3)
elementwise_sample("maximum", np.maximum, NEAR_WHOLES, NEAR_HALVES)
elementwise_sample("minimum", np.minimum, NEAR_WHOLES, NEAR_HALVES)
elementwise_sample("multiply", np.multiply, REAL, REAL)
elementwise_sample("negative", np.negative, REAL)
# The operator: np.power gives booleans another dtype than `**` does.
elementwise_sample("pow", operator.pow, POSITIVE, REAL)
elementwise_sample("power", operator.pow, POSITIVE, REAL)
elementwise_sample("relu", lambda x: np.maximum(x, 0), NONZERO)
elementwise_sample("sigmoid", lambda x: 1 / (1 + np.exp(-x)), REAL)
elementwise_sample("sign", np.sign, NONZERO)
elementwise_sample("sin", np.sin, REAL)
elementwise_sample("sinh", np.sinh, REAL)
elementwise_sample("sqrt", np.sqrt, POSITIVE)
elementwise_sample("square", np.square, REAL)
elementwise_sample("subtract", np.subtract, REAL, REAL)
elementwise_sample("tan", np.tan, Domain(-1.2, 1.2))
elementwise_sample("tanh", np.tanh, REAL)

# Without gradients; values from few numbers, so that equals meet.
FEW = st.sampled_from([-1.0, 0.0, 0.5, 1.0, np.inf, np.nan])


@st.composite
def few_arguments(draw, count):
    sizes = draw(broadcastable(count))
    return tuple(np.resize(draw(st.lists(FEW, min_size=8, max_size=8)), s) for s in sizes), {}


for _name in (
    "equal greater greater_equal less less_equal logical_and logical_or not_equal floor_divide"
).split():
    sample(_name, getattr(mg, _name), getattr(np, _name), few_arguments(2), order=0, promotes=True)
for _name in "isfinite isinf isnan logical_not".split():
    sample(_name, getattr(mg, _name), getattr(np, _name), few_arguments(1), order=0, promotes=True)


@st.composite
def where_arguments(draw):
    condition, a, b = draw(broadcastable(3))
    mask = draw(arrays(condition)) > 0
    return (mask, draw(view(a)), draw(view(b))), {}


@st.composite
def clip_arguments(draw):
    size, low, high = draw(broadcastable(3))
    form = draw(st.sampled_from(["numbers", "arrays", "low only", "high only"]))
    x = draw(view(size, Domain(-2.0, 2.0, holes=(-1.0, 1.0), gap=0.3)))
    low, high = (np.full(low, -1.0), np.full(high, 1.0)) if form == "arrays" else (-1.0, 1.0)
    # The bounds are constants, so they are no arguments to differentiate by.
    return (x,), {
        "a_min": None if form == "high only" else low,
        "a_max": None if form == "low only" else high,
    }


sample("clip", mg.clip, np.clip, clip_arguments())
sample("where", mg.where, np.where, where_arguments())

# --- reductions ----------------------------------------------------------------------------------


@st.composite
def reduced(draw, values=view, some=0, several=True, keeps=True, extra=None):
    """An array, and an axis; each axis that is reduced has at least `some` elements."""
    size = draw(shapes(min_dims=1 if some > 1 else 0))
    axis = draw(axes(len(size)) if several else st.one_of(st.none(), *one(size)))
    gone = range(len(size)) if axis is None else np.atleast_1d(axis) % len(size)
    if some:
        size = tuple(max(n, some) if i in gone else n for i, n in enumerate(size))
    params = {"axis": axis}
    if keeps:
        params["keepdims"] = draw(st.booleans())
    if extra is not None:
        params |= draw(extra(int(np.prod([size[i] for i in gone]))))
    return (draw(values(size)),), params


def one(size):
    return [one_axis(len(size))] if size else []


def degrees(count):
    return st.fixed_dictionaries({"ddof": st.integers(0, max(0, min(1, count - 1)))})


def from_front(x, axis):
    """Axes as the ops behind the functions take them."""
    return None if axis is None else tuple(int(a) % x.ndim for a in np.atleast_1d(axis))


def np_logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


sample("sum", mg.sum, np.sum, reduced())
sample("mean", mg.mean, np.mean, reduced(some=1))
sample("prod", mg.prod, np.prod, reduced())
sample("max", mg.max, np.max, reduced(apart, some=1))
sample("min", mg.min, np.min, reduced(apart, some=1))
sample("var", mg.var, np.var, reduced(some=1, extra=degrees))
sample("std", mg.std, np.std, reduced(apart, some=2, extra=degrees))
sample("logsumexp", mg.logsumexp, np_logsumexp, reduced(some=1))
sample("cumsum", mg.cumsum, np.cumsum, reduced(several=False, keeps=False))
sample("argmax", mg.argmax, np.argmax, reduced(apart, some=1, several=False), order=0)
sample("argmin", mg.argmin, np.argmin, reduced(apart, some=1, several=False), order=0)
sample("any", mg.any, np.any, reduced(), order=0)
sample("all", mg.all, np.all, reduced(), order=0)
sample(
    "norm2",
    lambda x, axis, keepdims: reduce.norm2(x, axis=from_front(x, axis), keepdims=keepdims),
    lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    reduced(lambda size: view(size, NONZERO)),
)

# --- shape ---------------------------------------------------------------------------------------


@st.composite
def with_axis(draw, minimum=1, domain=REAL, more=None):
    size = draw(shapes(minimum))
    rest = () if more is None else more(draw, size)
    return (draw(view(size, domain)), *rest), {}


@st.composite
def reshape_arguments(draw):
    size = draw(shapes())
    new = list(draw(st.permutations(size)))
    if len(new) > 1 and draw(st.booleans()):
        new[:2] = [new[0] * new[1]]
    if new and int(np.prod(new)) and draw(st.booleans()):
        new[draw(st.integers(0, len(new) - 1))] = -1
    return (draw(view(size)), tuple(new)), {}


@st.composite
def pad_arguments(draw):
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
    size = draw(shapes(1, min_side=0 if mode == "constant" else 1))
    widths = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in size]
    params = {"constant_values": 0.5} if mode == "constant" and draw(st.booleans()) else {}
    return (draw(view(size)), draw(st.sampled_from([2, (1, 2), widths])), mode), params


@st.composite
def split_arguments(draw):
    size = list(draw(shapes(1)))
    axis = draw(one_axis(len(size)))
    sections = draw(st.integers(1, 3))
    size[axis] *= sections
    cuts = draw(st.lists(st.integers(0, size[axis]), max_size=3).map(sorted))
    return (draw(view(tuple(size))), draw(st.sampled_from([sections, cuts])), axis), {}


@st.composite
def several(draw, function_axis):
    size = draw(shapes(1 if function_axis == "concatenate" else 0))
    count = draw(st.integers(1, 3))
    if function_axis == "stack":
        axis = draw(st.integers(-len(size) - 1, len(size)))
        return tuple(draw(view(size)) for _ in range(count)), {"axis": axis}
    axis = draw(one_axis(len(size)))
    parts = []
    for _ in range(count):
        longer = list(size)
        longer[axis] = draw(st.integers(0, 3))
        parts.append(draw(view(tuple(longer))))
    return tuple(parts), {"axis": draw(st.sampled_from([axis, None]))}


@st.composite
def squeezed(draw):
    size = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3, 0]), max_size=4)))
    ones = [i - draw(st.sampled_from([0, len(size)])) for i, n in enumerate(size) if n == 1]
    choices = [None, *ones, tuple(ones)]
    return (draw(view(size)), draw(st.sampled_from(choices))), {}


@st.composite
def broadcast_arguments(draw):
    narrow, wide = draw(broadcastable(2))
    return (draw(view(narrow)), np.broadcast_shapes(narrow, wide)), {}


@st.composite
def repeat_arguments(draw):
    size = draw(shapes())
    axis = draw(st.one_of(st.none(), *one(size)))
    n = int(np.prod(size)) if axis is None else size[axis]
    each = st.lists(st.integers(0, 3), min_size=n, max_size=n).map(np.array)
    counts = draw(st.one_of(st.integers(0, 3), each if n else st.just(2)))
    return (draw(view(size)), counts), {"axis": axis}


@st.composite
def summed_back(draw):
    narrow, wide = draw(broadcastable(2))
    return (draw(view(np.broadcast_shapes(narrow, wide))), narrow), {}


def np_sum_to(x, size):
    lead = x.ndim - len(size)
    gone = [i for i in range(x.ndim) if i < lead or size[i - lead] != x.shape[i]]
    return x.sum(tuple(gone)).reshape(size)


sample("ravel", mg.ravel, np.ravel, with_axis(0))
sample("flatten", mg.flatten, lambda x: x.flatten(), with_axis(0))
sample("reshape", mg.reshape, np.reshape, reshape_arguments())
sample(
    "transpose",
    mg.transpose,
    np.transpose,
    with_axis(
        0,
        more=lambda draw, s: (
            draw(
                st.one_of(st.none(), st.permutations([i - len(s) * (i % 2) for i in range(len(s))]))
            ),
        ),
    ),
)
sample(
    "swapaxes",
    mg.swapaxes,
    np.swapaxes,
    with_axis(more=lambda draw, s: (draw(one_axis(len(s))), draw(one_axis(len(s))))),
)
sample(
    "moveaxis",
    mg.moveaxis,
    np.moveaxis,
    with_axis(
        more=lambda draw, s: draw(
            st.one_of(
                st.tuples(one_axis(len(s)), one_axis(len(s))),
                st.tuples(*[st.permutations(range(len(s))).map(tuple)] * 2),
            )
        )
    ),
)
sample("squeeze", mg.squeeze, np.squeeze, squeezed())
sample(
    "expand_dims",
    mg.expand_dims,
    np.expand_dims,
    with_axis(
        0,
        more=lambda draw, s: (
            draw(st.sampled_from([0, -1, len(s), (0, -1), (0, len(s) + 1), -len(s) - 1])),
        ),
    ),
)
sample("broadcast_to", mg.broadcast_to, np.broadcast_to, broadcast_arguments())
sample("flip", mg.flip, np.flip, with_axis(0, more=lambda draw, s: (draw(axes(len(s))),)))
sample(
    "roll",
    mg.roll,
    np.roll,
    with_axis(
        more=lambda draw, s: draw(
            st.one_of(
                st.tuples(st.integers(-7, 7), st.one_of(st.none(), one_axis(len(s)))),
                st.tuples(st.just((1, -2)), st.just((0, len(s) - 1))),
            )
        )
    ),
)
sample(
    "concatenate",
    lambda *parts, axis: mg.concatenate(parts, axis),
    lambda *parts, axis: np.concatenate(parts, axis),
    several("concatenate"),
)
sample(
    "stack",
    lambda *parts, axis: mg.stack(parts, axis),
    lambda *parts, axis: np.stack(parts, axis),
    several("stack"),
)
sample("split", mg.split, np.split, split_arguments())
sample("pad", mg.pad, np.pad, pad_arguments())
sample(
    "tile",
    mg.tile,
    np.tile,
    with_axis(
        0, more=lambda draw, s: (draw(st.sampled_from([0, 2, (2, 1), (1, 3, 2), (2, 1, 1, 2)])),)
    ),
)
sample("repeat", mg.repeat, np.repeat, repeat_arguments())
sample("identity", shape.identity, lambda x: x, with_axis(0))
sample("sum_to", shape.sum_to, np_sum_to, summed_back())


def kept_precise(x, dtype):
    return x.astype(dtype)


sample(
    "astype",
    mg.astype,
    kept_precise,
    with_axis(0, more=lambda draw, s: (np.dtype(np.float64),)),
)
sample(
    "astype to integers",
    mg.astype,
    kept_precise,
    with_axis(0, more=lambda draw, s: (np.dtype(np.int32),)),
    order=0,
)

# --- indexing ------------------------------------------------------------------------------------


def places(draw, n, of):
    return np.array(draw(st.lists(st.integers(-n, n - 1), min_size=8, max_size=8)))[
        np.arange(int(np.prod(of))) % 8
    ].reshape(of)


@st.composite
def take_arguments(draw):
    size = draw(shapes(1, min_side=1))
    axis = draw(st.one_of(st.none(), *one(size)))
    n = int(np.prod(size)) if axis is None else size[axis]
    return (draw(view(size)), places(draw, n, draw(shapes(0, 2, 0, 3)))), {"axis": axis}


@st.composite
def along_arguments(draw, values=False, extra_axes=True):
    size = draw(shapes(1, min_side=1))
    axis = draw(one_axis(len(size)))
    of = list(size)
    of[axis] = draw(st.integers(0, 4))
    if extra_axes:  # an axis of size 1 stands for all
        of = [1 if i != axis % len(size) and draw(st.booleans()) else n for i, n in enumerate(of)]
    x, where = draw(view(size)), places(draw, size[axis], tuple(of))
    if not values:
        return (x, where), {"axis": axis}
    return (x, where, draw(view(tuple(of)))), {"axis": axis}


def np_put_along_axis(x, where, values, axis):
    out = x.copy()
    np.put_along_axis(out, where, values, axis)
    return out


def np_put(x, where, values):
    out = x.copy()
    np.put(out, where, values)
    return out


@st.composite
def put_arguments(draw):
    size = draw(shapes(1, min_side=1))
    where = places(draw, int(np.prod(size)), (draw(st.integers(0, 5)),))
    return (draw(view(size)), where, draw(view((len(where),)))), {}


@st.composite
def index_arguments(draw):
    size = draw(shapes(min_side=1))
    return (draw(view(size)),), {"index": draw(indices(size))}


@st.composite
def write_arguments(draw):
    size = draw(shapes(min_side=1))
    where = draw(indices(size))
    target = np.shape(np.zeros(size)[where])
    narrow = tuple(draw(st.sampled_from([n, 1])) for n in target)
    return (draw(view(size)), draw(view(narrow))), {"index": where}


@st.composite
def put_add_arguments(draw):
    size = draw(shapes(min_side=1))
    where = draw(indices(size))
    target = np.shape(np.zeros(size)[where])
    return (draw(view(target)),), {"index": where, "shape": size}


def np_set(x, values, index):
    out = x.copy()
    out[index] = values
    return out


def np_add(x, values, index):
    out = x.copy()
    np.add.at(out, index, values)
    return out


def np_put_add(values, index, shape):
    out = np.zeros(shape, values.dtype)
    np.add.at(out, index, values)
    return out


def with_raw_index(op):
    return lambda *args, index, **params: op(*args, index=raw(index), **params)


raw = index.raw_index

sample("take", mg.take, np.take, take_arguments())
sample("take_along_axis", mg.take_along_axis, np.take_along_axis, along_arguments())
sample(
    "put_along_axis",
    mg.put_along_axis,
    np_put_along_axis,
    along_arguments(values=True, extra_axes=False),
)
sample("scatter", mg.scatter, np_put_along_axis, along_arguments(values=True, extra_axes=False))
sample("put", mg.put, np_put, put_arguments())
sample("sort", mg.sort, np.sort, reduced(apart, some=1, several=False, keeps=False))
sample(
    "argsort",
    mg.argsort,
    lambda x, axis: np.argsort(x, axis, kind="stable"),
    reduced(apart, some=1, several=False, keeps=False),
    order=0,
)
sample("getitem", with_raw_index(index.getitem), lambda x, index: x[index], index_arguments())
sample("at_set", with_raw_index(index.at_set), np_set, write_arguments())
sample("at_add", with_raw_index(index.at_add), np_add, write_arguments())
sample("put_add", with_raw_index(index.put_add), np_put_add, put_add_arguments())

# --- linear algebra ------------------------------------------------------------------------------


@st.composite
def matmul_arguments(draw, batches=True):
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    left, right = draw(broadcastable(2, max_dims=2, max_side=2)) if batches else ((), ())
    a = draw(st.sampled_from([(k,), (*left, n, k)]))
    b = draw(st.sampled_from([(k,), (*right, k, m)]))
    return (draw(view(a)), draw(view(b))), {}


@st.composite
def dot_arguments(draw):
    k = draw(st.integers(0, 3))
    a = (*draw(shapes(0, 2, 0, 3)), k)
    b = draw(st.sampled_from([(k,), (k, 2), (2, k, 3), ()]))
    a = draw(st.sampled_from([a, ()])) if b == () else a
    return (draw(view(a)), draw(view(b))), {}


@st.composite
def tensordot_arguments(draw):
    a = draw(shapes(0, 3, 0, 3))
    if draw(st.booleans()):
        common = draw(st.integers(0, len(a)))
        b = a[len(a) - common :] + draw(shapes(0, 2, 0, 3))
        return (draw(view(a)), draw(view(b)), common), {}
    order = draw(st.permutations(range(len(a))))
    count = draw(st.integers(0, len(a)))
    left = list(order[:count])
    b = tuple(a[i] for i in left) + draw(shapes(0, 1, 0, 3))
    right = [j - len(b) for j in range(count)]
    return (draw(view(a)), draw(view(b)), (left, right)), {}


FORMULAS = [
    "ij,jk->ik", "ij,jk", "ij,jk,kl->il", "ij->ji", "ij->", "ij->i", "ii", "ii->i", "iij->ji",
    "i,j->ij", "i,i", "ij,ij->", "ij,ij->ij", "...ij,...jk->...ik", "...i->...", "i...,i...",
    "ba", "ij,k->ik", "i,i,i->i", "iji->j", ",i->i",
]  # fmt: skip


@st.composite
def einsum_arguments(draw):
    formula = draw(st.sampled_from(FORMULAS))
    sizes = {name: draw(st.integers(0, 3)) for name in "abijkl"}
    dots = draw(shapes(0, 2, 0, 2)) if "..." in formula else ()
    operands = []
    for term in formula.split("->")[0].split(","):
        before, dotted, after = term.partition("...")
        middle = dots if dotted else ()
        of = (*(sizes[c] for c in before), *middle, *(sizes[c] for c in after))
        operands.append(draw(view(of)))
    return tuple(operands), {"formula": formula}


@st.composite
def diagonal_arguments(draw):
    size = draw(shapes(2))
    first, second = draw(st.permutations(range(len(size))))[:2]
    return (
        draw(view(size)),
        draw(st.integers(-2, 2)),
        first - draw(st.sampled_from([0, len(size)])),
        second,
    ), {}


@st.composite
def norm_arguments(draw):
    keepdims = draw(st.booleans())
    size = draw(shapes(1, 2, 1))
    vector = one_axis(len(size)) if len(size) > 1 else st.one_of(st.none(), one_axis(1))
    form = draw(st.sampled_from(["plain", "fro", "vector"]))
    if form == "plain":
        axis = draw(st.one_of(axes(len(size))))
        return (draw(view(size, NONZERO)),), {"axis": axis, "keepdims": keepdims}
    if form == "fro":
        x = draw(view((2, *size), NONZERO))
        return (x,), {"ord": "fro", "axis": (0, -1), "keepdims": keepdims}
    order = draw(st.sampled_from([1, 2, 3, 2.5, np.inf]))
    positive = distinct(size).map(lambda x: x - x.min() + 0.3)
    return (draw(positive),), {"ord": order, "axis": draw(vector), "keepdims": keepdims}


@st.composite
def square_matrices(draw, matrices=well_conditioned):
    batch = draw(shapes(0, 2, 0, 2))
    return (draw(matrices(draw(st.integers(1, 3)), batch)),), {}


@st.composite
def solve_arguments(draw):
    n = draw(st.integers(1, 3))
    left, right = draw(broadcastable(2, max_dims=1, max_side=2))
    a = draw(well_conditioned(n, left))
    b = draw(st.sampled_from([(n,), (*right, n, draw(st.integers(0, 2)))]))
    return (a, draw(view(b))), {}


def symmetric(x):
    """NumPy's Cholesky reads one triangle only; its derivative is that by symmetric matrices."""
    return (x + mg.swapaxes(x, -1, -2)) * 0.5


sample("matmul", mg.matmul, np.matmul, matmul_arguments())
sample("dot", mg.dot, np.dot, dot_arguments())
sample("tensordot", mg.tensordot, np.tensordot, tensordot_arguments())
sample(
    "einsum",
    lambda *operands, formula: mg.einsum(formula, *operands),
    lambda *operands, formula: np.einsum(formula, *operands),
    einsum_arguments(),
)
sample("outer", mg.outer, np.outer, call(view(shapes(0, 2)), view(shapes(0, 2))))
sample("trace", mg.trace, np.trace, diagonal_arguments())
sample("diagonal", mg.diagonal, np.diagonal, diagonal_arguments())
sample("norm", mg.norm, np.linalg.norm, norm_arguments())
sample("inv", mg.inv, np.linalg.inv, square_matrices())
sample("det", mg.det, np.linalg.det, square_matrices())
sample("solve", mg.solve, np.linalg.solve, solve_arguments())
sample(
    "cholesky",
    lambda x: mg.cholesky(symmetric(x)),
    lambda x: np.linalg.cholesky((x + np.swapaxes(x, -1, -2)) * 0.5),
    square_matrices(positive_definite),
)
