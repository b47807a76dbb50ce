"""Which algorithm a convolution takes: a table, of which the first row that fits is taken.

The rows differ in speed, and Winograd's in rounding; tests run each of them on everything that it
can compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from . import (
    dense,
    depthwise,
    lines,
    panel_weights,
    panels,
    patches,
    stack_plan,
    stacks,
    weights,
    winograd,
)
from . import plan as plans
from .arrays import Result
from .tile import ROWS, VECTORS, lanes, masks_are_free


class Row(NamedTuple):
    """One way to compute a kernel.

    Attributes:
        name: how tests and benchmarks call it.
        fits: whether it is the right one for `(a, b, geometry)`, the kernel's operands.
        compute: `(a, b, geometry, out, workspace, epilogue)`.
        able: whether it can compute a geometry at all.
    """

    name: str
    fits: Callable[[np.ndarray, np.ndarray, Geometry], bool]
    compute: Callable[..., np.ndarray]
    able: Callable[[Geometry], bool] = lambda geometry: True


# What one entry of a matrix of patches costs beside its products, in products (measured, one Zen 4
# core: 0.8 ns against 55 products a nanosecond), and what BLAS loses against a full tile.
PATCH_ENTRY = 44
BLAS = 1.15
# A line that does not fill the widest tile runs at half of its speed.
NARROW = 2.0
# Weight gradients with more numbers than this no longer stay in the cache while lines go by.
MANY_WEIGHTS = 300_000
STREAMED = 1.5


def _lines_pay(plan: plans.Plan, filters: int, itemsize: int, factor: float = 1.0) -> bool:
    """Whether the products that lines waste cost less than making patches.

    Each entry of the matrix of patches takes part in as many products as a group has filters.
    """
    if plan.line < VECTORS * lanes(itemsize):
        factor *= NARROW
    return filters * factor < (PATCH_ENTRY + BLAS * filters) * plan.useful


def _lines_forward(x: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    plan = plans.forward(geometry, w.shape[1], x.itemsize)
    return _lines_pay(plan, w.shape[0] // geometry.groups, x.itemsize)


def _lines_input(g: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    filters = w.shape[0] // geometry.groups
    return _lines_pay(plans.backward(geometry, filters, g.itemsize), filters, g.itemsize)


def _lines_weight(x: np.ndarray, g: np.ndarray, geometry: Geometry) -> bool:
    channels, filters = x.shape[1] // geometry.groups, g.shape[1] // geometry.groups
    plan = plans.forward(geometry, channels, x.itemsize)
    many = channels * geometry.taps * filters > MANY_WEIGHTS
    return _lines_pay(plan, filters, x.itemsize, STREAMED if many else 1.0)


# Fewer channels or filters do not pay for packing them, nor do smaller planes for packing runs.
FEWEST_IN_PANELS = 8
SMALLEST_PLANE = 16


def _panels_pay(a: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    return (
        panel_weights.pointwise(geometry)
        and min(w.shape[:2]) >= FEWEST_IN_PANELS
        and math.prod(geometry.size) >= SMALLEST_PLANE
    )


# Over larger planes the sums of `weights` read memory better than panels of taps are packed.
LARGEST_PLANE = 1024


def _panels_weight(x: np.ndarray, g: np.ndarray, geometry: Geometry) -> bool:
    """Of other filters, those whose stride leaves lines short."""
    places = math.prod(geometry.output)
    if min(x.shape[1], g.shape[1]) < FEWEST_IN_PANELS or places < SMALLEST_PLANE:
        return False
    return panel_weights.pointwise(geometry) or (
        geometry.groups == 1 and max(geometry.stride) > 1 and places <= LARGEST_PLANE
    )


# Pairs of planes that meet in a group: with more of them, sums over channels can be kept.
MOST_PAIRS = 2


def _depthwise(a: np.ndarray, b: np.ndarray, geometry: Geometry) -> bool:
    """Of two operands the first has images; the second is a filter (O, C/groups, ...)."""
    pairs = b.shape[0] * b.shape[1] // geometry.groups
    return masks_are_free and depthwise.able(geometry) and pairs <= MOST_PAIRS


def _depthwise_weight(x: np.ndarray, g: np.ndarray, geometry: Geometry) -> bool:
    pairs = x.shape[1] * g.shape[1] // geometry.groups**2
    return masks_are_free and depthwise.able(geometry) and pairs <= MOST_PAIRS


# Moving a number into a stack or out of one, in products, and what a weight's gradient loses.
MOVE = 8
DOTS = 1.4
# How much of the lanes a batch must fill, and how many channels a group must have.
FILLED = 0.7
FEWEST_IN_GROUP = 4
# What a stack may take, in bytes, and what it may take where numbers are in few products each.
STACK_BYTES, STREAMED_BYTES = 8 * 2**20, 3 * 2**20
FEW_PRODUCTS = 40


def _stacks_may_pay(
    geometry: Geometry, images: int, channels: int, filters: int, itemsize: int, laid: int
) -> bool:
    """What can be told without a plan; channels are read, filters written, `laid` at a time."""
    width = lanes(itemsize)
    if 0 in (images, *geometry.size) or images < FILLED * width * -(-images // width):
        return False
    if geometry.groups > 1 and min(channels, filters) < FEWEST_IN_GROUP:
        return False
    v = geometry.volume
    padded = math.prod(n + sum(pair) for n, pair in zip(v.size, v.padding, strict=True))
    held = (channels * padded + laid * math.prod(v.output)) * width * itemsize
    products = channels * filters * v.taps / (channels + filters)
    return held <= (STREAMED_BYTES if products < FEW_PRODUCTS else STACK_BYTES)


def _stacks_pay(
    plan: stack_plan.Plan, images: int, filters: int, width: int, factor: float
) -> bool:
    """Whether stacks cost less than making patches, for each entry of these."""
    factor *= -(-images // width) * width / images
    moved = len(plan.packed) + len(plan.order) * filters
    cost = filters * factor + MOVE * moved / (len(plan.order) * len(plan.every))
    return cost < PATCH_ENTRY + BLAS * filters


def _stacks_forward(x: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    images, channels, filters = len(x), w.shape[1], w.shape[0] // geometry.groups
    if not _stacks_may_pay(geometry, images, channels, filters, x.itemsize, ROWS):
        return False
    plan = stack_plan.forward(geometry, channels, x.itemsize)
    return _stacks_pay(plan, images, filters, lanes(x.itemsize), plan.used)


def _stacks_input(g: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    images, channels, filters = len(g), w.shape[0] // geometry.groups, w.shape[1]
    if not _stacks_may_pay(geometry, images, channels, filters, g.itemsize, ROWS):
        return False
    plan = stack_plan.backward(geometry, channels, g.itemsize)
    return _stacks_pay(plan, images, filters, lanes(g.itemsize), plan.used)


def _stacks_weight(x: np.ndarray, g: np.ndarray, geometry: Geometry) -> bool:
    images, channels = len(x), x.shape[1] // geometry.groups
    filters = g.shape[1] // geometry.groups
    if not _stacks_may_pay(geometry, images, channels, filters, x.itemsize, filters):
        return False
    plan = stack_plan.forward(geometry, channels, x.itemsize)
    return _stacks_pay(plan, images, filters, lanes(x.itemsize), DOTS)


# Costs of Winograd's method in products: transforms for each tile and channel, and for each filter.
TILE_COST, FILTER_COST = 400, 30 * winograd.PLACES
# Fewer channels leave the lanes of its vectors empty.
FEWEST_CHANNELS = 12


def _winograd_pays(size: tuple[int, ...], images: int, channels: int, filters: int) -> bool:
    """Whether tiles of 4x4 over planes of `size` cost less than lines."""
    if not winograd.enabled or min(channels, filters) < FEWEST_CHANNELS:
        return False
    tiles = images
    for length in size:
        tiles *= -(-length // winograd.OUT)
    wanted = images * size[0] * size[1] * channels * filters * winograd.TAPS**2
    products = winograd.PLACES * tiles * (channels + 8) * (filters + 8)
    transforms = TILE_COST * tiles * (channels + filters) + FILTER_COST * channels * filters
    return products + transforms < wanted


def _winograd_forward(x: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    return winograd.able(geometry) and _winograd_pays(
        geometry.output, x.shape[0], x.shape[1], w.shape[0]
    )


def _winograd_input(g: np.ndarray, w: np.ndarray, geometry: Geometry) -> bool:
    return winograd.able(geometry) and _winograd_pays(
        geometry.size, g.shape[0], g.shape[1], w.shape[1]
    )


def _winograd_weight(x: np.ndarray, g: np.ndarray, geometry: Geometry) -> bool:
    return winograd.able(geometry) and _winograd_pays(
        geometry.output, x.shape[0], x.shape[1], g.shape[1]
    )


def _always(a: np.ndarray, b: np.ndarray, geometry: Geometry) -> bool:
    return True


def _dense(a: np.ndarray, b: np.ndarray, geometry: Geometry) -> bool:
    return dense.able(geometry)


def _planned(run: Callable[..., np.ndarray], plans: ModuleType) -> Callable[..., np.ndarray]:
    """`conv` by a row that follows a plan, made by `plan` or by `stack_plan`."""

    def conv(
        x: np.ndarray,
        w: np.ndarray,
        geometry: Geometry,
        out: Any,
        workspace: Workspace | None,
        epilogue: Epilogue | None,
    ) -> np.ndarray:
        shape = (x.shape[0], w.shape[0], *geometry.output)
        plan = plans.forward(geometry, w.shape[1], x.itemsize)
        return run(x, w, plan, shape, geometry.groups, False, out, workspace, epilogue)

    return conv


def _planned_input(run: Callable[..., np.ndarray], plans: ModuleType) -> Callable[..., np.ndarray]:
    """`conv_input` by the same code, which follows the plan of the adjoint."""

    def conv_input(
        g: np.ndarray,
        w: np.ndarray,
        geometry: Geometry,
        out: Any,
        workspace: Workspace | None,
        epilogue: Epilogue | None,
    ) -> np.ndarray:
        groups = geometry.groups
        shape = (g.shape[0], w.shape[1] * groups, *geometry.size)
        if 0 in shape:  # there is nothing to plan for
            return Result(shape, g.dtype, out, g, w).deliver()
        plan = plans.backward(geometry, g.shape[1] // groups, g.itemsize)
        return run(g, w, plan, shape, groups, True, out, workspace, epilogue)

    return conv_input


TABLE: dict[str, tuple[Row, ...]] = {
    "conv": (
        Row("dense", _dense, dense.conv, dense.able),
        Row("winograd", _winograd_forward, winograd.conv, winograd.able),
        Row("depthwise", _depthwise, depthwise.conv, depthwise.able),
        Row("panels", _panels_pay, _planned(panels.run, plans)),
        Row("stacks", _stacks_forward, _planned(stacks.run, stack_plan)),
        Row("lines", _lines_forward, _planned(lines.run, plans)),
        Row("patches", _always, patches.conv),
    ),
    "conv_input": (
        Row("dense", _dense, dense.conv_input, dense.able),
        Row("winograd", _winograd_input, winograd.conv_input, winograd.able),
        Row("depthwise", _depthwise, depthwise.conv_input, depthwise.able),
        Row("panels", _panels_pay, _planned_input(panels.run, plans)),
        Row("stacks", _stacks_input, _planned_input(stacks.run, stack_plan)),
        Row("lines", _lines_input, _planned_input(lines.run, plans)),
        Row("patches", _always, patches.conv_input),
    ),
    "conv_weight": (
        Row("dense", _dense, dense.conv_weight, dense.able),
        Row("winograd", _winograd_weight, winograd.conv_weight, winograd.able),
        Row("depthwise", _depthwise_weight, depthwise.conv_weight, depthwise.able),
        Row("panels", _panels_weight, panel_weights.conv_weight),
        Row("stacks", _stacks_weight, stacks.conv_weight),
        Row("lines", _lines_weight, weights.conv_weight),
        Row("patches", _always, patches.conv_weight),
    ),
}


def choose(kernel: str, a: np.ndarray, b: np.ndarray, geometry: Geometry) -> Row:
    """The first row of a kernel's table that fits."""
    key = kernel, a.shape, b.shape, a.itemsize, geometry, winograd.enabled
    row = _chosen.get(key)
    if row is None:
        if len(_chosen) >= MOST_CHOSEN:
            _chosen.clear()
        row = next(row for row in TABLE[kernel] if row.fits(a, b, geometry))
        _chosen[key] = row
    return row


# What was chosen before: a choice costs as much as a small convolution.
_chosen: dict[tuple[Any, ...], Row] = {}
MOST_CHOSEN = 4096


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
