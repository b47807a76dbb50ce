"""The one function below all geometric changes: pictures looked at between their pixels.

A change is a table of where each new pixel looks in the old picture.  Rows count from 0 at the top,
columns from 0 at the left, and whole numbers are centres of pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import need_pictures

__all__ = ["MODES", "pixel_grid", "sample"]

MODES = ("constant", "edge", "reflect")

# Pixels looked at together: the eight tables of so many numbers stay in a core's own cache, and
# the calls are still few.
BLOCK = 2**15


def pixel_grid(
    height: int, width: int, dtype: Any = np.float32
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where the pixels are: rows (1, H, 1) and columns (1, 1, W), which broadcast to (N, H, W)."""
    rows, columns = np.arange(height, dtype=dtype), np.arange(width, dtype=dtype)
    return rows[None, :, None], columns[None, None, :]


def sample(
    x: NDArray[Any],
    rows: NDArray[Any],
    columns: NDArray[Any],
    fill: float = 0.0,
    mode: str = "constant",
) -> NDArray[Any]:
    """What pictures show at given places: the bilinear mean of the four pixels around each place.

    At the centre of a pixel it is that pixel, bit for bit.

    Args:
        x: (N, C, H, W), float32 or float64, finite.
        rows: where to look, finite, broadcast to (N, h, w).
        columns: the same.
        fill: what stands around the pictures in mode "constant", without end; finite.
        mode: "constant"; "edge", where the outermost pixels go on; or "reflect", where the picture
            goes on as in a mirror that stands on its outermost pixels.

    Returns:
        (N, C, h, w), of the dtype of `x`.

    Raises:
        TypeError, ValueError: other pictures, another mode, or places of another shape.

    >>> x = np.array([[[[0.0, 4.0, 8.0]]]])
    >>> sample(x, np.zeros((1, 1, 3)), np.array([[[0.0, 0.25, 2.5]]]))[0, 0, 0].tolist()
    [0.0, 1.0, 4.0]
    """
    need_pictures("sample", x)
    if mode not in MODES:
        raise ValueError(f"sample: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not math.isfinite(fill):
        raise ValueError(f"sample: fill must be finite, got {fill}")
    count, channels, height, width = x.shape
    shape = np.broadcast_shapes((count, 1, 1), np.shape(rows), np.shape(columns))
    if len(shape) != 3 or shape[0] != count:
        raise ValueError(
            f"sample: rows and columns must broadcast to ({count}, h, w), one table for each of "
            f"the {count} pictures, got shapes {np.shape(rows)} and {np.shape(columns)}"
        )
    rows, columns = np.broadcast_to(rows, shape), np.broadcast_to(columns, shape)
    out = np.empty((count, channels, *shape[1:]), x.dtype)
    if not out.size:
        return out
    if not height or not width:
        raise ValueError(f"sample: pictures of shape {x.shape} have no pixels to look at")

    at_once = min(count, max(1, BLOCK // (shape[1] * shape[2])))
    # One line more at the top and left, two at the bottom and right: then every place, once it is
    # brought to at most one pixel outside, has four neighbours, and no case is left to look after.
    # In the other modes no place is outside, and the frame is only ever multiplied by 0.
    tall, wide = height + 3, width + 3
    framed = np.full((channels, at_once, tall, wide), fill if mode == "constant" else 0, x.dtype)
    for start in range(0, count, at_once):
        end = min(start + at_once, count)
        many = end - start
        framed[:, :many, 1:-2, 1:-2] = x[start:end].swapaxes(0, 1)
        down, top = _place(rows[start:end], height, mode, x.dtype)
        right, left = _place(columns[start:end], width, mode, x.dtype)
        corner = top.astype(np.intp)
        corner *= wide
        corner += left.astype(np.intp)
        corner += (np.arange(many) * (tall * wide) + wide + 1)[:, None, None]
        for channel in range(channels):
            flat = framed[channel].reshape(-1)
            upper = _between(flat, corner, right)
            lower = _between(flat[wide:], corner, right)
            lower -= upper
            lower *= down
            np.add(upper, lower, out=out[start:end, channel])
    return out


def _place(
    where: NDArray[Any], size: int, mode: str, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """How far behind the line before it each place is, in [0, 1), and which line that is."""
    where = where.astype(dtype)  # a copy, to work in
    if mode == "reflect" and size > 1:
        where = np.abs((where + (size - 1)) % (2 * size - 2) - (size - 1))
    low, high = (-1, size) if mode == "constant" else (0, size - 1)
    np.clip(where, low, high, out=where)
    line = np.floor(where)
    where -= line
    return where, line


def _between(flat: NDArray[Any], first: NDArray[np.intp], part: NDArray[Any]) -> NDArray[Any]:
    """The mean of `flat[first]` and its right neighbour, `part` of the way to the neighbour."""
    near = flat.take(first, mode="clip")  # all are inside; this mode is the fastest
    far = flat[1:].take(first, mode="clip")
    far -= near
    far *= part
    near += far
    return near
