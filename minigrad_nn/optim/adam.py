"""Adam, and AdamW, whose weight decay is decoupled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad_nn import kernels
from minigrad_nn.optim.base import Entry, Optimizer

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: steps of about `lr` in each coordinate, whatever the size of its gradients.

    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Args:
        params: tensors, or groups.
        lr: the learning rate, 0 or more.
        betas: how much of the running mean of gradients, and of their squares, stays; in [0, 1).
        eps: added to the divisor.
        weight_decay: this times the parameter is added to its gradient.
    """

    kernel = "adam_update"
    decoupled = False
    """Whether weight decay shrinks the parameter itself, apart from the gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if len(group["betas"]) != 2 or not all(0.0 <= beta < 1.0 for beta in group["betas"]):
            raise ValueError(
                f"{self._name}: betas must be two numbers in [0, 1), got {group['betas']}"
            )
        if not group["eps"] >= 0.0:
            raise ValueError(f"{self._name}: eps must be at least 0, got {group['eps']}")

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        lr, decay = group["lr"], group["weight_decay"]
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
        state["step"] += 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        a, b = self._room(p, 0), self._room(p, 1)
        if decay and self.decoupled:
            p *= 1.0 - lr * decay
        elif decay:
            g = np.add(np.multiply(p, decay, out=b), g, out=b)
        mean *= beta1
        mean += np.multiply(g, 1.0 - beta1, out=a)
        square *= beta2
        square += np.multiply(np.multiply(g, g, out=a), 1.0 - beta2, out=a)
        # Both running means start at 0, which these factors undo.
        np.sqrt(square, out=a)
        a /= math.sqrt(1.0 - beta2 ** state["step"])
        a += group["eps"]
        np.divide(mean, a, out=a)
        a *= lr / (1.0 - beta1 ** state["step"])
        p -= a

    def _age(self, state: dict[str, Any]) -> int:
        return int(state.get("step", 0))

    def _update_batch(self, batch: list[Entry], group: dict[str, Any]) -> None:
        for p, _, state in batch:
            if not state:
                state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
            state["step"] += 1
        kernels.adam_update(
            [p for p, _, _ in batch],
            [g for _, g, _ in batch],
            [state["exp_avg"] for _, _, state in batch],
            [state["exp_avg_sq"] for _, _, state in batch],
            step=batch[0][2]["step"],
            decoupled=self.decoupled,
            **{key: value for key, value in group.items() if key != "params"},
        )


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves: `p *= 1 - lr * weight_decay`.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.  Arguments as `Adam`.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
