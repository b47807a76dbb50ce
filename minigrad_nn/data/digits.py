"""The embedded digits: 1,797 handwritten digits of 8x8 pixels, which come with scikit-learn.

They need no download and train in seconds, so they are the default of every first try.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository (the test set of that collection).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dataset import Normalize, Pictures
from .splits import every_nth_of_each_class

__all__ = ["Digits"]

SPLITS = ("train", "test", "all")


class Digits(Pictures):
    """Handwritten digits, pictures (N, 1, 8, 8) as float32 in [0, 1] and labels (N,) 0 to 9.

    Args:
        split: `"train"` (1,433 samples), `"test"` (364, every fifth of each digit), or `"all"`
            (1,797, in the original order; for folds of your own).

    Raises:
        ValueError: another split.
        ModuleNotFoundError: scikit-learn is missing.

    >>> digits = Digits("test")
    >>> pictures, labels = digits[:4]
    >>> pictures.shape, pictures.dtype.name, labels.tolist()
    ((4, 1, 8, 8), 'float32', [0, 1, 2, 3])
    """

    classes = tuple("0123456789")
    # Mean and standard deviation of a pixel of the training split.
    mean, std = 0.3054, 0.3763

    def __init__(self, split: str = "train") -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        pixels, labels = _load()
        if split != "all":
            chosen = every_nth_of_each_class(labels, 5) == (split == "test")
            pixels, labels = pixels[chosen], labels[chosen]
        super().__init__(pixels, labels, white=16)
        self.split = split

    @classmethod
    def normalize(cls) -> Normalize:
        """The transform to mean 0 and deviation 1 over the training split."""
        return Normalize(cls.mean, cls.std)


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Digits reads the digits that come with scikit-learn, which is not installed: "
            'pip install "minigrad[data]"'
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    return pixels.astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)
