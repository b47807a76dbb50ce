"""Boxes `x0, y0, x1, y1`: how well they overlap, and which of many that mean the same are kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad_nn.metrics.arrays import plain

__all__ = ["box_iou", "nms", "paired_box_iou"]


def _boxes(name: str, value: Any) -> np.ndarray:
    boxes = plain(value)
    if boxes.size == 0 and boxes.ndim < 2:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: boxes must be (n, 4), x0, y0, x1, y1, got shape {boxes.shape}")
    if np.isnan(boxes).any():
        raise ValueError(f"{name}: a box holds NaN")
    return boxes.astype(np.float64)


def _area(corners: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(corners[..., 2:] - corners[..., :2], 0.0), axis=-1)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    both = _area(
        np.concatenate(
            [np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=-1
        )
    )
    union = _area(a) + _area(b) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def box_iou(a: Any, b: Any) -> np.ndarray:
    """The overlap of each box of one list with each of another: intersection over union.

    Args:
        a: `(n, 4)`, x0, y0, x1, y1; a box whose x1 <= x0 or y1 <= y0 is empty.
        b: `(m, 4)`.

    Returns:
        `(n, m)`, float64 from 0 to 1; 0 for two empty boxes.

    Raises:
        ValueError: other shapes, or NaN.

    >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6]]).round(3).tolist()
    [[0.333, 1.0, 0.0]]
    """
    return _iou(_boxes("box_iou", a)[:, None], _boxes("box_iou", b)[None])


def paired_box_iou(a: Any, b: Any) -> np.ndarray:
    """The overlap of each box with the one at the same place of another list.

    Args:
        a: `(n, 4)`, x0, y0, x1, y1.
        b: `(n, 4)`.

    Returns:
        `(n,)`, float64 from 0 to 1.

    Raises:
        ValueError: shapes that differ or are others, or NaN.
    """
    first, second = _boxes("paired_box_iou", a), _boxes("paired_box_iou", b)
    if first.shape != second.shape:
        raise ValueError(
            f"paired_box_iou: as many boxes in both lists, got {len(first)} and {len(second)}; "
            "box_iou compares each with each"
        )
    return _iou(first, second)


def nms(boxes: Any, scores: Any, iou_threshold: float = 0.5, classes: Any = None) -> np.ndarray:
    """Non-maximum suppression: of boxes that overlap, only the one with the highest score stays.

    Boxes are taken by falling score, equal ones in their order; each is kept unless it overlaps one
    that was kept by more than the threshold.

    Args:
        boxes: `(n, 4)`, x0, y0, x1, y1.
        scores: `(n,)`.
        iou_threshold: from 0 to 1.
        classes: `(n,)`; with them, boxes of different classes do not suppress each other.

    Returns:
        The places of those that stay, by falling score.

    Raises:
        ValueError: lengths that differ, a NaN, or a threshold out of its range.

    >>> nms([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10]], [0.8, 0.9, 0.7]).tolist()
    [1, 2]
    """
    corners, values = _boxes("nms", boxes), plain(scores)
    kinds = np.zeros(len(corners), np.int64) if classes is None else plain(classes)
    if values.shape != corners.shape[:1] or kinds.shape != corners.shape[:1]:
        raise ValueError(
            f"nms: scores and classes must be ({len(corners)},), as many as boxes, got "
            f"{values.shape} and {kinds.shape}"
        )
    if np.isnan(values).any():
        raise ValueError("nms: a score is NaN, which has no place in an order")
    if not 0.0 <= iou_threshold <= 1.0:
        raise ValueError(f"nms: iou_threshold must be from 0 to 1, got {iou_threshold}")
    order = np.argsort(-values, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        apart = _iou(corners[best], corners[rest]) <= iou_threshold
        order = rest[apart | (kinds[rest] != kinds[best])]
    return np.array(kept, np.int64)
