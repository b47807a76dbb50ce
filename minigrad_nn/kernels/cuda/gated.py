"""Gated recurrent networks on a card: a step is one product and one launch for all gates.

A step's product is that of `product`, which has the card to itself; what the gates make of it is
one pass over the step. Where sequences differ in length, a state that has come to its end stays as
it is, and gradients go around the steps behind it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import uint64

from ..workspace import Workspace
from .array import CudaArray
from .arrays import Result, Scratch, flat, plain
from .driver import numba_cuda
from .launch import Kernel, inlined, kernel, line
from .product import multiply_into
from .recurrent import ends_of, order, weight_gradient

cuda: Any = numba_cuda()


def logistic(x, one, zero):
    """`1 / (1 + exp(−x))`, by an exponential that does not overflow."""
    e = math.exp(-x if x >= zero else x)
    return one / (one + e) if x >= zero else e / (one + e)


@cache
def lstm_cell(dtype: Any) -> Kernel:
    """One step: `gates` holds sums and becomes the gates; `h` and `c` are the states."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    one, zero, curve = real(1), real(0), inlined(logistic, globals())

    def lstm_kernel(gates, memory, y, h, c, ends, t, size):
        count = h.size
        for e in range(cuda.grid(1), count, cuda.gridsize(1)):
            n, j = e // size, e % size
            at = uint64(t * count + e)
            first = uint64(4 * (t * count + n * size) + j)
            step = uint64(size)
            second, third = first + step, first + step + step
            fourth = third + step
            i, f, g, o, m, s = zero, zero, zero, zero, zero, zero
            if t < ends[n]:
                i, f = real(curve(gates[first], one, zero)), real(curve(gates[second], one, zero))
                g, o = real(math.tanh(gates[third])), real(curve(gates[fourth], one, zero))
                m = f * c[e] + i * g
                s = o * real(math.tanh(m))
                h[e] = s
                c[e] = m
            gates[first] = i
            gates[second] = f
            gates[third] = g
            gates[fourth] = o
            memory[at] = m
            y[at] = s

    lstm_kernel.__name__ = f"lstm_cell_{name}"
    five = ", ".join([f"{name}[::1]"] * 5)
    return kernel(f"void({five}, int64[::1], int64, int64)")(lstm_kernel)


@cache
def lstm_back(dtype: Any) -> Kernel:
    """One step back: `d` becomes the gradient of the step's sums.

    `fresh` is what the product of the step before gave, `gh` and `gc` what states have gathered.
    """
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    one, zero = real(1), real(0)

    def back_kernel(g, gm, memory, gates, c, d, fresh, gh, gc, ends, t, size, done, before):
        count = gh.size
        for e in range(cuda.grid(1), count, cuda.gridsize(1)):
            n, j = e // size, e % size
            at = uint64(t * count + e)
            first = uint64(4 * (t * count + n * size) + j)
            step = uint64(size)
            second, third = first + step, first + step + step
            fourth = third + step
            if 0 <= done < ends[n]:
                gh[e] = fresh[e]
            d_i, d_f, d_g, d_o = zero, zero, zero, zero
            if t < ends[n]:
                i, f, new, o = gates[first], gates[second], gates[third], gates[fourth]
                bent = real(math.tanh(memory[at]))
                total = g[at] + gh[e]
                slope = gc[e] + gm[at] + total * o * (one - bent * bent)
                old = c[e]
                if 0 <= before < ends[n]:
                    old = memory[uint64(before * count + e)]
                d_i = slope * new * i * (one - i)
                d_f = slope * old * f * (one - f)
                d_g = slope * i * (one - new * new)
                d_o = total * bent * o * (one - o)
                gc[e] = slope * f
            d[first] = d_i
            d[second] = d_f
            d[third] = d_g
            d[fourth] = d_o

    back_kernel.__name__ = f"lstm_back_{name}"
    nine = ", ".join([f"{name}[::1]"] * 9)
    return kernel(f"void({nine}, int64[::1], int64, int64, int64, int64)")(back_kernel)


@cache
def gru_cell(dtype: Any) -> Kernel:
    """One step, from `sums`, the product of the state and the weight with the bias."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    one, zero, curve = real(1), real(0), inlined(logistic, globals())

    def gru_kernel(x, sums, gates, y, h, ends, t, size):
        count = h.size
        for e in range(cuda.grid(1), count, cuda.gridsize(1)):
            n, j = e // size, e % size
            source = uint64(3 * (t * count + n * size) + j)
            own = uint64(3 * n * size + j)
            to = uint64(4 * (t * count + n * size) + j)
            step = uint64(size)
            r, z, new, inner, s = zero, zero, zero, zero, zero
            if t < ends[n]:
                inner = sums[own + step + step]
                r = real(curve(x[source] + sums[own], one, zero))
                z = real(curve(x[source + step] + sums[own + step], one, zero))
                new = real(math.tanh(x[source + step + step] + r * inner))
                s = (one - z) * new + z * h[e]
                h[e] = s
            gates[to] = r
            gates[to + step] = z
            gates[to + step + step] = new
            gates[to + step + step + step] = inner
            y[uint64(t * count + e)] = s

    gru_kernel.__name__ = f"gru_cell_{name}"
    five = ", ".join([f"{name}[::1]"] * 5)
    return kernel(f"void({five}, int64[::1], int64, int64)")(gru_kernel)


@cache
def gru_back(dtype: Any) -> Kernel:
    """One step back: `gx`, and `d`, the gradient of the step's product; `kept` is the rest of it.

    `fresh` is what the product of the step before gave, `gh` what states have gathered.
    """
    real, name = np.dtype(dtype).type, np.dtype(dtype).name
    one, zero = real(1), real(0)

    def back_kernel(g, y, gates, h, gx, d, kept, fresh, gh, ends, t, size, done, before):
        count = gh.size
        for e in range(cuda.grid(1), count, cuda.gridsize(1)):
            n, j = e // size, e % size
            at = uint64(t * count + e)
            source = uint64(4 * (t * count + n * size) + j)
            to = uint64(3 * (t * count + n * size) + j)
            step = uint64(size)
            if 0 <= done < ends[n]:
                gh[e] = fresh[e]
            d_r, d_z, d_n, d_s, rest = zero, zero, zero, zero, zero
            if t < ends[n]:
                r, z, new = gates[source], gates[source + step], gates[source + step + step]
                inner = gates[source + step + step + step]
                total = g[at] + gh[e]
                old = h[e]
                if 0 <= before < ends[n]:
                    old = y[uint64(before * count + e)]
                d_n = total * (one - z) * (one - new * new)
                d_z = total * (old - new) * z * (one - z)
                d_r = d_n * inner * r * (one - r)
                d_s = d_n * r
                rest = total * z
            gx[to] = d_r
            gx[to + step] = d_z
            gx[to + step + step] = d_n
            d[to] = d_r
            d[to + step] = d_z
            d[to + step + step] = d_s
            kept[e] = rest

    back_kernel.__name__ = f"gru_back_{name}"
    nine = ", ".join([f"{name}[::1]"] * 9)
    return kernel(f"void({nine}, int64[::1], int64, int64, int64, int64)")(back_kernel)


@cache
def settle(dtype: Any) -> Kernel:
    """The gradient of the first state, after the last step back."""
    name = np.dtype(dtype).name

    def settle_kernel(fresh, gh, ends, size, done):
        for e in range(cuda.grid(1), gh.size, cuda.gridsize(1)):
            if done < ends[e // size]:
                gh[e] = fresh[e]

    settle_kernel.__name__ = f"settle_{name}"
    return kernel(f"void({name}[::1], {name}[::1], int64[::1], int64, int64)")(settle_kernel)


def _state(array: CudaArray) -> CudaArray:
    """A copy to work on, with one axis."""
    return array.copy().reshape(-1)


def _zeros(like: CudaArray) -> CudaArray:
    found = like.empty(like.size, like.dtype)
    found.fill(0)
    return found


def lstm(
    x: CudaArray,
    h: CudaArray,
    c: CudaArray,
    w: CudaArray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.lstm`."""
    steps, count, size = *x.shape[:2], h.shape[1]
    result = Result(x, (steps, count, size), x.dtype, out, x, h, c, w)
    memory = x.empty((steps, count, size), x.dtype)
    gates, source = x.empty(x.shape, x.dtype), plain(x)
    if memory.size:
        ends = ends_of(x, lengths, steps, count)
        state, kept, scratch = _state(h), _state(c), Scratch(workspace, x)
        for t in order(steps, reverse):
            multiply_into(
                gates[t : t + 1], state.reshape(1, count, size), w.T.reshape(1, size, -1), scratch,
                residual=source[t : t + 1],
            )  # fmt: skip
            lstm_cell(x.dtype)(
                *line(x.card, count * size), gates.reshape(-1), memory.reshape(-1),
                result.buffer.reshape(-1), state, kept, ends, t, size,
            )  # fmt: skip
    return result.deliver(), memory, gates


def lstm_backward(
    g: CudaArray,
    gm: CudaArray,
    y: CudaArray,
    memory: CudaArray,
    gates: CudaArray,
    h: CudaArray,
    c: CudaArray,
    w: CudaArray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[CudaArray, CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.lstm_backward`."""
    steps, count, size = y.shape
    result = Result(g, gates.shape, g.dtype, out, g, gm, y, memory, gates, h, c, w)
    d, fresh, gh, gc = result.buffer, _zeros(h), _zeros(h), _zeros(c)
    ends, scratch = ends_of(g, lengths, steps, count), Scratch(workspace, g)
    done = -1
    if y.size:
        given = [flat(a) for a in (g, gm, memory, gates, c)]
        for t in reversed(order(steps, reverse)):
            lstm_back(g.dtype)(
                *line(g.card, count * size), *given, d.reshape(-1), fresh, gh, gc, ends, t, size,
                done, t + 1 if reverse and t + 1 < steps else -1 if reverse else t - 1,
            )  # fmt: skip
            multiply_into(
                fresh.reshape(1, count, size), d[t : t + 1], plain(w).reshape(1, -1, size), scratch
            )
            done = t
        settle(g.dtype)(*line(g.card, gh.size), fresh, gh, ends, size, done)
    gw = weight_gradient(d, plain(y), h, lengths, reverse, scratch)
    return result.deliver(), gh.reshape(h.shape), gc.reshape(h.shape), gw


def gru(
    x: CudaArray,
    h: CudaArray,
    w: CudaArray,
    b: CudaArray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.gru`."""
    steps, count, size = *x.shape[:2], h.shape[1]
    result = Result(x, (steps, count, size), x.dtype, out, x, h, w, b)
    gates, source = x.empty((steps, count, 4 * size), x.dtype), flat(x)
    if gates.size:
        ends = ends_of(x, lengths, steps, count)
        scratch, bias = Scratch(workspace, x), plain(b)
        state, sums = _state(h), scratch.take((1, count, 3 * size), x.dtype)
        for t in order(steps, reverse):
            multiply_into(
                sums, state.reshape(1, count, size), w.T.reshape(1, size, -1), scratch, bias=bias
            )
            gru_cell(x.dtype)(
                *line(x.card, count * size), source, sums.reshape(-1), gates.reshape(-1),
                result.buffer.reshape(-1), state, ends, t, size,
            )  # fmt: skip
    return result.deliver(), gates


def gru_backward(
    g: CudaArray,
    y: CudaArray,
    gates: CudaArray,
    h: CudaArray,
    w: CudaArray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[CudaArray, CudaArray, CudaArray, CudaArray]:
    """See `minigrad_nn.kernels.gru_backward`."""
    steps, count, size = y.shape
    result = Result(g, (steps, count, 3 * size), g.dtype, out, g, y, gates, h, w)
    scratch = Scratch(workspace, g)
    d = scratch.take(result.buffer.shape, g.dtype)
    kept, fresh, gh = scratch.take((count * size,), g.dtype), _zeros(h), _zeros(h)
    ends, done = ends_of(g, lengths, steps, count), -1
    if y.size:
        given = [flat(a) for a in (g, y, gates, h)]
        for t in reversed(order(steps, reverse)):
            gru_back(g.dtype)(
                *line(g.card, count * size), *given, result.buffer.reshape(-1), d.reshape(-1),
                kept, fresh, gh, ends, t, size, done,
                t + 1 if reverse and t + 1 < steps else -1 if reverse else t - 1,
            )  # fmt: skip
            multiply_into(
                fresh.reshape(1, count, size), d[t : t + 1], plain(w).reshape(1, -1, size), scratch,
                residual=kept.reshape(1, count, size),
            )  # fmt: skip
            done = t
        settle(g.dtype)(*line(g.card, gh.size), fresh, gh, ends, size, done)
    gw = weight_gradient(d, plain(y), h, lengths, reverse, scratch)
    gb = d.reshape(-1, 3 * size).sum(axis=0)
    return result.deliver(), gh.reshape(h.shape), gw, gb


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [f(t) for f in (lstm_cell, lstm_back, gru_cell, gru_back, settle) for t in kinds]
