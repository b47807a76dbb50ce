"""Pooling in 1, 2 and 3 dimensions: the maximum, average or sum of each window.

Max pooling leaves the indices of its maxima.  Its gradient adds into the places that they name
(`max_pool_input`), and the derivative of that reads at them (`gather`), so every order exists.
Average and sum pooling are linear: each stands beside its adjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.core import Op, Saved, op, raw
from minigrad_nn import kernels
from minigrad_nn.functional.conv import check_input
from minigrad_nn.kernels import Geometry

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "gather",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "scatter",
    "sum_pool1d",
    "sum_pool2d",
    "sum_pool3d",
]

Ints = int | Sequence[int]

gather: Op = op(
    "gather",
    lambda x, indices: kernels.gather(x, indices),
    lambda g, x_shape, indices: scatter(g, indices, size=x_shape[2:]),
    lambda g: None,
    gate="selects",
)
"""Read `(N, C, *size)` planes at flat indices `(N, C, *output)`."""

scatter: Op = op(
    "scatter",
    lambda h, indices, *, size: kernels.scatter(h, indices, size),
    lambda g, indices: gather(g, indices),
    lambda g: None,
)
"""Add `(N, C, *output)` into zeros `(N, C, *size)` at flat indices: the adjoint of `gather`."""


def _max_pool_rule(saved: Saved, g: tuple, needs: tuple[bool, ...]) -> list:
    return [_max_pool_input(g[0], raw(saved.indices), geometry=saved.geometry)]


_max_pool_input: Op = op(
    "max_pool_input",
    lambda h, indices, *, geometry: kernels.max_pool_input(h, indices, geometry),
    lambda g, indices: gather(g, indices),
    lambda g: None,
)
_max_pool = Op(
    "max_pool",
    lambda x, *, geometry: kernels.max_pool(x, geometry),
    inputs=("x",),
    outputs=("y", "indices"),
    differentiable=(True, False),
    saves=("indices",),
    backward=_max_pool_rule,
    gate="selects",
)
_average_pool: Op = op(
    "average_pool",
    lambda x, *, geometry, pad: kernels.average_pool(x, geometry, count_include_pad=pad),
    lambda g, geometry, pad: _average_pool_input(g, geometry=geometry, pad=pad),
)
_average_pool_input: Op = op(
    "average_pool_input",
    lambda h, *, geometry, pad: kernels.average_pool_input(h, geometry, count_include_pad=pad),
    lambda g, geometry, pad: _average_pool(g, geometry=geometry, pad=pad),
)
_sum_pool: Op = op(
    "sum_pool",
    lambda x, *, geometry: kernels.sum_pool(x, geometry),
    lambda g, geometry: _sum_pool_input(g, geometry=geometry),
)
_sum_pool_input: Op = op(
    "sum_pool_input",
    lambda h, *, geometry: kernels.sum_pool_input(h, geometry),
    lambda g, geometry: _sum_pool(g, geometry=geometry),
)


def _geometry(
    name: str, axes: int, x: Any, kernel: Ints, stride: Ints | None, *rest: Any
) -> Geometry:
    size = check_input(f"{name}_pool{axes}d", x, axes)[2:]
    padding, dilation, ceil_mode = rest
    stride = kernel if stride is None else stride
    return Geometry.of(size, kernel, stride, padding, dilation, 1, ceil_mode)


def _max(axes: int, x: Any, return_indices: bool, *shape: Any) -> Any:
    values, indices = _max_pool(x, geometry=_geometry("max", axes, x, *shape))
    return (values, indices) if return_indices else values


def max_pool1d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of signals `(N, C, L)`; see `max_pool2d`."""
    return _max(1, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window; the first of equal maxima gets the gradient.

    A NaN wins over every number, and the padding never wins.

    Args:
        x: `(N, C, H, W)`.
        kernel_size: the window; one number, or one an axis.
        stride: the step between two windows; the window's size if it is None.
        padding, dilation: as for `conv2d`.
        ceil_mode: a remainder adds a window instead of being dropped.
        return_indices: return a pair: the maxima, and their places in the flat `H * W` plane, of
            int32.

    Raises:
        ValueError: a window larger than the padded input, or one with nothing but padding.

    >>> import minigrad
    >>> max_pool2d(minigrad.tensor([[[[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]]]), 2)
    tensor([[[[6., 8.],
              [3., 4.]]]])
    """
    return _max(2, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of volumes `(N, C, D, H, W)`; see `max_pool2d`."""
    return _max(3, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The average of each window of signals `(N, C, L)`; see `avg_pool2d`."""
    geometry = _geometry("avg", 1, x, kernel_size, stride, padding, 1, ceil_mode)
    return _average_pool(x, geometry=geometry, pad=count_include_pad)


def avg_pool2d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The average of each window.

    Args:
        x: `(N, C, H, W)`.
        kernel_size: the window; one number, or one an axis.
        stride: the step between two windows; the window's size if it is None.
        padding: as for `conv2d`.
        ceil_mode: a remainder adds a window instead of being dropped.
        count_include_pad: whether the zeros of the padding count in the divisor.

    Raises:
        ValueError: a window larger than the padded input, or one with nothing but padding.
    """
    geometry = _geometry("avg", 2, x, kernel_size, stride, padding, 1, ceil_mode)
    return _average_pool(x, geometry=geometry, pad=count_include_pad)


def avg_pool3d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The average of each window of volumes `(N, C, D, H, W)`; see `avg_pool2d`."""
    geometry = _geometry("avg", 3, x, kernel_size, stride, padding, 1, ceil_mode)
    return _average_pool(x, geometry=geometry, pad=count_include_pad)


def sum_pool1d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Any:
    """The sum of each window of signals `(N, C, L)`; see `avg_pool2d`."""
    return _sum_pool(x, geometry=_geometry("sum", 1, x, kernel_size, stride, padding, 1, ceil_mode))


def sum_pool2d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Any:
    """The sum of each window of pictures `(N, C, H, W)`; see `avg_pool2d`."""
    return _sum_pool(x, geometry=_geometry("sum", 2, x, kernel_size, stride, padding, 1, ceil_mode))


def sum_pool3d(
    x: Any,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Any:
    """The sum of each window of volumes `(N, C, D, H, W)`; see `avg_pool2d`."""
    return _sum_pool(x, geometry=_geometry("sum", 3, x, kernel_size, stride, padding, 1, ceil_mode))
