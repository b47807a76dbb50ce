"""Functions of one element, for NumPy's ufuncs: each is lifted to whole arrays by `elementwise`.

A function is made for the type `T` that it computes with, so that its constants are of that type:
`1.0 + x` with a float32 `x` is computed in float64 by Numba, which most cards do slowly.  The
functions follow NumPy where a choice is to be made: NaN travels through `maximum`, an integer
divided by 0 is 0, and the sign of NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from .driver import simulated

if simulated():
    # As on a card: infinities and NaN instead of exceptions, and float32 stays float32.
    names = "exp expm1 log log1p log2 log10 sqrt sin cos tan sinh cosh tanh floor ceil trunc"
    math: Any = SimpleNamespace(
        **{name: getattr(np, name) for name in names.split()},
        asin=np.arcsin,
        acos=np.arccos,
        atan=np.arctan,
        atan2=np.arctan2,
        fabs=np.fabs,
        fmod=np.fmod,
    )
else:
    import math

Function = Callable[..., Any]
Factory = Callable[[Any], Function]


def _floor_divide(T: Any) -> Function:
    """The quotient rounded down, as NumPy computes it: from the remainder, which is exact."""
    if np.dtype(T).kind != "f":
        return lambda a, b: a // b if b != T(0) else T(0)
    nought, half, one = T(0), T(0.5), T(1)

    def function(a: Any, b: Any) -> Any:
        if b == nought:
            return a / b
        rest = math.fmod(a, b)
        quotient = (a - rest) / b
        if rest != nought and (b < nought) != (rest < nought):
            quotient = quotient - one
        whole = math.floor(quotient)
        return whole + one if quotient - whole > half else whole

    return function


def _sign(T: Any) -> Function:
    return lambda x: T(1) if x > T(0) else (T(-1) if x < T(0) else x)


def _absolute(T: Any) -> Function:
    if T is np.bool_:
        return lambda x: x
    return lambda x: x if x > T(0) or x != x else T(0) - x


def _isinf(T: Any) -> Function:
    if T is np.bool_:
        return lambda x: False
    return lambda x: x == x and x - x != T(0)


def _isfinite(T: Any) -> Function:
    if T is np.bool_:
        return lambda x: True
    return lambda x: x - x == T(0)


def _logaddexp(T: Any) -> Function:
    ln2 = T(np.log(2.0))

    def function(a: Any, b: Any) -> Any:
        if a == b:
            return a + ln2
        gap = a - b
        if gap > T(0):
            return a + math.log1p(math.exp(-gap))
        if gap <= T(0):
            return b + math.log1p(math.exp(gap))
        return gap  # NaN

    return function


def _same(f: Function) -> Factory:
    """The same function for every type."""
    return lambda T: f


SCALARS: dict[Any, Factory] = {
    np.add: _same(lambda a, b: a + b),
    np.subtract: _same(lambda a, b: a - b),
    np.multiply: _same(lambda a, b: a * b),
    np.divide: _same(lambda a, b: a / b),
    np.negative: _same(lambda x: -x),
    np.positive: _same(lambda x: x),
    np.square: _same(lambda x: x * x),
    np.reciprocal: lambda T: lambda x: T(1) / x,
    np.power: _same(lambda a, b: a**b),
    np.floor_divide: _floor_divide,
    np.absolute: _absolute,
    np.sign: _sign,
    np.floor: _same(lambda x: math.floor(x)),
    np.ceil: _same(lambda x: math.ceil(x)),
    np.trunc: _same(lambda x: math.trunc(x)),
    np.exp: _same(lambda x: math.exp(x)),
    np.expm1: _same(lambda x: math.expm1(x)),
    np.log: _same(lambda x: math.log(x)),
    np.log1p: _same(lambda x: math.log1p(x)),
    np.log2: _same(lambda x: math.log2(x)),
    np.log10: _same(lambda x: math.log10(x)),
    np.sqrt: _same(lambda x: math.sqrt(x)),
    np.logaddexp: _logaddexp,
    np.sin: _same(lambda x: math.sin(x)),
    np.cos: _same(lambda x: math.cos(x)),
    np.tan: _same(lambda x: math.tan(x)),
    np.arcsin: _same(lambda x: math.asin(x)),
    np.arccos: _same(lambda x: math.acos(x)),
    np.arctan: _same(lambda x: math.atan(x)),
    np.arctan2: _same(lambda a, b: math.atan2(a, b)),
    np.sinh: _same(lambda x: math.sinh(x)),
    np.cosh: _same(lambda x: math.cosh(x)),
    np.tanh: _same(lambda x: math.tanh(x)),
    np.maximum: _same(lambda a, b: a if a >= b or a != a else b),
    np.minimum: _same(lambda a, b: a if a <= b or a != a else b),
    np.equal: _same(lambda a, b: a == b),
    np.not_equal: _same(lambda a, b: a != b),
    np.less: _same(lambda a, b: a < b),
    np.less_equal: _same(lambda a, b: a <= b),
    np.greater: _same(lambda a, b: a > b),
    np.greater_equal: _same(lambda a, b: a >= b),
    np.logical_and: lambda T: lambda a, b: a != T(0) and b != T(0),
    np.logical_or: lambda T: lambda a, b: a != T(0) or b != T(0),
    np.logical_xor: lambda T: lambda a, b: (a != T(0)) != (b != T(0)),
    np.logical_not: lambda T: lambda x: x == T(0),
    np.bitwise_and: _same(lambda a, b: a & b),
    np.bitwise_or: _same(lambda a, b: a | b),
    np.bitwise_xor: _same(lambda a, b: a ^ b),
    np.invert: lambda T: (lambda x: not x) if T is np.bool_ else (lambda x: ~x),
    np.isnan: _same(lambda x: x != x),
    np.isinf: _isinf,
    np.isfinite: _isfinite,
}
"""One function for each ufunc that arrays on a card know."""
