"""Padding by zeros, by a mirror, by the border and around a circle.

All modes but zeros are concatenations of slices, so every order of derivative is the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw
from minigrad.ops.index import getitem
from minigrad.ops.shape import broadcast_to, concatenate, flip
from minigrad.ops.shape import pad as pad_constant

__all__ = ["MODES", "pad", "pad_axes"]

MODES = ("constant", "reflect", "replicate", "circular")


def _cut(x: Any, axis: int, start: int, stop: int) -> Any:
    return getitem(x, index=(slice(None),) * axis + (slice(start, stop),))


def _ends(x: Any, axis: int, pair: tuple[int, int], mode: str) -> list[Any]:
    """What stands before and behind the axis."""
    before, after = pair
    n = raw(x).shape[axis]
    most = {"reflect": n - 1, "circular": n, "replicate": max(before, after) if n else 0}[mode]
    if max(pair) > most:
        raise ValueError(
            f"pad: {mode} padding of an axis of size {n} can be at most {most}, got {pair}"
        )
    if mode == "reflect":
        first, last = _cut(x, axis, 1, before + 1), _cut(x, axis, n - 1 - after, n - 1)
        return [flip(first, axis), flip(last, axis)]
    if mode == "circular":
        return [_cut(x, axis, n - before, n), _cut(x, axis, 0, after)]
    found = []
    for start, count in ((0, before), (n - 1, after)):
        shape = list(raw(x).shape)
        shape[axis] = count
        found.append(broadcast_to(_cut(x, axis, start, start + 1), tuple(shape)))
    return found


def pad_axes(x: Any, widths: Sequence[tuple[int, int]], mode: str, value: float = 0.0) -> Any:
    """Pad the last axes by one pair (before, after) each, in the order of the axes."""
    if mode not in MODES:
        raise ValueError(f"pad: mode must be one of {MODES}, got {mode!r}")
    ndim = raw(x).ndim
    if any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: widths must not be negative, got {list(widths)}; cut with an index")
    if len(widths) > ndim:
        raise ValueError(f"pad: {len(widths)} pairs of widths for an input of {ndim} axes")
    if not any(n for pair in widths for n in pair):
        return x
    if mode == "constant":
        return pad_constant(x, [(0, 0)] * (ndim - len(widths)) + list(widths), "constant", value)
    for axis, pair in enumerate(widths, start=ndim - len(widths)):
        if any(pair):
            first, last = _ends(x, axis, pair, mode)
            x = concatenate([first, x, last], axis)
    return x


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Any:
    """Add elements around the last axes, as PyTorch's function of this name.

    Args:
        x: of any shape.
        pad: `(before, after)` of the last axis, then of the one before it, and so on.
        mode: "constant"; "reflect", a mirror on the border element, which is not repeated;
            "replicate", the border element again and again; "circular", the other end.
        value: of mode "constant".

    Raises:
        ValueError: an odd number of widths, a negative one, or one larger than its axis allows.

    >>> import minigrad
    >>> pad(minigrad.tensor([1.0, 2.0, 3.0]), (2, 1), "reflect")
    tensor([3., 2., 1., 2., 3., 2.])
    """
    numbers = [int(n) for n in pad]
    if len(numbers) % 2:
        raise ValueError(f"pad: widths come in pairs (before, after), got {len(numbers)} numbers")
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))[::-1]
    return pad_axes(x if backend.is_array(raw(x)) else np.asarray(x), pairs, mode, value)
