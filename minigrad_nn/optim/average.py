"""The exponential moving average of weights, which often generalises better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.effects import effect
from minigrad.tensor import Tensor

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage:
    """A slowly moving copy of parameters: `average = decay * average + (1 - decay) * parameter`.

    The first update copies (Polyak and Juditsky, "Acceleration of stochastic approximation by
    averaging", 1992, in its exponential form).  Call `update()` after each step of the optimiser,
    and evaluate inside `with average.applied():`.

    Args:
        params: tensors, such as `model.parameters()`.
        decay: how much of the average stays, in [0, 1].

    Attributes:
        updates: how many times `update` was called.

    Raises:
        ValueError: no parameters, or decay out of its range.

    >>> import minigrad
    >>> w = minigrad.tensor(1.0, requires_grad=True)
    >>> average = ExponentialMovingAverage([w], decay=0.5)
    >>> average.update()
    >>> _ = w.assign(3.0)
    >>> average.update()
    >>> with average.applied():
    ...     print(w.item())
    2.0
    """

    def __init__(self, params: Iterable[Tensor], decay: float = 0.999) -> None:
        self.params = [params] if isinstance(params, Tensor) else list(params)
        if not self.params:
            raise ValueError("ExponentialMovingAverage: no parameters given")
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"ExponentialMovingAverage: decay must be in [0, 1], got {decay}")
        self.decay = decay
        self.updates = 0
        self._averages = [p._data.copy() for p in self.params]

    @effect
    def update(self) -> None:
        """Take the parameters as they are now into the average."""
        for average, p in zip(self._averages, self.params, strict=True):
            if self.updates == 0:
                average[...] = p._data
            else:
                average += (p._data - average) * (1.0 - self.decay)
        self.updates += 1

    def averages(self) -> list[Tensor]:
        """Copies of the averages, in the order of the parameters."""
        return [Tensor(average.copy()) for average in self._averages]

    @effect
    def copy_to(self) -> None:
        """Write the averages into the parameters, for good."""
        for average, p in zip(self._averages, self.params, strict=True):
            p.assign(average, "ExponentialMovingAverage")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the `with` block the parameters are the averages; afterwards they are back."""
        held = [p._data.copy() for p in self.params]
        self.copy_to()
        try:
            yield
        finally:
            for value, p in zip(held, self.params, strict=True):
                p.assign(value, "ExponentialMovingAverage")

    def state_dict(self) -> dict[str, Any]:
        """The averages as copied arrays, by number, and how many updates went into them."""
        arrays = [np.array(backend.device_of(a).to_numpy(a)) for a in self._averages]
        return {"decay": self.decay, "updates": self.updates, "averages": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, for the same parameters.

        Raises:
            ValueError: other fields, or averages of other shapes; nothing is loaded then.
        """
        wanted = [a.shape for a in self._averages]
        if set(state) != {"decay", "updates", "averages"}:
            raise ValueError(
                f"ExponentialMovingAverage.load_state_dict: fields {sorted(state)} given, "
                "['averages', 'decay', 'updates'] wanted"
            )
        found = [np.shape(a) for a in state["averages"]]
        if found != wanted:
            raise ValueError(
                f"ExponentialMovingAverage.load_state_dict: shapes {found} given, {wanted} wanted"
            )
        for average, value in zip(self._averages, state["averages"], strict=True):
            average[...] = backend.device_of(average).from_numpy(np.asarray(value, average.dtype))
        self.decay, self.updates = float(state["decay"]), int(state["updates"])
