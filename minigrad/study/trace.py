"""One run of a function, kept: each node with its value, its gradient and what it handed on.

A tensor's node does not keep its output, so a graph that is to be compared later is computed
under `trace`, which writes everything down as copies, as NumPy arrays whatever the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Node, Variable, collect, walk
from minigrad.nodes import Leaf, MultipleNode, OutputNode
from minigrad.observing import Interposer, stand
from minigrad.scalar import Scalar
from minigrad.study.contributions import FlowRecorder
from minigrad.study.nodes import dense, on_host, op_name, seed_of
from minigrad.study.record import recording, where

__all__ = ["Trace", "TraceNode", "trace"]


@dataclass(frozen=True, slots=True)
class TraceNode:
    """One node of a run.

    Attributes:
        id: position in `Trace.nodes`: inputs stand before what is computed from them, leaves
            where they are first used.
        op: name of the op, "leaf" or "constant".
        name: its name, or that of the variable that it was assigned to.
        inputs: id of each input; a plain number stands as itself.
        params: static parameters, as text.
        shape: of the value.
        dtype: name of its dtype; "float" for scalars.
        value: a number or an array; None where there is none of its own.
        gradient: what the backward pass brought; None if nothing arrived.
        contributions: what it handed to each input, None where nothing; empty for leaves.
        where: source line.
        device: where the value lay; None where there is none.
    """

    id: int
    op: str
    name: str | None
    inputs: tuple
    params: str
    shape: tuple[int, ...]
    dtype: str
    value: Any
    gradient: Any
    contributions: tuple
    where: str
    device: str | None = None


class Trace:
    """A run, as `trace` has seen it.

    Attributes:
        nodes: of the graph of the result, from the leaves on.
        root: the result, a Scalar or a Tensor.
    """

    def __init__(self, root: Any, values: dict[Node, tuple], gradient: Any = None) -> None:
        self.root = root
        top = root if isinstance(root, Node) else root.node
        order = collect([top]) if top.requires_grad else [top]
        leaves = [node for node in order if node.op is None]
        with stand(FlowRecorder()) as recorder, np.errstate(all="ignore"):
            found = walk([(top, seed_of(root, gradient))], wanted=leaves, order=order)
        gradients = dict(recorder.gradients)
        gradients.update(zip(leaves, found, strict=True))
        flows: dict[tuple[Node, int], Any] = {
            (gate, position): flow for _, gate, position, _, _, flow in recorder.flows
        }
        self.engine_nodes = _numbered(top)
        ids = {node: i for i, node in enumerate(self.engine_nodes)}
        found_values = [_value(node, values) for node in self.engine_nodes]
        self.nodes = tuple(
            TraceNode(
                ids[node],
                op_name(node),
                node.name,
                tuple(ids.get(source, source) for source in node.inputs),
                _params(node),
                tuple(node.shape),
                str(getattr(node, "dtype", None) or "float"),
                _plain(value),
                _plain(gradients.get(node)),
                tuple(_plain(flows.get((node, i))) for i in range(len(node.inputs))),
                where(node),
                None if value is None else backend.device_of(value).name,
            )
            for node, value in zip(self.engine_nodes, found_values, strict=True)
        )

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<Trace of {len(self.nodes)} nodes>"


def trace(f: Callable[..., Any], *args: Any, gradient: Any = None) -> Trace:
    """Run `f` and keep everything: values, gradients, contributions, source lines.

    The backward pass is done here, so `f` must not do it; no `.grad` changes.

    Args:
        f: returns a Scalar or a Tensor.
        args: for `f`.
        gradient: what the backward pass starts with; 1 for a single number.

    Raises:
        TypeError: `f` returned something else.

    >>> import minigrad
    >>> x = minigrad.tensor([1.0, 2.0], requires_grad=True, name="x")
    >>> run = trace(lambda: (x * 3.0).sum())
    >>> [(node.op, node.gradient) for node in run.nodes][:2]
    [('leaf', array([3., 3.], dtype=float32)), ('multiply', array([1., 1.], dtype=float32))]
    """
    with stand(_Values()) as recorder, recording():
        result = f(*args)
    if not isinstance(result, Variable):
        raise TypeError(f"trace: the function returned a {type(result).__name__}, not a variable")
    return Trace(result, recorder.values, gradient)


class _Values(Interposer):
    def __init__(self) -> None:
        self.values: dict[Node, tuple] = {}

    def recorded(self, node: Any, values: tuple) -> None:
        self.values[node] = tuple(_copy(v) for v in values)


def _copy(value: Any) -> Any:
    """What nobody will write into: a copy on the same device."""
    device = backend.device_of(value)
    found = device.to_numpy(value)
    return device.from_numpy(np.array(found)) if isinstance(found, np.ndarray) else value


def _numbered(top: Node) -> list[Node]:
    """All nodes of a graph, constants included: gates by age, leaves before their first use."""
    seen = {top}
    stack = [top]
    gates = []
    while stack:
        node = stack.pop()
        if node.op is not None:
            gates.append(node)
        for source in node.inputs:
            if isinstance(source, Node) and source not in seen:
                seen.add(source)
                stack.append(source)
    found: dict[Node, None] = {}
    for gate in sorted(gates, key=lambda node: node.seq):
        for source in gate.inputs:
            if isinstance(source, Node) and source.op is None:
                found.setdefault(source)
        found.setdefault(gate)
    found.setdefault(top)
    return list(found)


def _params(node: Node) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in node.params.items())


def _value(node: Any, values: dict[Node, tuple]) -> Any:
    if isinstance(node, Scalar):
        return node._data
    if isinstance(node, MultipleNode):
        return None  # its outputs are nodes of their own
    if isinstance(node, OutputNode):
        source = node.inputs[0]
        outputs = values.get(source, ())[len(source.inputs) :]
        return outputs[node.index] if node.index < len(outputs) else None
    if values.get(node):
        return values[node][-1]
    owner = node.owner() if isinstance(node, Leaf) and node.owner is not None else None
    return None if owner is None else owner._data


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return _plain(value[1])
    if isinstance(value, list):
        return [_plain(part) for part in value]
    value = on_host(dense(value))
    return np.array(value) if isinstance(value, (np.ndarray, np.generic)) else value
