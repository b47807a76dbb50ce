"""Labelled pictures by name or from a place on disk, checked, as training and test set."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import MNIST, Digits, IdxError, Normalize, Pictures, read_idx

__all__ = ["DataError", "Source", "open_source"]

IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NPZ_ARRAYS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}


class DataError(ValueError):
    """A place on disk does not hold what can be trained on."""


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    Attributes:
        name: for folders and titles, such as `"digits"`.
        train: what to learn from.
        test: what is only looked at.
        normalize: to mean 0 and deviation 1 over the training set.
        classes: how many there are.
    """

    name: str
    train: Pictures
    test: Pictures
    normalize: Normalize
    classes: int

    @property
    def channels(self) -> int:
        """1 for grey pictures."""
        return int(self.train.pixels.shape[1])

    @property
    def size(self) -> int:
        """The side of the pictures."""
        return int(self.train.pixels.shape[2])


def open_source(data: str) -> Source:
    """The training and test set of a name or a place.

    Args:
        data: `"digits"` (1,797 embedded ones of 8x8), `"mnist"`, a folder with four IDX files named
            as MNIST's (packed with gzip or not), or an `.npz` file with the arrays `x_train`,
            `y_train`, `x_test` and `y_test`: bytes of shape (N, H, W) or (N, C, H, W), and class
            numbers (N,).

    Raises:
        DataError: there is nothing of the kind at this place.
        FileNotFoundError: MNIST is not at hand and cannot be downloaded.
        ModuleNotFoundError: digits, and scikit-learn is missing.
    """
    if data == "digits":
        return Source("digits", Digits("train"), Digits("test"), Digits.normalize(), 10)
    if data == "mnist":
        return Source("mnist", MNIST("train"), MNIST("test"), MNIST.normalize(), 10)
    path = Path(data).expanduser()
    if path.is_dir():
        arrays = {split: _from_folder(path, names) for split, names in IDX_FILES.items()}
    elif path.is_file() and path.suffix == ".npz":
        arrays = _from_npz(path)
    else:
        raise DataError(
            f"{data!r} is neither 'digits' nor 'mnist', nor a folder with IDX files, nor an .npz "
            "file" + ("" if path.exists() else " (there is nothing at this place)")
        )
    return _make(path, arrays)


def _from_folder(folder: Path, names: tuple[str, ...]) -> list[NDArray[Any]]:
    arrays = []
    for name in names:
        found = [place for place in (folder / name, folder / f"{name}.gz") if place.is_file()]
        if not found:
            wanted = ", ".join(name for pair in IDX_FILES.values() for name in pair)
            raise DataError(f"{folder} holds no {name}; these are wanted (also as .gz): {wanted}")
        try:
            arrays.append(read_idx(found[0]))
        except IdxError as error:
            raise DataError(str(error)) from error
    return arrays


def _from_npz(path: Path) -> dict[str, list[NDArray[Any]]]:
    try:
        # Objects in the file would be unpickled, and could run anything: they are refused.
        with np.load(path, allow_pickle=False) as file:
            return {split: [file[name] for name in names] for split, names in NPZ_ARRAYS.items()}
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        wanted = ", ".join(name for pair in NPZ_ARRAYS.values() for name in pair)
        raise DataError(f"{path} holds no arrays {wanted}: {error}") from error


def _make(path: Path, arrays: dict[str, list[NDArray[Any]]]) -> Source:
    sets = {}
    for split, (pixels, labels) in arrays.items():
        if pixels.ndim == 3:
            pixels = pixels[:, None]
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        try:
            sets[split] = Pictures(np.ascontiguousarray(pixels), labels)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {split}: {error}") from error
        if not len(labels) or labels.min() < 0:
            raise DataError(f"{path}: {split}: labels must be class numbers from 0, and not none")
    train, test = sets["train"], sets["test"]
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise DataError(
            f"{path}: training pictures are {train.pixels.shape[1:]}, test pictures "
            f"{test.pixels.shape[1:]}"
        )
    axes = (0, 2, 3)
    mean = train.pixels.mean(axes) / train.white
    std = train.pixels.std(axes) / train.white
    if not (std > 0).all():
        raise DataError(f"{path}: all training pictures are the same")
    classes = 1 + int(max(train.labels.max(), test.labels.max()))
    name = path.stem if path.suffix else path.name
    return Source(name or os.fspath(path), train, test, Normalize(mean, std), classes)
