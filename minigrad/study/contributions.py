"""What flows along each edge of a backward pass: gate gradient, local gradient, contribution.

The walk is the engine's own, with someone standing beside it who writes down what each gate hands
to its inputs.  No `.grad` changes, and the graph can be walked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from minigrad.core import Node, walk
from minigrad.observing import Interposer, stand
from minigrad.scalar import Scalar
from minigrad.study.nodes import (
    dense,
    graph_of,
    node_of,
    norm,
    op_name,
    parts_of,
    seed_of,
    symbols,
)

__all__ = ["Amount", "Contribution", "Contributions", "contributions"]


@dataclass(frozen=True, slots=True)
class Amount:
    """A gradient of a tensor, as far as it is wanted: always its shape and norm.

    Attributes:
        shape: of the elements; of a node with several outputs, that of the first that has one.
        norm: Euclidean norm over all elements.
        values: the elements, where values were asked for; a list for several outputs.
    """

    shape: tuple[int, ...]
    norm: float
    values: Any = None

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape)) or 'scalar'}, norm {self.norm:.4g}"


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one gate hands to one of its inputs in a backward pass.

    Attributes:
        source: the input's node, which receives.
        gate: the node that gives.
        position: which argument of the gate the source is, from 0.
        gate_gradient: df/dq, what the gate had received: a float, or an `Amount` for tensors.
        local_gradient: dq/dx on scalar graphs; None for tensors, where it would be a Jacobian.
        contribution: what flows on: gate gradient times local gradient; for tensors the product
            of vector and Jacobian as an `Amount`.
    """

    source: Node
    gate: Node
    position: int
    gate_gradient: float | Amount
    local_gradient: float | None
    contribution: float | Amount


class Contributions(Sequence[Contribution]):
    """All that flowed in one backward pass, in the order of the walk.

    Attributes:
        root: the node where it began.
    """

    def __init__(self, root: Node, flows: list, gradients: dict[Node, Any], values: bool) -> None:
        self.root = root
        self._flows = flows
        self._gradients = gradients
        self._raw: dict[Node, list] = {}
        self._values = values
        self._all = [self._described(*flow) for flow in flows]
        for source, *_, raw in flows:
            self._raw.setdefault(source, []).append(raw)

    def _described(
        self, source: Node, gate: Node, position: int, g: Any, slope: float | None, raw: Any
    ) -> Contribution:
        return Contribution(source, gate, position, self._amount(g), slope, self._amount(raw))

    def _amount(self, value: Any) -> Any:
        if type(value) is float:  # of a scalar graph; NumPy's own floats are tensors of one
            return value
        parts = parts_of(value)
        kept = None
        if self._values:
            kept = parts if isinstance(value, list) else parts[0]
        return Amount(np.shape(parts[0]) if parts else (), norm(value), kept)

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Contribution: ...
    @overload
    def __getitem__(self, index: slice) -> list[Contribution]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._all[index]

    def __iter__(self) -> Iterator[Contribution]:
        return iter(self._all)

    def into(self, x: Any) -> list[Contribution]:
        """What flowed into a Scalar, Tensor or node, in the order in which it was added up."""
        node = node_of(x, "into")
        return [flow for flow in self._all if flow.source is node]

    def out_of(self, y: Any) -> list[Contribution]:
        """What flowed out of a gate to its inputs."""
        node = node_of(y, "out_of")
        return [flow for flow in self._all if flow.gate is node]

    def gradient(self, x: Any) -> Any:
        """The gradient of a node as the walk found it: a float or an array; None if nothing came.

        Where hooks changed the gradient of a gate, it is what they made of it.
        """
        found = self._gradients.get(node_of(x, "gradient"))
        return None if found is None else dense(found)

    def total(self, x: Any) -> Any:
        """The contributions into a node, added in the walk's order by the walk's own addition.

        It equals `gradient(x)` to the last bit, except at the root, which also receives the
        seed, and at nodes whose hooks replace the gradient.
        """
        node = node_of(x, "total")
        total: Any = None
        owned: set[Node] = set()
        for raw in self._raw.get(node, []):
            total = node.merge(total, raw, owned)
        return total

    def __str__(self) -> str:
        names = symbols(_nodes_in_order(self._all, self.root))
        rows = [("gate", "input", "gate gradient", "local gradient", "contribution")]
        for flow in self._all:
            gate = f"{names[flow.gate]} = {op_name(flow.gate)}"
            local = "" if flow.local_gradient is None else repr(flow.local_gradient)
            rows.append(
                (gate, names[flow.source], str(flow.gate_gradient), local, str(flow.contribution))
            )
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{len(self)} contributions>"


def _nodes_in_order(flows: Sequence[Contribution], root: Node) -> list[Node]:
    nodes = {root} | {flow.source for flow in flows} | {flow.gate for flow in flows}
    return sorted(nodes, key=lambda node: node.seq)


class FlowRecorder(Interposer):
    """Writes down what each gate of the outermost walk hands to its inputs.

    Attributes:
        flows: (source, gate, position, gate gradient, local gradient, contribution), as raw
            values that nobody changes afterwards.
        gradients: of each gate that the walk passed.
    """

    outermost = True

    def __init__(self) -> None:
        self.flows: list[tuple] = []
        self.gradients: dict[Node, Any] = {}
        self._inside = False

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        if self._inside:  # a node that walks a graph of its own, such as a checkpoint
            return proceed(node, g, needs, record, closed)
        self._inside = True
        try:
            found = proceed(node, g, needs, record, closed)
            local = node.pull(1.0, needs, False) if isinstance(node, Scalar) else None
        finally:
            self._inside = False
        g = g._data if isinstance(g, Scalar) else g
        self.gradients[node] = g
        for position, (source, flow) in enumerate(zip(node.inputs, found, strict=True)):
            if flow is not None:
                slope = None if local is None else local[position]
                flow = flow._data if isinstance(flow, Scalar) else flow
                self.flows.append((source, node, position, g, slope, flow))
        return found


def contributions(loss: Any, gradient: Any = None, values: bool = False) -> Contributions:
    """Everything that flows in the backward pass of `loss`, edge by edge.

    Args:
        loss: a Scalar or a Tensor on a graph.
        gradient: what to start with; 1 for a single number.
        values: keep the elements of all gradients of a tensor graph, not only shapes and norms.

    Raises:
        TypeError, ValueError: `loss` stands on no graph, or depends on nothing that requires a
            gradient.
        GraphError: the graph was freed, or a value that it needs was changed since.

    >>> import minigrad
    >>> x, y = minigrad.scalar(-2.0, name="x"), minigrad.scalar(5.0, name="y")
    >>> z = minigrad.scalar(-4.0, name="z")
    >>> f = (x + y) * z
    >>> flows = contributions(f)
    >>> print(flows)
    gate           input  gate gradient  local gradient  contribution
    v2 = multiply  v1     1.0            -4.0            -4.0
    v2 = multiply  z      1.0            3.0             3.0
    v1 = add       x      -4.0           1.0             -4.0
    v1 = add       y      -4.0           1.0             -4.0
    >>> [flow.contribution for flow in flows.into(x)], flows.gradient(x)
    ([-4.0], -4.0)
    """
    order = graph_of(loss, "contributions")
    root = node_of(loss, "contributions")
    leaves = [node for node in order if node.op is None]
    with stand(FlowRecorder()) as recorder, np.errstate(all="ignore"):
        found = walk([(root, seed_of(loss, gradient))], wanted=leaves, order=order)
    gradients = recorder.gradients
    gradients.update((n, g) for n, g in zip(leaves, found, strict=True) if g is not None)
    return Contributions(root, recorder.flows, gradients, values)
