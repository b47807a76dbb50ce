"""Colours: brighter, fuller, turned around the colour circle, and in another light.

Pictures are RGB floats (N, 3, H, W), grey ones (N, 1, H, W) where a change has a meaning for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minigrad.random import Generator

from ..dataset import Batch
from .checks import need_pictures, range_of

__all__ = ["ColorCast", "ColorJitter"]

# How bright the eye sees red, green and blue (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])


class ColorJitter:
    """Changes brightness, contrast, saturation and hue of each picture, in this order.

    Factors are uniform in their ranges and independent; after each step values are cut to [0, 1].
    Names and meaning are torchvision's, whose order is random.

    - brightness: `f x`;
    - contrast: `f x + (1 - f) m`, with m the mean brightness of the picture;
    - saturation: `f x + (1 - f) grey`, each pixel and its own brightness;
    - hue: the colour circle turned by that share of a whole turn.

    Args:
        brightness: of the factor: b for [max(0, 1 - b), 1 + b], or a pair, at least 0.
        contrast: the same.
        saturation: the same; colour pictures only.
        hue: h for [-h, h], or a pair, within [-1/2, 1/2]; colour pictures only.

    Raises:
        ValueError: a range that is none.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        name = "ColorJitter"
        self.brightness = range_of(name, "brightness", brightness, 0.0, centre=1.0)
        self.contrast = range_of(name, "contrast", contrast, 0.0, centre=1.0)
        self.saturation = range_of(name, "saturation", saturation, 0.0, centre=1.0)
        self.hue = range_of(name, "hue", hue, -0.5, 0.5, centre=0.0)

    def __repr__(self) -> str:
        return f"ColorJitter({', '.join(f'{k}={v}' for k, v in vars(self).items())})"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with its first array, floats (N, C, H, W) in [0, 1], in other colours.

        Raises:
            TypeError, ValueError: other pictures, or grey ones where colours are needed.
        """
        x = need_pictures("ColorJitter", batch[0])
        colours = self.saturation != (1.0, 1.0) or self.hue != (0.0, 0.0)
        if x.shape[1] != 3 and (colours or x.shape[1] != 1):
            raise ValueError(
                f"ColorJitter: pictures must be (N, 3, H, W){'' if colours else ' or (N, 1, H, W)'}"
                f", got shape {x.shape}; grey pictures have no saturation and no hue"
            )
        if x.size and not (x.min() >= 0.0 and x.max() <= 1.0):
            raise ValueError(
                f"ColorJitter: pictures must be within [0, 1], got {x.min():g} to {x.max():g}; "
                "normalise them afterwards"
            )
        draws = generator.random((4, len(x), 1, 1, 1), dtype=np.float64)
        steps = (
            (self.brightness, 1.0, brightened),
            (self.contrast, 1.0, contrasted),
            (self.saturation, 1.0, saturated),
            (self.hue, 0.0, turned_hue),
        )
        for ((low, high), nothing, change), draw in zip(steps, draws, strict=True):
            if (low, high) != (nothing, nothing):
                x = change(x, (low + (high - low) * draw).astype(x.dtype))
        return x, *batch[1:]


def grey(x: NDArray[Any]) -> NDArray[Any]:
    """(N, 1, H, W): how bright each pixel is."""
    if x.shape[1] == 1:
        return x
    red, green, blue = LUMA.astype(x.dtype)
    return (red * x[:, 0] + green * x[:, 1] + blue * x[:, 2])[:, None]


def brightened(x: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """`factor * x`, cut to [0, 1]."""
    return np.clip(factor * x, 0.0, 1.0)


def contrasted(x: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Away from the mean brightness of each picture, or towards it."""
    mean = grey(x).mean(axis=(1, 2, 3), keepdims=True)
    return np.clip(factor * x + (1 - factor) * mean, 0.0, 1.0)


def saturated(x: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Away from the grey of each pixel, or towards it."""
    return np.clip(factor * x + (1 - factor) * grey(x), 0.0, 1.0)


def turned_hue(x: NDArray[Any], turn: NDArray[Any]) -> NDArray[Any]:
    """The hue of HSV moved by `turn`, a share of the circle; saturation and value stay.

    Smith, "Color gamut transform pairs", 1978.
    """
    red, green, blue = x[:, 0], x[:, 1], x[:, 2]
    value = x.max(axis=1)
    width = value - x.min(axis=1)
    safe = np.where(width > 0, width, 1)
    sector = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sector = sector + 6 * turn[:, 0]
    # Each channel is the value, less the width times how far its own sectors are away.
    out = np.empty_like(x)
    for channel, own in enumerate((0, 4, 2)):
        k = (sector + own) % 6
        away = np.clip(np.minimum(np.abs(k), 6 - np.abs(k)) - 1, 0, 1)
        out[:, channel] = value - width * away
    return out


class ColorCast:
    """Adds a random colour to each picture, as another light does; values are not cut.

    Without `directions` every channel has a number of its own, normal with deviation `std` (Wu and
    others, "Deep image: scaling up image recognition", 2015, cast colours in this spirit).  With
    them, `directions @ a` is added, where `a` holds normal numbers of deviation `std`.
    `ColorCast.of(pictures)` finds the directions of AlexNet: the colours in which the pixels vary.

    Args:
        std: at least 0; pictures are usually in [0, 1].
        directions: (C, k), one column for each number of `a`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, std: float = 0.1, directions: ArrayLike | None = None) -> None:
        if not 0.0 <= std < np.inf:
            raise ValueError(f"ColorCast: std must be a number >= 0, got {std!r}")
        self.std = float(std)
        self.directions = None if directions is None else np.asarray(directions, np.float64)
        if self.directions is not None and self.directions.ndim != 2:
            raise ValueError(
                f"ColorCast: directions must be (channels, k), got shape {self.directions.shape}"
            )

    @classmethod
    def of(cls, pictures: NDArray[Any], std: float = 0.1) -> ColorCast:
        """AlexNet's: each principal component of the colours, times its eigenvalue.

        Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
        networks", 2012, section 4.1: `[p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T`, with p and l the
        eigenvectors and eigenvalues of the covariance of the channels, here of pixels in [0, 1].

        Args:
            pictures: (N, C, H, W), floats: the training set, or some thousand pictures of it.
            std: of a.
        """
        need_pictures("ColorCast.of", pictures)
        colours = pictures.swapaxes(0, 1).reshape(pictures.shape[1], -1)
        if colours.shape[1] < 2:
            raise ValueError(f"ColorCast.of: no colours vary in pictures {pictures.shape}")
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(colours, dtype=np.float64)))
        return cls(std, vectors[:, ::-1] * values[::-1])

    def __repr__(self) -> str:
        given = "" if self.directions is None else f", directions={self.directions.tolist()}"
        return f"ColorCast({self.std}{given})"

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with its first array, floats (N, C, H, W), in another light.

        Raises:
            ValueError: pictures with other channels than the directions have.
        """
        x = need_pictures("ColorCast", batch[0])
        directions = np.eye(x.shape[1]) if self.directions is None else self.directions
        if len(directions) != x.shape[1]:
            raise ValueError(
                f"ColorCast: the directions have {len(directions)} channels, the pictures are "
                f"{x.shape}"
            )
        a = generator.normal((len(x), directions.shape[1]), 0.0, self.std, dtype=np.float64)
        return x + (a @ directions.T).astype(x.dtype)[:, :, None, None], *batch[1:]
