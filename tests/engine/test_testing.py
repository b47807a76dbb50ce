"""minigrad.testing: the strategies keep their promises, and check_op finds what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

import minigrad as mg
from minigrad import op
from minigrad.testing import (
    NONZERO,
    POSITIVE,
    UNIT,
    Domain,
    View,
    arrays,
    axes,
    broadcastable,
    check_op,
    distinct,
    indices,
    one_axis,
    positive_definite,
    same_values,
    shapes,
    views,
    well_conditioned,
)

search = settings(
    max_examples=1000,
    phases=[Phase.generate],
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def reaches(strategy, condition):
    """Whether a strategy draws something with this property."""
    try:
        find(strategy, condition, settings=search)
    except NoSuchExample:
        return False
    return True


# --- shapes, axes, indices -----------------------------------------------------------------------


@given(shapes(1, 2, 1, 3))
def test_shapes_keep_their_bounds(size):
    assert 1 <= len(size) <= 2 and all(1 <= n <= 3 for n in size)


@pytest.mark.parametrize(
    "condition",
    [lambda s: s == (), lambda s: 0 in s, lambda s: 1 in s, lambda s: len(s) == 3 and 0 not in s],
    ids=["no axes", "size 0", "size 1", "three axes"],
)
def test_shapes_reach_the_corners(condition):
    assert reaches(shapes(), condition)


@given(broadcastable(3))
def test_broadcastable_shapes_broadcast(sizes):
    assert len(sizes) == 3
    np.broadcast_shapes(*sizes)


def test_broadcastable_shapes_reach_the_corners():
    pairs = broadcastable(2)
    assert reaches(pairs, lambda p: len(p[0]) < len(p[1]))
    assert reaches(pairs, lambda p: p[0] != p[1] and len(p[0]) == len(p[1]) > 0)
    assert reaches(pairs, lambda p: p[0] == p[1] and len(p[0]) > 1)
    assert reaches(pairs, lambda p: 0 in np.broadcast_shapes(*p))


@given(st.data())
def test_axes_are_valid(data):
    size = data.draw(shapes())
    np.sum(np.zeros(size), axis=data.draw(axes(len(size))))
    if size:
        np.cumsum(np.zeros(size), axis=data.draw(one_axis(len(size))))


def test_axes_reach_the_corners():
    for condition in (
        lambda a: a is None,
        lambda a: isinstance(a, int) and a < 0,
        lambda a: isinstance(a, int) and a > 0,
        lambda a: isinstance(a, tuple) and len(a) == 2,
        lambda a: isinstance(a, tuple) and len(a) == 3 and min(a) < 0,
    ):
        assert reaches(axes(3), condition)


@given(st.data())
def test_indices_index(data):
    size = data.draw(shapes())
    np.zeros(size)[data.draw(indices(size))]


def parts(index):
    return index if isinstance(index, tuple) else (index,)


@pytest.mark.parametrize(
    "condition",
    [
        lambda i: any(p is np.newaxis for p in parts(i)),
        lambda i: any(p is Ellipsis for p in parts(i)),
        lambda i: isinstance(i, list),
        lambda i: any(isinstance(p, np.ndarray) and p.dtype == bool for p in parts(i)),
        lambda i: any(isinstance(p, np.ndarray) and p.dtype == np.intp for p in parts(i)),
        lambda i: sum(isinstance(p, np.ndarray) for p in parts(i)) == 2,
        lambda i: any(isinstance(p, slice) and (p.step or 1) < 0 for p in parts(i)),
        lambda i: any(isinstance(p, int) and p < 0 for p in parts(i)),
        lambda i: isinstance(i, np.ndarray) and len(set(i.ravel().tolist())) < i.size,
        lambda i: (
            any(isinstance(p, np.ndarray) for p in parts(i))
            and any(isinstance(p, slice) for p in parts(i))
        ),
    ],
    ids="newaxis ellipsis list mask integers two-arrays reversed negative repeated mixed".split(),
)
def test_indices_reach_the_corners(condition):
    assert reaches(indices((2, 3)), condition)


# --- values --------------------------------------------------------------------------------------


@given(arrays(shapes(), Domain(-2, 2, holes=(0.0, 1.0), gap=0.2), np.float32))
def test_arrays_lie_in_their_domain(x):
    assert x.dtype == np.float32
    assert (np.abs(x) <= 2.2).all()
    assert (np.abs(x) > 0.199).all() and (np.abs(x - 1) > 0.199).all()


def test_the_named_domains():
    rng = np.random.default_rng(0)
    assert (POSITIVE.sample(rng, (1000,)) > 0.1).all()
    assert (np.abs(UNIT.sample(rng, (1000,))) < 0.95).all()
    assert (np.abs(NONZERO.sample(rng, (1000,))) > 0.09).all()


@given(distinct(shapes(), gap=0.1))
def test_distinct_values_are_apart(x):
    assert (np.diff(np.sort(x, axis=None)) > 0.0999).all() and (np.abs(x) > 0.0499).all()


@given(st.data())
def test_matrices_are_what_they_are_called(data):
    n, batch = data.draw(st.integers(1, 3)), data.draw(shapes(0, 2, 0, 2))
    a, s = data.draw(well_conditioned(n, batch)), data.draw(positive_definite(n, batch))
    assert a.shape == s.shape == (*batch, n, n)
    if a.size:
        assert np.linalg.cond(a).max() < 4.1
        assert np.linalg.eigvalsh(s).min() > 0.2
    np.testing.assert_allclose(s, np.swapaxes(s, -1, -2), atol=1e-12)


# --- memory --------------------------------------------------------------------------------------


@given(st.data())
def test_views_have_the_wanted_shape_on_arrays_and_tensors(data):
    size = data.draw(shapes())
    view = data.draw(views(size))
    assert view.array.shape == size
    x = mg.tensor(view.base, requires_grad=True)
    y = view.apply(x)
    np.testing.assert_array_equal(y.numpy(), view.array)
    if view.kind != "contiguous":
        assert np.shares_memory(y.numpy(), x.numpy()) or y.size == 0
    y.sum().backward()
    assert x.grad.shape == x.shape


@given(views((2, 3), distinct, ties=False))
def test_views_without_ties_repeat_nothing(view):
    assert 0 not in view.array.strides and len(np.unique(view.array)) == 6


def test_views_reach_every_kind_of_memory():
    size = (2, 3)
    for kind in ("contiguous", "transposed", "strided", "reversed", "broadcast"):
        assert reaches(views(size), lambda v, kind=kind: v.kind == kind)
    assert reaches(views(size), lambda v: 0 in v.array.strides)
    assert reaches(views(size), lambda v: min(v.array.strides) < 0)
    assert reaches(views(size), lambda v: v.array.flags.f_contiguous)


# --- check_op ------------------------------------------------------------------------------------

X = np.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize(
    "f, reference, words",
    [
        (mg.sin, np.cos, "Not equal to tolerance"),
        (lambda x: mg.sin(x)[:1], np.sin, "shape"),
        (lambda x: mg.astype(x, np.float64), np.sin, "Not equal|dtype"),
        (lambda x: (mg.sin(x), x), lambda x: (np.sin(x),), "2 results instead of 1"),
        (lambda x: mg.sin(x) * np.float64(1.0), np.sin, "dtype float64 instead of float32"),
        (op("sin", np.sin, lambda g, x: g * mg.sin(x)), np.sin, "order 1"),
        (op("sin", np.sin, lambda g, x: g * np.cos(getattr(x, "_data", x))), np.sin, "order 2"),
        (
            # Right on arrays, wrong on tensors.
            lambda x: mg.sin(x) if isinstance(x, np.ndarray) else mg.sin(x) * 2.0,
            np.sin,
            "Not equal",
        ),
    ],
)
def test_check_op_finds_what_is_wrong(f, reference, words):
    with pytest.raises(AssertionError, match=words):
        check_op(f, reference, X)


def test_check_op_passes_what_is_right_and_hands_on_the_rest():
    check_op(mg.roll, np.roll, X, 1)
    check_op(mg.sum, np.sum, X[None], axis=0, keepdims=True)
    check_op(mg.argmax, np.argmax, X, order=0)
    check_op(mg.take, np.take, X, np.array([0, 0]))


def test_check_op_sees_an_op_that_trusts_its_memory():
    """A kernel that reads memory in order is right on contiguous arrays only."""

    def careless(x):
        flat = np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,))
        return np.sin(flat).reshape(x.shape)

    f = op("careless", careless, lambda g, x: g * mg.cos(x))
    check_op(f, np.sin, np.arange(6.0).reshape(2, 3))
    base = np.arange(6.0).reshape(3, 2)
    with pytest.raises(AssertionError, match="Not equal"):
        check_op(f, np.sin, View(base, mg.transpose, "transposed"))


def test_same_values_takes_nan_for_nan():
    same_values(mg.tensor([np.nan, np.inf]), np.array([np.nan, np.inf], np.float32))
    same_values((mg.scalar(1.0), [np.ones(2)]), (1.0, [np.ones(2)]))
    with pytest.raises(AssertionError):
        same_values(mg.tensor([np.nan]), np.array([0.0], np.float32))


def test_without_hypothesis_the_extra_is_named():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import minigrad\n"
        "try:\n"
        "    minigrad.testing\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert 'pip install "minigrad[test]"' in found.stdout
    assert "needs Hypothesis" in found.stdout
