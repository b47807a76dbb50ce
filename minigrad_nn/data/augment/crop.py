"""Mirrors and windows: changes that only move whole pixels, so they take pictures of any type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from minigrad.random import Generator

from ..dataset import Batch
from .checks import need_pictures, need_share, pair_of_sizes
from .sampling import MODES

__all__ = ["CenterCrop", "RandomCrop", "RandomHorizontalFlip"]


class RandomHorizontalFlip:
    """Mirrors each picture left to right with probability `p`.

    Not for what has a left and a right that matter: letters, digits, road signs.

    Args:
        p: in [0, 1].

    Raises:
        ValueError: another p.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = need_share("RandomHorizontalFlip", "p", p)

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p})"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with some pictures of its first array, (N, C, H, W), mirrored."""
        x = need_pictures("RandomHorizontalFlip", batch[0], floats=False)
        flipped = generator.bernoulli(len(x), self.p)
        return np.where(flipped[:, None, None, None], x[..., ::-1], x), *batch[1:]


class RandomCrop:
    """Cuts a window out of each picture, after a frame was put around it.

    Each place at which the window fits is equally likely.  With a frame of 4 and windows as large
    as the picture this is how CIFAR-10 is trained (He and others, "Deep residual learning for
    image recognition", 2015).

    Args:
        size: of the window, a number or (rows, columns).
        padding: width of the frame on each side, a number or (top and bottom, left and right).
        mode: "constant"; "edge", the outermost pixels go on; or "reflect", as in a mirror.
        fill: what the frame shows in mode "constant".

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] = 0,
        mode: str = "constant",
        fill: float = 0.0,
    ) -> None:
        self.size = pair_of_sizes("RandomCrop", "size", size)
        self.padding = pair_of_sizes("RandomCrop", "padding", padding, least=0)
        if mode not in MODES:
            raise ValueError(f"RandomCrop: mode must be one of {', '.join(MODES)}, got {mode!r}")
        self.mode = mode
        self.fill = fill

    def __repr__(self) -> str:
        return (
            f"RandomCrop({self.size}, padding={self.padding}, mode={self.mode!r}, fill={self.fill})"
        )

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with its first array cut to (N, C, rows, columns).

        Raises:
            ValueError: the window is larger than the framed picture.
        """
        x = need_pictures("RandomCrop", batch[0], floats=False)
        if any(self.padding):
            down, right = self.padding
            settings: dict[str, Any] = (
                {"constant_values": self.fill} if self.mode == "constant" else {}
            )
            frame = ((0, 0), (0, 0), (down, down), (right, right))
            x = np.pad(x, frame, self.mode, **settings)  # type: ignore[call-overload]
        room = _room("RandomCrop", x, self.size)
        top, left = (generator.integers(len(x), 0, free + 1) for free in room)
        windows = sliding_window_view(x, self.size, axis=(2, 3))
        return windows[np.arange(len(x)), :, top, left], *batch[1:]


class CenterCrop:
    """Cuts the middle out of each picture; one pixel nearer to the top left where it is between.

    Args:
        size: of the window, a number or (rows, columns).

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = pair_of_sizes("CenterCrop", "size", size)

    def __repr__(self) -> str:
        return f"CenterCrop({self.size})"

    def __call__(self, batch: Batch, generator: Generator | None = None) -> Batch:
        """The batch with its first array cut to (N, C, rows, columns); the generator is not used.

        Raises:
            ValueError: the window is larger than the picture.
        """
        x = need_pictures("CenterCrop", batch[0], floats=False)
        top, left = (free // 2 for free in _room("CenterCrop", x, self.size))
        return x[:, :, top : top + self.size[0], left : left + self.size[1]], *batch[1:]


def _room(name: str, x: NDArray[Any], size: tuple[int, int]) -> tuple[int, int]:
    """By how many places a window can move down, and right."""
    down, right = x.shape[2] - size[0], x.shape[3] - size[1]
    if down < 0 or right < 0:
        raise ValueError(
            f"{name}: windows of {size[0]}x{size[1]} do not fit into pictures of "
            f"{x.shape[2]}x{x.shape[3]} (with their frame); take a smaller size or more padding"
        )
    return down, right
