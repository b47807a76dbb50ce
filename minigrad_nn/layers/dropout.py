"""Dropout layers, by element and by channel."""

from __future__ import annotations

from typing import Any

from minigrad.random import Generator
from minigrad_nn import functional as F
from minigrad_nn.module import Module

__all__ = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d"]


class Dropout(Module):
    """While training, set each element to 0 with probability `p` and scale up the others.

    Args:
        p: in [0, 1].
        generator: where the random numbers come from; `minigrad.random`'s default one if None.

    Raises:
        ValueError: p lies outside [0, 1].
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{type(self).__name__}: p must be in [0, 1], got {p}")
        self.p = p
        self.generator = generator

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(Dropout):
    """While training, drop whole channels of signals `(N, C, L)`; arguments as `Dropout`."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.dropout1d(x, self.p, self.training, self.generator)


class Dropout2d(Dropout):
    """While training, drop whole channels of pictures `(N, C, H, W)`; arguments as `Dropout`."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.dropout2d(x, self.p, self.training, self.generator)


class Dropout3d(Dropout):
    """While training, drop whole channels of volumes `(N, C, D, H, W)`; arguments as `Dropout`."""

    def forward(self, x: Any) -> Any:
        """The shape of x."""
        return F.dropout3d(x, self.p, self.training, self.generator)
