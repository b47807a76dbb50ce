"""What every change asks of its pictures and of its ranges, and how it says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["need_pictures", "need_share", "pair_of_sizes", "range_of"]


def need_pictures(name: str, x: Any, floats: bool = True) -> NDArray[Any]:
    """`x`, if it is pictures (N, C, H, W), of float32 or float64 where `floats` says so.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(x, np.ndarray) or x.ndim != 4:
        raise ValueError(
            f"{name}: pictures must be an array (N, C, H, W), got shape {np.shape(x)}; grey ones "
            "of shape (N, H, W) become x[:, None]"
        )
    if floats and x.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{name}: pictures must be float32 or float64, got {x.dtype}; bytes become "
            "x.astype(np.float32) / 255"
        )
    return x


def need_share(name: str, argument: str, value: float) -> float:
    """`value`, if it is a probability.

    Raises:
        ValueError: it is not in [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: {argument} must be in [0, 1], got {value!r}")
    return float(value)


def range_of(
    name: str,
    argument: str,
    value: float | Sequence[float],
    least: float = -math.inf,
    most: float = math.inf,
    centre: float | None = None,
) -> tuple[float, float]:
    """The two ends of a range: a pair is taken as it is, a number d as centre - d to centre + d.

    Args:
        name: of the change, for messages.
        argument: of the change, for messages.
        value: a pair; or, where there is a centre, a number of at least 0.
        least: the smallest allowed end.
        most: the largest allowed end.
        centre: None if a pair is needed.

    Raises:
        ValueError: no range, or ends that are not allowed.
    """
    numbers = np.ravel(value).tolist()
    if len(numbers) == 1 and centre is not None and numbers[0] >= 0:
        numbers = [max(least, centre - numbers[0]), centre + numbers[0]]
    if len(numbers) != 2 or not least <= numbers[0] <= numbers[1] <= most:
        wanted = "two numbers, the smaller first" + ("" if centre is None else ", or one >= 0")
        bounds = "" if (least, most) == (-math.inf, math.inf) else f", within [{least}, {most}]"
        raise ValueError(f"{name}: {argument} must be {wanted}{bounds}; got {value!r}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name}: {argument} must be finite, got {value!r}")
    return float(numbers[0]), float(numbers[1])


def pair_of_sizes(
    name: str, argument: str, value: int | Sequence[int], least: int = 1
) -> tuple[int, int]:
    """Two whole numbers, for rows and columns: one number stands for both.

    Raises:
        ValueError: none, or one below `least`.
    """
    numbers = np.ravel(value).tolist()
    numbers = numbers * 2 if len(numbers) == 1 else numbers
    if len(numbers) != 2 or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{name}: {argument} must be one or two whole numbers, got {value!r}")
    if min(numbers) < least:
        raise ValueError(f"{name}: {argument} must be at least {least}, got {value!r}")
    return numbers[0], numbers[1]
