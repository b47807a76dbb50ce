"""Datasets: what a `Loader` draws batches from, and the ways to hold, cut and normalise one.

A dataset has a length and gives samples by index.  Indices may be arrays: one call gives a whole
batch, as a tuple of NumPy arrays with the samples along axis 0.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.random import Generator

__all__ = ["ArrayDataset", "Batch", "Dataset", "Normalize", "Pictures", "Subset", "Transform"]

Batch = tuple[NDArray[Any], ...]
Index = int | slice | NDArray[Any]


class Dataset(Protocol):
    """Anything with a length that gives a batch for an array of indices."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: Any) -> Batch:
        """The samples at an index, a slice, or an array of indices: a tuple of arrays."""


class Transform(Protocol):
    """What a `Loader` does to each batch.

    Randomness is drawn from the generator that comes with the batch: it belongs to the epoch and
    the batch, so a resumed run sees the same numbers.
    """

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch as it should be; its arrays may be changed in place."""


class ArrayDataset:
    """Arrays of one length, taken together: pictures and labels, or inputs and targets.

    Args:
        arrays: one or more, each with the samples along axis 0.  They are not copied.

    Raises:
        ValueError: no array, a scalar, or different lengths.

    >>> dataset = ArrayDataset([[1.0], [2.0], [3.0]], [0, 1, 0])
    >>> len(dataset)
    3
    >>> x, y = dataset[np.array([2, 0])]
    >>> x.tolist(), y.tolist()
    ([[3.0], [1.0]], [0, 0])
    """

    def __init__(self, *arrays: ArrayLike) -> None:
        self.arrays: Batch = tuple(np.asarray(array) for array in arrays)
        lengths = [len(array) if array.ndim else None for array in self.arrays]
        if not lengths or None in lengths or len(set(lengths)) > 1:
            shapes = [array.shape for array in self.arrays]
            raise ValueError(
                f"ArrayDataset needs one or more arrays of the same length along axis 0, got "
                f"shapes {shapes}"
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Index) -> Batch:
        return tuple(array[index] for array in self.arrays)


class Pictures:
    """Labelled pictures, held as bytes and given as float32 in [0, 1].

    Args:
        pixels: (N, C, H, W), unsigned bytes.
        labels: (N,), class numbers.
        white: the byte that stands for 1.0.

    Raises:
        TypeError, ValueError: another dtype or shape.
    """

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[Any], white: int = 255) -> None:
        if pixels.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise TypeError(
                f"Pictures needs pixels as uint8 and labels as integers, got {pixels.dtype} and "
                f"{labels.dtype}"
            )
        if pixels.ndim != 4 or labels.shape != pixels.shape[:1]:
            raise ValueError(
                "Pictures needs pixels (N, C, H, W) and labels (N,), got shapes "
                f"{pixels.shape} and {labels.shape}"
            )
        self.pixels = pixels
        self.labels = labels.astype(np.int64, copy=False)
        self.white = white

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Index) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pictures (n, C, H, W) and labels (n,); a single index gives (C, H, W) and a number."""
        return np.divide(self.pixels[index], self.white, dtype=np.float32), self.labels[index]


class Subset:
    """Some samples of a dataset, in the order of `indices`.

    Args:
        dataset: any dataset.
        indices: (n,), each in `[-len(dataset), len(dataset))`; they may repeat.

    Raises:
        TypeError, IndexError: indices that are no whole numbers, or out of range.
    """

    def __init__(self, dataset: Dataset, indices: ArrayLike) -> None:
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
            raise TypeError(
                f"indices must be whole numbers along one axis, got {chosen.dtype} of shape "
                f"{chosen.shape}; np.flatnonzero(mask) turns a mask into indices"
            )
        size = len(dataset)
        if chosen.size and not (-size <= chosen.min() and chosen.max() < size):
            raise IndexError(
                f"indices must be in [{-size}, {size}), got {chosen.min()} to {chosen.max()}"
            )
        self.dataset = dataset
        self.indices = chosen

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Index) -> Batch:
        return self.dataset[self.indices[index]]

    def source(self, index: int) -> str:
        """Where a sample comes from, for messages about it."""
        number = int(self.indices[index])
        told: Any = getattr(self.dataset, "source", None)
        return f"sample {number} of the whole dataset" if told is None else str(told(number))


class Normalize:
    """Gives each channel of the first array of a batch mean 0 and deviation 1: (x - mean) / std.

    Args:
        mean: of a channel in the training set, a number or one a channel.
        std: its standard deviation; all above 0.

    Raises:
        ValueError: shapes that differ, or a deviation that is not above 0.

    >>> normalize = Normalize(0.5, 0.25)
    >>> pictures = np.full((2, 1, 3, 3), 0.75, dtype=np.float32)
    >>> float(normalize.pictures(pictures).max())
    1.0
    """

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        self.mean, self.std = (np.atleast_1d(np.asarray(v, dtype=np.float32)) for v in (mean, std))
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape or not (self.std > 0).all():
            raise ValueError(
                "Normalize needs a mean and a std > 0 for each channel, got "
                f"mean={self.mean.tolist()}, std={self.std.tolist()}"
            )

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"

    def __call__(self, batch: Batch, generator: Generator | None = None) -> Batch:
        """The batch with its first array, (N, C, ...), normalised; the generator is not used."""
        return self.pictures(batch[0]), *batch[1:]

    def pictures(self, x: NDArray[Any]) -> NDArray[Any]:
        """Normalised (N, C, ...)."""
        return (x - self._along(self.mean, x)) / self._along(self.std, x)

    def undo(self, x: NDArray[Any]) -> NDArray[Any]:
        """The (N, C, ...) that was normalised to `x`: for showing pictures."""
        return x * self._along(self.std, x) + self._along(self.mean, x)

    @staticmethod
    def _along(values: NDArray[np.float32], x: NDArray[Any]) -> NDArray[np.float32]:
        """One value a channel, shaped to broadcast along axis 1."""
        if x.ndim < 2 or len(values) not in (1, x.shape[1]):
            raise ValueError(
                f"Normalize of {len(values)} channels got an array of shape {x.shape}; (N, C, ...) "
                "with that many channels is wanted"
            )
        return values.reshape(-1, *[1] * (x.ndim - 2))
