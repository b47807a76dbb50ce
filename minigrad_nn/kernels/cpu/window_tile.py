"""Register tiles of a convolution plane by plane: a vector of outputs, with the few taps they read.

`window_tile` computes W neighbouring outputs in one or several rows, `deal_tile` those of the
adjoint at stride 2, and `correlate_tile` sums what a gradient has in common with the inputs of some
taps. They read planes as they are: lanes outside of a row are masked (see `pool_tile`).
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils

from .pool_tile import _Rows
from .tile import _tile


class _Output:
    """The place of a vector of outputs, and what is done to it before it is written."""

    def __init__(self, e: _Rows, signature: Any, arguments: Any) -> None:
        """Of the arguments `add, bias, b0, has_bias, residual, has_residual, relu, y, to`."""
        add, bias, b0, has_bias, residual, has_residual, relu, y, to = arguments
        kinds = signature.args[-len(arguments) - 1 : -1]
        self.e = e
        self.y = e.at(e.data(kinds[7], y), to)
        self.residual = e.at(e.data(kinds[4], residual), to)
        self.bias = e.at(e.data(kinds[1], bias), b0)
        flags = (add, has_bias, has_residual, relu)
        self.add, self.has_bias, self.has_residual, self.relu = (
            e.context.is_true(e.builder, types.boolean, flag) for flag in flags
        )

    def begin(self, shift: Any, left: Any) -> Any:
        """A slot with 0, or with what is there already where that is added to."""
        e = self.e
        zero = e.numbers(0.0)
        slot = e.slot(zero)
        with e.builder.if_then(self.add, likely=False):
            e.builder.store(e.load_part(e.at(self.y, shift), e.const(0), left, zero), slot)
        return slot

    def end(self, value: Any, shift: Any, left: Any) -> None:
        """Write the first `left` lanes, with the epilogue."""
        e = self.e
        builder, zero = e.builder, e.numbers(0.0)
        slot = e.slot(value)
        with builder.if_then(self.has_bias):
            bias = e.splat(builder.load(self.bias))
            builder.store(builder.fadd(builder.load(slot), bias), slot)
        with builder.if_then(self.has_residual, likely=False):
            addend = e.load_part(e.at(self.residual, shift), e.const(0), left, zero)
            builder.store(builder.fadd(builder.load(slot), addend), slot)
        with builder.if_then(self.relu):
            # NaN is neither above nor below 0, and stays.
            low = builder.fcmp_ordered("<=", builder.load(slot), zero)
            builder.store(builder.select(low, zero, builder.load(slot)), slot)
        e.store_part(builder.load(slot), e.at(self.y, shift), left)


@_tile
def window_tile(
    typingctx, rows, stride, x, x0, x_row, starts, taps, r0, r1, first, step, width, w, w0,
    kernel, y_row, left, add, bias, b0, has_bias, residual, has_residual, relu, y, to,
):  # fmt: skip
    """`y[to + i·y_row + l] = Σ_r Σ_k w[w0 + taps[r] + k] · x[x0 + starts[r] + i·x_row + place]`.

    For `i < rows`, over `r0 <= r < r1` and `k < kernel`; `place = first + l·stride + k·step`
    counts where it lies in `0 .. width - 1`. Rows and stride (1 or 2) are literal integers. The
    first `left` lanes are written; with `add`, they are added to what is there.
    """
    if not hasattr(rows, "literal_value") or not hasattr(stride, "literal_value"):
        return None
    n_rows, literal = rows.literal_value, stride.literal_value
    at, flag = types.intp, types.boolean
    signature = types.void(
        rows, stride, x, at, at, starts, taps, at, at, at, at, at, w, at, at, at, at, flag, bias,
        at, flag, residual, flag, flag, y, at,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        _, _, x_, x0_, x_row_, starts_, taps_, r0_, r1_, first_, step_, width_ = arguments[:12]
        w_, w0_, kernel_, y_row_, left_ = arguments[12:17]
        e = _Rows(context, builder, signature.args[2].dtype)
        output = _Output(e, types.void(*signature.args, at), arguments[17:])
        source = e.at(e.data(signature.args[2], x_), x0_)
        starts = e.at(e.data(signature.args[5], starts_), r0_)
        taps = e.at(e.data(signature.args[6], taps_), r0_)
        weights = e.at(e.data(signature.args[12], w_), w0_)
        shifts = [builder.mul(y_row_, e.const(i)) for i in range(n_rows)]
        totals = [output.begin(shift, left_) for shift in shifts]
        with cgutils.for_range(builder, builder.sub(r1_, r0_)) as row:
            start = e.at(source, builder.load(e.at(starts, row.index)))
            line = e.at(weights, builder.load(e.at(taps, row.index)))
            with cgutils.for_range(builder, kernel_) as tap:
                weight = e.splat(builder.load(e.at(line, tap.index)))
                place = builder.add(first_, builder.mul(tap.index, step_))
                for i, total in enumerate(totals):
                    pointer = e.at(start, builder.mul(x_row_, e.const(i)), place)
                    value = e.load_every(literal, None, pointer, place, width_, e.numbers(0.0))
                    e.accumulate(total, weight, value)
        for shift, total in zip(shifts, totals, strict=True):
            output.end(builder.load(total), shift, left_)
        return context.get_dummy_value()

    return signature, generate


@_tile
def deal_tile(
    typingctx, g, g0, starts, taps, r0, r1, z, reach, columns, middle, width, w, w0, kernel, left,
    add, bias, b0, has_bias, residual, has_residual, relu, y, to,
):  # fmt: skip
    """What W neighbouring outputs of a convolution at stride 2 give to 2·W inputs.

    Inputs `to + 2·l + phase` get `w[w0 + taps[r] + columns[k]] · g[g0 + starts[r] + z + l +
    reach[k]]` over `r0 <= r < r1` and `k < middle` in phase 0, `middle <= k < kernel` in phase 1,
    where `z + l + reach[k]` lies in `0 .. width - 1`. The first `left` places are written.
    """
    at, flag = types.intp, types.boolean
    signature = types.void(
        g, at, starts, taps, at, at, at, reach, columns, at, at, w, at, at, at, flag, bias, at,
        flag, residual, flag, flag, y, at,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        g_, g0_, starts_, taps_, r0_, r1_, z_, reach_, columns_, middle_ = arguments[:10]
        width_, w_, w0_, kernel_, left_ = arguments[10:15]
        e = _Rows(context, builder, signature.args[0].dtype)
        output = _Output(e, types.void(*signature.args, at), arguments[15:])
        source = e.at(e.data(signature.args[0], g_), g0_)
        starts = e.at(e.data(signature.args[2], starts_), r0_)
        taps = e.at(e.data(signature.args[3], taps_), r0_)
        reach, columns = e.data(signature.args[7], reach_), e.data(signature.args[8], columns_)
        weights = e.at(e.data(signature.args[11], w_), w0_)
        half, rest = e.const(e.width), builder.sub(left_, e.const(e.width))
        order = [lane // 2 + lane % 2 * e.width for lane in range(2 * e.width)]
        low, high = order[: e.width], order[e.width :]
        phases = []
        for begin, end in ((e.const(0), middle_), (middle_, kernel_)):
            total = e.slot(e.numbers(0.0))
            with cgutils.for_range(builder, builder.sub(r1_, r0_)) as row:
                start = e.at(source, builder.load(e.at(starts, row.index)))
                line = e.at(weights, builder.load(e.at(taps, row.index)))
                with cgutils.for_range(builder, builder.sub(end, begin)) as tap:
                    k = builder.add(begin, tap.index)
                    weight = builder.load(e.at(line, builder.load(e.at(columns, k))))
                    place = builder.add(z_, builder.load(e.at(reach, k)))
                    value = e.load_part(e.at(start, place), place, width_, e.numbers(0.0))
                    e.accumulate(total, e.splat(weight), value)
            phases.append(builder.load(total))

        even, odd = phases

        def write(lanes, shift, left):
            before = builder.load(output.begin(shift, left))
            output.end(builder.fadd(before, e.shuffled(even, odd, lanes)), shift, left)

        write(low, e.const(0), left_)
        with builder.if_then(builder.icmp_signed(">", rest, e.const(0))):
            write(high, half, rest)
        return context.get_dummy_value()

    return signature, generate


@_tile
def correlate_tile(
    typingctx, taps, stride, x, x0, x_row, first, step, width, g, g0, length, rows, sums, s0
):
    """`sums[s0 + k·W + lane] += Σ_i Σ_j g[g0 + i·length + j] · x[x0 + i·x_row + place]`.

    For `i < rows`, `k < taps`, `j < length` in the lane `j % W`; `place = first + j·stride +
    k·step` counts where it lies in `0 .. width - 1`. Taps and stride (1 or 2) are literals. A NaN
    that no tap reads does no harm.
    """
    if not hasattr(taps, "literal_value") or not hasattr(stride, "literal_value"):
        return None
    n_taps, literal = taps.literal_value, stride.literal_value
    at = types.intp
    signature = types.void(taps, stride, x, at, at, at, at, at, g, at, at, at, sums, at)

    def generate(context, builder, signature, arguments):
        _, _, x_, x0_, x_row_, first_, step_, width_, g_, g0_ = arguments[:10]
        length_, rows_, sums_, s0_ = arguments[10:]
        e = _Rows(context, builder, signature.args[2].dtype)
        source = e.at(e.data(signature.args[2], x_), x0_)
        gradient = e.at(e.data(signature.args[8], g_), g0_)
        ends = [
            e.at(e.data(signature.args[12], sums_), s0_, e.const(k * e.width))
            for k in range(n_taps)
        ]
        totals = [e.slot(e.load(end)) for end in ends]
        zero = e.numbers(0.0)
        round_up = builder.add(length_, e.const(e.width - 1))
        steps = builder.sdiv(round_up, e.const(e.width))
        with cgutils.for_range(builder, rows_) as row:
            line = e.at(source, builder.mul(row.index, x_row_))
            upper = e.at(gradient, builder.mul(row.index, length_))
            with cgutils.for_range(builder, steps) as vector:
                j = builder.mul(vector.index, e.const(e.width))
                value = e.load_part(e.at(upper, j), j, length_, zero)
                inside = e.inside(e.line(j), length_)
                begin = builder.add(first_, builder.mul(j, e.const(literal)))
                for k, total in enumerate(totals):
                    place = builder.add(begin, builder.mul(step_, e.const(k)))
                    other = e.load_every(literal, None, e.at(line, place), place, width_, zero)
                    e.accumulate(total, value, builder.select(inside, other, zero))
        for end, total in zip(ends, totals, strict=True):
            e.store(builder.load(total), end)
        return context.get_dummy_value()

    return signature, generate
