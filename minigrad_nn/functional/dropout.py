"""Dropout: while training, switch off units at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw
from minigrad.ops.elementwise import multiply
from minigrad.random import Generator, default_generator

__all__ = ["dropout"]


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
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p must be in [0, 1], got {p}")
    if not training or p == 0.0:
        return x
    values = raw(x)
    if values.dtype.kind != "f":
        raise TypeError(f"dropout: x must hold floats, got {values.dtype}")
    mask = (generator or default_generator()).bernoulli(values.shape, 1.0 - p, dtype=values.dtype)
    if p < 1.0:
        np.multiply(mask, 1.0 / (1.0 - p), out=mask)
    return multiply(x, backend.device_of(values).from_numpy(mask))
