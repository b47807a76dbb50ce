"""Reading and writing at indices, as NumPy: slices are views, integers gather and scatter.

Indices stand in the host's memory, as the engine keeps them; those of a card are fetched.  An index
is worked out there, once, to an *offset* for each of its places; the card adds the axes that the
index leaves whole.  What is wrong with an index is thus told at once, as NumPy tells it.

Where a place is named twice, writing keeps the last value, and adding adds them in their order: the
values of one place are one thread's work, so the same call gives the same bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .array import CudaArray
from .driver import numba_cuda
from .elementwise import assign, element_strides, joined
from .launch import Kernel, line

__all__ = ["add_at", "getitem", "setitem"]


class Places(NamedTuple):
    """An index that is more than slices, worked out.

    Attributes:
        ghost: the view that its slices give; arrays of integers leave their axes whole.
        offsets: how far each place lies from the view's first element, in elements, flat.
        before, after: the axes of the view that stand before and after the places' own axes.
        shape: of what is read.
    """

    ghost: np.ndarray
    offsets: np.ndarray
    before: tuple[int, ...]
    after: tuple[int, ...]
    shape: tuple[int, ...]


def _on_host(part: Any) -> Any:
    if isinstance(part, CudaArray):
        return part.to_numpy()
    return np.asarray(part) if isinstance(part, (list, np.bool_)) else part


def _expanded(x: np.ndarray, index: Any) -> list:
    """The parts of an index, one an axis: masks as positions, `...` as slices."""
    parts: list = []
    for part in map(_on_host, index if isinstance(index, tuple) else (index,)):
        if isinstance(part, np.ndarray) and part.dtype.kind == "b":
            parts += [part] if part.ndim == 0 else [_Mask(part, i) for i in range(part.ndim)]
        else:
            parts.append(part)
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if used > x.ndim:
        raise IndexError(f"too many indices for array: {x.ndim} axes, but {used} were indexed")
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    place = next(i for i, part in enumerate(parts) if part is Ellipsis)
    parts[place : place + 1] = [slice(None)] * (x.ndim - used)
    axis = 0
    for i, part in enumerate(parts):
        if isinstance(part, _Mask):
            if part.mask.shape[part.number] != x.shape[axis]:
                raise IndexError(
                    f"boolean index did not match indexed array along axis {axis}; size of axis "
                    f"is {x.shape[axis]} but size of the mask's is {part.mask.shape[part.number]}"
                )
            parts[i] = np.nonzero(part.mask)[part.number]
        axis += part is not None
    return parts


class _Mask(NamedTuple):
    mask: np.ndarray
    number: int


def is_view(index: Any) -> bool:
    """Whether an index is of slices, integers, `None` and `...` only."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(p, (list, np.ndarray, CudaArray, bool, np.bool_)) for p in parts)


def places(x: np.ndarray, index: Any) -> Places:
    """Work out an index with arrays in it.

    Raises:
        IndexError: it does not fit the array, or names elements that there are not.
    """
    parts = _expanded(x, index)
    arrays = []
    slices: list = []
    for i, part in enumerate(parts):
        if isinstance(part, (np.ndarray, int, np.integer)) and not isinstance(part, bool):
            part = np.asarray(part)
            if part.dtype.kind not in "iu":
                raise IndexError("arrays used as indices must be of integer (or boolean) type")
            arrays.append((i, part.astype(np.int64)))
            slices.append(slice(None))
        elif part is None or isinstance(part, slice):
            slices.append(part)
        else:
            raise IndexError(f"an index on a card is of integers, slices and masks, not {part!r}")
    ghost = x[tuple(slices)]
    spread = np.broadcast_arrays(*[array for _, array in arrays])
    strides = element_strides(ghost)
    offsets = np.zeros(spread[0].shape, np.int64)
    for (axis, _), array in zip(arrays, spread, strict=True):
        n = ghost.shape[axis]
        if array.size and (array.min() < -n or array.max() >= n):
            wrong = int(array.min() if array.min() < -n else array.max())
            raise IndexError(f"index {wrong} is out of bounds for axis {axis} with size {n}")
        offsets += np.where(array < 0, array + n, array) * strides[axis]
    taken = [axis for axis, _ in arrays]
    rest = [axis for axis in range(ghost.ndim) if axis not in taken]
    together = taken == list(range(taken[0], taken[0] + len(taken)))
    before = tuple(axis for axis in rest if axis < taken[0]) if together else ()
    after = tuple(axis for axis in rest if axis not in before)
    shape = (
        *(ghost.shape[axis] for axis in before),
        *offsets.shape,
        *(ghost.shape[axis] for axis in after),
    )
    return Places(ghost, offsets.reshape(-1), before, after, shape)


# --- kernels -------------------------------------------------------------------------------------

_HEAD = """\
def kernel(count, places, behind, x, x_at, offsets, values{names}):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        last = i % behind
        place = i // behind % places
        first = i // behind // places
        at = x_at + offsets[place]
{lines}
"""
_WAYS = {
    "gather": "        values[i] = x[at]\n",
    "put": "        x[at] = values[(first * width + sources[place]) * behind + last]\n",
    "add": """\
        total = x[at]
        for j in range(starts[place], starts[place + 1]):
            total = T(total + T(values[(first * width + sources[j]) * behind + last]))
        x[at] = total
""",
}
_MORE = {"gather": "", "put": ", width, sources", "add": ", width, sources, starts"}


def _walk(name: str, prefix: str, axes: int) -> list[str]:
    lines = [f"        rest = {name}"]
    for axis in range(axes - 1, 0, -1):
        lines += [
            f"        at += rest % {prefix}_n{axis} * {prefix}_s{axis}",
            f"        rest = rest // {prefix}_n{axis}",
        ]
    return [*lines, f"        at += rest * {prefix}_s0"]


@cache
def written_for(way: str, dtype: np.dtype, before: int, after: int) -> Kernel:
    """The kernel that reads or writes at places, for views with so many axes around them."""
    numbers = []
    for prefix, axes in ("b", before), ("a", after):
        numbers += [f"{prefix}_n{i}" for i in range(1, axes)]
        numbers += [f"{prefix}_s{i}" for i in range(axes)]
    lines = "\n".join([*_walk("first", "b", before), *_walk("last", "a", after)])
    names = _MORE[way] + "".join(f", {number}" for number in numbers)
    text = _HEAD.format(names=names, lines=lines) + _WAYS[way]
    scope: dict[str, Any] = {
        "cuda": numba_cuda(),
        "T": dtype.type,
        "__name__": f"{__package__}.index",
    }
    exec(compile(text, f"<{way} at places>", "exec"), scope)
    kernel = scope["kernel"]
    kernel.__name__ = kernel.__qualname__ = f"{way}_{dtype.char}_{before}{after}"
    kind = "boolean" if dtype.kind == "b" else dtype.name
    types = ["int64"] * 3 + [f"{kind}[::1]", "int64", "int64[::1]", f"{kind}[::1]"]
    types += ["int64", *["int64[::1]"] * (_MORE[way].count(",") - 1)] if way != "gather" else []
    return Kernel(kernel, (f"void({', '.join([*types, *['int64'] * len(numbers)])})",), {})


def _run(
    way: str,
    x: CudaArray,
    found: Places,
    offsets: np.ndarray,
    values: CudaArray,
    tables: list[np.ndarray],
    width: int,
) -> None:
    ghost = found.ghost
    strides = element_strides(ghost)

    def part(axes: tuple[int, ...]) -> tuple[list[int], list[int], int]:
        sizes, (steps,) = joined([ghost.shape[a] for a in axes], [[strides[a] for a in axes]])
        return sizes, steps, int(np.prod([ghost.shape[a] for a in axes], dtype=np.int64))

    before, before_steps, ahead = part(found.before)
    after, after_steps, behind = part(found.after)
    count = ahead * offsets.size * behind
    if not count:
        return
    view = x._like(ghost)
    memory, at = view.span
    numbers = [*before[1:], *before_steps, *after[1:], *after_steps]
    more: list[Any] = [] if way == "gather" else [np.int64(width)]
    # Arrays, not their memory alone: what nobody holds may be handed out before the launch.
    more += [x.from_numpy(table) for table in tables]
    kernel = written_for(way, x.dtype, len(before), len(after))
    kernel(
        *line(x.card, count),
        *map(np.int64, (count, offsets.size, behind)),
        memory,
        np.int64(at),
        x.from_numpy(offsets),
        values.reshape(-1),
        *more,
        *map(np.int64, numbers),
        card=x.card,
    )


# --- what arrays do ------------------------------------------------------------------------------


def getitem(x: CudaArray, index: Any) -> CudaArray:
    """`x[index]`: a view where the index is of slices and integers, else a new array."""
    if is_view(index):
        parts = index if isinstance(index, tuple) else (index,)
        # With `...`, NumPy gives a view of the ghost even for a single element.
        return x._like(x._ghost[parts if Ellipsis in parts else (*parts, Ellipsis)])
    found = places(x._ghost, index)
    values = x.empty(found.shape, x.dtype)
    _run("gather", x, found, found.offsets, values, [], 0)
    return values


def _values(x: CudaArray, values: Any, shape: tuple[int, ...]) -> CudaArray:
    """Values of x's dtype, broadcast to a shape, in C order."""
    if isinstance(values, np.ndarray):
        values = x.from_numpy(values)
    if isinstance(values, CudaArray):
        while values.ndim > len(shape) and values.shape[0] == 1:
            values = values.reshape(values.shape[1:])  # as NumPy, which lets go of such axes
        if values.dtype == x.dtype and values.shape == shape and values.flags.c_contiguous:
            return values
    return assign(x.empty(shape, x.dtype), values)


def setitem(x: CudaArray, index: Any, values: Any) -> None:
    """`x[index] = values`; of values for one place, the last stays."""
    if not x.flags.writeable:
        raise ValueError("assignment destination is read-only")
    if is_view(index):
        target = getitem(x, index)
        if isinstance(values, np.ndarray):
            values = x.from_numpy(values)
        assign(target, values)
        return
    found = places(x._ghost, index)
    values = _values(x, values, found.shape)
    width = found.offsets.size
    # The first of the reversed list is the last one.
    targets, sources = np.unique(found.offsets[::-1], return_index=True)
    _run("put", x, found, targets, values, [width - 1 - sources], width)


def add_at(x: CudaArray, index: Any, values: Any) -> None:
    """`x[index] += values`, where values for one place add up, in their order."""
    if is_view(index):
        target = getitem(x, index)
        target += values
        return
    found = places(x._ghost, index)
    values = _values(x, values, found.shape)
    order = np.argsort(found.offsets, kind="stable")
    targets, starts = np.unique(found.offsets[order], return_index=True)
    starts = np.append(starts, order.size)
    _run("add", x, found, targets, values, [order, starts], order.size)


def examples(full: bool = False) -> list[Kernel]:
    """Kernels that are compiled without a card."""
    kinds = ("f4", "f8", "i8", "?") if full else ("f4",)
    return [written_for(way, np.dtype(k), 1, 2) for way in _WAYS for k in kinds if k != "?"]
