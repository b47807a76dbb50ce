"""What the tools of this package share: nodes of values, names for them, and selectors.

A *selector* says which nodes a tool is to act on: the name of an op (`"relu"`), of a node or a
variable (`"h1"`), of a module as `study.recording()` has seen it (`"encoder.0"`), each also as a
pattern (`"layer*"`); an op; a Scalar or Tensor; a function of a node; or a list of these.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Node, Op, Variable, collect
from minigrad.nodes import OutputNode, TensorNode
from minigrad.ops.index import IndexedGradient
from minigrad.scalar import Scalar, _collect

Selector = Any
"""A string, an op, a variable, a node, a function of a node, or a list of these."""


def node_of(value: Any, tool: str) -> Node:
    """The node of a Scalar or a Tensor, or a node itself.

    Raises:
        TypeError: `value` stands on no graph.
    """
    found = value if isinstance(value, Node) else getattr(value, "node", None)
    if not isinstance(found, Node):
        raise TypeError(
            f"{tool}: a {type(value).__name__} stands on no graph; give a Scalar or a Tensor"
        )
    return found


def graph_of(loss: Any, tool: str) -> list[Node]:
    """The nodes that a gradient from `loss` reaches, newest first.

    Raises:
        TypeError: `loss` stands on no graph.
        ValueError: it depends on nothing that requires a gradient.
        GraphError: a leaf of a scalar graph was set since its use.
    """
    root = node_of(loss, tool)
    if not root.requires_grad:
        raise ValueError(
            f"{tool}: {label(root)} depends on nothing that requires a gradient; build it from "
            "scalar(...) or tensor(..., requires_grad=True), outside of no_grad()"
        )
    if isinstance(root, Scalar):
        gates, leaves = _collect(root)
        return [*gates, *leaves]
    return collect([root])


def seed_of(loss: Any, gradient: Any) -> Any:
    """The gradient to start a walk with: raw, of the right shape."""
    if isinstance(loss, Scalar):
        return 1.0 if gradient is None else float(gradient)
    return loss.seed(gradient)


def op_name(node: Node) -> str:
    """What made the node: the name of its op, "leaf" or "constant"."""
    if node.op is not None:
        return f"{node.inputs[0].op.name}" if isinstance(node, OutputNode) else node.op.name
    return "leaf" if node.requires_grad else "constant"


def label(node: Node) -> str:
    """A node in a message: its op, its name if it has one, and where it was made if recorded.

    >>> import minigrad
    >>> x = minigrad.scalar(2.0, name="x")
    >>> label(x), label(x * x)
    ("leaf 'x'", 'multiply')
    """
    words = op_name(node)
    if isinstance(node, OutputNode):
        words += f" (output {node.index})"
    if node.name is not None:
        words += f" {node.name!r}"
    origin = getattr(node, "origin", None)
    return words if origin is None else f"{words} at {origin.place}"


def symbols(nodes: Iterable[Node]) -> dict[Node, str]:
    """A short name for each node, all different: its own where it has one, else a letter.

    Args:
        nodes: in the order in which letters are given.
    """
    found: dict[Node, str] = {}
    taken: set[str] = set()
    nodes = list(nodes)
    for node in nodes:
        name = node.name
        if name is not None and name.isidentifier():
            unique = name
            number = 2
            while unique in taken:
                unique, number = f"{name}_{number}", number + 1
            found[node] = unique
            taken.add(unique)
    counts = {"x": 0, "v": 0}
    for node in nodes:
        if node not in found:
            letter = "x" if node.op is None else "v"
            while True:
                counts[letter] += 1
                name = f"{letter}{counts[letter]}"
                if name not in taken:
                    break
            found[node] = name
            taken.add(name)
    return found


def dense(value: Any) -> Any:
    """A gradient as it is merged, as something with all its elements: an array or a number."""
    if isinstance(value, IndexedGradient):
        buffer = value.zeros()
        value.add_to(buffer)
        return buffer
    return value._data if isinstance(value, Variable) else value


def on_host(value: Any) -> Any:
    """A raw array as one of NumPy, copied if it lies on another device; a number as it is."""
    return backend.device_of(value).to_numpy(value)


def parts_of(value: Any) -> list[Any]:
    """The arrays of a gradient, to be read: one, or those of the several outputs of a node."""
    if isinstance(value, tuple):  # one output of a node with several
        return [on_host(dense(value[1]))]
    if isinstance(value, list):
        return [on_host(dense(part)) for part in value if part is not None]
    return [on_host(dense(value))]


def named_values(node: Any, record: bool = False) -> dict[str, Any]:
    """What a node has kept, by the names that its rules use, shapes and parameters included.

    Args:
        node: of an op.
        record: give variables on the graph instead of raw values.
    """
    op = node.op
    inputs = input_names(op, len(node.inputs))
    values: dict[str, Any] = dict(node.params)
    for name, source in zip(inputs, node.inputs, strict=True):
        values[f"{name}_shape"] = getattr(source, "shape", ())
    if isinstance(node, Scalar):
        for name, source in zip(inputs, node.inputs, strict=True):
            values[name] = source if record else source._data
        values[op.outputs[0]] = node if record else node._data
        return values
    if isinstance(node, TensorNode):
        names = (*inputs, *op.outputs)
        saved = node._values()
        if record:
            saved = node._as_variables(saved)
        for position, value in zip(node.plan.save, saved, strict=True):
            values[names[position]] = value
        for name, source in zip(inputs, node.inputs, strict=True):
            if isinstance(source, (int, float)):
                values.setdefault(name, source)
    return values


def input_names(op: Op, count: int) -> tuple[str, ...]:
    """Names of an op's inputs; those of an op that takes any number are counted."""
    if not op.variadic:
        return op.inputs
    names = op.inputs[:-1]
    return (*names, *(f"{op.inputs[-1][1:]}{i}" for i in range(count - len(names))))


def selects(selector: Selector) -> Callable[[Node], bool]:
    """A selector as a function of a node.

    Raises:
        TypeError: it is none of the kinds that the module's docstring lists.
    """
    if isinstance(selector, str):
        return lambda node: _named(node, selector)
    if isinstance(selector, Op):
        return lambda node: node.op is selector
    if isinstance(selector, (Node, Variable)):
        wanted = node_of(selector, "selector")
        return lambda node: node is wanted
    if isinstance(selector, Sequence):
        tests = [selects(part) for part in selector]
        return lambda node: any(test(node) for test in tests)
    if callable(selector):
        return selector
    raise TypeError(
        f"a selector is the name of an op, node or module, an op, a Scalar or Tensor, a function "
        f"of a node, or a list of these, not a {type(selector).__name__}"
    )


def _named(node: Node, pattern: str) -> bool:
    names = [op_name(node)] + ([node.name] if node.name else [])
    origin = getattr(node, "origin", None)
    if origin is not None and origin.module:
        names.append(origin.module)
    if pattern in names or not set(pattern) & set("*?["):
        return pattern in names
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def norm(value: Any) -> float:
    """Euclidean norm over all elements, in double precision."""
    arrays = [np.asarray(part, np.float64).ravel() for part in parts_of(value)]
    return float(np.sqrt(sum(float(np.dot(a, a)) for a in arrays)))
