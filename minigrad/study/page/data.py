"""What the page of a stepping says, as plain data: nodes, forward steps, backward steps, source."""

from __future__ import annotations

import linecache
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minigrad.core import Node
from minigrad.draw.extract import read_with_nodes
from minigrad.draw.graph import COMPUTED, NOT_COMPUTED, NOT_NEEDED, Graph
from minigrad.draw.scene import value_words
from minigrad.draw.style import format_number
from minigrad.scalar import Scalar
from minigrad.study.contributions import Amount
from minigrad.study.nodes import norm, op_name
from minigrad.study.rules import filled_rule, rule_note, rule_text
from minigrad.study.terminal import amount_words, equation

__all__ = ["page_data", "snapshot_graph"]

INFIX = {"add": "+", "subtract": "\N{MINUS SIGN}", "multiply": "×", "divide": "÷", "power": "^"}
GRID = 6
"""Arrays of up to so many rows and columns are shown element by element."""
CONTEXT = 2
"""So many lines of source around those that made a node are shown."""
LINES = 80
"""A listing that would be longer shows only what is next to a line that made a node."""


def page_data(s: Any, region: dict[str, Any]) -> tuple[dict[str, Any], Graph]:
    """All that the page shows, and the graph at the end of the walk.

    Args:
        s: a `Stepping`; where it stands does not change.
        region: keyword arguments of `minigrad.draw`.
    """
    graph, nodes = read_with_nodes([s.loss], **region)
    steps, known = s.trace()
    ids = {node: i for i, node in enumerate(nodes)}
    flows = {(f.gate, f.position): f for step in steps for f in step.contributions}
    graph = _with_gradients(graph, nodes, known, flows)
    edges = {(e.target, e.position): i for i, e in enumerate(graph.edges)}
    # The words speak of all nodes by name, so the picture shows all names.
    called = [
        replace(n, name=n.name or s.names.get(node))
        for node, n in zip(nodes, graph.nodes, strict=True)
    ]
    graph = replace(graph, nodes=tuple(called))
    shown = [graph.nodes[ids[node]] for node in nodes]
    names = {
        **{node: n.name or f"#{n.id}" for node, n in zip(nodes, shown, strict=True)},
        **s.names,
    }
    listing = _Listing(nodes)

    def number(value: Any) -> dict[str, Any] | None:
        return None if value is None else _number(value)

    data: dict[str, Any] = {
        "scalar": graph.scalar,
        "root": {"id": ids.get(s.root), "name": names[s.root], "seed": number(s.start)},
        "nodes": [
            {
                "id": n.id,
                "name": names[node],
                "made": equation(node, names) if node.op is not None else n.kind,
                "value": repr(n.value) if n.value is not None else value_words(n),
                "needed": n.gradient_state != NOT_NEEDED,
            }
            for node, n in zip(nodes, shown, strict=True)
        ],
        "forward": [
            {
                "gate": ids[node],
                "title": equation(node, names),
                "filled": _forward_words(node, names),
                "line": listing.place(node),
            }
            for node in nodes
            if node.op is not None
        ],
        "steps": [
            {
                "gate": ids.get(step.gate),
                "name": names[step.gate],
                "title": equation(step.gate, names),
                "op": op_name(step.gate),
                "line": listing.place(step.gate),
                "g": number(step.gate_gradient),
                "flows": [
                    {
                        "node": ids.get(flow.source),
                        "name": names[flow.source],
                        "edge": edges.get((ids.get(flow.gate, -1), flow.position)),
                        "rule": rule_text(flow.gate.op, flow.position),
                        "note": rule_note(flow.gate.op, flow.position),
                        "filled": filled_rule(flow.gate, flow.position, _raw(flow.gate_gradient)),
                        "local": number(flow.local_gradient),
                        "result": number(flow.contribution),
                        "total": number(total),
                        "complete": step.completes(flow.source),
                    }
                    for flow, total in zip(step.contributions, step.totals, strict=True)
                ],
            }
            for step in steps
        ],
        "into": {
            str(n.id): [i for i, e in enumerate(graph.edges) if e.target == n.id] for n in shown
        },
        "code": listing.files,
        "start": s.position,
    }
    return data, graph


def snapshot_graph(s: Any) -> tuple[Graph, int | None]:
    """The graph with the gradients that are known where a stepping stands now, and the id of the
    gate in focus.
    """
    graph, nodes = read_with_nodes([s.loss])
    flows = {(f.gate, f.position): f for step in s.steps for f in step.contributions}
    ids = {node: i for i, node in enumerate(nodes)}
    focus = None if s.focus is None else ids[s.focus.gate]
    return _with_gradients(graph, nodes, s.known(), flows), focus


def _with_gradients(graph: Graph, nodes: Sequence[Node], known: dict, flows: dict) -> Graph:
    """The graph as data with what a stepping knows, instead of what `.grad` shows."""
    changed = []
    for node, n in zip(nodes, graph.nodes, strict=True):
        value = known.get(node)
        if not node.requires_grad:
            changed.append(n)
        elif value is None:
            changed.append(
                replace(n, gradient=None, gradient_norm=None, gradient_state=NOT_COMPUTED)
            )
        elif isinstance(node, Scalar):
            changed.append(replace(n, gradient=float(value), gradient_state=COMPUTED))
        else:
            changed.append(replace(n, gradient_norm=norm(value), gradient_state=COMPUTED))
    edges = []
    for edge in graph.edges:
        flow = flows.get((nodes[edge.target], edge.position))
        if graph.scalar:
            edge = replace(
                edge,
                gate_gradient=None if flow is None else flow.gate_gradient,
                contribution=None if flow is None else flow.contribution,
            )
        edges.append(edge)
    return replace(graph, nodes=tuple(changed), edges=tuple(edges))


def _raw(value: float | Amount) -> Any:
    return value.values if isinstance(value, Amount) else value


def _number(value: float | Amount) -> dict[str, Any]:
    """A gradient for the page: short, in full, and element by element where it is small."""
    if not isinstance(value, Amount):
        return {"short": format_number(value), "full": repr(float(value))}
    found: dict[str, Any] = {"short": amount_words(value), "full": repr(value.norm)}
    if value.shape or isinstance(value.values, list):
        found["short"] = f"‖·‖ = {format_number(value.norm)}"
        found["shape"] = " × ".join(map(str, value.shape))
    array = value.values
    if isinstance(array, np.ndarray) and 1 <= array.ndim <= 2:
        rows = np.atleast_2d(array)
        if rows.size and max(rows.shape) <= GRID:
            found["grid"] = [[format_number(float(v), 3) for v in row] for row in rows]
            top = float(np.max(np.abs(rows)))
            scale = top if math.isfinite(top) and top else 1.0
            found["shade"] = [
                [round(float(v) / scale, 3) if math.isfinite(v) else 0.0 for v in row]
                for row in rows
            ]
    return found


def _forward_words(node: Any, names: dict[Node, str]) -> str:
    """A gate with the numbers of the forward pass: `-2 + 5 = 3`."""
    if not isinstance(node, Scalar):
        shapes = [
            " × ".join(map(str, source.shape)) if isinstance(source, Node) else str(source)
            for source in node.inputs
        ]
        return (
            f"{op_name(node)}: {', '.join(shapes)} → {' × '.join(map(str, node.shape)) or 'scalar'}"
        )
    numbers = [format_number(source._data) for source in node.inputs]
    sign = INFIX.get(node.op.name)
    if sign is not None:
        first, second = (f"({text})" if text.startswith("-") else text for text in numbers)
        words = f"{numbers[0]} {sign} {second}" if sign != "^" else f"{first}{sign}{second}"
    else:
        words = f"{node.op.name}({', '.join(numbers)})"
    return f"{words} = {format_number(node._data)}"


class _Listing:
    """The source lines that made the nodes, with a little around them, file by file."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        wanted: dict[str, set[int]] = {}
        self._origins = {node: getattr(node, "origin", None) for node in nodes}
        for origin in self._origins.values():
            if origin is not None and origin.text:
                wanted.setdefault(origin.file, set()).add(origin.line)
        self._index = {file: i for i, file in enumerate(wanted)}
        self.files = [self._file(file, sorted(lines)) for file, lines in wanted.items()]

    def _file(self, file: str, lines: list[int]) -> dict[str, Any]:
        text = linecache.getlines(file)
        near = {
            n
            for line in lines
            for n in range(line - CONTEXT, line + CONTEXT + 1)
            if 1 <= n <= len(text)
        }
        if near and max(near) - min(near) < LINES:
            near = set(range(min(near), max(near) + 1))
        name = self._names(file)
        rows = [[n, text[n - 1].rstrip("\n").expandtabs(4)] for n in sorted(near)]
        return {"name": name, "lines": rows}

    def _names(self, file: str) -> str:
        return next(o.place for o in self._origins.values() if o and o.file == file).rsplit(":", 1)[
            0
        ]

    def place(self, node: Node) -> dict[str, Any] | None:
        """Where a node was made: which of the files, which line."""
        origin = self._origins.get(node, getattr(node, "origin", None))
        if origin is None:
            return None
        return {"file": self._index.get(origin.file), "line": origin.line, "place": origin.place}
