"""The epilogue as a pass of its own, for kernels that cannot take it along."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..epilogue import Epilogue
from .arrays import epilogue_arrays
from .compile import kernel


@kernel
def finish_kernel(y, channels, bias, residual, relu):
    """Add bias and residual to each of the planes of `y` (planes, length), then ReLU."""
    length = y.shape[1]
    for plane in prange(y.shape[0]):
        row = y[plane]
        if bias.size > 0:
            b = bias[plane % channels]
            for i in range(length):
                row[i] += b
        if residual.size > 0:
            addend = residual[plane * length : (plane + 1) * length]
            for i in range(length):
                row[i] += addend[i]
        if relu:
            for i in range(length):
                # Not max(): NaN is neither above nor below 0, and stays.
                row[i] = 0 if row[i] <= 0 else row[i]


def finish(y: np.ndarray, epilogue: Epilogue | None) -> None:
    """Apply an epilogue in place to a contiguous `(N, C, ...)`."""
    if epilogue is None or y.size == 0:
        return
    bias, residual, relu = epilogue_arrays(epilogue, y.dtype)
    if bias.size or residual.size or relu:
        planes = y.reshape(y.shape[0] * y.shape[1], -1)
        finish_kernel(planes, y.shape[1], bias, residual, relu)
