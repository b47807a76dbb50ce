"""To what products of float32 round their factors: as they are, TF32, or bfloat16.

The last two are multiplied by tensor cores, which add up in float32.  `minigrad.cuda` says what an
error is at most.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["PRECISIONS", "TENSOR_CAPABILITY", "get_precision", "on", "set_precision"]

PRECISIONS = ("float32", "tf32", "bfloat16")
"""From the most digits to the fewest."""
TENSOR_CAPABILITY = (8, 0)
"""The first cards whose tensor cores know TF32 and bfloat16."""


def _checked(name: str, what: str) -> str:
    if name not in PRECISIONS:
        raise ValueError(f"{what} must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return name


def _asked(environment: Mapping[str, str]) -> str:
    """What the environment asks for; the older MINIGRAD_TF32=1 stands for TF32."""
    name = environment.get("MINIGRAD_MATMUL_PRECISION", "")
    if name:
        return _checked(name, "MINIGRAD_MATMUL_PRECISION")
    return "float32" if environment.get("MINIGRAD_TF32", "0") in ("", "0") else "tf32"


_wanted = {"precision": _asked(os.environ)}


def set_precision(name: str) -> None:
    """See `minigrad.cuda.set_matmul_precision`."""
    _wanted["precision"] = _checked(name, "the precision of matrix products")


def get_precision() -> str:
    """What was asked for."""
    return _wanted["precision"]


def on(capability: tuple[int, int]) -> str:
    """What a card of this compute capability does: float32 where it has no such tensor cores."""
    return _wanted["precision"] if capability >= TENSOR_CAPABILITY else "float32"
