"""Layers of transposed, depthwise, pointwise and depthwise separable convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad_nn import functional as F
from minigrad_nn import init
from minigrad_nn.functional.conv_more import transposed_size
from minigrad_nn.layers.conv import Conv1d, Conv2d, Conv3d
from minigrad_nn.module import Module, Parameter

__all__ = [
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DepthwiseConv1d",
    "DepthwiseConv2d",
    "DepthwiseConv3d",
    "PointwiseConv1d",
    "PointwiseConv2d",
    "PointwiseConv3d",
    "SeparableConv1d",
    "SeparableConv2d",
    "SeparableConv3d",
]

Ints = int | Sequence[int]


class _ConvTranspose(Module):
    """What the three have in common; they differ in how many spatial `axes` there are."""

    axes: int
    function: Callable[..., Any]
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints = 0,
        output_padding: Ints = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Ints = 1,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{kind}: in_channels {in_channels} and out_channels {out_channels} must be "
                f"divisible by groups {groups}"
            )
        kernel = (kernel_size,) * self.axes if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(kernel) != self.axes:
            raise ValueError(f"{kind}: kernel_size must have {self.axes} numbers, got {kernel}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.dilation = dilation
        self.groups = groups
        self.weight = Parameter.zeros((in_channels, out_channels // groups, *kernel), dtype)
        self.bias = Parameter.zeros(out_channels, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: uniform within 1 / sqrt(filters of a group * taps), as in PyTorch."""
        init.default_(self.weight, self.bias)

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Any:
        """`(N, out_channels, *output)`, of `output_size` where the stride leaves a choice."""
        extra = self.output_padding if output_size is None else self._extra(x, output_size)
        return type(self).function(
            x, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _extra(self, x: Any, output_size: Sequence[int]) -> list[int]:
        wanted = [int(n) for n in output_size][-self.axes :]
        parts = (self.stride, self.padding, self.dilation)
        s, p, d = (np.broadcast_to(part, self.axes) for part in parts)
        least = [
            transposed_size(*(int(v) for v in (n, k, step, cut, 0, dilation)))
            for n, k, step, cut, dilation in zip(
                x.shape[2:], self.kernel_size, s, p, d, strict=True
            )
        ]
        extra = [w - n for w, n in zip(wanted, least, strict=True)]
        if any(not 0 <= e < step for e, step in zip(extra, s, strict=True)):
            most = [n + int(step) - 1 for n, step in zip(least, s, strict=True)]
            raise ValueError(
                f"{type(self).__name__}: output_size must lie between {least} and {most} for x of "
                f"shape {x.shape}, got {wanted}"
            )
        return extra

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        usual = (("padding", 0), ("output_padding", 0), ("dilation", 1), ("groups", 1))
        for name, value in usual:
            found = getattr(self, name)
            text += f", {name}={found!r}" if found != value else ""
        return text if self.bias is not None else f"{text}, bias=False"


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of signals `(N, in_channels, L)`; arguments as `ConvTranspose2d`."""

    axes = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """Let each place of `(N, in_channels, H, W)` paint learned filters: it enlarges by the stride.

    Args:
        in_channels, out_channels: of the input and of the output.
        kernel_size: of a filter; one number, or one an axis.
        stride, padding, output_padding, groups, dilation: as for `functional.conv_transpose2d`.
        bias: whether each output channel adds a number of its own.
        dtype: of the parameters.

    Raises:
        ValueError: channels that do not split into groups.

    >>> import minigrad
    >>> ConvTranspose2d(4, 2, 4, stride=2, padding=1)(minigrad.zeros((1, 4, 7, 7))).shape
    (1, 2, 14, 14)
    """

    axes = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes; arguments as `ConvTranspose2d`."""

    axes = 3
    function = staticmethod(F.conv_transpose3d)


# --- depthwise, pointwise, separable -------------------------------------------------------------


class DepthwiseConv1d(Conv1d):
    """Filter each channel of signals on its own; arguments as `DepthwiseConv2d`."""

    def __init__(
        self, channels: int, kernel_size: Ints, multiplier: int = 1, **settings: Any
    ) -> None:
        super().__init__(channels, channels * multiplier, kernel_size, groups=channels, **settings)


class DepthwiseConv2d(Conv2d):
    """Filter each channel on its own: `Conv2d` with as many groups as channels.

    Args:
        channels: of the input.
        kernel_size: of a filter; one number, or one an axis.
        multiplier: filters a channel.
        settings: stride, padding, dilation, bias, padding_mode and dtype of `Conv2d`.

    >>> layer = DepthwiseConv2d(3, 3, bias=False)
    >>> sum(p.size for p in layer.parameters())
    27
    """

    def __init__(
        self, channels: int, kernel_size: Ints, multiplier: int = 1, **settings: Any
    ) -> None:
        super().__init__(channels, channels * multiplier, kernel_size, groups=channels, **settings)


class DepthwiseConv3d(Conv3d):
    """Filter each channel of volumes on its own; arguments as `DepthwiseConv2d`."""

    def __init__(
        self, channels: int, kernel_size: Ints, multiplier: int = 1, **settings: Any
    ) -> None:
        super().__init__(channels, channels * multiplier, kernel_size, groups=channels, **settings)


class PointwiseConv1d(Conv1d):
    """Mix the channels of signals at each place; arguments as `PointwiseConv2d`."""

    def __init__(self, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__(in_channels, out_channels, 1, **settings)


class PointwiseConv2d(Conv2d):
    """Mix the channels at each place: `Conv2d` with filters of one place.

    Args:
        in_channels, out_channels: of the input and of the output.
        settings: stride, bias and dtype of `Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__(in_channels, out_channels, 1, **settings)


class PointwiseConv3d(Conv3d):
    """Mix the channels of volumes at each place; arguments as `PointwiseConv2d`."""

    def __init__(self, in_channels: int, out_channels: int, **settings: Any) -> None:
        super().__init__(in_channels, out_channels, 1, **settings)


class _Separable(Module):
    """What the three have in common: a depthwise layer without bias, then a pointwise one."""

    parts: tuple[Callable[..., Module], Callable[..., Module]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Any = 0,
        dilation: Ints = 1,
        multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        deep, mix = self.parts
        self.depthwise = deep(
            in_channels,
            kernel_size,
            multiplier,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=False,
            padding_mode=padding_mode,
            dtype=dtype,
        )
        self.pointwise = mix(in_channels * multiplier, out_channels, bias=bias, dtype=dtype)

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, *output)`."""
        return self.pointwise(self.depthwise(x))


class SeparableConv1d(_Separable):
    """Filter the channels of signals, then mix them; arguments as `SeparableConv2d`."""

    parts = (DepthwiseConv1d, PointwiseConv1d)


class SeparableConv2d(_Separable):
    """Filter each channel of `(N, in_channels, H, W)` on its own, then mix them.

    Args:
        in_channels, out_channels: of the input and of the output.
        kernel_size, stride, padding, dilation, padding_mode: of the depthwise part.
        multiplier: filters a channel.
        bias: of the pointwise part.
        dtype: of the parameters.

    >>> layer = SeparableConv2d(3, 64, 3, bias=False)
    >>> sum(p.size for p in layer.parameters())  # against 1728 of a regular convolution
    219
    """

    parts = (DepthwiseConv2d, PointwiseConv2d)


class SeparableConv3d(_Separable):
    """Filter the channels of volumes, then mix them; arguments as `SeparableConv2d`."""

    parts = (DepthwiseConv3d, PointwiseConv3d)
