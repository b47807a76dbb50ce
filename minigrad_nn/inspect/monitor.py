"""A callback of `fit` that watches the health of gradients over time."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.core import Node
from minigrad.observing import stand
from minigrad.study.health import Finding, Health, HealthRecorder
from minigrad.study.nodes import op_name

from ..train import Callback, Run

__all__ = ["HealthMonitor", "HealthRow"]

LARGE, SMALL = 1e-1, 1e-5
"""An update of a tenth of the weights destroys them; one of a hundred-thousandth does nothing."""


@dataclass
class HealthRow:
    """The health at one step.

    Attributes:
        step: how many batches had been learned from.
        health: the ledger of the backward pass.
        gradients: norm of each parameter's gradient, by its path.
        updates: norm of the last change of each parameter, over the parameter's own.
        weights: the parameters that are weights: of two axes or more.
    """

    step: int
    health: Health
    gradients: dict[str, float] = field(default_factory=dict)
    updates: dict[str, float] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong at this step, updates included."""
        found = self.health.findings
        for name, ratio in self.updates.items():
            if name not in self.weights:
                continue  # a bias begins at 0, where every step is large
            if ratio > LARGE:
                words, advice = "too large", "lower the learning rate"
            elif ratio < SMALL and self.gradients.get(name):
                words, advice = "too small", "raise the learning rate"
            else:
                continue
            text = f"a step changed {name} by {100 * ratio:.2g} % of its size: {advice}"
            found.append(Finding(f"update {words}", name, ratio, text))
        return found


class HealthMonitor(Callback):
    """Keeps the ledger of every so many backward passes while a model is trained.

    The numbers that it sees are those of the training itself: it stands beside the backward pass
    of `fit`, and changes nothing.

    Args:
        every: look at one step in so many; the others cost next to nothing.

    Attributes:
        rows: what was seen, a `HealthRow` for each step that was looked at.

    Raises:
        ValueError: `every` is less than 1.
    """

    def __init__(self, every: int = 50) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"HealthMonitor: every must be an integer from 1, got {every!r}")
        self.every = every
        self.rows: list[HealthRow] = []
        self._recorder = _Recorder()
        self._context: ExitStack | None = None
        self._before: dict[str, Any] = {}

    def on_begin(self, run: Run) -> None:
        self._recorder.paths = {id(p): path for path, p in run.model.named_parameters()}
        self._context = ExitStack()
        self._context.enter_context(stand(self._recorder))
        self._prepare(run)

    def on_batch(self, run: Run) -> None:
        health, self._recorder.found = self._recorder.found, None
        if self._recorder.wanted and health is not None:
            row = HealthRow(run.step, health)
            for path, parameter in run.model.named_parameters():
                if parameter.grad is not None:
                    row.gradients[path] = float(np.linalg.norm(parameter.grad.numpy()))
                if parameter.ndim > 1:
                    row.weights.add(path)
                size = float(np.linalg.norm(parameter.numpy()))
                change = float(np.linalg.norm(parameter.numpy() - self._before[path]))
                row.updates[path] = change / size if size else math.nan
            self.rows.append(row)
        self._prepare(run)

    def on_close(self, run: Run) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def _prepare(self, run: Run) -> None:
        """Look at the coming step, or not."""
        self._recorder.wanted = (run.step + 1) % self.every == 0 or run.step == 0
        self._before = {}
        if self._recorder.wanted:
            self._before = {p: np.array(v.numpy()) for p, v in run.model.named_parameters()}

    def findings(self) -> dict[str, list[int]]:
        """What was found, with the steps at which it was."""
        found: dict[str, list[int]] = {}
        for row in self.rows:
            for finding in row.findings:
                found.setdefault(f"{finding.kind}: {finding.where}", []).append(row.step)
        return found

    def __str__(self) -> str:
        if not self.rows:
            return "nothing was seen yet"
        lines = [
            f"step {self.rows[-1].step}, the last of {len(self.rows)}:",
            str(self.rows[-1].health),
        ]
        for words, steps in self.findings().items():
            lines.append(
                f"{words}   at {len(steps)} of {len(self.rows)} steps, first at {steps[0]}"
            )
        return "\n".join(lines)

    def plot(self) -> Any:
        """Norms of gradients and update-to-weight ratios over time (matplotlib)."""
        from minigrad.study.health_picture import plot_history

        return plot_history(
            [{"step": r.step, "gradients": r.gradients, "updates": r.updates} for r in self.rows]
        )


class _Recorder(HealthRecorder):
    """Names parameters by their path, and gates by the layer whose weights they use."""

    def __init__(self) -> None:
        super().__init__(self._name)
        self.wanted = False
        self.paths: dict[int, str] = {}

    def observe(self, order: Any, table: dict) -> Any:
        return super().observe(order, table) if self.wanted else order

    def _name(self, node: Node) -> str | None:
        """`c1` for the gate with the weights of layer c1, `c1.tanh` for one right behind it."""
        own = self._layer(node)
        if own is not None or node.op is None:
            return own
        behind = [name for source in node.inputs if (name := self._layer(source)) is not None]
        return f"{behind[0]}.{op_name(node)}" if len(behind) == 1 else None

    def _layer(self, node: Any) -> str | None:
        path = self._path(node)
        if path is not None:
            return path
        for source in getattr(node, "inputs", ()):
            path = self._path(source)
            if path is not None:
                return path.rpartition(".")[0] or path
        return None

    def _path(self, node: Any) -> str | None:
        reference = getattr(node, "owner", None)
        return None if reference is None else self.paths.get(id(reference()))
