"""Activation layers besides ReLU, sigmoid and tanh; `PReLU` alone has a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad_nn import functional as F
from minigrad_nn.module import Module, Parameter

__all__ = [
    "ELU",
    "GELU",
    "Hardswish",
    "LeakyReLU",
    "LogSoftmax",
    "PReLU",
    "ReLU6",
    "SiLU",
    "Softplus",
    "Swish",
]


class ReLU6(Module):
    """`min(max(x, 0), 6)`, which low precision can hold."""

    epilogue = "relu6"

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.relu6(x)


class LeakyReLU(Module):
    """`max(x, 0) + negative_slope * min(x, 0)`.

    Args:
        negative_slope: the slope on the left of 0.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """A leaky ReLU that learns its slope.

    Args:
        num_parameters: 1, or the number of channels for a slope each.
        init: the slope at the start.
        dtype: of the slopes.

    >>> import minigrad
    >>> PReLU()(minigrad.tensor([-4.0, 4.0])).tolist()
    [-1.0, 4.0]
    """

    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, dtype: Any = np.float32
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(np.full(num_parameters, init, dtype))

    def forward(self, x: Any) -> Any:
        """The shape of x, `(N, C, *spatial)`."""
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(Module):
    """`x` where it is positive, `alpha * (exp(x) - 1)` elsewhere.

    Args:
        alpha: minus the limit for very negative x.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SiLU(Module):
    """`x * sigmoid(x)`; `Swish` is the same layer."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.silu(x)


Swish = SiLU


class GELU(Module):
    """`x` times the probability that a standard normal number lies below it.

    Args:
        approximate: "none" or "tanh".
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Hardswish(Module):
    """`x * relu6(x + 3) / 6`."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.hardswish(x)


class Softplus(Module):
    """`log(1 + exp(beta * x)) / beta`.

    Args:
        beta: how sharp it bends, above 0.
        threshold: where `beta * x` is larger, x itself is returned.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class LogSoftmax(Module):
    """Logarithms of probabilities along an axis, as `nll_loss` takes them.

    Args:
        axis: along which the probabilities add up to 1.
    """

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.log_softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
