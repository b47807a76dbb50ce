"""The multilayer perceptron: fully connected layers, of any number and any width.

Sources: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating
errors", Nature 323 (1986); the lecture's first two networks for MNIST.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import init
from ..layers import Dropout, Flatten, Identity, Linear, ReLU
from ..module import Module, ModuleList

__all__ = ["MLP"]


class MLP(Module):
    """Layers in which every unit sees all units of the layer before it.

    ======================== ================================================== ==========
    widths                   network                                            parameters
    ======================== ================================================== ==========
    `(784, 10)`              softmax regression on MNIST                        7,850
    `(784, 256, 256, 10)`    fully connected and deep                           269,322
    `(25, 16, 16, 9, 9)`     what four 3x3 filters do with 36 (`bias=False`)    881
    ======================== ================================================== ==========

    Without a hidden layer it is softmax regression: the loss `cross_entropy` has the softmax in it.
    An activation stands behind each hidden layer, and none behind the last, which gives logits.

    Args:
        widths: of the input, of each hidden layer, and how many classes.
        activation: makes what stands behind each hidden layer, `Sigmoid` in the paper.
        dropout: how much of each hidden layer is dropped while training.
        bias: whether each unit adds a number of its own.

    Raises:
        ValueError: fewer than two widths, or one below 1.

    >>> import minigrad
    >>> model = MLP((784, 100, 10))
    >>> model(minigrad.zeros((2, 1, 28, 28))).shape
    (2, 10)
    >>> sum(p.size for p in model.parameters())
    79510
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Callable[[], Module] = ReLU,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        widths = tuple(widths)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                "MLP: widths must name the inputs, each hidden layer and the classes, each at "
                f"least 1, such as (784, 100, 10), got {widths}"
            )
        self.widths = widths
        self.flatten = Flatten()
        self.hidden = ModuleList(Linear(a, b, bias) for a, b in itertools.pairwise(widths[:-1]))
        self.activation = activation() if len(self.hidden) else Identity()
        self.dropout = Dropout(dropout) if dropout else Identity()
        self.output = Linear(widths[-2], widths[-1], bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, of a scale that lets signals through a ReLU; the output starts small.

        Small logits are even guesses, so the first loss is `log(classes)`.
        """
        for layer in self.hidden:
            assert isinstance(layer, Linear)
            init.kaiming_normal_(layer.weight)
        init.xavier_normal_(self.output.weight)
        for layer in (*self.hidden, self.output):
            if layer.bias is not None:
                init.zeros_(layer.bias)

    def forward(self, x: Any) -> Any:
        """Logits, `(N, classes)`, of samples `(N, ...)` with as many numbers as the first width.

        Raises:
            ValueError: samples of another size.
        """
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.widths[0]:
            raise ValueError(
                f"MLP: samples must be (N, ...) with {self.widths[0]} numbers each, got shape "
                f"{x.shape}; the first of its widths says for how many it is made"
            )
        x = self.flatten(x)
        for layer in self.hidden:
            x = self.dropout(self.activation(layer(x)))
        return self.output(x)

    def extra_repr(self) -> str:
        """Its widths."""
        return f"widths={self.widths}"
