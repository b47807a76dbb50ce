"""A reverse-mode autograd engine, from one scalar gate to tensors and derivatives of any order.

>>> import minigrad
>>> x = minigrad.scalar(4.0, name="x")
>>> y = minigrad.scalar(-3.0, name="y")
>>> f = x * y
>>> f.backward()
>>> x.grad, y.grad
(-3.0, 4.0)

Where to read on: `core` (ops, nodes, the walk), `scalar`, `ops.elementwise` (the rules), `tensor`,
`transforms`.  Functions on tensors carry NumPy's names and live here; called on plain NumPy arrays
or numbers they give plain results.
"""

import importlib
from typing import Any

from minigrad import backend, random
from minigrad.backend import device
from minigrad.core import GraphError, Op, enable_grad, is_recording, no_grad, op
from minigrad.creation import (
    arange,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from minigrad.dtypes import bool_, float16, float32, float64, int8, int16, int32, int64, uint8
from minigrad.effects import CaptureError
from minigrad.memory import empty_memory, memory_stats
from minigrad.ops.elementwise import (
    abs,
    absolute,
    add,
    arccos,
    arcsin,
    arctan,
    arctan2,
    ceil,
    clip,
    cos,
    cosh,
    divide,
    equal,
    exp,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    where,
)
from minigrad.ops.index import argsort, put, put_along_axis, scatter, sort, take, take_along_axis
from minigrad.ops.linalg import (
    cholesky,
    det,
    diagonal,
    dot,
    einsum,
    inv,
    matmul,
    norm,
    outer,
    solve,
    tensordot,
    trace,
)
from minigrad.ops.reduce import (
    all,
    any,
    argmax,
    argmin,
    cumsum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from minigrad.ops.shape import (
    astype,
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    pad,
    ravel,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
)
from minigrad.random import manual_seed
from minigrad.scalar import Scalar, scalar
from minigrad.tensor import Tensor, tensor
from minigrad.threads import get_num_threads, set_num_threads
from minigrad.transforms import (
    checkpoint,
    grad,
    gradients,
    hessian,
    hvp,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)

pow = power
__version__ = "0.1.0"

# Loaded on first use, since an engine that only computes needs none of them.
_LAZY = {
    "capture": "minigrad.replay.steps",
    "check": "minigrad.check",
    "check_gradients": "minigrad.check",
    "cuda": "minigrad.cuda",
    "draw": "minigrad.draw",
    "study": "minigrad.study",
    "testing": "minigrad.testing",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    value = module if _LAZY[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


__all__ = [n for n in globals() if not n.startswith("_") and n not in ("Any", "importlib")]
__all__ += [name for name in _LAZY if name != "study"]
