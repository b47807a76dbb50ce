"""Numba's simulator, mended where its threads would disturb each other, and what it lacks.

Simulated threads are Python's, and a block's shared array is made by the first thread that asks for
it.  The simulator looks whether it is there and then makes it, so two threads may each make one of
their own, and never see what the other writes.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import Any

import numpy as np

__all__ = ["ROUND", "mend"]

_lock = threading.Lock()


def shared_array(self: Any, shape: Any, dtype: Any, alignment: int | None = None) -> np.ndarray:
    """A block's shared array for the line that asks; size 0 is the dynamic shared memory."""
    from numba.np.numpy_support import as_dtype

    kind = np.dtype(dtype) if isinstance(dtype, (type, np.dtype)) else as_dtype(dtype)
    if shape == 0:
        count = self._dynshared_size // kind.itemsize
        return np.frombuffer(self._dynshared.data, kind, count)
    frame = sys._getframe(1)
    line = frame.f_code, frame.f_lineno
    with _lock:
        found = self._allocations.get(line)
        if found is None:
            found = self._allocations[line] = np.empty(shape, kind)
    return found


@cache
def mend() -> None:
    """Let shared arrays be made once, and threads take turns often: they wait for each other."""
    from numba.cuda.simulator import kernelapi

    mended: Any = kernelapi.FakeCUDAShared
    mended.array = shared_array
    sys.setswitchinterval(1e-5)


def _rounded(x: Any, bits: int, half: int) -> np.float32:
    """x with so many bits fewer; `half`, added to those that go, says where a half goes."""
    if np.isnan(x):
        return np.float32(x)
    whole = int(np.float32(x).view(np.uint32)) + half
    return np.uint32(whole >> bits << bits).view(np.float32)


def to_tf32(x: Any) -> np.float32:
    """The nearest number of 10 bits of mantissa, a half away from 0: `cvt.rna.tf32.f32`."""
    return _rounded(x, 13, 1 << 12)


def to_bfloat16(x: Any) -> np.float32:
    """The nearest number of 7 bits of mantissa, a half to an even one: `cvt.rn.bf16.f32`."""
    odd = int(np.float32(x).view(np.uint32)) >> 16 & 1
    return _rounded(x, 16, (1 << 15) - 1 + odd)


ROUND = {"tf32": to_tf32, "bfloat16": to_bfloat16}
"""How tensor cores round, for tiles that the simulator multiplies as all others."""
