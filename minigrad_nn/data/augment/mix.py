"""`Mixup`: two pictures one over the other, and their two labels in the same proportion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator

from ..dataset import Batch
from .checks import need_pictures

__all__ = ["Mixup"]


class Mixup:
    """Mixes each sample of a batch with another: `share * own + (1 - share) * other`, labels too.

    Zhang and others, "mixup: beyond empirical risk minimization", 2018.  Partners are a random
    order of the batch, and each pair has a share of its own from Beta(alpha, alpha): near 0 or 1
    for a small alpha, uniform for 1, near 1/2 for a large one.

    The labels become probabilities of classes, which `functional.cross_entropy` takes; give `fit`
    its `metrics={}`, since there is no single right class to count.

    Args:
        alpha: above 0; 0.2 in the paper for ImageNet, 1 for CIFAR-10.
        classes: how many there are.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, alpha: float, classes: int) -> None:
        if not 0.0 < alpha < math.inf:
            raise ValueError(f"Mixup: alpha must be a number above 0, got {alpha!r}")
        if classes < 1:
            raise ValueError(f"Mixup: classes must be at least 1, got {classes!r}")
        self.alpha = float(alpha)
        self.classes = int(classes)

    def __repr__(self) -> str:
        return f"Mixup({self.alpha}, classes={self.classes})"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with mixed pictures (N, C, H, W) and targets (N, classes) of their dtype.

        Args:
            batch: floats (N, C, H, W), and class numbers (N,) or probabilities (N, classes).
            generator: of the random numbers.

        Raises:
            TypeError, ValueError: not two such arrays.
        """
        x = need_pictures("Mixup", batch[0])
        if len(batch) != 2:
            raise ValueError(f"Mixup: a batch must be pictures and labels, got {len(batch)} arrays")
        targets = self._probabilities(batch[1], x)
        partner = generator.permutation(len(x))
        share = symmetric_beta(self.alpha, len(x), generator).astype(x.dtype)

        def mixed(own: NDArray[Any]) -> NDArray[Any]:
            part = share.reshape(-1, *[1] * (own.ndim - 1))
            return part * own + (1 - part) * own[partner]

        return mixed(x), mixed(targets)

    def _probabilities(self, labels: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        if labels.dtype.kind == "f" and labels.shape == (len(x), self.classes):
            return labels.astype(x.dtype, copy=False)
        if labels.dtype.kind not in "iu" or labels.shape != (len(x),):
            raise TypeError(
                f"Mixup: labels must be class numbers ({len(x)},) or probabilities "
                f"({len(x)}, {self.classes}), got {labels.dtype} of shape {labels.shape}"
            )
        if len(x) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(
                f"Mixup: labels must be from 0 to {self.classes - 1}, got {labels.min()} to "
                f"{labels.max()}"
            )
        return np.eye(self.classes, dtype=x.dtype)[labels]


def symmetric_beta(alpha: float, count: int, generator: Generator) -> NDArray[np.float64]:
    """(count,) numbers of Beta(alpha, alpha), from three uniform ones each.

    Devroye, "Random variate generation in one line of code", 1996, section 4:
    `1/2 + S / (2 sqrt(1 + 1 / ((U^(-1/alpha) - 1) cos(2 pi V)^2)))`, with a random sign S.
    """
    u, v, s = generator.random((3, count), dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        spread = np.expm1(-np.log1p(-u) / alpha) * np.cos(2.0 * np.pi * v) ** 2
        away = 0.5 / np.sqrt(1.0 + 1.0 / spread)
    away[np.isnan(away)] = 0.5  # a spread that is too large for a number
    return 0.5 + np.where(s < 0.5, away, -away)
