"""Register tiles of batch norm: one plane of a channel, W numbers at a time.

Planes of 7x7 or 14x14 are short. A compiler's loop takes as many numbers at once as it finds good
for long ones, and what is left over one by one: of 49 numbers that is all of them. Here whatever
is left over is one more vector, whose lanes beyond the plane are masked. Sums are in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .pool_tile import _Rows
from .tile import _tile


class _Plane(_Rows):
    """Vectors along one plane, the last of which may be a part of one."""

    def __init__(self, context: Any, builder: Any, number: Any) -> None:
        super().__init__(context, builder, number)
        self.wide = ir.VectorType(ir.DoubleType(), self.width)
        self.zero = self.numbers(0.0)
        self.left: Any = None

    def along(self, length: Any, visit: Callable[[Any], None]) -> None:
        """`visit(j)` for the vectors that begin at `j`; the loads and stores in it are masked."""
        builder, width = self.builder, self.const(self.width)
        steps = builder.udiv(length, width)
        with cgutils.for_range(builder, steps) as step:
            visit(builder.mul(step.index, width))
        rest = builder.urem(length, width)
        with builder.if_then(builder.icmp_unsigned("!=", rest, self.const(0))):
            self.left = rest
            visit(builder.mul(steps, width))
            self.left = None

    def take(self, pointer: Any, j: Any) -> Any:
        """A vector of a plane; lanes beyond its end are 0."""
        if self.left is None:
            return self.load(self.at(pointer, j))
        return self.load_part(self.at(pointer, j), self.const(0), self.left, self.zero)

    def put(self, value: Any, pointer: Any, j: Any) -> None:
        """Write a vector, but for lanes beyond the plane's end."""
        if self.left is None:
            self.store(value, self.at(pointer, j))
        else:
            self.store_part(value, self.at(pointer, j), self.left)

    def within(self, vector: Any) -> Any:
        """The vector with 0 in lanes beyond the plane's end."""
        if self.left is None:
            return vector
        mask = self.inside(self.line(self.const(0)), self.left)
        return self.builder.select(mask, vector, ir.Constant(vector.type, None))

    def widened(self, vector: Any) -> Any:
        return vector if self.bits == 64 else self.builder.fpext(vector, self.wide)

    def total(self) -> Any:
        """A slot for W sums in float64."""
        return self.slot(ir.Constant(self.wide, None))

    def add(self, slot: Any, vector: Any) -> None:
        self.builder.store(self.builder.fadd(self.builder.load(slot), vector), slot)

    def add_product(self, slot: Any, a: Any, b: Any) -> None:
        fma = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.wide, [self.wide] * 3),
            f"llvm.fmuladd.v{self.width}f64",
        )
        self.builder.store(self.builder.call(fma, [a, b, self.builder.load(slot)]), slot)

    def sum_of(self, slot: Any) -> Any:
        """The sum of W sums."""
        add = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), self.wide]),
            f"llvm.vector.reduce.fadd.v{self.width}f64",
        )
        zero = ir.Constant(ir.DoubleType(), -0.0)
        return self.builder.call(add, [zero, self.builder.load(slot)], fastmath=("reassoc",))

    def scaled(self, x: Any, middle: Any, scale: Any, shift: Any) -> Any:
        """`(x − middle)·scale + shift`, rounded after each step, as backward computes it again."""
        builder = self.builder
        return builder.fadd(builder.fmul(builder.fsub(x, middle), scale), shift)

    def let_through(self, g: Any, value: Any, floor: Any, ceiling: Any) -> Any:
        """A gradient behind an activation: 0 where its value is at one of its ends."""
        builder = self.builder
        low = builder.fcmp_ordered("<=", value, floor)
        high = builder.fcmp_ordered(">=", value, ceiling)
        return builder.select(builder.or_(low, high), self.zero, g)

    def pair(self, first: Any, second: Any) -> Any:
        return self.context.make_tuple(self.builder, _PAIR, [first, second])


_PAIR = types.UniTuple(types.float64, 2)


@_tile
def moments_tile(typingctx, x, x0, length, origin):
    """`(Σ (x − origin), Σ (x − origin)²)` over `x[x0 .. x0 + length]`, in float64."""
    signature = _PAIR(x, types.intp, types.intp, types.float64)

    def generate(context, builder, signature, arguments):
        x_, x0_, length_, origin_ = arguments
        e = _Plane(context, builder, signature.args[0].dtype)
        source = e.at(e.data(signature.args[0], x_), x0_)
        undefined = ir.Constant(e.wide, ir.Undefined)
        one = builder.insert_element(undefined, origin_, e.short(0))
        zeros = ir.Constant(ir.VectorType(e.short, e.width), [0] * e.width)
        origins = builder.shuffle_vector(one, undefined, zeros)
        total, squares = e.total(), e.total()

        def visit(j: Any) -> None:
            offset = e.within(builder.fsub(e.widened(e.take(source, j)), origins))
            e.add(total, offset)
            e.add_product(squares, offset, offset)

        e.along(length_, visit)
        return e.pair(e.sum_of(total), e.sum_of(squares))

    return signature, generate


@_tile
def normalise_tile(
    typingctx, x, x0, y, y0, length, middle, scale, shift, residual, added, floor, ceiling
):
    """`y = min(max((x − middle)·scale + shift + residual, floor), ceiling)`; NaN stays NaN.

    Over `x0 .. x0 + length` of x and of the residual, which is read where `added`, and from `y0` on
    of y. Ends of NaN are none.
    """
    number, place = x.dtype, types.intp
    signature = types.void(
        x, place, y, place, place, number, number, number, residual, types.boolean, number, number
    )

    def generate(context, builder, signature, arguments):
        x_, x0_, y_, y0_, length_, middle_, scale_, shift_ = arguments[:8]
        residual_, added_, floor_, ceiling_ = arguments[8:]
        e = _Plane(context, builder, signature.args[0].dtype)
        source = e.at(e.data(signature.args[0], x_), x0_)
        target = e.at(e.data(signature.args[2], y_), y0_)
        addend = e.at(e.data(signature.args[8], residual_), x0_)
        middle, scale, shift = e.splat(middle_), e.splat(scale_), e.splat(shift_)
        floor, ceiling = e.splat(floor_), e.splat(ceiling_)

        def write(adds: bool) -> None:
            def visit(j: Any) -> None:
                value = e.scaled(e.take(source, j), middle, scale, shift)
                if adds:
                    value = builder.fadd(value, e.take(addend, j))
                low = builder.fcmp_ordered("<=", value, floor)
                value = builder.select(low, floor, value)
                high = builder.fcmp_ordered(">=", value, ceiling)
                e.put(builder.select(high, ceiling, value), target, j)

            e.along(length_, visit)

        with builder.if_else(context.is_true(builder, types.boolean, added_)) as (then, other):
            with then:
                write(True)
            with other:
                write(False)
        return context.get_dummy_value()

    return signature, generate


@_tile
def products_tile(typingctx, g, g0, x, y, given, at, length, middle, scale, shift, floor, ceiling):
    """`(Σ p, Σ p·(x − middle))` in float64, p being what an activation lets through of g.

    It asks its output y where that is `given`, else it computes the output from x again. The plane
    begins at `g0` in g and at `at` in the others.
    """
    number, place = x.dtype, types.intp
    signature = _PAIR(
        g, place, x, y, types.boolean, place, place, number, number, number, number, number
    )

    def generate(context, builder, signature, arguments):
        g_, g0_, x_, y_, given_, at_, length_, middle_, scale_, shift_ = arguments[:10]
        floor_, ceiling_ = arguments[10:]
        e = _Plane(context, builder, signature.args[2].dtype)
        gradient = e.at(e.data(signature.args[0], g_), g0_)
        source = e.at(e.data(signature.args[2], x_), at_)
        output = e.at(e.data(signature.args[3], y_), at_)
        middle, scale, shift = e.splat(middle_), e.splat(scale_), e.splat(shift_)
        floor, ceiling = e.splat(floor_), e.splat(ceiling_)
        mean = e.widened(middle)
        total, products = e.total(), e.total()

        def read(asks: bool) -> None:
            def visit(j: Any) -> None:
                here = e.take(source, j)
                value = e.take(output, j) if asks else e.scaled(here, middle, scale, shift)
                passed = e.let_through(e.take(gradient, j), value, floor, ceiling)
                passed = e.widened(passed)
                e.add(total, passed)
                offset = e.within(builder.fsub(e.widened(here), mean))
                e.add_product(products, passed, offset)

            e.along(length_, visit)

        with builder.if_else(context.is_true(builder, types.boolean, given_)) as (then, other):
            with then:
                read(True)
            with other:
                read(False)
        return e.pair(e.sum_of(total), e.sum_of(products))

    return signature, generate


@_tile
def gradient_tile(
    typingctx, g, g0, x, y, gx, gy, given, at, length, middle, scale, shift, floor, ceiling,
    constant, slope, fixed,
):  # fmt: skip
    """`gx = (p − constant − (x − middle)·slope)·scale`, p as `products_tile` has it.

    Where y is `given`, `gy = p` too. Where the statistics are `fixed`, the slope counts as 0.
    """
    number, place, flag = x.dtype, types.intp, types.boolean
    signature = types.void(
        g, place, x, y, gx, gy, flag, place, place, number, number, number, number, number, number,
        number, flag,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        g_, g0_, *arrays_, given_, at_, length_ = arguments[:9]
        *numbers_, fixed_ = arguments[9:]
        e = _Plane(context, builder, signature.args[2].dtype)
        gradient = e.at(e.data(signature.args[0], g_), g0_)
        source, output, target, passing = (
            e.at(e.data(kind, array), at_)
            for kind, array in zip(signature.args[2:6], arrays_, strict=True)
        )
        middle, scale, shift, floor, ceiling, constant, slope = map(e.splat, numbers_)
        fixed = context.is_true(builder, flag, fixed_)

        def write(asks: bool) -> None:
            def visit(j: Any) -> None:
                here = e.take(source, j)
                value = e.take(output, j) if asks else e.scaled(here, middle, scale, shift)
                passed = e.let_through(e.take(gradient, j), value, floor, ceiling)
                if asks:
                    e.put(passed, passing, j)
                taken = builder.fmul(builder.fsub(here, middle), slope)
                taken = builder.select(fixed, e.zero, taken)
                rest = builder.fsub(builder.fsub(passed, constant), taken)
                e.put(builder.fmul(rest, scale), target, j)

            e.along(length_, visit)

        with builder.if_else(context.is_true(builder, flag, given_)) as (then, other):
            with then:
                write(True)
            with other:
                write(False)
        return context.get_dummy_value()

    return signature, generate


@_tile
def passed_tile(typingctx, g, y, passed, at, length, floor, ceiling):
    """`passed = p`, what an activation with the output y lets through of g; returns `Σ p`."""
    number, place = g.dtype, types.intp
    signature = types.float64(g, y, passed, place, place, number, number)

    def generate(context, builder, signature, arguments):
        *arrays, at_, length_, floor_, ceiling_ = arguments
        e = _Plane(context, builder, signature.args[0].dtype)
        gradient, output, target = (
            e.at(e.data(kind, array), at_)
            for kind, array in zip(signature.args[:3], arrays, strict=True)
        )
        floor, ceiling = e.splat(floor_), e.splat(ceiling_)
        total = e.total()

        def visit(j: Any) -> None:
            found = e.let_through(e.take(gradient, j), e.take(output, j), floor, ceiling)
            e.put(found, target, j)
            e.add(total, e.widened(found))

        e.along(length_, visit)
        return e.sum_of(total)

    return signature, generate
