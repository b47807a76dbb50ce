"""The fully connected layer, and the layers that only arrange: flatten and identity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.ops.shape import reshape
from minigrad_nn import functional as F
from minigrad_nn import init
from minigrad_nn.module import Module, Parameter

__all__ = ["Flatten", "Identity", "Linear"]


class Linear(Module):
    """Connect every input with every output: `x @ weight.T + bias`.

    Args:
        in_features, out_features: sizes of the last axis.
        bias: whether each output adds a number of its own.
        dtype: of the parameters.

    >>> import minigrad
    >>> Linear(5, 2)(minigrad.zeros((3, 5))).shape
    (3, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter.zeros((out_features, in_features), dtype)
        self.bias = Parameter.zeros(out_features, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: uniform within 1 / sqrt(in_features)."""
        init.default_(self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        """`(..., out_features)` of `(..., in_features)`."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Flatten(Module):
    """Put the axes from `start_dim` to `end_dim` into one; by default all but the batch's."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Any:
        """The same elements with fewer axes."""
        shape = x.shape
        for dim in self.start_dim, self.end_dim:
            if not -len(shape) <= dim < len(shape):
                raise ValueError(f"Flatten: there is no axis {dim} in shape {shape}")
        start, stop = self.start_dim % len(shape), self.end_dim % len(shape) + 1
        if start >= stop:
            raise ValueError(
                f"Flatten: start_dim {self.start_dim} stands behind end_dim {self.end_dim} in "
                f"shape {shape}"
            )
        return reshape(x, (*shape[:start], math.prod(shape[start:stop]), *shape[stop:]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Return what comes in: a place where a layer may be taken out."""

    def forward(self, x: Any) -> Any:
        """x itself."""
        return x
