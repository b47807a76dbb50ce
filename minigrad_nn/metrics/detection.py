"""How good lists of found things are: average precision, where a find must overlap a true thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad_nn.metrics.arrays import plain
from minigrad_nn.metrics.boxes import box_iou

__all__ = ["detection_ap", "mean_detection_ap"]

Overlap = Callable[[Any, Any], np.ndarray]


def detection_ap(
    found: Sequence[tuple[Any, Any, Any]],
    truths: Sequence[tuple[Any, Any]],
    classes: int,
    threshold: float = 0.5,
    overlap: Overlap = box_iou,
) -> np.ndarray:
    """Average precision of each class: how pure the finds are, over how many things are found.

    By falling score, each find takes the thing of its class and picture that it overlaps most
    among those not taken yet.  It is right if that overlap reaches the threshold; a second find of
    one thing is wrong.  As in Everingham and others, "The Pascal visual object classes challenge:
    a retrospective", 2015, the value is the whole area under precision over recall, where the
    precision at a recall is the highest at that or a larger one.  Finds with equal scores pass
    the threshold of scores together.

    Args:
        found: for each picture its finds: places, scores `(n,)` and class numbers `(n,)`.
        truths: for each picture its true things: places and class numbers.
        classes: how many there are.
        threshold: the least overlap of a right find, above 0 and at most 1.
        overlap: of two lists of places as `(n, m)`: `box_iou` for boxes `(n, 4)`, `mask_iou` for
            masks `(n, H, W)`.

    Returns:
        `(classes,)`, from 0 to 1; NaN for classes of which there is no true thing.

    Raises:
        ValueError: lists of different lengths, a number that is no class, or a score that is NaN.

    >>> truths = [([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 0])]
    >>> found = [([[0, 0, 10, 9], [50, 50, 60, 60], [20, 0, 30, 11]], [0.9, 0.8, 0.7], [0, 0, 0])]
    >>> detection_ap(found, truths, classes=1).round(3).tolist()
    [0.833]
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"detection_ap: threshold must be above 0 and at most 1, got {threshold}")
    if len(found) != len(truths):
        raise ValueError(
            f"detection_ap: found is of {len(found)} pictures, but truths of {len(truths)}"
        )
    positives = np.zeros(classes, np.int64)
    scores: list[list[float]] = [[] for _ in range(classes)]
    hits: list[list[bool]] = [[] for _ in range(classes)]
    for number, (finds, things) in enumerate(zip(found, truths, strict=True)):
        places, values, names = _finds(number, finds, classes)
        true_places, true_names = things[0], _names(number, things[1], classes)
        positives += np.bincount(true_names, minlength=classes)
        shared = overlap(places, true_places) if len(names) and len(true_names) else None
        free = np.ones(len(true_names), bool)
        for i in np.argsort(-values, kind="stable"):
            name = names[i]
            scores[name].append(values[i])
            hits[name].append(False)
            candidates = free & (true_names == name)
            if shared is None or not candidates.any():
                continue
            best = np.where(candidates, shared[i], -1.0).argmax()
            if shared[i, best] >= threshold:
                free[best] = False
                hits[name][-1] = True
    pairs = zip(scores, hits, positives, strict=True)
    return np.array([_area(np.array(s), np.array(h, bool), int(n)) for s, h, n in pairs])


def _names(number: int, given: Any, classes: int) -> np.ndarray:
    names = plain(given)
    if not names.size:
        return np.zeros(0, np.int64)
    if names.ndim != 1 or names.dtype.kind not in "iu":
        raise ValueError(
            f"detection_ap: classes of picture {number} must be integers (n,), got {names.dtype} "
            f"{names.shape}"
        )
    if names.min() < 0 or names.max() >= classes:
        raise ValueError(
            f"detection_ap: classes of picture {number} reach from {names.min()} to {names.max()}, "
            f"but they are 0 to {classes - 1}; leave padding out"
        )
    return names.astype(np.int64)


def _finds(
    number: int, finds: tuple[Any, Any, Any], classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places, values = plain(finds[0]), plain(finds[1]).astype(np.float64)
    names = _names(number, finds[2], classes)
    if not len(places) == len(values) == len(names) or values.ndim != 1:
        raise ValueError(
            f"detection_ap: picture {number} has {len(places)} places, scores of shape "
            f"{values.shape} and {len(names)} classes; one of each a find is wanted"
        )
    if np.isnan(values).any():
        raise ValueError(f"detection_ap: picture {number} has a score that is NaN")
    return places, values, names


def _area(scores: np.ndarray, hits: np.ndarray, positives: int) -> float:
    """The area under the precision that never rises with recall."""
    if not positives:
        return float("nan")
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # of each run of equal scores
    right = np.cumsum(hits[order])[last]
    precision = right / (np.flatnonzero(last) + 1.0)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(right, prepend=0) * precision) / positives)


def mean_detection_ap(
    found: Sequence[tuple[Any, Any, Any]],
    truths: Sequence[tuple[Any, Any]],
    classes: int,
    thresholds: float | Sequence[float] = 0.5,
    overlap: Overlap = box_iou,
) -> float:
    """The mean of `detection_ap` over the classes that are there, and over thresholds: mAP.

    Args:
        found, truths, classes, overlap: as for `detection_ap`.
        thresholds: 0.5 for mAP@0.5; `np.arange(0.5, 1.0, 0.05)` for the mean of Lin and others,
            "Microsoft COCO", 2014.

    Returns:
        From 0 to 1; NaN if there is no true thing at all.

    Raises:
        ValueError: as `detection_ap`, or no thresholds.
    """
    levels = np.atleast_1d(np.asarray(thresholds, np.float64))
    if not levels.size:
        raise ValueError("mean_detection_ap: thresholds must hold at least one number")
    values = np.stack([detection_ap(found, truths, classes, float(t), overlap) for t in levels])
    there = ~np.isnan(values)
    return float(values[there].mean()) if there.any() else float("nan")
