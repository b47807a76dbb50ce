"""Scenes composed of handwritten digits, which know where everything in them is.

One scene serves every task of seeing: which digits there are, where, which pixels are theirs, and
how it is said in words.  Nothing is stored: scene `i` of a seed is computed anew each time.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator, as_generator

from ..folders import data_folder
from .captions import COLOURS, describe, encode, longest
from .dataset import Batch, Index, Pictures
from .digits import Digits
from .mnist import MNIST

__all__ = ["BACKGROUND", "Scene", "Scenes"]

BACKGROUND = 10
"""The class of a pixel that belongs to no digit; a pixel of a three is of class 3."""

TARGETS = ("classes", "boxes", "counts", "colours", "class_map", "instance_map", "caption")
INK = 0.4
"""From which opacity on a pixel belongs to a digit."""
TRIES = 50
PAINT = np.array(
    [
        [0.93, 0.20, 0.18],
        [0.20, 0.80, 0.30],
        [0.28, 0.45, 1.00],
        [0.98, 0.85, 0.15],
        [0.98, 0.45, 0.80],
        [0.97, 0.97, 0.97],
    ]
)
"""Red, green and blue of each of `COLOURS`."""


@dataclass(frozen=True)
class Scene:
    """One scene, with all that is true of it.  Digits are numbered from the hindmost to the front.

    Attributes:
        picture: (C, H, W), float32 in [0, 1], with noise a little outside of it.
        classes: (n,), which digits they are.
        boxes: (n, 4), float32: x0, y0, x1, y1 in pixels, tight around what is seen of a digit; the
            last column of pixels is x1 - 1.
        colours: (n,), places in `captions.COLOURS`; -1 in grey scenes.
        class_map: (H, W), the class of each pixel; `BACKGROUND` where no digit is.
        instance_map: (H, W), the number of the digit that each pixel shows; -1 where none is.
        words: the caption.
    """

    picture: NDArray[np.float32]
    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]
    colours: NDArray[np.int64]
    class_map: NDArray[np.int64]
    instance_map: NDArray[np.int64]
    words: list[str]


class Scenes:
    """A dataset of scenes: pictures (N, C, size, size), and whichever targets a task needs.

    Digits are drawn one over the other at random places and sizes.  A scene is a function of the
    seed, the split, its number and the settings alone, whatever was drawn before.  Scenes for
    training show digits of the training split only, scenes for testing those of the test split.

    ================ =================== ====================================================
    target           array               what it is
    ================ =================== ====================================================
    `"classes"`      (N, most)           which digits, from the hindmost to the front; -1 pads
    `"boxes"`        (N, most, 4)        float32 x0, y0, x1, y1 around what is seen; 0 pads
    `"counts"`       (N,)                how many digits there are
    `"colours"`      (N, most)           places in `captions.COLOURS`; -1 pads
    `"class_map"`    (N, size, size)     the class of each pixel; 10, `BACKGROUND`, for none
    `"instance_map"` (N, size, size)     the place in `classes` of each pixel's digit; -1 for none
    `"caption"`      (N, length)         tokens: <start>, words, <end>; <pad> to the end
    ================ =================== ====================================================

    Args:
        split: `"train"` or `"test"`.
        length: how many scenes there are; scene 5 is the same whatever the length.
        targets: names of the table, in the order wanted.
        size: side of the picture in pixels.
        digits: the fewest and the most digits of a scene, each count equally likely.  In a crowd a
            digit for which no place is found in 50 tries is left out.
        sides: the shortest and the longest of the longer sides of digits, in pixels.
        hidden: the largest share of a digit's pixels that others may cover; 0 keeps them apart.
        clutter: how many fragments of other digits lie about.
        noise: standard deviation of what is added to each pixel.
        colour: colours on a dark ground instead of greys on black; captions name them.
        seed: a number or a generator (which is only forked).
        source: `"mnist"`, `"digits"` (8x8, enlarged), or pictures of your own, bright digits on
            black; None takes MNIST if the folder that MINIGRAD_DATA names holds it, else the
            digits.

    Raises:
        TypeError, ValueError: an argument out of its range.

    >>> scenes = Scenes(length=8, digits=(2, 2), source="digits", targets=("classes", "boxes"))
    >>> pictures, classes, boxes = scenes[:3]
    >>> pictures.shape, classes.shape, boxes.shape
    ((3, 1, 64, 64), (3, 2), (3, 2, 4))
    """

    classes = tuple("0123456789")

    def __init__(
        self,
        split: str = "train",
        length: int = 10_000,
        *,
        targets: Sequence[str] = ("classes", "boxes"),
        size: int = 64,
        digits: tuple[int, int] = (1, 4),
        sides: tuple[float, float] = (16.0, 28.0),
        hidden: float = 0.25,
        clutter: int = 0,
        noise: float = 0.0,
        colour: bool = False,
        seed: Generator | SupportsIndex = 0,
        source: str | Pictures | None = None,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        if isinstance(targets, str) or not set(targets) <= set(TARGETS):
            raise ValueError(f"targets must be a sequence of names of {TARGETS}, got {targets!r}")
        for name, number, least in (
            ("length", length, 0),
            ("size", size, 8),
            ("clutter", clutter, 0),
        ):
            if not isinstance(number, int) or number < least:
                raise ValueError(f"{name} must be a whole number from {least}, got {number!r}")
        if not 1 <= digits[0] <= digits[1]:
            raise ValueError(
                f"digits must be (fewest, most) with 1 <= fewest <= most, got {digits}"
            )
        if not 4 <= sides[0] <= sides[1] <= size - 2:
            raise ValueError(
                f"sides must be (shortest, longest) from 4 to {size - 2} pixels, so that a digit "
                f"can be read and fits in {size}x{size}, got {sides}"
            )
        if not 0 <= hidden < 1 or not 0 <= noise < math.inf:
            raise ValueError(
                f"hidden must be in [0, 1) and noise finite and >= 0, got {hidden} and {noise}"
            )
        self.split, self.length, self.targets = split, length, tuple(targets)
        self.size, self.digits, self.sides, self.hidden = size, digits, sides, hidden
        self.clutter, self.noise, self.colour = clutter, noise, bool(colour)
        self.source = _source(source, split)
        self._generator = as_generator(seed).fork("scenes", split)

    @property
    def most(self) -> int:
        """The most digits that a scene can have, and so the length of padded rows."""
        return self.digits[1]

    @property
    def caption_length(self) -> int:
        """How many tokens a caption has, padding included."""
        return longest(self.most, self.colour)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Index) -> Batch:
        """Pictures (n, C, size, size) and the targets; a single index gives one without axis n.

        Raises:
            IndexError: beyond the last scene.
        """
        numbers = np.arange(self.length)[index]
        if numbers.ndim == 0:
            return self._row(int(numbers))
        rows = [self._row(int(number)) for number in numbers]
        if rows:
            return tuple(np.stack(column) for column in zip(*rows, strict=True))
        row = self._row(0)
        return tuple(np.zeros((0, *array.shape), array.dtype) for array in row)

    def _row(self, number: int) -> Batch:
        scene = self.scene(number)
        return scene.picture, *(self._target(scene, name) for name in self.targets)

    def _target(self, scene: Scene, name: str) -> NDArray[Any]:
        if name == "counts":
            return np.array(len(scene.classes))
        if name == "caption":
            return encode(scene.words, self.caption_length)
        value = getattr(scene, name)
        if name in ("class_map", "instance_map"):
            return value
        padded = np.full((self.most, *value.shape[1:]), 0 if name == "boxes" else -1, value.dtype)
        padded[: len(value)] = value
        return padded

    def scene(self, number: int) -> Scene:
        """Scene `number`, with all that is true of it; from 0 on, without an end.

        Raises:
            ValueError: a negative number.
        """
        if operator.index(number) < 0:
            raise ValueError(f"scenes are numbered from 0, got {number}")
        generator = self._generator.fork(number)
        canvas = self._ground(generator.fork("ground"))
        clutter = generator.fork("clutter")
        for _ in range(self.clutter):
            self._paint(canvas, *self._fragment(clutter), clutter)
        owner = np.full((self.size, self.size), -1)
        classes: list[int] = []
        inks: list[NDArray[np.float64]] = []
        colours: list[int] = []
        place = generator.fork("digits")
        for _ in range(int(place.integers((), self.digits[0], self.digits[1] + 1))):
            digit, ink = self._digit(place)
            spot = self._spot(place, ink, owner, [int((i >= INK).sum()) for i in inks])
            if spot is None:
                continue
            owner[spot][ink >= INK] = len(classes)
            colours.append(self._paint(canvas, ink, spot, place))
            classes.append(digit)
            inks.append(ink)
        if self.noise:
            canvas += generator.fork("noise").normal(canvas.shape, 0.0, self.noise)
        boxes = np.array([_box(owner == k) for k in range(len(classes))], np.float32)
        names = np.array(classes)
        words = describe(names, boxes, colours if self.colour else None)
        return Scene(
            canvas.astype(np.float32),
            names,
            boxes,
            np.array(colours),
            np.where(owner >= 0, names[owner], BACKGROUND),
            owner,
            words,
        )

    def _ground(self, generator: Generator) -> NDArray[np.float64]:
        if not self.colour:
            return np.zeros((1, self.size, self.size))
        # A dark colour that changes slowly from one corner to the other.
        corners = generator.uniform((3, 2, 2), 0.0, 0.3, dtype=np.float64)
        t = np.linspace(0.0, 1.0, self.size)
        weights = np.stack([1.0 - t, t], axis=1)
        return weights @ corners @ weights.T

    def _digit(self, generator: Generator) -> tuple[int, NDArray[np.float64]]:
        """Class and opacity (h, w) of a digit of the source, of a random size."""
        chosen = int(generator.integers((), 0, len(self.source)))
        side = float(generator.uniform((), *self.sides, dtype=np.float64))
        ink = _cropped(self.source.pixels[chosen, 0] / self.source.white)
        return int(self.source.labels[chosen]), _scaled(ink, side / max(ink.shape))

    def _fragment(self, generator: Generator) -> tuple[NDArray[np.float64], tuple[slice, slice]]:
        """The opacity of a piece of a digit, a third of it along both axes, and a place for it."""
        _, ink = self._digit(generator)
        h, w = (math.ceil(n / 3) for n in ink.shape)
        y = int(generator.integers((), 0, ink.shape[0] - h + 1))
        x = int(generator.integers((), 0, ink.shape[1] - w + 1))
        piece = ink[y : y + h, x : x + w]
        return piece, self._anywhere(generator, piece)

    def _anywhere(self, generator: Generator, ink: NDArray[np.float64]) -> tuple[slice, slice]:
        h, w = ink.shape
        y, x = (int(generator.integers((), 0, self.size - n + 1)) for n in (h, w))
        return slice(y, y + h), slice(x, x + w)

    def _spot(
        self,
        generator: Generator,
        ink: NDArray[np.float64],
        owner: NDArray[np.int64],
        whole: list[int],
    ) -> tuple[slice, slice] | None:
        """A place for a digit before all others that leaves enough of them; None if none is found.

        Args:
            owner: whose each pixel is so far.
            whole: how many pixels each of the others has, seen or not.
        """
        for _ in range(TRIES):
            spot = self._anywhere(generator, ink)
            after = owner.copy()
            after[spot][ink >= INK] = len(whole)
            seen = np.bincount(after.ravel() + 1, minlength=len(whole) + 2)[1:-1]
            if (seen >= (1.0 - self.hidden) * np.array(whole)).all():
                # Captions say how centres lie to each other, so no two may be the same.
                boxes = [_box(after == k) for k in range(len(whole) + 1)]
                if len({(x0 + x1, y0 + y1) for x0, y0, x1, y1 in boxes}) == len(boxes):
                    return spot
        return None

    def _paint(
        self,
        canvas: NDArray[np.float64],
        ink: NDArray[np.float64],
        spot: tuple[slice, slice],
        generator: Generator,
    ) -> int:
        """Lay ink over a place of the canvas; gives the number of its colour, -1 for grey."""
        if self.colour:
            number = int(generator.integers((), 0, len(COLOURS)))
            paint = PAINT[number] + generator.uniform((3,), -0.08, 0.08, dtype=np.float64)
        else:
            number = -1
            paint = generator.uniform((1,), 0.7, 1.0, dtype=np.float64)
        part = canvas[:, *spot]
        part += ink * (np.clip(paint, 0.0, 1.0)[:, None, None] - part)
        return number


def _source(source: str | Pictures | None, split: str) -> Pictures:
    if source is None:
        folder = data_folder()
        source = "mnist" if folder is not None and (folder / "mnist").is_dir() else "digits"
    if isinstance(source, str):
        if source not in ("mnist", "digits"):
            raise ValueError(f"source must be 'mnist', 'digits' or Pictures, got {source!r}")
        return MNIST(split) if source == "mnist" else Digits(split)
    if not isinstance(source, Pictures) or not len(source):
        raise TypeError(f"source must be a name, or Pictures that are not empty, got {source!r}")
    return source


def _cropped(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a picture that is not empty."""
    x0, y0, x1, y1 = _box(ink > 0.1)
    return ink[y0:y1, x0:x1]


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around what is true; all zero if nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _scaled(ink: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Another size of ink; strokes that grow keep sharp edges, and thin ones do not fade away."""
    rows, columns = (_tents(n, max(1, round(n * factor))) for n in ink.shape)
    ink = rows @ ink @ columns.T
    ink /= ink.max()
    return np.clip(INK + max(1.0, factor / 1.5) * (ink - INK), 0.0, 1.0)


@lru_cache(maxsize=4096)
def _tents(size: int, output: int) -> NDArray[np.float64]:
    """The matrix (output, size) that resizes a line linearly, averaging where it shrinks."""
    ratio = output / size
    centres = (np.arange(output) + 0.5) / ratio - 0.5
    distance = np.abs(centres[:, None] - np.arange(size))
    return np.maximum(0.0, 1.0 - distance * min(ratio, 1.0)) * min(ratio, 1.0)
