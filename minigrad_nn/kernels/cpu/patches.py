"""Convolution as matrix products over patches (im2row): the row that always works.

Each window becomes one row of a matrix, and NumPy's BLAS multiplies it with the filters
(Chellapilla et al., 2006). That costs a matrix that is `taps` times as large as the input, so it is
taken where planes are small and channels are many: there a line (see `lines`) would be mostly
waste, and the product is large enough to pay for the patches. A filter as large as its input
needs no copying.

BLAS adds in an order that depends on the shapes alone, at one number of threads. Blocks of images
have a fixed size, and their weight gradients are added in order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange

from ..blas import matmul
from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from .arrays import Result, flat, plain, scratch
from .compile import kernel
from .finish import finish

# The most memory that the patches of one block of images take.
BLOCK_BYTES = 4 * 2**20


@lru_cache(maxsize=256)
def places(geometry: Geometry) -> np.ndarray:
    """int64 `(prod(output), taps)`: the flat place that a tap reads, −1 in the padding."""
    v = geometry.volume
    grids, inside = [], []
    for axis in range(3):
        out = np.arange(v.output[axis])[:, None] * v.stride[axis] - v.padding[axis][0]
        at = out + np.arange(v.kernel[axis]) * v.dilation[axis]
        grids.append(at)
        inside.append((at >= 0) & (at < v.size[axis]))
    d, h, w = (grid.reshape(_aside(axis, grid.shape)) for axis, grid in enumerate(grids))
    ok = np.ones((), bool)
    for axis, mask in enumerate(inside):
        ok = ok & mask.reshape(_aside(axis, mask.shape))
    flat_place = np.where(ok, (d * v.size[1] + h) * v.size[2] + w, -1)
    outputs = v.output[0] * v.output[1] * v.output[2]
    return np.ascontiguousarray(flat_place.reshape(outputs, v.taps), dtype=np.int64)


def _aside(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Put `(out, kernel)` of one axis into `(outD, outH, outW, kD, kH, kW)`."""
    result = [1] * 6
    result[axis], result[axis + 3] = shape
    return tuple(result)


@kernel
def unfold_kernel(x, rows, where, channels, volume):
    """`rows[(n, p), (c, t)] = x[n, c, where[p, t]]`, 0 in the padding."""
    outputs, taps = where.shape
    for row in prange(rows.shape[0]):
        n, p = row // outputs, row % outputs
        patch = rows[row]
        for c in range(channels):
            origin = (n * channels + c) * volume
            for t in range(taps):
                place = where[p, t]
                patch[c * taps + t] = 0 if place < 0 else x[origin + place]


@kernel
def fold_kernel(rows, y, where, images, channels, volume):
    """The adjoint: `y[n, c, where[p, t]] += rows[(n, p), (c, t)]`, from zeros, places in order."""
    outputs, taps = where.shape
    for plane in prange(images * channels):
        n, c = plane // channels, plane % channels
        target = y[plane * volume : (plane + 1) * volume]
        for i in range(volume):
            target[i] = 0
        for p in range(outputs):
            patch = rows[n * outputs + p]
            for t in range(taps):
                place = where[p, t]
                if place >= 0:
                    target[place] += patch[c * taps + t]


def is_dense(geometry: Geometry) -> bool:
    """Whether the only window is the whole input, so that a patch is the image as it is."""
    return (
        geometry.kernel == geometry.size
        and geometry.taps == _volume(geometry)
        and all(pair == (0, 0) for pair in geometry.padding)
        and all(d == 1 or k == 1 for d, k in zip(geometry.dilation, geometry.kernel, strict=True))
    )


def _volume(geometry: Geometry) -> int:
    v = geometry.volume
    return v.size[0] * v.size[1] * v.size[2]


def _block(images: int, outputs: int, width: int, itemsize: int) -> int:
    return max(1, min(images, BLOCK_BYTES // max(outputs * width * itemsize, 1)))


def _unfold(x: np.ndarray, geometry: Geometry, space: np.ndarray) -> np.ndarray:
    """The patches `(N·outputs, C·taps)` of some images: x itself, or written into `space`."""
    if is_dense(geometry):
        return x.reshape(len(x), -1)
    where = places(geometry)
    rows = space[: len(x) * len(where)]
    unfold_kernel(flat(x), rows, where, x.shape[1], _volume(geometry))
    return rows


def _scratch_rows(room: Workspace, count: int, width: int, geometry: Geometry, dtype: Any) -> Any:
    """Memory for patches; a dense geometry needs none."""
    return room.take((0 if is_dense(geometry) else count, width), dtype)


@np.errstate(all="ignore")
def conv(
    x: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv` by patches."""
    x, w = plain(x), plain(w)
    images, groups, outputs = x.shape[0], geometry.groups, len(places(geometry))
    filters, width = w.shape[0], x.shape[1] * geometry.taps
    part, deep = filters // groups, width // groups
    residual = None if epilogue is None else epilogue.residual
    bias = None if epilogue is None else epilogue.bias
    result = Result((images, filters, *geometry.output), x.dtype, out, x, w, bias, residual)
    y = result.buffer.reshape(images, filters, outputs)
    room = scratch(workspace)
    block = _block(images, outputs, width, x.itemsize)
    space = _scratch_rows(room, block * outputs, width, geometry, x.dtype)
    product = room.take((block * outputs, filters), x.dtype)
    for n in range(0, images, block):
        some = min(block, images - n)
        rows = _unfold(x[n : n + some], geometry, space)
        made = product[: some * outputs]
        for g in range(groups):
            here = slice(g * part, (g + 1) * part)
            patch = rows[:, g * deep : (g + 1) * deep]
            matmul(patch, w[here].reshape(part, deep).T, out=made[:, here])
        y[n : n + some] = made.reshape(some, outputs, filters).transpose(0, 2, 1)
    finish(result.buffer, epilogue)
    return result.deliver()


@np.errstate(all="ignore")
def conv_input(
    g: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_input` by patches."""
    g, w = plain(g), plain(w)
    images, groups, outputs = g.shape[0], geometry.groups, len(places(geometry))
    filters, channels = w.shape[0], w.shape[1] * groups
    part, deep = filters // groups, w.shape[1] * geometry.taps
    residual = None if epilogue is None else epilogue.residual
    bias = None if epilogue is None else epilogue.bias
    result = Result((images, channels, *geometry.size), g.dtype, out, g, w, bias, residual)
    room = scratch(workspace)
    width, volume = deep * groups, _volume(geometry)
    block = _block(images, outputs, width, g.itemsize)
    space = room.take((block * outputs, width), g.dtype)
    turned = room.take((block * outputs, filters), g.dtype)
    y = result.buffer.reshape(images, channels * volume)
    for n in range(0, images, block):
        some = min(block, images - n)
        rows, upper = space[: some * outputs], turned[: some * outputs]
        upper.reshape(some, outputs, filters)[...] = (
            g[n : n + some].reshape(some, filters, outputs).transpose(0, 2, 1)
        )
        for i in range(groups):
            here = slice(i * part, (i + 1) * part)
            patch = rows[:, i * deep : (i + 1) * deep]
            matmul(upper[:, here], w[here].reshape(part, deep), out=patch)
        target = y[n : n + some].reshape(-1)
        fold_kernel(rows, target, places(geometry), some, channels, volume)
    finish(result.buffer, epilogue)
    return result.deliver()


@np.errstate(all="ignore")
def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` by patches."""
    x, g = plain(x), plain(g)
    images, groups, outputs = x.shape[0], geometry.groups, len(places(geometry))
    filters, width = g.shape[1], x.shape[1] * geometry.taps
    part, deep = filters // groups, width // groups
    shape = (filters, x.shape[1] // groups, *geometry.kernel)
    residual = None if epilogue is None else epilogue.residual
    result = Result(shape, x.dtype, out, x, g, residual)
    room = scratch(workspace)
    block = _block(images, outputs, width, x.itemsize)
    space = _scratch_rows(room, block * outputs, width, geometry, x.dtype)
    turned = room.take((block * outputs, filters), x.dtype)
    product = room.take((part, deep), x.dtype)
    total = result.buffer.reshape(filters, deep)
    total[...] = 0
    for n in range(0, images, block):
        some = min(block, images - n)
        upper = turned[: some * outputs]
        upper.reshape(some, outputs, filters)[...] = (
            g[n : n + some].reshape(some, filters, outputs).transpose(0, 2, 1)
        )
        rows = _unfold(x[n : n + some], geometry, space)
        for i in range(groups):
            here = slice(i * part, (i + 1) * part)
            patch = rows[:, i * deep : (i + 1) * deep]
            matmul(upper[:, here].T, patch, out=product)
            total[here] += product
    if residual is not None:
        result.buffer += residual
    return result.deliver()
