"""Indexing: reading, functional writing, gathering, scattering and sorting.

Reading `x[index]` and adding into zeros at `index` are adjoint: each is the other's rule.  Writing
never changes an array in place: `at(x)[index].set(v)` gives a new tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Variable, op, raw
from minigrad.effects import alias, constant, value
from minigrad.ops.elementwise import keep


class IndexedGradient:
    """A gradient that is zero except at an index: added into one buffer, never spread out.

    So a loop that reads slice after slice of one tensor is linear in its length.
    """

    __slots__ = ("dtype", "g", "index", "shape")

    def __init__(self, g: Any, index: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self.g = g
        self.index = index
        self.shape = shape
        self.dtype = dtype

    def zeros(self) -> Any:
        """A buffer to add to."""
        return backend.device_of(self.g).module.zeros(self.shape, self.dtype)

    def add_to(self, buffer: Any) -> None:
        """Add this gradient to `buffer`, in place."""
        add_at(buffer, self.index, self.g)


def add_at(buffer: Any, index: Any, values: Any) -> None:
    """`buffer[index] += values`, in place, where repeated indices add up."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, np.ndarray) and p.dtype != bool for p in parts):
        np.add.at(buffer, index, values)
    else:
        buffer[index] += values


def raw_index(index: Any) -> Any:
    """An index with tensors in it, as NumPy takes it."""
    if isinstance(index, tuple):
        return tuple([_raw_part(part) for part in index])
    return _raw_part(index)


def _raw_part(part: Any) -> Any:
    if isinstance(part, list):
        plain = not any(isinstance(p, Variable) for p in part)
        part = np.asarray([raw(p) for p in part])
        if part.size == 0:
            part = part.astype(np.intp)
        if plain:
            constant(part)
    part = backend.on_cpu(raw(part))
    if not isinstance(part, np.ndarray):
        return part
    if part.dtype.kind == "f":
        raise TypeError(
            f"an index must be of integers or booleans, not {part.dtype}: convert it with "
            ".astype(int)"
        )
    return alias(part.copy(), part)  # the rules need it as it is now


def _spread(g: Any, shape: tuple[int, ...], index: Any) -> Any:
    """The adjoint of reading at `index`: lazily where no graph of it is wanted."""
    if isinstance(g, Variable):
        return put_add(g, shape=shape, index=index)
    return IndexedGradient(g, index, shape, None)


def _put_add(values: Any, *, shape: tuple[int, ...], index: Any) -> Any:
    buffer = backend.device_of(values).module.zeros(shape, values.dtype)
    add_at(buffer, index, values)
    return buffer


getitem = op(
    "getitem",
    lambda x, *, index: x[index],
    lambda g, x_shape, index: _spread(g, x_shape, index),
    gate="selects",
    view=True,
)
put_add = op("put_add", _put_add, lambda g, index: getitem(g, index=index), inputs="values")


def _set(x: Any, values: Any, *, index: Any) -> Any:
    out = np.copy(x)
    values = backend.array_of(values)
    if out.dtype.kind != "f" and values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = values.astype(out.dtype)
        if np.any(whole != values):
            raise TypeError(
                f"at[...].set: a tensor of {out.dtype} would cut off these values of "
                f"{values.dtype}; convert it with .astype(...) first"
            )
    out[index] = values
    return out


def _last_written(shape: tuple[int, ...], index: Any) -> Any:
    """Which of the values survive an assignment whose index names an element twice."""
    target = np.zeros(shape, np.intp)
    numbers = np.arange(target[index].size).reshape(np.shape(target[index]))
    target[index] = numbers
    return target[index] == numbers


_at_set: Op = op(
    "at_set",
    _set,
    lambda g, index: at_set(g, 0.0, index=index),
    lambda g, x_shape, index: keep(getitem(g, index=index), _last_written(x_shape, index)),
    inputs="x values",
    gate="selects",
)


def at_set(x: Any, values: Any, *, index: Any) -> Any:
    """A copy of `x` with `values` at `index`."""
    if isinstance(values, Variable) and values.requires_grad:
        dtype = np.result_type(raw(x))
        if dtype.kind != "f":
            raise TypeError(
                f"at[...].set: the values require a gradient, which a tensor of {dtype} cannot "
                "carry; convert it with .astype(...) first"
            )
    return _at_set(x, values, index=index)


def _add(x: Any, values: Any, *, index: Any) -> Any:
    out = backend.array_of(x).astype(np.result_type(x, values))
    add_at(out, index, values)
    return out


at_add = op(
    "at_add", _add, lambda g: g, lambda g, index: getitem(g, index=index), inputs="x values"
)


class At:
    """`x.at[index]`: the place of a functional write.

    `.set(v)`, `.add(v)` and `.multiply(v)` return a new tensor in which the elements at `index`
    are changed; `x` stays as it is, and gradients flow to `x` and to `v`.  Where an index names
    an element twice, `add` adds both and `set` keeps the last.

    >>> import minigrad
    >>> x = minigrad.tensor([1.0, 2.0, 3.0])
    >>> x.at[1:].set(0.0)
    tensor([1., 0., 0.])
    >>> x.at[[0, 0]].add(10.0)
    tensor([21.,  2.,  3.])
    """

    __slots__ = ("_index", "_x")

    def __init__(self, x: Any, index: Any = ()) -> None:
        self._x = x
        self._index = index

    def __getitem__(self, index: Any) -> At:
        return At(self._x, raw_index(index))

    def set(self, values: Any) -> Any:
        """The tensor with `values` at the index."""
        return at_set(self._x, values, index=self._index)

    def add(self, values: Any) -> Any:
        """The tensor with `values` added at the index, repeated places added up."""
        return at_add(self._x, values, index=self._index)

    def multiply(self, values: Any) -> Any:
        """The tensor with the elements at the index multiplied by `values`."""
        return self.set(getitem(self._x, index=self._index) * values)


def _axis_index(shape: tuple[int, ...], indices: np.ndarray, axis: int) -> tuple:
    """What `take_along_axis` means, as an advanced index."""
    full = [constant(part) for part in np.ogrid[tuple(slice(n) for n in shape)]]
    full[axis] = indices
    return tuple(full)


def _integers(name: str, indices: Any) -> np.ndarray:
    given = backend.on_cpu(raw(indices))
    indices = np.array(given)  # a copy, as it is now
    indices = alias(indices, given) if isinstance(given, np.ndarray) else constant(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, not {indices.dtype}")
    return indices


def _as_many_axes(name: str, indices: np.ndarray, shape: tuple[int, ...]) -> None:
    if indices.ndim != len(shape):
        raise ValueError(
            f"{name}: indices have {indices.ndim} axes, x has {len(shape)}; they must have as many"
        )


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Elements (or slices along `axis`) at integer positions, as `numpy.take`.

    Args:
        x: of any shape.
        indices: integers of any shape; negative ones count from the end.
        axis: along which; None reads from the flattened `x`.
    """
    from minigrad.ops.shape import ravel

    indices = _integers("take", indices)
    if axis is None:
        return getitem(ravel(x), index=indices)
    axis = _normal_axis("take", axis, np.ndim(raw(x)))
    return getitem(x, index=(slice(None),) * axis + (indices,))


def take_along_axis(x: Any, indices: Any, axis: int) -> Any:
    """`x` at one index per position along `axis`, as `numpy.take_along_axis`."""
    indices = _integers("take_along_axis", indices)
    shape = np.shape(raw(x))
    _as_many_axes("take_along_axis", indices, shape)
    axis = _normal_axis("take_along_axis", axis, len(shape))
    return getitem(x, index=_axis_index(shape, indices, axis))


def put_along_axis(x: Any, indices: Any, values: Any, axis: int) -> Any:
    """A copy of `x` with `values` at one index per position along `axis` (scatter).

    As `numpy.put_along_axis`, but the result is returned and `x` is not changed.
    """
    indices = _integers("put_along_axis", indices)
    shape = np.shape(raw(x))
    _as_many_axes("put_along_axis", indices, shape)
    axis = _normal_axis("put_along_axis", axis, len(shape))
    return at_set(x, values, index=_axis_index(shape, indices, axis))


scatter = put_along_axis


def put(x: Any, indices: Any, values: Any) -> Any:
    """A copy of `x` with `values` at positions of the flattened array.

    As `numpy.put`, but the result is returned, and values are broadcast, not repeated in a circle.
    """
    from minigrad.ops.shape import ravel, reshape

    indices = _integers("put", indices)
    return reshape(at_set(ravel(x), values, index=indices), np.shape(raw(x)))


def argsort(x: Any, axis: int | None = -1) -> Any:
    """Positions that sort `x` along `axis`, ascending and stable; integers, no gradient.

    None sorts the flattened `x`.
    """
    return _argsort(x, axis=axis)


@value
def _sorting(x: Any, axis: int | None) -> Any:
    return _stable_argsort(x, axis=axis)


def _stable_argsort(x: Any, *, axis: int | None) -> Any:
    return np.argsort(x, axis=axis, kind="stable")


_argsort = Op("argsort", _stable_argsort, inputs=("x",), differentiable=(False,))


def sort(x: Any, axis: int | None = -1) -> Any:
    """`x` sorted ascending along `axis`; each gradient goes back to where its value came from.

    None sorts the flattened `x`.
    """
    from minigrad.ops.shape import ravel

    if axis is None:
        x, axis = ravel(x), 0
    axis = _normal_axis("sort", axis, np.ndim(raw(x)))
    return take_along_axis(x, _sorting(raw(x), axis), axis)


def _normal_axis(name: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: axis {axis} is out of bounds for {ndim} axes")
    return axis % ndim
