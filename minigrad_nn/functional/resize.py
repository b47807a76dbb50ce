"""Resizing of signals, pictures and volumes: by the nearest neighbour, or linearly.

Linear resizing is a product with one sparse matrix an axis, so its derivative is the product with
the transposed one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.core import raw
from minigrad.ops.index import take
from minigrad.ops.shape import broadcast_to, reshape
from minigrad_nn.functional.adaptive import along

__all__ = ["interpolate"]

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


@lru_cache(maxsize=64)
def _nearest(size: int, output: int, ratio: float) -> np.ndarray:
    """Which place each new one reads."""
    places = np.floor(np.arange(output) * ratio).astype(np.int64)
    return np.minimum(places, size - 1)


@lru_cache(maxsize=64)
def _linear(size: int, output: int, ratio: float, corners: bool) -> np.ndarray:
    """The matrix `(output, size)` of weights of the two neighbours of each new place."""
    places = np.arange(output, dtype=np.float64)
    if corners:
        places = places * ((size - 1) / (output - 1) if output > 1 else 0.0)
    else:
        places = np.maximum((places + 0.5) * ratio - 0.5, 0.0)
    low = np.minimum(np.floor(places).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    share = places - low
    matrix = np.zeros((output, size))
    np.add.at(matrix, (np.arange(output), low), 1.0 - share)
    np.add.at(matrix, (np.arange(output), high), share)
    return matrix


def _sizes(
    shape: tuple[int, ...], size: Any, scale: Any
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The new spatial size, and how many old places one new one covers on each axis."""
    axes = len(shape) - 2
    if (size is None) == (scale is None):
        raise ValueError("interpolate: give either size or scale_factor")
    name, given = ("size", size) if scale is None else ("scale_factor", scale)
    values = tuple(given) if isinstance(given, Sequence) else (given,) * axes
    if len(values) != axes:
        raise ValueError(f"interpolate: {name} must have {axes} numbers, got {given}")
    if scale is None:
        output = tuple(int(n) for n in values)
        ratios = tuple(n / m if m else 1.0 for n, m in zip(shape[2:], output, strict=True))
    else:
        if min(values) <= 0:
            raise ValueError(f"interpolate: scale_factor must be above 0, got {scale}")
        output = tuple(math.floor(n * f) for n, f in zip(shape[2:], values, strict=True))
        ratios = tuple(1.0 / f for f in values)
    if min(output) < 1 or min(shape[2:]) < 1:
        raise ValueError(f"interpolate: cannot resize {shape[2:]} to {output}")
    return output, ratios


def interpolate(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Any:
    """Another size of signals, pictures or volumes.

    Args:
        x: `(N, C, *spatial)` with 1, 2 or 3 spatial axes.
        size: the new spatial size; one number, or one an axis.
        scale_factor: or by how much it grows, rounded down.
        mode: "nearest", or "linear", "bilinear" and "trilinear" for 1, 2 and 3 axes.
        align_corners: for the linear modes: whether the centres of the outermost pixels stay where
            they are; otherwise their outer edges do.

    Returns:
        `(N, C, *size)`.

    Raises:
        ValueError: an unknown mode or one for other axes, both or none of size and scale_factor,
            or an empty size.

    >>> import minigrad
    >>> interpolate(minigrad.tensor([[[1.0, 3.0]]]), scale_factor=2)
    tensor([[[1., 1., 3., 3.]]])
    >>> interpolate(minigrad.tensor([[[1.0, 3.0]]]), size=3, mode="linear", align_corners=True)
    tensor([[[1., 2., 3.]]])
    """
    shape = np.shape(raw(x))
    axes = len(shape) - 2
    if axes not in (1, 2, 3):
        raise ValueError(
            f"interpolate: x must be (N, C, *spatial) with 1, 2 or 3 spatial axes, got {shape}"
        )
    if mode != "nearest" and LINEAR.get(mode) != axes:
        wanted = ["nearest", *[name for name, n in LINEAR.items() if n == axes]]
        raise ValueError(f"interpolate: mode must be one of {wanted} for {shape}, got {mode!r}")
    if mode == "nearest" and align_corners is not None:
        raise ValueError("interpolate: align_corners has no meaning for the nearest neighbour")
    output, ratios = _sizes(shape, size, scale_factor)
    if mode == "nearest":
        return _by_nearest(x, shape, output, ratios)
    for axis, (n, m, ratio) in enumerate(zip(shape[2:], output, ratios, strict=True), start=2):
        if n != m or ratio != 1.0:
            x = along(x, _linear(n, m, ratio, bool(align_corners)), axis)
    return x


def _by_nearest(x: Any, shape: tuple, output: tuple, ratios: tuple) -> Any:
    times = [m // n for n, m in zip(shape[2:], output, strict=True)]
    whole = [
        n * t == m and math.isclose(t * ratio, 1.0)
        for n, m, t, ratio in zip(shape[2:], output, times, ratios, strict=True)
    ]
    if all(whole):
        # Each element becomes a block: the gradient is a sum, which costs less than scattering.
        thin = [d for n in shape[2:] for d in (n, 1)]
        thick = [d for n, t in zip(shape[2:], times, strict=True) for d in (n, t)]
        blocks = broadcast_to(reshape(x, (*shape[:2], *thin)), (*shape[:2], *thick))
        return reshape(blocks, (*shape[:2], *output))
    for axis, (n, m, ratio) in enumerate(zip(shape[2:], output, ratios, strict=True), start=2):
        x = take(x, _nearest(n, m, ratio), axis)
    return x
