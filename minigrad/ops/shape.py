"""Shape: the same elements in another arrangement.  Every rule undoes the arrangement.

Also what the engine itself needs: `identity`, `astype` and `sum_to`, the adjoint of broadcasting.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from minigrad import backend
from minigrad.core import Op, Saved, Variable, op, raw
from minigrad.effects import constant
from minigrad.ops.index import _normal_axis, getitem, take

Shape = int | Sequence[int]

identity = op("identity", lambda x: x, lambda g: g, view=True)

# The gradient is cast back at the graph's edge, like every gradient.  Integers carry none.
_astype = op("astype", lambda x, *, dtype: x.astype(dtype), lambda g: g)
_truncate = Op(
    "astype", lambda x, *, dtype: x.astype(dtype), inputs=("x",), differentiable=(False,)
)

_reshape = op(
    "reshape",
    lambda x, *, shape: x.reshape(shape),
    lambda g, x_shape: reshape(g, x_shape),
    view=True,
)
_transpose = op(
    "transpose",
    lambda x, *, axes: x.transpose(axes),
    lambda g, axes: transpose(g, None if axes is None else tuple(np.argsort(axes))),
    view=True,
)
# Undoing a broadcast is the graph's business, at its edge: the rule has nothing left to do.
_broadcast_to = op(
    "broadcast_to", lambda x, *, shape: np.broadcast_to(x, shape), lambda g: g, view=True
)
_sum_to = op(
    "sum_to",
    lambda x, *, shape: _sum_to_raw(x, shape),
    lambda g, x_shape: broadcast_to(g, x_shape),
)
_flip = op("flip", lambda x, *, axis: np.flip(x, axis), lambda g, axis: flip(g, axis), view=True)
_roll = op(
    "roll",
    lambda x, *, shift, axis: np.roll(x, shift, axis),
    lambda g, shift, axis: roll(g, tuple(-s for s in shift), axis),
)
_pad = op(
    "pad",
    lambda x, *, width, value: np.pad(x, width, constant_values=value),
    lambda g, x_shape, width: getitem(
        g, index=tuple(slice(b, b + n) for (b, _), n in zip(width, x_shape, strict=True))
    ),
)


def astype(x: Any, dtype: Any) -> Any:
    """The same values in another dtype; the gradient comes back in the old one.

    Integers and booleans carry no gradient: the result then requires none.

    Raises:
        TypeError: a dtype of other things than real numbers and booleans.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise TypeError(f"astype: tensors hold real numbers or booleans, not {dtype}")
    return (_astype if dtype.kind == "f" else _truncate)(x, dtype=dtype)


def _sum_to_raw(x: Any, shape: tuple[int, ...]) -> Any:
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1
    )
    total = np.add.reduce(x, axis=axes)
    return total.reshape(shape)


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which `shape` would be broadcast to the shape of `x`."""
    return _sum_to(x, shape=tuple(shape))


def _numbers(value: Shape) -> tuple[int, ...]:
    """One integer or several, Python's or NumPy's, as a tuple."""
    return tuple(operator.index(n) for n in (value if isinstance(value, Iterable) else (value,)))


def _dims(shape: tuple) -> tuple[int, ...]:
    """A shape given as one sequence, or as several integers."""
    if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)):
        shape = tuple(shape[0])
    return tuple(int(n) for n in shape)


def reshape(x: Any, *shape: Any) -> Any:
    """The same elements in another shape; one size may be -1 and follows from the rest.

    Raises:
        ValueError: the number of elements differs.
    """
    new = _dims(shape)
    if not isinstance(x, Variable):
        return np.reshape(x, new)
    try:
        return _reshape(x, shape=new)
    except ValueError:
        old = raw(x).shape
        raise ValueError(
            f"reshape: shape {old} has {raw(x).size} elements, which do not fill shape {new}"
        ) from None


def ravel(x: Any) -> Any:
    """All elements in one axis, last axis fastest."""
    return reshape(x, -1)


def flatten(x: Any) -> Any:
    """All elements in one axis, last axis fastest."""
    return reshape(x, -1)


def transpose(x: Any, *axes: Any) -> Any:
    """Permute the axes; reversed if none are given."""
    if len(axes) == 1 and (axes[0] is None or not isinstance(axes[0], (int, np.integer))):
        axes = () if axes[0] is None else tuple(axes[0])
    ndim = np.ndim(raw(x))
    if not axes:
        return _transpose(x, axes=None)
    return _transpose(x, axes=tuple(int(a) % ndim if -ndim <= a < ndim else int(a) for a in axes))


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes."""
    ndim = np.ndim(raw(x))
    i, j = _normal_axis("swapaxes", axis1, ndim), _normal_axis("swapaxes", axis2, ndim)
    axes = list(range(ndim))
    axes[i], axes[j] = j, i
    return transpose(x, axes)


def moveaxis(x: Any, source: Shape, destination: Shape) -> Any:
    """Move axes to new positions, the others staying in order."""
    ndim = np.ndim(raw(x))
    sources = [_normal_axis("moveaxis", a, ndim) for a in _numbers(source)]
    targets = [_normal_axis("moveaxis", a, ndim) for a in _numbers(destination)]
    if not len(sources) == len(set(sources)) == len(targets) == len(set(targets)):
        raise ValueError(
            f"moveaxis: source {source} and destination {destination} must name as many axes, "
            "each once"
        )
    axes = [i for i in range(ndim) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        axes.insert(target, origin)
    return transpose(x, axes)


def squeeze(x: Any, axis: Shape | None = None) -> Any:
    """Drop axes of size 1: all of them, or the named ones.

    Raises:
        ValueError: a named axis has another size than 1.
    """
    shape = np.shape(raw(x))
    if axis is None:
        return reshape(x, tuple(n for n in shape if n != 1))
    axes = {_normal_axis("squeeze", a, len(shape)) for a in _numbers(axis)}
    for a in axes:
        if shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of shape {shape} has size {shape[a]}, not 1")
    return reshape(x, tuple(n for i, n in enumerate(shape) if i not in axes))


def expand_dims(x: Any, axis: Shape) -> Any:
    """Insert axes of size 1 at these positions of the result."""
    axes = _numbers(axis)
    ndim = np.ndim(raw(x)) + len(axes)
    places = {a % ndim for a in axes}
    if len(places) != len(axes) or any(not -ndim <= a < ndim for a in axes):
        raise ValueError(f"expand_dims: axis {axis} does not name distinct places of {ndim} axes")
    sizes = iter(np.shape(raw(x)))
    return reshape(x, tuple(1 if i in places else next(sizes) for i in range(ndim)))


def broadcast_to(x: Any, shape: Shape) -> Any:
    """Repeat along new axes and axes of size 1 until `shape` is filled, without copying.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return _broadcast_to(x, shape=_numbers(shape))


def flip(x: Any, axis: Shape | None = None) -> Any:
    """Reverse the order along an axis, several, or all."""
    return _flip(x, axis=None if axis is None else _numbers(axis))


def roll(x: Any, shift: Shape, axis: Shape | None = None) -> Any:
    """Shift elements along an axis; what falls off one end comes in at the other."""
    shifts = _numbers(shift)
    if axis is None:
        return reshape(_roll(ravel(x), shift=shifts, axis=(0,)), np.shape(raw(x)))
    axes = _numbers(axis)
    if len(shifts) == 1:
        shifts *= len(axes)
    return _roll(x, shift=shifts, axis=axes)


def _concatenate_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    axis, start, parts = saved.axis, 0, []
    for shape, need in zip(saved.shapes, needs, strict=True):
        place = axis % len(shape)
        stop = start + shape[place]
        index = (slice(None),) * place + (slice(start, stop),)
        parts.append(getitem(g, index=index) if need else None)
        start = stop
    return parts


_concatenate = Op(
    "concatenate",
    lambda *parts, axis: np.concatenate(parts, axis),
    inputs=("*parts",),
    backward=_concatenate_rule,
)


def concatenate(tensors: Sequence, axis: int | None = 0) -> Any:
    """Join tensors along an axis that they have; None joins them flattened.

    Raises:
        ValueError: nothing to join, or shapes that differ elsewhere than along `axis`.
    """
    parts = list(tensors)
    if not parts:
        raise ValueError("concatenate: needs at least one tensor, got none")
    if axis is None:
        return _concatenate(*[ravel(part) for part in parts], axis=0)
    return _concatenate(*parts, axis=axis)


def stack(tensors: Sequence, axis: int = 0) -> Any:
    """Join tensors of one shape along a new axis.

    Raises:
        ValueError: nothing to stack, or shapes that differ.
    """
    parts = list(tensors)
    shapes = {np.shape(raw(part)) for part in parts}
    if len(shapes) != 1:
        raise ValueError(f"stack: needs tensors of one shape, got {sorted(shapes) or 'none'}")
    return concatenate([expand_dims(part, axis) for part in parts], axis)


def split(x: Any, indices_or_sections: Shape, axis: int = 0) -> list:
    """Cut along an axis: into equal sections, or before each of the given positions.

    Raises:
        ValueError: the axis cannot be cut into that many equal sections.
    """
    place = _normal_axis("split", axis, np.ndim(raw(x)))
    size = np.shape(raw(x))[place]
    if isinstance(indices_or_sections, (int, np.integer)):
        n = int(indices_or_sections)
        if n < 1 or size % n:
            raise ValueError(f"split: axis {axis} of size {size} has no {n} equal sections")
        cuts = list(range(0, size + 1, size // n)) if size else [0] * (n + 1)
    else:
        cuts = [0, *(int(i) for i in indices_or_sections), size]
    lead = (slice(None),) * place
    return [getitem(x, index=(*lead, slice(start, stop))) for start, stop in pairwise(cuts)]


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    """Add elements around, as `numpy.pad`.

    Args:
        x: of any shape.
        pad_width: a number, one pair (before, after), or a pair for each axis.
        mode: "constant", or "edge", "reflect", "symmetric", "wrap".
        constant_values: the value of mode "constant".
    """
    shape = np.shape(raw(x))
    try:
        pairs = np.broadcast_to(pad_width, (len(shape), 2))
    except ValueError:
        raise ValueError(
            f"pad: pad_width must be a number, a pair (before, after) or {len(shape)} pairs for "
            f"shape {shape}, got {pad_width}"
        ) from None
    widths = tuple((int(b), int(a)) for b, a in pairs)
    if any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: pad_width must not be negative, got {pad_width}; cut with an index")
    if mode == "constant":
        return _pad(x, width=widths, value=constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(
            f"pad: unknown mode {mode!r}; choose constant, edge, reflect, symmetric or wrap"
        )
    for axis, (pair, n) in enumerate(zip(widths, shape, strict=True)):
        if pair != (0, 0):
            places = constant(np.pad(np.arange(n), pair, mode=cast(Any, mode)))
            x = take(x, places, axis)
    return x


def tile(x: Any, reps: Shape) -> Any:
    """Repeat the whole as a tile along each axis."""
    counts = _numbers(reps)
    ndim = max(np.ndim(raw(x)), len(counts))
    shape = (1,) * (ndim - np.ndim(raw(x))) + np.shape(raw(x))
    counts = (1,) * (ndim - len(counts)) + counts
    paired = tuple(n for size in shape for n in (1, size))
    wide = tuple(n for count, size in zip(counts, shape, strict=True) for n in (count, size))
    final = tuple(count * size for count, size in zip(counts, shape, strict=True))
    return reshape(broadcast_to(reshape(x, paired), wide), final)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Repeat each element: all as often, or each by its own count along `axis`."""
    if axis is None:
        x, axis = ravel(x), 0
    size = np.shape(raw(x))[_normal_axis("repeat", axis, np.ndim(raw(x)))]
    counts = raw(repeats)
    counts = backend.device_of(counts).to_numpy(counts)
    places = np.repeat(np.arange(size), counts)
    return take(x, places if backend.is_array(counts) else constant(places), axis)
