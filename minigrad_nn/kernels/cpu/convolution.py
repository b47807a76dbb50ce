"""Which algorithm a convolution takes: a table, of which the first row that fits is taken.

The rows differ in speed only; tests run each of them on everything that it can compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import lines, patches, weights
from . import plan as plans


class Row(NamedTuple):
    """One way to compute a kernel.

    Attributes:
        name: how tests and benchmarks call it.
        fits: whether it is the right one for `(a, b, geometry)`, the kernel's operands.
        compute: `(a, b, geometry, out, workspace, epilogue)`.
    """

    name: str
    fits: Callable[[np.ndarray, np.ndarray, Geometry], bool]
    compute: Callable[..., np.ndarray]


# Below this part of useful places in a line, patches and BLAS are faster (measured: lines win
# down to 7x7 planes, and lose at 5x5 with a 5x5 filter, whose line holds one useful place).
LEAST_USEFUL = 0.3


def _lines_forward(x: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    return plans.forward(geometry, w.shape[1], x.itemsize).useful >= LEAST_USEFUL


def _lines_input(g: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    channels = g.shape[1] // geometry.groups
    return plans.backward(geometry, channels, g.itemsize).useful >= LEAST_USEFUL / 2


def _lines_weight(x: np.ndarray, g: np.ndarray, geometry: Geometry) -> bool:
    channels = x.shape[1] // geometry.groups
    return plans.forward(geometry, channels, x.itemsize).useful >= LEAST_USEFUL


def _always(a: np.ndarray, b: np.ndarray, geometry: Geometry) -> bool:
    return True


TABLE: dict[str, tuple[Row, ...]] = {
    "conv": (
        Row("lines", _lines_forward, lines.conv),
        Row("patches", _always, patches.conv),
    ),
    "conv_input": (
        Row("lines", _lines_input, lines.conv_input),
        Row("patches", _always, patches.conv_input),
    ),
    "conv_weight": (
        Row("lines", _lines_weight, weights.conv_weight),
        Row("patches", _always, patches.conv_weight),
    ),
}


def choose(kernel: str, a: np.ndarray, b: np.ndarray, geometry: Geometry) -> Row:
    """The first row of a kernel's table that fits."""
    return next(row for row in TABLE[kernel] if row.fits(a, b, geometry))


def conv(
    x: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.conv`."""
    return choose("conv", x, w, geometry).compute(x, w, geometry, out, workspace, epilogue)


def conv_input(
    g: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.conv_input`."""
    return choose("conv_input", g, w, geometry).compute(g, w, geometry, out, workspace, epilogue)


def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """See `minigrad_nn.kernels.conv_weight`."""
    return choose("conv_weight", x, g, geometry).compute(x, g, geometry, out, workspace, epilogue)
