"""Stratified splits: each part holds every class in the proportion of the whole."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator, as_generator

__all__ = ["every_nth_of_each_class", "stratified_folds"]


def stratified_folds(
    labels: NDArray[Any], k: int, seed: Generator | SupportsIndex = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """`k` pairs of (training, test) indices; each sample is tested exactly once.

    Each class is shuffled and dealt to the folds in turn, going on where the class before it
    stopped: of every class, and of all samples, two folds differ by at most one.

    Args:
        labels: (N,), the class of each sample.
        k: how many folds, from 2 to the size of the smallest class.
        seed: a number or a generator; the same seed gives the same folds.

    Returns:
        Pairs of sorted index arrays.

    Raises:
        ValueError: labels of another shape, or a `k` that some class has too few samples for.

    >>> labels = np.array([0, 1, 0, 1, 0, 1])
    >>> for train, test in stratified_folds(labels, 3):
    ...     print(len(train), labels[test].tolist())
    4 [0, 1]
    4 [0, 1]
    4 [0, 1]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"labels must be of shape (N,) with N > 0, got {labels.shape}")
    classes, counts = np.unique(labels, return_counts=True)
    if not 2 <= k <= counts.min():
        raise ValueError(
            f"k must be from 2 to the size of the smallest class, {counts.min()} "
            f"(class {classes[counts.argmin()]}), got {k}"
        )
    generator = as_generator(seed).fork("stratified folds")
    fold = np.empty(len(labels), dtype=np.int64)
    dealt = 0
    for label, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)[generator.permutation(int(count))]
        fold[members] = (dealt + np.arange(count)) % k
        dealt += count
    return [(np.flatnonzero(fold != part), np.flatnonzero(fold == part)) for part in range(k)]


def every_nth_of_each_class(labels: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """A mask, (N,), of the first and then every `n`-th sample of each class, in the given order.

    It draws no numbers: a test set chosen so stays the same under any version of anything.

    >>> every_nth_of_each_class(np.array([0, 0, 1, 0, 1]), 2).tolist()
    [True, False, True, True, False]
    """
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[::n]] = True
    return mask
