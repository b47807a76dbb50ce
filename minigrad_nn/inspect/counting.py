"""What an operation costs: its multiply-adds and the memory of its result, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigrad.core import Op

from ..kernels import Geometry, checks

__all__ = ["is_view", "multiply_adds", "stand_in"]

Shape = tuple[int, ...]

_CONV = ("conv", "conv_bias", "conv_bias_relu")
_TRANSPOSED = ("conv_input", "conv_input_bias")
_LINEAR = ("linear", "linear_bias")
# Operations over all steps, and which argument is the weight.
_RECURRENT = {"rnn_steps": 2, "lstm_steps": 3, "gru_steps": 2}


def multiply_adds(
    name: str, shapes: Sequence[Shape], result: Shape, params: Mapping[str, Any]
) -> int:
    """How many products an operation adds up; 0 where it is not made of such sums.

    Biases, normalisation, pools and non-linearities count nothing, as in the lectures; taps on
    padding count like any other.

    Args:
        name: of the operation.
        shapes: of its arguments.
        result: the shape of what it gives.
        params: its static parameters.

    >>> multiply_adds("conv", [(1, 3, 32, 32), (6, 3, 5, 5)], (1, 6, 28, 28), {})
    352800
    """
    if name in _CONV:
        return math.prod(result) * math.prod(shapes[1][1:])
    if name in _TRANSPOSED:
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    if name == "conv_weight":
        return math.prod(shapes[1]) * math.prod(result[1:])
    if name in _LINEAR or name == "matmul":
        return math.prod(result) * shapes[0][-1]
    if name in _RECURRENT:  # each step multiplies its state by the weights of all gates
        return math.prod(shapes[0]) * shapes[_RECURRENT[name]][1]
    if name == "einsum" and len(shapes) > 1:
        terms = params["terms"]
        sizes = {
            letter: size
            for term, shape in zip(terms, shapes, strict=False)
            for letter, size in zip(term, shape, strict=True)
        }
        return math.prod(sizes.values())
    return 0


def is_view(op: Op, params: Mapping[str, Any]) -> bool:
    """Whether a result shares the memory of the first argument, and costs none of its own."""
    if op.name != "getitem":
        return op.view
    index = params["index"]
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice)) for p in parts)


def stand_in(op: Op, args: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Zeros in place of what a kernel would compute, for who wants to know its shape only.

    None where the operation is cheap, or where its arguments do not fit: then it is to be computed,
    or to say itself what is wrong.

    Raises:
        ValueError: a convolution or pool whose shapes do not belong together.
    """
    if any(type(arg) is not np.ndarray for arg in args):
        return None
    name, first = op.name, args[0]
    if name in ("max_pool", "average_pool", "sum_pool"):
        geometry = params["geometry"]
        zeros = np.zeros(checks.pool(name, geometry, x=first), first.dtype)
        if geometry.uncovered is not None:
            return None
        return (zeros, _first_places(geometry, zeros.shape)) if name == "max_pool" else zeros
    if len({arg.dtype for arg in args}) > 1:
        return None
    if name == "batch_norm_given":
        fits = all(arg.shape == first.shape[1:2] for arg in args[1:])
        return np.zeros(first.shape, first.dtype) if fits else None
    channels = -1
    if name in _CONV and first.ndim == args[1].ndim:
        shape, channels = checks.conv(name, params["geometry"], x=first, w=args[1]), 1
    elif name in _TRANSPOSED and first.ndim == args[1].ndim:
        shape, channels = checks.conv(name, params["geometry"], g=first, w=args[1]), 1
    elif name in _LINEAR and first.shape[-1] == args[1].shape[-1]:
        shape = (*first.shape[:-1], args[1].shape[0])
    elif name == "matmul" and first.ndim == args[1].ndim == 2 and first.shape[1] == len(args[1]):
        shape = (first.shape[0], args[1].shape[1])
    else:
        return None
    if len(args) == 3 and args[2].shape != (shape[channels],):
        return None
    return np.zeros(shape, first.dtype)


def _first_places(geometry: Geometry, shape: Shape) -> np.ndarray:
    """Where the maxima stand if all are equal: at the first tap of each window in the input."""
    flat = np.zeros((1,) * geometry.axes, np.int64)
    for axis, size in enumerate(geometry.size):
        start = np.arange(geometry.output[axis]) * geometry.stride[axis] - geometry.padding[axis][0]
        step = geometry.dilation[axis]
        places = np.where(start < 0, start % step, start)
        along = [1] * geometry.axes
        along[axis] = len(places)
        flat = flat * size + places.reshape(along)
    return np.broadcast_to(flat, shape).astype(np.int32)
