"""Small shifts along rows and columns: the change that suits nearly every kind of picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator

from ..dataset import Batch

__all__ = ["RandomShift", "shift"]


class RandomShift:
    """Moves each picture of a batch by a random fraction of some pixels along both axes.

    Between pixels the values are interpolated linearly, so that small pictures can be moved by
    less than one pixel.

    Args:
        pixels: the longest way along each axis, at least 0; shorter ones are equally likely.
        fill: the value that comes in at the edges.

    Raises:
        ValueError: a way that is negative or not finite.
    """

    def __init__(self, pixels: float, fill: float = 0.0) -> None:
        if not 0 <= pixels < math.inf:
            raise ValueError(f"RandomShift: pixels must be a finite number >= 0, got {pixels}")
        self.pixels = pixels
        self.fill = fill

    def __repr__(self) -> str:
        return f"RandomShift({self.pixels}, fill={self.fill})"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with its first array, (N, C, H, W), moved."""
        ways = generator.uniform((2, len(batch[0])), -self.pixels, self.pixels, dtype=np.float64)
        return shift(batch[0], ways[0], ways[1], self.fill), *batch[1:]


def shift(
    x: NDArray[Any], down: NDArray[Any], right: NDArray[Any], fill: float = 0.0
) -> NDArray[Any]:
    """Pictures moved down and to the right, each by its own number of pixels.

    Args:
        x: (N, C, H, W), floats.
        down: (N,), in pixels; negative for up.
        right: (N,), in pixels; negative for left.
        fill: what stands outside of the pictures.

    Returns:
        (N, C, H, W), linearly interpolated.

    >>> x = np.array([[[[0.0, 4.0, 0.0]]]])
    >>> shift(x, np.zeros(1), np.array([0.25]))[0, 0, 0].tolist()
    [0.0, 3.0, 1.0]
    """
    if x.ndim != 4 or x.dtype.kind != "f":
        raise ValueError(f"shift: pictures must be floats (N, C, H, W), got {x.dtype} {x.shape}")
    for axis, ways in ((2, down), (3, right)):
        whole = np.floor(ways)
        part = (ways - whole).astype(x.dtype)[:, None, None, None]
        near = _shift_whole(x, whole.astype(np.int64), axis, fill)
        far = _shift_whole(x, whole.astype(np.int64) + 1, axis, fill)
        x = near + part * (far - near)
    return x


def _shift_whole(x: NDArray[Any], ways: NDArray[np.int64], axis: int, fill: float) -> NDArray[Any]:
    """Pictures moved by whole pixels along one axis."""
    size = x.shape[axis]
    source = np.arange(size) - ways[:, None]  # (N, size): which line comes to this place
    outside = (source < 0) | (source >= size)
    lines = np.expand_dims(np.clip(source, 0, max(size - 1, 0)), (1, 5 - axis))
    moved = np.take_along_axis(x, lines, axis)
    return np.where(np.expand_dims(outside, (1, 5 - axis)), x.dtype.type(fill), moved)
