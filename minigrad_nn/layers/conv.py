"""Convolutional layers in 1, 2 and 3 dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.recording import is_recording
from minigrad_nn import functional as F
from minigrad_nn import init, kernels
from minigrad_nn.chaining import activation_of
from minigrad_nn.functional.conv import check_input, padding_pairs
from minigrad_nn.functional.padding import pad_axes
from minigrad_nn.module import Module, Parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What the three have in common; they differ in how many spatial `axes` there are."""

    axes: int
    _function: Callable[..., Any]
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[Any] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{kind}: padding_mode must be one of {PADDING_MODES}, got {padding_mode!r}"
            )
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
        self.dilation = dilation
        self.groups = groups
        self.padding_mode = padding_mode
        self.weight = Parameter.zeros((out_channels, in_channels // groups, *kernel), dtype)
        self.bias = Parameter.zeros(out_channels, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: uniform within 1 / sqrt(inputs of one output)."""
        init.default_(self.weight, self.bias)

    def _padded(self, x: Any) -> tuple[Any, Any]:
        """The input, padded here unless by zeros, and the padding that is left to the function."""
        if self.padding_mode == "zeros":
            return x, self.padding
        name = type(self).__name__
        pairs = padding_pairs(name, self.padding, self.kernel_size, self.stride, self.dilation)
        check_input(name, x, self.axes)
        return pad_axes(x, pairs, self.padding_mode), 0

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        for name, usual in (
            ("padding", 0),
            ("dilation", 1),
            ("groups", 1),
            ("padding_mode", "zeros"),
        ):
            value = getattr(self, name)
            text += f", {name}={value!r}" if value != usual else ""
        return text if self.bias is not None else f"{text}, bias=False"

    def together(self, x: Any, following: Sequence[Any], fresh: bool) -> tuple[int, Any]:
        """Take along a ReLU: see `Module.together`."""
        if (
            not following
            or activation_of(following[0]) != "relu"
            or self.bias is None
            or not self.makes_fresh()
            or not (self.training or not is_recording())
            or not kernels.offers("epilogue_backward", x._data)
        ):
            return 0, self(x)
        return 1, self._convolved(x, "relu")

    def makes_fresh(self) -> bool:
        """A convolution does; a subclass may compute something else."""
        return type(self).forward in (Conv1d.forward, Conv2d.forward, Conv3d.forward)

    def _convolved(self, x: Any, activation: str | None = None) -> Any:
        """The result, with what an epilogue takes along."""
        x, padding = self._padded(x)
        return self._function(
            x,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            activation=activation,
        )


class Conv1d(_Conv):
    """Convolve signals `(N, in_channels, L)` with learned filters; arguments as `Conv2d`."""

    axes = 1
    _function = staticmethod(F.conv1d)

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, L_out)`."""
        return self._convolved(x)


class Conv2d(_Conv):
    """Convolve pictures `(N, in_channels, H, W)` with learned filters.

    Args:
        in_channels, out_channels: of the input, and how many filters.
        kernel_size: of a filter; one number, or one an axis.
        stride, padding, dilation, groups: as for `functional.conv2d`.
        bias: whether each filter adds a number of its own.
        padding_mode: what is put around: "zeros", "reflect", "replicate" or "circular".
        dtype: of the parameters.

    Raises:
        ValueError: channels that do not split into groups, or an unknown padding_mode.

    >>> import minigrad
    >>> layer = Conv2d(3, 6, 5)
    >>> layer(minigrad.zeros((2, 3, 32, 32))).shape
    (2, 6, 28, 28)
    >>> sum(p.size for p in layer.parameters())
    456
    """

    axes = 2
    _function = staticmethod(F.conv2d)

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, H_out, W_out)`."""
        return self._convolved(x)


class Conv3d(_Conv):
    """Convolve volumes `(N, in_channels, D, H, W)` with learned filters; arguments as `Conv2d`."""

    axes = 3
    _function = staticmethod(F.conv3d)

    def forward(self, x: Any) -> Any:
        """`(N, out_channels, D_out, H_out, W_out)`."""
        return self._convolved(x)


def is_depthwise(module: Any, size: int) -> bool:
    """Whether a module does no more than filter each channel of pictures by `size` x `size`.

    >>> is_depthwise(Conv2d(4, 4, 3, groups=4, bias=False), 3)
    True
    """
    return (
        isinstance(module, Conv2d)
        and type(module).forward is Conv2d.forward
        and module.groups == module.in_channels == module.out_channels
        and module.kernel_size == (size, size)
        and module.dilation in (1, (1, 1))
        and module.bias is None
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
