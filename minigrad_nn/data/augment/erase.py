"""`RandomErasing`: a box of each picture is covered, so that no single part can be relied on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.random import Generator

from ..dataset import Batch
from .boxes import draw_boxes, draw_corners
from .checks import need_pictures, need_share, range_of

__all__ = ["RandomErasing"]


class RandomErasing:
    """Covers a random box of each picture with probability `p`.

    Zhong and others, "Random erasing data augmentation", 2017: the box's share of the area is
    uniform in `scale`, the logarithm of its width over height uniform in that of `ratio`; a box
    that does not fit is drawn again, up to 10 times, and then nothing is covered.

    Args:
        p: in [0, 1].
        scale: the least and largest share of the area, in [0, 1].
        ratio: the least and largest width / height, above 0.
        value: what covers: a number, or "random" for normal numbers, each pixel its own (mean 0 and
            deviation 1, so after `Normalize`).

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | str = 0.0,
    ) -> None:
        self.p = need_share("RandomErasing", "p", p)
        self.scale = range_of("RandomErasing", "scale", scale, 0.0, 1.0)
        self.ratio = range_of("RandomErasing", "ratio", ratio, 0.0)
        if not self.ratio[0]:
            raise ValueError(f"RandomErasing: ratio must be above 0, got {ratio!r}")
        if isinstance(value, str) and value != "random":
            raise ValueError(f'RandomErasing: value must be a number or "random", got {value!r}')
        self.value = value

    def __repr__(self) -> str:
        return (
            f"RandomErasing({self.p}, scale={self.scale}, ratio={self.ratio}, value={self.value!r})"
        )

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with boxes of its first array, (N, C, H, W), covered."""
        random = self.value == "random"
        x = need_pictures("RandomErasing", batch[0], floats=random)
        height, width = size = x.shape[2], x.shape[3]
        chosen = generator.bernoulli(len(x), self.p)
        tall, wide, fits = draw_boxes(len(x), size, self.scale, self.ratio, generator)
        tall, wide = np.where(fits, tall, 0), np.where(fits, wide, 0)
        top, left = draw_corners(size, tall, wide, generator)
        in_rows = _between(top, tall, height) & (chosen & fits)[:, None]
        covered = in_rows[:, None, :, None] & _between(left, wide, width)[:, None, None, :]
        value = generator.normal(x.shape, dtype=x.dtype) if random else x.dtype.type(self.value)
        return np.where(covered, value, x), *batch[1:]


def _between(first: np.ndarray, many: np.ndarray, size: int) -> np.ndarray:
    """(N, size): which lines are among the `many` from `first` on."""
    lines = np.arange(size)
    return (lines >= first[:, None]) & (lines < (first + many)[:, None])
