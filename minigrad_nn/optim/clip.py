"""Clipping of gradients, by their common norm or by value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.effects import effect
from minigrad.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _with_grad(tensors: list[Tensor]) -> list[Tensor]:
    return [p for p in tensors if p._grad is not None]


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients down together so that their common norm is at most `max_norm`.

    Args:
        parameters: a tensor or several; those without a gradient are passed over.
        max_norm: above it, gradients are multiplied by `max_norm / (norm + 1e-6)`.
        norm_type: 2 for the Euclidean norm, `math.inf` for the largest magnitude, or another p.
        error_if_nonfinite: raise where the norm is infinite or NaN.

    Returns:
        The norm before.

    Raises:
        FloatingPointError: the norm is not finite, if that was asked for.
        ValueError: a `max_norm` below 0, or a `norm_type` that is not above it.
    """
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not max_norm >= 0.0:
        raise ValueError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    if norm_type <= 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type}")
    return _clip_norm(tensors, max_norm, norm_type, error_if_nonfinite)


@effect
def _clip_norm(
    tensors: list[Tensor], max_norm: float, norm_type: float, error_if_nonfinite: bool
) -> float:
    tensors = _with_grad(tensors)
    norms = [_norm(p._grad._data, norm_type) for p in tensors if p._grad is not None]
    total = _norm(np.array(norms, np.float64), norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise FloatingPointError(f"clip_grad_norm_: the norm of the gradients is {total}")
    factor = max_norm / (total + 1e-6)
    # Written so that a norm of NaN is not taken for a small one.
    if not factor >= 1.0:
        for p in tensors:
            p.grad = p._grad.detach() * factor if p._grad is not None else None
    return total


def _norm(values: Any, p: float) -> float:
    if values.size == 0:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        if p == math.inf:
            return float(np.abs(values).max())
        if p == 2.0:
            flat = values.ravel()
            return math.sqrt(float(np.dot(flat, flat)))
        return float((np.abs(values) ** p).sum() ** (1.0 / p))


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit every element of every gradient to `[-clip_value, clip_value]`."""
    if not clip_value >= 0.0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    _clip_value(tensors, clip_value)


@effect
def _clip_value(tensors: list[Tensor], clip_value: float) -> None:
    for p in _with_grad(tensors):
        if p._grad is not None:
            p.grad = p._grad.detach().clip(-clip_value, clip_value)
