"""What every metric begins with: plain arrays, whatever a caller holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import raw

__all__ = ["plain"]


def plain(value: Any) -> np.ndarray:
    """The NumPy array of a tensor of any device, an array, or lists."""
    value = raw(value)
    return np.asarray(backend.device_of(value).to_numpy(value))
