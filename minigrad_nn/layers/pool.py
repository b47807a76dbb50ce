"""Pooling layers in 1, 2 and 3 dimensions: maximum, average and sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minigrad_nn import functional as F
from minigrad_nn.module import Module

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "SumPool1d",
    "SumPool2d",
    "SumPool3d",
]

Ints = int | Sequence[int]


class _Pool(Module):
    """What all pools have in common; `function` is the functional form."""

    function: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Any:
        """`(N, C, *output)` of `(N, C, *size)`."""
        return type(self).function(
            x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode
        )

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class _MaxPool(_Pool):
    """A pool of maxima: it may be dilated."""

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = dilation
        self.return_indices = return_indices

    def forward(self, x: Any) -> Any:
        """`(N, C, *output)` of `(N, C, *size)`, with indices if they are asked for."""
        return type(self).function(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class _AvgPool(_Pool):
    """A pool of averages: the padding may count or not."""

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        """`(N, C, *output)` of `(N, C, *size)`."""
        return type(self).function(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class MaxPool1d(_MaxPool):
    """The maximum of each window of signals; arguments as `functional.max_pool2d`."""

    function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """The maximum of each window of pictures; arguments as `functional.max_pool2d`.

    >>> import minigrad
    >>> MaxPool2d(2)(minigrad.zeros((1, 6, 28, 28))).shape
    (1, 6, 14, 14)
    """

    function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """The maximum of each window of volumes; arguments as `functional.max_pool2d`."""

    function = staticmethod(F.max_pool3d)


class AvgPool1d(_AvgPool):
    """The average of each window of signals; arguments as `functional.avg_pool2d`."""

    function = staticmethod(F.avg_pool1d)


class AvgPool2d(_AvgPool):
    """The average of each window of pictures; arguments as `functional.avg_pool2d`."""

    function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """The average of each window of volumes; arguments as `functional.avg_pool2d`."""

    function = staticmethod(F.avg_pool3d)


class SumPool1d(_Pool):
    """The sum of each window of signals; arguments as `functional.sum_pool2d`."""

    function = staticmethod(F.sum_pool1d)


class SumPool2d(_Pool):
    """The sum of each window of pictures; arguments as `functional.sum_pool2d`."""

    function = staticmethod(F.sum_pool2d)


class SumPool3d(_Pool):
    """The sum of each window of volumes; arguments as `functional.sum_pool2d`."""

    function = staticmethod(F.sum_pool3d)
