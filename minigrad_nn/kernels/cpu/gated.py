"""Gated recurrent networks over all steps in one call: LSTM and GRU.

They go the way of `recurrent`: the batch is divided among the threads once, each of them goes
through all steps, and the gates of a step are one product with a weight that was packed before.
What the backward pass needs of each gate is kept; the sums over steps for the gradient of the
weight are one product at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from minigrad.noting import empty

from ..workspace import Workspace
from .arrays import Result, flat, scratch
from .compile import helper, kernel
from .curves import LOGISTIC, TANH, curve_line
from .product import panels_in
from .recurrent import (
    add_product,
    copy_numbers,
    lengths_of,
    pack_whole,
    packed_size,
    part_of,
    weight_gradient,
    workers_for,
)
from .tile import VECTOR_BYTES

# Numba sees these as constants.
WIDE_BYTES = VECTOR_BYTES
CURVE_TANH, CURVE_LOGISTIC = TANH, LOGISTIC


@helper
def clear(array, start, count):
    """`array[start : start + count] = 0`."""
    row = array[start : start + count]
    for i in range(count):
        row[i] = 0


@helper
def lstm_cell(gates, at, y, memory, to, state, kept, n, size):
    """One step of one sequence: gates, which hold what goes into them, become what they are."""
    curve_line(CURVE_LOGISTIC, gates, at, gates, at, 2 * size)
    curve_line(CURVE_TANH, gates, at + 2 * size, gates, at + 2 * size, size)
    curve_line(CURVE_LOGISTIC, gates, at + 3 * size, gates, at + 3 * size, size)
    enter, forget = gates[at : at + size], gates[at + size : at + 2 * size]
    new, leave = gates[at + 2 * size : at + 3 * size], gates[at + 3 * size : at + 4 * size]
    held, cell = kept[n * size : (n + 1) * size], memory[to : to + size]
    for i in range(size):
        cell[i] = forget[i] * held[i] + enter[i] * new[i]
    curve_line(CURVE_TANH, memory, to, y, to, size)
    out, next_state = y[to : to + size], state[n * size : (n + 1) * size]
    for i in range(size):
        out[i] *= leave[i]
        next_state[i] = out[i]
        held[i] = cell[i]


@kernel
def lstm_kernel(
    x, h, c, w, lengths, y, memory, gates, state, kept, packed, steps, count, size, reverse, workers
):  # fmt: skip
    """`state`, `kept` and `packed` are scratch: h and c of each sequence, and the weight."""
    wide = WIDE_BYTES // packed.itemsize
    for p in prange(panels_in(wide, 4 * size)):
        pack_whole(p, w, 1, size, size, 4 * size, packed)
    for worker in prange(workers):
        first, last = part_of(worker, workers, count)
        rows = last - first
        copy_numbers(h, first * size, state, first * size, rows * size)
        copy_numbers(c, first * size, kept, first * size, rows * size)
        for number in range(steps):
            t = steps - 1 - number if reverse else number
            here = (t * count + first) * 4 * size
            copy_numbers(x, here, gates, here, rows * 4 * size)
            add_product(state, first * size, rows, packed, size, 4 * size, gates, here)
            for n in range(first, last):
                to = (t * count + n) * size
                if t < lengths[n]:
                    lstm_cell(gates, 4 * to, y, memory, to, state, kept, n, size)
                else:
                    clear(gates, 4 * to, 4 * size)
                    clear(memory, to, size)
                    clear(y, to, size)


@helper
def lstm_cell_backward(g, gm, memory, at, gates, before, b0, d, carried, kept, bent, n, size):
    """One step of one sequence back: `before` holds c of the step before from b0 on."""
    curve_line(CURVE_TANH, memory, at, bent, n * size, size)
    enter, forget = gates[4 * at : 4 * at + size], gates[4 * at + size : 4 * at + 2 * size]
    new = gates[4 * at + 2 * size : 4 * at + 3 * size]
    leave = gates[4 * at + 3 * size : 4 * at + 4 * size]
    d_enter, d_forget = d[4 * at : 4 * at + size], d[4 * at + size : 4 * at + 2 * size]
    d_new = d[4 * at + 2 * size : 4 * at + 3 * size]
    d_leave = d[4 * at + 3 * size : 4 * at + 4 * size]
    gate, gate_memory = g[at : at + size], gm[at : at + size]
    gh, gc = carried[n * size : (n + 1) * size], kept[n * size : (n + 1) * size]
    curve, old = bent[n * size : (n + 1) * size], before[b0 : b0 + size]
    for i in range(size):
        dh = gate[i] + gh[i]
        dc = gate_memory[i] + gc[i] + dh * leave[i] * (1 - curve[i] * curve[i])
        d_enter[i] = dc * new[i] * (enter[i] * (1 - enter[i]))
        d_forget[i] = dc * old[i] * (forget[i] * (1 - forget[i]))
        d_new[i] = dc * enter[i] * (1 - new[i] * new[i])
        d_leave[i] = dh * curve[i] * (leave[i] * (1 - leave[i]))
        gc[i] = dc * forget[i]
        gh[i] = 0


@kernel
def lstm_backward_kernel(
    g, gm, memory, gates, c, w, lengths, d, carried, kept, bent, packed, steps, count, size,
    reverse, workers,
):  # fmt: skip
    """`carried` and `kept` become the gradients of the first h and c."""
    wide = WIDE_BYTES // packed.itemsize
    for p in prange(panels_in(wide, size)):
        pack_whole(p, w, size, 1, 4 * size, size, packed)
    for worker in prange(workers):
        first, last = part_of(worker, workers, count)
        clear(carried, first * size, (last - first) * size)
        clear(kept, first * size, (last - first) * size)
        for number in range(steps):
            t = number if reverse else steps - 1 - number
            for n in range(first, last):
                at = (t * count + n) * size
                if t >= lengths[n]:
                    clear(d, 4 * at, 4 * size)
                    continue
                begins = t == lengths[n] - 1 if reverse else t == 0
                b0 = n * size
                if not begins:
                    b0 = at + (count * size if reverse else -count * size)
                before = c if begins else memory
                lstm_cell_backward(
                    g, gm, memory, at, gates, before, b0, d, carried, kept, bent, n, size
                )
            here = (t * count + first) * 4 * size
            rows = last - first
            add_product(d, here, rows, packed, 4 * size, size, carried, first * size)


@helper
def gru_cell(x, at, hidden, from_h, y, to, gates, state, n, size):
    """One step of one sequence; `hidden` holds what comes from the state, biases included."""
    kept = 4 * to
    reset, update = gates[kept : kept + size], gates[kept + size : kept + 2 * size]
    new = gates[kept + 2 * size : kept + 3 * size]
    inner = gates[kept + 3 * size : kept + 4 * size]
    given, own = x[at : at + 3 * size], hidden[from_h : from_h + 3 * size]
    for i in range(size):
        reset[i] = given[i] + own[i]
        update[i] = given[size + i] + own[size + i]
        inner[i] = own[2 * size + i]
    curve_line(CURVE_LOGISTIC, gates, kept, gates, kept, 2 * size)
    for i in range(size):
        new[i] = given[2 * size + i] + reset[i] * inner[i]
    curve_line(CURVE_TANH, gates, kept + 2 * size, gates, kept + 2 * size, size)
    out, held = y[to : to + size], state[n * size : (n + 1) * size]
    for i in range(size):
        out[i] = new[i] + update[i] * (held[i] - new[i])
        held[i] = out[i]


@kernel
def gru_kernel(
    x, h, w, b, lengths, y, gates, state, hidden, packed, steps, count, size, reverse, workers
):  # fmt: skip
    """`state`, `hidden` and `packed` are scratch."""
    wide = WIDE_BYTES // packed.itemsize
    for p in prange(panels_in(wide, 3 * size)):
        pack_whole(p, w, 1, size, size, 3 * size, packed)
    for worker in prange(workers):
        first, last = part_of(worker, workers, count)
        copy_numbers(h, first * size, state, first * size, (last - first) * size)
        for number in range(steps):
            t = steps - 1 - number if reverse else number
            for n in range(first, last):
                copy_numbers(b, 0, hidden, n * 3 * size, 3 * size)
            from_h = first * 3 * size
            rows = last - first
            add_product(state, first * size, rows, packed, size, 3 * size, hidden, from_h)
            for n in range(first, last):
                to = (t * count + n) * size
                if t < lengths[n]:
                    gru_cell(x, 3 * to, hidden, n * 3 * size, y, to, gates, state, n, size)
                else:
                    clear(gates, 4 * to, 4 * size)
                    clear(y, to, size)


@helper
def gru_cell_backward(g, at, gates, before, b0, d, own, carried, n, size):
    """One step of one sequence back: gradients of what comes from the input and from the state."""
    reset, update = gates[4 * at : 4 * at + size], gates[4 * at + size : 4 * at + 2 * size]
    new = gates[4 * at + 2 * size : 4 * at + 3 * size]
    inner = gates[4 * at + 3 * size : 4 * at + 4 * size]
    gate, gh = g[at : at + size], carried[n * size : (n + 1) * size]
    held = before[b0 : b0 + size]
    given, mine = d[3 * at : 3 * at + 3 * size], own[3 * at : 3 * at + 3 * size]
    for i in range(size):
        dh = gate[i] + gh[i]
        d_new = dh * (1 - update[i]) * (1 - new[i] * new[i])
        d_update = dh * (held[i] - new[i]) * (update[i] * (1 - update[i]))
        d_reset = d_new * inner[i] * (reset[i] * (1 - reset[i]))
        given[i] = d_reset
        given[size + i] = d_update
        given[2 * size + i] = d_new
        mine[i] = d_reset
        mine[size + i] = d_update
        mine[2 * size + i] = d_new * reset[i]
        gh[i] = dh * update[i]


@kernel
def gru_backward_kernel(
    g, y, gates, h, w, lengths, d, own, carried, packed, steps, count, size, reverse, workers
):  # fmt: skip
    """`carried` becomes the gradient of the first state, `own` that of what comes from states."""
    wide = WIDE_BYTES // packed.itemsize
    for p in prange(panels_in(wide, size)):
        pack_whole(p, w, size, 1, 3 * size, size, packed)
    for worker in prange(workers):
        first, last = part_of(worker, workers, count)
        clear(carried, first * size, (last - first) * size)
        for number in range(steps):
            t = number if reverse else steps - 1 - number
            for n in range(first, last):
                at = (t * count + n) * size
                if t >= lengths[n]:
                    clear(d, 3 * at, 3 * size)
                    clear(own, 3 * at, 3 * size)
                    continue
                begins = t == lengths[n] - 1 if reverse else t == 0
                b0 = n * size
                if not begins:
                    b0 = at + (count * size if reverse else -count * size)
                before = h if begins else y
                gru_cell_backward(g, at, gates, before, b0, d, own, carried, n, size)
            here = (t * count + first) * 3 * size
            rows = last - first
            add_product(own, here, rows, packed, 3 * size, size, carried, first * size)


def lstm(
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    w: np.ndarray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.lstm`."""
    (steps, count), size = x.shape[:2], h.shape[1]
    shape = (steps, count, size)
    result = Result(shape, x.dtype, out, x, h, c, w)
    memory, gates = empty(shape, x.dtype), empty(x.shape, x.dtype)
    if x.size:
        room = scratch(workspace)
        lstm_kernel(
            *(flat(x), flat(h), flat(c), flat(w), lengths_of(lengths, steps, count)),
            *(result.buffer.reshape(-1), memory.reshape(-1), gates.reshape(-1)),
            *(room.take((count * size,), x.dtype), room.take((count * size,), x.dtype)),
            room.take((packed_size(size, 4 * size, x.itemsize),), x.dtype),
            *(steps, count, size, bool(reverse), workers_for(count)),
        )
    return result.deliver(), memory, gates


def lstm_backward(
    g: np.ndarray,
    gm: np.ndarray,
    y: np.ndarray,
    memory: np.ndarray,
    gates: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    w: np.ndarray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.lstm_backward`."""
    steps, count, size = y.shape
    result = Result(gates.shape, y.dtype, out, g, gm, y, memory, gates, h, c, w)
    gh, gc = empty(h.shape, h.dtype), empty(h.shape, h.dtype)
    ends = lengths_of(lengths, steps, count)
    if y.size:
        room = scratch(workspace)
        lstm_backward_kernel(
            *(flat(g), flat(gm), flat(memory), flat(gates), flat(c), flat(w), ends),
            *(result.buffer.reshape(-1), gh.reshape(-1), gc.reshape(-1)),
            room.take((count * size,), y.dtype),
            room.take((packed_size(4 * size, size, y.itemsize),), y.dtype),
            *(steps, count, size, bool(reverse), workers_for(count)),
        )
    gw = weight_gradient(result.buffer, y, h, ends, reverse)
    return result.deliver(), gh, gc, gw


def gru(
    x: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.gru`."""
    (steps, count), size = x.shape[:2], h.shape[1]
    result = Result((steps, count, size), x.dtype, out, x, h, w, b)
    gates = empty((steps, count, 4 * size), x.dtype)
    if x.size:
        room = scratch(workspace)
        gru_kernel(
            *(flat(x), flat(h), flat(w), flat(b), lengths_of(lengths, steps, count)),
            *(result.buffer.reshape(-1), gates.reshape(-1)),
            *(room.take((count * size,), x.dtype), room.take((count * 3 * size,), x.dtype)),
            room.take((packed_size(size, 3 * size, x.itemsize),), x.dtype),
            *(steps, count, size, bool(reverse), workers_for(count)),
        )
    return result.deliver(), gates


def gru_backward(
    g: np.ndarray,
    y: np.ndarray,
    gates: np.ndarray,
    h: np.ndarray,
    w: np.ndarray,
    reverse: bool,
    out: Any,
    workspace: Workspace | None,
    lengths: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See `minigrad_nn.kernels.gru_backward`."""
    steps, count, size = y.shape
    shape = (steps, count, 3 * size)
    result = Result(shape, y.dtype, out, g, y, gates, h, w)
    gh, ends = empty(h.shape, h.dtype), lengths_of(lengths, steps, count)
    own = empty(shape, y.dtype)
    if y.size:
        room = scratch(workspace)
        gru_backward_kernel(
            *(flat(g), flat(y), flat(gates), flat(h), flat(w), ends),
            *(result.buffer.reshape(-1), own.reshape(-1), gh.reshape(-1)),
            room.take((packed_size(3 * size, size, y.itemsize),), y.dtype),
            *(steps, count, size, bool(reverse), workers_for(count)),
        )
    gw = weight_gradient(own, y, h, ends, reverse)
    with np.errstate(all="ignore"):
        return result.deliver(), gh, gw, own.reshape(-1, 3 * size).sum(axis=0)
