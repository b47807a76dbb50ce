"""Updates of parameters on a card: all arrays in one launch, cut in chunks that blocks share.

A launch for each array would cost more than the work on most of them, so the kernel gets addresses.
A card multiplies and adds in one operation, with one rounding, so its results may differ from the
CPU's in the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .array import CudaArray
from .arrays import nothing
from .driver import numba_cuda, simulated
from .launch import BLOCK, Kernel, kernel

cuda: Any = numba_cuda()

CHUNK = 8 if simulated() else 1 << 13
"""Numbers of one block."""
THREADS = 4 if simulated() else BLOCK

if simulated():

    def _number(address: int, i: int, like: Any) -> Any:
        kind = np.ctypeslib.as_ctypes_type(like.dtype)
        return kind.from_address(int(address) + int(i) * like.dtype.itemsize)

    def load(address: Any, i: Any, like: Any) -> Any:
        """The number at an address, of the type of `like`."""
        return like.dtype.type(_number(address, i, like).value)

    def store(address: Any, i: Any, value: Any, like: Any) -> None:
        """Write a number to an address."""
        _number(address, i, like).value = value

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    def _pointer(context: Any, builder: Any, address: Any, i: Any, kind: Any) -> Any:
        element = context.get_value_type(kind)
        # Address space 1 is the card's own memory.
        return builder.gep(builder.inttoptr(address, ir.PointerType(element, 1)), [i])

    @intrinsic
    def load(typingctx: Any, address: Any, i: Any, like: Any) -> Any:
        """The number at an address, of the type of `like`."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, i, _ = arguments
            return builder.load(_pointer(context, builder, address, i, signature.return_type))

        return like.dtype(types.int64, types.int64, like), codegen

    @intrinsic
    def store(typingctx: Any, address: Any, i: Any, value: Any, like: Any) -> Any:
        """Write a number to an address."""
        kind = like.dtype

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, i, value, _ = arguments
            builder.store(value, _pointer(context, builder, address, i, kind))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind, like), codegen


_uploaded: dict[tuple[Any, ...], tuple[CudaArray, CudaArray]] = {}
# Parameters keep their place, and gradients get the same ones step after step.
TABLES_KEPT = 16


def _tables(*lists: Sequence[CudaArray]) -> tuple[CudaArray, CudaArray]:
    """Addresses of all arrays, one row for each parameter, and the chunks, in the card's memory.

    A chunk is the number of its row, where it begins, and how many numbers it has.
    """
    first = lists[0][0]
    rows = tuple(a._block.address + a.offset for arrays in lists for a in arrays)
    sizes = tuple(p.size for p in lists[0])
    key = (type(first), rows, sizes)
    found = _uploaded.get(key)
    if found is None:
        chunks = [
            (row, start, min(CHUNK, size - start))
            for row, size in enumerate(sizes)
            for start in range(0, size, CHUNK)
        ]
        table = np.array(rows, np.int64).reshape(len(lists), -1).T
        found = (
            first.from_numpy(np.ascontiguousarray(table).reshape(-1)),
            first.from_numpy(np.array(chunks, np.int64).reshape(-1)),
        )
        if len(_uploaded) >= TABLES_KEPT:
            del _uploaded[next(iter(_uploaded))]
        _uploaded[key] = found
    return found


@cache
def sgd(dtype: Any) -> Kernel:
    """Stochastic gradient descent; a block takes a chunk."""
    name = np.dtype(dtype).name

    def sgd_kernel(addresses, chunks, like, lists, lr, momentum, share, decay, nesterov, first):
        row = chunks[3 * cuda.blockIdx.x]
        start = chunks[3 * cuda.blockIdx.x + 1]
        end = start + chunks[3 * cuda.blockIdx.x + 2]
        p_at, g_at = addresses[row * lists], addresses[row * lists + 1]
        v_at = addresses[row * lists + lists - 1]
        for i in range(start + cuda.threadIdx.x, end, cuda.blockDim.x):
            p = load(p_at, i, like)
            slope = load(g_at, i, like)
            if decay != 0:
                slope = p * decay + slope
            if lists > 2:
                speed = slope
                if not first:
                    speed = load(v_at, i, like) * momentum + slope * share
                store(v_at, i, speed, like)
                slope = speed * momentum + slope if nesterov else speed
            store(p_at, i, p - slope * lr, like)

    sgd_kernel.__name__ = f"sgd_{name}"
    four = ", ".join([name] * 4)
    made = kernel(f"void(int64[::1], int64[::1], {name}[::1], int64, {four}, int64, int64)")
    return made(sgd_kernel)


@cache
def adam(dtype: Any) -> Kernel:
    """Adam; `keep` is what decoupled decay leaves of a parameter, `decay` the other kind."""
    real, name = np.dtype(dtype).type, np.dtype(dtype).name

    def adam_kernel(
        addresses, chunks, like, beta1, rest1, beta2, rest2, root, rate, eps, decay, keep
    ):
        row = chunks[3 * cuda.blockIdx.x]
        start = chunks[3 * cuda.blockIdx.x + 1]
        end = start + chunks[3 * cuda.blockIdx.x + 2]
        p_at, g_at = addresses[row * 4], addresses[row * 4 + 1]
        m_at, s_at = addresses[row * 4 + 2], addresses[row * 4 + 3]
        for i in range(start + cuda.threadIdx.x, end, cuda.blockDim.x):
            p = load(p_at, i, like)
            slope = load(g_at, i, like)
            if decay != 0:
                slope = p * decay + slope
            mean = load(m_at, i, like) * beta1 + slope * rest1
            square = load(s_at, i, like) * beta2 + slope * slope * rest2
            store(m_at, i, mean, like)
            store(s_at, i, square, like)
            step = mean / (real(math.sqrt(square)) / root + eps) * rate
            store(p_at, i, p * keep - step, like)

    adam_kernel.__name__ = f"adam_{name}"
    nine = ", ".join([name] * 9)
    return kernel(f"void(int64[::1], int64[::1], {name}[::1], {nine})")(adam_kernel)


def sgd_update(
    parameters: Sequence[CudaArray],
    gradients: Sequence[CudaArray],
    velocities: Sequence[CudaArray] | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None:
    """See `minigrad_nn.kernels.sgd_update`."""
    like = parameters[0]
    number = like.dtype.type
    # Without momentum the velocities, if there are any, stay as they are.
    moving = velocities is not None and momentum != 0
    lists = [parameters, gradients, *([velocities] if velocities is not None and moving else [])]
    addresses, chunks = _tables(*lists)
    if chunks.size:
        settings = [number(value) for value in (lr, momentum, 1.0 - dampening, weight_decay)]
        sgd(like.dtype)(
            chunks.size // 3, THREADS, addresses, chunks, nothing(type(like), like.dtype),
            len(lists), *settings, int(nesterov), int(first),
        )  # fmt: skip


def adam_update(
    parameters: Sequence[CudaArray],
    gradients: Sequence[CudaArray],
    means: Sequence[CudaArray],
    squares: Sequence[CudaArray],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """See `minigrad_nn.kernels.adam_update`."""
    like = parameters[0]
    addresses, chunks = _tables(parameters, gradients, means, squares)
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
    if chunks.size:
        adam(like.dtype)(
            chunks.size // 3, THREADS, addresses, chunks, nothing(type(like), like.dtype),
            *(like.dtype.type(value) for value in settings),
        )  # fmt: skip


def examples(full: bool) -> list[Kernel]:
    """Kernels as tests compile them."""
    kinds = ("float32", "float64") if full else ("float32",)
    return [f(t) for f in (sgd, adam) for t in kinds]
