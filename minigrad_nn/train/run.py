"""`Run`: where a training stands.  Callbacks look at it, and a checkpoint holds it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Loader
from ..io import CheckpointError, load_checkpoint, save_checkpoint
from ..module import Module

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .callbacks import Callback

__all__ = ["NonFiniteLossError", "Run"]


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite; the parameters are those from before that batch."""


class Run:
    """Where a training stands, for callbacks to look at and for checkpoints to hold.

    Attributes:
        model: what is trained.
        loader: gives the batches.
        optimizer: changes the parameters.
        epochs: how many epochs the whole training has.
        epoch: how many of them are complete.
        step: how many batches have been learned from, over all epochs.
        loss: of the last batch.
        history: one mapping of numbers for each complete epoch: `epoch`, `step`, `lr`, `seconds`,
            `loss`, the metrics, and the same of each validation set, as `test_loss`.
        seconds: spent in training so far, over all sessions.
        stop: why to stop before the end, as words, or None; a callback sets it.
        interrupted: whether it was Ctrl-C that stopped it.
    """

    def __init__(
        self,
        model: Module,
        loader: Loader,
        optimizer: Optimizer,
        epochs: int,
        callbacks: list[Callback],
    ) -> None:
        self.model = model
        self.loader = loader
        self.optimizer = optimizer
        self.epochs = epochs
        self.callbacks = callbacks
        self.epoch = 0
        self.step = 0
        self.loss = math.nan
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.stop: str | None = None
        self.interrupted = False
        self._sums: dict[str, float] = {}
        self._samples = 0

    def __repr__(self) -> str:
        return f"<Run: {self.epoch} of {self.epochs} epochs, {self.step} steps>"

    # --- counting --------------------------------------------------------------------------------

    def count(self, values: Mapping[str, float], samples: int) -> None:
        """Add the mean loss and metrics of a batch to the means of the epoch."""
        self.step += 1
        self.loss = values["loss"]
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * samples
        self._samples += samples

    def means(self) -> dict[str, float]:
        """Means over the samples of this epoch so far."""
        return {name: total / self._samples for name, total in self._sums.items()}

    def close_epoch(self, validation: Mapping[str, float]) -> None:
        """Write a complete epoch into the history."""
        self.epoch += 1
        row = dict(epoch=self.epoch, step=self.step, lr=self.lr, seconds=round(self.seconds, 3))
        self.history.append({**row, **self.means(), **validation})
        self._sums, self._samples = {}, 0

    @property
    def lr(self) -> float:
        """The learning rate now, of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def stopped(self) -> bool:
        """Whether something wishes to stop before the end."""
        return self.stop is not None

    # --- saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """How far the training is, as plain data."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "history": [dict(row) for row in self.history],
            "sums": dict(self._sums),
            "samples": self._samples,
            "optimizer": type(self.optimizer).__name__,
        }

    def load_state_dict(self, state: Any) -> None:
        """Take over such a state.

        Raises:
            ValueError: it is none; nothing is changed then.
        """
        wanted = dict(
            epoch=int, step=int, seconds=float, history=list, sums=dict, samples=int, optimizer=str
        )
        if not isinstance(state, Mapping) or set(state) != set(wanted):
            raise ValueError(f"the progress of a run has the fields {', '.join(wanted)}")
        for name, kind in wanted.items():
            if type(state[name]) is not kind or (kind in (int, float) and not state[name] >= 0):
                raise ValueError(f"{name} of a run cannot be {str(state[name])[:80]!r}")
        own = type(self.optimizer).__name__
        if state["optimizer"] != own:
            raise ValueError(f"it was trained by {state['optimizer']}, this run has {own}")
        rows = state["history"]
        if len(rows) != state["epoch"] or not all(map(_is_row, [*rows, state["sums"]])):
            raise ValueError("the history of a run must have one mapping of numbers for each epoch")
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.history = [dict(row) for row in rows]
        self._sums, self._samples = dict(state["sums"]), state["samples"]

    def save(self, path: str | os.PathLike[str], config: Any = None) -> Path:
        """Write everything that is needed to go on bit-exactly into one file, atomically.

        Args:
            path: where.
            config: plain data of your own, which `read_checkpoint(path)["config"]` gives back.

        Raises:
            OSError: it cannot be written; an older checkpoint there is unchanged.
        """
        states = {name: callback.state_dict() for name, callback in self._stateful().items()}
        return save_checkpoint(
            path,
            model=self.model,
            optimizer=self.optimizer,
            loader=self.loader,
            run=self,
            callbacks=states,
            config=config,
        )

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from such a file: everything is loaded, or nothing.

        Raises:
            CheckpointError: it is damaged, is no checkpoint, or belongs to another set-up.
            OSError: it cannot be read.
        """
        load_checkpoint(
            path,
            model=self.model,
            optimizer=self.optimizer,
            loader=self.loader,
            run=self,
            callbacks=_Callbacks(self._stateful()),
        )

    def _stateful(self) -> dict[str, Callback]:
        """The callbacks that have a state, by names that do not depend on the others."""
        found: dict[str, Callback] = {}
        for callback in self.callbacks:
            if callback.state_dict() is not None:
                name = stem = type(callback).__name__
                count = 1
                while name in found:
                    count += 1
                    name = f"{stem} {count}"
                found[name] = callback
        return found


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(name, str) and isinstance(value, float | int) for name, value in row.items()
    )


class _Callbacks:
    """The states of callbacks as one part of a checkpoint."""

    def __init__(self, callbacks: Mapping[str, Callback]) -> None:
        self.callbacks = callbacks

    def state_dict(self) -> dict[str, Any]:
        return {name: callback.state_dict() for name, callback in self.callbacks.items()}

    def load_state_dict(self, state: Any) -> None:
        for name, callback in self.callbacks.items():
            if not isinstance(state, Mapping) or name not in state:
                raise CheckpointError(f"it was saved without the callback {name}")
            callback.load_state_dict(state[name])
