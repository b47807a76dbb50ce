"""Normalisation of single samples: by layer, by group, by instance, and by neighbourhood.

Layer, group and instance norm compute what `batch_norm` computes, over other sets of numbers: each
set is made a channel of a batch of one, so the same kernels and their derivatives serve all.
Local response and contrast normalisation divide by, or subtract, what stands near.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw
from minigrad.effects import constant, writing
from minigrad.ops.elementwise import divide, maximum, power, sqrt, square
from minigrad.ops.reduce import mean
from minigrad.ops.shape import reshape
from minigrad.recording import is_recomputing
from minigrad_nn.functional.conv import check_input, conv2d
from minigrad_nn.functional.norm import _batch_norm, batch_norm, mix
from minigrad_nn.functional.pool import _average_pool
from minigrad_nn.kernels import Geometry

__all__ = [
    "divisive_norm",
    "gaussian",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "subtractive_norm",
]


def _normalise(x: Any, sets: int, eps: float) -> tuple[Any, Any, Any]:
    """Each of `sets` equal runs of x to mean 0 and variance 1; with mean and inverse deviation."""
    values = raw(x)
    flat = reshape(x, (1, sets, values.size // sets if sets else 0))
    device = backend.device_of(values)
    one = constant(device.from_numpy(np.ones(sets, values.dtype)))
    zero = constant(device.from_numpy(np.zeros(sets, values.dtype)))
    y, centre, inverse_std = _batch_norm(flat, one, zero, eps=eps)
    return reshape(y, values.shape), centre, inverse_std


def _affine(y: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    if weight is not None:
        y = y * reshape(weight, shape)
    return y if bias is None else y + reshape(bias, shape)


def _check_affine(name: str, weight: Any, bias: Any, shape: tuple[int, ...]) -> None:
    for what, value in (("weight", weight), ("bias", bias)):
        if value is not None and np.shape(raw(value)) != shape:
            raise ValueError(f"{name}: {what} must have shape {shape}, got {np.shape(raw(value))}")


def layer_norm(
    x: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """Give the last axes of each sample mean 0 and variance 1, then scale and shift each place.

    Ba and others, "Layer normalization", 2016.

    Args:
        x: `(..., *normalized_shape)`.
        normalized_shape: the sizes of the last axes, which are normalised together.
        weight, bias: of `normalized_shape`; None for 1 and 0.
        eps: added to the variance.

    Raises:
        ValueError: shapes that do not belong together.

    >>> import minigrad
    >>> layer_norm(minigrad.tensor([[1.0, 3.0], [10.0, 30.0]]), 2).numpy().round(2)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    tail: tuple[int, ...]
    tail = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    shape = np.shape(raw(x))
    if not tail or shape[-len(tail) :] != tail:
        raise ValueError(
            f"layer_norm: the last axes of x must be normalized_shape {tail}, got shape {shape}"
        )
    _check_affine("layer_norm", weight, bias, tail)
    if not math.prod(shape):
        return x
    y, _, _ = _normalise(x, math.prod(shape[: -len(tail)]), eps)
    return _affine(y, weight, bias, tail)


def _channels(name: str, x: Any, least: int) -> tuple[int, ...]:
    shape = np.shape(raw(x))
    if len(shape) < least:
        wanted = "(N, C, *spatial)" if least > 2 else "(N, C) or (N, C, *spatial)"
        raise ValueError(f"{name}: x must be {wanted}, got shape {shape}")
    return shape


def group_norm(
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Give each group of channels of each sample mean 0 and variance 1, then scale and shift.

    Wu and He, "Group normalization", 2018.  The batch does not matter, so it may be small.

    Args:
        x: `(N, C, *spatial)`.
        num_groups: into how many groups the channels are cut; one is layer norm of the whole
            sample, C is instance norm.
        weight, bias: `(C,)`; None for 1 and 0.
        eps: added to the variance.

    Raises:
        ValueError: channels that do not split into groups, or wrong shapes.
    """
    shape = _channels("group_norm", x, 2)
    channels = shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"group_norm: {channels} channels do not split into {num_groups} groups")
    _check_affine("group_norm", weight, bias, (channels,))
    if not math.prod(shape):
        return x
    y, _, _ = _normalise(x, shape[0] * num_groups, eps)
    return _affine(y, weight, bias, (channels,) + (1,) * (len(shape) - 2))


@writing
def _update_both(
    running_mean: Any,
    running_var: Any,
    centre: Any,
    inverse_std: Any,
    eps: float,
    count: int,
    shape: tuple[int, int],
    momentum: float,
) -> None:
    variance = np.maximum(1.0 / np.square(inverse_std) - eps, 0.0) * (count / (count - 1))
    mix(running_mean, centre.reshape(shape).mean(0), momentum)
    mix(running_var, variance.reshape(shape).mean(0), momentum)


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Give each channel of each sample mean 0 and variance 1, then scale and shift.

    Ulyanov and others, "Instance normalization", 2016.

    Args:
        x: `(N, C, *spatial)` with at least one spatial axis.
        running_mean, running_var: tensors `(C,)`, updated in place by the average over the batch;
            or None.
        weight, bias: `(C,)`; None for 1 and 0.
        use_input_stats: whether to use each sample's own statistics; otherwise the running ones.
        momentum: the weight of this batch in the running statistics.
        eps: added to the variance.

    Raises:
        ValueError: a single value a channel, no statistics to use, or wrong shapes.
    """
    shape = _channels("instance_norm", x, 3)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                "instance_norm: without use_input_stats it needs running_mean and running_var"
            )
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    samples, channels, *spatial = shape
    _check_affine("instance_norm", weight, bias, (channels,))
    count = math.prod(spatial)
    if count < 2:
        raise ValueError(
            f"instance_norm: a channel needs more than one value, got x of shape {shape}"
        )
    if not samples or not channels:
        return x
    y, centre, inverse_std = _normalise(x, samples * channels, eps)
    if running_mean is not None and running_var is not None and not is_recomputing():
        parts = (raw(centre), raw(inverse_std), eps, count, (samples, channels), momentum)
        _update_both(running_mean, running_var, *parts)
    return _affine(y, weight, bias, (channels,) + (1,) * len(spatial))


# --- by neighbourhood ----------------------------------------------------------------------------


def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """Divide each channel by the activity of its neighbours: `x / (k + alpha * mean(x²))^beta`.

    The mean is over `size` channels around, where missing ones count as 0.  This is PyTorch's form;
    Krizhevsky and others, "ImageNet classification with deep convolutional neural networks", 2012,
    write the sum: their n = 5, alpha = 1e-4, k = 2 is `size=5, alpha=5e-4, k=2` here.

    Args:
        x: `(N, C, *spatial)`.
        size: how many channels.
        alpha, beta, k: the constants of the formula.

    Raises:
        ValueError: size below 1, or wrong shapes.
    """
    shape = _channels("local_response_norm", x, 3)
    if size < 1:
        raise ValueError(f"local_response_norm: size must be at least 1, got {size}")
    if not math.prod(shape):
        return x
    plane = (shape[0], 1, shape[1], math.prod(shape[2:]))
    padding = ((size // 2, (size - 1) // 2), (0, 0))
    geometry = Geometry.of(plane[2:], (size, 1), 1, padding)
    near = _average_pool(reshape(square(x), plane), geometry=geometry, pad=True)
    return divide(x, power(reshape(near, shape) * alpha + k, beta))


@lru_cache(maxsize=16)
def gaussian(size: int, sigma: float | None = None) -> np.ndarray:
    """A square window of a normal distribution's density, adding up to 1.

    Args:
        size: of a side.
        sigma: the standard deviation in pixels; a quarter of the size if it is None.

    Returns:
        `(size, size)`, float64.
    """
    places = np.arange(size) - (size - 1) / 2.0
    line = np.exp(-0.5 * (places / (sigma or size / 4.0)) ** 2)
    window = np.outer(line, line)
    return window / window.sum()


def _local_mean(name: str, x: Any, window: Any) -> Any:
    """The weighted mean over all channels around each place, `(N, 1, H, W)`.

    At the border only the weights inside the picture count.
    """
    _, channels, height, width = check_input(name, x, 2)
    kernel = gaussian(9) if window is None else np.asarray(raw(window), np.float64)
    if kernel.ndim != 2 or not kernel.sum() > 0.0 or 0 in kernel.shape:
        raise ValueError(
            f"{name}: window must be (KH, KW) with a sum above 0, got shape {kernel.shape}"
        )
    values = raw(x)
    device = backend.device_of(values)
    stack = np.broadcast_to(kernel / channels, (1, channels, *kernel.shape))
    weights = constant(device.from_numpy(np.ascontiguousarray(stack, values.dtype)))
    ones = constant(device.from_numpy(np.ones((1, channels, height, width), values.dtype)))
    inside = conv2d(ones, weights, padding="same")
    return conv2d(x, weights, padding="same") / raw(inside)


def subtractive_norm(x: Any, window: Any = None) -> Any:
    """Subtract from each place the weighted mean of what stands around it, over all channels.

    Jarrett and others, "What is the best multi-stage architecture for object recognition?", 2009.

    Args:
        x: `(N, C, H, W)`.
        window: weights `(KH, KW)`, which are made to add up to 1; a `gaussian` of 9 if None.

    Returns:
        The shape of x; 0 wherever x is constant around.

    Raises:
        ValueError: wrong shapes, or a window without weight.
    """
    return x - _local_mean("subtractive_norm", x, window)


def divisive_norm(x: Any, window: Any = None, eps: float = 1e-4) -> Any:
    """Divide each place by the weighted deviation around it, where that is above the average.

    `x / max(c, s)` with `s = sqrt(weighted mean of x² + eps²)` over all channels around, and c its
    mean over the picture, so that flat regions are not blown up (Jarrett and others, 2009).  After
    `subtractive_norm` this is local contrast normalisation.

    Args:
        x: `(N, C, H, W)`, of mean 0 around each place.
        window: weights `(KH, KW)`, which are made to add up to 1; a `gaussian` of 9 if None.
        eps: the smallest deviation.

    Returns:
        The shape of x.

    Raises:
        ValueError: wrong shapes, or a window without weight.
    """
    deviation = sqrt(_local_mean("divisive_norm", square(x), window) + eps * eps)
    return divide(x, maximum(deviation, mean(deviation, (1, 2, 3), keepdims=True)))
