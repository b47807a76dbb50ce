"""CIFAR-10 as a folder of JPEG files: 12,000 colour pictures of 32x32 pixels in 10 classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009 (a fifth of
the training pictures of CIFAR-10, and of its test pictures, compressed as JPEG).
"""

from __future__ import annotations

from pathlib import Path

from ..folders import data_folder
from .archive import extract
from .dataset import Normalize, Pictures
from .files import find_file
from .folder import ImageFolder, PictureError

__all__ = ["CIFAR10JPEG"]

NAME = "cifar10-jpeg-12k"
SHA256 = "9c086d06fb0790404fdec85f212e1093eae3497367ac85a0406c7cd244817593"
SIZES = {"train": 10_000, "test": 2_000}


class CIFAR10JPEG(Pictures):
    """Colour pictures (N, 3, 32, 32) as float32 in [0, 1] and labels (N,) 0 to 9, one a class.

    The pictures are sorted by class: shuffle them.  `cifar10-jpeg-12k.tar.xz` is looked for in the
    folder that MINIGRAD_DATA names, then in the cache folder, and checked against its checksum; it
    is unpacked once, into the cache folder.  A folder `cifar10-jpeg-12k` with `train/` and `test/`
    in the folder that MINIGRAD_DATA names is taken as it is.

    Args:
        split: `"train"` (1,000 pictures of each class) or `"test"` (200 of each).

    Raises:
        ValueError: another split.
        FileNotFoundError: the archive is nowhere; the message says where to put it.
        DataFileError: the archive or a picture is damaged, or another one.
        ModuleNotFoundError: Pillow is missing.
    """

    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    # Mean and standard deviation of red, green and blue in the training split.
    mean, std = (0.4911, 0.4815, 0.4466), (0.2449, 0.2430, 0.2614)

    def __init__(self, split: str = "train") -> None:
        if split not in SIZES:
            raise ValueError(f"split must be one of {', '.join(SIZES)}, got {split!r}")
        folder = _folder() / split
        found = ImageFolder(folder, classes=self.classes, in_memory=True)
        if found.pixels is None or found.pixels.shape != (SIZES[split], 3, 32, 32):
            raise PictureError(
                f"{folder} holds {len(found)} pictures of {found.shape[1]} x {found.shape[2]} "
                f"pixels, wanted {SIZES[split]} of 32 x 32; remove {folder.parent}, so that the "
                "archive is unpacked anew"
            )
        super().__init__(found.pixels, found.labels)
        self.paths = found.paths
        """The file of each sample."""
        self.split = split

    @classmethod
    def normalize(cls) -> Normalize:
        """The transform of each channel to mean 0 and deviation 1 over the training split."""
        return Normalize(cls.mean, cls.std)


def _folder() -> Path:
    """The unpacked archive."""
    given = data_folder()
    if given is not None and (given / NAME).is_dir():
        return given / NAME
    return extract(find_file(f"{NAME}.tar.xz", SHA256), max_bytes=64 << 20) / NAME
