"""Linear algebra: products of vectors and matrices, norms, and the classical decompositions.

Matrices stand in the last two axes; the axes before them are batches.  Rules: Giles, "Collected
matrix derivative results for forward and reverse mode algorithmic differentiation", 2008, and for
`cholesky` Murray, "Differentiation of the Cholesky decomposition", 2016.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Saved, Variable, op, raw
from minigrad.effects import constant, value
from minigrad.ops import reduce
from minigrad.ops.elementwise import absolute, multiply, power, where
from minigrad.ops.index import _normal_axis, getitem
from minigrad.ops.shape import (
    _numbers,
    broadcast_to,
    expand_dims,
    moveaxis,
    reshape,
    squeeze,
    swapaxes,
)

# --- products ------------------------------------------------------------------------------------


def _matmul_left(g: Any, b: Any, a_shape: tuple[int, ...]) -> Any:
    b_ndim = raw(b).ndim
    if len(a_shape) == 1:
        return multiply(g, b) if b_ndim == 1 else squeeze(matmul(b, expand_dims(g, -1)), -1)
    if b_ndim == 1:
        return multiply(expand_dims(g, -1), b)
    return matmul(g, swapaxes(b, -1, -2))


def _matmul_right(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    a_ndim = raw(a).ndim
    if a_ndim == 1:
        return (
            multiply(a, g)
            if len(b_shape) == 1
            else multiply(expand_dims(a, -1), expand_dims(g, -2))
        )
    if len(b_shape) == 1:
        return squeeze(matmul(swapaxes(a, -1, -2), expand_dims(g, -1)), -1)
    return matmul(swapaxes(a, -1, -2), g)


_matmul = op(
    "matmul",
    np.matmul,
    lambda g, b, a_shape: _matmul_left(g, b, a_shape),
    lambda g, a, b_shape: _matmul_right(g, a, b_shape),
)


def matmul(a: Any, b: Any) -> Any:
    """Matrix product over the last two axes, batches broadcast; vectors as in NumPy.

    Raises:
        ValueError: an argument is a number, or the inner sizes differ.
    """
    shapes = np.shape(raw(a)), np.shape(raw(b))
    if not shapes[0] or not shapes[1]:
        raise ValueError(f"matmul: needs vectors or matrices, got shapes {shapes[0]}, {shapes[1]}")
    inner = shapes[0][-1], shapes[1][-2 if len(shapes[1]) > 1 else 0]
    if inner[0] != inner[1]:
        raise ValueError(
            f"matmul: shapes {shapes[0]} and {shapes[1]} do not go together: "
            f"the inner sizes {inner[0]} and {inner[1]} differ"
        )
    return _matmul(a, b)


def dot(a: Any, b: Any) -> Any:
    """NumPy's dot: sum over the last axis of `a` and the last but one of `b`."""
    a_ndim, b_ndim = np.ndim(raw(a)), np.ndim(raw(b))
    if a_ndim == 0 or b_ndim == 0:
        return multiply(a, b)
    if b_ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=([-1], [-2]))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Sum of products over pairs of axes, as `numpy.tensordot`.

    Args:
        a, b: of any shape.
        axes: how many last axes of `a` meet the first of `b`, or two lists of axes.
    """
    a_ndim, b_ndim = np.ndim(raw(a)), np.ndim(raw(b))
    if isinstance(axes, (int, np.integer)):
        axes = int(axes)
        if not 0 <= axes <= min(a_ndim, b_ndim):
            raise ValueError(f"tensordot: axes {axes}, but a has {a_ndim} axes and b {b_ndim}")
        left, right = list(range(a_ndim - axes, a_ndim)), list(range(axes))
    else:
        left, right = (list(_numbers(x)) for x in axes)
    a_shape, b_shape = np.shape(raw(a)), np.shape(raw(b))
    if len(left) != len(right) or [a_shape[i] for i in left] != [b_shape[j] for j in right]:
        raise ValueError(
            f"tensordot: axes {left} of shape {a_shape} and axes {right} of shape {b_shape} do "
            "not have the same sizes"
        )
    left, right = [i % a_ndim for i in left], [i % b_ndim for i in right]
    letters = iter(string.ascii_letters)
    a_names = [next(letters) for _ in range(a_ndim)]
    b_names = [next(letters) for _ in range(b_ndim)]
    for i, j in zip(left, right, strict=True):
        b_names[j] = a_names[i]
    out = [n for n in a_names + b_names if (a_names + b_names).count(n) == 1]
    return einsum(f"{''.join(a_names)},{''.join(b_names)}->{''.join(out)}", a, b)


def outer(a: Any, b: Any) -> Any:
    """All products of an element of `a` with one of `b`; both are flattened."""
    return multiply(reshape(a, -1, 1), reshape(b, 1, -1))


def _einsum_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    *terms, out = saved.terms
    operands = [getattr(saved, f"operands{i}") for i in range(len(terms))]
    found: list = []
    for i, (term, need) in enumerate(zip(terms, needs, strict=True)):
        if not need:
            found.append(None)
            continue
        others = [t for j, t in enumerate(terms) if j != i]
        present = "".join(n for n in term if n in out or n in "".join(others))
        part = _einsum(
            g, *[x for j, x in enumerate(operands) if j != i], terms=(out, *others, present)
        )
        # An index that only this operand has was summed away: its gradient is the same all along.
        sizes = saved.shapes[i]
        part = reshape(part, [n if c in present else 1 for c, n in zip(term, sizes, strict=True)])
        found.append(broadcast_to(part, sizes))
    return found


def _einsum_raw(*operands: Any, terms: tuple[str, ...]) -> Any:
    formula = f"{','.join(terms[:-1])}->{terms[-1]}"
    return np.einsum(formula, *operands, optimize=len(operands) > 1)


_einsum = Op(
    "einsum",
    _einsum_raw,
    inputs=("*operands",),
    saves=("operands",),
    backward=_einsum_rule,
)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein's summation, as `numpy.einsum` with a formula: "ij,jk->ik", "ii", "...ij->...ji".

    Raises:
        ValueError: the formula does not fit the operands.
    """
    terms = _einsum_terms(subscripts, [np.ndim(raw(x)) for x in operands])
    reduced = []
    for i, x in enumerate(operands):
        x, terms[i] = _without_repeats(x, terms[i])
        reduced.append(x)
    sizes: dict[str, set[int]] = {}
    for term, x in zip(terms[:-1], reduced, strict=True):
        for name, n in zip(term, np.shape(raw(x)), strict=True):
            sizes.setdefault(name, set()).add(n)
    for i, x in enumerate(reduced):
        # A size of 1 may stand for any: broadcast first, so that the rules see equal sizes.
        shape = tuple(_size(subscripts, sizes[name]) for name in terms[i])
        reduced[i] = x if np.shape(raw(x)) == shape else broadcast_to(x, shape)
    return _einsum(*reduced, terms=tuple(terms))


def _size(subscripts: str, sizes: set[int]) -> int:
    wide = sizes - {1} if len(sizes) > 1 else sizes
    if len(wide) > 1:
        raise ValueError(f"einsum: one index of {subscripts!r} has sizes {sorted(sizes)}")
    (n,) = wide
    return n


def _einsum_terms(subscripts: str, ndims: list[int]) -> list[str]:
    """The formula as explicit terms, the output last; an ellipsis becomes letters of its own."""
    formula = subscripts.replace(" ", "")
    inputs, arrow, out = formula.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ValueError(
            f"einsum: {subscripts!r} has {len(terms)} term(s) for {len(ndims)} operand(s)"
        )
    free = [c for c in string.ascii_letters if c not in formula]
    widths = [n - len(t.replace("...", "")) for t, n in zip(terms, ndims, strict=True)]
    for term, n, width in zip(terms, ndims, widths, strict=True):
        if width < 0 or (width > 0 and "..." not in term):
            raise ValueError(f"einsum: term {term!r} does not fit an operand with {n} axes")
    widest = np.max([0, *(w for t, w in zip(terms, widths, strict=True) if "..." in t)])
    dots = "".join(free[:widest])
    terms = [t.replace("...", dots[widest - w :]) for t, w in zip(terms, widths, strict=True)]
    if arrow:
        out = out.replace("...", dots)
    else:
        names = "".join(terms)
        out = dots + "".join(sorted(n for n in set(names) - set(dots) if names.count(n) == 1))
    if set(out) - set("".join(terms)) or len(set(out)) != len(out):
        raise ValueError(f"einsum: the output of {subscripts!r} must use each index of a term once")
    return [*terms, out]


def _without_repeats(x: Any, term: str) -> tuple[Any, str]:
    """Take diagonals until no index stands twice in a term."""
    for name in dict.fromkeys(term):
        while term.count(name) > 1:
            i = term.index(name)
            j = term.index(name, i + 1)
            x = diagonal(x, axis1=i, axis2=j)
            term = "".join(c for k, c in enumerate(term) if k not in (i, j)) + name
    return x, term


# --- diagonals -----------------------------------------------------------------------------------


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal between two axes, as a new last axis."""
    shape = np.shape(raw(x))
    if len(shape) < 2:
        raise ValueError(f"diagonal: needs at least two axes, got shape {shape}")
    axis1, axis2 = (_normal_axis("diagonal", a, len(shape)) for a in (axis1, axis2))
    if axis1 == axis2:
        raise ValueError(f"diagonal: axis1 and axis2 are both {axis1}; it lies between two axes")
    rows, columns = np.indices((shape[axis1], shape[axis2])).reshape(2, -1)
    on = columns - rows == offset
    moved = moveaxis(x, (axis1, axis2), (-2, -1))
    return getitem(moved, index=(..., constant(rows[on]), constant(columns[on])))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of the diagonal between two axes."""
    return reduce.sum(diagonal(x, offset, axis1, axis2), -1)


# --- norms ---------------------------------------------------------------------------------------


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Length of vectors, by default the 2-norm over all elements (Frobenius).

    Where the norm is 0 its gradient is taken as 0.

    Args:
        x: of any shape.
        ord: None or 2, 1, `numpy.inf`, or any p > 0, over one axis or the flattened `x`; None or
            "fro" over several.
        axis: over which axes; None for all.
        keepdims: keep them with size 1.

    Raises:
        ValueError: that norm is not defined for these axes.
    """
    axes = reduce._axes("norm", x, axis)
    if ord is None or ord == "fro" or (ord == 2 and _is_vector(x, axes)):
        return reduce.norm2(x, axis=axes, keepdims=keepdims)
    if not isinstance(ord, (int, float)) or ord <= 0 or not _is_vector(x, axes):
        raise ValueError(
            f"norm: ord {ord!r} over axis {axis} of shape {np.shape(raw(x))}; there are None "
            "and 'fro' over any axes, and 1, 2, inf or p > 0 over one axis"
        )
    size = absolute(x)
    if ord == np.inf:
        return reduce.max(size, axes, keepdims=keepdims)
    if ord == 1:
        return reduce.sum(size, axes, keepdims=keepdims)
    total = reduce.sum(power(size, ord), axes, keepdims=keepdims)
    # The root is infinitely steep at 0: there the gate is closed.
    zero = _is_zero(raw(total))
    return where(zero, 0.0, power(where(zero, 1.0, total), 1.0 / ord))


@value
def _is_zero(total: Any) -> Any:
    return total == 0


def _is_vector(x: Any, axes: tuple[int, ...] | None) -> bool:
    return (np.ndim(raw(x)) if axes is None else len(axes)) == 1


# --- matrices ------------------------------------------------------------------------------------


def _t(x: Any) -> Any:
    return swapaxes(x, -1, -2)


def _square(name: str, x: Any) -> Any:
    shape = np.shape(raw(x))
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"{name}: needs square matrices in the last two axes, got shape {shape}")
    return x


_inv = op("inv", np.linalg.inv, lambda g, y: -matmul(_t(y), matmul(g, _t(y))), inputs="x")


def inv(x: Any) -> Any:
    """Inverse matrices.

    Raises:
        ValueError: the matrices are not square.
        numpy.linalg.LinAlgError: a matrix is singular.
    """
    return _inv(_square("inv", x))


def _outer_columns(a: Any, b: Any) -> Any:
    return matmul(a, _t(b))


_solve: Op = op(
    "solve",
    np.linalg.solve,
    lambda g, a, y: -_outer_columns(_solve(_t(a), g), y),
    lambda g, a: _solve(_t(a), g),
    inputs="a b",
)


def solve(a: Any, b: Any) -> Any:
    """The x of a @ x = b; `b` is one vector, or columns of a matrix.

    Raises:
        ValueError: `a` is not square, or sizes differ.
        numpy.linalg.LinAlgError: `a` is singular.
    """
    _square("solve", a)
    if np.ndim(raw(b)) == 1:
        return squeeze(_solve(a, expand_dims(b, -1)), -1)
    return _solve(a, b)


def _cofactors(a: np.ndarray) -> np.ndarray:
    """The derivative of the determinant by each element, also where it is 0 (by SVD)."""
    u, s, vt = np.linalg.svd(a)
    n = a.shape[-1]
    others = (
        np.stack([np.prod(np.delete(s, i, axis=-1), axis=-1) for i in range(n)], axis=-1)
        if n
        else s
    )
    sign = np.linalg.det(u) * np.linalg.det(vt)
    return (sign[..., None, None] * (u * others[..., None, :])) @ vt


def _det_slope(a: Any, y: Any) -> Any:
    if isinstance(a, Variable):
        return expand_dims(y, (-2, -1)) * _t(inv(a))
    return _cofactors(a)


_det = op(
    "det",
    np.linalg.det,
    lambda g, x, y: expand_dims(g, (-2, -1)) * _det_slope(x, y),
    inputs="x",
)


def det(x: Any) -> Any:
    """Determinants.  The first derivative exists everywhere; higher ones need an inverse.

    Raises:
        ValueError: the matrices are not square.
    """
    return _det(_square("det", x))


def _halved_lower(x: Any) -> Any:
    """The lower triangle with its diagonal halved."""
    n = np.shape(raw(x))[-1]
    mask = np.tril(np.ones((n, n), raw(x).dtype))
    mask[np.diag_indices(n)] *= mask.dtype.type(0.5)
    return multiply(x, backend.beside(mask, raw(x)))


def _cholesky_rule(g: Any, y: Any) -> Any:
    inner = _halved_lower(matmul(_t(y), g))
    left = _solve(_t(y), inner)
    whole = _t(_solve(_t(y), _t(left)))
    return (whole + _t(whole)) * 0.5


_cholesky = op("cholesky", np.linalg.cholesky, lambda g, y: _cholesky_rule(g, y), inputs="x")


def cholesky(x: Any) -> Any:
    """The lower triangular L of x = L @ L.T, for symmetric positive definite matrices.

    The gradient is the symmetric one.

    Raises:
        ValueError: the matrices are not square.
        numpy.linalg.LinAlgError: a matrix is not positive definite.
    """
    return _cholesky(_square("cholesky", x))


__all__: Sequence[str] = [
    "cholesky",
    "det",
    "diagonal",
    "dot",
    "einsum",
    "inv",
    "matmul",
    "norm",
    "outer",
    "solve",
    "tensordot",
    "trace",
]
