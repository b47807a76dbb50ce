"""NumPy's functions on a card's arrays: which there are, and what each of them calls.

`numpy.add(x, y)` and `numpy.concatenate([x, y])` ask their arguments for an implementation; this
file is the answer, so that the engine's ops run on a card as they are written for the CPU.  A
function that is not here raises, and says what to do instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import contraction, elementwise, index, reduce
from .array import CudaArray, refuse

__all__ = ["FUNCTIONS", "HOSTED", "Functions", "array_function", "array_ufunc"]

FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""What computes a function of NumPy: called with the class of the card's arrays first."""


class Functions:
    """NumPy's functions by name, such as `zeros`, for the arrays of one card."""

    def __init__(self, kind: type[CudaArray]) -> None:
        """The functions that make arrays of this class."""
        self._kind = kind

    def philox(self, *args: Any) -> CudaArray:
        """Random numbers: see `philox.uniform`."""
        from .philox import uniform

        return uniform(self._kind, *args)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = FUNCTIONS.get(getattr(np, name))
        if found is None:
            raise refuse(f"numpy.{name}")
        return functools.partial(found, self._kind)


def _for(*functions: Any) -> Callable[[Callable], Callable]:
    def put(implementation: Callable) -> Callable:
        FUNCTIONS.update(dict.fromkeys(functions, implementation))
        return implementation

    return put


def operands_of(name: str, kind: type[CudaArray], values: Any) -> list[Any]:
    """Arguments of a function: arrays of this card and numbers.

    Raises:
        TypeError: an array of the host with axes, or one of another card.
    """
    found = []
    for value in values:
        if isinstance(value, np.ndarray):
            if value.ndim:
                raise TypeError(
                    f"{name}: arrays of {kind.card.name} and of the CPU (a NumPy array of shape "
                    f"{value.shape}) do not mix; move them to one device first with `.to(...)`"
                )
            value = value[()]
        elif isinstance(value, CudaArray):
            if type(value) is not kind:
                raise TypeError(
                    f"{name}: arrays of {kind.card.name} and of {value.card.name} do not mix; move "
                    "them to one device first with `.to(...)`"
                )
        elif not isinstance(value, (bool, int, float, np.generic)):
            raise TypeError(f"{name}: {type(value).__name__} is no array and no number")
        found.append(value)
    return found


def array_ufunc(
    x: CudaArray, ufunc: np.ufunc, method: str, inputs: tuple, options: dict[str, Any]
) -> Any:
    """A ufunc that was called with a card's array: what `CudaArray.__array_ufunc__` does."""
    out = options.pop("out", None)
    target = out[0] if out else None
    if target is not None and not isinstance(target, CudaArray):
        raise TypeError(f"{ufunc.__name__}: out must be an array of {x.card.name}")
    name, kind = ufunc.__name__, type(x)
    if method == "at":
        buffer, where, *values = inputs
        if ufunc is not np.add or not isinstance(buffer, CudaArray):
            raise refuse(f"numpy.{name}.at")
        (value,) = operands_of(name, kind, values)
        return index.add_at(buffer, where, value)
    if options.pop("casting", "same_kind") not in ("same_kind", "unsafe"):
        raise refuse(f"numpy.{name} with a casting of its own")
    if options.get("where") is True or options.get("where") is np._NoValue:
        del options["where"]
    known = {"__call__": {"dtype"}, "accumulate": {"axis", "dtype"}}
    known["reduce"] = {"axis", "dtype", "keepdims", "initial"}
    if method not in known or set(options) - known[method]:
        called = name if method == "__call__" else f"{name}.{method}"
        more = " and ".join(set(options) - known.get(method, set()))
        raise refuse(f"numpy.{called}{f' with {more}' if more else ''}")
    values = operands_of(name, kind, inputs)
    if method == "reduce":
        if options.get("initial", 0) is np._NoValue:
            del options["initial"]
        (whole,) = values
        return reduce.reduce(ufunc, whole, out=target, **options)
    if method == "accumulate":
        found = reduce.accumulate(ufunc, *values, **options)
        return found if target is None else elementwise.assign(target, found)
    if ufunc is np.matmul:
        a, b = values
        return contraction.matmul(a, b, target)
    return elementwise.apply(ufunc, *values, out=target, **options)


def array_function(x: CudaArray, function: Any, args: tuple, options: dict[str, Any]) -> Any:
    """A function that was called with a card's array: what `__array_function__` does."""
    found = FUNCTIONS.get(function)
    name = f"{getattr(function, '__module__', 'numpy')}.{function.__name__}"
    if found is None:
        raise refuse(name)
    if options.get("device", 0) is None:
        del options["device"]  # numpy.ones and numpy.full always pass it on
    unknown = set(options) - _options_of(found)
    if unknown and not (function in HOSTED or function in VIEWS):
        raise refuse(f"{name} with {' and '.join(sorted(unknown))}")
    return found(type(x), *args, **options)


@functools.cache
def _options_of(implementation: Callable) -> set[str]:
    return set(inspect.signature(implementation).parameters)


def _in_rows(name: str, order: str | None, *others: str) -> None:
    """Raise for an order that is neither C's nor one that lets the card choose."""
    if order is not None and order.upper() not in ("C", *others):
        raise refuse(f"{name} with order {order!r}")


# --- what an array is ----------------------------------------------------------------------------


@_for(np.shape)
def _shape(kind: Any, x: CudaArray) -> tuple[int, ...]:
    return x.shape


@_for(np.ndim)
def _ndim(kind: Any, x: CudaArray) -> int:
    return x.ndim


@_for(np.size)
def _size(kind: Any, x: CudaArray, axis: int | None = None) -> int:
    return x.size if axis is None else x.shape[axis]


@_for(np.result_type)
def _result_type(kind: Any, *values: Any) -> np.dtype:
    return np.result_type(*(x.dtype if isinstance(x, CudaArray) else x for x in values))


@_for(np.can_cast)
def _can_cast(kind: Any, source: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(source.dtype, to, casting)


@_for(np.may_share_memory, np.shares_memory)
def _may_share_memory(kind: Any, a: Any, b: Any) -> bool:
    both = isinstance(a, CudaArray) and isinstance(b, CudaArray)
    return both and a._block is b._block and np.may_share_memory(a._ghost, b._ghost)


# --- making --------------------------------------------------------------------------------------


def _filled(kind: Any, shape: Any, dtype: Any, value: Any) -> CudaArray:
    """A new array full of a value; None leaves it as it is."""
    found = kind.empty(shape, dtype)
    return found if value is None else elementwise.assign(found, value)


def _filled_like(
    name: str, kind: Any, x: Any, dtype: Any, order: str, shape: Any, value: Any
) -> CudaArray:
    """The same, of another array's shape and dtype where none are given."""
    _in_rows(f"numpy.{name}", order, "K", "A")
    shape, dtype = x.shape if shape is None else shape, x.dtype if dtype is None else dtype
    return _filled(kind, shape, dtype, value)


def _maker(name: str, value: Any) -> None:
    """A function such as `numpy.zeros`, and the one that ends in `_like`."""

    def make(kind: Any, shape: Any, dtype: Any = float, order: str = "C") -> CudaArray:
        _in_rows(f"numpy.{name}", order)
        return _filled(kind, shape, dtype, value)

    def make_like(
        kind: Any,
        x: Any,
        dtype: Any = None,
        order: str = "K",
        subok: bool = True,
        shape: Any = None,
    ) -> CudaArray:
        return _filled_like(f"{name}_like", kind, x, dtype, order, shape, value)

    FUNCTIONS[getattr(np, name)] = make
    FUNCTIONS[getattr(np, f"{name}_like")] = make_like


_maker("empty", None)
_maker("zeros", 0)
_maker("ones", 1)


@_for(np.full)
def _full(kind: Any, shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> CudaArray:
    _in_rows("numpy.full", order)
    dtype = np.asarray(fill_value).dtype if dtype is None else dtype
    return _filled(kind, shape, dtype, fill_value)


@_for(np.full_like)
def _full_like(
    kind: Any,
    x: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
) -> CudaArray:
    return _filled_like("full_like", kind, x, dtype, order, shape, fill_value)


@_for(np.asarray, np.array, np.ascontiguousarray)
def _asarray(
    kind: Any, data: Any, dtype: Any = None, copy: bool | None = None, order: str = "K"
) -> CudaArray:
    _in_rows("numpy.array", order, "K", "A")
    if isinstance(data, CudaArray):
        return data.astype(data.dtype if dtype is None else dtype, copy=bool(copy))
    return kind.from_numpy(np.asarray(data, dtype))


@_for(np.copy)
def _copy(kind: Any, x: CudaArray, order: str = "K", subok: bool = False) -> CudaArray:
    _in_rows("numpy.copy", order, "K", "A")
    return x.copy()


@_for(np.copyto)
def _copyto(kind: Any, out: CudaArray, value: Any, casting: str = "same_kind") -> None:
    out[...] = value


# --- views ---------------------------------------------------------------------------------------


def _as_ghosts(function: Any) -> None:
    """A function that only arranges elements anew: NumPy does it to the ghost."""

    def arrange(kind: Any, x: CudaArray, *args: Any, **options: Any) -> CudaArray:
        return x._like(function(x._ghost, *args, **options))

    FUNCTIONS[function] = arrange


VIEWS = (
    np.transpose,
    np.swapaxes,
    np.moveaxis,
    np.expand_dims,
    np.squeeze,
    np.broadcast_to,
    np.diagonal,
)
"""What NumPy does to ghosts."""
for _arrange in VIEWS:
    _as_ghosts(_arrange)


@_for(np.flip)
def _flip(kind: Any, x: CudaArray, axis: Any = None) -> CudaArray:
    axes = reduce.normal_axes(x, axis)
    # With `...` NumPy never reads an element, as it does to flip an array without axes.
    turned: list[Any] = [slice(None, None, -1 if a in axes else 1) for a in range(x.ndim)]
    return x._like(x._ghost[(*turned, ...)])


@_for(np.reshape)
def _reshape(kind: Any, x: CudaArray, shape: Any = None, order: str = "C") -> CudaArray:
    _in_rows("numpy.reshape", order)
    return x.reshape(shape)


@_for(np.ravel)
def _ravel(kind: Any, x: CudaArray, order: str = "C") -> CudaArray:
    _in_rows("numpy.ravel", order)
    return x.reshape(-1)


@_for(np.atleast_1d)
def _atleast_1d(kind: Any, x: CudaArray) -> CudaArray:
    return x if x.ndim else x.reshape(1)


# --- joining and choosing ------------------------------------------------------------------------


@_for(np.concatenate)
def _concatenate(kind: Any, arrays: Any, axis: int | None = 0, out: Any = None) -> CudaArray:
    parts = operands_of("concatenate", kind, arrays)
    if axis is None:
        parts, axis = [part.reshape(-1) for part in parts], 0
    # Of things without memory, NumPy says the shape, or what is wrong with it.
    whole = np.concatenate([np.broadcast_to(np.empty((), p.dtype), p.shape) for p in parts], axis)
    found = kind.empty(whole.shape, whole.dtype) if out is None else out
    start = 0
    for part in parts:
        place = (slice(None),) * (axis % found.ndim) + (slice(start, start + part.shape[axis]),)
        found[place] = part
        start += part.shape[axis]
    return found


@_for(np.stack)
def _stack(kind: Any, arrays: Any, axis: int = 0, out: Any = None) -> CudaArray:
    return _concatenate(kind, [np.expand_dims(x, axis) for x in arrays], axis, out)


@_for(np.where)
def _where(kind: Any, condition: Any, a: Any, b: Any) -> CudaArray:
    return elementwise.where(*operands_of("where", kind, (condition, a, b)))


@_for(np.clip)
def _clip(kind: Any, x: Any, low: Any = None, high: Any = None, out: Any = None) -> CudaArray:
    found = x if low is None else np.maximum(x, low)
    found = found if high is None else np.minimum(found, high)
    found = found.copy() if found is x else found
    return found if out is None else elementwise.assign(out, found)


@_for(np.pad)
def _pad(
    kind: Any, x: CudaArray, pad_width: Any, mode: str = "constant", constant_values: Any = 0
) -> CudaArray:
    if mode != "constant":
        raise refuse(f"numpy.pad of mode {mode!r}")
    pairs = np.broadcast_to(pad_width, (x.ndim, 2)).tolist()
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, pairs, strict=True))
    found = _full(kind, shape, constant_values, x.dtype)
    found[tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, pairs, strict=True))] = x
    return found


@_for(np.roll)
def _roll(kind: Any, x: CudaArray, shift: Any, axis: Any = None) -> CudaArray:
    if axis is None:
        return _roll(kind, x.reshape(-1), shift, 0).reshape(x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for s, a in zip(shifts.reshape(-1).tolist(), axes.reshape(-1).tolist(), strict=True):
        n = x.shape[a]
        if n and s % n:
            lead = (slice(None),) * (a % x.ndim)
            cut = n - s % n
            x = _concatenate(kind, [x[(*lead, slice(cut, n))], x[(*lead, slice(0, cut))]], a)
    return x.copy() if x.base is not None else x


@_for(np.take)
def _take(kind: Any, x: CudaArray, indices: Any, axis: int | None = None) -> CudaArray:
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x[(*(slice(None),) * (axis % x.ndim), np.asarray(index._on_host(indices)))]


@_for(np.take_along_axis)
def _take_along_axis(kind: Any, x: CudaArray, indices: Any, axis: int) -> CudaArray:
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in x.shape)])
    grid[axis] = index._on_host(indices)
    return x[tuple(grid)]


# --- reductions ----------------------------------------------------------------------------------


def _reduction(function: Any, ufunc: np.ufunc) -> None:
    def compute(
        kind: Any,
        x: CudaArray,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
    ) -> CudaArray:
        return reduce.reduce(ufunc, x, axis, dtype, out, keepdims, initial)

    FUNCTIONS[function] = compute


_reduction(np.sum, np.add)
_reduction(np.prod, np.multiply)


def _choice(function: Any, ufunc: np.ufunc) -> None:
    def compute(
        kind: Any,
        x: CudaArray,
        axis: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
    ) -> CudaArray:
        return reduce.reduce(ufunc, x, axis, None, out, keepdims, initial)

    FUNCTIONS[function] = compute


_choice(np.max, np.maximum)
_choice(np.min, np.minimum)
_choice(np.any, np.logical_or)
_choice(np.all, np.logical_and)


@_for(np.mean)
def _mean(
    kind: Any,
    x: CudaArray,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
) -> CudaArray:
    if dtype is None and x.dtype.kind in "biu":
        dtype = np.float64
    total = reduce.reduce(np.add, x, axis, dtype, None, keepdims)
    count = x.size // max(total.size, 1)
    return np.divide(total, total.dtype.type(count), out=out)


@_for(np.count_nonzero)
def _count_nonzero(kind: Any, x: CudaArray, axis: Any = None, keepdims: bool = False) -> CudaArray:
    return reduce.reduce(np.add, x != 0, axis, None, None, keepdims)


@_for(np.argmax)
def _argmax(
    kind: Any, x: CudaArray, axis: Any = None, out: Any = None, keepdims: bool = False
) -> CudaArray:
    found = reduce.arg("argmax", x, axis, keepdims)
    return found if out is None else elementwise.assign(out, found)


@_for(np.argmin)
def _argmin(
    kind: Any, x: CudaArray, axis: Any = None, out: Any = None, keepdims: bool = False
) -> CudaArray:
    found = reduce.arg("argmin", x, axis, keepdims)
    return found if out is None else elementwise.assign(out, found)


@_for(np.cumsum)
def _cumsum(
    kind: Any, x: CudaArray, axis: int | None = None, dtype: Any = None, out: Any = None
) -> CudaArray:
    found = reduce.accumulate(np.add, x, axis, dtype)
    return found if out is None else elementwise.assign(out, found)


@_for(np.cumprod)
def _cumprod(
    kind: Any, x: CudaArray, axis: int | None = None, dtype: Any = None, out: Any = None
) -> CudaArray:
    found = reduce.accumulate(np.multiply, x, axis, dtype)
    return found if out is None else elementwise.assign(out, found)


@_for(np.array_equal)
def _array_equal(kind: Any, a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool(np.all(a == b).item())


# --- products ------------------------------------------------------------------------------------

FUNCTIONS[np.dot] = contraction.dot
FUNCTIONS[np.einsum] = contraction.einsum


# --- what the host computes ----------------------------------------------------------------------


def _on_the_host(function: Any) -> None:
    """A function that is done by the host's NumPy: its arrays are copied there and back."""

    def compute(card_type: Any, /, *args: Any, **options: Any) -> Any:
        host = [x.to_numpy() if isinstance(x, CudaArray) else x for x in args]
        found = function(*host, **options)
        if isinstance(found, tuple):
            return tuple(card_type.from_numpy(part) for part in found)
        return card_type.from_numpy(found)

    FUNCTIONS[function] = compute


HOSTED = (
    np.argsort,
    np.sort,
    np.linalg.inv,
    np.linalg.solve,
    np.linalg.det,
    np.linalg.cholesky,
    np.linalg.svd,
    np.delete,
)
"""Orders and small matrices, seldom in the middle of a training step: copied there and back."""
for _function in HOSTED:
    _on_the_host(_function)
