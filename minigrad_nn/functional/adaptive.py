"""Pools that know their output rather than their window, and the way back from a maximum.

Adaptive pooling cuts an axis of `size` into `output` windows, the i-th from `i * size // output`
up to `(i + 1) * size / output` rounded up, so windows may overlap and differ by one.  Averages are
then a product with one matrix an axis; maxima are read at indices, as in `pool`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw
from minigrad.effects import constant, decided, value
from minigrad.ops.elementwise import where
from minigrad.ops.linalg import matmul
from minigrad.ops.reduce import mean
from minigrad.ops.shape import reshape
from minigrad_nn.functional.conv import check_input
from minigrad_nn.functional.pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    gather,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    scatter,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "global_avg_pool",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

Ints = int | Sequence[int]
Output = int | None | Sequence[int | None]
_AVERAGE = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
_MAXIMUM = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def global_avg_pool(x: Any, keepdims: bool = False) -> Any:
    """The average of each channel's whole plane.

    Lin and others, "Network in network", 2014.

    Args:
        x: `(N, C, *spatial)`, at least one spatial axis.
        keepdims: whether spatial axes of size 1 stay.

    Returns:
        `(N, C)`.

    Raises:
        ValueError: x has no spatial axis.

    >>> import minigrad
    >>> global_avg_pool(minigrad.tensor([[[1.0, 2.0, 6.0]]]))
    tensor([[3.]])
    """
    shape = np.shape(raw(x))
    if len(shape) < 3:
        raise ValueError(f"global_avg_pool: x must be (N, C, *spatial), got shape {shape}")
    return mean(x, tuple(range(2, len(shape))), keepdims=keepdims)


def along(x: Any, matrix: Any, axis: int) -> Any:
    """Multiply each line along an axis by `matrix`, `(new size, size)`: linear resampling."""
    shape = np.shape(raw(x))
    matrix = constant(backend.device_of(raw(x)).from_numpy(matrix.astype(raw(x).dtype)))
    lead, rest = shape[:axis], shape[axis + 1 :]
    new = (*lead, matrix.shape[0], *rest)
    if not rest:
        flat = reshape(x, (math.prod(lead), shape[axis]))
        return reshape(matmul(flat, constant(matrix.T)), new)
    flat = reshape(x, (math.prod(lead), shape[axis], math.prod(rest)))
    return reshape(matmul(matrix, flat), new)


def _windows(size: int, output: int) -> list[tuple[int, int]]:
    """First place and end of each window of an axis."""
    return [(i * size // output, -((-(i + 1) * size) // output)) for i in range(output)]


@lru_cache(maxsize=64)
def _averages(size: int, output: int) -> np.ndarray:
    """The matrix that takes the average of each window."""
    matrix = np.zeros((output, size))
    for row, (start, stop) in zip(matrix, _windows(size, output), strict=True):
        row[start:stop] = 1.0 / (stop - start)
    return matrix


def _sizes(name: str, axes: int, x: Any, output_size: Output) -> tuple[tuple, tuple[int, ...]]:
    """Spatial size of the input, and of the output."""
    size = check_input(name, x, axes)[2:]
    wanted = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * axes
    if len(wanted) != axes:
        raise ValueError(f"{name}: output_size must have {axes} numbers, got {output_size}")
    output = tuple(n if want is None else int(want) for n, want in zip(size, wanted, strict=True))
    if min(output) < 1 or min(size) < 1:
        raise ValueError(
            f"{name}: sizes must be at least 1, got input {size} and output_size {output_size}"
        )
    return size, output


def _adaptive_avg(axes: int, x: Any, output_size: Output) -> Any:
    size, output = _sizes(f"adaptive_avg_pool{axes}d", axes, x, output_size)
    if all(n % m == 0 for n, m in zip(size, output, strict=True)):
        return _AVERAGE[axes](x, [n // m for n, m in zip(size, output, strict=True)])
    for axis, (n, m) in enumerate(zip(size, output, strict=True)):
        if n != m:
            x = along(x, _averages(n, m), axis + 2)
    return x


def adaptive_avg_pool1d(x: Any, output_size: Output) -> Any:
    """`output_size` averages of signals `(N, C, L)`; see `adaptive_avg_pool2d`."""
    return _adaptive_avg(1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: Output) -> Any:
    """Averages of windows that are chosen so that the output has a given size.

    Args:
        x: `(N, C, H, W)`.
        output_size: one number, or one an axis; None keeps an axis.

    Returns:
        `(N, C, *output_size)`.

    Raises:
        ValueError: wrong shapes, or a size below 1.

    >>> import minigrad
    >>> adaptive_avg_pool2d(minigrad.tensor([[[[1.0, 2.0, 4.0]]]]), (1, 2))
    tensor([[[[1.5, 3. ]]]])
    """
    return _adaptive_avg(2, x, output_size)


def adaptive_avg_pool3d(x: Any, output_size: Output) -> Any:
    """Averages of volumes `(N, C, D, H, W)`; see `adaptive_avg_pool2d`."""
    return _adaptive_avg(3, x, output_size)


def _maxima(x: Any, size: tuple[int, ...], output: tuple[int, ...]) -> np.ndarray:
    """Where the first maximum of each window stands in the flat plane, `(N, C, *output)`."""
    axes = len(size)
    picks, flat = [], np.zeros((1,) * (2 * axes), np.int64)
    for axis, (n, m) in enumerate(zip(size, output, strict=True)):
        windows = _windows(n, m)
        longest = max(stop - start for start, stop in windows)
        # A shorter window reads its last place again, which never comes before the first maximum.
        places = np.array([[min(a + i, b - 1) for i in range(longest)] for a, b in windows])
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = m, longest
        picks.append(places.reshape(shape))
        flat = flat * n + picks[-1]
    taken = x[(slice(None), slice(None), *picks)]
    taken = taken.reshape(*x.shape[:2], *output, -1)
    first = taken.argmax(-1)
    flat = np.broadcast_to(flat.astype(np.int32), np.broadcast_shapes(*(p.shape for p in picks)))
    table = flat.reshape(*output, -1)
    grid = np.ogrid[tuple(slice(n) for n in output)]
    return np.ascontiguousarray(table[(*grid, first)])


@value
def _maxima_of(x: Any, size: Any, output: Any) -> Any:
    device = backend.device_of(x)
    return device.from_numpy(_maxima(device.to_numpy(x), size, output))


def _adaptive_max(axes: int, x: Any, output_size: Output, return_indices: bool) -> Any:
    size, output = _sizes(f"adaptive_max_pool{axes}d", axes, x, output_size)
    if all(n % m == 0 for n, m in zip(size, output, strict=True)):
        kernel = [n // m for n, m in zip(size, output, strict=True)]
        return _MAXIMUM[axes](x, kernel, return_indices=return_indices)
    indices = _maxima_of(raw(x), size, output)
    values = gather(x, indices)
    return (values, indices) if return_indices else values


def adaptive_max_pool1d(x: Any, output_size: Output, return_indices: bool = False) -> Any:
    """`output_size` maxima of signals `(N, C, L)`; see `adaptive_max_pool2d`."""
    return _adaptive_max(1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Any, output_size: Output, return_indices: bool = False) -> Any:
    """Maxima of windows that are chosen so that the output has a given size.

    Args:
        x: `(N, C, H, W)`.
        output_size: one number, or one an axis; None keeps an axis.
        return_indices: return a pair: the maxima, and their places in the flat `H * W` plane.

    Returns:
        `(N, C, *output_size)`.

    Raises:
        ValueError: wrong shapes, or a size below 1.
    """
    return _adaptive_max(2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Any, output_size: Output, return_indices: bool = False) -> Any:
    """Maxima of volumes `(N, C, D, H, W)`; see `adaptive_max_pool2d`."""
    return _adaptive_max(3, x, output_size, return_indices)


# --- unpooling -----------------------------------------------------------------------------------


def _last(indices: np.ndarray, count: int) -> np.ndarray:
    """Which entries are the last of their plane to name their place."""
    rows = indices.reshape(-1, math.prod(indices.shape[2:]))
    order = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    winner = np.zeros((rows.shape[0], count), np.int64)
    np.put_along_axis(winner, rows, order, 1)
    return (np.take_along_axis(winner, rows, 1) == order).reshape(indices.shape)


def _unpool(
    axes: int,
    x: Any,
    indices: Any,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    output_size: Sequence[int] | None,
) -> Any:
    name = f"max_unpool{axes}d"
    shape = check_input(name, x, axes)
    places = raw(indices)
    if np.shape(places) != shape:
        raise ValueError(
            f"{name}: indices must have the shape of x, {shape}, got {np.shape(places)}; take them "
            f"from max_pool{axes}d(..., return_indices=True)"
        )
    stride = kernel_size if stride is None else stride
    k, s, p = (np.broadcast_to(v, axes) for v in (kernel_size, stride, padding))
    if output_size is None:
        lengths = zip(shape[2:], k, s, p, strict=True)
        size = tuple(int((n - 1) * s + k - 2 * p) for n, k, s, p in lengths)
    else:
        size = tuple(int(n) for n in output_size)[-axes:]
        if len(size) != axes:
            raise ValueError(f"{name}: output_size must have {axes} numbers, got {output_size}")
    last = _last_there(name, places, size)
    if not decided(np.all, last):
        x = where(backend.beside(last, raw(x)), x, 0.0)
    return scatter(x, backend.beside(places, raw(x)), size=size)


@value
def _last_there(name: str, places: Any, size: tuple[int, ...]) -> Any:
    """Which of several inputs for one place is the last, if all of them fit."""
    count = math.prod(size)
    where_ = backend.device_of(places).to_numpy(places)
    if where_.size and (where_.min() < 0 or where_.max() >= count):
        raise ValueError(
            f"{name}: indices reach from {where_.min()} to {where_.max()}, but the output {size} "
            f"has {count} places; give the output_size that was pooled"
        )
    return _last(where_, count)


def max_unpool1d(
    x: Any,
    indices: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """Put maxima of signals `(N, C, L)` back where they stood; see `max_unpool2d`."""
    return _unpool(1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """Put maxima back where they stood, and 0 everywhere else: the way back in a deconvnet.

    Where windows overlapped and one place is named several times, the last value stays.  Zeiler and
    Fergus, "Visualizing and understanding convolutional networks", 2014.

    Args:
        x: `(N, C, H, W)`.
        indices: integers of the shape of x, from `max_pool2d(..., return_indices=True)`.
        kernel_size, stride, padding: those of the pool.
        output_size: the size that was pooled, where rounding down hides it; of several numbers the
            last two count.

    Returns:
        `(N, C, *output_size)`, by default of `(H - 1) * stride - 2 * padding + kernel_size`.

    Raises:
        ValueError: indices of another shape, or outside of the output.

    >>> import minigrad
    >>> x = minigrad.tensor([[[[1.0, 5.0], [3.0, 2.0]]]])
    >>> y, indices = max_pool2d(x, 2, return_indices=True)
    >>> max_unpool2d(y, indices, 2)
    tensor([[[[0., 5.],
              [0., 0.]]]])
    """
    return _unpool(2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: Any,
    indices: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """Put maxima of volumes `(N, C, D, H, W)` back where they stood; see `max_unpool2d`."""
    return _unpool(3, x, indices, kernel_size, stride, padding, output_size)
