"""Register tiles of pools: a vector of windows, or of input places, with what they read.

`max_tile` and `sum_tile` compute W neighbouring windows at once, `spread_tile` W neighbouring input
places of the adjoints, for each phase of the stride.  What a lane would read outside of its row
is masked: it costs nothing and touches no memory, so rows need no padding and have any length.

At stride 2, two neighbouring vectors are loaded and every other lane is kept; larger strides gather
lane by lane.  On AVX-512 a masked load is as fast as a plain one.  Elsewhere LLVM takes it
apart, so there vectors that lie inside their row take a plain load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .tile import _Emitter, _tile, masks_are_free

ANY = 0  # as the literal stride of a tile: any stride, known when the tile runs


class _Rows(_Emitter):
    """Vectors that may reach beyond the ends of a row."""

    def __init__(self, context: Any, builder: Any, number: Any) -> None:
        super().__init__(context, builder, number)
        self.bits = number.bitwidth
        self.whole = ir.IntType(self.bits)
        self.wholes = ir.VectorType(self.whole, self.width)
        self.short = ir.IntType(32)
        self.flags = ir.VectorType(ir.IntType(1), self.width)
        self.iota = ir.Constant(self.wholes, list(range(self.width)))

    def numbers(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.width)

    def narrow(self, index: Any) -> Any:
        """An index of 64 bits in as many as a lane has."""
        return index if self.bits == 64 else self.builder.trunc(index, self.whole)

    def spread_whole(self, index: Any) -> Any:
        """A whole number in each lane."""
        undefined = ir.Constant(self.wholes, ir.Undefined)
        one = self.builder.insert_element(undefined, self.narrow(index), self.short(0))
        zeros = ir.Constant(ir.VectorType(self.short, self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def line(self, first: Any, step: Any = None) -> Any:
        """`first + lane·step`; a step of None is 1."""
        lanes = self.iota
        if step is not None:
            lanes = self.builder.mul(lanes, self.spread_whole(step))
        return self.builder.add(self.spread_whole(first), lanes)

    def inside(self, places: Any, length: Any) -> Any:
        """Which lanes hold a place in `0 .. length - 1`."""
        return self.builder.icmp_unsigned("<", places, self.spread_whole(length))

    def _masked(self, what: str, kind: Any, *types_: Any) -> Any:
        scalar = kind.element
        letter = "f" if isinstance(scalar, (ir.FloatType, ir.DoubleType)) else "i"
        bits = scalar.width if letter == "i" else self.bits
        name = f"llvm.masked.{what}.v{self.width}{letter}{bits}"
        return name, bits // 8

    def load_part(self, pointer: Any, first: Any, length: Any, otherwise: Any) -> Any:
        """`pointer[lane]` where `first + lane` lies in `0 .. length - 1`, else `otherwise`."""
        kind, builder = otherwise.type, self.builder
        pointer = builder.bitcast(pointer, kind.as_pointer())
        name, align = self._masked("load", kind)
        masked = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind.as_pointer(), self.short, self.flags, kind]),
            f"{name}.p0",
        )

        def partly() -> Any:
            mask = self.inside(self.line(first), length)
            return builder.call(masked, [pointer, self.short(align), mask, otherwise])

        if masks_are_free:
            return partly()
        slot = cgutils.alloca_once(builder, kind)
        room = builder.sub(length, self.const(self.width))
        low = builder.icmp_signed(">=", first, self.const(0))
        whole = builder.and_(low, builder.icmp_signed("<=", first, room))
        with builder.if_else(whole) as (then, other):
            with then:
                builder.store(builder.load(pointer, align=align), slot)
            with other:
                builder.store(partly(), slot)
        return builder.load(slot)

    def store_part(self, value: Any, pointer: Any, left: Any) -> None:
        """`pointer[lane] = value[lane]` for the first `left` lanes."""
        kind, builder = value.type, self.builder
        pointer = builder.bitcast(pointer, kind.as_pointer())
        name, align = self._masked("store", kind)
        masked = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [kind, kind.as_pointer(), self.short, self.flags]),
            f"{name}.p0",
        )
        whole = builder.icmp_signed(">=", left, self.const(self.width))
        with builder.if_else(whole, likely=True) as (then, other):
            with then:
                builder.store(value, pointer, align=align)
            with other:
                mask = builder.icmp_signed("<", self.iota, self.spread_whole(left))
                builder.call(masked, [value, pointer, self.short(align), mask])

    def _pointers(self, pointer: Any, places: Any) -> tuple[Any, Any, str]:
        builder, far = self.builder, ir.VectorType(self.index, self.width)
        base = builder.insert_element(
            ir.Constant(far, ir.Undefined), builder.ptrtoint(pointer, self.index), self.short(0)
        )
        zeros = ir.Constant(ir.VectorType(self.short, self.width), [0] * self.width)
        base = builder.shuffle_vector(base, ir.Constant(far, ir.Undefined), zeros)
        if self.bits != 64:
            places = builder.sext(places, far)
        places = builder.mul(places, ir.Constant(far, [self.align] * self.width))
        many = builder.add(base, places)
        kind = ir.VectorType(self.scalar.as_pointer(), self.width)
        return builder.inttoptr(many, kind), kind, f"v{self.width}f{self.bits}.v{self.width}p0"

    def gather(self, pointer: Any, places: Any, mask: Any, otherwise: Any) -> Any:
        """`pointer[places]` where the mask is set."""
        many, kind, suffix = self._pointers(pointer, places)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.vector, [kind, self.short, self.flags, self.vector]),
            f"llvm.masked.gather.{suffix}",
        )
        return self.builder.call(function, [many, self.short(self.align), mask, otherwise])

    def scatter(self, value: Any, pointer: Any, places: Any, mask: Any) -> None:
        """`pointer[places] = value` where the mask is set."""
        many, kind, suffix = self._pointers(pointer, places)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), [self.vector, kind, self.short, self.flags]),
            f"llvm.masked.scatter.{suffix}",
        )
        self.builder.call(function, [value, many, self.short(self.align), mask])

    def shuffled(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        return self.builder.shuffle_vector(
            a, b, ir.Constant(ir.VectorType(self.short, self.width), list(lanes))
        )

    def load_every(
        self, stride: int, step: Any, pointer: Any, first: Any, length: Any, otherwise: Any
    ) -> Any:
        """`pointer[lane·stride]`, whose place in its row of `length` is `first + lane·stride`."""
        if stride == 1:
            return self.load_part(pointer, first, length, otherwise)
        if stride == 2:
            ahead = self.const(self.width)
            low = self.load_part(pointer, first, length, otherwise)
            high = self.load_part(
                self.at(pointer, ahead), self.builder.add(first, ahead), length, otherwise
            )
            return self.shuffled(low, high, range(0, 2 * self.width, 2))
        places = self.line(self.const(0), step)
        mask = self.inside(self.builder.add(places, self.spread_whole(first)), length)
        return self.gather(pointer, places, mask, otherwise)

    def shared(self, value: Any, divisor: Any, exact: Any) -> Any:
        """`value / divisor`, or where `divisor` is already inverted `value · divisor`."""
        builder, slot = self.builder, self.slot(value)
        inverse = self.context.is_true(builder, types.boolean, exact)
        with builder.if_else(inverse, likely=True) as (then, other):
            with then:
                builder.store(builder.fmul(value, divisor), slot)
            with other:
                builder.store(builder.fdiv(value, divisor), slot)
        return builder.load(slot)

    def slot(self, value: Any) -> Any:
        return cgutils.alloca_once_value(self.builder, value)


def _over_taps(
    e: _Rows, rows: Any, starts: Any, x: Any, first: Any, dilation: Any, kernel: Any,
    visit: Callable[[Any, Any, Any], None],
) -> None:  # fmt: skip
    """Visit `(start of the row, place in the row, pointer)` of each tap of the first lane."""
    with cgutils.for_range(e.builder, rows) as row:
        start = e.builder.load(e.at(starts, row.index))
        with cgutils.for_range(e.builder, kernel) as tap:
            place = e.builder.add(first, e.builder.mul(tap.index, dilation))
            visit(start, place, e.at(x, start, place))


@_tile
def max_tile(
    typingctx, stride, step, x, x0, starts, r0, rows, first, width, dilation, kernel, values,
    indices, to, left,
):  # fmt: skip
    """The maxima of W windows in a row, and their flat places: the first `left` are written.

    Lane l reads places `first + l·step + k·dilation`, where they lie in `0 .. width - 1`, of the
    `rows` input rows that start at `x[x0 + starts[r0 + i]]`. `stride` is the step as a literal,
    or `ANY`. The first of equal maxima wins; a NaN wins, and the last of several.
    """
    if not hasattr(stride, "literal_value"):
        return None
    literal = stride.literal_value
    at = types.intp
    signature = types.void(
        stride, at, x, at, starts, at, at, at, at, at, at, values, indices, at, at
    )

    def generate(context, builder, signature, arguments):
        _, step_, x_, x0_, starts_, r0_, rows_, first_, width_, dilation_ = arguments[:10]
        kernel_, values_, indices_, to_, left_ = arguments[10:]
        e = _Rows(context, builder, signature.args[2].dtype)
        source = e.at(e.data(signature.args[2], x_), x0_)
        starts = e.at(e.data(signature.args[4], starts_), r0_)
        if literal == 1:
            step_ = e.const(1)
        lowest = e.numbers(float("-inf"))
        best = e.slot(lowest)
        # Where nothing is above -inf, the first place inside of the row it is.
        begin = builder.load(starts)
        where = e.slot(e.line(builder.add(begin, first_), step_))
        with builder.if_then(builder.icmp_signed("<", first_, e.const(0)), likely=False):
            zero = ir.Constant(e.wholes, [0] * e.width)
            with cgutils.for_range(builder, kernel_) as tap:
                place = builder.add(first_, builder.mul(tap.index, dilation_))
                outside = builder.icmp_signed("<", e.line(place, step_), zero)
                here = builder.load(where)
                ahead = builder.add(here, e.spread_whole(dilation_))
                builder.store(builder.select(outside, ahead, here), where)

        def visit(start, place, pointer):
            value = e.load_every(literal, step_, pointer, place, width_, lowest)
            high = builder.load(best)
            above = builder.fcmp_ordered(">", value, high)
            above = builder.or_(above, builder.fcmp_unordered("uno", value, value))
            builder.store(builder.select(above, value, high), best)
            here = e.line(builder.add(start, place), step_)
            builder.store(builder.select(above, here, builder.load(where)), where)

        _over_taps(e, rows_, starts, source, first_, dilation_, kernel_, visit)
        e.store_part(builder.load(best), e.at(e.data(signature.args[11], values_), to_), left_)
        places = builder.load(where)
        if e.bits == 64:
            places = builder.trunc(places, ir.VectorType(e.short, e.width))
        e.store_part(places, e.at(e.data(signature.args[12], indices_), to_), left_)
        return context.get_dummy_value()

    return signature, generate


@_tile
def sum_tile(
    typingctx, stride, step, x, x0, starts, r0, rows, first, width, dilation, kernel, shares, s0,
    counts, w0, exact, y, to, left,
):  # fmt: skip
    """The sums of W windows in a row, over `shares[s0]·counts[w0 + l]`; see `max_tile`.

    Where those are powers of 2, `exact` says so, the arrays hold their inverses, and the sum is
    multiplied: the same bits in a tenth of the time.
    """
    if not hasattr(stride, "literal_value"):
        return None
    literal = stride.literal_value
    at = types.intp
    signature = types.void(
        stride, at, x, at, starts, at, at, at, at, at, at, shares, at, counts, at, types.boolean,
        y, at, at,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        _, step_, x_, x0_, starts_, r0_, rows_, first_, width_, dilation_ = arguments[:10]
        kernel_, shares_, s0_, counts_, w0_, exact_, y_, to_, left_ = arguments[10:]
        e = _Rows(context, builder, signature.args[2].dtype)
        source = e.at(e.data(signature.args[2], x_), x0_)
        starts = e.at(e.data(signature.args[4], starts_), r0_)
        total = e.slot(e.numbers(0.0))

        def visit(start, place, pointer):
            value = e.load_every(literal, step_, pointer, place, width_, e.numbers(0.0))
            builder.store(builder.fadd(builder.load(total), value), total)

        _over_taps(e, rows_, starts, source, first_, dilation_, kernel_, visit)
        counts = e.at(e.data(signature.args[13], counts_), w0_)
        count = e.load_part(counts, e.const(0), left_, e.numbers(1.0))
        share = builder.load(e.at(e.data(signature.args[11], shares_), s0_))
        mean = e.shared(builder.load(total), builder.fmul(count, e.splat(share)), exact_)
        e.store_part(mean, e.at(e.data(signature.args[16], y_), to_), left_)
        return context.get_dummy_value()

    return signature, generate


@_tile
def spread_tile(
    typingctx, stride, step, g, g0, starts, shares, r0, rows, width, reach, bounds, counts, exact,
    indices, place, z, y, y0, length,
):  # fmt: skip
    """What W windows or more in a row give to the input places `z·step .. (z + W)·step - 1`.

    Place `z·step + phase` gets `g[g0 + starts[r0 + i] + w]` from each of `rows` rows of
    windows, for the windows `w = z + reach[k]` with k in `bounds[phase] .. bounds[phase + 1] - 1`,
    where w lies in `0 .. width - 1`. A sum's gradient is divided by `shares[r0 + i]·counts[w]`, as
    in `sum_tile`.
    A maximum's (`indices` is an array, not None) is given to the place that its index names;
    `place` is the flat place of the row's begin.

    `y[y0 + ...]` is the row that is written, of `length` places.
    """
    if not hasattr(stride, "literal_value"):
        return None
    literal = stride.literal_value
    largest = not isinstance(indices, types.NoneType)
    at = types.intp
    signature = types.void(
        stride, at, g, at, starts, shares, at, at, at, reach, bounds, counts, types.boolean,
        indices, at, at, y, at, at,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        _, step_, g_, g0_, starts_, shares_, r0_, rows_, width_, reach_ = arguments[:10]
        bounds_, counts_, exact_, indices_, place_, z_, y_, y0_, length_ = arguments[10:]
        e = _Rows(context, builder, signature.args[2].dtype)
        source = e.at(e.data(signature.args[2], g_), g0_)
        starts = e.at(e.data(signature.args[4], starts_), r0_)
        shares = e.at(e.data(signature.args[5], shares_), r0_)
        reach = e.data(signature.args[9], reach_)
        bounds = e.data(signature.args[10], bounds_)
        counts = e.data(signature.args[11], counts_)
        target = e.at(e.data(signature.args[16], y_), y0_)
        if literal != ANY:
            step_ = e.const(literal)
        begin = builder.mul(z_, step_)
        short = ir.VectorType(e.short, e.width)

        def given(phase: Any) -> Any:
            """What the places of one phase get."""
            total = e.slot(e.numbers(0.0))
            own = e.line(builder.add(place_, builder.add(begin, phase)), step_)
            low = builder.load(e.at(bounds, phase))
            high = builder.load(e.at(bounds, phase, e.const(1)))
            with cgutils.for_range(builder, rows_) as row:
                start = builder.load(e.at(starts, row.index))
                if not largest:
                    share = e.splat(builder.load(e.at(shares, row.index)))
                with cgutils.for_range(builder, builder.sub(high, low)) as tap:
                    k = builder.add(low, tap.index)
                    w = builder.add(z_, builder.load(e.at(reach, k)))
                    value = e.load_part(e.at(source, start, w), w, width_, e.numbers(0.0))
                    if largest:
                        names = e.at(e.data(signature.args[13], indices_), g0_, start, w)
                        name = e.load_part(names, w, width_, ir.Constant(short, [-1] * e.width))
                        if e.bits == 64:
                            name = builder.sext(name, e.wholes)
                        mine = builder.icmp_signed("==", name, own)
                        value = builder.select(mine, value, e.numbers(0.0))
                    else:
                        count = e.load_part(e.at(counts, w), w, width_, e.numbers(1.0))
                        value = e.shared(value, builder.fmul(share, count), exact_)
                    builder.store(builder.fadd(builder.load(total), value), total)
            return builder.load(total)

        left = builder.sub(length_, begin)
        if literal == 1:
            e.store_part(given(e.const(0)), e.at(target, begin), left)
        elif literal == 2:
            even, odd = given(e.const(0)), given(e.const(1))
            order = [lane // 2 + lane % 2 * e.width for lane in range(2 * e.width)]
            half = e.const(e.width)
            e.store_part(e.shuffled(even, odd, order[: e.width]), e.at(target, begin), left)
            rest = builder.sub(left, half)
            with builder.if_then(builder.icmp_signed(">", rest, e.const(0))):
                high = e.shuffled(even, odd, order[e.width :])
                e.store_part(high, e.at(target, begin, half), rest)
        else:
            with cgutils.for_range(builder, step_) as phase:
                value = given(phase.index)
                offset = e.line(phase.index, step_)
                mask = builder.icmp_signed("<", offset, e.spread_whole(left))
                e.scatter(value, e.at(target, begin), offset, mask)
        return context.get_dummy_value()

    return signature, generate
