"""Geometric distortions: turned, sheared, scaled, moved, kneaded, and seen through a lens.

Each says where a new pixel looks in the old picture; several are looked up at once with
`Distortions`, so that a picture is blurred by interpolation only once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.random import Generator

from ..dataset import Batch
from .checks import need_pictures, range_of
from .sampling import MODES, pixel_grid, sample

__all__ = ["Distortions", "ElasticDistortion", "Geometric", "LensDistortion", "RandomAffine"]

Places = tuple[NDArray[Any], NDArray[Any]]


class Geometric:
    """What geometric distortions share: each picture of a batch is looked at in other places.

    Args:
        fill: what stands around the pictures in mode "constant".
        mode: "constant", "edge" or "reflect"; see `sample`.
    """

    def __init__(self, fill: float = 0.0, mode: str = "constant") -> None:
        if mode not in MODES:
            raise ValueError(
                f"{type(self).__name__}: mode must be one of {', '.join(MODES)}, got {mode!r}"
            )
        self.fill = fill
        self.mode = mode

    def places(
        self, rows: Any, columns: Any, shape: tuple[int, ...], generator: Generator
    ) -> Places:
        """Where to look instead of at given places; each distortion has its own.

        Args:
            rows: of the places, counted in pixels, broadcast to (N, H, W).
            columns: the same.
            shape: of the pictures, (N, C, H, W).
            generator: of the random numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define places()")

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch with its first array, floats (N, C, H, W), distorted."""
        x = need_pictures(type(self).__name__, batch[0])
        rows, columns = pixel_grid(x.shape[2], x.shape[3], x.dtype)
        rows, columns = self.places(rows, columns, x.shape, generator)
        return sample(x, rows, columns, self.fill, self.mode), *batch[1:]

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k != "parts")
        return f"{type(self).__name__}({settings})"


class Distortions(Geometric):
    """Several distortions, one after the other, in one look.

    It is as if each were done to the result of the one before, but pixels are interpolated once
    instead of every time, which is sharper and faster; `fill` and `mode` are those given here.
    The random field of an `ElasticDistortion` lies on the final picture, wherever it stands.

    Args:
        parts: in the order in which they are done, each with random numbers of its own.
        fill, mode: as for `Geometric`.
    """

    def __init__(self, *parts: Geometric, fill: float = 0.0, mode: str = "constant") -> None:
        super().__init__(fill, mode)
        for part in parts:
            if not isinstance(part, Geometric):
                raise TypeError(
                    f"Distortions: {part!r} is no geometric distortion; Compose takes any change"
                )
        self.parts = parts

    def places(
        self, rows: Any, columns: Any, shape: tuple[int, ...], generator: Generator
    ) -> Places:
        # The last change made the final picture, so its pixels ask it first where to look.
        for number in reversed(range(len(self.parts))):
            part = self.parts[number]
            rows, columns = part.places(rows, columns, shape, generator.fork(number))
        return rows, columns

    def __repr__(self) -> str:
        return (
            f"Distortions({', '.join(map(repr, self.parts))}, fill={self.fill}, mode={self.mode!r})"
        )


class RandomAffine(Geometric):
    """Scales, shears, turns and moves each picture about its centre.

    A point at `p` from the centre goes to `R(turn) Y(shear) X(shear) scale p + move`; all numbers
    are uniform in their ranges and independent.  Names and meaning are torchvision's, but that a
    positive angle turns against the clock, as in `numpy.rot90`.

    Args:
        degrees: of the rotation: d for [-d, d], or a pair.
        translate: the largest moves (right, down) as shares of width and height, each in [0, 1].
        scale: a pair, above 0.
        shear: in degrees, below 90: d for [-d, d] along rows, a pair, or four numbers: the pair of
            rows and the pair of columns.
        fill, mode: as for `Geometric`.

    Raises:
        ValueError: a range that is none.
    """

    def __init__(
        self,
        degrees: float | Sequence[float] = 0.0,
        translate: Sequence[float] = (0.0, 0.0),
        scale: Sequence[float] = (1.0, 1.0),
        shear: float | Sequence[float] = 0.0,
        fill: float = 0.0,
        mode: str = "constant",
    ) -> None:
        super().__init__(fill, mode)
        name = "RandomAffine"
        self.degrees = range_of(name, "degrees", degrees, centre=0.0)
        if len(translate) != 2 or not all(0.0 <= share <= 1.0 for share in translate):
            raise ValueError(f"{name}: translate must be two shares in [0, 1], got {translate!r}")
        self.translate = (float(translate[0]), float(translate[1]))
        self.scale = range_of(name, "scale", scale)
        if self.scale[0] <= 0:
            raise ValueError(f"{name}: scale must be above 0, got {scale!r}")
        both = isinstance(shear, Sequence) and len(shear) == 4
        along, across = (shear[:2], shear[2:]) if both else (shear, 0.0)  # type: ignore[index]
        almost = math.nextafter(90.0, 0.0)
        self.shear = (
            *range_of(name, "shear", along, -almost, almost, 0.0),
            *range_of(name, "shear", across, -almost, almost, 0.0),
        )

    def places(
        self, rows: Any, columns: Any, shape: tuple[int, ...], generator: Generator
    ) -> Places:
        count, height, width = shape[0], shape[2], shape[3]
        draws = generator.random((6, count), dtype=np.float64)
        right, down = self.translate
        turn, grow, lean, rise, right, down = (
            low + (high - low) * draw
            for (low, high), draw in zip(
                (
                    self.degrees,
                    self.scale,
                    self.shear[:2],
                    self.shear[2:],
                    (-right * width, right * width),
                    (-down * height, down * height),
                ),
                draws,
                strict=True,
            )
        )
        return affine_places(rows, columns, (height, width), turn, grow, lean, rise, right, down)


def affine_places(
    rows: Any,
    columns: Any,
    size: tuple[int, int],
    turn: NDArray[Any],
    grow: NDArray[Any],
    lean: NDArray[Any],
    rise: NDArray[Any],
    right: NDArray[Any],
    down: NDArray[Any],
) -> Places:
    """Where the pixels of affine pictures look; all parameters are (N,), angles in degrees."""
    angle = -np.radians(turn)  # columns go right and rows go down: a turn the other way
    x, y = np.tan(np.radians(lean)), np.tan(np.radians(rise))
    cos, sin = np.cos(angle), np.sin(angle)
    # The inverse of scale, X, Y and R, in the opposite order: X^-1 Y^-1 R^-1 / scale.
    back = [[cos, sin], [y * cos - sin, y * sin + cos]]
    back[0] = [back[0][i] + x * back[1][i] for i in (0, 1)]
    across, along = ([part / grow for part in row] for row in back)

    middle = (size[0] - 1) / 2, (size[1] - 1) / 2
    dtype = np.result_type(rows, columns)
    v, h = rows - dtype.type(middle[0]), columns - dtype.type(middle[1])

    def line(parts: list[Any], centre: float) -> NDArray[Any]:
        of_columns, of_rows = parts
        start = centre - of_columns * right - of_rows * down
        start, a, b = (p.astype(dtype)[:, None, None] for p in (start, of_columns, of_rows))
        return (start + b * v) + a * h

    return line(along, middle[0]), line(across, middle[1])


class ElasticDistortion(Geometric):
    """Kneads each picture: every pixel looks a little elsewhere, and near ones look alike.

    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
    visual document analysis", 2003: two fields of numbers uniform in [-1, 1], one along rows and
    one along columns, are blurred by a Gaussian of deviation `sigma` and multiplied by `alpha`.
    Their best for MNIST is sigma 4 and alpha 34, with moves of about 1.4 pixels (deviation), less
    towards the edges, since there is nothing beyond them to blur with.

    Args:
        alpha: how far, in pixels before the blur; at least 0.
        sigma: of the blur, in pixels, above 0.  Small means crumpled, large means moved as a whole.
        fill, mode: as for `Geometric`.

    Raises:
        ValueError: an alpha or sigma out of its range.
    """

    def __init__(
        self, alpha: float = 34.0, sigma: float = 4.0, fill: float = 0.0, mode: str = "constant"
    ) -> None:
        super().__init__(fill, mode)
        if not 0.0 <= alpha < math.inf:
            raise ValueError(f"ElasticDistortion: alpha must be a number >= 0, got {alpha!r}")
        if not 0.0 < sigma < math.inf:
            raise ValueError(f"ElasticDistortion: sigma must be a number > 0, got {sigma!r}")
        self.alpha = float(alpha)
        self.sigma = float(sigma)

    def places(
        self, rows: Any, columns: Any, shape: tuple[int, ...], generator: Generator
    ) -> Places:
        count, _, height, width = shape
        kind = np.result_type(rows, columns)
        field = generator.uniform((2, count, height, width), -1.0, 1.0, dtype=kind)
        # A blur along one axis is a product with a matrix, the fastest thing that there is.
        down = gaussian_matrix(height, self.sigma) * self.alpha
        right = gaussian_matrix(width, self.sigma)
        field = down.astype(kind) @ (field @ right.astype(kind).T)
        return rows + field[0], columns + field[1]


@functools.lru_cache(maxsize=8)
def gaussian_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """(size, size): what blurs a column of so many numbers, with zeros before and after it."""
    reach = max(1, math.ceil(6 * sigma))  # beyond it less than 1e-8 is left
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    matrix = np.where(apart <= reach, weights[np.minimum(apart, reach) + reach], 0.0)
    matrix.flags.writeable = False  # it is kept, and given to the next who asks
    return matrix


class LensDistortion(Geometric):
    """Sees each picture through a lens that bends straight lines, more towards the corners.

    A pixel at distance r from the centre looks at distance `r (1 + k r^2)`, where r is 1 in the
    corners (Brown, "Decentering distortion of lenses", 1966, first radial term).  A positive k
    shrinks the corners towards the centre (barrel), a negative one stretches them (pincushion).

    Args:
        strength: of k, uniform: s for [-s, s], or a pair; above -1/3, where the corners would
            fold over, and at most 1.
        fill, mode: as for `Geometric`.

    Raises:
        ValueError: a strength out of its range.
    """

    def __init__(
        self,
        strength: float | Sequence[float] = 0.2,
        fill: float = 0.0,
        mode: str = "constant",
    ) -> None:
        super().__init__(fill, mode)
        self.strength = range_of("LensDistortion", "strength", strength, -1.0, 1.0, 0.0)
        if self.strength[0] <= -1.0 / 3.0:
            raise ValueError(f"LensDistortion: strength must be above -1/3, got {strength!r}")

    def places(
        self, rows: Any, columns: Any, shape: tuple[int, ...], generator: Generator
    ) -> Places:
        count, _, height, width = shape
        kind = np.result_type(rows, columns)
        low, high = self.strength
        bend = low + (high - low) * generator.random((count, 1, 1), dtype=np.float64)
        v, h = rows - kind.type((height - 1) / 2), columns - kind.type((width - 1) / 2)
        corner = ((height - 1) ** 2 + (width - 1) ** 2) / 4 or 1.0
        more = (v * v + h * h) * (bend / corner).astype(kind)
        return rows + v * more, columns + h * more
