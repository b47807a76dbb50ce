"""Convolution in 1, 2 and 3 dimensions: three operations, each the adjoint of the other two.

Called convolution as in all of deep learning, it is a cross-correlation: the filter is not flipped.
`conv` is linear in its input and in its filter; the gradient by the input is `conv_input`, that by
the filter `conv_weight`, and the derivatives of those two are again among the three:

===================  ====================  ====================
operation            rule for the first    rule for the second
===================  ====================  ====================
`conv(x, w)`         `conv_input(g, w)`    `conv_weight(x, g)`
`conv_input(h, w)`   `conv(g, w)`          `conv_weight(g, h)`
`conv_weight(x, h)`  `conv_input(h, g)`    `conv(x, g)`
===================  ====================  ====================

so every order of derivative exists.  All three share one frozen `Geometry`, which checks itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.core import Op, Saved, op, raw
from minigrad.ops.elementwise import relu
from minigrad.ops.shape import broadcast_to, reshape
from minigrad_nn import kernels
from minigrad_nn.functional.large import MANY
from minigrad_nn.kernels import Epilogue, Geometry

__all__ = [
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_bias",
    "conv_bias_relu",
    "conv_input",
    "conv_weight",
]

Ints = int | Sequence[int]
Numbers = int | Sequence[int | Sequence[int]]
Padding = str | Numbers

conv: Op = op(
    "conv",
    lambda x, w, *, geometry: kernels.conv(x, w, geometry),
    lambda g, w, geometry: conv_input(g, w, geometry=geometry),
    lambda g, x, geometry: conv_weight(x, g, geometry=geometry),
)
conv_input: Op = op(
    "conv_input",
    lambda h, w, *, geometry: kernels.conv_input(h, w, geometry),
    lambda g, w, geometry: conv(g, w, geometry=geometry),
    lambda g, h, geometry: conv_weight(g, h, geometry=geometry),
)
conv_weight: Op = op(
    "conv_weight",
    lambda x, h, *, geometry: kernels.conv_weight(x, h, geometry),
    lambda g, h, geometry: conv_input(h, g, geometry=geometry),
    lambda g, x, geometry: conv(x, g, geometry=geometry),
)
# `conv(x, w) + b` in one pass over the result: the kernel adds the bias before it writes.
conv_bias: Op = op(
    "conv_bias",
    lambda x, w, b, *, geometry: kernels.conv(x, w, geometry, epilogue=Epilogue(bias=b)),
    lambda g, w, geometry: conv_input(g, w, geometry=geometry),
    lambda g, x, geometry: conv_weight(x, g, geometry=geometry),
    lambda g: channel_sum(g),
)


def _conv_bias_relu_rule(saved: Saved, g: Any, needs: tuple[bool, ...]) -> list:
    g, gb = kernels.epilogue_backward(g, saved.y, "relu")
    return [
        conv_input(g, saved.w, geometry=saved.geometry) if needs[0] else None,
        conv_weight(saved.x, g, geometry=saved.geometry) if needs[1] else None,
        gb,
    ]


# `relu(conv(x, w) + b)` in one pass over the result; where the ReLU is closed is seen in y.
conv_bias_relu: Op = Op(
    "conv_bias_relu",
    lambda x, w, b, *, geometry: kernels.conv(
        x, w, geometry, epilogue=Epilogue(bias=b, activation="relu")
    ),
    inputs=("x", "w", "b"),
    saves=("x", "w", "y"),
    backward=_conv_bias_relu_rule,
    like=lambda x, w, b, *, geometry: relu(conv_bias(x, w, b, geometry=geometry)),
    gate="selects",
)


def _channel_sum(x: Any) -> Any:
    places = math.prod(x.shape[2:])
    if places > 1 and x.size >= MANY and kernels.offers("channel_sum", x):
        return kernels.channel_sum(x)
    # The contiguous axes first: many short sums there are faster than NumPy's own order.
    rows = x.reshape(*x.shape[:2], places)
    rows = rows[..., 0] if places == 1 else np.add.reduce(rows, axis=2)
    return np.add.reduce(rows, axis=0)


channel_sum: Op = op(
    "channel_sum",
    _channel_sum,
    lambda g, x_shape: broadcast_to(reshape(g, (-1,) + (1,) * (len(x_shape) - 2)), x_shape),
)
"""Sum of `(N, C, *spatial)` over all axes but the channels': `(C,)`."""


def check_input(name: str, x: Any, axes: int) -> tuple[int, ...]:
    """The shape of a batch with that many spatial axes.

    Raises:
        ValueError: the number of axes differs.
    """
    shape = np.shape(raw(x))
    if len(shape) != axes + 2:
        letters = ", ".join("DHW"[3 - axes :]) if axes > 1 else "L"
        advice = "; add the batch axis with x[None]" if len(shape) == axes + 1 else ""
        raise ValueError(f"{name}: x must be (N, C, {letters}), got shape {shape}{advice}")
    return shape


def _named_padding(
    name: str, padding: str, kernel: Sequence[int], stride: Ints, dilation: Ints
) -> Numbers:
    """The numbers that "valid" and "same" stand for."""
    if padding == "valid":
        return 0
    if padding != "same":
        raise ValueError(f'{name}: padding must be "same", "valid" or numbers, got {padding!r}')
    if any(s != 1 for s in np.ravel(stride)):
        raise ValueError(f'{name}: padding="same" keeps the size: it needs stride 1, not {stride}')
    steps = np.broadcast_to(dilation, len(kernel))
    # An odd one stands behind.
    totals = [int(d) * (k - 1) for d, k in zip(steps, kernel, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def padding_pairs(
    name: str, padding: Padding, kernel: Sequence[int], stride: Ints, dilation: Ints
) -> list[tuple[int, int]]:
    """Padding in any of its forms as pairs (before, after), one an axis.

    Raises:
        ValueError: a word that means nothing here, or numbers for other axes.
    """
    if isinstance(padding, str):
        padding = _named_padding(name, padding, kernel, stride, dilation)
    ones = (1,) * len(kernel)
    return list(Geometry.of(ones, ones, 1, padding).padding)


def _conv(
    axes: int,
    x: Any,
    w: Any,
    b: Any,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    activation: str | None,
) -> Any:
    name = f"conv{axes}d"
    if activation not in (None, "relu"):
        raise ValueError(f'{name}: activation must be "relu" or None, got {activation!r}')
    shape = check_input(name, x, axes)
    filters = np.shape(raw(w))
    if len(filters) != axes + 2:
        raise ValueError(
            f"{name}: w must be (filters, channels / groups, *kernel) with {axes + 2} axes, got "
            f"shape {filters}"
        )
    kernel = filters[2:]
    if isinstance(padding, str):
        padding = _named_padding(name, padding, kernel, stride, dilation)
    geometry = Geometry.of(shape[2:], kernel, stride, padding, dilation, groups)
    if b is None:
        y = conv(x, w, geometry=geometry)
        return y if activation is None else relu(y)
    return (conv_bias if activation is None else conv_bias_relu)(x, w, b, geometry=geometry)


def conv1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Any:
    """Cross-correlate signals with filters; see `conv2d`.

    Args:
        x: `(N, C, L)`.
        w: `(O, C / groups, K)`.
        b: `(O,)`, or None.
        stride, padding, dilation, groups, activation: as for `conv2d`.

    Returns:
        `(N, O, L_out)`.

    >>> import minigrad
    >>> conv1d(minigrad.tensor([[[1, 2, 4, 8]]]), minigrad.tensor([[[-1, 1]]]))
    tensor([[[1., 2., 4.]]])
    """
    return _conv(1, x, w, b, stride, padding, dilation, groups, activation)


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Any:
    """Cross-correlate pictures with filters, and add a bias: what a convolutional layer computes.

    Args:
        x: `(N, C, H, W)`.
        w: `(O, C / groups, KH, KW)`.
        b: `(O,)`, or None.
        stride: the step between two windows; one number, or one an axis.
        padding: zeros around the input; one number, one an axis, one pair (before, after) an
            axis, `"valid"` for none, or `"same"` for what keeps the size at stride 1.
        dilation: the step between two taps of a filter; one number, or one an axis.
        groups: filters of group i see only the channels of group i.
        activation: "relu" for `relu(conv2d(...))` as one operation, which with a bias keeps one
            array less and passes over memory once; or None.

    Returns:
        `(N, O, H_out, W_out)`, where `H_out = (H + padding - extent) // stride + 1` and
        `extent = dilation * (KH - 1) + 1`.

    Raises:
        ValueError: shapes that do not belong together, or a filter larger than its padded input.
        TypeError: x, w and b are not of one dtype, float32 or float64.

    >>> import minigrad
    >>> edge = minigrad.tensor([[[[1, 0, -1]] * 3]])
    >>> conv2d(minigrad.tensor([[[[10, 10, 10, 0, 0, 0]] * 3]]), edge)
    tensor([[[[ 0., 30., 30.,  0.]]]])
    """
    return _conv(2, x, w, b, stride, padding, dilation, groups, activation)


def conv3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Any:
    """Cross-correlate volumes, or films, with filters; see `conv2d`.

    Args:
        x: `(N, C, D, H, W)`.
        w: `(O, C / groups, KD, KH, KW)`.
        b: `(O,)`, or None.
        stride, padding, dilation, groups, activation: as for `conv2d`.

    Returns:
        `(N, O, D_out, H_out, W_out)`.
    """
    return _conv(3, x, w, b, stride, padding, dilation, groups, activation)
