"""Random boxes inside pictures: what `RandomResizedCrop` keeps and `RandomErasing` covers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator

__all__ = ["draw_boxes", "draw_corners"]

ATTEMPTS = 10


def draw_boxes(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows and columns of random boxes, the first of ten attempts that fits, and whether one did.

    Args:
        count: how many boxes.
        size: rows and columns of the picture that they must fit into.
        scale: the least and largest share of its area, uniform between.
        ratio: the least and largest width / height of a box, uniform in the logarithm.
        generator: of the random numbers.
    """
    draws = generator.random((2, ATTEMPTS, count), dtype=np.float64)
    area = size[0] * size[1] * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = np.exp(low + (high - low) * draws[1])
    tall = np.rint(np.sqrt(area / shape)).astype(np.int64)
    wide = np.rint(np.sqrt(area * shape)).astype(np.int64)
    fits = (tall >= 1) & (tall <= size[0]) & (wide >= 1) & (wide <= size[1])
    first = fits.argmax(0), np.arange(count)
    return tall[first], wide[first], fits[first]


def draw_corners(
    size: tuple[int, int], tall: NDArray[Any], wide: NDArray[Any], generator: Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Upper left corners of boxes, each place at which one fits equally likely."""
    down, right = generator.random((2, len(tall)), dtype=np.float64)
    return (
        (down * (size[0] - tall + 1)).astype(np.int64),
        (right * (size[1] - wide + 1)).astype(np.int64),
    )
