"""The perceptron: a unit that fires or not, and the rule by which it learns from its mistakes.

Sources: F. Rosenblatt, "The perceptron: a probabilistic model for information storage and
organization in the brain", Psychological Review 65 (1958); A. Novikoff, "On convergence proofs for
perceptrons", 1962; R. Duda, P. Hart, "Pattern classification", 1973, chapter 5, for several
classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.core import raw
from minigrad.ops.elementwise import greater, relu
from minigrad.ops.index import getitem
from minigrad.ops.reduce import argmax, mean
from minigrad.ops.reduce import max as max_over
from minigrad.ops.shape import astype, reshape
from minigrad.random import Generator

from .. import functional as F
from ..module import Module, Parameter

__all__ = ["Perceptron"]


class Perceptron(Module):
    """The artificial neuron of the lecture: a weighted sum, and a threshold.

    With two classes there is one unit, which fires, class 1, if its sum is above 0.  With more
    there is a unit for each class, and the largest sum wins.

    A threshold has no slope: wherever it has a derivative, that is 0, and so no error flows back
    through it.  What a perceptron answers is therefore off the graph, and `backward` on it says
    so.  The three ways on are all here:

    - `learn` is Rosenblatt's rule, which needs no derivative: at each mistake the sample is added
      to the weights of the right class and taken from those of the wrong one.  If the classes can
      be separated at all, it makes at most `(R / margin) ** 2` mistakes and is done (Novikoff).
    - `criterion` is the loss of which that rule is the gradient descent, one sample at a time.
    - `scores` are the sums in front of the threshold.  They have gradients, so putting a smooth
      function in the threshold's place makes a layer: with a softmax it is softmax regression.

    Args:
        in_features: how many numbers a sample has; pictures are flattened.
        classes: how many kinds to tell apart, at least 2.
        dtype: of the weights, which start at 0.

    Raises:
        ValueError: sizes below that.

    >>> import minigrad
    >>> x = minigrad.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> model = Perceptron(2)
    >>> model.learn(x, [0, 0, 0, 1])  # the logical and; mistakes of each epoch
    [1, 3, 3, 2, 1, 0]
    >>> model(x).tolist()
    [0, 0, 0, 1]
    """

    weight: Parameter
    bias: Parameter

    def __init__(self, in_features: int, classes: int = 2, dtype: Any = np.float32) -> None:
        super().__init__()
        if in_features < 1 or classes < 2:
            raise ValueError(
                "Perceptron: needs at least 1 number a sample and 2 classes, got in_features="
                f"{in_features} and classes={classes}"
            )
        self.in_features = in_features
        self.classes = classes
        units = 1 if classes == 2 else classes
        self.weight = Parameter(np.zeros((units, in_features), dtype))
        self.bias = Parameter(np.zeros(units, dtype))

    def _rows(self, x: Any) -> Any:
        shape = np.shape(raw(x))
        if len(shape) < 2 or np.prod(shape[1:], dtype=int) != self.in_features:
            raise ValueError(
                f"Perceptron: samples must be (N, ...) with {self.in_features} numbers each, got "
                f"shape {shape}; Perceptron(in_features=...) makes it for others"
            )
        return reshape(x, (shape[0], self.in_features))

    def scores(self, x: Any) -> Any:
        """The sums in front of the threshold, `(N, classes)`, of samples `(N, ...)`.

        With two classes that is `(N, 1)`, how far the unit is above its threshold.
        """
        return F.linear(self._rows(x), self.weight, self.bias)

    def forward(self, x: Any) -> Any:
        """Class numbers `(N,)`, integers and off the graph, of samples `(N, ...)`.

        Raises:
            ValueError: samples of another size.
        """
        sums = self.scores(x)
        if self.classes == 2:
            return astype(greater(getitem(sums, index=(slice(None), 0)), 0.0), np.int64)
        return argmax(sums, axis=1)

    def criterion(self, x: Any, y: Any) -> Any:
        """The perceptron criterion: by how much the right class falls short, on average.

        `max(scores) - scores[y]`, and with two classes `max(0, -score)` for class 1 and
        `max(0, score)` for class 0.  It is 0 for what is right, however narrowly.

        Args:
            x: samples `(N, ...)`.
            y: class numbers `(N,)`.
        """
        labels = self._labels(y, len(raw(x)))
        sums = self.scores(x)
        if self.classes == 2:
            signs = (1.0 - 2.0 * labels).astype(self.weight.dtype)
            return mean(relu(getitem(sums, index=(slice(None), 0)) * signs))
        right = getitem(sums, index=(np.arange(len(labels)), labels))
        return mean(max_over(sums, axis=1) - right)

    def learn(
        self,
        x: Any,
        y: Any,
        epochs: int = 100,
        lr: float = 1.0,
        generator: Generator | None = None,
    ) -> list[int]:
        """Learn by Rosenblatt's rule, one sample after the other, until an epoch has no mistake.

        Args:
            x: samples `(N, ...)`.
            y: class numbers `(N,)`.
            epochs: at most so many times through all samples; classes that no plane separates are
                never learned without mistakes.
            lr: by how much a mistake counts.  It changes nothing but the scale where all weights
                start at 0.
            generator: draws a new order of the samples in each epoch; they stay in theirs if None.

        Returns:
            How many mistakes were made in each epoch; the last is 0 if everything was learned.

        Raises:
            ValueError: samples or labels that do not belong here, or a rate that is not above 0.
        """
        if not lr > 0:
            raise ValueError(f"Perceptron.learn: lr must be above 0, got {lr}")
        samples = np.asarray(raw(self._rows(x)), self.weight.dtype)
        labels = self._labels(y, len(samples))
        weight, bias = np.array(self.weight.data), np.array(self.bias.data)
        history = []
        for _ in range(epochs):
            order = range(len(samples)) if generator is None else generator.permutation(len(labels))
            mistakes = 0
            for i in order:
                sums = weight @ samples[i] + bias
                said = int(sums[0] > 0) if self.classes == 2 else int(sums.argmax())
                if said == labels[i]:
                    continue
                mistakes += 1
                step = lr * samples[i]
                if self.classes == 2:
                    sign = 1 if labels[i] else -1
                    weight[0] += sign * step
                    bias[0] += sign * lr
                else:
                    weight[labels[i]] += step
                    bias[labels[i]] += lr
                    weight[said] -= step
                    bias[said] -= lr
            history.append(mistakes)
            if not mistakes:
                break
        self.weight.assign(weight, "Perceptron.learn")
        self.bias.assign(bias, "Perceptron.learn")
        return history

    def _labels(self, y: Any, count: int) -> np.ndarray:
        labels = np.asarray(raw(y))
        if labels.shape != (count,) or (labels.size and labels.dtype.kind not in "iub"):
            raise ValueError(
                f"Perceptron: y must hold {count} class numbers, one for each sample, got "
                f"{labels.dtype} of shape {labels.shape}"
            )
        labels = labels.astype(np.int64)
        if labels.size and (labels.min() < 0 or labels.max() >= self.classes):
            raise ValueError(
                f"Perceptron: y holds the classes {labels.min()} to {labels.max()}, but there are "
                f"{self.classes}, from 0 to {self.classes - 1}"
            )
        return labels

    def extra_repr(self) -> str:
        """Its sizes."""
        return f"in_features={self.in_features}, classes={self.classes}"
