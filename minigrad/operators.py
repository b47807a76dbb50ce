"""Operators and methods of tensors: which op each of them is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Variable, is_recording, paused
from minigrad.nodes import TensorNode
from minigrad.ops import elementwise, linalg, reduce
from minigrad.ops import index as indexing
from minigrad.ops import shape as shaping

_NO_PARAMS: dict[str, Any] = {}
_operands = (Variable, np.ndarray, int, float, np.generic, list)


def _binary(op: Op, swapped: bool = False) -> Callable:
    """The op as an operator: it declines what it does not know, as Python asks."""

    def method(self: Any, other: Any) -> Any:
        # Two tensors: `apply` written out for two arguments, since formulas are made of these.
        if isinstance(other, Operators):
            a, b = (other, self) if swapped else (self, other)
            values = a._data, b._data
            wrap = TensorNode.wrap
            try:
                data = backend.execute(op, values, _NO_PARAMS)
            except ValueError as error:
                raise explained(error, op, values) from None
            except backend.MixedDevices as error:
                raise error.named((a, b)) from None
            if isinstance(data, np.generic):
                data = np.asarray(data)
            needs = a._requires, b._requires
            if True not in needs or (paused and not is_recording()) or not op.differentiable[0]:
                return wrap(data)
            inputs = a._node or a.node, b._node or b.node
            return wrap(data, TensorNode(op, inputs, needs, _NO_PARAMS, (*values, data), data))
        if not isinstance(other, _operands) and not backend.is_array(other):
            return NotImplemented
        return self.apply(op, (other, self) if swapped else (self, other), {})

    method.__name__ = op.name
    return method


def explained(error: Exception, op: Op, arrays: Sequence) -> Exception:
    """NumPy's complaint with the op's name and the shapes in front."""
    shapes = ", ".join(str(np.shape(a)) for a in arrays)
    kinds = np.linalg.LinAlgError, ValueError, IndexError
    kind = next(kind for kind in kinds if isinstance(error, kind))
    return kind(f"{op.name} of shapes {shapes}: {error}")


def _logical(op: Op, sign: str) -> Callable:
    """The op as a bitwise operator, which has its meaning on booleans only."""

    def method(self: Any, *others: Any) -> Any:
        for x in (self, *others):
            if not isinstance(x, _operands) and not backend.is_array(x):
                return NotImplemented
            dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
            if dtype.kind != "b":
                raise TypeError(
                    f"{sign} joins booleans, got {dtype}: put comparisons in brackets, as in "
                    f"(x > 0) & (x < 1), or call minigrad.{op.name}"
                )
        return self.apply(op, (self, *others), {})

    method.__name__ = op.name
    return method


class Operators:
    """The part of `Tensor` that says which op an operator or a method is."""

    __slots__ = ()
    _data: Any
    _node: Any
    _requires: bool
    node: Any
    apply: Callable

    # Defining `==` would take the hash away: tensors are keys by identity.
    __hash__ = object.__hash__

    def __pos__(self) -> Any:
        return self

    __neg__ = elementwise.negative
    __abs__ = elementwise.abs
    __invert__ = _logical(elementwise.logical_not, "~")
    __add__ = _binary(elementwise.add)
    __radd__ = _binary(elementwise.add, swapped=True)
    __sub__ = _binary(elementwise.subtract)
    __rsub__ = _binary(elementwise.subtract, swapped=True)
    __mul__ = _binary(elementwise.multiply)
    __rmul__ = _binary(elementwise.multiply, swapped=True)
    __truediv__ = _binary(elementwise.divide)
    __rtruediv__ = _binary(elementwise.divide, swapped=True)
    __floordiv__ = _binary(elementwise.floor_divide)
    __rfloordiv__ = _binary(elementwise.floor_divide, swapped=True)
    __pow__ = _binary(elementwise.power)
    __rpow__ = _binary(elementwise.power, swapped=True)
    __and__ = __rand__ = _logical(elementwise.logical_and, "&")
    __or__ = __ror__ = _logical(elementwise.logical_or, "|")
    __lt__ = _binary(elementwise.less)
    __le__ = _binary(elementwise.less_equal)
    __gt__ = _binary(elementwise.greater)
    __ge__ = _binary(elementwise.greater_equal)
    __eq__ = _binary(elementwise.equal)
    __ne__ = _binary(elementwise.not_equal)

    def __matmul__(self, other: Any) -> Any:
        known = isinstance(other, _operands) or backend.is_array(other)
        return linalg.matmul(self, other) if known else NotImplemented

    def __rmatmul__(self, other: Any) -> Any:
        known = isinstance(other, _operands) or backend.is_array(other)
        return linalg.matmul(other, self) if known else NotImplemented

    # NumPy's methods
    sum = reduce.sum
    mean = reduce.mean
    prod = reduce.prod
    max = reduce.max
    min = reduce.min
    var = reduce.var
    std = reduce.std
    cumsum = reduce.cumsum
    argmax = reduce.argmax
    argmin = reduce.argmin
    any = reduce.any
    all = reduce.all
    reshape = shaping.reshape
    transpose = shaping.transpose
    swapaxes = shaping.swapaxes
    squeeze = shaping.squeeze
    ravel = shaping.ravel
    flatten = shaping.flatten
    astype = shaping.astype
    repeat = shaping.repeat
    take = indexing.take
    sort = indexing.sort
    argsort = indexing.argsort
    dot = linalg.dot
    trace = linalg.trace
    diagonal = linalg.diagonal
    clip = elementwise.clip

    # and those that a formula reads well with, as on scalars
    exp = elementwise.exp
    log = elementwise.log
    sqrt = elementwise.sqrt
    square = elementwise.square
    sin = elementwise.sin
    cos = elementwise.cos
    tan = elementwise.tan
    tanh = elementwise.tanh
    sigmoid = elementwise.sigmoid
    relu = elementwise.relu
    abs = elementwise.abs
    pow = elementwise.power
