"""Kernels of losses: softmax and cross-entropy in one, so that no probability is ever written."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import checks
from .registry import find

__all__ = ["CrossEntropy", "cross_entropy", "cross_entropy_backward"]

Array = Any


class CrossEntropy(NamedTuple):
    """What `cross_entropy` returns, `(N, *spatial)` each."""

    loss: Array
    top: Array
    log_sum: Array


def cross_entropy(x: Array, target: Array, smoothing: float = 0.0) -> CrossEntropy:
    """How surprised a prediction is: `log Σ_c exp(x[c]) − x[target]`, for each place.

    With smoothing s the second term is `(1 − s) · x[target] + s · mean_c x[c]`. Everything is
    computed from differences to the largest x of a place, so nothing overflows. A place that holds
    NaN, plus infinity, or only minus infinity has a loss of NaN.

    Args:
        x: `(N, C)` or `(N, C, *spatial)`, C at least 1.
        target: `(N, *spatial)` integers of 64 bits in 0 .. C − 1; others are not looked for.
        smoothing: s, in 0 .. 1.

    Returns:
        The loss; the largest x (NaN aside), and the logarithm of the sum of `exp(x − top)`, which
        the gradient needs.

    >>> import numpy as np
    >>> found = cross_entropy(np.zeros((1, 2)), np.array([1]))
    >>> f"{found.loss.item():.4f}"
    '0.6931'
    """
    compute = find("cross_entropy", x=x)
    _check("cross_entropy", x, target)
    return CrossEntropy(*compute(x, target, smoothing))


def cross_entropy_backward(
    g: Array,
    x: Array,
    target: Array,
    top: Array,
    log_sum: Array,
    smoothing: float = 0.0,
    *,
    out: Array | None = None,
) -> Array:
    """The gradient of `cross_entropy`: `g · (softmax(x) − the smoothed target)`.

    Args:
        g: `(N, *spatial)`, the gradient of the loss.
        x, target, smoothing: as for `cross_entropy`.
        top, log_sum: what it returned.
        out: the shape of x.

    Returns:
        The shape of x.
    """
    compute = find("cross_entropy_backward", g=g, x=x, top=top, log_sum=log_sum, out=out)
    _check("cross_entropy_backward", x, target)
    for name, array in (("g", g), ("top", top), ("log_sum", log_sum)):
        if tuple(array.shape) != tuple(target.shape):
            raise ValueError(
                f"cross_entropy_backward: {name} must have the shape of target, "
                f"{tuple(target.shape)}, got {tuple(array.shape)}"
            )
    checks.result("cross_entropy_backward", x.shape, out, None)
    return compute(g, x, target, top, log_sum, smoothing, out)


def _check(name: str, x: Array, target: Array) -> None:
    if len(x.shape) < 2 or x.shape[1] < 1:
        raise ValueError(
            f"{name}: x must be (N, C) or (N, C, *spatial) with at least one class, got shape "
            f"{tuple(x.shape)}"
        )
    checks.indices(name, "target", target, (x.shape[0], *x.shape[2:]))
