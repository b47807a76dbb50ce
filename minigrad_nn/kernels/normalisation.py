"""What the kernels of batch normalisation mean."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import checks
from .epilogue import ACTIVATIONS, Epilogue
from .registry import find
from .workspace import Workspace

__all__ = [
    "BatchNorm",
    "BatchNormBackward",
    "BatchNormEpilogueBackward",
    "Moments",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_epilogue_backward",
    "batch_norm_given",
    "moments",
]

# An array of any registered device.
Array = Any


class Moments(NamedTuple):
    """What `moments` returns: `(C,)` each; the variance is the biased one."""

    mean: Array
    variance: Array


class BatchNorm(NamedTuple):
    """What `batch_norm` returns: the output, and `(C,)` each of mean and `1/sqrt(var + eps)`."""

    output: Array
    mean: Array
    inverse_std: Array


class BatchNormBackward(NamedTuple):
    """What `batch_norm_backward` returns: `(N, C, *spatial)`, `(C,)`, `(C,)`."""

    gx: Array
    ggamma: Array
    gbeta: Array


class BatchNormEpilogueBackward(NamedTuple):
    """What `batch_norm_epilogue_backward` returns: as above, and `(N, C, *spatial)` or None."""

    gx: Array
    ggamma: Array
    gbeta: Array
    gresidual: Array


def moments(x: Array, *, workspace: Workspace | None = None) -> Moments:
    """Mean and biased variance over all axes but the channel axis 1.

    Computed in float64 around each plane's own mean, so a large mean costs no digits.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        workspace: scratch memory.

    Returns:
        `(C,)` each, of x's element type.

    Raises:
        ValueError: a channel holds no value.
    """
    compute = find("moments", x=x)
    checks.channels("moments", "x", x)
    checks.not_empty("moments", x)
    return Moments(*compute(x, workspace))


def batch_norm(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    eps: float = 1e-5,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> BatchNorm:
    """Normalise each channel by the statistics of this batch (Ioffe and Szegedy, 2015).

    `y = gamma · (x − mean) / sqrt(variance + eps) + beta`, the variance being the biased one.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        gamma: `(C,)`, or None for ones.
        beta: `(C,)`, or None for zeros.
        eps: is added to the variance.
        out: the shape of x; it may be x or the residual.
        workspace: scratch memory.
        epilogue: is applied to the result; its activation may be `"relu6"`.

    Returns:
        The output, the mean and `1 / sqrt(variance + eps)`. Take the variance for running
        statistics from `1 / inverse_std² − eps`, or from `moments` where every digit counts.

    Raises:
        ValueError: a channel holds no value.
    """
    compute = find("batch_norm", x=x, gamma=gamma, beta=beta, out=out, **checks.parts(epilogue))
    checks.channels("batch_norm", "x", x, gamma=gamma, beta=beta)
    checks.not_empty("batch_norm", x)
    checks.result("batch_norm", x.shape, out, epilogue, ACTIVATIONS)
    return BatchNorm(*compute(x, gamma, beta, eps, out, workspace, epilogue))


def batch_norm_given(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inverse_std: Array,
    *,
    out: Array | None = None,
    workspace: Workspace | None = None,
    epilogue: Epilogue | None = None,
) -> Array:
    """Normalise each channel by given statistics: `y = gamma · (x − mean) · inverse_std + beta`.

    Args:
        x: `(N, C, *spatial)`, also `(N, C)`.
        gamma: `(C,)`, or None for ones.
        beta: `(C,)`, or None for zeros.
        mean: `(C,)`.
        inverse_std: `(C,)`, such as `1 / sqrt(running_variance + eps)`.
        out: the shape of x; it may be x or the residual.
        workspace: scratch memory.
        epilogue: is applied to the result; its activation may be `"relu6"`.
    """
    compute = find(
        "batch_norm_given",
        x=x,
        gamma=gamma,
        beta=beta,
        mean=mean,
        inverse_std=inverse_std,
        out=out,
        **checks.parts(epilogue),
    )
    checks.channels(
        "batch_norm_given", "x", x, gamma=gamma, beta=beta, mean=mean, inverse_std=inverse_std
    )
    checks.result("batch_norm_given", x.shape, out, epilogue, ACTIVATIONS)
    return compute(x, gamma, beta, mean, inverse_std, out, workspace, epilogue)


def batch_norm_backward(
    g: Array,
    x: Array,
    gamma: Array | None,
    mean: Array,
    inverse_std: Array,
    *,
    given: bool = False,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> BatchNormBackward:
    """The gradients of `batch_norm`, or with `given=True` of `batch_norm_given`, in one call.

    With `m` values a channel and `h = (x − mean) · inverse_std`: `gbeta = Σ g`, `ggamma = Σ g·h`,
    and `gx = gamma · inverse_std · (g − gbeta/m − h · ggamma/m)`; when the statistics were given
    they do not depend on x, and `gx = gamma · inverse_std · g`.

    Args:
        g: the shape of x, the gradient of the output.
        x: `(N, C, *spatial)`, also `(N, C)`: the input of the forward kernel.
        gamma: `(C,)`, or None for ones.
        mean: `(C,)`, as the forward kernel returned or was given.
        inverse_std: `(C,)`, likewise.
        given: whether the statistics were given rather than taken from x.
        out: the shape of x, for gx.
        workspace: scratch memory.

    Returns:
        gx, ggamma and gbeta.
    """
    compute = find(
        "batch_norm_backward", g=g, x=x, gamma=gamma, mean=mean, inverse_std=inverse_std, out=out
    )
    checks.channels("batch_norm_backward", "x", x, gamma=gamma, mean=mean, inverse_std=inverse_std)
    checks.same_shape("batch_norm_backward", "g", g, x, "x")
    checks.result("batch_norm_backward", x.shape, out, None)
    return BatchNormBackward(*compute(g, x, gamma, mean, inverse_std, given, out, workspace))


def batch_norm_epilogue_backward(
    g: Array,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    inverse_std: Array,
    activation: str | None,
    y: Array | None = None,
    *,
    given: bool = False,
    out: Array | None = None,
    workspace: Workspace | None = None,
) -> BatchNormEpilogueBackward:
    """The gradients of `batch_norm` or `batch_norm_given` with an epilogue, in one call.

    They are those of `batch_norm_backward` with, in place of g, what the activation lets through:
    0 where its result is at 0 or, of `"relu6"`, at 6; a NaN lets g through. That is also the
    gradient of the residual.

    Args:
        g: the shape of x, the gradient of the output.
        x: `(N, C, *spatial)`, also `(N, C)`: the input of the forward kernel.
        gamma, beta: `(C,)`, or None for ones and zeros.
        mean, inverse_std: `(C,)`, as the forward kernel returned or was given.
        activation: that of the epilogue.
        y: the output, if a residual was added; without one it is computed again from x, which is
            faster than reading it.
        given: whether the statistics were given rather than taken from x.
        out: the shape of x, for gx.
        workspace: scratch memory.

    Returns:
        gx, ggamma, gbeta, and gresidual, which is None without y.

    Raises:
        ValueError: there is no such activation.
    """
    name = "batch_norm_epilogue_backward"
    Epilogue(activation=activation)  # which refuses what it does not know
    compute = find(
        name, g=g, x=x, gamma=gamma, beta=beta, mean=mean, inverse_std=inverse_std, y=y, out=out
    )
    checks.channels(name, "x", x, gamma=gamma, beta=beta, mean=mean, inverse_std=inverse_std)
    checks.same_shape(name, "g", g, x, "x")
    if y is not None:
        checks.same_shape(name, "y", y, x, "x")
    checks.result(name, x.shape, out, None)
    return BatchNormEpilogueBackward(
        *compute(g, x, gamma, beta, mean, inverse_std, activation, y, given, out, workspace)
    )
