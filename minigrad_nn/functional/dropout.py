"""Dropout: while training, switch off units at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.core import raw
from minigrad.effects import effect
from minigrad.ops.elementwise import multiply
from minigrad.random import Generator, default_generator
from minigrad_nn.functional.conv import check_input

__all__ = ["dropout", "dropout1d", "dropout2d", "dropout3d"]


def dropout(
    x: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Any:
    """Set each element to 0 with probability `p`, and divide the others by `1 - p`.

    So the expected value stays, and nothing needs to be done when the network is used (Srivastava
    and others, "Dropout", 2014, in its inverted form).

    Args:
        x: of any shape, floats.
        p: in [0, 1].
        training: whether to drop at all; otherwise x is returned as it is.
        generator: where the random numbers come from; `minigrad.random`'s default one if None.

    Raises:
        ValueError: p lies outside [0, 1].

    >>> import minigrad
    >>> dropout(minigrad.ones(6), 0.5, generator=minigrad.random.Generator(3))
    tensor([2., 2., 2., 0., 2., 2.])
    """
    return _dropped("dropout", x, p, training, generator, np.shape(raw(x)))


def _dropped(
    name: str, x: Any, p: float, training: bool, generator: Generator | None, shape: tuple
) -> Any:
    """Multiply by a mask of that shape, which is broadcast."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p must be in [0, 1], got {p}")
    if not training or p == 0.0:
        return x
    values = raw(x)
    if values.dtype.kind != "f":
        raise TypeError(f"{name}: x must hold floats, got {values.dtype}")
    return multiply(x, _mask(generator or default_generator(), shape, p, values))


@effect
def _mask(generator: Generator, shape: tuple, p: float, like: Any) -> Any:
    """What to multiply by: 0, or `1 / (1 - p)`."""
    mask = generator.bernoulli(shape, 1.0 - p, dtype=like.dtype, like=like)
    if p < 1.0:
        np.multiply(mask, 1.0 / (1.0 - p), out=mask)
    mask.flags.writeable = False  # nobody else has it, so the graph needs no copy
    return mask


def _channels(axes: int, x: Any, p: float, training: bool, generator: Generator | None) -> Any:
    shape = check_input(f"dropout{axes}d", x, axes)
    return _dropped(f"dropout{axes}d", x, p, training, generator, shape[:2] + (1,) * axes)


def dropout1d(
    x: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Any:
    """Drop whole channels of signals `(N, C, L)`; see `dropout2d`."""
    return _channels(1, x, p, training, generator)


def dropout2d(
    x: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Any:
    """Set whole channels to 0 with probability `p`, and divide the others by `1 - p`.

    Neighbours in a feature map say nearly the same, so dropping single elements removes little
    (Tompson and others, "Efficient object localization using convolutional networks", 2015).

    Args:
        x: `(N, C, H, W)`, floats; each channel of each sample is drawn on its own.
        p: in [0, 1].
        training: whether to drop at all; otherwise x is returned as it is.
        generator: where the random numbers come from; `minigrad.random`'s default one if None.

    Raises:
        ValueError: p lies outside [0, 1], or wrong shapes.
    """
    return _channels(2, x, p, training, generator)


def dropout3d(
    x: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Any:
    """Drop whole channels of volumes `(N, C, D, H, W)`; see `dropout2d`."""
    return _channels(3, x, p, training, generator)
