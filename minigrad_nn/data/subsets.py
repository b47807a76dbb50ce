"""Parts of a labelled dataset: only some classes, or only a few samples of each.

For transfer, a network learns some classes and moves to the others; for learning with few labels,
it sees only so many of each class.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator, as_generator

from .dataset import ArrayDataset, Batch, Dataset, Index, Subset
from .samplers import _count

__all__ = ["ClassSubset", "labels_of", "labels_per_class", "only_classes"]


def labels_of(dataset: Dataset) -> NDArray[np.int64]:
    """The class of each sample of a dataset, (N,), without reading the samples.

    They are its `labels`, or the second of the arrays of an `ArrayDataset`; a `Subset` has those
    that it takes.

    Raises:
        TypeError: a dataset that has none, or labels that are not whole numbers.

    >>> labels_of(Subset(ArrayDataset([0.5, 1.5, 2.5], [7, 8, 9]), [2, 0])).tolist()
    [9, 7]
    """
    found: Any = getattr(dataset, "labels", None)
    if found is None and isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[dataset.indices]
    if found is None and isinstance(dataset, ArrayDataset) and len(dataset.arrays) > 1:
        found = dataset.arrays[1]
    labels = np.asarray(found)
    if found is None or labels.dtype.kind not in "iu" or labels.shape != (len(dataset),):
        what = "none" if found is None else f"{labels.dtype} of shape {labels.shape}"
        raise TypeError(
            f"a {type(dataset).__name__} of {len(dataset)} samples should have `labels`, a whole "
            f"number for each; it has {what}"
        )
    return labels.astype(np.int64, copy=False)


def labels_per_class(dataset: Dataset, count: int, seed: Generator | SupportsIndex = 0) -> Subset:
    """A few samples of each class, drawn by seed, in the order of the dataset.

    With the same seed, those of a smaller count are among those of a larger one.

    Args:
        dataset: that `labels_of` knows the labels of.
        count: samples of each class, at least 1.
        seed: a number or a generator (which is forked, not drawn from).

    Raises:
        TypeError, ValueError: no labels, or a class with fewer samples.

    >>> few = labels_per_class(ArrayDataset(np.arange(6), [0, 0, 0, 1, 1, 1]), 2)
    >>> few[:][1].tolist()
    [0, 0, 1, 1]
    """
    count = _count("count", count, least=1)
    labels = labels_of(dataset)
    classes, sizes = np.unique(labels, return_counts=True)
    if not classes.size:
        raise ValueError("labels_per_class: the dataset has no samples")
    if sizes.min() < count:
        smallest = sizes.argmin()
        raise ValueError(
            f"labels_per_class: count={count}, but class {classes[smallest]} has only "
            f"{sizes[smallest]} samples"
        )
    generator = as_generator(seed).fork("labels per class")
    chosen = [
        np.flatnonzero(labels == label)[generator.fork(int(label)).permutation(int(size))[:count]]
        for label, size in zip(classes, sizes, strict=True)
    ]
    return Subset(dataset, np.sort(np.concatenate(chosen)))


class ClassSubset(Subset):
    """The samples of some classes, with labels as they were or counted anew.

    Made by `only_classes`.

    Attributes:
        labels: (n,), of the samples, as batches have them.
        classes: the names that belong to these labels, if the dataset has names and the labels are
            counted anew; else those of the dataset, or None.
    """

    def __init__(self, dataset: Dataset, chosen: Sequence[int], relabel: bool) -> None:
        labels = labels_of(dataset)
        super().__init__(dataset, np.flatnonzero(np.isin(labels, chosen)))
        self._numbers = dict(zip(chosen, range(len(chosen)), strict=True)) if relabel else None
        self.labels = self._relabelled(labels[self.indices])
        names: Any = getattr(dataset, "classes", None)
        self.classes: tuple[str, ...] | None = None if names is None else tuple(names)
        if self.classes is not None and relabel:
            self.classes = tuple(self.classes[label] for label in chosen)

    def _relabelled(self, labels: Any) -> Any:
        if self._numbers is None:
            return labels
        if np.ndim(labels) == 0:
            return np.int64(self._numbers[int(labels)])
        return np.array([self._numbers[label] for label in labels.tolist()], dtype=np.int64)

    def __getitem__(self, index: Index) -> Batch:
        """The samples at an index, the second array of which is their labels."""
        pictures, labels, *others = super().__getitem__(index)
        return pictures, self._relabelled(labels), *others


def only_classes(
    dataset: Dataset, classes: Sequence[int | str], *, relabel: bool = True
) -> ClassSubset:
    """The samples of some classes, in the order of the dataset.

    Args:
        dataset: that `labels_of` knows the labels of, and whose batches are (inputs, labels, ...).
        classes: their numbers; or their names, if the dataset has `classes`.
        relabel: count the classes anew from 0 in the order in which they are given, as a network
            with so many outputs needs it.

    Raises:
        TypeError, ValueError: no labels; a class that is given twice or is not in the dataset.

    >>> part = only_classes(ArrayDataset(np.arange(5), [0, 1, 2, 1, 2]), [2, 0])
    >>> [array.tolist() for array in part[:]]
    [[0, 2, 4], [1, 0, 0]]
    """
    names: list[str] = list(getattr(dataset, "classes", None) or ())
    chosen = []
    for given in classes:
        if isinstance(given, str):
            if given not in names:
                raise ValueError(f"only_classes: there is no class {given!r}, only {names}")
            chosen.append(names.index(given))
        else:
            chosen.append(operator.index(given))
    present = set(np.unique(labels_of(dataset)).tolist())
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"only_classes: give one or more different classes, got {list(classes)}")
    if missing := [label for label in chosen if label not in present]:
        raise ValueError(
            f"only_classes: no sample has class {missing}; there are {sorted(present)}"
        )
    return ClassSubset(dataset, chosen, relabel)
