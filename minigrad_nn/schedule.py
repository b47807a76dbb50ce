"""Learning rates that change while training: in steps, along a cosine, or when nothing improves.

A schedule writes `lr` into an optimiser's groups; `step()` is called after each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minigrad_nn.optim import Optimizer

__all__ = ["CosineAnnealingLR", "LRScheduler", "ReduceLROnPlateau", "StepLR"]


class LRScheduler:
    """What schedules over the number of epochs have in common.

    Args:
        optimizer: whose learning rates, as they are now, are the ones to start from.

    Attributes:
        last_epoch: how many times `step` was called.
        base_lrs: the learning rates at the start, one a group.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(
                f"{type(self).__name__}: needs an optimizer whose rate it sets, got "
                f"{type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.last_epoch = 0
        self._write()

    def factor(self, epoch: int, base: float) -> float:
        """By how much the learning rate `base` is multiplied after so many epochs."""
        raise NotImplementedError  # each schedule has its own

    def step(self) -> None:
        """Go on to the next epoch."""
        self.last_epoch += 1
        self._write()

    def get_last_lr(self) -> list[float]:
        """The learning rates in force, one a group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _write(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * self.factor(self.last_epoch, base)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser, as plain data."""
        state = {key: value for key, value in vars(self).items() if key != "optimizer"}
        return {key: list(v) if isinstance(v, list) else v for key, v in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; the learning rates are in the optimiser's state.

        Raises:
            ValueError: it is the state of another kind of schedule.
        """
        own = set(vars(self)) - {"optimizer"}
        if set(state) != own:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: fields {sorted(state)} given, "
                f"{sorted(own)} wanted"
            )
        vars(self).update(state)


class StepLR(LRScheduler):
    """Multiply the learning rate by `gamma` every `step_size` epochs.

    Args:
        optimizer: whose learning rates to change.
        step_size: in epochs, at least 1.
        gamma: the factor.

    >>> import minigrad
    >>> from minigrad_nn.optim import SGD
    >>> optimizer = SGD([minigrad.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for epoch in range(4):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, epoch: int, base: float) -> float:
        return self.gamma ** (epoch // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """Go from the learning rate to `eta_min` along half a cosine, in `T_max` epochs.

    `eta_min + (lr - eta_min) * (1 + cos(pi * epoch / T_max)) / 2` (Loshchilov and Hutter, "SGDR",
    2017, without restarts); after `T_max` it rises again.

    Args:
        optimizer: whose learning rates to change.
        T_max: in epochs, at least 1.
        eta_min: the smallest learning rate.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def factor(self, epoch: int, base: float) -> float:
        if base == 0.0:
            return 1.0
        least = self.eta_min / base
        return least + (1.0 - least) * (1.0 + math.cos(math.pi * epoch / self.T_max)) / 2.0


class ReduceLROnPlateau:
    """Multiply the learning rate by `factor` when a metric has not improved for a while.

    Args:
        optimizer: whose learning rates to change.
        mode: "min" where less is better (a loss), "max" where more is (an accuracy).
        factor: below 1.
        patience: so many epochs without improvement are let pass.
        threshold: by how much a value must be better to count as an improvement.
        threshold_mode: "rel" for a share of the best value, "abs" for a difference.
        cooldown: so many epochs after a cut nothing is counted.
        min_lr: the smallest learning rate.
        eps: smaller changes are not made.

    Attributes:
        best: the best value so far.
        num_bad_epochs: how many epochs there was no improvement.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'ReduceLROnPlateau: mode must be "min" or "max", got {mode!r}')
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f'ReduceLROnPlateau: threshold_mode must be "rel" or "abs", got {threshold_mode!r}'
            )
        if not factor < 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0

    def step(self, metric: float) -> None:
        """Look at this epoch's value, and cut the learning rates if it is time to.

        Args:
            metric: a number, or a tensor with one element.
        """
        value = float(metric)
        self.last_epoch += 1
        if self._better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lower = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lower > self.eps:
                    group["lr"] = lower
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _better(self, value: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1.0 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    get_last_lr = LRScheduler.get_last_lr
    state_dict = LRScheduler.state_dict
    load_state_dict = LRScheduler.load_state_dict
