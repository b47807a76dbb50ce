"""Register tiles of convolutions whose lanes are images: see `stacks`.

`stack_tile` computes `rows` filters at several places of W images, `stack_dot_tile` the products of
`rows` gradients with several taps. All offsets are in numbers, and a place is W numbers long.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils

from .tile import _Emitter, _tile


@_tile
def stack_tile(
    typingctx, rows, vectors, x, x0, starts, s0, channels, x_channel, offsets, taps, k0, count, w,
    w0, w_channel, bias, b0, c, c0, c_row,
):  # fmt: skip
    """`c[c0 + i·c_row + j·W + l] = bias[b0 + i] + Σ_h Σ_k w[...] · x[...]`.

    The weight is `w[w0 + h·w_channel + taps[k0 + k]·rows + i]`, and the input `x[x0 +
    starts[s0 + j] + h·x_channel + offsets[k0 + k] + l]`, for `i < rows`, `j < vectors`, `l < W`,
    `h < channels` and `k < count`; rows and vectors are literal integers.
    """
    if not hasattr(rows, "literal_value") or not hasattr(vectors, "literal_value"):
        return None
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    at = types.intp
    signature = types.void(
        rows, vectors, x, at, starts, at, at, at, offsets, taps, at, at, w, at, at, bias, at, c,
        at, at,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):
        _, _, x_, x0_, starts_, s0_, channels_, x_channel_, offsets_, taps_ = arguments[:10]
        k0_, count_, w_, w0_, w_channel_, bias_, b0_, c_, c0_, c_row_ = arguments[10:]
        e = _Emitter(context, builder, signature.args[2].dtype)
        source = e.at(e.data(signature.args[2], x_), x0_)
        starts = e.at(e.data(signature.args[4], starts_), s0_)
        places = [e.at(source, builder.load(e.at(starts, e.const(j)))) for j in range(n_vectors)]
        offsets = e.at(e.data(signature.args[8], offsets_), k0_)
        taps = e.at(e.data(signature.args[9], taps_), k0_)
        weights = e.at(e.data(signature.args[12], w_), w0_)
        sums = e.accumulators(n_rows, n_vectors)
        with cgutils.for_range(builder, channels_) as channel:
            ahead = builder.mul(channel.index, x_channel_)
            panel = e.at(weights, builder.mul(channel.index, w_channel_))
            with cgutils.for_range(builder, count_) as loop:
                offset = builder.add(ahead, builder.load(e.at(offsets, loop.index)))
                window = [e.load(e.at(place, offset)) for place in places]
                tap = builder.load(e.at(taps, loop.index))
                here = e.at(panel, builder.mul(tap, e.const(n_rows)))
                for i in range(n_rows):
                    weight = e.splat(builder.load(e.at(here, e.const(i))))
                    for j in range(n_vectors):
                        e.accumulate(sums[i][j], weight, window[j])
        end = e.at(e.data(signature.args[17], c_), c0_)
        biases = e.at(e.data(signature.args[15], bias_), b0_)
        for i in range(n_rows):
            row = e.at(end, builder.mul(c_row_, e.const(i)))
            addend = e.splat(builder.load(e.at(biases, e.const(i))))
            for j in range(n_vectors):
                total = builder.fadd(builder.load(sums[i][j]), addend)
                e.store(total, e.at(row, e.const(j * e.width)))
        return context.get_dummy_value()

    return signature, generate


@_tile
def stack_dot_tile(
    typingctx, rows, vectors, g, g0, g_row, x, x0, starts, places, offsets, k0, sums, s0
):  # fmt: skip
    """`sums[s0 + i·vectors + k] = Σ_p Σ_l g[g0 + i·g_row + p·W + l] · x[...]`.

    The input is `x[x0 + starts[p] + offsets[k0 + k] + l]`, for `i < rows`, `k < vectors`,
    `p < places` and `l < W`; the lanes are added up at the end.
    """
    if not hasattr(rows, "literal_value") or not hasattr(vectors, "literal_value"):
        return None
    n_rows, n_vectors = rows.literal_value, vectors.literal_value
    at = types.intp
    signature = types.void(rows, vectors, g, at, at, x, at, starts, at, offsets, at, sums, at)

    def generate(context, builder, signature, arguments):
        g_, g0_, g_row_, x_, x0_, starts_, places_, offsets_, k0_, sums_, s0_ = arguments[2:]
        e = _Emitter(context, builder, signature.args[2].dtype)
        gradients = e.at(e.data(signature.args[2], g_), g0_)
        source = e.at(e.data(signature.args[5], x_), x0_)
        starts = e.data(signature.args[7], starts_)
        offsets = e.at(e.data(signature.args[9], offsets_), k0_)
        out = e.at(e.data(signature.args[11], sums_), s0_)
        taps = [e.at(source, builder.load(e.at(offsets, e.const(k)))) for k in range(n_vectors)]
        lines = [e.at(gradients, builder.mul(g_row_, e.const(i))) for i in range(n_rows)]
        sums = e.accumulators(n_rows, n_vectors)
        with cgutils.for_range(builder, places_) as loop:
            start = builder.load(e.at(starts, loop.index))
            window = [e.load(e.at(tap, start)) for tap in taps]
            place = builder.mul(loop.index, e.const(e.width))
            for i in range(n_rows):
                gradient = e.load(e.at(lines[i], place))
                for k in range(n_vectors):
                    e.accumulate(sums[i][k], gradient, window[k])
        for i in range(n_rows):
            for k in range(n_vectors):
                total = e.add_lanes(builder.load(sums[i][k]))
                builder.store(total, e.at(out, e.const(i * n_vectors + k)))
        return context.get_dummy_value()

    return signature, generate
