"""Numbers that say how good predictions are: accuracy, top-k accuracy, the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw

__all__ = ["accuracy", "confusion_matrix", "topk_accuracy"]


def _arrays(name: str, scores: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for value in (scores, targets):
        value = raw(value)
        found.append(np.asarray(backend.device_of(value).to_numpy(value)))
    s, t = found
    if s.ndim != 2 or t.shape != s.shape[:1]:
        raise ValueError(
            f"{name}: scores must be (N, classes) and targets (N,), got shapes {s.shape} and "
            f"{t.shape}"
        )
    if t.dtype.kind not in "iu":
        raise TypeError(f"{name}: targets must be class numbers, integers, not {t.dtype}")
    return s, t


def accuracy(scores: Any, targets: Any) -> float:
    """The share of rows whose largest score is at the target class; NaN for no rows.

    Args:
        scores: `(N, classes)`, logits or probabilities.
        targets: `(N,)` class numbers.

    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    return topk_accuracy(scores, targets, 1)


def topk_accuracy(scores: Any, targets: Any, k: int = 5) -> float:
    """The share of rows whose target is among the k largest scores; NaN for no rows.

    Of equal scores the one of the lower class counts as larger; a NaN is never among them.

    Args:
        scores: `(N, classes)`, logits or probabilities.
        targets: `(N,)` class numbers.
        k: 1 or more.

    Raises:
        ValueError: wrong shapes, or k out of its range.
    """
    s, t = _arrays("topk_accuracy", scores, targets)
    if k < 1:
        raise ValueError(f"topk_accuracy: k must be at least 1, got {k}")
    if not len(t):
        return float("nan")
    own = s[np.arange(len(t)), t][:, None]
    before = (s > own) | ((s == own) & (np.arange(s.shape[1]) < t[:, None]))
    return float((~np.isnan(own[:, 0]) & (before.sum(1) < k)).mean())


def confusion_matrix(scores: Any, targets: Any) -> np.ndarray:
    """How often each class was taken for each: rows are true classes, columns predicted ones.

    Args:
        scores: `(N, classes)`, logits or probabilities.
        targets: `(N,)` class numbers.

    Returns:
        `(classes, classes)` counts, int64.
    """
    s, t = _arrays("confusion_matrix", scores, targets)
    classes = s.shape[1]
    counts = np.bincount(t * classes + s.argmax(1), minlength=classes * classes)
    return counts.reshape(classes, classes)
