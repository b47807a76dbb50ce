"""What the kernels of optimisers mean: one call moves all parameters that share their settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .registry import find

__all__ = ["adam_update", "sgd_update"]

# An array of any registered device.
Array = Any


def sgd_update(
    parameters: Sequence[Array],
    gradients: Sequence[Array],
    velocities: Sequence[Array] | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first: bool = False,
) -> None:
    """Stochastic gradient descent on all parameters, in place and in one pass over memory.

    `g += weight_decay · p`, `v = momentum · v + (1 − dampening) · g` (`v = g` at the first step),
    then `p −= lr · v`, or with Nesterov's momentum `p −= lr · (g + momentum · v)`.  Each step is
    rounded as NumPy's operations round it, so that the result has the same bits.

    Args:
        parameters: contiguous arrays of one element type; they are written.
        gradients: as many, of the same shapes; they stay as they are.
        velocities: as many, written too; None without momentum.
        lr, momentum, dampening, weight_decay, nesterov: as `minigrad_nn.optim.SGD` has them.
        first: whether the velocities hold nothing yet.

    Raises:
        ValueError: lists or arrays that do not belong together, or memory with gaps.

    >>> import numpy as np
    >>> p = np.ones(2)
    >>> sgd_update([p], [np.array([1.0, 2.0])], lr=0.5)
    >>> p
    array([0.5, 0. ])
    """
    if not parameters:
        return
    compute = find("sgd_update", parameters=parameters[0])
    lists = dict(parameters=parameters, gradients=gradients)
    if velocities is not None:
        lists["velocities"] = velocities
    elif momentum:
        raise ValueError("sgd_update: momentum needs velocities, one array for each parameter")
    _check("sgd_update", lists)
    compute(
        parameters, gradients, velocities, lr, momentum, dampening, weight_decay, nesterov, first
    )


def adam_update(
    parameters: Sequence[Array],
    gradients: Sequence[Array],
    means: Sequence[Array],
    squares: Sequence[Array],
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """Adam (Kingma and Ba, 2015) on all parameters, in place and in one pass over memory.

    `m = β₁ · m + (1 − β₁) · g`, `s = β₂ · s + (1 − β₂) · g²`, and
    `p −= lr / (1 − β₁ᵗ) · m / (√s / √(1 − β₂ᵗ) + eps)`.  Each step is rounded as NumPy's operations
    round it.

    Args:
        parameters: contiguous arrays of one element type; they are written.
        gradients: as many, of the same shapes; they stay as they are.
        means, squares: m and s, written too; zeros before the first step.
        step: t, 1 at the first.
        lr, betas, eps, weight_decay: as `minigrad_nn.optim.Adam` has them.
        decoupled: weight decay shrinks the parameter, as in AdamW, and leaves the gradient.

    Raises:
        ValueError: lists or arrays that do not belong together, or memory with gaps.
    """
    if not parameters:
        return
    compute = find("adam_update", parameters=parameters[0])
    lists = dict(parameters=parameters, gradients=gradients, means=means, squares=squares)
    _check("adam_update", lists)
    compute(parameters, gradients, means, squares, step, lr, betas, eps, weight_decay, decoupled)


def _check(kernel: str, lists: dict[str, Sequence[Array]]) -> None:
    parameters = lists["parameters"]
    dtype = parameters[0].dtype
    for name, arrays in lists.items():
        if len(arrays) != len(parameters):
            raise ValueError(
                f"{kernel}: {len(arrays)} {name} given for {len(parameters)} parameters"
            )
        for i, (array, p) in enumerate(zip(arrays, parameters, strict=True)):
            if type(array) is not type(p) or array.dtype != dtype or array.shape != p.shape:
                raise ValueError(
                    f"{kernel}: {name}[{i}] must be a {type(p).__name__} of {dtype} and of the "
                    f"parameter's shape {p.shape}, got a {type(array).__name__} of {array.dtype} "
                    f"and shape {array.shape}"
                )
            if not array.flags.c_contiguous:
                raise ValueError(f"{kernel}: {name}[{i}] must be contiguous; its memory has gaps")
