"""Layers that normalise single samples: layer, group, instance, local response, contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.tensor import Tensor
from minigrad_nn import functional as F
from minigrad_nn import init
from minigrad_nn.functional.norm_more import gaussian
from minigrad_nn.module import Module, Parameter

__all__ = [
    "ContrastNorm2d",
    "DivisiveNorm2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "SubtractiveNorm2d",
]


class _Affine(Module):
    """A layer with a learned scale and shift, or without."""

    weight: Parameter | None
    bias: Parameter | None

    def reset_parameters(self) -> None:
        """Start anew: scale 1, shift 0."""
        for parameter, start in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                init.constant_(parameter, start)


class LayerNorm(_Affine):
    """Normalise the last axes of each sample together, then scale and shift each place.

    Args:
        normalized_shape: the sizes of the last axes.
        eps: added to the variance.
        elementwise_affine: whether scale and shift are learned, or 1 and 0.
        bias: whether there is a shift.
        dtype: of the parameters.

    >>> import minigrad
    >>> LayerNorm(8)(minigrad.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        shape: tuple[int, ...]
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(np.ones(shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, dtype)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        """The shape of x, `(..., *normalized_shape)`."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        shape, affine = self.normalized_shape, self.elementwise_affine
        return f"{shape}, eps={self.eps}, elementwise_affine={affine}"


class GroupNorm(_Affine):
    """Normalise groups of channels of each sample, then scale and shift each channel.

    Args:
        num_groups, num_channels: how the channels are grouped.
        eps: added to the variance.
        affine: whether scale and shift are learned, or 1 and 0.
        dtype: of the parameters.

    Raises:
        ValueError: channels that do not split into groups.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels {num_channels} does not split into {num_groups} groups"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight = Parameter(np.ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, dtype)) if affine else None

    def forward(self, x: Any) -> Any:
        """The shape of x, `(N, num_channels, *spatial)`."""
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _InstanceNorm(_Affine):
    """What the three have in common; `ndim` is the number of axes that they take."""

    ndim: int
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine else None
        for name, start in (
            ("running_mean", np.zeros(num_features, dtype)),
            ("running_var", np.ones(num_features, dtype)),
            ("num_batches_tracked", np.array(0, np.int64)),
        ):
            self.register_buffer(name, Tensor(start) if track_running_stats else None)

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        if x.ndim != self.ndim or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: x must have {self.ndim} axes with {self.num_features} "
                f"channels in axis 1, got shape {x.shape}"
            )
        return F.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each signal; arguments as `InstanceNorm2d`."""

    ndim = 3


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each picture `(N, C, H, W)` on its own.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: the weight of a batch in the running statistics.
        affine: whether scale and shift are learned, or 1 and 0.
        track_running_stats: whether there are running statistics, which `eval()` then uses.
        dtype: of the parameters.

    Raises:
        ValueError: x has other channels or axes, or a single value a channel.
    """

    ndim = 4


class InstanceNorm3d(_InstanceNorm):
    """Normalise each channel of each volume; arguments as `InstanceNorm2d`."""

    ndim = 5


class LocalResponseNorm(Module):
    """Divide each channel by the activity of its neighbours; see `functional.local_response_norm`.

    Args:
        size: how many channels.
        alpha, beta, k: `x / (k + alpha * mean(x²))^beta`.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Any) -> Any:
        """The shape of x, `(N, C, *spatial)`."""
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class _Neighbourhood(Module):
    """A layer with a fixed window of weights."""

    def __init__(self, kernel_size: int = 9, sigma: float | None = None) -> None:
        super().__init__()
        if kernel_size < 1:
            raise ValueError(
                f"{type(self).__name__}: kernel_size must be at least 1, got {kernel_size}"
            )
        self.kernel_size = kernel_size
        self.sigma = sigma

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, sigma={self.sigma}"


class SubtractiveNorm2d(_Neighbourhood):
    """Subtract the weighted mean of what stands around, over all channels.

    Args:
        kernel_size: of the window of weights.
        sigma: of its Gaussian, in pixels; a quarter of the size if it is None.
    """

    def forward(self, x: Any) -> Any:
        """The shape of x, `(N, C, H, W)`."""
        return F.subtractive_norm(x, gaussian(self.kernel_size, self.sigma))


class DivisiveNorm2d(_Neighbourhood):
    """Divide by the weighted deviation around, where it is above the picture's average.

    Args:
        kernel_size: of the window of weights.
        sigma: of its Gaussian, in pixels; a quarter of the size if it is None.
    """

    def forward(self, x: Any) -> Any:
        """The shape of x, `(N, C, H, W)`."""
        return F.divisive_norm(x, gaussian(self.kernel_size, self.sigma))


class ContrastNorm2d(_Neighbourhood):
    """Local contrast normalisation: subtractive, then divisive.

    Args:
        kernel_size: of the window of weights.
        sigma: of its Gaussian, in pixels; a quarter of the size if it is None.
    """

    def forward(self, x: Any) -> Any:
        """The shape of x, `(N, C, H, W)`."""
        window = gaussian(self.kernel_size, self.sigma)
        return F.divisive_norm(F.subtractive_norm(x, window), window)
