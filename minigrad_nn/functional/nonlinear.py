"""Non-linearities besides ReLU, sigmoid and tanh: sloped or limited rectifiers, and smooth ones.

Each rule is the derivative of the textbook beside its forward.  At a corner one subgradient is
chosen, PyTorch's: 0 at both corners of `relu6`, the left slope at 0 of `leaky_relu` and `prelu`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from minigrad.core import Op, op, raw
from minigrad.ops.elementwise import exp, keep, sigmoid, tanh, where
from minigrad.ops.shape import reshape

__all__ = [
    "elu",
    "erf",
    "gelu",
    "hardswish",
    "leaky_relu",
    "prelu",
    "relu6",
    "silu",
    "softplus",
]

_ROOT_2 = math.sqrt(2.0)
_ROOT_2_PI = math.sqrt(2.0 * math.pi)


# --- rectifiers ----------------------------------------------------------------------------------


def _between(y: Any) -> Any:
    """Where `relu6` is open; a NaN lets the gradient through, and is seen."""
    y = raw(y)
    return ~((y <= 0.0) | (y >= 6.0))


relu6 = op(
    "relu6",
    lambda x: np.clip(x, 0.0, 6.0),
    lambda g, y: keep(g, _between(y)),
    gate="selects",
)
relu6.__doc__ = """`min(max(x, 0), 6)`, elementwise; the gradient is 0 at both corners.

The ceiling keeps activations in the range that a few bits can hold: with 8-bit fixed-point numbers
for [0, 6] a step is 6/255, whatever the input (Howard and others, "MobileNets", 2017).

Args:
    x: of any shape.
"""

_leaky_relu = op(
    "leaky_relu",
    lambda x, *, slope: np.where(x > 0.0, x, x * slope),
    lambda g, x, slope: where(raw(x) > 0.0, g, g * slope),
    inputs="x",
)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """`x` where it is positive, `negative_slope * x` elsewhere (Maas and others, 2013).

    Args:
        x: of any shape.
        negative_slope: the slope on the left of 0, and at 0.

    >>> import minigrad
    >>> leaky_relu(minigrad.tensor([-1.0, 2.0]), 0.5)
    tensor([-0.5,  2. ])
    """
    return _leaky_relu(x, slope=float(negative_slope))


_prelu = op(
    "prelu",
    lambda x, weight: np.where(x > 0.0, x, x * weight),
    lambda g, x, weight: where(raw(x) > 0.0, g, g * weight),
    lambda g, x: where(raw(x) > 0.0, 0.0, g * x),
)


def prelu(x: Any, weight: Any) -> Any:
    """`x` where it is positive, `weight * x` elsewhere, with a learned slope.

    He and others, "Delving deep into rectifiers", 2015.

    Args:
        x: `(N, C, *spatial)`, or of any shape with a single slope.
        weight: `(1,)`, or `(C,)` for a slope a channel.

    Raises:
        ValueError: weight has neither one element nor one a channel.

    >>> import minigrad
    >>> prelu(minigrad.tensor([[-1.0, -1.0]]), minigrad.tensor([0.25, 0.5]))
    tensor([[-0.25, -0.5 ]])
    """
    shape, slopes = np.shape(raw(x)), np.shape(raw(weight))
    channels = shape[1] if len(shape) > 1 else 1
    if slopes not in ((1,), (channels,)):
        raise ValueError(
            f"prelu: weight must have shape (1,) or ({channels},), one slope for each channel of x "
            f"of shape {shape}, got {slopes}"
        )
    if slopes != (1,):
        weight = reshape(weight, (-1,) + (1,) * (len(shape) - 2))
    return _prelu(x, weight)


_elu = op(
    "elu",
    lambda x, *, alpha: np.where(x > 0.0, x, alpha * np.expm1(np.minimum(x, 0.0))),
    lambda g, x, y, alpha: where(raw(x) > 0.0, g, g * (y + alpha)),
    inputs="x",
)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.

    Clevert and others, "Fast and accurate deep network learning by exponential linear units", 2016.

    Args:
        x: of any shape.
        alpha: minus the limit for very negative x.

    >>> import minigrad
    >>> elu(minigrad.tensor([-1000.0, 0.0, 3.0]))
    tensor([-1.,  0.,  3.])
    """
    return _elu(x, alpha=float(alpha))


def _hardswish_slope(x: Any) -> Any:
    """What the gradient is multiplied by: 0, `x / 3 + 1 / 2`, or 1."""
    values = raw(x)
    return where(values <= -3.0, 0.0, where(values >= 3.0, 1.0, x * (1.0 / 3.0) + 0.5))


hardswish = op(
    "hardswish",
    lambda x: x * (np.clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)),
    lambda g, x: g * _hardswish_slope(x),
    gate="elementwise",
)
hardswish.__doc__ = """`x * relu6(x + 3) / 6`: nearly `silu`, without an exponential.

Howard and others, "Searching for MobileNetV3", 2019.

Args:
    x: of any shape.
"""


# --- smooth ones ---------------------------------------------------------------------------------


def _silu_slope(x: Any) -> Any:
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


silu = op(
    "silu",
    lambda x: x * sigmoid(x),
    lambda g, x: g * _silu_slope(x),
    gate="elementwise",
)
silu.__doc__ = """`x * sigmoid(x)`, also called Swish.

Its derivative is `s * (1 + x * (1 - s))` with `s = sigmoid(x)`: 1/2 at 0, and a little below 0
where x < -1.28 (Ramachandran and others, "Searching for activation functions", 2017).

Args:
    x: of any shape.
"""


def _softplus_raw(x: Any, *, beta: float, threshold: float) -> Any:
    steep = x * beta
    smooth = np.maximum(steep, 0.0) + np.log1p(np.exp(-np.abs(steep)))
    return np.where(steep > threshold, x, smooth / beta)


_softplus = op(
    "softplus",
    _softplus_raw,
    lambda g, x, beta, threshold: where(raw(x) * beta > threshold, g, g * sigmoid(x * beta)),
)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """`log(1 + exp(beta * x)) / beta`: a rectifier without a corner.

    Args:
        x: of any shape.
        beta: how sharp it bends, above 0.
        threshold: where `beta * x` is larger, x itself is returned.

    Raises:
        ValueError: beta is not above 0.

    >>> import minigrad
    >>> softplus(minigrad.tensor([-1000.0, 1000.0]))
    tensor([   0., 1000.])
    """
    if not beta > 0.0:
        raise ValueError(f"softplus: beta must be above 0, got {beta}")
    return _softplus(x, beta=float(beta), threshold=float(threshold))


@cache
def _erf_series(dtype: np.dtype) -> tuple[float, np.ndarray]:
    """Where erf is 1 to the last digit, and a Chebyshev series of `erf(x) / x` in x² up to there.

    The quotient is an even and entire function, so the series converges fast, and the product
    with x is exact to the last digits near 0 too.  Terms too small to matter are dropped.
    """
    end = 6.0 if dtype.itemsize > 4 else 4.0

    def quotient(t: Any) -> Any:
        return np.array([math.erf(x) / x for x in end * np.sqrt((t + 1.0) / 2.0)])

    series = np.polynomial.chebyshev.chebinterpolate(quotient, 60)
    matters = np.abs(series) > np.finfo(dtype).eps / 64.0
    return end, series[: int(np.flatnonzero(matters)[-1]) + 1].astype(dtype)


def _erf(x: Any) -> Any:
    end, series = _erf_series(x.dtype)
    inner = np.clip(x, -end, end)
    t = inner * inner
    t *= 2.0 / end**2
    t -= 1.0
    found = inner * np.polynomial.chebyshev.chebval(t, series)
    # Exactly 1 where it is 1 to the last digit: rounding must not leave a tail in `gelu`.
    return np.where(np.abs(x) >= end, np.sign(x), found)


erf: Op = op(
    "erf",
    _erf,
    lambda g, x: g * (exp(-(x * x)) * (2.0 / math.sqrt(math.pi))),
    scalar=math.erf,
    gate="elementwise",
)
erf.__doc__ = """The error function, `2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to x.

Its error is at most 2e-13 in float64, and 2e-7 in float32.

Args:
    x: of any shape, floats.
"""


def _gelu_slope(x: Any) -> Any:
    """The normal distribution up to x, plus x times its density."""
    return 0.5 * (1.0 + erf(x * (1.0 / _ROOT_2))) + x * (exp(x * x * -0.5) * (1.0 / _ROOT_2_PI))


_gelu = op(
    "gelu",
    lambda x: x * (0.5 * (1.0 + _erf(x * (1.0 / _ROOT_2)))),
    lambda g, x: g * _gelu_slope(x),
    gate="elementwise",
)


def gelu(x: Any, approximate: str = "none") -> Any:
    """`x` times the probability that a standard normal number lies below it.

    Hendrycks and Gimpel, "Gaussian error linear units", 2016.

    Args:
        x: of any shape, floats.
        approximate: "none", or "tanh" for `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x³)))`.

    Raises:
        ValueError: approximate is neither.

    >>> import minigrad
    >>> gelu(minigrad.tensor([-10.0, 0.0, 10.0]))
    tensor([-0.,  0., 10.])
    """
    if approximate == "none":
        return _gelu(x)
    if approximate != "tanh":
        raise ValueError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    inner = (x + 0.044715 * (x * x * x)) * math.sqrt(2.0 / math.pi)
    return 0.5 * x * (1.0 + tanh(inner))
