"""Changes of pictures that keep what they show: a network that sees them learns to ignore them.

Each is a `Transform` for a `Loader`: it takes a batch, whose first array is pictures (N, C, H, W),
and a random generator, draws numbers of its own for every picture, and gives the batch back; what
else is in it, such as labels, passes through untouched (but for `Mixup`, which mixes both).  The
same generator gives the same bits.  `Compose` does several in a row.

================================ ============================================= ===================
file                             changes                                       pictures
================================ ============================================= ===================
`crop.py`                        `RandomHorizontalFlip`, `RandomCrop`,         of any type
                                 `CenterCrop`
`resize.py`                      `Resize`, `RandomResizedCrop`                 floats
`shift.py`                       `RandomShift`                                 floats
`geometry.py`                    `RandomAffine`, `ElasticDistortion`,          floats
                                 `LensDistortion`, `Distortions`
`color.py`                       `ColorJitter`, `ColorCast`                    floats, RGB in [0, 1]
`erase.py`                       `RandomErasing`                               of any type
`mix.py`                         `Mixup`                                       floats, and labels
================================ ============================================= ===================

Start at `sampling.py`: every geometric change is a table of where each new pixel looks, and one
function that looks there, between pixels.  Floats are float32 or float64; the changes that only
move or cover whole pixels take bytes as well, the others refuse them.

Is it always possible?  Only if the label stays true.  A cat seen in a mirror is a cat; the mirror
image of a 2 is no digit at all, a 6 turned by 180 degrees is a 9, and a banana in a blue cast might
be unripe.  Ask for each change whether it would fool you: `examples/mnist_ladder.py` measures what
flipped digits cost.
"""

from .color import ColorCast, ColorJitter
from .compose import Compose
from .crop import CenterCrop, RandomCrop, RandomHorizontalFlip
from .erase import RandomErasing
from .geometry import (
    Distortions,
    ElasticDistortion,
    Geometric,
    LensDistortion,
    RandomAffine,
)
from .mix import Mixup
from .resize import RandomResizedCrop, Resize, resize
from .sampling import pixel_grid, sample
from .shift import RandomShift, shift

__all__ = [
    "CenterCrop",
    "ColorCast",
    "ColorJitter",
    "Compose",
    "Distortions",
    "ElasticDistortion",
    "Geometric",
    "LensDistortion",
    "Mixup",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomShift",
    "Resize",
    "pixel_grid",
    "resize",
    "sample",
    "shift",
]
