"""Convolution whose only window is the whole input: matrix products, and nothing else.

An image is then one patch as it lies in memory, and an output has one place, so no operand and no
result needs copying. LeNet-5 ends in such a layer, which its authors count among the convolutions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..blas import matmul
from ..epilogue import Epilogue
from ..geometry import Geometry
from ..workspace import Workspace
from .arrays import Result, plain
from .finish import finish
from .patches import is_dense


def able(geometry: Geometry) -> bool:
    """Whether the filter covers its input, without padding, in one group."""
    return geometry.groups == 1 and is_dense(geometry)


def _rows(array: np.ndarray) -> np.ndarray:
    """An image, or a filter, in each row."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


@np.errstate(all="ignore")
def _multiplied(
    a: np.ndarray,
    b: np.ndarray,
    shape: tuple[int, ...],
    out: Any,
    epilogue: Epilogue | None,
    *arguments: np.ndarray,
) -> np.ndarray:
    """`a @ b` in this shape, with the epilogue."""
    parts = () if epilogue is None else (epilogue.bias, epilogue.residual)
    result = Result(shape, a.dtype, out, *arguments, *parts)
    y = result.buffer.reshape(len(a), b.shape[1])
    matmul(a, b, out=y)
    if epilogue is not None and epilogue.bias is not None and len(epilogue.bias) == y.shape[1]:
        y += epilogue.bias
        epilogue = Epilogue(residual=epilogue.residual, activation=epilogue.activation)
    finish(result.buffer, epilogue)
    return result.deliver()


def conv(
    x: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv` of whole images."""
    x, w = plain(x), plain(w)
    shape = (len(x), len(w), *geometry.output)
    return _multiplied(_rows(x), _rows(w).T, shape, out, epilogue, x, w)


def conv_input(
    g: np.ndarray,
    w: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_input` of whole images."""
    g, w = plain(g), plain(w)
    shape = (len(g), w.shape[1], *geometry.size)
    return _multiplied(_rows(g), _rows(w), shape, out, epilogue, g, w)


def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    geometry: Geometry,
    out: Any,
    workspace: Workspace | None,
    epilogue: Epilogue | None,
) -> np.ndarray:
    """`conv_weight` of whole images."""
    x, g = plain(x), plain(g)
    shape = (g.shape[1], x.shape[1], *geometry.kernel)
    return _multiplied(_rows(g).T, _rows(x), shape, out, epilogue, x, g)
