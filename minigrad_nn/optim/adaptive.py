"""RMSprop and Adagrad: each coordinate's step is divided by the size of its gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad_nn.optim.base import Optimizer

__all__ = ["Adagrad", "RMSprop"]


class RMSprop(Optimizer):
    """Divide by the root of the running mean of squared gradients.

    Hinton, "Neural networks for machine learning", lecture 6, 2012; the centred form, which
    subtracts the squared running mean, is from Graves, "Generating sequences", 2013.

    Args:
        params: tensors, or groups.
        lr: the learning rate, 0 or more.
        alpha: how much of the running means stays, in [0, 1).
        eps: added to the divisor.
        weight_decay: this times the parameter is added to its gradient.
        momentum: how much of the former step stays, 0 or more.
        centered: whether to divide by the deviation instead.

    >>> import minigrad
    >>> x = minigrad.tensor(4.0, requires_grad=True)
    >>> optimizer = RMSprop([x], lr=0.1, alpha=0.75)
    >>> (x * x).backward()
    >>> optimizer.step()
    >>> print(f"{x.item():.2f}")
    3.80
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            dict(
                lr=lr,
                alpha=alpha,
                eps=eps,
                weight_decay=weight_decay,
                momentum=momentum,
                centered=centered,
            ),
        )

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not 0.0 <= group["alpha"] < 1.0:
            raise ValueError(f"RMSprop: alpha must be in [0, 1), got {group['alpha']}")
        for name in ("eps", "momentum"):
            if not group[name] >= 0.0:
                raise ValueError(f"RMSprop: {name} must be at least 0, got {group[name]}")

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        alpha, momentum, decay = group["alpha"], group["momentum"], group["weight_decay"]
        if not state:
            state.update(step=0, square_avg=np.zeros_like(p))
            if momentum:
                state["momentum_buffer"] = np.zeros_like(p)
            if group["centered"]:
                state["grad_avg"] = np.zeros_like(p)
        state["step"] += 1
        a, b = self._room(p, 0), self._room(p, 1)
        if decay:
            g = np.add(np.multiply(p, decay, out=b), g, out=b)
        square = state["square_avg"]
        square *= alpha
        square += np.multiply(np.multiply(g, g, out=a), 1.0 - alpha, out=a)
        if group["centered"]:
            mean = state["grad_avg"]
            mean *= alpha
            mean += np.multiply(g, 1.0 - alpha, out=a)
            np.subtract(square, np.multiply(mean, mean, out=a), out=a)
            np.sqrt(a, out=a)
        else:
            np.sqrt(square, out=a)
        a += group["eps"]
        np.divide(g, a, out=a)
        if momentum:
            v = state["momentum_buffer"]
            v *= momentum
            v += a
            a = np.multiply(v, group["lr"], out=a)
        else:
            a *= group["lr"]
        p -= a


class Adagrad(Optimizer):
    """Divide by the root of the sum of all squared gradients so far: steps only get smaller.

    Duchi and others, "Adaptive subgradient methods for online learning", 2011.

    Args:
        params: tensors, or groups.
        lr: the learning rate, 0 or more.
        lr_decay: the learning rate is divided by `1 + (step - 1) * lr_decay` besides.
        weight_decay: this times the parameter is added to its gradient.
        initial_accumulator_value: what the sum starts with.
        eps: added to the divisor.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            dict(
                lr=lr,
                lr_decay=lr_decay,
                weight_decay=weight_decay,
                initial_accumulator_value=initial_accumulator_value,
                eps=eps,
            ),
        )

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        for name in ("lr_decay", "initial_accumulator_value", "eps"):
            if not group[name] >= 0.0:
                raise ValueError(f"Adagrad: {name} must be at least 0, got {group[name]}")

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, sum=np.full_like(p, group["initial_accumulator_value"]))
        rate = group["lr"] / (1.0 + state["step"] * group["lr_decay"])
        state["step"] += 1
        a, b = self._room(p, 0), self._room(p, 1)
        if group["weight_decay"]:
            g = np.add(np.multiply(p, group["weight_decay"], out=b), g, out=b)
        total = state["sum"]
        total += np.multiply(g, g, out=a)
        np.sqrt(total, out=a)
        a += group["eps"]
        np.divide(g, a, out=a)
        a *= rate
        p -= a
