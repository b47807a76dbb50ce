"""Data as NumPy arrays: datasets, transforms, and a loader that can be resumed bit-exactly.

Start at `dataset.py`, then `loader.py`.  `digits.py` and `mnist.py` are the two datasets of the
first examples; `files.py` and `idx.py` find and read what lies on disk, and trust none of it.
`scenes.py` composes digits to pictures that know where everything is, for the other tasks of
seeing, and `captions.py` says it in words.
"""

from .archive import ArchiveError, extract
from .cifar import CIFAR10JPEG
from .dataset import ArrayDataset, Batch, Dataset, Normalize, Pictures, Subset, Transform
from .digits import Digits
from .errors import DataFileError
from .folder import ImageFolder, PictureError, read_picture
from .idx import IdxError, read_idx
from .loader import Loader
from .mnist import MNIST
from .scenes import BACKGROUND, Scene, Scenes
from .splits import stratified_folds

__all__ = [
    "BACKGROUND",
    "CIFAR10JPEG",
    "MNIST",
    "ArchiveError",
    "ArrayDataset",
    "Batch",
    "DataFileError",
    "Dataset",
    "Digits",
    "IdxError",
    "ImageFolder",
    "Loader",
    "Normalize",
    "PictureError",
    "Pictures",
    "Scene",
    "Scenes",
    "Subset",
    "Transform",
    "extract",
    "read_idx",
    "read_picture",
    "stratified_folds",
]
