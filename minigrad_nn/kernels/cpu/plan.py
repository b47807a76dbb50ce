"""Where each tap of a convolution reads: tables made once for each geometry.

A convolution with stride s is s convolutions of stride 1 over every s-th row and column, added
up. So an image is first packed: cut into its phases (the places that are equal modulo the stride)
with the zeros of the padding written out. In a packed image each tap of the filter reads at a
constant offset from the output's place, and a whole plane of outputs becomes one long line:
neighbouring places of a line lie in neighbouring memory. Lines run on through the ends of rows;
what is computed there is not used.

The adjoint in the input is the same computation with the roles turned around: one phase is read,
and there is a pass for each phase that is written, with the taps that reach it.

All of it is written for 3 spatial axes; missing ones have size 1 (`Geometry.volume`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import Geometry
from .tile import lanes

# Columns of `Plan.passes`.
FIRST, COUNT, LENGTH, COUNTS, STARTS = 0, 1, 2, 3, 6


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables for `lines` and `weights`. `q` is the packed size, a plane has `prod(q)` places.

    Attributes:
        read_size: `(D, H, W)` of what is packed.
        write_size: `(D, H, W)` of what is written.
        q: the size of each packed phase.
        phases: int64 `(F, 3)`: phase f holds place `z·read_step + phases[f]` at z.
        read_step: `(3,)` steps between packed places.
        write_step: `(3,)` steps between written places.
        passes: int64 `(P, 9)`: the first entry in `offsets`, how many, the line's length (rounded
            up to whole vectors), the count of places on each axis, the first place written.
        offsets: int64 `(K,)`: where each tap of each channel reads, relative to the line's place.
        channel: int64 `(K,)`: which channel that is.
        tap: int64 `(K,)`: which tap.
        packed: how many numbers a packed image has, with room for the last vector.
        line: the length of the longest line.
        useful: the part of the products that is used, those with the padding included.
    """

    read_size: np.ndarray
    write_size: np.ndarray
    q: np.ndarray
    phases: np.ndarray
    read_step: np.ndarray
    write_step: np.ndarray
    passes: np.ndarray
    offsets: np.ndarray
    channel: np.ndarray
    tap: np.ndarray
    packed: int
    line: int
    useful: float


def _round_up(length: int, width: int) -> int:
    return -(-length // width) * width


def _int(*values: object) -> np.ndarray:
    return np.array(values[0] if len(values) == 1 else values, dtype=np.int64)


@lru_cache(maxsize=1024)
def forward(geometry: Geometry, channels: int, itemsize: int) -> Plan:
    """The plan of `conv` (and of `conv_weight`'s input) over `channels` channels of a group."""
    v, width = geometry.volume, lanes(itemsize)
    shifts, phase_of, residues, q = [], [], [], []
    for axis in range(3):
        reach = [tap * v.dilation[axis] for tap in range(v.kernel[axis])]
        kinds = sorted({r % v.stride[axis] for r in reach})
        residues.append(kinds)
        phase_of.append([kinds.index(r % v.stride[axis]) for r in reach])
        shifts.append([r // v.stride[axis] for r in reach])
        q.append(shifts[axis][-1] + v.output[axis])
    phases = [
        [r - v.padding[axis][0] for axis, r in enumerate(kind)]
        for kind in itertools.product(*residues)
    ]
    plane = q[0] * q[1] * q[2]
    taps = []
    for t in itertools.product(*(range(k) for k in v.kernel)):
        f = 0
        for axis in range(3):
            f = f * len(residues[axis]) + phase_of[axis][t[axis]]
        taps.append(f * plane + _place([shifts[axis][t[axis]] for axis in range(3)], q))
    length = _place([n - 1 for n in v.output], q) + 1
    line = _round_up(length, width)
    block = len(phases) * plane
    offsets = (_int(range(channels))[:, None] * block + _int(taps)).reshape(-1)
    count = len(offsets)
    return Plan(
        read_size=_int(v.size),
        write_size=_int(v.output),
        q=_int(q),
        phases=_int(phases),
        read_step=_int(v.stride),
        write_step=_int((1, 1, 1)),
        passes=_int([(0, count, line, *v.output, 0, 0, 0)]),
        offsets=offsets,
        channel=np.repeat(_int(range(channels)), len(taps)),
        tap=np.tile(_int(range(len(taps))), channels),
        packed=channels * block + line - length,
        line=line,
        useful=_used(v.output) / line,
    )


@lru_cache(maxsize=1024)
def backward(geometry: Geometry, channels: int, itemsize: int) -> Plan:
    """The plan of `conv_input`: `channels` channels of the gradient are read for each group."""
    v, width = geometry.volume, lanes(itemsize)
    # For each axis: a list of (first place, number of places, taps, their shifts), one for each
    # residue of the padded place modulo the stride.
    kinds = []
    low, q = [], []
    for axis in range(3):
        s, before = v.stride[axis], v.padding[axis][0]
        found = []
        for residue in range(s):
            first = -((residue - before) // s)  # ceil((before − residue) / s)
            last = (v.size[axis] - 1 + before - residue) // s
            reach = [t * v.dilation[axis] for t in range(v.kernel[axis])]
            taps = [t for t, r in enumerate(reach) if r % s == residue]
            if last >= first:
                found.append(
                    (first, last - first + 1, residue, taps, [reach[t] // s for t in taps])
                )
        kinds.append(found)
        used = [(f - max(m), f + n - 1 - min(m)) for f, n, _, _, m in found if m]
        low.append(min((a for a, _ in used), default=0))
        high = max((b for _, b in used), default=0)
        # A pass that no tap reaches may be the longest; its rows must not lie over each other.
        q.append(max(high - low[axis] + 1, *(places for _, places, _, _, _ in found), 0))
    plane = q[0] * q[1] * q[2]
    passes: list[tuple[int, ...]] = []
    offsets: list[int] = []
    channel: list[int] = []
    tap: list[int] = []
    packed, line, computed = channels * plane, 0, 0
    for kind in itertools.product(*kinds):
        counts = [places for _, places, _, _, _ in kind]
        starts = [
            first * v.stride[axis] + residue - v.padding[axis][0]
            for axis, (first, _, residue, _, _) in enumerate(kind)
        ]
        reads, numbers = [], []
        for t in itertools.product(*(range(len(taps)) for _, _, _, taps, _ in kind)):
            place = [kind[a][0] - low[a] - kind[a][4][t[a]] for a in range(3)]
            reads.append(_place(place, q))
            number = 0
            for axis in range(3):
                number = number * v.kernel[axis] + kind[axis][3][t[axis]]
            numbers.append(number)
        length = _place([n - 1 for n in counts], q) + 1
        rounded = _round_up(length, width)
        passes.append((len(offsets), channels * len(reads), rounded, *counts, *starts))
        for c in range(channels):
            offsets += [c * plane + place for place in reads]
            channel += [c] * len(reads)
            tap += numbers
        if reads:
            packed = max(packed, (channels - 1) * plane + max(reads) + rounded)
            computed += rounded * len(reads)
        line = max(line, rounded)
    wanted = _used(v.output) * v.taps
    return Plan(
        read_size=_int(v.output),
        write_size=_int(v.size),
        q=_int(q),
        phases=_int([low]),
        read_step=_int((1, 1, 1)),
        write_step=_int(v.stride),
        passes=_int(passes).reshape(-1, 9),
        offsets=_int(offsets),
        channel=_int(channel),
        tap=_int(tap),
        packed=packed,
        line=line,
        useful=min(wanted / max(computed, 1), 1.0),
    )


def _place(index: list[int], q: list[int]) -> int:
    return (index[0] * q[1] + index[1]) * q[2] + index[2]


def _used(counts: tuple[int, ...]) -> int:
    return counts[0] * counts[1] * counts[2]


@lru_cache(maxsize=1024)
def mask(geometry: Geometry, itemsize: int) -> np.ndarray:
    """int8 `(line,)` for the forward plan: 1 where a line's place is a place of the output."""
    plan = forward(geometry, 1, itemsize)
    q, counts = plan.q, plan.write_size
    rows = np.zeros((int(q[0]) * int(q[1]), int(q[2])), np.int8).reshape(*q)
    rows[: counts[0], : counts[1], : counts[2]] = 1
    result = np.zeros(plan.line, np.int8)
    flat = rows.reshape(-1)[: plan.line]
    result[: len(flat)] = flat
    return result
