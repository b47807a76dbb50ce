"""Reductions over axes, positions of extremes, and running sums, each in a fixed order.

A reduction has *outputs* and, for each of them, a *length* of elements.  Two kernels, by what lies
side by side in memory:

- `rows`: a block for each output; its threads take every B-th element, and a tree in shared memory
  joins them.  For reductions along the fastest axis.
- `columns`: a thread for each output, which goes through its elements one after another, so that
  neighbouring threads read neighbouring elements.

A long reduction is done in chunks of a fixed length, whose results are reduced once more: enough
threads have work, and rounding errors stay small.  Which elements are joined in which order follows
from the shape alone: the same call gives the same bits, on every card.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .array import CudaArray, refuse
from .driver import numba_cuda, simulated
from .elementwise import apply, assign, element_strides, joined
from .launch import Kernel, helper
from .scalars import SCALARS

__all__ = ["accumulate", "arg", "reduce"]

ROWS_CHUNK, COLUMNS_CHUNK = 2**14, 2**9
ROWS_BLOCK = 256
COLUMNS_BLOCK = 128


class Form(NamedTuple):
    """What a kernel is written for: the way, the function, the types, and the axes of each part."""

    way: str
    name: str
    kind: np.dtype
    computed: np.dtype
    out: np.dtype
    kept: int
    reduced: int


class _Sum(NamedTuple):
    """A function that joins two elements, and what it begins with."""

    join: Callable[[Any], Callable]
    first: Callable[[np.dtype], Any]


def _lowest(kind: np.dtype) -> Any:
    return -np.inf if kind.kind == "f" else False if kind.kind == "b" else np.iinfo(kind).min


def _highest(kind: np.dtype) -> Any:
    return np.inf if kind.kind == "f" else True if kind.kind == "b" else np.iinfo(kind).max


JOINS = {
    np.add: _Sum(SCALARS[np.add], lambda kind: 0),
    np.multiply: _Sum(SCALARS[np.multiply], lambda kind: 1),
    np.maximum: _Sum(SCALARS[np.maximum], _lowest),
    np.minimum: _Sum(SCALARS[np.minimum], _highest),
    np.logical_and: _Sum(SCALARS[np.logical_and], lambda kind: True),
    np.logical_or: _Sum(SCALARS[np.logical_or], lambda kind: False),
}


def _place(index: str, result: str, prefix: str, axes: int, indent: int) -> list[str]:
    """Lines that add to `result` how far element `index` of a part with these axes lies."""
    pad = " " * indent
    if not axes:
        return []
    if axes == 1:
        return [f"{pad}{result} += {index} * {prefix}_s0"]
    lines = [f"{pad}rest = {index}"]
    for axis in range(axes - 1, 0, -1):
        lines += [
            f"{pad}{result} += rest % {prefix}_n{axis} * {prefix}_s{axis}",
            f"{pad}rest = rest // {prefix}_n{axis}",
        ]
    return [*lines, f"{pad}{result} += rest * {prefix}_s0"]


_ROWS = """\
def kernel({names}):
    parts = cuda.shared.array(BLOCK, A)
    thread = cuda.threadIdx.x
    for output in range(cuda.blockIdx.x, outputs * chunks, cuda.gridDim.x):
        begin = output % chunks * chunk
        end = min(begin + chunk, length)
        start = x_at
{kept}
        found = FIRST
        for j in range(begin + thread, end, cuda.blockDim.x):
            at = start
{reduced}
            found = T(join(found, T(x[at])))
        parts[thread] = found
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if thread < half:
                parts[thread] = T(join(parts[thread], parts[thread + half]))
            cuda.syncthreads()
            half = half // 2
        if thread == 0:
            out[output] = R(parts[0])
        cuda.syncthreads()
"""
_COLUMNS = """\
def kernel({names}):
    for output in range(cuda.grid(1), outputs * chunks, cuda.gridsize(1)):
        begin = output // outputs * chunk
        end = min(begin + chunk, length)
        start = x_at
{kept}
        found = FIRST
        for j in range(begin, end):
            at = start
{reduced}
            found = T(join(found, T(x[at])))
        out[output] = R(found)
"""
_ARG = """\
def kernel({names}):
    values = cuda.shared.array(BLOCK, A)
    places = cuda.shared.array(BLOCK, I)
    thread = cuda.threadIdx.x
    for output in range(cuda.blockIdx.x, outputs * chunks, cuda.gridDim.x):
        start = x_at
{kept}
        best = x[start]
        place = 0
        for j in range(thread, length, cuda.blockDim.x):
            at = start
{reduced}
            value = x[at]
            if better(value, j, best, place):
                best = value
                place = j
        values[thread] = best
        places[thread] = place
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if thread < half:
                other = thread + half
                if better(values[other], places[other], values[thread], places[thread]):
                    values[thread] = values[other]
                    places[thread] = places[other]
            cuda.syncthreads()
            half = half // 2
        if thread == 0:
            out[output] = places[0]
        cuda.syncthreads()
"""
_SCAN = """\
def kernel({names}):
    parts = cuda.shared.array(BLOCK, A)
    thread = cuda.threadIdx.x
    width = cuda.blockDim.x
    for output in range(cuda.blockIdx.x, outputs * chunks, cuda.gridDim.x):
        start = x_at
{kept}
        before = FIRST
        for begin in range(0, length, width):
            j = begin + thread
            value = FIRST
            if j < length:
                value = T(x[start + j * r_s0])
            parts[thread] = value
            cuda.syncthreads()
            step = 1
            while step < width:
                if thread >= step:
                    value = T(join(parts[thread - step], value))
                cuda.syncthreads()
                parts[thread] = value
                cuda.syncthreads()
                step = step * 2
            if j < length:
                out[output * length + j] = R(join(before, value))
            before = T(join(before, parts[width - 1]))
            cuda.syncthreads()
"""
_TEXTS = {"rows": _ROWS, "columns": _COLUMNS, "arg": _ARG, "scan": _SCAN}


def _names(form: Form) -> list[str]:
    numbers = ["outputs", "chunks", "length", "chunk", "x_at"]
    for prefix, axes in ("k", form.kept), ("r", form.reduced):
        numbers += [f"{prefix}_n{i}" for i in range(1, axes)]
        numbers += [f"{prefix}_s{i}" for i in range(axes)]
    return numbers


def source(form: Form) -> str:
    """The kernel's source text."""
    index = "output" if form.way in ("arg", "scan") else "output % outputs"
    index = "output // chunks" if form.way == "rows" else index
    return _TEXTS[form.way].format(
        names=", ".join(["out", "x", *_names(form)]),
        kept="\n".join(_place(index, "start", "k", form.kept, 8)),
        reduced="\n".join(_place("j", "at", "r", form.reduced, 12)),
    )


def signature(form: Form) -> str:
    """What the kernel takes, as Numba writes it."""
    types = ["boolean" if d.kind == "b" else d.name for d in (form.out, form.kind)]
    return f"void({', '.join([f'{t}[::1]' for t in types] + ['int64'] * len(_names(form)))})"


@cache
def written_for(function: Any, form: Form) -> Kernel:
    """The kernel for a function, one of `JOINS` or the comparison of `arg`, and a form."""
    from numba import from_dtype

    cuda = numba_cuda()
    T = form.computed.type
    scope: dict[str, Any] = {
        "cuda": cuda,
        "BLOCK": ROWS_BLOCK,
        "A": from_dtype(form.computed),
        "I": from_dtype(np.dtype(np.int64)),
        "T": T,
        "R": form.out.type,
        "__name__": f"{__package__}.reduce",
    }
    if form.way == "arg":
        scope["better"] = helper(function)
    else:
        scope["join"] = helper(JOINS[function].join(T))
        scope["FIRST"] = T(JOINS[function].first(form.computed))
    exec(compile(source(form), f"<{form.way} of {form.name}>", "exec"), scope)
    kernel = scope["kernel"]
    kinds = f"{form.kind.char}{form.computed.char}{form.out.char}"
    kernel.__name__ = f"{form.name}_{form.way}_{kinds}_{form.kept}{form.reduced}"
    kernel.__qualname__ = kernel.__name__
    return Kernel(kernel, (signature(form),), {})


def _start(
    function: Any,
    name: str,
    way: str,
    x: CudaArray,
    ghost: np.ndarray,
    kept: int,
    out: CudaArray,
    computed: np.dtype,
    chunk: int,
) -> None:
    """Run a kernel over `ghost`, x's with its kept axes first, into a contiguous `out`."""
    strides = element_strides(ghost)
    kept_sizes, (kept_steps,) = joined(ghost.shape[:kept], [strides[:kept]])
    sizes, (steps,) = joined(ghost.shape[kept:], [strides[kept:]])
    length = int(np.prod(ghost.shape[kept:], dtype=np.int64))
    chunks = max(1, -(-length // chunk))
    outputs = out.size if way == "scan" else out.size // chunks
    outputs = int(np.prod(ghost.shape[:kept], dtype=np.int64))
    form = Form(way, name, x.dtype, computed, out.dtype, len(kept_sizes), len(sizes))
    memory, at = x.span
    numbers = [outputs, chunks, length, chunk, at]
    numbers += [*kept_sizes[1:], *kept_steps, *sizes[1:], *steps]
    work = outputs * chunks
    if way == "columns":
        block = 2 if simulated() else COLUMNS_BLOCK
        grid = min(-(-work // block), 2**16)
    else:
        block = 4 if simulated() else ROWS_BLOCK
        while not simulated() and block > 32 and block >= 2 * min(length, chunk):
            block //= 2
        grid = min(work, 2**16)
    if simulated():
        grid = min(grid, 2)  # so that each block takes several outputs
    card = x.card
    written_for(function, form)(
        grid, block, out.span[0], memory, *map(np.int64, numbers), card=card
    )


def _split(x: CudaArray, axes: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """x's ghost with its kept axes first, and how many these are."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    return x._ghost.transpose([*kept, *axes]), len(kept)


def _accumulator(ufunc: Any, kind: np.dtype) -> np.dtype:
    """What NumPy gives as the type of a sum."""
    if ufunc in (np.logical_and, np.logical_or):
        return np.dtype(bool)
    if ufunc in (np.add, np.multiply) and kind.kind in "bi" and kind.itemsize < 8:
        return np.dtype(np.int64)
    if ufunc in (np.add, np.multiply) and kind.kind == "u" and kind.itemsize < 8:
        return np.dtype(np.uint64)
    return kind


def normal_axes(x: CudaArray, axis: Any) -> tuple[int, ...]:
    """Axes as a tuple of numbers from 0 on; None stands for all."""
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    for a in given:
        if not -x.ndim <= a < x.ndim:
            raise np.exceptions.AxisError(a, x.ndim)
    return tuple(int(a) % x.ndim for a in given)


def reduce(
    ufunc: Any,
    x: CudaArray,
    axis: Any = 0,
    dtype: Any = None,
    out: CudaArray | None = None,
    keepdims: bool = False,
    initial: Any = None,
) -> CudaArray:
    """A ufunc between all elements along axes, as `ufunc.reduce` of NumPy.

    Raises:
        NotImplementedError: a ufunc that is not in `JOINS`.
        ValueError: no elements, for a ufunc that has no first value there.
    """
    if ufunc not in JOINS:
        raise refuse(f"numpy.{ufunc.__name__}.reduce")
    axes = normal_axes(x, axis)
    kind = np.dtype(dtype) if dtype is not None else _accumulator(ufunc, x.dtype)
    computed = np.dtype(np.float32) if kind == np.float16 else kind
    ghost, kept = _split(x, axes)
    length = int(np.prod(ghost.shape[kept:], dtype=np.int64))
    if not length and initial is None and ufunc in (np.maximum, np.minimum) and x.ndim:
        raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} without initial")
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    final = shape if keepdims else tuple(n for a, n in enumerate(x.shape) if a not in axes)
    found = x.empty(ghost.shape[:kept], kind)
    if found.size:
        _reduce_into(ufunc, x, ghost, kept, length, found, computed)
    found = found.reshape(final)
    if initial is not None:
        found = apply(ufunc, found, initial, dtype=kind)
    return found if out is None else assign(out, found)


def _reduce_into(
    ufunc: Any,
    x: CudaArray,
    ghost: np.ndarray,
    kept: int,
    length: int,
    found: CudaArray,
    computed: np.dtype,
) -> None:
    fastest = min(
        (axis for axis in range(ghost.ndim) if ghost.shape[axis] > 1),
        key=lambda axis: abs(ghost.strides[axis]) or 2**62,
        default=0,
    )
    way = "columns" if fastest < kept else "rows"
    chunk = COLUMNS_CHUNK if way == "columns" else ROWS_CHUNK
    chunks = max(1, -(-length // chunk))
    name = ufunc.__name__
    if chunks == 1:
        _start(ufunc, name, way, x, ghost, kept, found, computed, chunk)
        return
    outputs = found.size
    if way == "rows":
        parts = x.empty((outputs, chunks), computed)
        _start(ufunc, name, way, x, ghost, kept, parts, computed, chunk)
        again = parts._ghost
    else:
        parts = x.empty((chunks, outputs), computed)
        _start(ufunc, name, way, x, ghost, kept, parts, computed, chunk)
        again = parts._ghost.T
    _reduce_into(ufunc, parts, again, 1, chunks, found, computed)


# --- positions and running sums ------------------------------------------------------------------


def _larger(value: Any, place: Any, best: Any, best_place: Any) -> Any:
    if value > best or (value != value and best == best):
        return True
    return (value == best or (value != value and best != best)) and place < best_place


def _smaller(value: Any, place: Any, best: Any, best_place: Any) -> Any:
    if value < best or (value != value and best == best):
        return True
    return (value == best or (value != value and best != best)) and place < best_place


def arg(name: str, x: CudaArray, axis: int | None = None, keepdims: bool = False) -> CudaArray:
    """Position of the largest ("argmax") or smallest ("argmin") element, the first of equals."""
    axes = normal_axes(x, axis)
    ghost, kept = _split(x, axes)
    if not x.size and int(np.prod(ghost.shape[kept:])) == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    found = x.empty(ghost.shape[:kept], np.int64)
    if found.size:
        function = _larger if name == "argmax" else _smaller
        _start(function, name, "arg", x, ghost, kept, found, x.dtype, 2**62)
    return found.reshape(shape) if keepdims else found


def accumulate(ufunc: Any, x: CudaArray, axis: int | None = 0, dtype: Any = None) -> CudaArray:
    """Running sums or products along an axis, as `ufunc.accumulate` of NumPy; None flattens."""
    if ufunc not in JOINS:
        raise refuse(f"numpy.{ufunc.__name__}.accumulate")
    if axis is None:
        x, axis = x.reshape(-1), 0
    (axis,) = normal_axes(x, axis)
    kind = np.dtype(dtype) if dtype is not None else _accumulator(ufunc, x.dtype)
    computed = np.dtype(np.float32) if kind == np.float16 else kind
    ghost = np.moveaxis(x._ghost, axis, -1)
    found = x.empty(ghost.shape, kind)
    if found.size:
        name = f"cumulative_{ufunc.__name__}"
        _start(ufunc, name, "scan", x, ghost, x.ndim - 1, found, computed, 2**62)
    return found._like(np.moveaxis(found._ghost, -1, axis))


def examples(full: bool = False) -> list[Kernel]:
    """Kernels that are compiled without a card: of each kind one, or all with `full`."""
    single, double, whole = (np.dtype(t) for t in ("f4", "f8", "i8"))
    kinds = (single, double, whole) if full else (single,)
    found = []
    for kind in kinds:
        for ufunc in JOINS if full else (np.add, np.maximum):
            out = _accumulator(ufunc, kind)
            for way, kept, reduced in ("rows", 1, 1), ("rows", 2, 3), ("columns", 1, 2):
                form = Form(way, ufunc.__name__, kind, out, out, kept, reduced)
                found.append(written_for(ufunc, form))
        found.append(written_for(_larger, Form("arg", "argmax", kind, kind, whole, 1, 2)))
        found.append(written_for(np.add, Form("scan", "cumulative_add", kind, kind, kind, 2, 1)))
    return found
