"""Matrix products in panels: the tiles and copies from which `panels` makes convolutions.

`C = A·B` is computed tile by tile (Goto and van de Geijn, 2008): A lies in panels of a few rows, an
entry of each row side by side, and B in panels of a few columns, an entry of each column side by
side, so the innermost loop reads both from front to back and keeps its part of C in registers. A
panel of A stays in the first cache of a core while a block of panels of B goes by in the second.

Each number of C is one sum over k from front to back, whatever tile it falls in and however the
work is divided: its bits depend on the operands alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .compile import helper
from .lines import fill_row
from .pool_tile import _Rows
from .tile import VECTOR_BYTES, VECTORS, _Emitter, _tile, _transposed

# The tall tile and the low one for what is left: 12 rows of 2 vectors fill 32 registers, 6 rows 16.
TALL = 12 if VECTORS == 4 else 6
LOW = TALL // 3
# Vectors in a row of a panel of B.
BREADTH = 2
# Places that are summed at once for the gradient of a weight, and how far its rows lie apart: not a
# power of 2, so that the rows of a tile do not compete for the same lines of the first cache.
DEPTH = 512
ROW = DEPTH + 16
# Rows of B that are asked for ahead of their turn.
AHEAD = 6
# Bytes of a line of the cache.
LINE_BYTES = 64
# Numba sees this as a constant.
WIDE_BYTES = VECTOR_BYTES


def _expect(e: _Emitter, pointer: Any, writing: bool = False) -> None:
    """Ask for a line of memory, so that it is in the cache when it is its turn.

    It is allowed anywhere, also beyond the end of an array.
    """
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    ask = cgutils.get_or_insert_function(
        e.builder.module,
        ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
        "llvm.prefetch.p0",
    )
    e.builder.call(
        ask, [e.builder.bitcast(pointer, byte), number(int(writing)), number(3), number(1)]
    )


@_tile
def panel_tile(typingctx, rows, vectors, a_row, a_k, a, a0, b, b0, count, c, c0, c_row, add):
    """`c[c0 + i·c_row + j] = Σ_k a[a0 + i·a_row + k·a_k] · b[b0 + k·BREADTH·W + j]`, or `+=`.

    For `i < rows`, `k < count` and `j < vectors·W`; the first four arguments are literal integers.
    """
    literals = (rows, vectors, a_row, a_k)
    if not all(hasattr(number, "literal_value") for number in literals):
        return None
    n_rows, n_vectors, row_step, k_step = (number.literal_value for number in literals)
    at = types.intp
    signature = types.void(*literals, a, at, b, at, at, c, at, at, types.boolean)

    def generate(context, builder, signature, arguments):
        a_, a0_, b_, b0_, count_, c_, c0_, c_row_, add_ = arguments[4:]
        e = _Emitter(context, builder, signature.args[4].dtype)
        left = e.at(e.data(signature.args[4], a_), a0_)
        right = e.at(e.data(signature.args[6], b_), b0_)
        result = e.at(e.data(signature.args[9], c_), c0_)
        sums = e.accumulators(n_rows, n_vectors)
        ends = [
            [e.at(row, e.const(j * e.width)) for j in range(n_vectors)]
            for row in (e.at(result, builder.mul(c_row_, e.const(i))) for i in range(n_rows))
        ]
        with builder.if_then(context.is_true(builder, types.boolean, add_)):
            for i in range(n_rows):
                for j in range(n_vectors):
                    builder.store(e.load(ends[i][j]), sums[i][j])
        with cgutils.for_range(builder, count_) as loop:
            line = e.at(right, builder.mul(loop.index, e.const(BREADTH * e.width)))
            window = [e.load(e.at(line, e.const(j * e.width))) for j in range(n_vectors)]
            column = e.at(left, builder.mul(loop.index, e.const(k_step)))
            for i in range(n_rows):
                factor = e.splat(builder.load(e.at(column, e.const(i * row_step))))
                for j in range(n_vectors):
                    e.accumulate(sums[i][j], factor, window[j])
        for i in range(n_rows):
            for j in range(n_vectors):
                e.store(builder.load(sums[i][j]), ends[i][j])
        return context.get_dummy_value()

    return signature, generate


@_tile
def spread_tile(typingctx, source, s0, ahead, panels, target, t0, t_panel):
    """`target[t0 + p·t_panel + j] = source[s0 + p·BREADTH·W + j]` for `p < panels`, a row each.

    What lies `ahead` numbers further on in the source is asked for.
    """
    at = types.intp
    signature = types.void(source, at, at, at, target, at, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, ahead_, panels_, t_, t0_, t_panel_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        start = e.at(e.data(signature.args[0], s_), s0_)
        end = e.at(e.data(signature.args[4], t_), t0_)
        with cgutils.for_range(builder, panels_) as loop:
            row = e.at(start, builder.mul(loop.index, e.const(BREADTH * e.width)))
            for shift in range(0, BREADTH * VECTOR_BYTES, LINE_BYTES):
                _expect(e, e.at(row, ahead_, e.const(shift // e.align)))
            to = e.at(end, builder.mul(loop.index, t_panel_))
            for j in range(BREADTH):
                shift = e.const(j * e.width)
                e.store(e.load(e.at(row, shift)), e.at(to, shift))
        return context.get_dummy_value()

    return signature, generate


@_tile
def move_tile(typingctx, source, s0, target, t0):
    """`target[t0 + j] = source[s0 + j]` for `j < W`."""
    at = types.intp
    signature = types.void(source, at, target, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, t_, t0_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        vector = e.load(e.at(e.data(signature.args[0], s_), s0_))
        e.store(vector, e.at(e.data(signature.args[2], t_), t0_))
        return context.get_dummy_value()

    return signature, generate


@_tile
def turn_tile(typingctx, source, s0, offsets, f0, target, t0):
    """`target[t0 + j·BREADTH·W + i] = source[s0 + offsets[f0 + i] + j]` for `i, j < W`."""
    at = types.intp
    signature = types.void(source, at, offsets, at, target, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, f_, f0_, t_, t0_ = arguments
        e = _Emitter(context, builder, signature.args[0].dtype)
        start = e.at(e.data(signature.args[0], s_), s0_)
        shifts = e.at(e.data(signature.args[2], f_), f0_)
        end = e.at(e.data(signature.args[4], t_), t0_)
        rows = [e.load(e.at(start, builder.load(e.at(shifts, e.const(i))))) for i in range(e.width)]
        for j, row in enumerate(_transposed(e, rows)):
            e.store(row, e.at(end, e.const(j * BREADTH * e.width)))
        return context.get_dummy_value()

    return signature, generate


@_tile
def fill_tile(typingctx, source, s0, real, target, t0, left):
    """`target[t0 + i] = source[s0 + i]` for `i < left`, at most W; 0 from `real` on."""
    at = types.intp
    signature = types.void(source, at, at, target, at, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, real_, t_, t0_, left_ = arguments
        e = _Rows(context, builder, signature.args[0].dtype)
        start = e.at(e.data(signature.args[0], s_), s0_)
        value = e.load_part(start, e.const(0), real_, e.numbers(0.0))
        e.store_part(value, e.at(e.data(signature.args[3], t_), t0_), left_)
        return context.get_dummy_value()

    return signature, generate


@_tile
def interleave_tile(typingctx, source, s0, s_row, real, target, t0, step, left):
    """`target[t0 + j·step + i] = source[s0 + min(i, real - 1)·s_row + j]`, `j < W`, `i < left`."""
    at = types.intp
    signature = types.void(source, at, at, at, target, at, at, at)

    def generate(context, builder, signature, arguments):
        s_, s0_, s_row_, real_, t_, t0_, step_, left_ = arguments
        e = _Rows(context, builder, signature.args[0].dtype)
        start = e.at(e.data(signature.args[0], s_), s0_)
        end = e.at(e.data(signature.args[4], t_), t0_)
        last = builder.sub(real_, e.const(1))
        rows = []
        for i in range(e.width):
            few = builder.icmp_signed("<", last, e.const(i))
            row = builder.select(few, last, e.const(i))
            rows.append(e.load(e.at(start, builder.mul(row, s_row_))))
        for j, column in enumerate(_transposed(e, rows)):
            e.store_part(column, e.at(end, builder.mul(step_, e.const(j))), left_)
        return context.get_dummy_value()

    return signature, generate


@_tile
def finish_tile(typingctx, rows, tile, t0, t_row, out, o0, o_row, bias, b0, residual, relu):
    """`out[o0 + i·o_row + j] = tile[t0 + i·t_row + j]` with the epilogue, `j < BREADTH·W`."""
    at = types.intp
    signature = types.void(at, tile, at, at, out, at, at, bias, at, residual, types.boolean)

    def generate(context, builder, signature, arguments):
        rows_, tile_, t0_, t_row_, out_, o0_, o_row_, bias_, b0_, residual_, relu_ = arguments
        e = _Emitter(context, builder, signature.args[1].dtype)
        start = e.at(e.data(signature.args[1], tile_), t0_)
        end = e.at(e.data(signature.args[4], out_), o0_)
        biases = e.at(e.data(signature.args[7], bias_), b0_)
        addends = e.at(e.data(signature.args[9], residual_), o0_)
        zero = ir.Constant(e.vector, [0.0] * e.width)

        def given(number, array):
            size = context.make_array(signature.args[number])(context, builder, array).nitems
            return builder.icmp_signed(">", size, e.const(0))

        has_bias, has_residual = given(7, bias_), given(9, residual_)
        with cgutils.for_range(builder, rows_) as loop:
            source = e.at(start, builder.mul(loop.index, t_row_))
            shift = builder.mul(loop.index, o_row_)
            slots = [
                cgutils.alloca_once_value(builder, e.load(e.at(source, e.const(j * e.width))))
                for j in range(BREADTH)
            ]
            with builder.if_then(has_bias):
                b = e.splat(builder.load(e.at(biases, loop.index)))
                for slot in slots:
                    builder.store(builder.fadd(builder.load(slot), b), slot)
            with builder.if_then(has_residual):
                for j, slot in enumerate(slots):
                    addend = e.load(e.at(addends, shift, e.const(j * e.width)))
                    builder.store(builder.fadd(builder.load(slot), addend), slot)
            with builder.if_then(context.is_true(builder, types.boolean, relu_)):
                for slot in slots:
                    # NaN is neither above nor below 0, and stays.
                    low = builder.fcmp_ordered("<=", builder.load(slot), zero)
                    builder.store(builder.select(low, zero, builder.load(slot)), slot)
            for j, slot in enumerate(slots):
                e.store(builder.load(slot), e.at(end, shift, e.const(j * e.width)))
        return context.get_dummy_value()

    return signature, generate


@_tile
def expect_tile(typingctx, writing, rows, array, a0, row, count):
    """Ask for `array[a0 + i·row : ... + count]`, `i < rows`, before it is read, or written.

    `writing` is the literal 0 or 1.
    """
    if not hasattr(writing, "literal_value"):
        return None
    write = bool(writing.literal_value)
    at = types.intp
    signature = types.void(writing, at, array, at, at, at)

    def generate(context, builder, signature, arguments):
        _, rows_, array_, a0_, row_, count_ = arguments
        e = _Emitter(context, builder, signature.args[2].dtype)
        start = e.at(e.data(signature.args[2], array_), a0_)
        line = e.const(LINE_BYTES // e.align)
        lines = builder.sdiv(builder.add(count_, builder.sub(line, e.const(1))), line)
        with cgutils.for_range(builder, rows_) as loop:
            place = e.at(start, builder.mul(loop.index, row_))
            with cgutils.for_range(builder, lines) as number:
                _expect(e, e.at(place, builder.mul(number.index, line)), write)
        return context.get_dummy_value()

    return signature, generate


@helper
def tile_rows(left):
    """How many rows the next tile takes; the last may have more than are left."""
    return TALL if left >= TALL else LOW


@helper
def copy_run(source, s0, target, t0, count):
    """`target[t0 : t0 + count] = source[s0 : s0 + count]`."""
    width = WIDE_BYTES // source.itemsize
    if count < width:
        for i in range(count):
            target[t0 + i] = source[s0 + i]
    else:
        i = 0
        while i < count:
            # The last vector begins early rather than ends late.
            j = min(i, count - width)
            move_tile(source, s0 + j, target, t0 + j)
            i += width


@helper
def copy_runs(source, s0, runs, lengths, number, target, t0):
    """Put runs of the source side by side: they begin at `s0 + runs[r]`."""
    for r in range(number):
        copy_run(source, s0 + runs[r], target, t0, lengths[r])
        t0 += lengths[r]


@helper
def find_runs(first, count, image, volume, counts, q, contiguous, runs, lengths):
    """Where `count` places from `first` on lie: runs of neighbours; returns how many.

    Places count through all images. An image of `counts` places lies in rows of a larger packed
    one of size q, or is `contiguous`; images are `image` numbers apart.
    """
    number = 0
    while count > 0:
        n, place = first // volume, first % volume
        if contiguous:
            length = min(volume - place, count)
            runs[number] = n * image + place
        else:
            row, column = place // counts[2], place % counts[2]
            d, h = row // counts[1], row % counts[1]
            length = min(counts[2] - column, count)
            runs[number] = n * image + (d * q[1] + h) * q[2] + column
        lengths[number] = length
        number += 1
        first += length
        count -= length
    return number


@helper
def pack_columns(source, s0, offsets, k0, count, runs, lengths, number, columns, staging, b, exact):
    """Panels of B: `columns` places of the runs for each of `count` offsets.

    `exact` tells that the runs are one that ends with a panel, so it needs no copy before.
    """
    panel = BREADTH * (WIDE_BYTES // source.itemsize)
    panels = (columns + panel - 1) // panel
    fill_row(staging, columns, panels * panel - columns, 0)
    for k in range(count):
        start = s0 + offsets[k0 + k]
        if exact:
            ahead = offsets[k0 + min(k + AHEAD, count - 1)] - offsets[k0 + k]
            spread_tile(source, start + runs[0], ahead, panels, b, k * panel, count * panel)
        else:
            copy_runs(source, start, runs, lengths, number, staging, 0)
            spread_tile(staging, 0, 0, panels, b, k * panel, count * panel)


@helper
def multiply_tile(rows, a, a0, b, b0, count, c, c0, c_row):
    """One tile of the product of packed panels, into c."""
    if rows == TALL:
        panel_tile(TALL, BREADTH, 1, TALL, a, a0, b, b0, count, c, c0, c_row, False)
    else:
        panel_tile(LOW, BREADTH, 1, LOW, a, a0, b, b0, count, c, c0, c_row, False)


@helper
def accumulate_tile(rows, a, b, b0, count, c, c0, c_row, add):
    """One tile of the product, with A in rows of `ROW` numbers."""
    if rows == TALL:
        panel_tile(TALL, BREADTH, ROW, 1, a, 0, b, b0, count, c, c0, c_row, add)
    else:
        panel_tile(LOW, BREADTH, ROW, 1, a, 0, b, b0, count, c, c0, c_row, add)
