"""Where the taps of a convolution read in a stack of images: tables made once for each geometry.

`stacks` computes a tile of places at a time. This says for each tile where its places begin to
read and which taps meet the input from there: at the edges of a small plane that is far from all
of them. In the adjoint with a stride, neighbouring places are read by different taps; those of one
phase, equal modulo the stride, share a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import Geometry
from .tile import VECTORS, lanes


@dataclass(frozen=True, eq=False)
class Plan:
    """Tables for planes that are read in stacks. Offsets are in numbers: places times W.

    Attributes:
        channel: how long a packed channel is.
        packed: int64 `(channels·places that are read,)`: where each place goes. What no tap
            reads goes to the last place of its channel.
        starts: int64 `(slots,)`: where the taps of each slot start to read. A slot is a place that
            is written; slots of one tile read by the same taps, so some tiles repeat a place.
        lists: int64 `(tiles, 2)`: which entries of `offsets` and `taps` each tile sums over.
        offsets: int64: where a tap reads, from `starts`.
        taps: int64: which tap.
        every: int64 `(channels·taps,)`: the offset of each tap of each channel.
        weights: int64 `(2, channels·taps)`: the channel and the tap of each entry of a panel.
        order: int64 `(places that are written,)`: the slot of each, times W.
        used: the part of all products that the tiles compute.
    """

    channel: int
    packed: np.ndarray
    starts: np.ndarray
    lists: np.ndarray
    offsets: np.ndarray
    taps: np.ndarray
    every: np.ndarray
    weights: np.ndarray
    order: np.ndarray
    used: float


@lru_cache(maxsize=128)
def forward(geometry: Geometry, channels: int, itemsize: int) -> Plan:
    """The plan of `conv` and `conv_weight` over `channels` channels of a group."""
    v = geometry.volume
    axes = [
        _Axis(
            np.arange(v.output[a]) * v.stride[a] - v.padding[a][0],
            np.arange(v.kernel[a]) * v.dilation[a],
            np.zeros(v.output[a], np.int64),
            np.zeros(v.kernel[a], np.int64),
            v.size[a],
        )
        for a in range(3)
    ]
    return _plan(axes, channels, lanes(itemsize))


@lru_cache(maxsize=128)
def backward(geometry: Geometry, channels: int, itemsize: int) -> Plan:
    """The plan of `conv_input`: `channels` channels of the gradient are read for each group."""
    v = geometry.volume
    axes = []
    for a in range(3):
        # Place p was read as place p + before of the padded input: by the windows that stand
        # t·dilation before it, where that is a multiple of the stride.
        at = np.arange(v.size[a]) + v.padding[a][0]
        reach = np.arange(v.kernel[a]) * v.dilation[a]
        step = v.stride[a]
        axes.append(_Axis(at // step, -(reach // step), at % step, reach % step, v.output[a]))
    return _plan(axes, channels, lanes(itemsize))


@dataclass(frozen=True, eq=False)
class _Axis:
    """Along an axis, place p that is written reads place `starts[p] + reach[t]` by tap t.

    It does so for the taps of its own phase, where that lies in `0 .. length - 1`.
    """

    starts: np.ndarray
    reach: np.ndarray
    phases: np.ndarray
    taps: np.ndarray
    length: int


def _plan(axes: list[_Axis], channels: int, width: int) -> Plan:
    low = [int(a.starts.min() + a.reach.min()) for a in axes]
    q = [int(a.starts.max() + a.reach.max()) - n + 1 for a, n in zip(axes, low, strict=True)]
    volume = q[0] * q[1] * q[2]
    grid = np.meshgrid(*(np.arange(a.length) - n for a, n in zip(axes, low, strict=True)),
                       indexing="ij")  # fmt: skip
    inside = np.ones(grid[0].shape, bool)
    for where, length in zip(grid, q, strict=True):
        inside &= (where >= 0) & (where < length)
    place = np.where(inside, _flat(grid, q), volume).reshape(-1)
    channel = (volume + 1) * width

    starts = _flat(np.meshgrid(*(a.starts for a in axes), indexing="ij"), q).reshape(-1)
    reach = _flat(np.meshgrid(*(a.reach for a in axes), indexing="ij"), q).reshape(-1)
    shift = _flat([np.array(n) for n in low], q)
    kinds = np.meshgrid(*(a.phases for a in axes), indexing="ij")
    phase = _flat(kinds, [int(a.phases.max()) + 1 for a in axes]).reshape(-1)
    meets = []
    for a in axes:
        at = a.starts[:, None] + a.reach
        meets.append((at >= 0) & (at < a.length) & (a.phases[:, None] == a.taps))
    meet = np.einsum("di,hj,wk->dhwijk", *meets).reshape(len(starts), len(reach))

    # The places of each phase in order, the last one again until its last tile is full.
    slots: list[np.ndarray] = []
    for number in np.unique(phase):
        some = np.flatnonzero(phase == number)
        slots.append(np.concatenate([some, np.repeat(some[-1], -len(some) % VECTORS)]))
    slot = np.concatenate(slots)
    order = np.empty(len(starts), np.int64)
    order[slot[::-1]] = np.arange(len(slot))[::-1]
    wanted = meet[slot].reshape(-1, VECTORS, len(reach)).any(axis=1)
    lists, taps = _distinct(wanted)
    offsets = (reach - reach.min()) * width
    return Plan(
        channel=channel,
        packed=(np.arange(channels)[:, None] * channel + place * width).reshape(-1),
        starts=(starts[slot] - shift + reach.min()) * width,
        lists=lists,
        offsets=offsets[taps],
        taps=taps,
        every=(np.arange(channels)[:, None] * channel + offsets).reshape(-1),
        weights=np.stack(
            [np.repeat(np.arange(channels), len(reach)), np.tile(np.arange(len(reach)), channels)]
        ),
        order=order * width,
        used=float(wanted.sum()) * VECTORS / meet.size,
    )


def _flat(index: Sequence[np.ndarray], q: Sequence[int]) -> np.ndarray:
    return (index[0] * q[1] + index[1]) * q[2] + index[2]


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of flags where its list begins and how long it is, and all lists end to end."""
    found: dict[bytes, tuple[int, int]] = {}
    entries: list[int] = []
    lists = []
    for row in rows:
        key = row.tobytes()
        if key not in found:
            some = np.flatnonzero(row).tolist()
            found[key] = len(entries), len(some)
            entries += some
        lists.append(found[key])
    return np.array(lists, np.int64).reshape(-1, 2), np.array(entries, np.int64)
