"""Compares two runs node by node: where they first differ in structure, value or gradient.

Two steps of training, two devices, two implementations, before and after a change: values are
compared in the order in which they were computed, gradients in the order of the backward pass.  The
first divergence is the one to look at; what comes after it mostly follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minigrad.core import Node
from minigrad.draw import Drawing
from minigrad.draw.extract import MAX_NODES, read_with_nodes
from minigrad.draw.graph import COMPUTED, GraphEdge, GraphNode
from minigrad.draw.style import COLOURS
from minigrad.scalar import Scalar
from minigrad.study.nodes import norm
from minigrad.study.trace import Trace, TraceNode
from minigrad.tensor import _transfer

__all__ = ["Diff", "Divergence", "diff"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A place where two runs differ.

    Attributes:
        kind: "structure", "value", or "gradient".
        a, b: the node in each run; None where a run has no more nodes.
        words: what differs.
        distance: largest absolute difference of an element; None for structure.
    """

    kind: str
    a: TraceNode | None
    b: TraceNode | None
    words: str
    distance: float | None = None

    @property
    def place(self) -> str:
        """Which node it is, in words."""
        node = self.a or self.b
        if node is None:
            return ""
        return f" of {node.op} {node.name!r}" if node.name else f" of {node.op} #{node.id}"

    def __str__(self) -> str:
        lines = [f"{self.kind}{self.place}: {self.words}"]
        devices = {one.device for one in (self.a, self.b) if one is not None}
        for label, one in (("a", self.a), ("b", self.b)):
            if one is not None:
                on = f", on {one.device}" if len(devices) > 1 else ""
                lines.append(f"  {label}: {one.where}{on}")
        return "\n".join(lines)


class Diff:
    """What differs between two runs.  True in a condition if anything does.

    Attributes:
        a, b: the runs.
        first: the first divergence, or None.
        all: all of them: values in forward order, then gradients in backward order.
    """

    def __init__(self, a: Trace, b: Trace, found: list[Divergence]) -> None:
        self.a = a
        self.b = b
        self.all = tuple(found)
        self.first = found[0] if found else None

    def __bool__(self) -> bool:
        return self.first is not None

    def __str__(self) -> str:
        if self.first is None:
            return f"no difference in {len(self.a)} nodes"
        more = len(self.all) - 1
        rest = f"\n… and {more} more differences after it" if more else ""
        return f"first difference: {self.first}{rest}"

    def __repr__(self) -> str:
        return f"<Diff: {len(self.all)} differences>"

    def draw(self, side: str = "b", max_nodes: int = MAX_NODES, **options: Any) -> Drawing:
        """The graph of one run with the divergences marked: the first with a thick red outline
        and ▶, others with a dashed one; both with ≠.

        Args:
            side: "a" or "b".
            max_nodes: a graph with more nodes is refused.
            options: as for `minigrad.draw`: direction, digits, title, legend, engine.
        """
        if side not in ("a", "b"):
            raise ValueError(f"Diff.draw: side is 'a' or 'b', got {side!r}")
        run = self.a if side == "a" else self.b
        graph, nodes = read_with_nodes([run.root], max_nodes=max_nodes)
        ids = {node: i for i, node in enumerate(run.engine_nodes)}
        told = [run.nodes[ids[node]] for node in nodes]
        places = {one.id: i for i, one in enumerate(told)}
        marks: dict[int, str] = {}
        for divergence in self.all:
            node = divergence.a if side == "a" else divergence.b
            if node is not None and node.id in places:
                marks.setdefault(places[node.id], "first" if divergence is self.first else "later")
        shown = [_with_gradient(n, one) for n, one in zip(graph.nodes, told, strict=True)]
        for i, mark in marks.items():
            shown[i] = replace(shown[i], name=_marked(shown[i].name or shown[i].symbol, mark))
        edges = [_with_flow(edge, told[edge.target]) for edge in graph.edges]
        graph = replace(graph, nodes=tuple(shown), edges=tuple(edges))
        if options.get("title") is None and self.first is not None:
            options["title"] = f"First difference: {self.first.kind}{self.first.place}"
        return MarkedDrawing(graph, marks, **options)


def _marked(name: str, mark: str) -> str:
    return f"{'▶ ' if mark == 'first' else ''}≠ {name}".strip()


def _with_gradient(node: GraphNode, told: TraceNode) -> GraphNode:
    """A node of the picture with the gradient of the run, which no `.grad` knows."""
    if told.gradient is None or isinstance(told.gradient, list):
        return node
    if isinstance(told.gradient, float):
        return replace(node, gradient=told.gradient, gradient_state=COMPUTED)
    return replace(node, gradient_norm=norm(told.gradient), gradient_state=COMPUTED)


def _with_flow(edge: GraphEdge, gate: TraceNode) -> GraphEdge:
    flow = gate.contributions[edge.position]
    if not isinstance(flow, float):
        return edge
    return replace(edge, gate_gradient=gate.gradient, contribution=flow)


class MarkedDrawing(Drawing):
    """A drawing with some nodes outlined.

    Attributes:
        marks: "first" or "later", by id of the node.
    """

    def __init__(self, graph: Any, marks: dict[int, str], **options: Any) -> None:
        super().__init__(graph, **options)
        self.marks = marks

    def svg(self) -> str:
        text = super().svg()
        plain = f'stroke="{COLOURS["outline"]}" stroke-width="1.4"'
        for node, mark in self.marks.items():
            dash = "" if mark == "first" else ' stroke-dasharray="5 3"'
            strong = f'stroke="{COLOURS["gradient"]}" stroke-width="4"{dash}'
            part = re.compile(rf'<g class="(?:gate|leaf)" data-node="{node}".*?</g>', re.DOTALL)
            for match in part.findall(text):
                text = text.replace(match, match.replace(plain, strong))
        return text


def diff(a: Any, b: Any, *, rtol: float = 0.0, atol: float = 0.0, match: str = "graph") -> Diff:
    """Compare two runs.

    Args:
        a, b: what `trace` returned, or the Scalars at the ends of two scalar graphs.
        rtol, atol: values and gradients count as equal up to `atol + rtol * |b|`; exactly equal
            by default.
        match: "graph" takes the runs node by node, and reports where their structure differs
            (moves between devices, `t.to(...)`, do not count: two devices compute the same graph
            if all else is equal; they round differently, so give tolerances); "names" compares
            only nodes of the same name, for two ways to compute the same.

    Raises:
        TypeError: an argument is no run (tensors do not keep the values of their graph: compute
            them under `trace`).
        ValueError: an unknown `match`, or no name occurs in both runs.

    >>> import minigrad
    >>> from minigrad.study import trace
    >>> x = minigrad.tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> def loss(factor):
    ...     h = x * factor
    ...     return minigrad.tanh(h).sum()
    >>> changes = diff(trace(loss, 0.5), trace(loss, 0.6))
    >>> changes.first.kind, changes.first.a.name
    ('structure', 'h')
    >>> changes.first.words
    'inputs (0, 0.5) and (0, 0.6)'
    """
    if match not in ("graph", "names"):
        raise ValueError(f"diff: match is 'graph' or 'names', got {match!r}")
    first, second = _run(a), _run(b)
    compare = _Comparison(rtol, atol)
    if match == "names":
        compare.by_names(first, second)
    else:
        compare.by_graph(first, second)
    return Diff(first, second, compare.found)


def _run(value: Any) -> Trace:
    if isinstance(value, Trace):
        return value
    if isinstance(value, Scalar):
        return Trace(value, {})
    raise TypeError(
        f"diff: a {type(value).__name__} is no run: a tensor does not keep the values of its "
        "graph, so compute it under study.trace(f, ...)"
    )


class _Comparison:
    def __init__(self, rtol: float, atol: float) -> None:
        self.rtol = rtol
        self.atol = atol
        self.found: list[Divergence] = []

    def by_graph(self, a: Trace, b: Trace) -> None:
        """In lockstep, as far as the structure is the same."""
        pairs = []
        ours, theirs = _computed(a), _computed(b)
        for (x, p), (y, q) in zip(ours, theirs, strict=False):
            words = _structure(x, y, p, q)
            if words:
                self.found.append(Divergence("structure", x, y, words))
                return
            pairs.append((x, y))
            self._compare("value", x, y, x.value, y.value)
        if len(ours) != len(theirs):
            n = len(pairs)
            left, right = (run[n][0] if len(run) > n else None for run in (ours, theirs))
            words = f"one run has {len(ours)} nodes, the other {len(theirs)}"
            self.found.append(Divergence("structure", left, right, words))
            return
        for x, y in reversed(pairs):
            same = self._compare("gradient", x, y, x.gradient, y.gradient)
            # A gate that received the same and hands on something else is where it begins.
            for i, (c, d) in enumerate(zip(x.contributions, y.contributions, strict=True)):
                if same:
                    self._compare("gradient", x, y, c, d, f"contribution to input {i}")

    def by_names(self, a: Trace, b: Trace) -> None:
        """The last node of each name that occurs in both."""
        named_a, named_b = ({n.name: n for n in run.nodes if n.name} for run in (a, b))
        common = [name for name in named_a if name in named_b]
        if not common:
            raise ValueError(
                "diff: no name occurs in both runs; name the values that correspond, x.name = ..."
            )
        for part in ("value", "gradient"):
            for name in common if part == "value" else reversed(common):
                x, y = named_a[name], named_b[name]
                self._compare(part, x, y, getattr(x, part), getattr(y, part))

    def _compare(
        self, kind: str, x: TraceNode, y: TraceNode, p: Any, q: Any, what: str = ""
    ) -> bool:
        distance = self._distance(p, q)
        if distance is None:
            return True
        words = f"{what or kind} differs by up to {distance:.3g}"
        if isinstance(p, float) and isinstance(q, float):
            words = f"{what or kind} {p!r} and {q!r}"
        elif p is None or q is None:
            words = f"{what or kind} is there in one run only"
        self.found.append(Divergence(kind, x, y, words, distance))
        return False

    def _distance(self, p: Any, q: Any) -> float | None:
        """None where equal; else the largest difference, infinite if it cannot be told."""
        if p is None or q is None:
            return None if p is q else float("inf")
        if isinstance(p, list):
            distances = [self._distance(i, j) for i, j in zip(p, q, strict=True)]
            return max((d for d in distances if d is not None), default=None)
        p, q = np.asarray(p), np.asarray(q)
        if p.shape != q.shape:
            return float("inf")
        if np.allclose(p, q, rtol=self.rtol, atol=self.atol, equal_nan=True):
            return None
        with np.errstate(all="ignore"):
            gap = np.abs(p.astype(np.float64) - q.astype(np.float64))
        gap = np.where((p == q) | (np.isnan(p) & np.isnan(q)), 0.0, gap)
        return float("inf") if np.isnan(gap).any() else float(gap.max())


def _computed(run: Trace) -> list[tuple[TraceNode, tuple]]:
    """The nodes but for moves between devices, each with its inputs as places in this list.

    A leaf stands before the first gate that computes with it, whenever it was moved.
    """
    told = dict(zip(run.engine_nodes, run.nodes, strict=True))
    moved: dict[Node, Node] = {}
    places: dict[Node, int] = {}
    found: list[tuple[TraceNode, tuple]] = []

    def place(source: Any) -> Any:
        if not isinstance(source, Node):
            return source
        source = moved.get(source, source)
        if source not in places:
            inputs = tuple(place(i) for i in source.inputs)  # gates come by age: these are leaves
            places[source] = len(found)
            found.append((told[source], inputs))
        return places[source]

    for node in run.engine_nodes:
        if node.op is _transfer:
            (source,) = node.inputs
            moved[node] = moved.get(source, source)
        elif node.op is not None:
            place(node)
    place(run.engine_nodes[-1])
    return found


def _structure(x: TraceNode, y: TraceNode, x_inputs: tuple, y_inputs: tuple) -> str:
    """How two nodes differ as places in a graph; empty if they do not."""
    for what, p, q in (
        ("op", x.op, y.op),
        ("inputs", x_inputs, y_inputs),
        ("params", x.params, y.params),
        ("shape", x.shape, y.shape),
        ("dtype", x.dtype, y.dtype),
    ):
        if p != q:
            return f"{what} {p or 'none'} and {q or 'none'}"
    return ""
