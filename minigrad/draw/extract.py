"""Reads the engine's graph into plain data: which nodes, their numbers, and the edges between.

Everything here iterates, counts as it goes and stops at the limit, so that a graph of a million
nodes is refused as quickly as one of a thousand is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from minigrad.core import Node
from minigrad.draw.graph import (
    COMPUTED,
    NOT_COMPUTED,
    NOT_KEPT,
    NOT_NEEDED,
    Graph,
    GraphEdge,
    GraphNode,
    GraphTooLarge,
)
from minigrad.draw.style import format_number, gate_symbol, shorten
from minigrad.nodes import MultipleNode, OutputNode
from minigrad.scalar import Scalar

__all__ = ["MAX_NODES", "read_graph", "read_with_nodes"]

MAX_NODES = 200
"""So many nodes a picture holds unless more are asked for."""

COUNTED = 100_000
"""Nodes of a graph that is too large are counted up to here, for the message."""

_creation_number = attrgetter("seq")


def read_graph(
    roots: Sequence[Any],
    *,
    max_nodes: int = MAX_NODES,
    depth: int | None = None,
    around: Any = None,
    radius: int = 2,
) -> Graph:
    """Read the graph that leads to some values.

    Args:
        roots: Scalars or Tensors.
        max_nodes: the largest number of nodes to read.
        depth: read only what is at most so many edges away from a root.
        around: read only the neighbourhood of this Scalar, Tensor, or node of this name.
        radius: how many edges the neighbourhood reaches, forwards and backwards.

    Raises:
        GraphTooLarge: there are more nodes than `max_nodes`.
        TypeError, ValueError: an argument is no value on a graph, or out of range.
    """
    return read_with_nodes(roots, max_nodes=max_nodes, depth=depth, around=around, radius=radius)[0]


def read_with_nodes(
    roots: Sequence[Any],
    *,
    max_nodes: int = MAX_NODES,
    depth: int | None = None,
    around: Any = None,
    radius: int = 2,
) -> tuple[Graph, list[Node]]:
    """As `read_graph`, and the engine's nodes in the order of the graph's ids."""
    for name, number, least in (
        ("max_nodes", max_nodes, 1),
        ("depth", depth, 0),
        ("radius", radius, 0),
    ):
        if number is not None and (not isinstance(number, int) or number < least):
            raise ValueError(f"draw: {name} must be an integer of at least {least}, got {number!r}")
    if not roots:
        raise ValueError("draw: nothing to draw: give a Scalar or a Tensor")
    start = list(dict.fromkeys(_node(root) for root in roots))
    users: dict[Node, list[Node]] = {}
    if around is None:
        nodes = _below(start, max_nodes, depth)
    elif depth is not None:
        raise ValueError("draw: give depth= (from the root) or around= (a neighbourhood), not both")
    else:
        nodes, users = _region(*_find(start, around), max_nodes, radius)
    reader = _Reader(roots, start, nodes, users)
    return reader.read(), reader.order


def _node(value: Any) -> Node:
    """The graph node of a Scalar or a Tensor."""
    if isinstance(value, Node):
        return value
    node = getattr(value, "node", None)
    if isinstance(node, Node):
        return node
    raise TypeError(
        f"draw: a {type(value).__name__} stands on no graph: give a Scalar or a Tensor that was "
        "computed outside of no_grad()"
    )


def _is_folded(node: Any) -> bool:
    """Whether an argument is a plain number without a name, which its gate shows inside itself."""
    return not isinstance(node, Node) or (
        isinstance(node, Scalar) and node.op is None and not node.requires_grad and not node.name
    )


def _sources(node: Node) -> Iterable[Node]:
    return (source for source in node.inputs if not _is_folded(source))


# --- which nodes ---------------------------------------------------------------------------------


def _below(start: list[Node], max_nodes: int, depth: int | None) -> set[Node]:
    """What the roots were computed from, level by level."""
    seen = set(start)
    level = start
    distance = 0
    while level and (depth is None or distance < depth):
        following = []
        for node in level:
            for source in _sources(node):
                if source not in seen:
                    seen.add(source)
                    following.append(source)
            if len(seen) > COUNTED:
                raise _too_large(seen, max_nodes, "at least ")
        level = following
        distance += 1
    if len(seen) > max_nodes:
        raise _too_large(seen, max_nodes)
    return seen


def _find(start: list[Node], around: Any) -> tuple[Node, list[Node]]:
    """The node in the middle of a region, and all nodes between the roots and it."""
    wanted = None if isinstance(around, str) else _node(around)
    # A gate is older than its users, so nothing older can lead to it; a leaf whose value was set
    # is younger than it was, and a name says nothing about age.
    oldest = 0 if wanted is None or wanted.op is None else wanted.seq
    named: list[Node] = []
    seen = set(start)
    stack = list(start)
    between = []
    while stack:
        node = stack.pop()
        between.append(node)
        if wanted is None and node.name == around:
            named.append(node)
        for source in node.inputs:
            if source not in seen and not _is_folded(source) and source.seq >= oldest:
                seen.add(source)
                stack.append(source)
    if wanted is None:
        if len(named) != 1:
            raise ValueError(
                f"draw: {len(named) or 'no'} nodes below the root are named {around!r}: give the "
                "Scalar or Tensor itself as around="
            )
        (wanted,) = named
    elif wanted not in seen:
        raise ValueError(f"draw: around={around!r} is not part of the graph of the root")
    return wanted, between


def _region(
    centre: Node, between: list[Node], max_nodes: int, radius: int
) -> tuple[set[Node], dict[Node, list[Node]]]:
    """The nodes within a radius, and who uses each of them."""
    seen = {centre}
    level = {centre}
    users: dict[Node, list[Node]] = defaultdict(list)
    for distance in range(radius + 1):
        # Nodes do not know their users, so each step outwards looks through all of them.
        for node in between:
            for source in node.inputs:
                if source in level:
                    users[source].append(node)
        if distance == radius:
            break
        level = {
            other
            for node in level
            for other in (*_sources(node), *users[node])
            if other not in seen
        }
        seen |= level
        if len(seen) > max_nodes:
            raise _too_large(seen, max_nodes, "at least ")
    return seen, users


def _too_large(seen: set[Node], max_nodes: int, more: str = "") -> GraphTooLarge:
    return GraphTooLarge(
        f"draw: there are {more}{len(seen):,} nodes to draw, and max_nodes is "
        f"{max_nodes:,}. Draw a part: depth=4 shows the last gates before the root, "
        "around=x with radius=2 the neighbourhood of a node (itself or its name). "
        "A larger max_nodes draws more, slowly"
    )


# --- what is in them -----------------------------------------------------------------------------


class _Reader:
    """Turns chosen engine nodes into a `Graph`."""

    def __init__(
        self,
        roots: Sequence[Any],
        start: list[Node],
        nodes: set[Node],
        users: dict[Node, list[Node]],
    ) -> None:
        self.chosen = nodes
        self.order = sorted(nodes, key=_creation_number)
        self.ids = {node: i for i, node in enumerate(self.order)}
        self.start = [node for node in start if node in nodes]
        self.users = users
        # The tensors that were handed in: a node of a computed tensor does not know its values.
        self.given = {_node(root): root for root in roots}
        self.changed = {
            source
            for node in self.order
            for source in _sources(node)
            if source.op is None and source.seq > node.seq
        }
        self.walked = any(_was_walked(node) for node in self.order)

    def read(self) -> Graph:
        edges: list[GraphEdge] = []
        for node in reversed(self.order):
            edges += self.edges(node)
        return Graph(
            tuple(self.node(node) for node in self.order),
            tuple(edges),
            tuple(self.ids[node] for node in self.start),
            scalar=all(isinstance(node, Scalar) for node in self.order),
        )

    def edges(self, node: Node) -> list[GraphEdge]:
        flows: dict[int, Any] = {}
        stale = any(source in self.changed for source in _sources(node))
        if isinstance(node, Scalar) and node.op is not None and not stale:
            # Slopes at values that have changed since would be slopes of another function.
            needed = (i for i, source in enumerate(node.inputs) if source.requires_grad)
            flows = dict(zip(needed, node.edges(), strict=True))
        found = []
        for position, source in enumerate(node.inputs):
            if source not in self.ids:
                continue
            flow = flows.get(position)
            found.append(
                GraphEdge(
                    self.ids[source],
                    self.ids[node],
                    position,
                    bool(node.needs[position]),
                    *(
                        (flow.local_gradient, flow.gate_gradient, flow.contribution)
                        if flow is not None
                        else ()
                    ),
                )
            )
        return found

    def node(self, node: Node) -> GraphNode:
        common: dict[str, Any] = {
            "id": self.ids[node],
            "name": node.name,
            # Not `in`: scalars of equal value are equal.
            "is_root": any(node is root for root in self.start),
            "changed": node in self.changed,
            "hidden_inputs": sum(source not in self.chosen for source in _sources(node)),
            "hidden_consumers": sum(user not in self.chosen for user in self.users.get(node, ())),
        }
        if node.op is None:
            common["kind"] = "leaf"
        else:
            constants = tuple(
                (i, float(getattr(source, "data", source)))
                for i, source in enumerate(node.inputs)
                if _is_folded(source) and source is not None
            )
            symbol = gate_symbol(node.op.name, len(node.inputs), constants)
            params = dict(node.params)
            if node.op.name == "getitem" and "index" in params:
                symbol = f"[{_param(params.pop('index')).strip('()')}]"
            elif isinstance(node, OutputNode):
                symbol = f"output {node.index}"
            common |= {
                "kind": "gate",
                "op": node.op.name,
                "symbol": symbol,
                "constants": constants,
                "params": _params(params),
            }
        if isinstance(node, Scalar):
            return GraphNode(**common, **_scalar_fields(node))
        return GraphNode(**common, **self.tensor_fields(node))

    def tensor_fields(self, node: Any) -> dict[str, Any]:
        tensor = self.given.get(node)
        if tensor is None and node.owner is not None:
            tensor = node.owner()
        fields: dict[str, Any] = {
            "shape": tuple(node.shape),
            "dtype": None if node.dtype is None else str(node.dtype),
            "outputs": len(node.shapes) if isinstance(node, MultipleNode) else 1,
        }
        if tensor is not None and tensor is not node:
            fields["statistic"] = statistic(tensor.numpy())
        if not node.requires_grad:
            return fields | {"gradient_state": NOT_NEEDED}
        gradient = None
        if tensor is not None and tensor is not node and node.keeps_grad:
            gradient = tensor.grad
        if gradient is not None:
            norm = float(np.linalg.norm(gradient.numpy().astype(np.float64).ravel()))
            return fields | {"gradient_state": COMPUTED, "gradient_norm": norm}
        kept = node.keeps_grad or not self.walked
        return fields | {"gradient_state": NOT_COMPUTED if kept else NOT_KEPT}


def _scalar_fields(node: Scalar) -> dict[str, Any]:
    gradient = None if node.grad is None else float(node.grad)
    state = COMPUTED if gradient is not None else NOT_COMPUTED
    if not node.requires_grad:
        state = NOT_NEEDED
    return {"value": float(node.data), "gradient": gradient, "gradient_state": state}


def _was_walked(node: Any) -> bool:
    """Whether a backward pass has left its trace on a node of a tensor graph."""
    if isinstance(node, Scalar):
        return False
    if node.op is not None and node.saved is None:
        return True
    tensor = node.owner() if node.owner is not None else None
    return tensor is not None and bool(node.keeps_grad) and tensor.grad is not None


def statistic(array: Any, digits: int = 3) -> str:
    """A few words on the values of an array.

    >>> import numpy as np
    >>> statistic(np.array([1.0, 3.0])), statistic(np.array([7, 2, 9])), statistic(np.array(5.0))
    ('2 ± 1', '2 … 9', '5')
    """
    if array.size == 0:
        return "empty"
    if array.size == 1:
        return format_number(float(array.item()), digits)
    if array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size} true"
    if array.dtype.kind in "iu":
        return f"{array.min()} … {array.max()}"
    finite = np.isfinite(array)
    missing = array.size - int(np.count_nonzero(finite))
    if missing:
        return f"{missing} of {array.size} not finite"
    mean, spread = float(np.mean(array, dtype=np.float64)), float(np.std(array, dtype=np.float64))
    if spread == 0:
        return f"all {format_number(mean, digits)}"
    return f"{format_number(mean, digits)} ± {format_number(spread, digits)}"


def _params(params: Any) -> tuple[tuple[str, str], ...]:
    """Static parameters as text; those that are off say nothing."""
    found = []
    for name, value in params.items():
        if is_dataclass(value) and not isinstance(value, type):
            # The fields of a description, such as a filter's geometry, but not the size of the
            # input, which its wire tells.
            parts = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "size"}
            found += [(n, v) for n, v in parts.items() if n == "kernel" or not _is_plain(v)]
        elif value is not None and value is not False:
            found.append((name, value))
    return tuple((name, shorten(_param(value), 24)) for name, value in found)


def _is_plain(value: Any) -> bool:
    """Whether a field of a description is all 0, all 1, or off: no padding, no stride."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value)) and len(set(value)) <= 1
    return value is None or value in (0, 1)


def _param(value: Any) -> str:
    if isinstance(value, slice):
        parts = ["" if part is None else str(part) for part in (value.start, value.stop)]
        return ":".join(parts) + (f":{value.step}" if value.step is not None else "")
    if isinstance(value, (tuple, list)):
        inner = ", ".join(_param(item) for item in value[:8])
        if len(value) == 1 or (len(value) > 1 and all(isinstance(v, tuple) for v in value)):
            alike = len(set(map(str, value))) == 1
            return _param(value[0]) if alike else inner
        return f"({inner}{', …' if len(value) > 8 else ''})"
    if value is Ellipsis:
        return "..."
    if isinstance(value, np.ndarray):
        return f"array {'×'.join(map(str, value.shape))}"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return str(value)
    return getattr(value, "__name__", None) or str(value)
