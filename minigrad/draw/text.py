"""The picture in words: a tree for terminals, and descriptions for tooltips and screen readers."""

from __future__ import annotations

from minigrad.draw.graph import COMPUTED, NOT_NEEDED, Graph, GraphEdge, GraphNode
from minigrad.draw.scene import value_words
from minigrad.draw.style import enclosed, format_number, shorten

__all__ = ["describe", "describe_edge", "summary", "text_tree"]


def text_tree(graph: Graph, digits: int = 4) -> str:
    """The graph as lines of text; a value that is used twice is written out once.

    Args:
        graph: what to write.
        digits: significant digits of numbers.
    """
    lines: list[str] = []
    written: set[int] = set()
    roots = graph.roots or tuple(n.id for n in graph.nodes if not graph.consumers(n.id))
    # Each entry: a node (or minus the number of hidden ones), the edge it is reached by, the text
    # before it and before what is below.
    stack: list[tuple[int, GraphEdge | None, str, str]] = [
        (root, None, "", "") for root in reversed(roots)
    ]
    while stack:
        id_, edge, prefix, below = stack.pop()
        if id_ < 0:
            lines.append(f"{prefix}… {-id_} more")
            continue
        node = graph.nodes[id_]
        again = id_ in written and bool(graph.inputs(id_))
        lines.append(prefix + _words(node, edge, digits) + ("  (see above)" if again else ""))
        if again:
            continue
        written.add(id_)
        if node.hidden_inputs:
            stack.append((-node.hidden_inputs, None, below + "└─ ", ""))
        inputs = graph.inputs(id_)
        for i, use in reversed(list(enumerate(inputs))):
            last = i == len(inputs) - 1 and not node.hidden_inputs
            stack.append(
                (
                    use.source,
                    use,
                    below + ("└─ " if last else "├─ "),
                    below + ("   " if last else "│  "),
                )
            )
    return "\n".join(lines) + "\n"


def _words(node: GraphNode, edge: GraphEdge | None, digits: int) -> str:
    name = shorten(node.name, 24) if node.name else ""
    if node.value is not None:
        value = format_number(node.value, digits)
        parts = [f"{name} = {value}" if name else value]
        if node.changed:
            parts.append("(changed since its use)")
    else:
        parts = [" ".join(filter(None, (name, f"[{value_words(node)}]", node.statistic)))]
    if node.op:
        params = ", ".join(f"{key}={text}" for key, text in node.params)
        parts.append(f"by {node.symbol}{f' ({params})' if params else ''}")
    if node.gradient is not None:
        parts.append(f"grad {format_number(node.gradient, digits)}")
    elif node.gradient_norm is not None:
        parts.append(f"‖grad‖ {format_number(node.gradient_norm, digits)}")
    elif node.gradient_state not in (COMPUTED, NOT_NEEDED):
        parts.append(f"grad {node.gradient_state}")
    if edge is not None and edge.local_gradient is not None:
        local = format_number(edge.local_gradient, digits)
        if edge.contribution is None or edge.gate_gradient is None:
            parts.append(f"local gradient {local}")
        else:
            flow, gate = (format_number(v, digits) for v in (edge.contribution, edge.gate_gradient))
            parts.append(f"receives {flow} = {gate} × {enclosed(local)}")
    return "   ".join(parts)


def summary(graph: Graph) -> str:
    """The picture in a sentence or two, for those who do not see it."""
    leaves = [node for node in graph.nodes if node.kind == "leaf"]
    gates = len(graph.nodes) - len(leaves)
    words = [f"A computation graph of {len(leaves)} inputs and {gates} gates."]
    words += [describe(graph.nodes[i]) + "." for i in graph.roots[:3]]
    words += [describe(node) + "." for node in leaves[:8]]
    return " ".join(words)


def describe(node: GraphNode) -> str:
    """A node with all its numbers in full, as a tooltip and in the text alternative."""
    name = node.name or ("input" if node.kind == "leaf" else "result")
    parts = [f"{name} = {node.op}(...)" if node.op else name]
    if node.value is not None:
        parts.append(f"value {node.value!r}")
    else:
        parts.append(value_words(node))
        if node.statistic:
            parts.append(node.statistic)
    if node.gradient is not None:
        parts.append(f"gradient {node.gradient!r}")
    elif node.gradient_norm is not None:
        parts.append(f"gradient of norm {node.gradient_norm!r}")
    elif node.gradient_state != COMPUTED:
        parts.append(f"gradient {node.gradient_state}")
    parts += [f"{name}={text}" for name, text in node.params]
    return ", ".join(parts)


def describe_edge(edge: GraphEdge) -> str:
    """An edge with all its numbers in full."""
    gate, local, flow = (
        "not computed" if value is None else repr(value)
        for value in (edge.gate_gradient, edge.local_gradient, edge.contribution)
    )
    return f"gate gradient {gate} × local gradient {local} = contribution {flow}"
