"""A debugger for backprop: the backward pass, forward and back one gate at a time.

    with study.stepping(loss) as s:
        s.step()                 # one gate hands on its gradient
        s.run_to(op="relu")      # on to the next gate of a kind
        s.back()                 # take one step back
        print(s)                 # what has just happened, and what is known so far
        s.save("backprop.html")  # all of it as one page for a browser

The walk is `core.walk`, opened up: each step is one gate, and what it changed is written down, so
that it can be taken back.  Nothing is ever added in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core import Node
from minigrad.observing import passage
from minigrad.scalar import Scalar
from minigrad.study.contributions import Amount, Contribution
from minigrad.study.nodes import (
    dense,
    graph_of,
    node_of,
    norm,
    parts_of,
    seed_of,
    selects,
    symbols,
)

__all__ = ["Step", "Stepping", "stepping"]

_NOTHING: Any = object()
"""Stands for "no gradient yet", where None could be a gradient's part."""


@dataclass(slots=True)
class Step:
    """One gate of a backward pass, and what it changed.

    Attributes:
        gate: the node whose gradient is handed on.
        gate_gradient: what it had received, raw; None if nothing reached it.
        contributions: what it gave to each of its inputs.
        totals: for each of these, what its input has received so far, raw.
        complete: nodes that have received everything with this step.
    """

    gate: Node
    gate_gradient: Any
    contributions: list[Contribution] = field(default_factory=list)
    totals: list[Any] = field(default_factory=list)
    complete: list[Node] = field(default_factory=list)
    _before: dict[Node, Any] = field(default_factory=dict)
    _after: dict[Node, Any] = field(default_factory=dict)

    def completes(self, node: Node) -> bool:
        """Whether a node has received everything with this step."""
        return any(other is node for other in self.complete)  # Scalars are equal by value

    @property
    def finite(self) -> bool:
        """Whether all numbers of this step are finite."""
        values = [self.gate_gradient] if self.gate_gradient is not None else []
        values += [flow.contribution for flow in self.contributions]
        return all(_is_finite(value) for value in values)


class Stepping:
    """A backward pass that stands still between two gates; made by `stepping`.

    Attributes:
        root: the node where it begins.
        position: how many gates have handed on their gradient.
        names: a short name for each node, all different.
    """

    def __init__(self, loss: Any, gradient: Any = None) -> None:
        order = graph_of(loss, "stepping")
        self.loss = loss
        self.root = node_of(loss, "stepping")
        self.position = 0
        self.names = symbols(sorted(order, key=lambda node: node.seq))
        self._length = sum(node.op is not None for node in order)
        self._nodes = set(order)
        self._log: list[Step] = []
        self._gradients: dict[Node, Any] = {}
        self._closed_gate = False
        self._returns: list[Callable[[], None]] | None = None
        self._left = False
        self._waiting = _uses(order)

        self._through = passage()
        self._table: dict[Node, Any] = {}
        self._seed = seed_of(loss, gradient)
        self._add(self.root, self._seed)
        self._gradients.update(self._table)
        steps: Iterable[Node] = order
        if self._through is not None:
            steps = self._through.observe(steps, self._table)
        self._order: Iterator[Node] = iter(steps)
        self._seek(None)

    def __enter__(self) -> Stepping:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.finish()
        self._left = True

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<Stepping at {self.position} of {len(self)}>"

    # --- moving ----------------------------------------------------------------------------------

    def step(self, count: int = 1) -> Step | None:
        """Let `count` gates hand on their gradients.

        With the last gate the gradients are handed over to `.grad`, as `backward()` does.

        Returns:
            What happened last; None where it was at the end already.
        """
        found = None
        for _ in range(count):
            if self.position == len(self._log) and not self._advance():
                break
            found = self._log[self.position]
            self._gradients.update(found._after)
            self.position += 1
        if self.position == len(self) and self._returns is None and not self._left:
            self._hand_over()
        return found

    def back(self, count: int = 1) -> Step | None:
        """Take `count` steps back; `.grad` too is again what it was.

        Returns:
            The step in focus now; None at the beginning.
        """
        for _ in range(min(count, self.position)):
            self._take_back()
            self.position -= 1
            for node, value in self._log[self.position]._before.items():
                if value is _NOTHING:
                    self._gradients.pop(node, None)
                else:
                    self._gradients[node] = value
        return self.focus

    def go(self, position: int) -> Step | None:
        """Go to a position from 0 to `len(s)`; negative ones count from the end.

        Raises:
            IndexError: there is no such position.
        """
        wanted = position + len(self) + 1 if position < 0 else position
        if not 0 <= wanted <= len(self):
            raise IndexError(f"go: positions are 0 to {len(self)}, got {position}")
        if wanted < self.position:
            self.back(self.position - wanted)
        else:
            self.step(wanted - self.position)
        return self.focus

    def finish(self) -> None:
        """Run to the end."""
        self.step(len(self) - self.position)

    def run_to(
        self, op: Any = None, *, name: str | None = None, nonfinite: bool = False
    ) -> Step | None:
        """Step at least once, and on until one of the conditions given is met.

        Args:
            op: the gate that hands on its gradient is made by this op (a name, a pattern such as
                `"conv*"`, or anything else that selects nodes).
            name: the gate has this name, or an input of this name has just received everything.
            nonfinite: NaN or infinity is among what comes in or flows out.

        Returns:
            The step where it stopped; None if no step met the condition: it is at the end then.

        Raises:
            ValueError: no condition is given.
        """
        if op is None and name is None and not nonfinite:
            raise ValueError("run_to: give op=, name= or nonfinite=True; finish() runs to the end")
        selected = selects(op) if op is not None else None
        while (found := self.step()) is not None:
            if selected is not None and selected(found.gate):
                return found
            if name is not None:
                at = [found.gate, *(node for node in found.complete if node.op is None)]
                if any(name in (node.name, self.names.get(node)) for node in at):
                    return found
            if nonfinite and not found.finite:
                return found
        return None

    # --- looking ---------------------------------------------------------------------------------

    @property
    def focus(self) -> Step | None:
        """The last step; None at the beginning."""
        return self._log[self.position - 1] if self.position else None

    @property
    def next(self) -> Node | None:
        """The gate whose turn is next; None at the end."""
        if self.position < len(self._log):
            return self._log[self.position].gate
        return self._next

    @property
    def start(self) -> float | Amount:
        """The gradient that the root begins with."""
        return _described(self._seed)

    @property
    def steps(self) -> list[Step]:
        """All steps up to here."""
        return self._log[: self.position]

    def gradient(self, x: Any) -> Any:
        """What a Scalar, Tensor or node has received up to here, raw; None if nothing.

        Raises:
            ValueError: it is not on the way of this backward pass.
        """
        node = node_of(x, "gradient")
        if node not in self._nodes:
            raise ValueError("gradient: no gradient from this loss reaches that node")
        found = self._gradients.get(node)
        return None if found is None else _raw(found)

    def complete(self, x: Any) -> bool:
        """Whether a node has received everything that it will receive."""
        node = node_of(x, "complete")
        return node is self.root or any(step.completes(node) for step in self.steps)

    def known(self) -> dict[Node, Any]:
        """All gradients up to here, raw, complete or not, by node."""
        return {node: _raw(value) for node, value in self._gradients.items()}

    def trace(self) -> tuple[list[Step], dict[Node, Any]]:
        """All steps to the end, and all gradients there; nothing is handed over or moved."""
        place, left = self.position, self._left
        self._left = True  # so that `.grad` stays as it is
        try:
            self.finish()
            return list(self._log), self.known()
        finally:
            self.back(self.position - place)
            self._left = left

    # --- showing ---------------------------------------------------------------------------------

    def __str__(self) -> str:
        from minigrad.study.terminal import words

        return words(self)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[str]:
        # A string that is yielded here is read as rich's markup; nothing of rich is needed.
        from minigrad.study.terminal import markup

        yield markup(self)

    def _repr_html_(self) -> str:
        from minigrad.study.page import snapshot

        return snapshot(self)

    def html(self, title: str | None = None, **region: Any) -> str:
        """One page that needs no network: the graph, play and pause, each step in full.

        Args:
            title: a heading.
            region: what part of a large graph to show, as for `minigrad.draw`: `max_nodes`,
                `depth`, `around` with `radius`.

        Raises:
            GraphTooLarge: there are more nodes than `max_nodes` (200), with advice.
        """
        from minigrad.study.page import page

        return page(self, title, **region)

    def save(self, path: str | os.PathLike[str], title: str | None = None, **region: Any) -> Path:
        """Write that page to a file, whole or not at all.

        Raises:
            ValueError: the name does not end in `.html`.
            GraphTooLarge: as `html`.
        """
        from minigrad.draw.drawing import write_atomically

        path = Path(path)
        if path.suffix.lower() != ".html":
            raise ValueError(f"save: a stepping is saved as .html, got {path.name!r}")
        write_atomically(path, self.html(title, **region).encode())
        return path

    def interact(self, read: Callable[[str], str] = input, show: Callable = print) -> None:
        """Step by commands typed into a terminal: `help` lists them.

        Args:
            read: asks for a line, given a prompt.
            show: prints; `rich.print` gives colours.
        """
        from minigrad.study.terminal import interact

        interact(self, read, show)

    # --- the walk --------------------------------------------------------------------------------

    def _seek(self, step: Step | None) -> None:
        """Find the next gate; the hooks of leaves on the way belong to the step before."""
        for node in self._order:
            if node.op is not None:
                self._next: Node | None = node
                return
            g = self._table.pop(node, None)
            if g is not None and node.hooks and step is not None:
                self._hooked(node, g, step)
        self._next = None

    def _advance(self) -> bool:
        """Execute the next gate and write down what it changes."""
        node = self._next
        if node is None:
            self._length = len(self._log)
            return False
        step = Step(node, None)
        with np.errstate(all="ignore"):
            g = self._table.pop(node, None)
            if g is not None:
                self._execute(node, self._hooked(node, g, step), step)
            for source, need in zip(node.inputs, node.needs, strict=True):
                if need:
                    self._waiting[source] -= 1
                    if not self._waiting[source]:
                        step.complete.append(source)
            self._seek(step)
        self._log.append(step)
        return True

    def _execute(self, node: Node, g: Any, step: Step) -> None:
        step.gate_gradient = _described(g)
        needs = node.needs
        if True not in needs:
            return
        if self._through is not None:
            found = self._through._pull(node, g, needs, False, self._closed_gate)
        else:
            found = node.pull(g, needs, False, self._closed_gate)
        slopes = node.pull(1.0, needs, False) if isinstance(node, Scalar) else None
        for position, (source, flow) in enumerate(zip(node.inputs, found, strict=True)):
            if flow is None:
                continue
            total = self._add(source, flow)
            self._change(step, source, total)
            step.totals.append(_described(total))
            slope = None if slopes is None else slopes[position]
            step.contributions.append(
                Contribution(source, node, position, step.gate_gradient, slope, _described(flow))
            )
        self._closed_gate = self._closed_gate or node.op.selects

    def _add(self, node: Node, flow: Any) -> Any:
        """Add to what a node has received, without touching what it had."""
        total = self._table.get(node)
        if isinstance(total, list):  # of a node with several outputs, which is filled in place
            total = list(total)
        merge = _merge if self._through is None else self._through._merge
        self._table[node] = total = merge(node, total, flow, set())
        return total

    def _hooked(self, node: Node, g: Any, step: Step) -> Any:
        for hook in list(node.hooks or ()):
            replaced = hook(g)
            if replaced is not None:
                g = replaced
                self._change(step, node, g)
        return g

    def _change(self, step: Step, node: Node, value: Any) -> None:
        step._before.setdefault(node, self._gradients.get(node, _NOTHING))
        step._after[node] = value

    # --- the end ---------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        self._returns = []
        receive = _receive if self._through is None else self._through.receive
        for node, g in self._gradients.items():
            if node.keeps_grad:
                self._returns.append(_memory(node))
                receive(node, g, False, False)

    def _take_back(self) -> None:
        if self._returns is not None and not self._left:
            for restore in self._returns:
                restore()
            self._returns = None


def _merge(node: Node, *args: Any) -> Any:
    return node.merge(*args)


def _receive(node: Node, *args: Any) -> None:
    node.receive(*args)


def _memory(node: Any) -> Callable[[], None]:
    """A function that gives a node back the gradient that it shows now."""
    holder = node if isinstance(node, Scalar) else node.owner() if node.owner else None
    if holder is None:
        return lambda: None
    name = "grad" if isinstance(node, Scalar) else "_grad"
    before = getattr(holder, name)
    return lambda: setattr(holder, name, before)


def _uses(order: list[Node]) -> dict[Node, int]:
    """How many contributions each node will receive."""
    counts = dict.fromkeys(order, 0)
    for node in order:
        for source, need in zip(node.inputs, node.needs, strict=True):
            if need:
                counts[source] += 1
    return counts


def _raw(value: Any) -> Any:
    if isinstance(value, list):
        return [None if part is None else dense(part) for part in value]
    return dense(value)


def _described(value: Any) -> float | Amount:
    if type(value) is float:
        return value
    parts = parts_of(value)
    kept = parts if isinstance(value, list) else parts[0]
    return Amount(np.shape(parts[0]) if parts else (), norm(value), kept)


def _is_finite(value: float | Amount) -> bool:
    found = value.values if isinstance(value, Amount) else value
    parts = found if isinstance(found, list) else [found]
    return all(bool(np.isfinite(part).all()) for part in parts)


def stepping(loss: Any, gradient: Any = None) -> Stepping:
    """Step through the backward pass of `loss`: for use in a `with` statement.

    At the end of the block the pass runs to its end, so that the block does what
    `loss.backward()` does; an exception that leaves the block leaves all gradients as they were.
    The graph is kept (as by `retain_graph=True`).  Lines and names are shown for what was built
    under `study.recording()`.

    Args:
        loss: a Scalar or a Tensor on a graph.
        gradient: what to start with; 1 for a single number.

    Raises:
        TypeError, ValueError: `loss` stands on no graph, or depends on nothing that requires a
            gradient.
        GraphError: a value that the graph needs was changed since.

    >>> import minigrad
    >>> x, y, z = (minigrad.scalar(v, name=n) for v, n in ((-2.0, "x"), (5.0, "y"), (-4.0, "z")))
    >>> with stepping((x + y) * z) as s:
    ...     _ = s.step()
    ...     print(s)
    step 1 of 2: v2 = multiply(v1, z)
      gate gradient of v2: 1
      to v1: g × b = 1 × (-4) = -4; v1 has received -4, complete
      to z: g × a = 1 × 3 = 3; z has received 3, complete
    next: v1 = add(x, y)
    >>> x.grad, y.grad, z.grad
    (-4.0, -4.0, 3.0)
    """
    return Stepping(loss, gradient)
