"""Data as NumPy arrays: datasets, transforms, and a loader that can be resumed bit-exactly.

Start at `dataset.py`, then `loader.py`.  `digits.py` and `mnist.py` are the two datasets of the
first examples; `files.py` and `idx.py` find and read what lies on disk, and trust none of it.
"""

from .dataset import ArrayDataset, Batch, Dataset, Normalize, Pictures, Subset, Transform
from .digits import Digits
from .idx import IdxError, read_idx
from .loader import Loader
from .mnist import MNIST
from .splits import stratified_folds

__all__ = [
    "MNIST",
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Digits",
    "IdxError",
    "Loader",
    "Normalize",
    "Pictures",
    "Subset",
    "Transform",
    "read_idx",
    "stratified_folds",
]
