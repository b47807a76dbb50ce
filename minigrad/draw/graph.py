"""A computation graph as plain data: what a picture shows, with every number readable.

Nothing here knows the engine, a layout or a colour.  `extract` fills these classes, and all that
draws reads them; whoever wants to check a picture, or make another kind of it, starts from them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "COMPUTED",
    "NOT_COMPUTED",
    "NOT_KEPT",
    "NOT_NEEDED",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "GraphTooLarge",
]

COMPUTED = "computed"
"""The gradient is known."""
NOT_COMPUTED = "not computed"
"""No backward pass has reached this node; that is not a gradient of 0."""
NOT_KEPT = "not kept"
"""The gradient passed through, but only leaves and nodes that were asked to retain it keep it."""
NOT_NEEDED = "not needed"
"""No gradient flows to this node: a constant, or data that requires none."""


class GraphTooLarge(ValueError):
    """A graph has more nodes than a readable picture holds; the message says what to do."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One value of the graph, with the gate that computed it.

    Attributes:
        id: position in `Graph.nodes`, by order of creation; the same graph has the same ids.
        kind: "leaf", or "gate" for what an op computed.
        op: the name of the op; None for a leaf.
        symbol: what stands in the gate: "+", "exp", or "× 2" with a constant folded in.
        name: what the user calls it, or None.
        value: the number, for a scalar graph; None for tensors.
        gradient: the number, for a scalar graph with a computed gradient; else None.
        gradient_state: one of `COMPUTED`, `NOT_COMPUTED`, `NOT_KEPT`, `NOT_NEEDED`.
        gradient_norm: Euclidean norm of a tensor's gradient where it is known.
        shape: shape of a tensor; () for a scalar.
        dtype: name of a tensor's dtype; None for a scalar.
        outputs: how many results a gate has; with several, each is a node of its own behind it,
            and `shape` and `dtype` are those of the first.
        statistic: a few words on a tensor's values where they are at hand, such as
            "mean 0.12 ± 1.03".
        constants: (position, number) of arguments that are plain numbers, folded into `symbol`.
        params: static parameters of the op as (name, text).
        is_root: whether the picture was asked for this node.
        changed: a leaf whose value was set after a gate had used it: what was computed from it
            belongs to the old value.
        hidden_inputs: arguments that a depth or a region leaves out of the picture.
        hidden_consumers: gates within the graph of the roots that use this value but are left
            out of the picture by a region.
    """

    id: int
    kind: str
    op: str | None = None
    symbol: str = ""
    name: str | None = None
    value: float | None = None
    gradient: float | None = None
    gradient_state: str = NOT_COMPUTED
    gradient_norm: float | None = None
    shape: tuple[int, ...] = ()
    dtype: str | None = None
    outputs: int = 1
    statistic: str | None = None
    constants: tuple[tuple[int, float], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    is_root: bool = False
    changed: bool = False
    hidden_inputs: int = 0
    hidden_consumers: int = 0


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """One use of a value by a gate.

    Attributes:
        source: id of the value.
        target: id of the gate that uses it.
        position: which argument of the gate it is, from 0.
        differentiable: whether a gradient flows along it.
        local_gradient: of the gate's output by this argument, at the values of the forward pass;
            scalar graphs only.
        gate_gradient: what the gate received; None before a backward pass.
        contribution: what the gate hands to its argument, `gate_gradient * local_gradient`; the
            contributions into a node add up to its gradient.  None before a backward pass.
    """

    source: int
    target: int
    position: int
    differentiable: bool = True
    local_gradient: float | None = None
    gate_gradient: float | None = None
    contribution: float | None = None


@dataclass(frozen=True)
class Graph:
    """Nodes in order of creation, and the edges between them.

    Attributes:
        nodes: `nodes[i].id == i`.
        edges: by target, newest first as the backward pass visits them, then by position.
        roots: ids of the nodes that the picture was asked for.
        scalar: whether all values are single numbers, so that edges carry gradients.
        omitted: how many more nodes the graph of the roots is known to have, as far as a depth
            or a region left them out next to what is shown.
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    roots: tuple[int, ...] = ()
    scalar: bool = True
    omitted: int = 0
    _inputs: dict[int, list[GraphEdge]] = field(init=False, repr=False, compare=False)
    _consumers: dict[int, list[GraphEdge]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inputs: dict[int, list[GraphEdge]] = defaultdict(list)
        consumers: dict[int, list[GraphEdge]] = defaultdict(list)
        for i, node in enumerate(self.nodes):
            if node.id != i:
                raise ValueError(f"node {i} has id {node.id}: nodes stand in the order of ids")
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if not 0 <= end < len(self.nodes):
                    raise ValueError(f"{edge} refers to node {end}, which is not in the graph")
            inputs[edge.target].append(edge)
            consumers[edge.source].append(edge)
        object.__setattr__(self, "_inputs", dict(inputs))
        object.__setattr__(self, "_consumers", dict(consumers))

    def inputs(self, node: int) -> list[GraphEdge]:
        """The edges into a gate, by argument."""
        return self._inputs.get(node, [])

    def consumers(self, node: int) -> list[GraphEdge]:
        """The edges out of a node, in the order in which the backward pass adds them up."""
        return self._consumers.get(node, [])

    def named(self, name: str) -> GraphNode:
        """The one node of this name.

        Raises:
            KeyError: no node has this name, or several do.
        """
        found = [node for node in self.nodes if node.name == name]
        if len(found) != 1:
            known = ", ".join(sorted({node.name for node in self.nodes if node.name})) or "none"
            raise KeyError(f"{len(found)} nodes are named {name!r}; names in the graph: {known}")
        return found[0]

    def explains(self, node: int) -> bool:
        """Whether the contributions drawn into a node add up to its gradient.

        False for a root, whose gradient is the seed; for a leaf that has accumulated over several
        backward passes; and where a region hides a consumer.
        """
        given = self.nodes[node].gradient
        flows = [e.contribution for e in self.consumers(node) if e.differentiable]
        if given is None or not flows or None in flows:
            return False
        total: Any = None
        for flow in flows:
            total = flow if total is None else total + flow
        # Equal to the last bit in the order of the walk; NaN is equal to NaN here.
        return bool(total == given or (total != total and given != given))
