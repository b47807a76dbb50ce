"""Testing functions of tensors: Hypothesis strategies for shapes, axes, indices, arrays and views,
and `check_op`, which holds an op to a reference and to its own derivatives.

It needs Hypothesis: `pip install "minigrad[test]"`.

A strategy draws shapes and a seed, and NumPy draws the values.  So a failing example shrinks to
small shapes, and its values stay ordinary numbers, inside the domain asked for.

>>> import minigrad, numpy as np
>>> from hypothesis import given, strategies as st
>>> @given(st.data())
... def test_log(data):
...     x = data.draw(arrays(shapes(), POSITIVE))
...     check_op(minigrad.log, np.log, x)
>>> test_log()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hn
except ImportError as error:
    raise ImportError(
        "minigrad.testing needs Hypothesis, which the extra `test` installs: pip install "
        '"minigrad[test]"'
    ) from error

from minigrad import check
from minigrad.core import raw
from minigrad.ops import index, shape
from minigrad.tensor import Tensor, tensor

__all__ = [
    "NONZERO",
    "POSITIVE",
    "REAL",
    "UNIT",
    "Domain",
    "View",
    "arrays",
    "axes",
    "broadcastable",
    "check_op",
    "distinct",
    "indices",
    "one_axis",
    "positive_definite",
    "shapes",
    "views",
    "well_conditioned",
]

Shape = tuple[int, ...]


# --- shapes, axes, indices -----------------------------------------------------------------------


def shapes(
    min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> st.SearchStrategy[Shape]:
    """Shapes, also without axes and with axes of size 0 and 1.

    Args:
        min_dims, max_dims: how many axes.
        min_side, max_side: their sizes.
    """
    return hn.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def broadcastable(
    count: int = 2, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> st.SearchStrategy[tuple[Shape, ...]]:
    """So many shapes that broadcast together: with axes missing, of size 1, and of size 0."""
    found = hn.mutually_broadcastable_shapes(
        num_shapes=count, max_dims=max_dims, min_side=min_side, max_side=max_side
    )
    return found.map(lambda both: both.input_shapes)


def axes(ndim: int) -> st.SearchStrategy[Any]:
    """What a reduction takes as `axis`: None, one axis, or several; counted from either end."""
    choices: list[st.SearchStrategy[Any]] = [st.none()]
    if ndim:
        choices += [one_axis(ndim), hn.valid_tuple_axes(ndim, min_size=1)]
    return st.one_of(choices)


def one_axis(ndim: int) -> st.SearchStrategy[int]:
    """One axis of `ndim` (at least 1), counted from either end."""
    return st.integers(-ndim, ndim - 1)


@st.composite
def indices(draw: st.DrawFn, of: Shape) -> Any:
    """Anything that can stand in `x[...]` for an array of this shape.

    Numbers, slices, `...`, `newaxis`, arrays of integers (with repeats and negative ones) and of
    booleans, alone or mixed.
    """
    kind = draw(st.sampled_from(["basic", "integers", "mask", "mixed"]))
    if kind == "basic":
        return draw(hn.basic_indices(of, allow_newaxis=True, allow_ellipsis=True))
    if kind == "integers" and of and of[0]:
        whole = draw(hn.arrays(np.intp, shapes(0, 2, 0, 3), elements=_places(of[0])))
        return draw(st.sampled_from([whole, whole.tolist()]))
    if kind == "mask":
        return draw(hn.arrays(np.bool_, of[: draw(st.integers(0, len(of)))]))
    common = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 3)]))
    parts: list[Any] = []
    for n in of[: draw(st.integers(0, len(of)))]:
        choices: list[st.SearchStrategy[Any]] = [st.slices(n)]
        if n:
            choices += [_places(n), hn.arrays(np.intp, common, elements=_places(n))]
        parts.append(draw(st.one_of(choices)))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), np.newaxis)
    if draw(st.booleans()):
        # Behind the last given axis, the ellipsis stands for the others.
        parts.append(Ellipsis)
    return tuple(parts)


def _places(n: int) -> st.SearchStrategy[int]:
    return st.integers(-n, n - 1)


# --- values --------------------------------------------------------------------------------------


class Domain(NamedTuple):
    """Where values are drawn from: an interval, but not next to its holes.

    Attributes:
        low, high: the ends of the interval.
        holes: points to stay away from, such as kinks and poles.
        gap: how far away.
    """

    low: float = -2.0
    high: float = 2.0
    holes: tuple[float, ...] = ()
    gap: float = 0.1

    def sample(self, rng: np.random.Generator, of: Shape) -> np.ndarray:
        """Values of this shape, float64."""
        values = rng.uniform(self.low, self.high, of)
        for hole in self.holes:
            near = np.abs(values - hole) < self.gap
            values = np.where(near, hole + np.where(values < hole, -1, 1) * self.gap, values)
        return values


REAL = Domain()
POSITIVE = Domain(0.2, 3.0)
UNIT = Domain(-0.9, 0.9)
NONZERO = Domain(-2.0, 2.0, holes=(0.0,))

_seeds = st.integers(0, 2**32 - 1)


def _generators() -> st.SearchStrategy[np.random.Generator]:
    return _seeds.map(np.random.default_rng)


@st.composite
def arrays(
    draw: st.DrawFn,
    of: Shape | st.SearchStrategy[Shape],
    domain: Domain = REAL,
    dtype: Any = np.float64,
) -> np.ndarray:
    """Contiguous arrays with values in a domain.

    Args:
        of: the shape, or a strategy for it.
        domain: where the values lie.
        dtype: what they are rounded to.
    """
    size = draw(of) if isinstance(of, st.SearchStrategy) else of
    return domain.sample(draw(_generators()), size).astype(dtype)


@st.composite
def distinct(draw: st.DrawFn, of: Shape | st.SearchStrategy[Shape], gap: float = 0.1) -> Any:
    """Contiguous float64 arrays without ties: any two values are at least `gap` apart, and each
    at least `gap` / 2 from 0.
    """
    size = draw(of) if isinstance(of, st.SearchStrategy) else of
    rng = draw(_generators())
    count = int(np.prod(size))
    steps = np.arange(count) - count // 2 + 0.5
    return (rng.permutation(steps) * gap * rng.uniform(1.0, 3.0)).reshape(size)


@st.composite
def well_conditioned(draw: st.DrawFn, n: int, batch: Shape = ()) -> np.ndarray:
    """Square matrices `(*batch, n, n)` that can be inverted without losing digits."""
    rng = draw(_generators())
    u, _ = np.linalg.qr(rng.normal(size=(*batch, n, n)))
    v, _ = np.linalg.qr(rng.normal(size=(*batch, n, n)))
    return (u * rng.uniform(0.5, 2.0, (*batch, 1, n))) @ v


@st.composite
def positive_definite(draw: st.DrawFn, n: int, batch: Shape = ()) -> np.ndarray:
    """Symmetric positive definite matrices `(*batch, n, n)`."""
    half = draw(well_conditioned(n, batch))
    return half @ np.swapaxes(half, -1, -2)


# --- memory --------------------------------------------------------------------------------------


class View(NamedTuple):
    """An array of a wanted shape that lies in memory in some uncommon way.

    Attributes:
        base: a contiguous array.
        apply: makes the view of it, on arrays as on tensors (and then differentiably).
        kind: "contiguous", "transposed", "strided", "reversed" or "broadcast" (zero strides).
    """

    base: np.ndarray
    apply: Callable[[Any], Any]
    kind: str

    @property
    def array(self) -> np.ndarray:
        """The view itself."""
        return self.apply(self.base)


@st.composite
def views(
    draw: st.DrawFn,
    of: Shape | st.SearchStrategy[Shape],
    values: Callable[[Shape], st.SearchStrategy[np.ndarray]] = arrays,
    ties: bool = True,
) -> View:
    """Arrays of a shape, contiguous and not.

    Args:
        of: the shape, or a strategy for it.
        values: makes a strategy for the values of a shape, such as `arrays` or `distinct`.
        ties: whether a value may stand at several places, as in a broadcast array.
    """
    size = draw(of) if isinstance(of, st.SearchStrategy) else of
    kinds = ["contiguous"]
    if size:
        kinds += ["transposed", "strided", "reversed"] + (["broadcast"] if ties else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "transposed":
        return View(draw(values(size[::-1])), shape.transpose, kind)
    if kind == "strided":
        every = (..., slice(None, None, 2))
        base = draw(values((*size[:-1], 2 * size[-1])))
        return View(base, lambda t: index.getitem(t, index=every), kind)
    if kind == "reversed":
        return View(draw(values(size)), shape.flip, kind)
    if kind == "broadcast":
        narrow = [draw(st.sampled_from([n, 1])) for n in size]
        # Leading axes may be missing altogether.
        while narrow and narrow[0] == 1 and draw(st.booleans()):
            narrow.pop(0)
        return View(draw(values(tuple(narrow))), lambda t: shape.broadcast_to(t, size), kind)
    return View(draw(values(size)), lambda t: t, kind)


# --- holding an op to what it should be ----------------------------------------------------------


def check_op(
    f: Callable,
    reference: Callable,
    *args: Any,
    order: int = 2,
    rtol: float = 1e-9,
    directions: int | None = 2,
    **params: Any,
) -> None:
    """Hold a function to a reference: value, dtype, and derivatives.

    The reference is called with arrays; `f` with arrays and with tensors.  Both must agree on
    structure, shape, dtype and values, for float64 and (in its precision) float32.  Then the
    derivatives of `f` are checked against differences.

    Args:
        f: the function under test.
        reference: the same for NumPy.
        args: arrays or `View`s become tensors; everything else is handed on as it is.
        order: check derivatives of orders 1 to `order`; 0 for none.
        rtol: accepted relative difference of values in float64.
        directions: see `minigrad.check_gradients`.
        params: keyword arguments for both.

    Raises:
        AssertionError: value, shape or dtype differ, or a derivative is wrong.
    """
    plain = [a.array if isinstance(a, View) else a for a in args]
    places = [i for i, a in enumerate(plain) if isinstance(a, np.ndarray)]

    def called(values: Sequence[Any]) -> Any:
        whole = list(plain)
        for i, value in zip(places, values, strict=True):
            given = args[i]
            whole[i] = given.apply(value) if isinstance(given, View) else value
        return f(*whole, **params)

    bases = [a.base if isinstance(a, View) else a for a in (args[i] for i in places)]
    with np.errstate(all="ignore"):
        wanted = reference(*plain, **params)
        same_values(f(*plain, **params), wanted, rtol)
        same_values(called([tensor(b) for b in bases]), wanted, rtol)
        if any(b.dtype == np.float64 for b in bases):
            bases32 = [b.astype(np.float32) if b.dtype == np.float64 else b for b in bases]
            rounded = [
                a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a
                for a in plain
            ]
            wanted32 = reference(*rounded, **params)
            same_values(called([tensor(b) for b in bases32]), wanted32, 1e-3, atol=1e-4)
    if order and any(b.dtype.kind == "f" for b in bases):
        check.check_gradients(
            lambda *values: called(values), *bases, order=order, directions=directions
        )


def same_values(found: Any, wanted: Any, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    """Compare with a reference: tuples part by part, arrays by shape, dtype and values.

    Raises:
        AssertionError: they differ.
    """
    if isinstance(wanted, (tuple, list)):
        assert len(found) == len(wanted), f"{len(found)} results instead of {len(wanted)}"
        for one, other in zip(found, wanted, strict=True):
            same_values(one, other, rtol, atol)
        return
    array = found.numpy() if isinstance(found, Tensor) else np.asarray(raw(found))
    other = np.asarray(wanted)
    assert array.shape == other.shape, f"shape {array.shape} instead of {other.shape}"
    assert array.dtype == other.dtype, f"dtype {array.dtype} instead of {other.dtype}"
    np.testing.assert_allclose(array, other, rtol=rtol, atol=atol)
