"""Other sizes: pictures scaled, and windows of random size and shape scaled to one size.

Scaling is linear and works along one axis at a time, so it is two products with small matrices,
`rows @ picture @ columns.T`; a random window is a matrix of its own for each picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator

from ..dataset import Batch
from .boxes import draw_boxes, draw_corners
from .checks import need_pictures, pair_of_sizes, range_of

__all__ = ["RandomResizedCrop", "Resize", "resize"]


def resize(x: NDArray[Any], size: int | Sequence[int], antialias: bool = True) -> NDArray[Any]:
    """Pictures scaled to another size, bilinearly.

    Pixels are squares, so the corners of old and new picture fall together (PyTorch's
    `align_corners=False`).  With `antialias` a new pixel that covers several old ones is a mean of
    them, with weights that fall linearly from its centre; without, it looks at two old pixels only,
    and fine patterns turn into coarse ones that were never there.  Where pictures grow both are the
    same.

    Args:
        x: (N, C, H, W), floats.
        size: a number or (rows, columns).
        antialias: whether to average where pictures shrink.

    >>> resize(np.array([[[[0.0, 4.0, 8.0, 0.0]]]]), (1, 2))[0, 0, 0].tolist()
    [2.8571428571428568, 4.0]
    >>> resize(np.array([[[[0.0, 4.0, 8.0, 0.0]]]]), (1, 2), antialias=False)[0, 0, 0].tolist()
    [2.0, 4.0]
    """
    need_pictures("resize", x)
    out = pair_of_sizes("resize", "size", size)
    if not all(x.shape[2:]):
        raise ValueError(f"resize: pictures of shape {x.shape} have no pixels")
    zero = np.zeros(1)
    rows = _weights(zero, zero + x.shape[2], x.shape[2], out[0], antialias)
    columns = _weights(zero, zero + x.shape[3], x.shape[3], out[1], antialias)
    return _product(rows, x, columns)


class Resize:
    """Scales all pictures to one size; see `resize`.

    Args:
        size: a number or (rows, columns).
        antialias: whether to average where pictures shrink.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, size: int | Sequence[int], antialias: bool = True) -> None:
        self.size = pair_of_sizes("Resize", "size", size)
        self.antialias = bool(antialias)

    def __repr__(self) -> str:
        return f"Resize({self.size}, antialias={self.antialias})"

    def __call__(self, batch: Batch, generator: Generator | None = None) -> Batch:
        """The batch with its first array as (N, C, rows, columns); the generator is not used."""
        need_pictures("Resize", batch[0])
        return resize(batch[0], self.size, self.antialias), *batch[1:]


class RandomResizedCrop:
    """Cuts a window of random place, size and shape out of each picture, and scales it to one size.

    Szegedy and others, "Going deeper with convolutions", 2014: the window's share of the area is
    uniform in `scale`, the logarithm of width over height uniform in that of `ratio`.  Where the
    window does not fit it is drawn again, up to 10 times; then the largest window in the middle
    whose shape is allowed is taken, as torchvision does.

    Args:
        size: of the result, a number or (rows, columns).
        scale: the least and largest share of the area, in (0, 1].
        ratio: the least and largest width / height, above 0.
        antialias: whether to average where windows shrink.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        antialias: bool = True,
    ) -> None:
        self.size = pair_of_sizes("RandomResizedCrop", "size", size)
        self.scale = range_of("RandomResizedCrop", "scale", scale, 0.0, 1.0)
        self.ratio = range_of("RandomResizedCrop", "ratio", ratio, 0.0)
        if not self.scale[0] or not self.ratio[0]:
            raise ValueError(
                f"RandomResizedCrop: scale and ratio must be above 0, got {scale!r} and {ratio!r}"
            )
        self.antialias = bool(antialias)

    def __repr__(self) -> str:
        return (
            f"RandomResizedCrop({self.size}, scale={self.scale}, ratio={self.ratio}, "
            f"antialias={self.antialias})"
        )

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with a window of each picture of its first array, as (N, C, rows, columns)."""
        x = need_pictures("RandomResizedCrop", batch[0])
        height, width = x.shape[2:]
        top, left, tall, wide = self.windows(len(x), (height, width), generator)
        rows = _weights(top, tall, height, self.size[0], self.antialias)
        columns = _weights(left, wide, width, self.size[1], self.antialias)
        return _product(rows, x, columns), *batch[1:]

    def windows(
        self, count: int, size: tuple[int, int], generator: Generator
    ) -> tuple[NDArray[np.int64], ...]:
        """Random windows in pictures of a size: top, left, rows and columns of each, (count,)."""
        tall, wide, fits = draw_boxes(count, size, self.scale, self.ratio, generator)
        least, most = self.ratio
        shape = min(max(size[1] / size[0], least), most)
        tall[~fits] = min(size[0], max(1, round(size[1] / shape)))
        wide[~fits] = min(size[1], max(1, round(size[0] * shape)))
        top, left = draw_corners(size, tall, wide, generator)
        top[~fits], left[~fits] = ((size[0] - tall) // 2)[~fits], ((size[1] - wide) // 2)[~fits]
        return top, left, tall, wide


def _weights(
    start: NDArray[Any], extent: NDArray[Any], size: int, out: int, antialias: bool
) -> NDArray[np.float64]:
    """(N, out, size): how much of each old line is in each new one.

    The window begins at line `start` and is `extent` lines long, (N,); lines outside count nothing.
    """
    start, extent = (np.asarray(v, np.float64)[:, None, None] for v in (start, extent))
    lines = np.arange(size) + 0.5
    step = extent / out
    centres = start + (np.arange(out)[:, None] + 0.5) * step
    if not antialias:  # then a place beyond the last centres of the window looks at these
        centres = np.clip(centres, start + 0.5, start + extent - 0.5)
    reach = np.maximum(step, 1.0) if antialias else 1.0
    weights = np.maximum(0.0, 1.0 - np.abs(lines - centres) / reach)
    weights *= (lines > start) & (lines < start + extent)
    weights /= weights.sum(axis=2, keepdims=True)
    return weights


def _product(rows: NDArray[Any], x: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    rows, columns = rows.astype(x.dtype)[:, None], columns.astype(x.dtype)[:, None]
    return rows @ x @ columns.swapaxes(2, 3)
