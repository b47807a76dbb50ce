"""MNIST: 70,000 handwritten digits of 28x28 pixels.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

from .dataset import Normalize, Pictures
from .files import IdxFile, load_idx_files

__all__ = ["MNIST"]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = {
    "train": (
        IdxFile(
            "train-images-idx3-ubyte.gz",
            (60_000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        IdxFile(
            "train-labels-idx1-ubyte.gz",
            (60_000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    "test": (
        IdxFile(
            "t10k-images-idx3-ubyte.gz",
            (10_000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte.gz",
            (10_000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
}


class MNIST(Pictures):
    """Handwritten digits, pictures (N, 1, 28, 28) as float32 in [0, 1] and labels (N,) 0 to 9.

    The files are looked for in `mnist/` of the folder that MINIGRAD_DATA names, then in the cache
    folder, then downloaded (this needs the extra `data`); each is checked against its checksum.

    Args:
        split: `"train"` (60,000 samples) or `"test"` (10,000).

    Raises:
        ValueError: another split.
        FileNotFoundError: the files are nowhere; the message says which to put where.
        IdxError: a file in MINIGRAD_DATA is damaged or another one.
    """

    classes = tuple("0123456789")
    # Mean and standard deviation of a pixel of the training split.
    mean, std = 0.1307, 0.3081

    def __init__(self, split: str = "train") -> None:
        if split not in FILES:
            raise ValueError(f"split must be one of {', '.join(FILES)}, got {split!r}")
        pictures, labels = load_idx_files("mnist", FILES[split], MIRRORS)
        super().__init__(pictures[:, None], labels)
        self.split = split

    @classmethod
    def normalize(cls) -> Normalize:
        """The transform to mean 0 and deviation 1 over the training split."""
        return Normalize(cls.mean, cls.std)
