"""Stochastic gradient descent, with momentum, Nesterov's too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad_nn import kernels
from minigrad_nn.optim.base import Entry, Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    `v = momentum * v + (1 - dampening) * g`, where the first v is g; then `p -= lr * v`, or with
    Nesterov's momentum `p -= lr * (g + momentum * v)` (Sutskever and others, "On the importance of
    initialization and momentum in deep learning", 2013).

    Args:
        params: tensors, or groups.
        lr: the learning rate, 0 or more.
        momentum: how much of the former direction stays, in [0, 1).
        dampening: how much of the new gradient is left out of it.
        weight_decay: this times the parameter is added to its gradient.
        nesterov: look ahead; it needs momentum and no dampening.

    >>> import minigrad
    >>> x = minigrad.tensor(4.0, requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1)
    >>> (x * x).backward()
    >>> optimizer.step()
    >>> print(f"{x.item():.2f}")
    3.20
    """

    kernel = "sgd_update"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                dampening=dampening,
                weight_decay=weight_decay,
                nesterov=nesterov,
            ),
        )

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["momentum"] >= 0.0:
            raise ValueError(f"SGD: momentum must be at least 0, got {group['momentum']}")
        if group["nesterov"] and (group["momentum"] == 0.0 or group["dampening"] != 0.0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and a dampening of 0")

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        momentum, decay = group["momentum"], group["weight_decay"]
        room = self._room(p, 0)
        if decay:
            g = np.add(np.multiply(p, decay, out=room), g, out=room)
        if momentum:
            v = state.get("momentum_buffer")
            if v is None:
                v = state["momentum_buffer"] = g.copy()
            else:
                v *= momentum
                share = 1.0 - group["dampening"]
                v += g if share == 1.0 else np.multiply(g, share, out=self._room(p, 1))
            if group["nesterov"]:
                ahead = self._room(p, 1)
                np.add(np.multiply(v, momentum, out=ahead), g, out=ahead)
                v = ahead
        else:
            v = g
        p -= np.multiply(v, group["lr"], out=room)

    def _age(self, state: dict[str, Any]) -> int:
        return int("momentum_buffer" in state)

    def _update_batch(self, batch: list[Entry], group: dict[str, Any]) -> None:
        first = bool(group["momentum"]) and "momentum_buffer" not in batch[0][2]
        if first:
            for p, _, state in batch:
                state["momentum_buffer"] = np.empty_like(p)
        kernels.sgd_update(
            [p for p, _, _ in batch],
            [g for _, g, _ in batch],
            [state["momentum_buffer"] for _, _, state in batch] if group["momentum"] else None,
            first=first,
            **{key: value for key, value in group.items() if key != "params"},
        )
