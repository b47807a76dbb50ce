"""Products of matrices."""

from __future__ import annotations

from typing import Any

from . import checks
from .registry import find
from .workspace import Workspace

__all__ = ["matmul"]

Array = Any


def matmul(
    a: Array, b: Array, *, out: Array | None = None, workspace: Workspace | None = None
) -> Array:
    """The product of two matrices, `y[i, j] = Σ_k a[i, k] · b[k, j]`.

    Args:
        a: `(M, K)`.
        b: `(K, N)`.
        out: `(M, N)`.
        workspace: scratch memory.

    Returns:
        `(M, N)`.

    >>> import numpy as np
    >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]])
    """
    compute = find("matmul", a=a, b=b, out=out)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(
            f"matmul: needs matrices (M, K) and (K, N), got shapes {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    checks.result("matmul", (a.shape[0], b.shape[1]), out, None)
    return compute(a, b, out, workspace)
