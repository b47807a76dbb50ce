"""Updates of parameters: many arrays in one call, cut in chunks that the cores share.

What limits an update is memory: NumPy's operations pass over each array four to twelve times, these
kernels once.  An entry point that took each array as an argument would be compiled again for each
number of them, so a kernel gets addresses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, prange, types
from numba.extending import intrinsic

from .compile import kernel

# Numbers in one piece of work.
CHUNK = 1 << 14


_untyped: Any = intrinsic


@_untyped
def _pointer(typingctx: Any, address: Any, like: Any) -> Any:
    """The address as a pointer to elements of the array's type."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), codegen


def _table(*lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Addresses of all arrays, one row for each parameter, and the chunks."""
    rows = [[a.__array_interface__["data"][0] for a in arrays] for arrays in lists]
    return np.array(rows, np.int64).T.copy(), _chunks(tuple([p.size for p in lists[0]]))


@lru_cache(maxsize=16)
def _chunks(sizes: tuple[int, ...]) -> np.ndarray:
    """For each chunk the number of its row, where it begins, and how many numbers it has."""
    chunks = [
        (row, start, min(CHUNK, size - start))
        for row, size in enumerate(sizes)
        for start in range(0, size, CHUNK)
    ]
    return np.array(chunks, np.int64).reshape(-1, 3)


@kernel
def sgd_kernel(addresses, chunks, like, lr, momentum, share, decay, nesterov, first):
    """All chunks; `like` is an empty array of the element type, numbers are of that type."""
    for c in prange(len(chunks)):
        row, start, count = chunks[c]
        at = start * like.itemsize
        p = carray(_pointer(addresses[row, 0] + at, like), count)
        g = carray(_pointer(addresses[row, 1] + at, like), count)
        if momentum == 0:
            for i in range(count):
                p[i] -= (p[i] * decay + g[i]) * lr if decay != 0 else g[i] * lr
            continue
        v = carray(_pointer(addresses[row, 2] + at, like), count)
        for i in range(count):
            slope = p[i] * decay + g[i] if decay != 0 else g[i]
            # A share of 1 is no exception: it changes no bit.
            speed = slope if first else v[i] * momentum + slope * share
            v[i] = speed
            p[i] -= (speed * momentum + slope if nesterov else speed) * lr


def sgd_update(
    parameters: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    velocities: Sequence[np.ndarray] | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None:
    """See `minigrad_nn.kernels.sgd_update`."""
    number = parameters[0].dtype.type
    lists = [parameters, gradients] + ([velocities] if velocities is not None else [])
    addresses, chunks = _table(*lists)
    settings = [number(value) for value in (lr, momentum, 1.0 - dampening, weight_decay)]
    like = np.empty(0, number)
    sgd_kernel(addresses, chunks, like, *settings, bool(nesterov), bool(first))


@kernel
def adam_kernel(addresses, chunks, like, beta1, rest1, beta2, rest2, root, rate, eps, decay, keep):
    """All chunks; `keep` is what decoupled decay leaves of a parameter, `decay` the other kind."""
    for c in prange(len(chunks)):
        row, start, count = chunks[c]
        at = start * like.itemsize
        p = carray(_pointer(addresses[row, 0] + at, like), count)
        g = carray(_pointer(addresses[row, 1] + at, like), count)
        m = carray(_pointer(addresses[row, 2] + at, like), count)
        s = carray(_pointer(addresses[row, 3] + at, like), count)
        for i in range(count):
            slope = p[i] * decay + g[i] if decay != 0 else g[i]
            mean = m[i] * beta1 + slope * rest1
            square = s[i] * beta2 + slope * slope * rest2
            m[i] = mean
            s[i] = square
            p[i] = p[i] * keep - mean / (np.sqrt(square) / root + eps) * rate


def adam_update(
    parameters: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    means: Sequence[np.ndarray],
    squares: Sequence[np.ndarray],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """See `minigrad_nn.kernels.adam_update`."""
    number = parameters[0].dtype.type
    addresses, chunks = _table(parameters, gradients, means, squares)
    settings = (
        betas[0],
        1.0 - betas[0],
        betas[1],
        1.0 - betas[1],
        math.sqrt(1.0 - betas[1] ** step),
        lr / (1.0 - betas[0] ** step),
        eps,
        0.0 if decoupled else weight_decay,
        1.0 - lr * weight_decay if decoupled else 1.0,
    )
    adam_kernel(addresses, chunks, np.empty(0, number), *[number(value) for value in settings])
