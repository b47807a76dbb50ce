"""Any function of one element over whole arrays, by one generator of kernels.

A kernel is written for a function, the types of its operands, and how each of them lies in memory:

- `d`, dense: in C order, as the result is; element i of the result reads element i.
- `v`, a view: of any strides, broadcast axes with stride 0; axes that lie one after another in all
  operands are joined first, so that most views need two or three axes.
- `s`, a number, passed by value.

Each operand is converted to the type that the function computes with when it is read, and the
result when it is written: a cast costs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .array import CudaArray, refuse
from .driver import numba_cuda
from .launch import Kernel, helper, line
from .scalars import SCALARS

__all__ = ["apply", "assign", "run", "where", "written_for"]

_WIDE = 2**31 - 1
"""Positions above this need 64 bits; below, division takes a fraction of the time."""


class Form(NamedTuple):
    """What a kernel is written for.

    Attributes:
        name: of the function.
        operands: `d`, `v` or `s` for each operand.
        kinds: the dtype that each operand is stored in.
        computed: the dtype that each is converted to.
        out: the dtype of the result.
        out_form: `d` or `v`.
        ndim: axes of the views; 1 if there are none.
        wide: whether positions need 64 bits.
    """

    name: str
    operands: str
    kinds: tuple[np.dtype, ...]
    computed: tuple[np.dtype, ...]
    out: np.dtype
    out_form: str
    ndim: int
    wide: bool


def _numba_name(dtype: np.dtype) -> str:
    return "boolean" if dtype.kind == "b" else dtype.name


def _views(form: Form) -> list[str]:
    """Names of the operands that are views, the result's among them."""
    named = [("out", form.out_form), *((f"x{i}", how) for i, how in enumerate(form.operands))]
    return [name for name, how in named if how == "v"]


def source(form: Form) -> str:
    """The kernel's source text."""
    views = _views(form)
    names = ["count", *(f"n{axis}" for axis in range(1, form.ndim) if views), "out"]
    names += [f"x{i}" for i in range(len(form.operands))]
    for name in views:
        names += [f"{name}_at", *(f"{name}_{axis}" for axis in range(form.ndim))]
    lines = [f"def kernel({', '.join(names)}):"]
    lines += ["    for i in range(cuda.grid(1), count, cuda.gridsize(1)):"]
    if views:
        lines += ["        rest = P(i)"]
        for axis in range(form.ndim - 1, 0, -1):
            lines += [f"        i{axis} = P(rest % n{axis})", f"        rest = P(rest // n{axis})"]
        lines += ["        i0 = rest"]
    places = {
        name: " + ".join([f"{name}_at", *(f"P(i{a} * {name}_{a})" for a in range(form.ndim))])
        for name in views
    }
    arguments = []
    for i, how in enumerate(form.operands):
        read = f"x{i}" if how == "s" else f"x{i}[{places.get(f'x{i}', 'i')}]"
        arguments.append(f"T{i}({read})")
    lines += [f"        out[{places.get('out', 'i')}] = R(function({', '.join(arguments)}))"]
    return "\n".join(lines) + "\n"


def signature(form: Form) -> str:
    """What the kernel takes, as Numba writes it."""
    position = "int64" if form.wide else "uint32"
    views = _views(form)
    parts = ["int64", *[position] * (form.ndim - 1 if views else 0)]
    parts += [f"{_numba_name(form.out)}[::1]"]
    for how, kind in zip(form.operands, form.kinds, strict=True):
        parts += [_numba_name(kind) + ("" if how == "s" else "[::1]")]
    parts += [position] * (len(views) * (1 + form.ndim))
    return f"void({', '.join(parts)})"


def _computing(dtype: np.dtype) -> type:
    """The type to compute with: float16 is for storing only."""
    return np.float32 if dtype.char == "e" else dtype.type


@cache
def written_for(factory: Callable[[Any], Callable], form: Form) -> Kernel:
    """The kernel of a function for one form."""
    types = [_computing(dtype) for dtype in form.computed]
    scope: dict[str, Any] = {
        "cuda": numba_cuda(),
        "function": helper(factory(types[0] if types else _computing(form.out))),
        "P": np.int64 if form.wide else np.uint32,
        "R": np.float16 if form.out.char == "e" else form.out.type,
        "__name__": f"{__package__}.elementwise",
    }
    scope.update({f"T{i}": T for i, T in enumerate(types)})
    exec(compile(source(form), f"<{form.name} over arrays>", "exec"), scope)
    function = scope["kernel"]
    kinds = "".join(dtype.char for dtype in (*form.kinds, form.out))
    layout = f"{form.operands}{form.out_form}{form.ndim}{'w' if form.wide else ''}"
    function.__name__ = function.__qualname__ = f"{form.name}_{kinds}_{layout}"
    return Kernel(function, (signature(form),), {})


# --- layouts -------------------------------------------------------------------------------------


def joined(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """The same elements in the same order, over as few axes as all these strides allow.

    >>> joined((2, 3, 4), [(12, 4, 1), (0, 4, 1)])
    ([2, 12], [[12, 1], [0, 1]])
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(
            mine[-1] == theirs[axis] * n for mine, theirs in zip(steps, strides, strict=True)
        ):
            sizes[-1] *= n
            for mine, theirs in zip(steps, strides, strict=True):
                mine[-1] = theirs[axis]
        else:
            sizes.append(n)
            for mine, theirs in zip(steps, strides, strict=True):
                mine.append(theirs[axis])
    if not sizes:
        return [1], [[1] for _ in strides]
    return sizes, steps


def element_strides(ghost: np.ndarray) -> tuple[int, ...]:
    """Strides counted in elements."""
    return tuple(stride // ghost.itemsize for stride in ghost.strides)


def run(
    factory: Callable[[Any], Callable],
    name: str,
    out: CudaArray,
    operands: Sequence[Any],
    computed: Sequence[np.dtype],
) -> CudaArray:
    """Write `function(*operands)` into `out`, each operand broadcast to its shape.

    It is for `apply` and others here, which see to the types.

    Args:
        factory: makes the function for a type.
        name: what it is called.
        out: where the result goes; elements may be shared with an operand that lies just as it.
        operands: arrays of the card, and NumPy scalars.
        computed: the dtype that each operand is converted to.
    """
    if not out.size:
        return out
    shape = out.shape
    arrays = [(i, x) for i, x in enumerate(operands) if isinstance(x, CudaArray)]
    ghosts = [out._ghost] + [np.broadcast_to(x._ghost, shape) for _, x in arrays]
    sizes, steps = joined(shape, [element_strides(ghost) for ghost in ghosts])
    if len(sizes) == 1 and all(step == [1] for step in steps):
        how = ["d"] * len(ghosts)
    else:
        how = ["v"] * len(ghosts)
        dense: list[int] = []
        following = 1
        for n in reversed(sizes):
            dense.insert(0, following)
            following *= n
        how = ["d" if step == dense else "v" for step in steps]
    forms = ["s"] * len(operands)
    for (i, _), h in zip(arrays, how[1:], strict=True):
        forms[i] = h
    views = "v" in how
    # A step backwards would wrap around in 32 bits and still come out right; 64 keep it plain.
    wide = views and any(
        out.size > _WIDE
        or any(s < 0 or s * (n - 1) > _WIDE for n, s in zip(sizes, step, strict=True))
        for step in steps
    )
    P = np.int64 if wide else np.uint32
    numbers: list[Any] = [P(n) for n in sizes[1:]] if views else []
    passed: list[Any] = [out.span[0]]
    places: list[Any] = []
    kinds = []
    steps_of = dict(zip([-1, *(i for i, _ in arrays)], steps, strict=True))
    for i, (x, h) in enumerate(zip([out, *operands], [how[0], *forms], strict=True), -1):
        if h == "s":
            kinds.append(np.dtype(_computing(computed[i])))
            passed.append(kinds[-1].type(x))
            continue
        memory, at = x.span
        if i >= 0:
            kinds.append(x.dtype)
            passed.append(memory)
        if h == "v":
            places += [P(at), *(P(step) for step in steps_of[i])]
    form = Form(
        name,
        "".join(forms),
        tuple(kinds),
        tuple(computed),
        out.dtype,
        how[0],
        len(sizes) if views else 1,
        wide,
    )
    kernel = written_for(factory, form)
    kernel(*line(out.card, out.size), np.int64(out.size), *numbers, *passed, *places, card=out.card)
    return out


# --- ufuncs --------------------------------------------------------------------------------------


def _weak(x: Any) -> Any:
    """What decides the type of a result: an array's dtype; Python's numbers adapt themselves."""
    if isinstance(x, (bool, np.bool_)):
        return np.dtype(bool)
    if isinstance(x, int):
        return int
    return float if isinstance(x, float) and not isinstance(x, np.generic) else x.dtype


@cache
def _resolved(ufunc: np.ufunc, kinds: tuple) -> tuple[np.dtype, ...]:
    found = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))
    return tuple(found)


def apply(ufunc: np.ufunc, *operands: Any, out: CudaArray | None = None, dtype: Any = None) -> Any:
    """A ufunc of arrays and numbers, with NumPy's broadcasting and types.

    Args:
        ufunc: one that `scalars.SCALARS` knows.
        operands: arrays of one card, NumPy scalars and Python numbers.
        out: where to write; as with NumPy, it may be one of the operands.
        dtype: of the result, instead of what NumPy would choose.

    Raises:
        NotImplementedError: there is no such function on a card; the message says what to do.
        TypeError: types that the ufunc does not take, or a result that `out` cannot hold.
    """
    factory = SCALARS.get(ufunc)
    if factory is None:
        raise refuse(f"numpy.{ufunc.__name__}")
    *computed, kind = _resolved(ufunc, tuple(map(_weak, operands)))
    if dtype is not None:
        computed, kind = [np.dtype(dtype)] * len(operands), np.dtype(dtype)
    shape = np.broadcast_shapes(*(np.shape(x) for x in operands))
    first = next(x for x in (*operands, out) if isinstance(x, CudaArray))
    if out is None:
        return run(factory, ufunc.__name__, first.empty(shape, kind), operands, computed)
    if not np.can_cast(kind, out.dtype, "same_kind"):
        raise TypeError(f"{ufunc.__name__}: a result of {kind} cannot be written as {out.dtype}")
    if np.broadcast_shapes(shape, out.shape) != out.shape:
        raise ValueError(f"{ufunc.__name__}: out of shape {out.shape} holds no result of {shape}")
    if any(isinstance(x, CudaArray) and _crosses(x, out) for x in operands):
        found = run(factory, ufunc.__name__, first.empty(out.shape, kind), operands, computed)
        return assign(out, found)
    return run(factory, ufunc.__name__, out, operands, computed)


def _crosses(x: CudaArray, out: CudaArray) -> bool:
    """Whether x shares memory with `out` in another arrangement, so that it may be overwritten."""
    a, b = x._ghost, out._ghost
    if x._block is not out._block or not np.may_share_memory(a, b):
        return False
    same = a.__array_interface__["data"] == b.__array_interface__["data"]
    return not (same and a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype)


def assign(out: CudaArray, value: Any) -> CudaArray:
    """Write an array of the card, or a number, into `out`, broadcast and converted."""
    if isinstance(value, CudaArray):
        if value._block is out._block and not _crosses(value, out) and value.shape == out.shape:
            if np.may_share_memory(value._ghost, out._ghost):
                return out
        elif _crosses(value, out):
            value = assign(value.empty(value.shape, value.dtype), value)
        return run(_SAME, "assign", out, [value], [value.dtype])
    kind = out.dtype if not isinstance(value, np.generic) else value.dtype
    return run(_SAME, "assign", out, [kind.type(value)], [kind])


def where(condition: Any, a: Any, b: Any) -> CudaArray:
    """`a` where the condition is true, `b` elsewhere: each an array of the card or a number."""
    operands = (condition, a, b)
    first = next(x for x in operands if isinstance(x, CudaArray))
    kind = np.result_type(*(x.dtype if isinstance(x, CudaArray) else x for x in (a, b)))
    shape = np.broadcast_shapes(*(np.shape(x) for x in operands))
    computed = [np.dtype(bool), kind, kind]
    if not isinstance(condition, CudaArray):
        operands = (np.bool_(condition), a, b)
    values = [x if isinstance(x, (CudaArray, np.generic)) else kind.type(x) for x in operands]
    return run(_CHOOSE, "where", first.empty(shape, kind), values, computed)


def _SAME(T: Any) -> Callable[[Any], Any]:
    return lambda x: x


def _CHOOSE(T: Any) -> Callable[[Any, Any, Any], Any]:
    return lambda condition, a, b: a if condition else b


def examples(full: bool = False) -> list[Kernel]:
    """Kernels that are compiled without a card: of each kind one, or all with `full`."""
    single, double, whole, truth = (np.dtype(t) for t in ("f4", "f8", "i8", "?"))

    def form(name: str, how: str, computed: np.dtype, out: np.dtype, ndim: int = 1) -> Form:
        return Form(
            name, how, (computed,) * len(how), (computed,) * len(how), out, "d", ndim, False
        )

    some = {np.add, np.multiply, np.exp, np.maximum, np.floor_divide, np.power, np.greater}
    found = []
    for ufunc, factory in SCALARS.items():
        if ufunc not in some and not full:
            continue
        for kind in (single, double, whole) if full else (single,):
            try:
                *computed, out = _resolved(ufunc, (kind,) * ufunc.nin)
            except TypeError:
                continue
            if computed[0] != kind:
                continue
            for how, ndim in (("d", 1), ("v", 4)) if full or ufunc is np.add else (("d", 1),):
                of = form(ufunc.__name__, how * ufunc.nin, kind, out, ndim)
                found.append(written_for(factory, of))
    where_form = Form("where", "dds", (truth, single, single), (truth, single, single), single,
                      "d", 1, False)  # fmt: skip
    half = np.dtype(np.float16)
    found += [
        written_for(_CHOOSE, where_form),
        written_for(_SAME, Form("assign", "v", (single,), (single,), half, "v", 8, True)),
        written_for(_SAME, Form("assign", "s", (single,), (single,), single, "d", 1, False)),
    ]
    return found
