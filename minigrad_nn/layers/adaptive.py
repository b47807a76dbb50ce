"""Layers of adaptive pooling, global averages and unpooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minigrad_nn import functional as F
from minigrad_nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "GlobalAvgPool",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

Ints = int | Sequence[int]


class GlobalAvgPool(Module):
    """The average of each channel's whole plane: `(N, C)` of `(N, C, *spatial)`.

    Args:
        keepdims: whether spatial axes of size 1 stay.
    """

    def __init__(self, keepdims: bool = False) -> None:
        super().__init__()
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        """`(N, C)`, or with spatial axes of size 1."""
        return F.global_avg_pool(x, self.keepdims)

    def extra_repr(self) -> str:
        return f"keepdims={self.keepdims}"


class _Adaptive(Module):
    """What adaptive pools have in common; `function` is the functional form."""

    function: Callable[..., Any]

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """`(N, C, *output_size)`."""
        return type(self).function(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """Averages of signals; arguments as `AdaptiveAvgPool2d`."""

    function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_Adaptive):
    """Averages of windows chosen so that pictures of any size give a grid of one size.

    Args:
        output_size: one number, or one an axis; None keeps an axis.

    >>> import minigrad
    >>> AdaptiveAvgPool2d((7, 7))(minigrad.zeros((1, 4, 13, 20))).shape
    (1, 4, 7, 7)
    """

    function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_Adaptive):
    """Averages of volumes; arguments as `AdaptiveAvgPool2d`."""

    function = staticmethod(F.adaptive_avg_pool3d)


class AdaptiveMaxPool1d(_Adaptive):
    """Maxima of signals; arguments as `AdaptiveAvgPool2d`."""

    function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_Adaptive):
    """Maxima of windows chosen by the output's size; arguments as `AdaptiveAvgPool2d`."""

    function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_Adaptive):
    """Maxima of volumes; arguments as `AdaptiveAvgPool2d`."""

    function = staticmethod(F.adaptive_max_pool3d)


class _Unpool(Module):
    """What unpooling layers have in common; `function` is the functional form."""

    function: Callable[..., Any]

    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: Any, indices: Any, output_size: Sequence[int] | None = None) -> Any:
        """`(N, C, *output_size)`: the maxima x at the places that the pool gave."""
        return type(self).function(
            x, indices, self.kernel_size, self.stride, self.padding, output_size
        )

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class MaxUnpool1d(_Unpool):
    """Maxima of signals back where they stood; arguments as `functional.max_unpool2d`."""

    function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_Unpool):
    """Maxima of pictures back where they stood; arguments as `functional.max_unpool2d`."""

    function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_Unpool):
    """Maxima of volumes back where they stood; arguments as `functional.max_unpool2d`."""

    function = staticmethod(F.max_unpool3d)
