"""What the kernels of pooling mean: maxima with their places, sums and averages, and adjoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from . import checks
from .epilogue import Epilogue
from .geometry import Geometry
from .registry import find
from .workspace import Workspace

__all__ = [
    "MaxPool",
    "average_pool",
    "average_pool_input",
    "gather",
    "max_pool",
    "max_pool_input",
    "scatter",
    "sum_pool",
    "sum_pool_input",
]

# An array of any registered device.
Array = Any


class MaxPool(NamedTuple):
    """What `max_pool` returns: the maxima, and where they stood."""

    values: Array
    indices: Array


def max_pool(
    x: Array,
    geometry: Geometry,
    *,
    out: tuple[Array, Array] | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> MaxPool:
    """The maximum of each window, and where it stands.

    The first of equal maxima wins. A NaN wins over every number (the last one, if there are
    several, as in PyTorch). The padding never wins.

    Args:
        x: `(N, C, *size)`.
        geometry: `groups` must be 1.
        out: `(values, indices)`, both `(N, C, *output)`, indices of int32.
        workspace: scratch memory.
        epilogue: is applied to the values.

    Returns:
        The values, and int32 indices into the flat input plane: `0 .. prod(size) − 1`.

    Raises:
        ValueError: some window holds nothing but padding, or a plane has 2^31 places or more.
    """
    values, indices = (None, None) if out is None else out
    compute = find("max_pool", x=x, out=values, **checks.parts(epilogue))
    shape = checks.pool("max_pool", geometry, x=x)
    checks.covered("max_pool", geometry)
    checks.places("max_pool", geometry)
    checks.result("max_pool", shape, values, epilogue)
    if indices is not None:
        checks.indices("max_pool", "out[1]", indices, shape, "int32")
    return MaxPool(*compute(x, geometry, values, indices, workspace, epilogue))


def max_pool_input(
    g: Array,
    indices: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The gradient of `max_pool`: each `g[n, c, p]` is added where its window's maximum stood.

    It is `scatter(g, indices, geometry.size)`, faster because it knows which windows reach a
    place. Linear in g, and the adjoint of `gather` with the same indices.

    Args:
        g: `(N, C, *output)`.
        indices: int32 `(N, C, *output)`, as `max_pool` gave them. An index that lies outside of its
            own window gets nothing.
        geometry: the geometry of the forward pool; its `size` is the size of this result.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.
    """
    compute = find("max_pool_input", g=g, out=out, **checks.parts(epilogue))
    shape = checks.pool("max_pool_input", geometry, g=g)
    checks.indices("max_pool_input", "indices", indices, g.shape, "int32")
    checks.result("max_pool_input", shape, out, epilogue)
    return compute(g, indices, geometry, out, workspace, epilogue)


def gather(
    x: Array,
    indices: Array,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Read each plane at flat indices: `y[n, c, p] = x[n, c].flat[indices[n, c, p]]`.

    Linear in x, and the adjoint of `scatter` with the same indices: with those of `max_pool` it
    is the pool's derivative in a direction.

    Args:
        x: `(N, C, *size)`.
        indices: int32 or int64 `(N, C, *output)`.
        out: `(N, C, *output)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        IndexError: an index does not lie in `0 .. prod(size) − 1`.
    """
    compute = find("gather", x=x, out=out, **checks.parts(epilogue))
    shape = checks.planes("gather", "x", x, indices)
    checks.result("gather", shape, out, epilogue)
    return compute(x, indices, out, workspace, epilogue)


def scatter(
    g: Array,
    indices: Array,
    size: Iterable[int],
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Add into planes at flat indices: `y[n, c].flat[indices[n, c, p]] += g[n, c, p]`, from zeros.

    Linear in g, and the adjoint of `gather`: with the indices of `max_pool` it is the pool's
    gradient, and, where windows do not overlap, unpooling.

    Args:
        g: `(N, C, *output)`.
        indices: int32 or int64 `(N, C, *output)`.
        size: the spatial size of the result.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        IndexError: an index does not lie in `0 .. prod(size) − 1`.
    """
    compute = find("scatter", g=g, out=out, **checks.parts(epilogue))
    size = tuple(size)
    checks.same_shape("scatter", "g", g, indices)
    checks.result("scatter", (*g.shape[:2], *size), out, epilogue)
    return compute(g, indices, size, out, workspace, epilogue)


def sum_pool(
    x: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The sum of each window; the padding counts as 0.

    Args:
        x: `(N, C, *size)`.
        geometry: `groups` must be 1.
        out: `(N, C, *output)`.
        workspace: scratch memory.
        epilogue: is applied to the result.
    """
    compute = find("sum_pool", x=x, out=out, **checks.parts(epilogue))
    checks.result("sum_pool", checks.pool("sum_pool", geometry, x=x), out, epilogue)
    return compute(x, geometry, out, workspace, epilogue)


def sum_pool_input(
    g: Array,
    geometry: Geometry,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The adjoint of `sum_pool`: each `g[n, c, p]` is added to every place of its window.

    Args:
        g: `(N, C, *output)`.
        geometry: the geometry of the forward pool; its `size` is the size of this result.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.
    """
    compute = find("sum_pool_input", g=g, out=out, **checks.parts(epilogue))
    checks.result("sum_pool_input", checks.pool("sum_pool_input", geometry, g=g), out, epilogue)
    return compute(g, geometry, out, workspace, epilogue)


def average_pool(
    x: Array,
    geometry: Geometry,
    *,
    count_include_pad: bool = True,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The average of each window.

    The divisor is the number of taps inside the input, or, with `count_include_pad`, inside the
    padded input: a tap that only `ceil` put beyond the padding counts for neither (as in PyTorch).

    Args:
        x: `(N, C, *size)`.
        geometry: `groups` must be 1.
        count_include_pad: whether taps in the padding count, as zeros.
        out: `(N, C, *output)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        ValueError: some window holds nothing but padding.
    """
    compute = find("average_pool", x=x, out=out, **checks.parts(epilogue))
    shape = checks.pool("average_pool", geometry, x=x)
    checks.covered("average_pool", geometry)
    checks.result("average_pool", shape, out, epilogue)
    return compute(x, geometry, count_include_pad, out, workspace, epilogue)


def average_pool_input(
    g: Array,
    geometry: Geometry,
    *,
    count_include_pad: bool = True,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """The adjoint of `average_pool`: each `g[n, c, p]` over its divisor, added to its window.

    Args:
        g: `(N, C, *output)`.
        geometry: the geometry of the forward pool; its `size` is the size of this result.
        count_include_pad: as in the forward pool.
        out: `(N, C, *size)`.
        workspace: scratch memory.
        epilogue: is applied to the result.

    Raises:
        ValueError: some window holds nothing but padding.
    """
    compute = find("average_pool_input", g=g, out=out, **checks.parts(epilogue))
    shape = checks.pool("average_pool_input", geometry, g=g)
    checks.covered("average_pool_input", geometry)
    checks.result("average_pool_input", shape, out, epilogue)
    return compute(g, geometry, count_include_pad, out, workspace, epilogue)
