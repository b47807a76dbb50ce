"""Checkpoints and weights as safetensors files: written atomically, never trusted when read.

Start at `checkpoint.py`.  `tree.py` turns a state into arrays and JSON, `container.py` puts these
into a file with a checksum, and `atomic.py` puts the file in its place in one step.  Weights that
others trained come in through `pretrained.py`.
"""

from .atomic import write_atomically
from .checkpoint import Stateful, load_checkpoint, read_checkpoint, save_checkpoint
from .container import CheckpointError
from .pretrained import Loaded, MismatchError, load_pretrained, read_pretrained
from .weights import load_weights, read_weights, save_weights

__all__ = [
    "CheckpointError",
    "Loaded",
    "MismatchError",
    "Stateful",
    "load_checkpoint",
    "load_pretrained",
    "load_weights",
    "read_checkpoint",
    "read_pretrained",
    "read_weights",
    "save_checkpoint",
    "save_weights",
    "write_atomically",
]
