"""How well regions of pixels overlap: for each class of a map, and for masks of single things."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad_nn.metrics.arrays import plain

__all__ = ["mask_iou", "mean_iou", "region_iou"]


def region_iou(
    predictions: Any, targets: Any, classes: int, ignore_index: int | None = None
) -> np.ndarray:
    """For each class, the overlap of predicted and true places: what both share, over their union.

    Args:
        predictions: class numbers of any shape, such as `scores.argmax(1)` of `(N, H, W)`.
        targets: true class numbers of the same shape.
        classes: how many there are.
        ignore_index: a target whose places do not count.

    Returns:
        `(classes,)`, float64; NaN for a class that is neither there nor predicted.

    Raises:
        ValueError: shapes differ, or a number that is no class.
        TypeError: numbers that are no integers.
    """
    p, t = plain(predictions), plain(targets)
    if p.shape != t.shape:
        raise ValueError(
            f"region_iou: predictions have shape {p.shape}, but targets {t.shape}; take "
            "scores.argmax(1) first"
        )
    for name, value in (("predictions", p), ("targets", t)):
        if value.dtype.kind not in "iu":
            raise TypeError(f"region_iou: {name} must be class numbers, not {value.dtype}")
    counts = np.ones(t.shape, bool) if ignore_index is None else t != ignore_index
    p, t = p[counts].astype(np.int64), t[counts].astype(np.int64)
    for name, value in (("predictions", p), ("targets", t)):
        if value.size and (value.min() < 0 or value.max() >= classes):
            raise ValueError(
                f"region_iou: {name} reach from {value.min()} to {value.max()}, but the classes "
                f"are 0 to {classes - 1}"
            )
    table = np.bincount(t * classes + p, minlength=classes * classes).reshape(classes, classes)
    both = np.diag(table).astype(np.float64)
    union = table.sum(0) + table.sum(1) - both
    return np.divide(both, union, out=np.full(classes, np.nan), where=union > 0)


def mean_iou(
    predictions: Any, targets: Any, classes: int, ignore_index: int | None = None
) -> float:
    """The mean of `region_iou` over the classes that are there or predicted; NaN if none is.

    Everingham and others, "The Pascal visual object classes challenge", 2015.

    >>> mean_iou([[0, 0, 1, 1]], [[0, 1, 1, 1]], classes=3)
    0.5833333333333333
    """
    found = region_iou(predictions, targets, classes, ignore_index)
    found = found[~np.isnan(found)]
    return float(found.mean()) if found.size else float("nan")


def mask_iou(a: Any, b: Any) -> np.ndarray:
    """The overlap of each mask of one list with each of another: what both share, over their union.

    Args:
        a: `(n, ...)` booleans, such as `(n, H, W)`.
        b: `(m, ...)` booleans of the same spatial shape.

    Returns:
        `(n, m)`, float64, 0 for two empty masks.

    Raises:
        ValueError: spatial shapes differ; TypeError: masks that are no booleans.

    >>> mask_iou([[True, True, False]], [[True, False, False], [False, False, True]]).tolist()
    [[0.5, 0.0]]
    """
    first, second = plain(a), plain(b)
    for name, value in (("a", first), ("b", second)):
        if value.dtype != np.bool_:
            raise TypeError(f"mask_iou: {name} must hold booleans, not {value.dtype}")
    if not first.ndim or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"mask_iou: a and b must be (n, ...) and (m, ...), got {first.shape} and {second.shape}"
        )
    pixels = math.prod(first.shape[1:])
    rows, columns = (v.reshape(len(v), pixels).astype(np.float64) for v in (first, second))
    both = rows @ columns.T
    union = rows.sum(1)[:, None] + columns.sum(1) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)
