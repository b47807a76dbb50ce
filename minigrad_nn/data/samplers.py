"""Samplers: the order in which a `Loader` takes samples, where shuffling alone is not wanted.

A sampler holds no state and no seed.  The loader gives it a generator that belongs to the epoch, so
an order is a function of the loader's seed and the epoch alone, and a loader resumes bit-exactly
with any sampler.  One of your own needs only `__len__` and `order`.
"""

from __future__ import annotations

import operator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.random import Generator

__all__ = [
    "BalancedSampler",
    "BucketSampler",
    "RandomSampler",
    "Sampler",
    "StratifiedSampler",
    "SubsetSampler",
    "WeightedSampler",
]


class Sampler(Protocol):
    """What chooses the samples of an epoch and their order."""

    def __len__(self) -> int:
        """How many samples an epoch has."""

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch's samples in their order, (len(self),).

        Args:
            generator: of the epoch; whatever is random comes from it.
        """


class RandomSampler:
    """Samples in random order, each equally likely.

    Args:
        size: how many samples there are.
        count: how many an epoch takes; None for as many as there are.
        replacement: draw each anew from all, so that one may come twice and another not at all;
            else none comes twice.

    Raises:
        TypeError, ValueError: numbers that are negative or no integers, more samples than there are
            without replacement, or any from none.

    >>> sorted(RandomSampler(4).order(Generator(0)).tolist())
    [0, 1, 2, 3]
    """

    def __init__(self, size: int, count: int | None = None, *, replacement: bool = False) -> None:
        self.size = _count("size", size)
        self.count = _count("count", size if count is None else count)
        self.replacement = bool(replacement)
        if self.count > self.size and not (self.replacement and self.size):
            raise ValueError(
                f"RandomSampler cannot take {self.count} of {self.size} samples"
                + ("" if self.replacement else "; replacement=True lets samples come twice")
            )

    def __len__(self) -> int:
        return self.count

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch, (count,)."""
        if not self.replacement:
            return generator.permutation(self.size)[: self.count]
        if not self.count:
            return np.arange(0)
        return generator.integers(self.count, 0, self.size)


class SubsetSampler:
    """Only some of the samples, shuffled or as they are given.

    Args:
        indices: (n,), whole numbers from 0; they may repeat.
        shuffle: a new random order each epoch.

    Raises:
        TypeError, ValueError: indices of another kind or shape, or negative ones.
    """

    def __init__(self, indices: ArrayLike, *, shuffle: bool = True) -> None:
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise TypeError(
                f"SubsetSampler: indices must be whole numbers along one axis, got {chosen.dtype} "
                f"of shape {chosen.shape}"
            )
        if chosen.size and chosen.min() < 0:
            raise ValueError(f"SubsetSampler: indices must not be negative, got {chosen.min()}")
        self.indices = chosen.astype(np.int64)
        self.shuffle = bool(shuffle)

    def __len__(self) -> int:
        return len(self.indices)

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch, (n,)."""
        if not self.shuffle:
            return self.indices.copy()
        return self.indices[generator.permutation(len(self.indices))]


class WeightedSampler:
    """Each sample as often as its weight says, such as rare ones more often than they are.

    Args:
        weights: (N,), finite and at least 0; only their ratios count.  A sample of weight 0 never
            comes.
        count: how many an epoch takes; None for N.
        replacement: draw each anew from all.  Else none comes twice, and each draw is by the
            weights of those that are left.

    Raises:
        ValueError: weights of another shape or sign, none above 0, or too few of them without
            replacement.

    Source: without replacement, P. Efraimidis, P. Spirakis, "Weighted random sampling with a
    reservoir", 2006.

    >>> WeightedSampler([0, 1, 0], count=4).order(Generator(0)).tolist()
    [1, 1, 1, 1]
    """

    def __init__(
        self, weights: ArrayLike, count: int | None = None, *, replacement: bool = True
    ) -> None:
        self.weights = np.array(weights, dtype=np.float64)
        if (
            self.weights.ndim != 1
            or not np.isfinite(self.weights).all()
            or (self.weights < 0).any()
        ):
            raise ValueError(
                "WeightedSampler: weights must be finite numbers >= 0 of shape (N,), got shape "
                f"{self.weights.shape}"
            )
        if not (self.weights > 0).any():
            raise ValueError("WeightedSampler: at least one weight must be above 0")
        self.count = _count("count", len(self.weights) if count is None else count)
        self.replacement = bool(replacement)
        able = int((self.weights > 0).sum())
        if not self.replacement and self.count > able:
            raise ValueError(
                f"WeightedSampler cannot take {self.count} samples without replacement: {able} "
                "have a weight above 0"
            )
        self.weights /= self.weights.max()  # so that sums stay finite

    def __len__(self) -> int:
        return self.count

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch, (count,)."""
        able = np.flatnonzero(self.weights)
        weights = self.weights[able]
        if self.replacement:
            reached = np.cumsum(weights)
            drawn = generator.random(self.count, dtype=np.float64) * reached[-1]
            places = np.searchsorted(reached, drawn, side="right")
            return able[np.minimum(places, len(able) - 1)]
        # The times of the first events of independent processes, with the weights as their rates.
        with np.errstate(over="ignore"):  # a weight next to nothing comes last
            times = -np.log1p(-generator.random(len(able), dtype=np.float64)) / weights
        return able[np.argsort(times, kind="stable")[: self.count]]


class StratifiedSampler:
    """All samples once an epoch, in an order in which every stretch has all classes in proportion.

    Of any `n` samples in a row, and so of a batch, a class of `c` of the `N` samples has
    `n * c / N`, give or take fewer than `1 + K * c / N` (with K classes): no batch is short of a
    class by bad luck.

    Args:
        labels: (N,), the class of each sample.

    Raises:
        ValueError: labels of another shape.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    >>> for part in np.split(labels[StratifiedSampler(labels).order(Generator(0))], 2):
    ...     print(sorted(part.tolist()))
    [0, 0, 1, 2]
    [0, 0, 1, 2]
    """

    def __init__(self, labels: ArrayLike) -> None:
        self.labels = _labels(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch, (N,)."""
        # The samples of a class stand evenly spaced on a line from 0 to 1, from a random start.
        places = np.empty(len(self.labels))
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            start = generator.random(dtype=np.float64)
            places[members] = (generator.permutation(len(members)) + start) / len(members)
        return np.argsort(places, kind="stable")


class BalancedSampler:
    """All classes equally often, however many samples they have.

    The order is rounds in which each class comes once.  Each class goes through its samples in
    random order, and again when they are used up: those of a small class repeat, and none comes
    twice more often than another of its class.

    Args:
        labels: (N,), the class of each sample.
        count: how many an epoch takes; None for N.

    Raises:
        ValueError: labels of another shape, or any samples from none.

    >>> labels = np.array([0, 0, 0, 0, 0, 1])
    >>> np.bincount(labels[BalancedSampler(labels).order(Generator(0))]).tolist()
    [3, 3]
    """

    def __init__(self, labels: ArrayLike, count: int | None = None) -> None:
        self.labels = _labels(labels)
        self.count = _count("count", len(self.labels) if count is None else count)
        if self.count and not len(self.labels):
            raise ValueError(f"BalancedSampler cannot take {self.count} of 0 samples")

    def __len__(self) -> int:
        return self.count

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch, (count,)."""
        classes = np.unique(self.labels)
        if not self.count:
            return np.arange(0)
        rounds = -(-self.count // len(classes))
        chosen = np.empty((rounds, len(classes)), dtype=np.int64)
        for number, label in enumerate(classes):
            members = np.flatnonzero(self.labels == label)
            turns = -(-rounds // len(members))
            shuffled = [members[generator.permutation(len(members))] for _ in range(turns)]
            chosen[:, number] = np.concatenate(shuffled)[:rounds]
        ranks = generator.random(chosen.shape, dtype=np.float64)
        return np.take_along_axis(chosen, np.argsort(ranks, axis=1), axis=1).ravel()[: self.count]


class BucketSampler:
    """All samples once an epoch, in batches of similar length: less of a batch is padding.

    The samples are shuffled, cut into pools, sorted by length within a pool, and cut into batches,
    which are shuffled again.

    Args:
        lengths: (N,), the length of each sample.
        batch_size: of the loader.
        pool: how many batches are sorted together; more is less padding and less chance.

    Raises:
        TypeError, ValueError: lengths of another kind or shape, a number below 1.

    >>> lengths = np.array([1, 9, 2, 9, 1, 9, 2, 9])
    >>> order = BucketSampler(lengths, batch_size=2).order(Generator(0))
    >>> sorted(lengths[order].reshape(-1, 2).tolist())
    [[1, 1], [2, 2], [9, 9], [9, 9]]
    """

    def __init__(self, lengths: ArrayLike, batch_size: int, pool: int = 50) -> None:
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1 or (self.lengths.size and self.lengths.dtype.kind not in "iu"):
            raise ValueError(
                "BucketSampler: lengths must be whole numbers of shape (N,), got "
                f"{self.lengths.dtype} of shape {self.lengths.shape}"
            )
        self.batch_size = _count("batch_size", batch_size, least=1)
        self.pool = _count("pool", pool, least=1)

    def __len__(self) -> int:
        return len(self.lengths)

    def order(self, generator: Generator) -> NDArray[np.int64]:
        """The indices of an epoch, (N,); a batch that is not full is the last."""
        size = self.batch_size
        order = generator.permutation(len(self.lengths))
        whole = len(order) // size * size
        pools = np.split(order[:whole], range(size * self.pool, whole, size * self.pool))
        ordered = [part[np.argsort(self.lengths[part], kind="stable")] for part in pools]
        batches = np.concatenate(ordered).reshape(-1, size)
        shuffled = batches[generator.permutation(len(batches))]
        return np.concatenate([shuffled.ravel(), order[whole:]])


def _count(name: str, value: Any, least: int = 0) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
    return count


def _labels(labels: ArrayLike) -> NDArray[Any]:
    found = np.asarray(labels)
    if found.ndim != 1:
        raise ValueError(f"labels must be of shape (N,), got {found.shape}")
    return found
