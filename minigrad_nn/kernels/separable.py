"""What the kernels of a depthwise convolution between two batch norms mean.

In a network of depthwise separable convolutions, all that stands between two pointwise ones works
on each channel by itself: batch norm, activation, a filter of its own, batch norm, activation. Five
passes over memory, and what is kept of them for backward, are one if each channel takes them all
while it lies in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import checks
from .convolution import conv, conv_input, conv_weight
from .epilogue import Epilogue
from .geometry import Geometry
from .normalisation import batch_norm, batch_norm_epilogue_backward, batch_norm_given
from .registry import find
from .workspace import Workspace

__all__ = [
    "NormDepthwiseNorm",
    "NormDepthwiseNormBackward",
    "norm_depthwise_norm",
    "norm_depthwise_norm_backward",
]

# An array of any registered device.
Array = Any
Activations = tuple[str | None, str | None]


class NormDepthwiseNorm(NamedTuple):
    """What `norm_depthwise_norm` returns: the output, and of both norms what `batch_norm` does."""

    output: Array
    mean: Array
    inverse_std: Array
    mean2: Array
    inverse_std2: Array


class NormDepthwiseNormBackward(NamedTuple):
    """What `norm_depthwise_norm_backward` returns: the shapes of what they are gradients of."""

    gx: Array
    ggamma: Array
    gbeta: Array
    gw: Array
    ggamma2: Array
    gbeta2: Array


def _check(
    kernel: str, x: Array, w: Array, geometry: Geometry, activations: Activations, **vectors: Array
) -> tuple[int, ...]:
    """The shape of the result; ValueError where arguments do not belong together."""
    for activation in activations:
        Epilogue(activation=activation)  # which refuses what it does not know
    shape = checks.conv(kernel, geometry, x=x, w=w)
    channels = x.shape[1]
    if not geometry.groups == channels == w.shape[0]:
        raise ValueError(
            f"{kernel}: a depthwise filter for each of {channels} channels is wanted, got w of "
            f"shape {w.shape} and groups={geometry.groups}"
        )
    checks.channels(kernel, "x", x, **vectors)
    return shape


def norm_depthwise_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    w: Array,
    gamma2: Array,
    beta2: Array,
    geometry: Geometry,
    activations: Activations = (None, None),
    eps: tuple[float, float] = (1e-5, 1e-5),
    *,
    workspace: Workspace | None = None,
) -> NormDepthwiseNorm:
    """Batch norm, activation, depthwise convolution, batch norm, activation.

    It equals `batch_norm`, `conv` and `batch_norm` with the activations as epilogues; to the bit
    where `conv` filters plane by plane, as it does on processors that mask vectors for free.

    Args:
        x: `(N, C, *size)`.
        gamma, beta: `(C,)`, of the first norm.
        w: `(C, 1, *kernel)`.
        gamma2, beta2: `(C,)`, of the second norm.
        geometry: of the convolution; its groups are C.
        activations: after the first norm and after the second: "relu", "relu6" or None.
        eps: added to the variances.
        workspace: scratch memory.

    Returns:
        `(N, C, *output)`, and `(C,)` each of mean and inverse deviation of both norms.

    Raises:
        ValueError: shapes that do not belong together, or another activation.
    """
    name = "norm_depthwise_norm"
    vectors = dict(gamma=gamma, beta=beta, gamma2=gamma2, beta2=beta2)
    compute = find(name, x=x, w=w, **vectors)
    shape = _check(name, x, w, geometry, activations, **vectors)
    if 0 in x.shape or 0 in shape:
        raise ValueError(f"{name}: no values have no statistics: x of shape {x.shape}")
    return NormDepthwiseNorm(
        *compute(x, gamma, beta, w, gamma2, beta2, geometry, activations, eps, workspace)
    )


def norm_depthwise_norm_backward(
    g: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inverse_std: Array,
    w: Array,
    gamma2: Array,
    beta2: Array,
    mean2: Array,
    inverse_std2: Array,
    geometry: Geometry,
    activations: Activations = (None, None),
    *,
    workspace: Workspace | None = None,
) -> NormDepthwiseNormBackward:
    """The gradients of `norm_depthwise_norm`, with all that it did not keep computed again from x.

    Args:
        g: the shape of the output, its gradient.
        x, gamma, beta, w, gamma2, beta2, geometry, activations: as forward had them.
        mean, inverse_std, mean2, inverse_std2: `(C,)`, as forward returned them.
        workspace: scratch memory.

    Returns:
        gx, ggamma, gbeta, gw, ggamma2 and gbeta2.

    Raises:
        ValueError: shapes that do not belong together, or another activation.
    """
    name = "norm_depthwise_norm_backward"
    vectors = dict(gamma=gamma, beta=beta, mean=mean, inverse_std=inverse_std)
    vectors.update(gamma2=gamma2, beta2=beta2, mean2=mean2, inverse_std2=inverse_std2)
    compute = find(name, g=g, x=x, w=w, **vectors)
    shape = _check(name, x, w, geometry, activations, **vectors)
    if tuple(g.shape) != shape:
        raise ValueError(f"{name}: g must have the output's shape {shape}, got {tuple(g.shape)}")
    return NormDepthwiseNormBackward(
        *compute(
            *(g, x, gamma, beta, mean, inverse_std, w, gamma2, beta2, mean2, inverse_std2),
            *(geometry, activations, workspace),
        )
    )


# --- as devices compute it that have nothing faster ----------------------------------------------


def composed(
    x: Array,
    gamma: Array,
    beta: Array,
    w: Array,
    gamma2: Array,
    beta2: Array,
    geometry: Geometry,
    activations: Activations,
    eps: tuple[float, float],
    workspace: Workspace | None,
) -> tuple[Array, ...]:
    """`norm_depthwise_norm` by the kernels that it equals."""
    first, second = (Epilogue(activation=activation) for activation in activations)
    h = batch_norm(x, gamma, beta, eps=eps[0], workspace=workspace, epilogue=first)
    z = conv(h.output, w, geometry, workspace=workspace)
    y = batch_norm(z, gamma2, beta2, eps=eps[1], workspace=workspace, epilogue=second)
    return y.output, h.mean, h.inverse_std, y.mean, y.inverse_std


def composed_backward(
    g: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inverse_std: Array,
    w: Array,
    gamma2: Array,
    beta2: Array,
    mean2: Array,
    inverse_std2: Array,
    geometry: Geometry,
    activations: Activations,
    workspace: Workspace | None,
) -> tuple[Array, ...]:
    """`norm_depthwise_norm_backward` by the kernels that it equals."""
    first = Epilogue(activation=activations[0])
    h = batch_norm_given(x, gamma, beta, mean, inverse_std, workspace=workspace, epilogue=first)
    z = conv(h, w, geometry, workspace=workspace)
    behind = batch_norm_epilogue_backward(
        g, z, gamma2, beta2, mean2, inverse_std2, activations[1], workspace=workspace
    )
    gw = conv_weight(h, behind.gx, geometry, workspace=workspace)
    gh = conv_input(behind.gx, w, geometry, workspace=workspace)
    before = batch_norm_epilogue_backward(
        gh, x, gamma, beta, mean, inverse_std, activations[0], workspace=workspace
    )
    return before.gx, before.ggamma, before.gbeta, gw, behind.ggamma, behind.gbeta
