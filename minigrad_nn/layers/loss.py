"""Losses as modules, under PyTorch's names; each calls its function with the settings it holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.tensor import Tensor
from minigrad_nn import functional as F
from minigrad_nn.functional.loss import REDUCTIONS
from minigrad_nn.module import Module

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    """What losses have in common: how they are reduced."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction must be one of {REDUCTIONS}, got {reduction!r}"
            )
        self.reduction = reduction

    def _hold(self, name: str, value: Any) -> None:
        """Keep constant weights as a buffer."""
        tensor = None if value is None else Tensor(np.array(Tensor(value).numpy()))
        self.register_buffer(name, tensor)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits and class numbers or probabilities; see `functional.cross_entropy`.

    Args:
        weight: `(classes,)`, how much each class counts.
        ignore_index: a target that does not count.
        reduction: "mean" or "sum" over all predictions, or "none".
        label_smoothing: in [0, 1].

    >>> import minigrad
    >>> loss = CrossEntropyLoss(ignore_index=0)
    >>> f"{loss(minigrad.zeros((2, 4)), [0, 3]).item():.4f}"
    '1.3863'
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self._hold("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each prediction."""
        return F.cross_entropy(
            x, target, self.reduction, self.label_smoothing, self.weight, self.ignore_index
        )


class NLLLoss(_Loss):
    """Negative log-likelihood of log-probabilities; see `functional.nll_loss`.

    Args:
        weight: `(classes,)`, how much each class counts.
        ignore_index: a target that does not count.
        reduction: "mean" or "sum" over all predictions, or "none".
    """

    weight: Tensor | None

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self._hold("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each prediction."""
        return F.nll_loss(x, target, self.reduction, self.weight, self.ignore_index)


class BCEWithLogitsLoss(_Loss):
    """Cross-entropy of yes-or-no questions; see `functional.binary_cross_entropy_with_logits`.

    Args:
        weight: of each element; broadcast.
        reduction: "mean" or "sum" over all elements, or "none".
        pos_weight: how much more a yes counts; broadcast.
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self._hold("weight", weight)
        self._hold("pos_weight", pos_weight)

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each element."""
        return F.binary_cross_entropy_with_logits(
            x, target, self.weight, self.reduction, self.pos_weight
        )


class MSELoss(_Loss):
    """Mean squared error; see `functional.mse_loss`."""

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each element."""
        return F.mse_loss(x, target, self.reduction)


class L1Loss(_Loss):
    """Mean absolute error; see `functional.l1_loss`."""

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each element."""
        return F.l1_loss(x, target, self.reduction)


class SmoothL1Loss(_Loss):
    """Squared error where small, absolute where large; see `functional.smooth_l1_loss`.

    Args:
        reduction: "mean" or "sum" over all elements, or "none".
        beta: where one passes into the other.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each element."""
        return F.smooth_l1_loss(x, target, self.reduction, self.beta)


class FocalLoss(_Loss):
    """Cross-entropy in which easy predictions count little; see `functional.focal_loss`.

    Args:
        gamma: how fast easy ones fade.
        reduction: "mean" or "sum" over all predictions, or "none".
    """

    def __init__(self, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.gamma = gamma

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each prediction."""
        return F.focal_loss(x, target, self.gamma, self.reduction)


class SigmoidFocalLoss(_Loss):
    """Binary cross-entropy in which easy ones count little; see `functional.sigmoid_focal_loss`.

    Args:
        alpha: the weight of a 1, and `1 - alpha` that of a 0; negative for no weights.
        gamma: how fast easy ones fade.
        reduction: "mean" or "sum" over all elements, or "none".
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none") -> None:
        super().__init__(reduction)
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each element."""
        return F.sigmoid_focal_loss(x, target, self.alpha, self.gamma, self.reduction)


class DiceLoss(_Loss):
    """One minus the overlap of predicted and true regions; see `functional.dice_loss`.

    Args:
        smooth: added above and below the bar.
        reduction: "mean" or "sum" over samples and classes, or "none".
    """

    def __init__(self, smooth: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.smooth = smooth

    def forward(self, x: Any, target: Any) -> Any:
        """A number, or one for each sample and class."""
        return F.dice_loss(x, target, self.smooth, self.reduction)
