"""Data as NumPy arrays: datasets, transforms, and a loader that can be resumed bit-exactly.

Start at `dataset.py`, then `loader.py`.  `digits.py` and `mnist.py` are the two datasets of the
first examples; `files.py`, `idx.py`, `folder.py` and `archive.py` find and read what lies on disk,
and trust none of it.  `text.py` reads on through one text, `sequences.py` pads many, and
`synthetic.py` makes languages.  `samplers.py` chooses the order, `workers.py` and `processes.py`
prepare batches ahead.

`scenes.py` composes digits to pictures that know where everything is, for the other tasks of
seeing, and `captions.py` says it in words.
"""

from .archive import ArchiveError, extract
from .cifar import CIFAR10JPEG
from .corpora import Names, Shakespeare
from .dataset import ArrayDataset, Batch, Dataset, Normalize, Pictures, Subset, Transform
from .digits import Digits
from .errors import DataFileError
from .folder import ImageFolder, PictureError, read_picture
from .idx import IdxError, read_idx
from .loader import Loader
from .mnist import MNIST
from .samplers import (
    BalancedSampler,
    BucketSampler,
    RandomSampler,
    Sampler,
    StratifiedSampler,
    SubsetSampler,
    WeightedSampler,
)
from .scenes import BACKGROUND, Scene, Scenes
from .sequences import LabelledTexts, Lines, TextPairs, pad_sequences
from .splits import stratified_folds
from .subsets import ClassSubset, labels_of, labels_per_class, only_classes
from .synthetic import Dates, Reversals, Sentiments
from .text import Streams, Text, Windows
from .vocabulary import Characters, Vocabulary, Words
from .workers import WorkerError

__all__ = [
    "BACKGROUND",
    "CIFAR10JPEG",
    "MNIST",
    "ArchiveError",
    "ArrayDataset",
    "BalancedSampler",
    "Batch",
    "BucketSampler",
    "Characters",
    "ClassSubset",
    "DataFileError",
    "Dataset",
    "Dates",
    "Digits",
    "IdxError",
    "ImageFolder",
    "LabelledTexts",
    "Lines",
    "Loader",
    "Names",
    "Normalize",
    "PictureError",
    "Pictures",
    "RandomSampler",
    "Reversals",
    "Sampler",
    "Scene",
    "Scenes",
    "Sentiments",
    "Shakespeare",
    "StratifiedSampler",
    "Streams",
    "Subset",
    "SubsetSampler",
    "Text",
    "TextPairs",
    "Transform",
    "Vocabulary",
    "WeightedSampler",
    "Windows",
    "Words",
    "WorkerError",
    "extract",
    "labels_of",
    "labels_per_class",
    "only_classes",
    "pad_sequences",
    "read_idx",
    "read_picture",
    "stratified_folds",
]
