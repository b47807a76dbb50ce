"""Batch normalisation layers, with running statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.effects import effect, writing
from minigrad.recording import is_recomputing, is_recording
from minigrad.tensor import Tensor
from minigrad_nn import functional as F
from minigrad_nn import init, kernels
from minigrad_nn.chaining import activation_of, rest
from minigrad_nn.functional.norm import batch_norm_in_place
from minigrad_nn.functional.separable import Norm, norm_depthwise_norm
from minigrad_nn.kernels import Geometry
from minigrad_nn.layers.conv import is_depthwise
from minigrad_nn.module import Module, Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


@writing
def _count(batches: Tensor) -> None:
    """One batch more."""
    number = batches._data
    number += 1
    backend.written(number, "batch_norm's running statistics")


@effect
def _share(batches: Tensor) -> float:
    """The weight of each of so many batches."""
    return 1.0 / float(batches._data)


def _enough_to_count(shape: tuple[int, ...], filters: Any) -> bool:
    """Whether a channel of x has more than one value, and of what filters make of x, if they fit.

    If not, the module that is at fault is to be called by itself, and says so.
    """
    try:
        geometry = Geometry.of(shape[2:], filters.kernel_size, filters.stride, filters.padding)
    except ValueError:
        return False
    return min(shape[0] * math.prod(size) for size in (geometry.size, geometry.output)) > 1


class _BatchNorm(Module):
    """What the three have in common; `ndims` are the numbers of axes that they take."""

    ndims: tuple[int, ...]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
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

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batches."""
        starts = ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0))
        for buffer, start in starts:
            if buffer is not None:
                init.constant_(buffer, start)

    def reset_parameters(self) -> None:
        """Start anew: scale 1, shift 0, and no statistics."""
        self.reset_running_stats()
        for parameter, start in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                init.constant_(parameter, start)

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return self._normalised(x)

    def together(self, x: Any, following: Sequence[Any], fresh: bool) -> tuple[int, Any]:
        """Take along a sum and a ReLU, in place where that is possible: see `Module.together`.

        While training, it takes along a depthwise convolution and the norm behind that, too.
        """
        between = self._between_norms(x, following)
        if between is not None:
            return between
        taken, added, activation = rest(following)
        in_place = fresh and not is_recording() and not (self.training or self.running_mean is None)
        if (
            not (taken or in_place)
            or type(self).forward is not _BatchNorm.forward
            or not (self.training or not is_recording())
            or not kernels.offers("batch_norm_epilogue_backward", x._data)
        ):
            return 0, self(x)
        residual = None if added is None else added.value()
        if residual is not None and (residual.shape, residual.dtype) != (x.shape, x.dtype):
            return 0, self(x)
        return taken, self._normalised(x, residual, activation, in_place)

    def _between_norms(self, x: Any, following: Sequence[Any]) -> tuple[int, Any] | None:
        """Up to the activation behind the next norm, where only a depthwise 3x3 is between them."""
        activation = activation_of(following[0]) if following else None
        taken = 2 + (activation is not None)
        if len(following) < taken or not self.training:
            return None
        filters, norm = following[taken - 2 : taken]
        if not (
            isinstance(norm, _BatchNorm)
            and norm.training
            and self.ndims == norm.ndims == (x.ndim,)
            and x.ndim == 4
            and self.num_features == norm.num_features == x.shape[1]
            and type(self).forward is type(norm).forward is _BatchNorm.forward
            and is_depthwise(filters, 3)
            and filters.in_channels == x.shape[1]
            and filters.weight.dtype == x.dtype
            and kernels.offers("norm_depthwise_norm_backward", x._data)
            and _enough_to_count(x.shape, filters)
        ):
            return None
        following = following[taken:]
        after = activation_of(following[0]) if following else None
        return taken + (after is not None), norm_depthwise_norm(
            x,
            self._as_training(activation),
            filters.weight,
            norm._as_training(after),
            filters.stride,
            filters.padding,
        )

    def _as_training(self, activation: str | None) -> Norm:
        """What it does to the next batch, which is counted."""
        return Norm(
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self._counted(),
            self.eps,
            activation,
        )

    def _counted(self) -> float:
        """The weight of the next batch in the running statistics; while training it is counted."""
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None and not is_recomputing():
            _count(self.num_batches_tracked)
            if self.momentum is None:
                momentum = _share(self.num_batches_tracked)
        return momentum

    def _normalised(
        self,
        x: Any,
        residual: Any = None,
        activation: str | None = None,
        in_place: bool = False,
    ) -> Any:
        """The result, with what an epilogue takes along."""
        if x.ndim not in self.ndims or x.shape[1] != self.num_features:
            wanted = " or ".join(f"{n} axes" for n in self.ndims)
            raise ValueError(
                f"{type(self).__name__}: x must have {wanted} with {self.num_features} channels "
                f"in axis 1, got shape {x.shape}"
            )
        momentum = self._counted()
        compute = batch_norm_in_place if in_place else F.batch_norm
        return compute(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
            residual=residual,
            activation=activation,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalise the channels of `(N, C)` or `(N, C, L)`; arguments as `BatchNorm2d`."""

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise the channels of `(N, C, H, W)`, then scale and shift each by learned numbers.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: the weight of a batch in the running statistics; None averages all batches.
        affine: whether scale and shift are learned, or 1 and 0.
        track_running_stats: whether there are running statistics, for `eval()`; without them the
            batch's own are always used.
        dtype: of the parameters.

    Raises:
        ValueError: x has other channels or axes; while training, a single value a channel.
    """

    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise the channels of `(N, C, D, H, W)`; arguments as `BatchNorm2d`."""

    ndims = (5,)
