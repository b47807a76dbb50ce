"""Relatives of convolution: transposed, truly convolving, depthwise, pointwise and separable.

None has arithmetic of its own.  The transposed convolution is the adjoint of `conv`, the true one
flips its filters, and the others are `conv` with as many groups as channels, with a filter of one
place, and both in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.core import Op, op, raw
from minigrad.ops.shape import flip
from minigrad_nn import kernels
from minigrad_nn.functional.conv import (
    Ints,
    Padding,
    channel_sum,
    check_input,
    conv,
    conv1d,
    conv2d,
    conv3d,
    conv_input,
    conv_weight,
)
from minigrad_nn.kernels import Epilogue, Geometry

__all__ = [
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve1d",
    "convolve2d",
    "convolve3d",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "depthwise_conv3d",
    "pointwise_conv",
    "separable_conv1d",
    "separable_conv2d",
    "separable_conv3d",
]

_CONV = {1: conv1d, 2: conv2d, 3: conv3d}

# --- transposed ----------------------------------------------------------------------------------

# `conv_input(h, w) + b` in one pass over the result.
conv_input_bias: Op = op(
    "conv_input_bias",
    lambda h, w, b, *, geometry: kernels.conv_input(h, w, geometry, epilogue=Epilogue(bias=b)),
    lambda g, w, geometry: conv(g, w, geometry=geometry),
    lambda g, h, geometry: conv_weight(g, h, geometry=geometry),
    lambda g: channel_sum(g),
)


def transposed_size(
    size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int
) -> int:
    """How large the result of a transposed convolution is along an axis.

    >>> transposed_size(7, 4, stride=2, padding=1, output_padding=0, dilation=1)
    14
    """
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1


def _transpose(
    axes: int,
    x: Any,
    w: Any,
    b: Any,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    groups: int,
    dilation: Ints,
) -> Any:
    name = f"conv_transpose{axes}d"
    shape, filters = check_input(name, x, axes), np.shape(raw(w))
    if len(filters) != axes + 2 or filters[0] != shape[1]:
        raise ValueError(
            f"{name}: w must be (channels of x, filters / groups, *kernel) with {axes + 2} axes, "
            f"got shape {filters} for x of shape {shape}"
        )
    numbers = []
    for what, value in (
        ("stride", stride),
        ("padding", padding),
        ("output_padding", output_padding),
        ("dilation", dilation),
    ):
        if np.ndim(value) > 1 or np.size(value) not in (1, axes):
            raise ValueError(f"{name}: {what} must be one number, or {axes}, got {value}")
        numbers.append([int(n) for n in np.broadcast_to(value, axes)])
    s, p, extra, d = numbers
    if any(not 0 <= e < n for e, n in zip(extra, s, strict=True)):
        raise ValueError(
            f"{name}: output_padding must be at least 0 and below the stride {s}, got {extra}: it "
            "chooses among the sizes that the stride of the convolution rounds down to one"
        )
    size = [
        transposed_size(*numbers)
        for numbers in zip(shape[2:], filters[2:], s, p, extra, d, strict=True)
    ]
    if min(size) < 1:
        raise ValueError(
            f"{name}: the result would have size {size}: the padding {p} takes more than there is "
            f"for x of shape {shape} and w of shape {filters}"
        )
    geometry = Geometry.of(size, filters[2:], s, p, d, groups)
    if b is None:
        return conv_input(x, w, geometry=geometry)
    return conv_input_bias(x, w, b, geometry=geometry)


def conv_transpose1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Any:
    """Transposed convolution of signals `(N, C, L)`; see `conv_transpose2d`.

    >>> import minigrad
    >>> signal, drop = minigrad.tensor([[[1.0, 2.0]]]), minigrad.tensor([[[1.0, 1.0]]])
    >>> conv_transpose1d(signal, drop, stride=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return _transpose(1, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Any:
    """Let each input place paint its filter: the gradient of `conv2d` by its input, as a layer.

    Also called deconvolution, though it undoes nothing: it is the adjoint.  Dumoulin and Visin,
    "A guide to convolution arithmetic for deep learning", 2016.

    Args:
        x: `(N, C, H, W)`.
        w: `(C, O / groups, KH, KW)`.
        b: `(O,)`, or None.
        stride: the step between two painted filters; one number, or one an axis.
        padding: so much is cut off on each side.
        output_padding: rows that are added behind, fewer than the stride.
        groups: channels of group i paint only filters of group i.
        dilation: the step between two taps of a filter.

    Returns:
        `(N, O, H_out, W_out)`, where `H_out = (H - 1) * stride - 2 * padding + dilation * (KH - 1)
        + output_padding + 1`.

    Raises:
        ValueError: shapes that do not belong together, or an empty result.
        TypeError: x, w and b are not of one dtype, float32 or float64.
    """
    return _transpose(2, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Any:
    """Transposed convolution of volumes `(N, C, D, H, W)`; see `conv_transpose2d`."""
    return _transpose(3, x, w, b, stride, padding, output_padding, groups, dilation)


# --- true convolution ----------------------------------------------------------------------------


def _convolve(axes: int, x: Any, w: Any, *settings: Any) -> Any:
    if raw(w).ndim != axes + 2:
        raise ValueError(
            f"convolve{axes}d: w must be (filters, channels / groups, *kernel) with {axes + 2} "
            f"axes, got shape {raw(w).shape}"
        )
    return _CONV[axes](x, flip(w, tuple(range(2, axes + 2))), *settings)


def convolve1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Any:
    """True convolution of signals, with the filter flipped; arguments as `conv1d`.

    >>> import minigrad
    >>> convolve1d(minigrad.tensor([[[1.0, 2.0, 4.0]]]), minigrad.tensor([[[-1.0, 1.0]]]))
    tensor([[[-1., -2.]]])
    """
    return _convolve(1, x, w, b, stride, padding, dilation, groups)


def convolve2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Any:
    """True convolution, as in mathematics and signal processing: the filter is flipped.

    It is commutative and associative, which cross-correlation is not.  Layers that learn their
    filters do not care and leave the flip out: they call `conv2d`, the cross-correlation.

    Args:
        x: `(N, C, H, W)`.
        w: `(O, C / groups, KH, KW)`; its spatial axes are flipped.
        b, stride, padding, dilation, groups: as for `conv2d`.

    Returns:
        `(N, O, H_out, W_out)`.

    >>> import minigrad
    >>> edge = minigrad.tensor([[[[1, 0, -1]] * 3]])
    >>> convolve2d(minigrad.tensor([[[[10, 10, 10, 0, 0, 0]] * 3]]), edge)
    tensor([[[[  0., -30., -30.,   0.]]]])
    """
    return _convolve(2, x, w, b, stride, padding, dilation, groups)


def convolve3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Any:
    """True convolution of volumes, with the filter flipped; arguments as `conv3d`."""
    return _convolve(3, x, w, b, stride, padding, dilation, groups)


# --- depthwise, pointwise, separable -------------------------------------------------------------


def _depthwise(axes: int, x: Any, w: Any, b: Any, stride: Ints, padding: Padding, d: Ints) -> Any:
    shape, filters = check_input(f"depthwise_conv{axes}d", x, axes), np.shape(raw(w))
    channels = shape[1]
    if len(filters) != axes + 2 or filters[1] != 1 or channels < 1 or filters[0] % channels:
        raise ValueError(
            f"depthwise_conv{axes}d: w must be (channels * multiplier, 1, *kernel) for the "
            f"{channels} channels of x, got shape {filters}"
        )
    return _CONV[axes](x, w, b, stride, padding, d, channels)


def depthwise_conv1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Any:
    """Filter each channel of signals on its own; see `depthwise_conv2d`."""
    return _depthwise(1, x, w, b, stride, padding, dilation)


def depthwise_conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Any:
    """Filter each channel on its own: a convolution with as many groups as channels.

    Args:
        x: `(N, C, H, W)`.
        w: `(C * multiplier, 1, KH, KW)`; the first `multiplier` filters see channel 0, and so on.
        b: `(C * multiplier,)`, or None.
        stride, padding, dilation: as for `conv2d`.

    Returns:
        `(N, C * multiplier, H_out, W_out)`.

    Raises:
        ValueError: the filters do not belong to the channels.
    """
    return _depthwise(2, x, w, b, stride, padding, dilation)


def depthwise_conv3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Any:
    """Filter each channel of volumes on its own; see `depthwise_conv2d`."""
    return _depthwise(3, x, w, b, stride, padding, dilation)


def pointwise_conv(x: Any, w: Any, b: Any = None) -> Any:
    """Mix the channels at each place: a convolution whose filters are one place large.

    Args:
        x: `(N, C, *spatial)` with 1, 2 or 3 spatial axes.
        w: `(O, C, 1, ...)` with a kernel of ones.
        b: `(O,)`, or None.

    Returns:
        `(N, O, *spatial)`.

    Raises:
        ValueError: the kernel is not all ones, or x has no spatial axis.
    """
    axes, filters = raw(x).ndim - 2, np.shape(raw(w))
    if axes not in _CONV:
        raise ValueError(
            f"pointwise_conv: x must be (N, C, *spatial) with 1, 2 or 3 spatial axes, got shape "
            f"{raw(x).shape}"
        )
    if any(k != 1 for k in filters[2:]):
        raise ValueError(f"pointwise_conv: w must have a kernel of ones, got shape {filters}")
    return _CONV[axes](x, w, b)


def _separable(axes: int, x: Any, deep: Any, mix: Any, b: Any, *settings: Any) -> Any:
    return pointwise_conv(_depthwise(axes, x, deep, None, *settings), mix, b)


def separable_conv1d(
    x: Any,
    depthwise: Any,
    pointwise: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Any:
    """Filter the channels of signals, then mix them; see `separable_conv2d`."""
    return _separable(1, x, depthwise, pointwise, b, stride, padding, dilation)


def separable_conv2d(
    x: Any,
    depthwise: Any,
    pointwise: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Any:
    """Filter each channel on its own, then mix them: `1/O + 1/(KH * KW)` of the multiplications.

    Howard and others, "MobileNets", 2017.

    Args:
        x: `(N, C, H, W)`.
        depthwise: `(C * multiplier, 1, KH, KW)`.
        pointwise: `(O, C * multiplier, 1, 1)`.
        b: `(O,)`, or None.
        stride, padding, dilation: of the depthwise part, as for `conv2d`.

    Returns:
        `(N, O, H_out, W_out)`.
    """
    return _separable(2, x, depthwise, pointwise, b, stride, padding, dilation)


def separable_conv3d(
    x: Any,
    depthwise: Any,
    pointwise: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
) -> Any:
    """Filter the channels of volumes, then mix them; see `separable_conv2d`."""
    return _separable(3, x, depthwise, pointwise, b, stride, padding, dilation)
