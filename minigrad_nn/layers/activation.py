"""Activation layers: functions without parameters, so that they can stand in `Sequential`."""

from __future__ import annotations

from typing import Any

from minigrad_nn import functional as F
from minigrad_nn.module import Module

__all__ = ["ReLU", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Module):
    """`max(x, 0)`."""

    epilogue = "relu"

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.relu(x)


class Sigmoid(Module):
    """`1 / (1 + exp(-x))`."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.tanh(x)


class Softmax(Module):
    """Probabilities along an axis; for training, `cross_entropy` takes the logits before it.

    Args:
        axis: along which the results add up to 1.
    """

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
