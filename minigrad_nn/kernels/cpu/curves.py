"""The exponential, tanh, the logistic curve and ReLU of a line of numbers, a vector at a time.

Loops over `math.exp` call a function of the C library for each number, at 5 to 20 ns; these are
straight lines of vector instructions, at less than 1 ns. All of them stand on
`exp(x) = 2ⁿ · exp(r)` with n whole and `|r| ≤ ln(2)/2`, where a few terms of the Taylor series are
exact to the last digit or so; tanh takes `exp(r) − 1`, so that nothing cancels near 0 (Cody and
Waite, "Software manual for the elementary functions", 1980). Errors are below 4 units in the last
place.

NaN gives NaN. `exp` overflows to infinity and underflows gradually to 0.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .tile import _Emitter, _tile

EXP, TANH, LOGISTIC, RELU = range(4)


def _split_log2(bits: int) -> tuple[float, float]:
    """ln(2) as a number of few bits, whose products with small integers are exact, and a rest."""
    high = math.floor(math.log(2) * 2**bits) / 2**bits
    with localcontext() as context:
        context.prec = 50
        return high, float(Decimal(2).ln() - Decimal(high))


# By bits of the element type: bits of the mantissa and of the head of ln(2), terms of the series,
# from where on exp is 0 or infinite, and from where on tanh of half of it is 1.
LIMITS = {32: (23, 12, 7, -104.0, 89.0, 20.0), 64: (52, 32, 13, -746.0, 710.0, 44.0)}


class Mask:
    """The first lanes of a vector, as loads and stores that leave all others alone."""

    def __init__(self, e: _Emitter, lanes: Any) -> None:
        """`lanes` is an integer of the generated code; 0 or less means none."""
        self.e = e
        numbers = ir.Constant(ir.VectorType(e.index, e.width), list(range(e.width)))
        undefined = ir.Constant(numbers.type, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), e.width), [0] * e.width)
        one = e.builder.insert_element(undefined, lanes, ir.Constant(ir.IntType(32), 0))
        limit = e.builder.shuffle_vector(one, undefined, zeros)
        self.mask = e.builder.icmp_signed("<", numbers, limit)

    def _call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        full = f"llvm.masked.{name}.v{self.e.width}f{self.e.align * 8}.p0"
        function = cgutils.get_or_insert_function(self.e.builder.module, kind, full)
        return self.e.builder.call(function, arguments)

    def load(self, pointer: Any) -> Any:
        """The lanes at a pointer; zeros in the others."""
        e = self.e
        pointer = e.builder.bitcast(pointer, e.vector.as_pointer())
        align = ir.Constant(ir.IntType(32), e.align)
        zero = ir.Constant(e.vector, [0.0] * e.width)
        return self._call("load", e.vector, [pointer, align, self.mask, zero])

    def store(self, value: Any, pointer: Any) -> None:
        """Write the lanes."""
        e = self.e
        pointer = e.builder.bitcast(pointer, e.vector.as_pointer())
        align = ir.Constant(ir.IntType(32), e.align)
        self._call("store", ir.VoidType(), [value, pointer, align, self.mask])


class Curves:
    """Functions of one vector, in the generated code."""

    def __init__(self, e: _Emitter) -> None:
        """For the element type of an emitter."""
        self.e = e
        self.bits = e.align * 8
        self.mantissa, head, self.terms, self.lowest, self.highest, self.flat = LIMITS[self.bits]
        self.log2 = _split_log2(head)
        self.integers = ir.VectorType(ir.IntType(self.bits), e.width)

    def all(self, value: float) -> Any:
        """The same number in each lane."""
        return ir.Constant(self.e.vector, [value] * self.e.width)

    def all_int(self, value: int) -> Any:
        """The same integer in each lane."""
        return ir.Constant(self.integers, [value] * self.e.width)

    def _fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.e.builder.call(self.e.fma, [a, b, c])

    def _below(self, x: Any, limit: float) -> Any:
        """x, but no more than a limit; NaN stays."""
        over = self.e.builder.fcmp_ordered(">", x, self.all(limit))
        return self.e.builder.select(over, self.all(limit), x)

    def _reduced(self, x: Any) -> tuple[Any, Any]:
        """The integers n and the vector `exp(r) − 1` of `exp(x) = 2ⁿ · exp(r)`."""
        builder = self.e.builder
        # Adding this leaves no digits behind the point, and n in the last bits of the sum.
        magic = self.all(1.5 * 2**self.mantissa)
        shifted = self._fma(x, self.all(1 / math.log(2)), magic)
        number = builder.fsub(shifted, magic)
        n = builder.sub(
            builder.bitcast(shifted, self.integers), builder.bitcast(magic, self.integers)
        )
        r = self._fma(number, self.all(-self.log2[0]), x)
        r = self._fma(number, self.all(-self.log2[1]), r)
        series = self.all(1 / math.factorial(self.terms))
        for k in range(self.terms - 1, 1, -1):
            series = self._fma(series, r, self.all(1 / math.factorial(k)))
        return n, self._fma(builder.fmul(r, r), series, r)

    def _power(self, n: Any) -> Any:
        """2ⁿ, for n that a normal number can have."""
        bias = self.all_int(2 ** (self.bits - self.mantissa - 2) - 1)
        shifted = self.e.builder.shl(self.e.builder.add(n, bias), self.all_int(self.mantissa))
        return self.e.builder.bitcast(shifted, self.e.vector)

    def exp(self, x: Any) -> Any:
        """`exp(x)`."""
        builder = self.e.builder
        under = builder.fcmp_ordered("<", x, self.all(self.lowest))
        x = builder.select(under, self.all(self.lowest), self._below(x, self.highest))
        n, p = self._reduced(x)
        half = builder.ashr(n, self.all_int(1))
        y = builder.fmul(builder.fadd(p, self.all(1.0)), self._power(half))
        return builder.fmul(y, self._power(builder.sub(n, half)))

    def tanh(self, x: Any) -> Any:
        """`tanh(x) = (exp(2x) − 1) / (exp(2x) + 1)` of the magnitude, with the sign of x."""
        builder = self.e.builder
        sign = self.all_int(-(2 ** (self.bits - 1)))
        whole = builder.bitcast(x, self.integers)
        signs = builder.and_(whole, sign)
        size = builder.bitcast(builder.xor(whole, signs), self.e.vector)
        n, p = self._reduced(self._below(builder.fadd(size, size), self.flat))
        power = self._power(n)
        less = self._fma(power, p, builder.fsub(power, self.all(1.0)))
        y = builder.fdiv(less, builder.fadd(less, self.all(2.0)))
        return builder.bitcast(builder.or_(builder.bitcast(y, self.integers), signs), self.e.vector)

    def logistic(self, x: Any) -> Any:
        """`1 / (1 + exp(−x))`."""
        one = self.all(1.0)
        power = self.exp(self.e.builder.fsub(self.all(-0.0), x))
        return self.e.builder.fdiv(one, self.e.builder.fadd(one, power))

    def relu(self, x: Any) -> Any:
        """`max(x, 0)`."""
        zero = self.all(0.0)
        # NaN is neither above nor below 0, and stays.
        return self.e.builder.select(self.e.builder.fcmp_ordered("<=", x, zero), zero, x)

    def of(self, kind: int, x: Any) -> Any:
        """The curve of this number."""
        return (self.exp, self.tanh, self.logistic, self.relu)[kind](x)


@_tile
def curve_line(typingctx, kind, x, x0, y, y0, count):
    """`y[y0 + i] = f(x[x0 + i])` for `i < count`; kind is one of EXP, TANH, LOGISTIC, RELU."""
    if not hasattr(kind, "literal_value"):
        return None
    number, at = kind.literal_value, types.intp
    signature = types.void(kind, x, at, y, at, at)

    def generate(context, builder, signature, arguments):
        _, x_, x0_, y_, y0_, count_ = arguments
        e = _Emitter(context, builder, signature.args[1].dtype)
        curves = Curves(e)
        start = e.at(e.data(signature.args[1], x_), x0_)
        end = e.at(e.data(signature.args[3], y_), y0_)
        step = e.const(e.width)
        vectors = builder.sdiv(builder.add(count_, e.const(e.width - 1)), step)
        with cgutils.for_range(builder, vectors) as loop:
            shift = builder.mul(loop.index, step)
            inside = Mask(e, builder.sub(count_, shift))
            value = inside.load(e.at(start, shift))
            inside.store(curves.of(number, value), e.at(end, shift))
        return context.get_dummy_value()

    return signature, generate
