"""What happens around the training loop: logs, progress, checkpoints, schedules, an early stop.

A callback of your own overrides one or more of five events.  One that has a state of its own gives
it in `state_dict`, and it is saved and restored with every checkpoint.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io import write_atomically

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from .run import Run

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LearningRate",
    "MetricsLog",
    "ProgressBar",
]


class Callback:
    """Does something at the events of a run; by default nothing."""

    late = False
    """Whether to be called after the others, because it saves what they did."""

    def on_begin(self, run: Run) -> None:
        """Training begins, or goes on."""

    def on_batch(self, run: Run) -> None:
        """A batch has been learned from."""

    def on_epoch(self, run: Run) -> None:
        """An epoch is complete, and its numbers are the last of `run.history`."""

    def on_end(self, run: Run) -> None:
        """Training has ended: complete, stopped or interrupted."""

    def on_close(self, run: Run) -> None:
        """The very last, also after an exception: give back what is held, such as files."""

    def state_dict(self) -> Any:
        """What a checkpoint must hold of this callback, as plain data; None for nothing."""
        return None

    def load_state_dict(self, state: Any) -> None:
        """Take over a state of `state_dict`."""


class LearningRate(Callback):
    """Moves a schedule of the learning rate on.

    Args:
        schedule: of `minigrad_nn.schedule`.
        every: `"batch"` or `"epoch"`, what a step of the schedule is.
        monitor: for a schedule that looks at a number, as the one on plateaus: its name in the
            history, such as `"validation_loss"`; then a step is an epoch.

    Raises:
        ValueError: another `every`.
    """

    def __init__(self, schedule: Any, every: str = "epoch", monitor: str | None = None) -> None:
        if every not in ("batch", "epoch") or (every == "batch" and monitor is not None):
            raise ValueError(
                f"LearningRate: every must be 'batch' or 'epoch' (with a monitor 'epoch'), got "
                f"{every!r}"
            )
        self.schedule = schedule
        self.every = every
        self.monitor = monitor

    def on_batch(self, run: Run) -> None:
        if self.every == "batch":
            self.schedule.step()

    def on_epoch(self, run: Run) -> None:
        if self.monitor is not None:
            self.schedule.step(_look_up(run, self.monitor))
        elif self.every == "epoch":
            self.schedule.step()

    def state_dict(self) -> Any:
        return self.schedule.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.schedule.load_state_dict(state)


class EarlyStopping(Callback):
    """Stops when a number has not become better for some epochs.

    Args:
        monitor: its name in the history, such as `"validation_loss"`.
        patience: how many epochs without an improvement are borne, at least 1.
        larger_is_better: as for an accuracy; else smaller is better.
        min_delta: how much better counts as better.

    Raises:
        ValueError: a patience below 1.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 5,
        larger_is_better: bool = False,
        min_delta: float = 0.0,
    ) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1, got {patience}")
        self.monitor = monitor
        self.patience = patience
        self.larger_is_better = larger_is_better
        self.min_delta = min_delta
        self.best = math.inf
        self.waited = 0

    def on_epoch(self, run: Run) -> None:
        value = _look_up(run, self.monitor)
        cost = -value if self.larger_is_better else value
        if cost < self.best - self.min_delta:
            self.best, self.waited = cost, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            best = -self.best if self.larger_is_better else self.best
            run.stop = (
                f"{self.monitor} has not been better than {best:.4g} for {self.waited} epochs"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Any) -> None:
        best, waited = state["best"], state["waited"]
        if not isinstance(best, float) or not isinstance(waited, int) or waited < 0:
            raise ValueError(f"EarlyStopping cannot go on from {str(state)[:80]}")
        self.best, self.waited = best, waited


class Checkpoint(Callback):
    """Saves the run into one file, which always is whole: after epochs, and when training ends.

    Args:
        path: where; the name usually ends in `.safetensors`.
        every: how many epochs lie between two.
        config: plain data to keep in it.
    """

    late = True

    def __init__(self, path: str | os.PathLike[str], every: int = 1, config: Any = None) -> None:
        if every < 1:
            raise ValueError(f"Checkpoint: every must be at least 1, got {every}")
        self.path = Path(path)
        self.every = every
        self.config = config
        self._saved = -1

    def on_epoch(self, run: Run) -> None:
        if run.epoch % self.every == 0:
            self._save(run)

    def on_end(self, run: Run) -> None:
        if run.step != self._saved:
            self._save(run)

    def _save(self, run: Run) -> None:
        run.save(self.path, self.config)
        self._saved = run.step


class MetricsLog(Callback):
    """Writes `metrics.csv`, a line an epoch, and `metrics.jsonl`, a line a batch and an epoch.

    When a run goes on from a checkpoint, lines from after the checkpoint are dropped first, so
    that nothing stands twice.

    Args:
        folder: where; it is made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._waiting: list[str] = []

    @property
    def csv(self) -> Path:
        """The table, a line an epoch."""
        return self.folder / "metrics.csv"

    @property
    def jsonl(self) -> Path:
        """All events, a JSON object a line."""
        return self.folder / "metrics.jsonl"

    def on_begin(self, run: Run) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._waiting = []
        kept = [line for line in _lines(self.jsonl) if run.step and _is_before(line, run)]
        write_atomically(self.jsonl, "".join(kept).encode())
        self._write_table(run)

    def on_batch(self, run: Run) -> None:
        event = dict(event="batch", epoch=run.epoch + 1, step=run.step, lr=run.lr, loss=run.loss)
        self._waiting.append(json.dumps(event) + "\n")

    def on_epoch(self, run: Run) -> None:
        self._waiting.append(json.dumps({"event": "epoch", **run.history[-1]}) + "\n")
        self._flush()
        self._write_table(run)

    def on_close(self, run: Run) -> None:
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        with open(self.jsonl, "a", encoding="utf-8") as file:
            file.writelines(self._waiting)
        self._waiting = []

    def _write_table(self, run: Run) -> None:
        names = list(dict.fromkeys(name for row in run.history for name in row))
        text = StringIO(newline="")
        table = csv.DictWriter(text, names or ["epoch"], lineterminator="\n")
        table.writeheader()
        table.writerows(run.history)
        write_atomically(self.csv, text.getvalue().encode())


class ProgressBar(Callback):
    """Shows a bar while an epoch runs, and leaves one line for each that is complete.

    Where the output is no terminal there is no bar, only the lines.

    Args:
        console: a `rich` console; None for standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_begin(self, run: Run) -> None:
        if not self.console.is_terminal:
            return
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[words]}"),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        batches = len(run.loader)
        self._task = self._bar.add_task("", total=run.epochs * batches, words="")
        self._show(run)
        self._bar.start()

    def on_batch(self, run: Run) -> None:
        self._show(run)

    def on_epoch(self, run: Run) -> None:
        sets: dict[str, list[str]] = {}
        for key, value in run.history[-1].items():
            name, _, kind = key.rpartition("_")
            if kind in ("loss", "accuracy"):
                text = f"{100 * value:.2f} %" if kind == "accuracy" else f"{value:.4f}"
                sets.setdefault(name or "training", []).append(f"{kind} {text}")
        parts = [f"epoch {run.epoch:>{len(str(run.epochs))}}/{run.epochs}"]
        parts += [f"{name}: {', '.join(words)}" for name, words in sets.items()]
        line = "   ".join([*parts, f"{run.seconds:.1f} s"])
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_close(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, run: Run) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=run.step,
                description=f"epoch {min(run.epoch + 1, run.epochs)}/{run.epochs}",
                words=f"loss {run.loss:.4f}" if run.step else "",
            )


def _look_up(run: Run, name: str) -> float:
    row = run.history[-1]
    if name not in row:
        raise KeyError(f"{name!r} is not measured; the history has {', '.join(row)}")
    return float(row[name])


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8").splitlines(keepends=True)
    return []


def _is_before(line: str, run: Run) -> bool:
    """Whether a line from before a resume is of a step, or epoch, that the run has behind it."""
    try:
        event: Mapping[str, Any] = json.loads(line)
        if event["event"] == "epoch":
            return bool(event["epoch"] <= run.epoch)
        return bool(event["step"] <= run.step)
    except (ValueError, KeyError, TypeError):
        return False  # cut off by a crash
