"""The health of gradients: how they grow and shrink along the depth, and why.

For each gate of a backward pass: the norm of what came in, the norm of what went on, and the
logarithm of their ratio, the *log gain*.  Along a chain these add up to how much the gradient has
grown or shrunk on the way.  Activations are looked at too (units that never fire, saturated ones),
and the causes are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.core import Node, walk
from minigrad.draw.style import format_number
from minigrad.nodes import OutputNode
from minigrad.observing import Interposer, stand
from minigrad.study.nodes import graph_of, node_of, norm, op_name, seed_of, symbols

__all__ = ["Finding", "Gate", "Health", "HealthRecorder", "health"]

SATURATED = {"tanh": (-0.97, 0.97), "sigmoid": (0.03, 0.97)}
"""Beyond these an activation passes less than about 6 % (tanh) or 12 % (sigmoid) of the most that
it can."""

DEAD_SHARE = 0.5
SATURATED_SHARE = 0.5
EXPLODING = 1e3
"""A gradient that has grown by this factor on its way explodes; by its inverse, it vanishes."""

UNITS = 2
"""Activations of at least so many axes have units along the second, seen by all samples."""


@dataclass(slots=True)
class Gate:
    """What a backward pass was like at one gate.

    Attributes:
        name: of the node, or a short one.
        op: of the gate.
        module: path of the module that made it, where that was recorded.
        depth: how many gates the gradient had passed, on the longest way.
        gate_gradient: norm of what came in.
        handed_on: norm of what went on to each input, by its name.
        gain: the *log gain*: log of what went on over what came in, to the input that leads on (the
            largest such; a leaf only counts where there is none).
        share: of dead units (relu), or of saturated values (tanh, sigmoid); None elsewhere.
        finite: whether all of it was.
    """

    name: str
    op: str
    module: str | None
    depth: int
    gate_gradient: float
    handed_on: dict[str, float] = field(default_factory=dict)
    gain: float = math.nan
    share: float | None = None
    finite: bool = True

    def gain_to(self, name: str) -> float:
        """The log gain to one input, by name; NaN where nothing came in."""
        return _log_gain(self.gate_gradient, self.handed_on[name])

    @property
    def title(self) -> str:
        """Where this is, in words."""
        where = f" in {self.module}" if self.module else ""
        return f"{self.op} {self.name}{where}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: "dead relu", "saturated", "vanishing", "exploding", "no gradient", "not finite",
            "update too large" or "update too small".
        where: of what: a gate, a leaf, a parameter.
        value: the number that shows it.
        text: the finding and its cause, in a sentence.
    """

    kind: str
    where: str
    value: float
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Health:
    """The ledger of one backward pass; made by `health`.

    Attributes:
        gates: in the order of the walk, from the loss down.
        leaves: norm of the gradient of each leaf, by name.
        weights: norm of the values of each leaf, where they are at hand.
        start: norm of the gradient at the loss.
    """

    gates: list[Gate]
    leaves: dict[str, float]
    weights: dict[str, float]
    start: float

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, and why; empty where all is well."""
        return list(_diagnosed(self))

    def gate(self, name: str) -> Gate:
        """The gate of this name.

        Raises:
            KeyError: there is none.
        """
        found = [gate for gate in self.gates if gate.name == name]
        if not found:
            raise KeyError(f"health: no gate is named {name!r}")
        return found[0]

    def way_to(self, leaf: str) -> list[tuple[Gate, float]]:
        """The gates on the way to a leaf, from it up to the loss, where most came from each time.

        Each with its log gain towards the leaf.  Along a chain they add up to the log of the
        leaf's gradient over the loss's.
        """
        return _way_to(self, leaf)

    def __str__(self) -> str:
        rows = [("depth", "gate", "gate gradient", "log gain", "dead / saturated")]
        for gate in self.gates:
            share = "" if gate.share is None else f"{100 * gate.share:.0f} %"
            gain = "" if math.isnan(gate.gain) else f"{gate.gain:+.2f}"
            rows.append(
                (str(gate.depth), gate.title, format_number(gate.gate_gradient, 3), gain, share)
            )
        lines = _aligned(rows)
        lines += [f"leaf {name}: ‖grad‖ {format_number(g, 3)}" for name, g in self.leaves.items()]
        lines += [str(finding) for finding in self.findings] or ["healthy"]
        return "\n".join(lines)

    def plot(self, axes: Any = None) -> Any:
        """A picture of the ledger (matplotlib): the gradient's norm along the depth.

        Findings are marked by their shape as well as by colour.

        Returns:
            The figure.

        Raises:
            ImportError: matplotlib is missing.
        """
        from minigrad.study.health_picture import plot_health

        return plot_health(self, axes)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


class HealthRecorder(Interposer):
    """Stands beside a backward walk and keeps its norms; changes nothing.

    Attributes:
        found: of the last walk that was observed; None before the first.
        names: a function that names a node; its own name where it gives None.
    """

    def __init__(self, names: Callable[[Node], str | None] | None = None) -> None:
        self.found: Health | None = None
        self.names = names
        self._inside = False
        self._gates: list[tuple[Node, float, list, bool]] = []
        self._totals: dict[Node, Any] = {}
        self._nodes: list[Node] = []
        self._walking = False

    def observe(self, order: Sequence, table: dict) -> Iterable:
        if self._walking:  # a walk inside of a walk, such as a checkpoint's
            return order
        return self._observed(list(order), table)

    def _observed(self, order: list, table: dict) -> Iterable:
        self._walking = True
        self._gates, self._nodes = [], order
        leaves: dict[Node, Any] = {}
        start = 0.0
        try:
            for node in order:
                g = table.get(node)
                if node is order[0] and g is not None:
                    start = norm(g)
                if node.op is None and g is not None:
                    leaves[node] = g
                yield node
        finally:
            self._walking = False
        self.found = self._ledger(leaves, start)
        self._gates, self._nodes = [], []

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        if self._inside or not self._walking:
            return proceed(node, g, needs, record, closed)
        self._inside = True
        try:
            found = proceed(node, g, needs, record, closed)
        finally:
            self._inside = False
        with np.errstate(all="ignore"):
            amount = norm(g)
            flows = [None if flow is None else norm(flow) for flow in found]
        # Read now: a walk that frees the graph frees what the gate has kept.
        self._gates.append((node, amount, flows, _share(node)))
        return found

    def _ledger(self, leaves: dict[Node, Any], start: float) -> Health:
        names = symbols(sorted(self._nodes, key=lambda node: node.seq))
        if self.names is not None:
            _rename(names, self.names, self._nodes)
        depths: dict[Node, int] = {}
        gates = []
        for node, amount, flows, share in self._gates:
            depth = depths.setdefault(node, 0)
            gate = Gate(names[node], op_name(node), _module(node), depth, amount)
            for source, flow in zip(node.inputs, flows, strict=True):
                if flow is not None:
                    depths[source] = max(depths.get(source, 0), depth + 1)
                    key = names[source]
                    gate.handed_on[key] = max(flow, gate.handed_on.get(key, 0.0))
            inner = {names[source] for source in node.inputs if getattr(source, "op", None)}
            most = [g for n, g in gate.handed_on.items() if n in inner] or gate.handed_on.values()
            gate.gain = _log_gain(amount, max(most, default=math.nan))
            gate.finite = all(map(math.isfinite, [amount, *gate.handed_on.values()]))
            gate.share = None if share is False else share
            if not isinstance(node, OutputNode):
                gates.append(gate)
        weights = {}
        for node in leaves:
            owner = getattr(node, "owner", None)
            tensor = owner() if owner is not None else None
            value = getattr(node if tensor is None else tensor, "_data", None)
            if value is not None:
                weights[names[node]] = norm(value)
        with np.errstate(all="ignore"):
            found = {names[node]: norm(g) for node, g in leaves.items()}
        return Health(gates, found, weights, start)


def _rename(
    names: dict[Node, str], given: Callable[[Node], str | None], nodes: Sequence[Node]
) -> None:
    """Put the names that a function gives in the place of others, made different by numbers."""
    taken: dict[str, int] = {}
    for node in sorted(nodes, key=lambda node: node.seq):
        name = given(node)
        if name is not None:
            taken[name] = taken.get(name, 0) + 1
            names[node] = name if taken[name] == 1 else f"{name} ({taken[name]})"


def _module(node: Any) -> str | None:
    origin = getattr(node, "origin", None)
    return None if origin is None else origin.module


def _log_gain(came: float, went: float) -> float:
    if came == 0 or math.isnan(came) or math.isnan(went):
        return math.nan
    return -math.inf if went == 0 else math.log(went) - math.log(came)


def _share(node: Any) -> Any:
    """The share of dead units or saturated values of an activation; False for any other gate."""
    name = op_name(node)
    if name not in ("relu", *SATURATED) or isinstance(node, OutputNode):
        return False
    y = getattr(node, "_data", None)
    if y is None:
        y = next(
            (array for array in node.saved or () if getattr(array, "shape", 0) == node.shape), None
        )
    if y is None or not np.size(y):
        return False
    y = np.asarray(y)
    if name == "relu":
        # A unit is dead if no sample and no place wakes it.
        axes = tuple(i for i in range(y.ndim) if i != 1) if y.ndim >= UNITS else ()
        return float(np.mean(~np.any(y > 0, axis=axes))) if axes else float(np.mean(y <= 0))
    low, high = SATURATED[name]
    return float(np.mean((y < low) | (y > high)))


def health(loss: Any, gradient: Any = None) -> Health:
    """The ledger of the backward pass of `loss`; no `.grad` changes.

    Args:
        loss: a Scalar or a Tensor on a graph.
        gradient: what to start with; 1 for a single number.

    Raises:
        TypeError, ValueError: `loss` stands on no graph, or depends on nothing that requires a
            gradient.

    >>> import minigrad
    >>> x = minigrad.scalar(8.0, name="x")
    >>> h = minigrad.tanh(x)
    >>> h.name = "h"
    >>> for finding in health(h * 2.0).findings: print(finding)
    saturated: 100 % of the values of tanh h are saturated, beyond ±0.97: make what goes into it \
smaller
    vanishing: the gradient of x has shrunk by a factor of 1.11e6 on its way; most at tanh h \
(log gain -14.61), which is saturated
    """
    order = graph_of(loss, "health")
    root = node_of(loss, "health")
    leaves = [node for node in order if node.op is None]
    recorder = HealthRecorder()
    with stand(recorder), np.errstate(all="ignore"):
        walk([(root, seed_of(loss, gradient))], wanted=leaves, order=order)
    assert recorder.found is not None
    return recorder.found


# --- causes --------------------------------------------------------------------------------------


def _diagnosed(found: Health) -> Iterable[Finding]:
    for gate in found.gates:
        if gate.share is None:
            continue
        if gate.op == "relu" and gate.share >= DEAD_SHARE:
            yield Finding(
                "dead relu",
                gate.name,
                gate.share,
                f"{100 * gate.share:.0f} % of the units of {gate.title} give 0 for every sample, "
                "so nothing behind them learns: lower the learning rate or raise their bias",
            )
        elif gate.op in SATURATED and gate.share >= SATURATED_SHARE:
            low, high = SATURATED[gate.op]
            beyond = f"±{high}" if low == -high else f"{low} and {high}"
            yield Finding(
                "saturated",
                gate.name,
                gate.share,
                f"{100 * gate.share:.0f} % of the values of {gate.title} are saturated, beyond "
                f"{beyond}: make what goes into it smaller",
            )
    broken = next((gate for gate in found.gates if not gate.finite), None)
    if broken is not None:
        yield Finding(
            "not finite",
            broken.name,
            math.nan,
            f"{broken.title} is the first gate where NaN or infinity comes in or goes out: see "
            "study.anomalies()",
        )
        return
    for leaf, g in found.leaves.items():
        yield from _of_leaf(found, leaf, g)


def _of_leaf(found: Health, leaf: str, g: float) -> Iterable[Finding]:
    if not found.start:
        return
    way = _way_to(found, leaf)
    if g == 0:
        closed = next((gate for gate, gain in reversed(way) if gain == -math.inf), None)
        cause = "nothing reaches it" if closed is None else f"{closed.title} passes nothing"
        if closed is not None and closed.op == "relu" and closed.share:
            cause += f": {100 * closed.share:.0f} % of its units are dead"
        yield Finding("no gradient", leaf, 0.0, f"the gradient of {leaf} is 0: {cause}")
        return
    ratio = g / found.start
    gains = [(gate, gain) for gate, gain in way if math.isfinite(gain)]
    if 1 / EXPLODING < ratio < EXPLODING or not gains:
        return
    grown = ratio >= EXPLODING
    # The op that did the most in all, and of its gates the one that did.
    by_op: dict[str, list[tuple[Gate, float]]] = {}
    for gate, gain in gains:
        by_op.setdefault(gate.op, []).append((gate, gain))
    choose = max if grown else min
    same = choose(by_op.values(), key=lambda pairs: math.fsum(gain for _, gain in pairs))
    worst, gain = choose(same, key=lambda pair: pair[1])
    most = f"most at {worst.title} (log gain {gain:+.2f})"
    if len(same) > 1:
        total = math.fsum(gain for _, gain in same)
        most += f", {total:+.1f} in the {len(same)} {worst.op} gates on the way"
    kind, verb = ("exploding", "grown") if grown else ("vanishing", "shrunk")
    factor = format_number(ratio if grown else 1 / ratio, 3)
    yield Finding(
        kind,
        leaf,
        ratio,
        f"the gradient of {leaf} has {verb} by a factor of {factor} on its way; {most}"
        f"{_cause(worst, grown)}",
    )


def _cause(worst: Gate, grown: bool) -> str:
    if worst.op in SATURATED and worst.share is not None and worst.share >= SATURATED_SHARE:
        return ", which is saturated"
    if worst.op in SATURATED and not grown:
        return f", whose slope is at most {1 if worst.op == 'tanh' else 0.25}"
    if worst.op == "relu" and worst.share:
        return f", {100 * worst.share:.0f} % of whose units are dead"
    if worst.op in ("matmul", "linear", "linear_bias", "conv", "conv_bias", "multiply", "einsum"):
        return f": its weights are too {'large' if grown else 'small'}"
    return ""


def _way_to(found: Health, leaf: str) -> list[tuple[Gate, float]]:
    """The gates from a leaf up to the loss, each time to where the most came from, with the log
    gain of each towards the leaf.
    """
    givers: dict[str, list[Gate]] = {}
    for gate in found.gates:
        for source in gate.handed_on:
            givers.setdefault(source, []).append(gate)
    way: list[tuple[Gate, float]] = []
    name = leaf
    while name in givers and len(way) < len(found.gates):
        gate = max(givers[name], key=lambda g: (g.handed_on[name], -g.depth))
        way.append((gate, gate.gain_to(name)))
        name = gate.name
    return way
