"""Learning rates that change while training: in steps, on a curve, or when nothing improves.

A schedule writes `lr` into an optimiser's groups; `step()` is called after each epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from minigrad.effects import effect
from minigrad_nn.optim import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "LRScheduler",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


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

    @effect
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


class MultiStepLR(LRScheduler):
    """Multiply the learning rate by `gamma` at each of some epochs.

    Args:
        optimizer: whose learning rates to change.
        milestones: the epochs, each at least 1; one given twice counts twice.
        gamma: the factor.
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if not milestones or min(milestones) < 1:
            raise ValueError(
                f"MultiStepLR: milestones must be epochs of at least 1, got {list(milestones)}"
            )
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, epoch: int, base: float) -> float:
        return self.gamma ** bisect_right(self.milestones, epoch)


class LinearLR(LRScheduler):
    """Change the learning rate evenly from one share of it to another: a warm-up.

    Large first steps on random weights do harm; so start with a share of the learning rate (Goyal
    and others, "Accurate, large minibatch SGD", 2017).

    Args:
        optimizer: whose learning rates to change.
        start_factor: the share at the start, in (0, 1].
        end_factor: the share at the end and from then on, in [0, 1].
        total_iters: how many calls of `step` it takes, at least 1.

    >>> import minigrad
    >>> from minigrad_nn.optim import SGD
    >>> optimizer = SGD([minigrad.tensor(0.0, requires_grad=True)], lr=1.0)
    >>> schedule = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> for _ in range(3):
    ...     print(schedule.get_last_lr()[0])
    ...     schedule.step()
    0.5
    0.75
    1.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3.0,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        if not 0.0 < start_factor <= 1.0 or not 0.0 <= end_factor <= 1.0:
            raise ValueError(
                "LinearLR: start_factor must be in (0, 1] and end_factor in [0, 1], got "
                f"{start_factor} and {end_factor}"
            )
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be at least 1, got {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def factor(self, epoch: int, base: float) -> float:
        share = min(epoch / self.total_iters, 1.0)
        return self.start_factor + (self.end_factor - self.start_factor) * share


class SequentialLR(LRScheduler):
    """One schedule after the other, such as a warm-up and then a cosine.

    Each counts its own epochs from where it takes over, and starts from the learning rates that
    the first one found.

    Args:
        optimizer: whose learning rates to change.
        schedulers: of the same optimiser, in order.
        milestones: the epochs at which the second, third, ... takes over.

    Raises:
        ValueError: not one milestone fewer than schedulers, or one of another optimiser.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
    ) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(set(milestones)):
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} milestones "
                f"in rising order, got {list(milestones)}"
            )
        if any(part.optimizer is not optimizer for part in schedulers):
            raise ValueError("SequentialLR: all schedulers must be those of this optimizer")
        if any(isinstance(part, OneCycleLR) for part in schedulers):
            raise ValueError("SequentialLR: OneCycleLR has a warm-up of its own; use it alone")
        self.milestones = list(milestones)
        # The first one was made when the optimiser still had its own learning rates.
        bases = schedulers[0].base_lrs
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = base
        self._parts = list(schedulers)
        super().__init__(optimizer)

    def factor(self, epoch: int, base: float) -> float:
        part = bisect_right(self.milestones, epoch)
        start = self.milestones[part - 1] if part else 0
        return self._parts[part].factor(epoch - start, base)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser, as plain data; the parts follow from the epoch."""
        return {key: value for key, value in super().state_dict().items() if key != "_parts"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "_parts": self._parts})


class OneCycleLR(LRScheduler):
    """Up to a large learning rate and down to almost none, while momentum goes the other way.

    Called after each batch.  Smith and Topin, "Super-convergence", 2018.

    Args:
        optimizer: whose learning rates to change; its own are replaced.
        max_lr: the largest; one number, or one a group.
        total_steps: how many calls of `step` the cycle takes; or give the next two.
        epochs, steps_per_epoch: whose product it is.
        pct_start: the share of the cycle that goes up.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether momentum (the first of Adam's betas) goes down and up.
        base_momentum, max_momentum: where it goes down to, and comes from.
        div_factor: the first learning rate is `max_lr / div_factor`.
        final_div_factor: the last one is the first `/ final_div_factor`.
        three_phase: go down as slowly as up, and only then to the last one.

    Raises:
        ValueError: an argument out of its range, or more steps than the cycle has.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 2:
            raise ValueError(f"OneCycleLR: total_steps must be at least 2, got {total_steps}")
        if not 0.0 <= pct_start <= 1.0:
            raise ValueError(f"OneCycleLR: pct_start must be in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'OneCycleLR: anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}'
            )
        groups = optimizer.param_groups
        peaks = list(max_lr) if isinstance(max_lr, Sequence) else [max_lr] * len(groups)
        if len(peaks) != len(groups):
            raise ValueError(f"OneCycleLR: max_lr must have {len(groups)} numbers, got {max_lr}")
        if cycle_momentum and not all({"momentum", "betas"} & group.keys() for group in groups):
            raise ValueError(
                "OneCycleLR: this optimiser has neither momentum nor betas; give "
                "cycle_momentum=False"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.max_lrs = peaks
        up = float(pct_start * total_steps) - 1.0
        # Where each phase ends, and the learning rates (as shares of the peak) between which it
        # goes; momentum goes between the same two ends, the other way.
        first, last = 1.0 / div_factor, 1.0 / (div_factor * final_div_factor)
        high, low = max_momentum, base_momentum
        if three_phase:
            self.phases = [
                [up, first, 1.0, high, low],
                [2.0 * up, 1.0, first, low, high],
                [total_steps - 1.0, first, last, high, high],
            ]
        else:
            self.phases = [[up, first, 1.0, high, low], [total_steps - 1.0, 1.0, last, low, high]]
        super().__init__(optimizer)

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))

    def _at(self, step: int) -> tuple[float, float]:
        """The share of the peak, and the momentum, after so many steps."""
        if step > self.total_steps:
            raise ValueError(
                f"OneCycleLR: step was called {step} times, but the cycle has {self.total_steps}"
            )
        begin = 0.0
        for end, rate0, rate1, momentum0, momentum1 in self.phases:
            if step <= end or end == self.phases[-1][0]:
                share = (step - begin) / (end - begin) if end != begin else 1.0
                return self._between(rate0, rate1, share), self._between(
                    momentum0, momentum1, share
                )
            begin = end
        raise AssertionError("the last phase has an end")

    def factor(self, epoch: int, base: float) -> float:
        return self._at(epoch)[0]

    def _write(self) -> None:
        share, momentum = self._at(self.last_epoch)
        for group, peak in zip(self.optimizer.param_groups, self.max_lrs, strict=True):
            group["lr"] = peak * share
            if self.cycle_momentum and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif self.cycle_momentum:
                group["momentum"] = momentum


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

    @effect
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
