"""The picture in words: a tree for terminals, from the result down to the inputs."""

from __future__ import annotations

from minigrad.draw.graph import COMPUTED, NOT_NEEDED, Graph, GraphEdge, GraphNode
from minigrad.draw.scene import shape_text
from minigrad.draw.style import format_number, shorten

__all__ = ["text_tree"]


def text_tree(graph: Graph, digits: int = 4) -> str:
    """The graph as lines of text; a value that is used twice is written out once.

    Args:
        graph: what to write.
        digits: significant digits of numbers.
    """
    lines: list[str] = []
    written: set[int] = set()
    roots = graph.roots or tuple(n.id for n in graph.nodes if not graph.consumers(n.id))
    # Each entry: a node, the edge it is reached by, the text before it and before what is below.
    stack: list[tuple[int, GraphEdge | None, str, str]] = [
        (root, None, "", "") for root in reversed(roots)
    ]
    while stack:
        id_, edge, prefix, below = stack.pop()
        node = graph.nodes[id_]
        again = id_ in written and bool(graph.inputs(id_))
        lines.append(prefix + _words(node, edge, digits) + ("  (see above)" if again else ""))
        if again:
            continue
        written.add(id_)
        if node.hidden_inputs:
            lines.append(f"{below}└─ … {node.hidden_inputs} more")
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
        shape = f"{shape_text(node.shape)} {node.dtype or ''}".rstrip()
        parts = [" ".join(filter(None, (name, f"[{shape}]", node.statistic)))]
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
            parts.append(f"receives {flow} = {gate} × {local}")
    return "   ".join(parts)
