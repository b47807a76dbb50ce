"""Sums of products over NumPy's axes, `matmul`, `dot` and `einsum`, by the kernel of products."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import elementwise, product, reduce
from .array import CudaArray, refuse

__all__ = ["dot", "einsum", "matmul"]


def matmul(a: Any, b: Any, out: Any = None) -> CudaArray:
    """`numpy.matmul`, of floating point."""
    dtype = np.result_type(a.dtype, b.dtype)
    if dtype.kind != "f":
        raise refuse(f"numpy.matmul of {dtype}")
    # Products are computed in float32 or float64; half precision is for storing.
    computed = np.result_type(dtype, np.float32)
    found = product.matmul(a.astype(computed, copy=False), b.astype(computed, copy=False))
    if out is not None:
        return elementwise.assign(out, found)
    return found.astype(dtype, copy=False)


def dot(kind: Any, a: Any, b: Any, out: Any = None) -> CudaArray:
    """`numpy.dot`, as the protocol calls it."""
    if not a.ndim or not b.ndim:
        return np.multiply(a, b, out=out)
    if b.ndim > 2:
        raise refuse("numpy.dot with more than two axes on the right")
    return matmul(a, b, out)


def einsum(
    kind: Any, formula: str, *operands: CudaArray, out: Any = None, optimize: Any = False
) -> CudaArray:
    """`numpy.einsum`, as the protocol calls it.

    Operands are taken in one after another; each index of a term stands there once.
    """
    inputs, _, result = formula.partition("->")
    terms = inputs.split(",")
    term, x = terms[0], operands[0]
    for i, (other, y) in enumerate(zip(terms[1:], operands[1:], strict=True), 1):
        wanted = set(result).union(*terms[i + 1 :])
        x, term = _summed(x, term, wanted | set(other))
        y, other = _summed(y, other, wanted | set(term))
        x, term = _pair(x, term, y, other, wanted)
    x, term = _summed(x, term, set(result))
    found = x.transpose([term.index(name) for name in result])
    if out is not None:
        return elementwise.assign(out, found)
    return found.copy() if found.base is not None else found


def _summed(x: CudaArray, term: str, wanted: set[str]) -> tuple[CudaArray, str]:
    """Without the indices that nobody wants any more."""
    axes = tuple(i for i, name in enumerate(term) if name not in wanted)
    if not axes:
        return x, term
    return reduce.reduce(np.add, x, axes), "".join(n for n in term if n in wanted)


def _pair(
    x: CudaArray, term: str, y: CudaArray, other: str, wanted: set[str]
) -> tuple[CudaArray, str]:
    """The product of two operands, as a batch of matrix products."""
    batch = [n for n in term if n in other and n in wanted]
    inner = [n for n in term if n in other and n not in wanted]
    left = [n for n in term if n not in other]
    right = [n for n in other if n not in term]
    size = dict(zip(term, x.shape, strict=True)) | dict(zip(other, y.shape, strict=True))

    def arranged(a: CudaArray, names: str, *groups: list[str]) -> CudaArray:
        order = [names.index(n) for group in groups for n in group]
        sizes = [int(np.prod([size[n] for n in group], dtype=np.int64)) for group in groups]
        return a.transpose(order).reshape([*[size[n] for n in batch], *sizes[1:]])

    final = [*batch, *left, *right]
    if not inner:  # nothing to add up: a product of elements
        a = arranged(x, term, batch, left, [])
        b = arranged(y, other, batch, [], right)
        found: Any = np.multiply(a, b)
    else:
        a, b = arranged(x, term, batch, left, inner), arranged(y, other, batch, inner, right)
        found = matmul(a, b)
    return found.reshape([size[n] for n in final]), "".join(final)
