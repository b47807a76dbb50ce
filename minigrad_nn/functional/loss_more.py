"""More losses: L1 and smooth L1, yes-or-no questions by one logit, focal, dice, and L2 decay.

All are compositions of stable parts, so every order of derivative is the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.core import raw
from minigrad.effects import constant, value
from minigrad.ops.elementwise import abs as absolute
from minigrad.ops.elementwise import divide, exp, power, sigmoid, square, where
from minigrad.ops.reduce import sum as sum_over
from minigrad_nn.functional.activation import log_softmax, softmax
from minigrad_nn.functional.loss import REDUCTIONS, _checked, _reduce, _there, pick, place
from minigrad_nn.functional.nonlinear import softplus

__all__ = [
    "binary_cross_entropy_with_logits",
    "dice_loss",
    "focal_loss",
    "l1_loss",
    "l2_penalty",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
]


def _alike(name: str, x: Any, target: Any, reduction: str) -> None:
    """Refuse another reduction, and shapes that would be broadcast by mistake."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction must be one of {REDUCTIONS}, got {reduction!r}")
    shapes = np.shape(raw(x)), np.shape(raw(target))
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name}: x has shape {shapes[0]}, but target has shape {shapes[1]}")


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Any:
    """Mean absolute error, over all elements.

    Args:
        x: of any shape.
        target: of the same shape.
        reduction: "mean" or "sum" over all elements, or "none".

    Raises:
        ValueError: the shapes differ.

    >>> import minigrad
    >>> l1_loss(minigrad.tensor([1.0, -2.0]), minigrad.tensor([0.0, 0.0]))
    tensor(1.5)
    """
    _alike("l1_loss", x, target, reduction)
    return _reduce(absolute(x - target), reduction)


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """The squared error where it is small, the absolute one where it is large.

    `d² / (2 beta)` for `|d| < beta`, else `|d| - beta / 2` (Girshick, "Fast R-CNN", 2015).

    Args:
        x: of any shape.
        target: of the same shape.
        reduction: "mean" or "sum" over all elements, or "none".
        beta: where one passes into the other; 0 is `l1_loss`.

    Raises:
        ValueError: the shapes differ, or beta is negative.
    """
    _alike("smooth_l1_loss", x, target, reduction)
    if beta < 0.0:
        raise ValueError(f"smooth_l1_loss: beta must be at least 0, got {beta}")
    if beta == 0.0:
        return l1_loss(x, target, reduction)
    d = x - target
    size = absolute(d)
    loss = where(_below(raw(size), beta), square(d) * (0.5 / beta), size - 0.5 * beta)
    return _reduce(loss, reduction)


@value
def _below(size: Any, beta: float) -> Any:
    return size < beta


@value
def _summed(truth: Any, axes: tuple[int, ...]) -> Any:
    return np.add.reduce(truth, axis=axes)


def _binary(x: Any, target: Any, pos_weight: Any = None) -> Any:
    """`-t log(s) - (1 - t) log(1 - s)` for `s = sigmoid(x)`, without computing s."""
    if pos_weight is None:
        return (1.0 - target) * x + softplus(-x, threshold=np.inf)
    return (1.0 - target) * x + (1.0 + (pos_weight - 1.0) * target) * softplus(-x, threshold=np.inf)


def binary_cross_entropy_with_logits(
    x: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Cross-entropy of yes-or-no questions, each answered by one logit.

    `-pos_weight * t * log(s) - (1 - t) * log(1 - s)` with `s = sigmoid(x)`, finite for any logit.

    Args:
        x: logits of any shape.
        target: of the same shape, from 0 (no) to 1 (yes).
        weight: of each element; broadcast.
        reduction: "mean" or "sum" over all elements, or "none".
        pos_weight: how much more a yes counts; broadcast.

    Raises:
        ValueError: the shapes differ.

    >>> import minigrad
    >>> loss = binary_cross_entropy_with_logits(minigrad.tensor([0.0]), minigrad.tensor([1.0]))
    >>> f"{loss.item():.4f}"
    '0.6931'
    """
    _alike("binary_cross_entropy_with_logits", x, target, reduction)
    loss = _binary(x, target, pos_weight)
    return _reduce(loss if weight is None else loss * weight, reduction)


def sigmoid_focal_loss(
    x: Any, target: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Any:
    """Binary cross-entropy in which what is easily right counts little.

    `alpha_t * (1 - p_t)^gamma * -log(p_t)`, where p_t is the probability given to the truth (Lin
    and others, "Focal loss for dense object detection", 2017).

    Args:
        x: logits of any shape.
        target: of the same shape, 0 or 1.
        alpha: the weight of a 1, and `1 - alpha` that of a 0; negative for no weights.
        gamma: how fast easy ones fade; 0 is cross-entropy.
        reduction: "mean" or "sum" over all elements, or "none".

    Raises:
        ValueError: the shapes differ, or gamma is negative.
    """
    _alike("sigmoid_focal_loss", x, target, reduction)
    if gamma < 0.0:
        raise ValueError(f"sigmoid_focal_loss: gamma must be at least 0, got {gamma}")
    wrong = sigmoid(-x) * target + sigmoid(x) * (1.0 - target)
    loss = _binary(x, target) * power(wrong, gamma)
    if alpha >= 0.0:
        loss = loss * (alpha * target + (1.0 - alpha) * (1.0 - target))
    return _reduce(loss, reduction)


def focal_loss(x: Any, target: Any, gamma: float = 2.0, reduction: str = "mean") -> Any:
    """Cross-entropy in which what is easily right counts little: `(1 - p)^gamma * -log(p)`.

    The form for several classes of Lin and others, "Focal loss for dense object detection", 2017.

    Args:
        x: logits, `(N, classes)` or `(N, classes, *spatial)`.
        target: class numbers, integers of shape `(N,)` or `(N, *spatial)`.
        gamma: how fast easy ones fade; 0 is cross-entropy.
        reduction: "mean" or "sum" over all predictions, or "none".

    Raises:
        ValueError, TypeError: as `cross_entropy`, or gamma is negative.
    """
    classes = _checked("focal_loss", x, target, reduction)
    if gamma < 0.0:
        raise ValueError(f"focal_loss: gamma must be at least 0, got {gamma}")
    log_p = pick(log_softmax(x, 1), _there(classes, x))
    return _reduce(-(log_p * power(1.0 - exp(log_p), gamma)), reduction)


def dice_loss(x: Any, target: Any, smooth: float = 1.0, reduction: str = "mean") -> Any:
    """One minus the overlap of predicted and true regions: `2 |A and B| / (|A| + |B|)`.

    Regions are counted in probabilities, so that there is a gradient, and `smooth` is added above
    and below the bar, so that an absent class that is not predicted costs nothing.  Milletari and
    others, "V-Net", 2016, with the sums not squared.

    Args:
        x: logits, `(N, classes, *spatial)` with at least 2 classes and one spatial axis.
        target: class numbers, integers of shape `(N, *spatial)`.
        smooth: 0 or more.
        reduction: "mean" or "sum" over samples and classes, or "none" for `(N, classes)`.

    Raises:
        ValueError, TypeError: as `cross_entropy`.
    """
    classes = _checked("dice_loss", x, target, reduction)
    shape = np.shape(raw(x))
    if len(shape) < 3 or shape[1] < 2:
        raise ValueError(
            f"dice_loss: x must be (N, classes, *spatial) with at least 2 classes, got {shape}"
        )
    if smooth < 0.0:
        raise ValueError(f"dice_loss: smooth must be at least 0, got {smooth}")
    p = softmax(x, 1)
    ones = constant(_there(np.ones(classes.shape, raw(x).dtype), x))
    truth = place(ones, _there(classes, x), classes=shape[1])
    axes = tuple(range(2, len(shape)))
    above = 2.0 * sum_over(p * truth, axes) + smooth
    below = sum_over(p, axes) + _summed(truth, axes) + smooth
    return _reduce(1.0 - divide(above, below), reduction)


def l2_penalty(parameters: Iterable[Any], weight_decay: float, samples: int = 1) -> Any:
    """Weight decay as a term of the loss: `weight_decay / (2 * samples) * sum of squares`.

    Its gradient is `weight_decay * w / samples`, which is what an optimiser's `weight_decay` adds;
    decoupled decay, as in AdamW, does not go through the gradient and so is no term of a loss.

    Args:
        parameters: tensors of any shapes.
        weight_decay: how strong, 0 or more.
        samples: the m of the formula.

    Raises:
        ValueError: no parameters, a negative weight_decay, or samples below 1.

    >>> import minigrad
    >>> w = minigrad.tensor([3.0, 4.0], requires_grad=True)
    >>> l2_penalty([w], 0.2, samples=5).backward()
    >>> w.grad
    tensor([0.12, 0.16])
    """
    if weight_decay < 0.0 or samples < 1:
        raise ValueError(
            "l2_penalty: weight_decay must be at least 0 and samples at least 1, got "
            f"{weight_decay} and {samples}"
        )
    parts = [sum_over(square(w)) for w in parameters]
    if not parts:
        raise ValueError("l2_penalty: no parameters given; mind that a generator is used up once")
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total * (weight_decay / (2.0 * samples))
