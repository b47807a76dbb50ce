"""Which algorithm a convolution takes: a table, of which the first row that fits is taken.

The rows differ in speed alone; tests run each of them on everything that it can compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import depthwise, implicit, weights
from .array import CudaArray
from .launch import Kernel


class Row(NamedTuple):
    """One way to compute a kernel.

    Attributes:
        name: how tests and benchmarks call it.
        compute: `(a, b, geometry, out, workspace, epilogue)`.
        fits: whether it is right where a group has so many channels and filters.
        able: whether it can compute that at all.
    """

    name: str
    compute: Callable[..., CudaArray]
    fits: Callable[[int, int], bool]
    able: Callable[[int, int], bool]


# Filters of a channel from which on tiles are filled well enough.
FEW_FILTERS = 4


def _few(channels: int, filters: int) -> bool:
    return channels == 1 and filters < FEW_FILTERS


def _one(channels: int, filters: int) -> bool:
    return channels == 1


def _always(channels: int, filters: int) -> bool:
    return True


TABLE: dict[str, tuple[Row, ...]] = {
    "conv": (
        Row("depthwise", depthwise.conv, _few, _one),
        Row("implicit", implicit.conv, _always, _always),
    ),
    "conv_input": (
        Row("depthwise", depthwise.conv_input, _few, _one),
        Row("implicit", implicit.conv_input, _always, _always),
    ),
    "conv_weight": (
        Row("depthwise", depthwise.conv_weight, _few, _one),
        Row("implicit", weights.conv_weight, _always, _always),
    ),
}


def choose(kernel: str, channels: int, filters: int) -> Row:
    """The first row of a kernel's table that fits groups of so many channels and filters."""
    return next(row for row in TABLE[kernel] if row.fits(channels, filters))


def conv(
    x: CudaArray,
    w: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv`."""
    row = choose("conv", w.shape[1], w.shape[0] // geometry.groups)
    return row.compute(x, w, geometry, out, workspace, epilogue)


def conv_input(
    g: CudaArray,
    w: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv_input`."""
    row = choose("conv_input", w.shape[1], w.shape[0] // geometry.groups)
    return row.compute(g, w, geometry, out, workspace, epilogue)


def conv_weight(
    x: CudaArray,
    g: CudaArray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> CudaArray:
    """See `minigrad_nn.kernels.conv_weight`."""
    groups = geometry.groups
    row = choose("conv_weight", x.shape[1] // groups, g.shape[1] // groups)
    return row.compute(x, g, geometry, out, workspace, epilogue)


def examples(full: bool) -> list[Kernel]:
    """The kernels of all rows, as tests and `warm` compile them."""
    return [kernel for home in (depthwise, implicit, weights) for kernel in home.examples(full)]


def tensor_examples(to: str) -> list[Kernel]:
    """Those of tensor cores."""
    return [*implicit.tensor_examples(to), *weights.tensor_examples(to)]
