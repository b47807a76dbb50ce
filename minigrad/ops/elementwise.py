"""Elementwise operations: each is its forward on arrays, its forward on floats, and its rules.

The rules are the derivatives of the textbook, written with the operations themselves, so that
they can be differentiated again.  Where a function has no derivative, one subgradient is chosen:

=================  ==============================================================================
``abs``, ``relu``  0 at 0
``maximum`` etc.   a tie shares the gradient equally between both arguments
``clip``           1 at both bounds
``sqrt``           infinity at 0 (its limit); through a closed gate, 0
``power``          x**0 has slope 0 everywhere; 0**b has slope 0 in b for b >= 0
``sign`` etc.      0 everywhere
=================  ==============================================================================

A *closed gate* passes nothing: where `where`, `maximum`, `clip`, `relu` or an index leaves a value
out, its gradient is 0 even if the local gradient behind it is infinite or NaN there.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Op, Variable, op, raw

_LN2 = math.log(2.0)
_LN10 = math.log(10.0)


def on_floats(fast: Callable, ufunc: Callable) -> Callable:
    """`fast` on Python floats, but with NumPy's infinities and NaN instead of exceptions."""

    def function(*args: float) -> float:
        try:
            return fast(*args)
        except (ValueError, OverflowError, ZeroDivisionError):
            with np.errstate(all="ignore"):
                return float(ufunc(*[np.float64(arg) for arg in args]))

    return function


def constant_op(name: str, forward: Callable, scalar: Callable | None = None) -> Op:
    """An op whose result is piecewise constant, such as a comparison: it carries no gradient."""
    inputs = ("x",) if getattr(forward, "nin", 1) == 1 else ("a", "b")
    return Op(name, forward, inputs=inputs, differentiable=(False,), scalar=scalar)


def zeros_like_raw(x: Any) -> Any:
    """Zeros in the shape and dtype of a value, as a raw constant."""
    x = raw(x)
    return 0.0 if isinstance(x, float) else np.zeros_like(x)


# --- choosing ------------------------------------------------------------------------------------

_MANY = 4096
"""Elements from which masking their bits beats choosing one by one."""


def _choose(condition: Any, a: Any, b: Any) -> Any:
    """`numpy.where`; many floats against 0.0, as in the rule of `relu`, by masking their bits.

    Which gates of a ReLU are open is as good as random, so a branch for each element is guessed
    wrong half of the time: 16 times slower on a million elements, measured.
    """
    if (
        isinstance(a, np.ndarray)
        and a.size >= _MANY
        and a.dtype.char in "efd"
        and a.dtype.isnative
        and type(b) is float
        and b == 0.0
        and math.copysign(1.0, b) > 0.0
        and isinstance(condition, np.ndarray)
        and condition.dtype == bool
        and condition.shape == a.shape
    ):
        found = np.empty_like(a)
        bits = found.view(f"i{a.itemsize}")
        bits[...] = condition
        np.negative(bits, out=bits)  # 1 becomes all ones
        np.bitwise_and(a.view(bits.dtype), bits, out=bits)
        return found
    return np.where(condition, a, b)


where: Op = op(
    "where",
    _choose,
    lambda g: None,
    lambda g, condition: where(condition, g, 0.0),
    lambda g, condition: where(condition, 0.0, g),
    inputs="condition a b",
    scalar=lambda condition, a, b: a if condition else b,
    gate="selects",
)


def keep(g: Any, mask: Any) -> Any:
    """`g` where the raw `mask` is true, 0 elsewhere; never a NaN from 0 times infinity."""
    return where(backend.beside(mask, raw(g)), g, 0.0)


def _share(winner: Any, loser: Any) -> Any:
    """The share of the gradient that an argument of max or min gets: 1, 0, or 1/2 in a tie."""
    a, b = raw(winner), raw(loser)
    if isinstance(a, float) and isinstance(b, float):
        return 0.5 * (a > b) + 0.5 * (a >= b)
    dtype = np.result_type(a, b)
    share = np.greater(a, b).astype(dtype)
    share += np.greater_equal(a, b)
    return share * dtype.type(0.5)


maximum = op(
    "maximum",
    np.maximum,
    lambda g, a, b: g * _share(a, b),
    lambda g, a, b: g * _share(b, a),
    scalar=lambda a, b: a if a >= b or a != a else b,
    gate="selects",
)
minimum = op(
    "minimum",
    np.minimum,
    lambda g, a, b: g * _share(b, a),
    lambda g, a, b: g * _share(a, b),
    scalar=lambda a, b: a if a <= b or a != a else b,
    gate="selects",
)
relu = op(
    "relu",
    lambda x: np.maximum(x, 0),
    # Not `y > 0`: a NaN lets the gradient through, and is seen.
    lambda g, y: keep(g, _not_closed(y)),
    scalar=lambda x: x if x > 0.0 or x != x else 0.0,
    gate="selects",
)
_clip = op(
    "clip",
    lambda x, *, low, high: np.clip(x, low, high),
    lambda g, x, low, high: keep(g, _inside(raw(x), low, high)),
    gate="selects",
)


def _not_closed(y: Any) -> Any:
    closed = raw(y) <= 0
    return not closed if isinstance(closed, bool) else np.logical_not(closed)


def _inside(x: Any, low: Any, high: Any) -> Any:
    if low is None and high is None:
        return np.ones_like(x, bool)
    if low is None or high is None:
        return x >= low if high is None else x <= high
    return (x >= low) & (x <= high)


def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    """Limit values to `a_min <= x <= a_max`.

    Args:
        x: a tensor, array or number.
        a_min, a_max: constant bounds, or None for no bound.

    Raises:
        TypeError: a bound requires a gradient, which would be lost here.

    >>> import minigrad
    >>> minigrad.clip(minigrad.tensor([-2.0, 0.5, 3.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """
    for name, bound in ("a_min", a_min), ("a_max", a_max):
        if isinstance(bound, Variable) and bound.requires_grad:
            raise TypeError(
                f"clip: {name} requires a gradient, but clip takes its bounds as constants; write "
                "minimum(maximum(x, a_min), a_max), or .detach() the bound"
            )
    return _clip(x, low=raw(a_min), high=raw(a_max))


# --- arithmetic ----------------------------------------------------------------------------------

add = op("add", np.add, lambda g: g, lambda g: g, scalar=operator.add)
subtract = op("subtract", np.subtract, lambda g: g, lambda g: -g, scalar=operator.sub)
multiply = op(
    "multiply",
    np.multiply,
    lambda g, b: g * b,
    lambda g, a: g * a,
    scalar=operator.mul,
    gate="elementwise",
)
ieee_divide = on_floats(operator.truediv, np.divide)
divide: Op = op(
    "divide",
    np.divide,
    lambda g, b: divide(g, b),
    lambda g, y, b: -divide(g * y, b),
    scalar=ieee_divide,
    gate="elementwise",
)
negative = op("negative", np.negative, lambda g: -g, scalar=operator.neg)
square = op(
    "square",
    np.square,
    lambda g, x: g * (2.0 * x),
    scalar=lambda x: x * x,
    gate="elementwise",
)
power = op(
    "power",
    operator.pow,
    lambda g, a, b: g * _slope_in_base(a, b),
    lambda g, a, b, y: g * _slope_in_exponent(a, b, y),
    inputs="a b",
    scalar=on_floats(math.pow, np.power),
    gate="elementwise",
)


def _slope_in_base(a: Any, b: Any) -> Any:
    """b * a**(b - 1), and 0 for a**0 at a = 0."""
    if isinstance(b, (int, float)):
        if b == 2:
            return 2.0 * a
        return b * power(a, b - 1) if b != 0 else zeros_like_raw(a)
    flat = (raw(a) == 0) & (raw(b) == 0)
    return b * power(a, where(flat, 1.0, b) - 1.0)


def _slope_in_exponent(a: Any, b: Any, y: Any) -> Any:
    """a**b * log(a), and 0 at a = 0 for b >= 0."""
    flat = (raw(a) == 0) & (raw(b) >= 0)
    return y * log(where(flat, 1.0, a))


absolute = op("abs", np.absolute, lambda g, x: g * sign(x), scalar=operator.abs, gate="elementwise")
abs = absolute
sign: Op = op(
    "sign",
    np.sign,
    lambda g: zeros_like_raw(g),
    scalar=lambda x: x if x != x else float((x > 0) - (x < 0)),
)
floor = op(
    "floor",
    np.floor,
    lambda g: zeros_like_raw(g),
    scalar=on_floats(lambda x: float(math.floor(x)), np.floor),
)
ceil = op(
    "ceil",
    np.ceil,
    lambda g: zeros_like_raw(g),
    scalar=on_floats(lambda x: float(math.ceil(x)), np.ceil),
)

# --- exponentials and logarithms -----------------------------------------------------------------

exp = op("exp", np.exp, lambda g, y: g * y, scalar=on_floats(math.exp, np.exp), gate="elementwise")
expm1 = op(
    "expm1",
    np.expm1,
    lambda g, y: g * (y + 1.0),
    scalar=on_floats(math.expm1, np.expm1),
    gate="elementwise",
)
log = op(
    "log", np.log, lambda g, x: divide(g, x), scalar=on_floats(math.log, np.log), gate="elementwise"
)
log1p = op(
    "log1p",
    np.log1p,
    lambda g, x: divide(g, x + 1.0),
    scalar=on_floats(math.log1p, np.log1p),
    gate="elementwise",
)
log2 = op(
    "log2",
    np.log2,
    lambda g, x: divide(g, x * _LN2),
    scalar=on_floats(math.log2, np.log2),
    gate="elementwise",
)
log10 = op(
    "log10",
    np.log10,
    lambda g, x: divide(g, x * _LN10),
    scalar=on_floats(math.log10, np.log10),
    gate="elementwise",
)
sqrt = op(
    "sqrt",
    np.sqrt,
    lambda g, y: divide(g, 2.0 * y),
    scalar=on_floats(math.sqrt, np.sqrt),
    gate="elementwise",
)
logaddexp = op(
    "logaddexp",
    np.logaddexp,
    lambda g, a, b: g * sigmoid(_difference(a, b)),
    lambda g, a, b: g * sigmoid(_difference(b, a)),
    scalar=lambda a, b: _logaddexp(float(a), float(b)),
    gate="elementwise",
)


def _logaddexp(a: float, b: float) -> float:
    if a == b:
        return a + _LN2
    return max(a, b) + math.log1p(math.exp(-math.fabs(a - b)))


def _difference(a: Any, b: Any) -> Any:
    """a - b, but 0 where both are the same infinity, which would give NaN."""
    tie = (raw(a) == raw(b)) & (abs(raw(a)) == math.inf)
    return where(tie, 0.0, a - b)


# --- trigonometric and hyperbolic functions ------------------------------------------------------

sin = op(
    "sin", np.sin, lambda g, x: g * cos(x), scalar=on_floats(math.sin, np.sin), gate="elementwise"
)
cos: Op = op(
    "cos", np.cos, lambda g, x: -g * sin(x), scalar=on_floats(math.cos, np.cos), gate="elementwise"
)
tan = op(
    "tan",
    np.tan,
    lambda g, y: g * (1.0 + y * y),
    scalar=on_floats(math.tan, np.tan),
    gate="elementwise",
)
arcsin = op(
    "arcsin",
    np.arcsin,
    lambda g, x: divide(g, sqrt(1.0 - x * x)),
    scalar=on_floats(math.asin, np.arcsin),
    gate="elementwise",
)
arccos = op(
    "arccos",
    np.arccos,
    lambda g, x: -divide(g, sqrt(1.0 - x * x)),
    scalar=on_floats(math.acos, np.arccos),
    gate="elementwise",
)
arctan = op(
    "arctan",
    np.arctan,
    lambda g, x: g / (1.0 + x * x),
    scalar=on_floats(math.atan, np.arctan),
    gate="elementwise",
)
arctan2 = op(
    "arctan2",
    np.arctan2,
    lambda g, a, b: g * divide(b, a * a + b * b),
    lambda g, a, b: g * divide(-a, a * a + b * b),
    scalar=on_floats(math.atan2, np.arctan2),
    gate="elementwise",
)
sinh = op(
    "sinh",
    np.sinh,
    lambda g, x: g * cosh(x),
    scalar=on_floats(math.sinh, np.sinh),
    gate="elementwise",
)
cosh: Op = op(
    "cosh",
    np.cosh,
    lambda g, x: g * sinh(x),
    scalar=on_floats(math.cosh, np.cosh),
    gate="elementwise",
)
tanh = op("tanh", np.tanh, lambda g, y: g * (1.0 - y * y), scalar=math.tanh, gate="elementwise")


def _sigmoid(x: Any) -> Any:
    """The logistic function, without overflow on either side."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


sigmoid: Op = op(
    "sigmoid",
    _sigmoid,
    lambda g, y: g * (y * (1.0 - y)),
    scalar=lambda x: 1.0 / (1.0 + math.exp(-x)) if x >= 0 or x != x else _sigmoid_left(x),
    gate="elementwise",
)


def _sigmoid_left(x: float) -> float:
    small = math.exp(x)
    return small / (1.0 + small)


# --- comparisons and predicates: no gradient -----------------------------------------------------

equal = constant_op("equal", np.equal)
not_equal = constant_op("not_equal", np.not_equal)
less = constant_op("less", np.less)
less_equal = constant_op("less_equal", np.less_equal)
greater = constant_op("greater", np.greater)
greater_equal = constant_op("greater_equal", np.greater_equal)
logical_and = constant_op("logical_and", np.logical_and)
logical_or = constant_op("logical_or", np.logical_or)
logical_not = constant_op("logical_not", np.logical_not)
isnan = constant_op("isnan", np.isnan)
isinf = constant_op("isinf", np.isinf)
isfinite = constant_op("isfinite", np.isfinite)
floor_divide = constant_op("floor_divide", np.floor_divide)
