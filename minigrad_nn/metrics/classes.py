"""How often the right class is named: accuracy, the confusion matrix, and average precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad_nn.metrics.arrays import plain

__all__ = [
    "accuracy",
    "average_precision",
    "confusion_matrix",
    "mean_average_precision",
    "topk_accuracy",
]


def _arrays(name: str, scores: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    s, t = plain(scores), plain(targets)
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


def average_precision(scores: Any, targets: Any) -> float:
    """The area under precision over recall, as the threshold falls: `Σ (R_i - R_(i-1)) P_i`.

    Equal scores pass the threshold together, so their order does not matter.

    Args:
        scores: `(N,)`, larger for what is rather a yes.
        targets: `(N,)`, booleans, or 0 and 1.

    Returns:
        From 0 to 1; NaN if nothing is a yes.

    Raises:
        ValueError: wrong shapes, a score that is NaN, or targets other than 0 and 1.

    >>> average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    0.8333333333333333
    """
    s, t = plain(scores), plain(targets)
    if s.ndim != 1 or t.shape != s.shape:
        raise ValueError(
            f"average_precision: scores and targets must be (N,), got {s.shape} and {t.shape}"
        )
    if np.isnan(s).any():
        raise ValueError("average_precision: a score is NaN, which has no place in an order")
    if not np.isin(t, (0, 1)).all():
        raise ValueError("average_precision: targets must be booleans, or 0 and 1")
    if not t.any():
        return float("nan")
    order = np.argsort(-s, kind="stable")
    s, hits = s[order], np.cumsum(t[order].astype(np.float64))
    last = np.append(s[1:] != s[:-1], True)  # of each run of equal scores
    hits, passed = hits[last], (np.flatnonzero(last) + 1.0)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * (hits / passed)))


def mean_average_precision(scores: Any, targets: Any) -> float:
    """The mean over classes of `average_precision`; classes without a yes do not count.

    Args:
        scores: `(N, classes)`.
        targets: `(N,)` class numbers, or `(N, classes)` of 0 and 1 where several may be true.

    Raises:
        ValueError: wrong shapes; TypeError: class numbers that are no integers.
    """
    s, t = plain(scores), plain(targets)
    if t.ndim == 1:
        s, t = _arrays("mean_average_precision", s, t)
        t = t[:, None] == np.arange(s.shape[1])
    if s.ndim != 2 or s.shape != t.shape:
        raise ValueError(
            "mean_average_precision: scores must be (N, classes) and targets (N,) or (N, classes), "
            f"got shapes {s.shape} and {t.shape}"
        )
    found = [average_precision(s[:, i], t[:, i]) for i in range(s.shape[1]) if t[:, i].any()]
    return float(np.mean(found)) if found else float("nan")
