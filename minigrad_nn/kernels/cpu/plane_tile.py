"""Register tiles of 3x3 filters over one plane, each row of which is loaded just once.

`window_tile` computes a few rows for filters of any size, and asks tables what they read. On small
planes that asking costs more than the products. Here the filter is 3x3 and its nine weights stay
in registers; walking down a plane, a row that was loaded is the last of one output row, the middle
one of the next and the first of the one after that, whose sums wait in registers too.

Rows outside of the plane are left out, places outside of a row count as 0, as in `window_tile`.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from .pool_tile import _Rows
from .tile import _tile
from .window_tile import _Output

SIZE = 3  # rows and columns of the filter


def _row(e: _Rows, stride: int, source: Any, number: Any, first: Any, step: Any, width: Any) -> Any:
    """What the three columns of the filter read of a row, for W outputs each."""
    start = e.at(source, e.builder.mul(number, width))
    found = []
    for k in range(SIZE):
        place = e.builder.add(first, e.builder.mul(step, e.const(k)))
        found.append(e.load_every(stride, None, e.at(start, place), place, width, e.numbers(0.0)))
    return found


def _exists(e: _Rows, number: Any, height: Any) -> Any:
    return e.builder.icmp_unsigned("<", number, height)


@_tile
def plane_tile(
    typingctx, stride, x, x0, height, width, w, w0, w_row, above, first, step, rows, length, bias,
    b0, has_bias, residual, has_residual, relu, y, to,
):  # fmt: skip
    """`y[to + r·length + j] = Σ_t Σ_k w[w0 + t·w_row + k] · x[x0 + row·width + place]`.

    For `r < rows` and `j < length`, over `t, k < 3`; `row = r·stride + t − above` counts where it
    lies in `0 .. height - 1` and `place = first + j·stride + k·step` where it lies in `0 .. width -
    1`. The stride (1 or 2) is a literal.
    """
    if not hasattr(stride, "literal_value"):
        return None
    literal = stride.literal_value
    at, flag = types.intp, types.boolean
    signature = types.void(
        stride, x, at, at, at, w, at, at, at, at, at, at, at, bias, at, flag, residual, flag, flag,
        y, at,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        _, x_, x0_, height_, width_, w_, w0_, w_row_, above_, first_, step_ = arguments[:11]
        rows_, length_ = arguments[11:13]
        e = _Rows(context, builder, signature.args[1].dtype)
        never = context.get_constant(flag, False)
        output = _Output(e, types.void(*signature.args, at), [never, *arguments[13:]])
        source = e.at(e.data(signature.args[1], x_), x0_)
        weights = e.at(e.data(signature.args[5], w_), w0_)
        taps = [
            [
                e.splat(builder.load(e.at(weights, builder.mul(w_row_, e.const(t)), e.const(k))))
                for k in range(SIZE)
            ]
            for t in range(SIZE)
        ]
        zero = e.numbers(0.0)

        def added(total: Any, t: int, row: list[Any]) -> Any:
            for weight, value in zip(taps[t], row, strict=True):
                total = builder.call(e.fma, [weight, value, total])
            return total

        blocks = builder.udiv(builder.add(length_, e.const(e.width - 1)), e.const(e.width))
        with cgutils.for_range(builder, blocks) as block:
            j = builder.mul(block.index, e.const(e.width))
            left = builder.sub(length_, j)
            begin = builder.add(first_, builder.mul(j, e.const(literal)))

            def read(number: Any) -> list[Any]:
                return _row(e, literal, source, number, begin, step_, width_)

            def write(value: Any, r: Any) -> None:
                shift = builder.add(builder.mul(r, length_), j)
                output.end(value, shift, left)

            # What outputs have of rows above: of the next one, and of the one after it.
            near, far = e.slot(zero), e.slot(zero)
            if literal == 1:
                with cgutils.for_range(builder, builder.add(rows_, e.const(2))) as walk:
                    number = builder.sub(walk.index, above_)
                    full = e.slot(builder.load(near))
                    builder.store(builder.load(far), near)
                    builder.store(zero, far)
                    with builder.if_then(_exists(e, number, height_), likely=True):
                        row = read(number)
                        builder.store(added(builder.load(full), 2, row), full)
                        builder.store(added(builder.load(near), 1, row), near)
                        builder.store(added(zero, 0, row), far)
                    r = builder.sub(walk.index, e.const(2))
                    with builder.if_then(builder.icmp_signed(">=", r, e.const(0)), likely=True):
                        write(builder.load(full), r)
            else:
                number = builder.sub(e.const(0), above_)
                with builder.if_then(_exists(e, number, height_)):
                    builder.store(added(zero, 0, read(number)), near)
                with cgutils.for_range(builder, rows_) as walk:
                    middle = builder.sub(builder.mul(walk.index, e.const(2)), above_)
                    middle = builder.add(middle, e.const(1))
                    last = builder.add(middle, e.const(1))
                    full = e.slot(builder.load(near))
                    builder.store(zero, near)
                    with builder.if_then(_exists(e, middle, height_), likely=True):
                        builder.store(added(builder.load(full), 1, read(middle)), full)
                    with builder.if_then(_exists(e, last, height_), likely=True):
                        row = read(last)
                        builder.store(added(builder.load(full), 2, row), full)
                        builder.store(added(zero, 0, row), near)
                    write(builder.load(full), walk.index)
        return context.get_dummy_value()

    return signature, generate


@_tile
def spread_plane_tile(
    typingctx, g, g0, rows, length, w, w0, above, before, height, width, bias, b0, has_bias,
    residual, has_residual, relu, y, to,
):  # fmt: skip
    """The adjoint of `plane_tile` at stride 2: one plane of places from one of gradients.

    `y[to + p·width + c] = Σ_t Σ_k w[w0 + t·3 + k] · g[g0 + r·length + q]`, for `p < height` and
    `c < width`; over `t, k < 3` for which there are `r < rows` and `q < length` such that
    `p + above = 2·r + t` and `c + before = 2·q + k`.
    """
    at, flag = types.intp, types.boolean
    signature = types.void(
        g, at, at, at, w, at, at, at, at, at, bias, at, flag, residual, flag, flag, y, at
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        g_, g0_, rows_, length_, w_, w0_, above_, before_, height_, width_ = arguments[:10]
        e = _Rows(context, builder, signature.args[0].dtype)
        never = context.get_constant(flag, False)
        output = _Output(e, types.void(*signature.args, at), [never, *arguments[10:]])
        source = e.at(e.data(signature.args[0], g_), g0_)
        weights = e.at(e.data(signature.args[4], w_), w0_)
        taps = [e.splat(builder.load(e.at(weights, e.const(i)))) for i in range(SIZE * SIZE)]
        zero, one, two = e.numbers(0.0), e.const(1), e.const(2)
        order = [lane // 2 + lane % 2 * e.width for lane in range(2 * e.width)]
        odd = builder.trunc(before_, e.flags.element)
        last = builder.udiv(builder.add(builder.sub(height_, one), above_), two)
        across = e.const(2 * e.width)
        blocks = builder.udiv(builder.add(width_, e.const(2 * e.width - 1)), across)
        with cgutils.for_range(builder, blocks) as block:
            j = builder.mul(block.index, across)
            left = builder.sub(width_, j)
            # Columns 0 and 2 meet in the places of one kind, at `first + 1` and `first`; column 1
            # has the others.
            first = builder.add(builder.add(j, before_), one)
            first = builder.sub(builder.udiv(first, two), one)

            def write(pair: Any, p: Any) -> None:
                cross, single = map(builder.load, pair)
                even = builder.select(odd, single, cross)
                other = builder.select(odd, cross, single)
                with builder.if_then(_exists(e, p, height_), likely=True):
                    shift = builder.add(builder.mul(p, width_), j)
                    low = e.shuffled(even, other, order[: e.width])
                    output.end(low, shift, left)
                    rest = builder.sub(left, e.const(e.width))
                    with builder.if_then(builder.icmp_signed(">", rest, e.const(0))):
                        high = e.shuffled(even, other, order[e.width :])
                        output.end(high, builder.add(shift, e.const(e.width)), rest)

            kept = [e.slot(zero), e.slot(zero)]  # what the row above gives to the next pair of rows
            with cgutils.for_range(builder, builder.add(last, one)) as walk:
                upper = [[builder.load(slot) for slot in kept], [zero, zero]]
                slots = [[e.slot(value) for value in row] for row in upper]
                for slot in kept:
                    builder.store(zero, slot)
                with builder.if_then(_exists(e, walk.index, rows_), likely=True):
                    row = e.at(source, builder.mul(walk.index, length_))
                    a, b = (
                        e.load_part(e.at(row, place), place, length_, zero)
                        for place in (first, builder.add(first, one))
                    )
                    middle = builder.select(odd, a, b)
                    for t, (cross, single) in enumerate((*slots, kept)):
                        e.accumulate(cross, taps[t * SIZE], b)
                        e.accumulate(cross, taps[t * SIZE + 2], a)
                        e.accumulate(single, taps[t * SIZE + 1], middle)
                p = builder.sub(builder.mul(walk.index, two), above_)
                for i, pair in enumerate(slots):
                    write(pair, builder.add(p, e.const(i)))
        return context.get_dummy_value()

    return signature, generate


@_tile
def correlate_plane_tile(
    typingctx, stride, x, x0, height, width, g, g0, rows, length, above, first, step, sums, s0
):
    """`sums[s0 + (t·3 + k)·W + lane] += Σ_r Σ_j g[g0 + r·length + j] · x[x0 + row·width + place]`.

    For `t, k < 3`, `r < rows`, `j < length` in the lane `j % W`; `row` and `place` are those of
    `plane_tile`. A NaN that no tap reads does no harm.
    """
    if not hasattr(stride, "literal_value"):
        return None
    literal = stride.literal_value
    at = types.intp
    signature = types.void(stride, x, at, at, at, g, at, at, at, at, at, at, sums, at)

    def generate(context, builder, signature, arguments):
        _, x_, x0_, height_, width_, g_, g0_, rows_, length_, above_, first_, step_ = arguments[:12]
        sums_, s0_ = arguments[12:]
        e = _Rows(context, builder, signature.args[1].dtype)
        source = e.at(e.data(signature.args[1], x_), x0_)
        gradient = e.at(e.data(signature.args[5], g_), g0_)
        start = e.at(e.data(signature.args[12], sums_), s0_)
        ends = [e.at(start, e.const(i * e.width)) for i in range(SIZE * SIZE)]
        totals = [e.slot(e.load(end)) for end in ends]
        zero = e.numbers(0.0)
        blocks = builder.udiv(builder.add(length_, e.const(e.width - 1)), e.const(e.width))
        with cgutils.for_range(builder, blocks) as block:
            j = builder.mul(block.index, e.const(e.width))
            begin = builder.add(first_, builder.mul(j, e.const(literal)))
            inside = e.inside(e.line(j), length_)
            # The rows that the filter's rows read: the last ones are the first ones of the next.
            held = [[e.slot(zero) for _ in range(SIZE)] for _ in range(SIZE)]

            def read(t: int, number: Any) -> None:
                with builder.if_then(_exists(e, number, height_), likely=True):
                    row = _row(e, literal, source, number, begin, step_, width_)
                    for slot, value in zip(held[t], row, strict=True):
                        builder.store(builder.select(inside, value, zero), slot)

            for t in range(SIZE - literal):
                read(t, builder.sub(e.const(t), above_))
            with cgutils.for_range(builder, rows_) as walk:
                top = builder.sub(builder.mul(walk.index, e.const(literal)), above_)
                for t in range(SIZE - literal, SIZE):
                    read(t, builder.add(top, e.const(t)))
                upper = e.at(gradient, builder.mul(walk.index, length_), j)
                value = e.load_part(upper, j, length_, zero)
                for t in range(SIZE):
                    there = _exists(e, builder.add(top, e.const(t)), height_)
                    with builder.if_then(there, likely=True):
                        for k in range(SIZE):
                            e.accumulate(totals[t * SIZE + k], value, builder.load(held[t][k]))
                for t in range(SIZE - literal):
                    for k in range(SIZE):
                        builder.store(builder.load(held[t + literal][k]), held[t][k])
        for end, total in zip(ends, totals, strict=True):
            e.store(builder.load(total), end)
        return context.get_dummy_value()

    return signature, generate
