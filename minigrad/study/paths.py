"""The chain rule, route by route: along which way from a value to the loss its gradient comes.

A gradient is the sum, over all routes from the loss back to the value, of the product of the
local gradients along the route.  There may be more routes than atoms, so they are counted by
dynamic programming, and on scalar graphs the largest ones are found without a look at the rest.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minigrad.core import Node, leading_to, walk
from minigrad.scalar import Scalar
from minigrad.study.contributions import Amount
from minigrad.study.nodes import dense, graph_of, node_of, norm, op_name, seed_of, symbols

__all__ = ["Path", "Paths", "paths"]

LIMIT = 10_000
"""So many routes of a tensor graph are looked at one by one; each is a chain of array products."""


class _Route(NamedTuple):
    """A route from the root down to some node, as a chain of links to the root."""

    size: float
    amount: Any
    above: _Route | None
    gate: Node | None
    position: int
    slope: float | None


@dataclass(frozen=True, slots=True)
class Path:
    """One route from a value up to the loss.

    Attributes:
        nodes: from the value to the loss.
        positions: for each gate on the way, which of its arguments the node before it is.
        local_gradients: one for each gate, in the same order; empty on tensor graphs.
        product: what comes along this route: the local gradients multiplied, times the gradient
            that the loss started with; on tensor graphs an `Amount` with its values.
        size: absolute value, or norm, of the product.
    """

    nodes: tuple[Node, ...]
    positions: tuple[int, ...]
    local_gradients: tuple[float, ...]
    product: float | Amount
    size: float


class Paths:
    """Routes from a value to the loss, the largest product first.

    Attributes:
        x: the node of the value.
        root: the node of the loss.
        count: how many routes there are in all, exactly.
        gradient: the sum over all of them, as the backward pass finds it; 0 if there is none.
    """

    def __init__(
        self, x: Node, root: Node, count: int, gradient: Any, found: list[Path], names: dict
    ) -> None:
        self.x = x
        self.root = root
        self.count = count
        self.gradient = gradient
        self._found = found
        self._names = names

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._found)

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.count} paths>"

    def __str__(self) -> str:
        name = self._names[self.x]
        what = "path" if self.count == 1 else "paths"
        lines = [f"{self.count} {what} from {name} to {self._names[self.root]}"]
        for path in self:
            route = " → ".join(
                self._names[node] + (f" ({op_name(node)})" if node.op is not None else "")
                for node in path.nodes
            )
            if isinstance(path.product, Amount):
                lines.append(f"norm {path.size:.4g}   {route}")
            else:
                factors = " · ".join(f"{slope:.4g}" for slope in path.local_gradients)
                lines.append(f"{path.product:.4g} = {factors or '1'}   {route}")
        left = self.count - len(self)
        if left:
            lines.append(f"… {left} more")
        return "\n".join(lines)


def paths(x: Any, loss: Any, top: int | None = 10, gradient: Any = None) -> Paths:
    """The routes along which the gradient of `loss` reaches `x`.

    On a scalar graph the `top` largest are found in time proportional to `top` times the size of
    the graph, however many routes there are.  (Where a local gradient is infinite or NaN, products
    are what arithmetic makes of them and their order says little.)

    Args:
        x: a Scalar or Tensor, leaf or not.
        loss: what is differentiated.
        top: how many routes to return; None for all.
        gradient: what the loss starts with; 1 for a single number.

    Raises:
        TypeError, ValueError: an argument stands on no graph; `top` is no positive number; or a
            tensor graph has more than 10,000 routes (their products are not numbers that could
            be sorted out on the way).

    >>> import minigrad
    >>> x = minigrad.scalar(3.0, name="x")
    >>> f = x * 2.0 + x
    >>> print(paths(x, f))
    2 paths from x to v2
    2 = 2 · 1   x → v1 (multiply) → v2 (add)
    1 = 1   x → v2 (add)
    """
    if top is not None and (not isinstance(top, int) or top < 1):
        raise ValueError(f"paths: top must be a positive integer or None for all, got {top!r}")
    order = graph_of(loss, "paths")
    root, target = node_of(loss, "paths"), node_of(x, "paths")
    useful = leading_to(order, {target})
    # Nothing below the target is on a route to it.
    order = [node for node in order if node in useful and node is not target]
    order = [node for node in order if node.seq > target.seq] + [target]
    seed = seed_of(loss, gradient)
    if root not in useful:
        return Paths(target, root, 0, 0.0, [], symbols([target, root]))
    counts = _count(order, root, target)
    count = counts[target]
    with np.errstate(all="ignore"):
        if isinstance(root, Scalar):
            routes = _largest(order, root, target, seed, count if top is None else top)
        else:
            if count > LIMIT:
                raise ValueError(
                    f"paths: {count:,} routes lead from the loss to x, and on a tensor graph each "
                    f"is looked at; up to {LIMIT:,} are. Choose an x that is nearer to the loss"
                )
            routes = _all(order, root, target, seed)
        total = _gradient(order, root, target, seed)
    found = [_path(route, target) for route in routes[:top]]
    names = symbols(sorted({n for p in found for n in p.nodes} | {target, root}, key=_age))
    return Paths(target, root, count, total, found, names)


def _age(node: Node) -> int:
    return node.seq


def _edges(node: Node, useful: Any) -> Iterator[tuple[int, Node]]:
    for position, (source, need) in enumerate(zip(node.inputs, node.needs, strict=True)):
        if need and source in useful:
            yield position, source


def _count(order: list[Node], root: Node, target: Node) -> dict[Node, int]:
    """From the root down: as many routes lead to a node as to all its users together."""
    useful = set(order)
    counts = dict.fromkeys(order, 0)
    counts[root] = 1
    for node in order:
        if node is not target:
            for _, source in _edges(node, useful):
                counts[source] += counts[node]
    return counts


def _largest(order: list[Node], root: Node, target: Node, seed: float, top: int) -> list[_Route]:
    """The largest products, from the root down.

    A factor keeps the order of what it multiplies, so the largest routes through a node are
    continuations of the largest routes to it, and no others need to be carried on.
    """
    useful = set(order)
    waiting: dict[Node, list[_Route]] = {node: [] for node in order}
    waiting[root] = [_Route(abs(seed), seed, None, None, 0, None)]
    for node in order:
        routes = waiting[node]
        if len(routes) > 1:
            routes = heapq.nlargest(top, routes, key=_size)
        if node is target:
            return routes
        waiting[node] = []
        slopes = node.pull(1.0, node.needs, False, True)
        for position, source in _edges(node, useful):
            slope = slopes[position]
            for route in routes:
                # A closed gate passes nothing, however steep the slope behind it.
                product = route.amount * slope if route.amount else 0.0
                waiting[source].append(_Route(abs(product), product, route, node, position, slope))
    raise AssertionError("the target is the last node of the order")


def _size(route: _Route) -> float:
    return route.size if route.size == route.size else float("inf")


def _all(order: list[Node], root: Node, target: Node, seed: Any) -> list[_Route]:
    """Every route of a tensor graph, with what comes along it."""
    useful = set(order)
    found = []
    stack = [(root, _Route(norm(seed), seed, None, None, 0, None), False)]
    while stack:
        node, route, closed = stack.pop()
        if node is target:
            found.append(route)
            continue
        g = node.merge(None, route.amount, set())
        below = closed or node.op.selects
        for position, source in reversed(list(_edges(node, useful))):
            needs = tuple(i == position for i in range(len(node.inputs)))
            flow = node.pull(g, needs, False, closed)[position]
            if flow is not None:
                flow = dense(flow) if not isinstance(flow, tuple) else flow
                stack.append((source, _Route(norm(flow), flow, route, node, position, None), below))
    return heapq.nlargest(len(found), found, key=_size)


def _gradient(order: list[Node], root: Node, target: Node, seed: Any) -> Any:
    (g,) = walk([(root, seed)], wanted=[target])
    return 0.0 if g is None else dense(g)


def _path(route: _Route, target: Node) -> Path:
    nodes: list[Node] = [target]
    positions: list[int] = []
    slopes: list[float] = []
    link: _Route | None = route
    while link is not None and link.gate is not None:
        nodes.append(link.gate)
        positions.append(link.position)
        if link.slope is not None:
            slopes.append(link.slope)
        link = link.above
    product = route.amount
    if not isinstance(target, Scalar):
        product = Amount(np.shape(product), route.size, product)
    return Path(tuple(nodes), tuple(positions), tuple(slopes), product, route.size)
