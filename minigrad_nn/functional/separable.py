"""What stands between two pointwise convolutions, as one operation on each channel by itself.

Batch norm, activation, depthwise convolution, batch norm, activation: five operations that read and
write all of memory, and keep four arrays of its size for backward.  As one operation they read x,
write the result, and keep x; the rest backward computes again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minigrad.core import Op, Saved, raw
from minigrad_nn import kernels
from minigrad_nn.functional.conv import check_input, conv
from minigrad_nn.functional.norm import (
    ACTIVATIONS,
    batch_norm_plain,
    check_count,
    check_norm,
    scale_and_shift,
    update_running,
)
from minigrad_nn.kernels import Geometry

__all__ = ["Norm", "norm_depthwise_norm"]


class Norm(NamedTuple):
    """A batch norm that is training, and what follows on it: as `batch_norm` takes them."""

    running_mean: Any
    running_var: Any
    weight: Any
    bias: Any
    momentum: float
    eps: float
    activation: str | None


def norm_depthwise_norm_plain(
    x: Any,
    gamma: Any,
    beta: Any,
    w: Any,
    gamma2: Any,
    beta2: Any,
    *,
    geometry: Geometry,
    activations: tuple[str | None, str | None],
    eps: tuple[float, float],
) -> tuple:
    """What the operation equals: the output, and mean and inverse deviation of both norms."""
    h, mean, inverse_std = batch_norm_plain(x, gamma, beta, eps=eps[0])
    z = conv(ACTIVATIONS[activations[0]](h), w, geometry=geometry)
    y, mean2, inverse_std2 = batch_norm_plain(z, gamma2, beta2, eps=eps[1])
    return ACTIVATIONS[activations[1]](y), mean, inverse_std, mean2, inverse_std2


def _rule(saved: Saved, g: tuple, needs: tuple[bool, ...]) -> list:
    return list(
        kernels.norm_depthwise_norm_backward(
            *(g[0], saved.x, saved.gamma, saved.beta, saved.mean, saved.inverse_std, saved.w),
            *(saved.gamma2, saved.beta2, saved.mean2, saved.inverse_std2),
            *(saved.geometry, saved.activations),
        )
    )


_STATISTICS = ("mean", "inverse_std", "mean2", "inverse_std2")

_norm_depthwise_norm = Op(
    "norm_depthwise_norm",
    lambda x, gamma, beta, w, gamma2, beta2, *, geometry, activations, eps: (
        kernels.norm_depthwise_norm(x, gamma, beta, w, gamma2, beta2, geometry, activations, eps)
    ),
    inputs=("x", "gamma", "beta", "w", "gamma2", "beta2"),
    outputs=("y", *_STATISTICS),
    differentiable=(True, False, False, False, False),
    saves=("x", "gamma", "beta", "w", "gamma2", "beta2", *_STATISTICS),
    backward=_rule,
    like=norm_depthwise_norm_plain,
)


def norm_depthwise_norm(
    x: Any, first: Norm, w: Any, second: Norm, stride: Any = 1, padding: Any = 0
) -> Any:
    """Batch norm, activation, depthwise convolution, batch norm, activation, while training.

    It equals `batch_norm`, `conv2d` with as many groups as channels, and `batch_norm`, updates of
    the running statistics included.

    Args:
        x: `(N, C, H, W)`.
        first, second: the norms, with the activations behind them.
        w: `(C, 1, KH, KW)`.
        stride, padding: of the convolution.

    Returns:
        `(N, C, H_out, W_out)`.

    Raises:
        ValueError: a single value a channel, shapes that do not belong together, or another
            activation.

    >>> import minigrad
    >>> x = minigrad.tensor([[[[1.0, 3.0]]]])
    >>> norm = Norm(None, None, None, None, 0.1, 0.0, None)
    >>> norm_depthwise_norm(x, norm, minigrad.ones((1, 1, 1, 1)), norm)
    tensor([[[[-1.,  1.]]]])
    """
    name = "norm_depthwise_norm"
    values, shape = raw(x), check_input(name, x, 2)
    geometry = Geometry.of(shape[2:], raw(w).shape[2:], stride, padding, groups=shape[1])
    shapes = shape, (*shape[:2], *geometry.output)
    norms = first, second
    for norm, one in zip(norms, shapes, strict=True):
        check_norm(name, one, norm.running_mean, norm.running_var, norm.activation)
    counts = [check_count(name, one) for one in shapes]
    y, *found = _norm_depthwise_norm(
        x,
        *scale_and_shift(values, first.weight, first.bias),
        w,
        *scale_and_shift(values, second.weight, second.bias),
        geometry=geometry,
        activations=(first.activation, second.activation),
        eps=(first.eps, second.eps),
    )
    for norm, count, mean, inverse_std in zip(norms, counts, found[::2], found[1::2], strict=True):
        update_running(
            *(norm.running_mean, norm.running_var, raw(mean), raw(inverse_std)),
            *(norm.eps, count, norm.momentum),
        )
    return y
