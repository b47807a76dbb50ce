"""Pictures of computation graphs: values, gradients, and how the chain rule combines them.

Start with `draw`.  A picture is made in steps, a file each: `extract` reads the engine's graph
into `graph` (plain data), `scene` decides what stands in the picture, `engines` has it placed (by
Graphviz, or by `layered`, our own), and `svg` paints it.  `dot`, `text` and `page` are the other
forms; `style` has the colours; `Drawing` holds everything together.

The module can be called, so that `minigrad.draw(f)` and `minigrad.draw.Drawing` both work.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from minigrad.draw.drawing import Drawing
from minigrad.draw.engines import ENGINES, DrawingError
from minigrad.draw.extract import MAX_NODES, read_graph
from minigrad.draw.graph import Graph, GraphEdge, GraphNode, GraphTooLarge

__all__ = [
    "Drawing",
    "DrawingError",
    "Graph",
    "GraphEdge",
    "GraphNode",
    "GraphTooLarge",
    "draw",
]


def draw(
    *roots: Any,
    max_nodes: int = MAX_NODES,
    depth: int | None = None,
    around: Any = None,
    radius: int = 2,
    direction: str | None = None,
    digits: int = 4,
    title: str | None = None,
    legend: bool = True,
    engine: str = "auto",
) -> Drawing:
    """Draw the graph that leads to one or more values.

    On a graph of Scalars each wire has the value above it, the gradient below, and how it came
    about: gate gradient × local gradient.  Where several gates use a value, each use shows its
    contribution, and the gradient is their sum.  Before `backward()` a gradient is "not
    computed", which is not 0.  On a graph of Tensors a wire has shape, dtype, "mean ± standard
    deviation" where the values are at hand, and the norm of the gradient.

    Args:
        roots: Scalars or Tensors, or lists of them.
        max_nodes: a graph with more nodes is refused.
        depth: draw only what is at most so many edges away from a root.
        around: draw only the neighbourhood of this Scalar, Tensor, or node of this name.
        radius: how many edges the neighbourhood reaches in both directions.
        direction: "LR" (left to right; default for scalars) or "TB" (top to bottom; default for
            tensors).
        digits: significant digits; tooltips and the HTML table have all digits.
        title: a heading.
        legend: say below the picture what its colours mean.
        engine: which program places the parts: "dot" (Graphviz), "wasm" (Graphviz as
            WebAssembly, extra `draw`), "builtin" (needs nothing), or "auto", the first of them
            that works.

    Returns:
        A `Drawing`, with `.svg()`, `.png()`, `.dot`, `.html()`, `.text()`, `.save(path)`, and
        `.graph`, the picture as data.

    Raises:
        GraphTooLarge: more than `max_nodes` nodes, with advice.
        TypeError, ValueError: an argument is no value on a graph, or out of range.

    >>> import minigrad
    >>> x, y = minigrad.scalar(4.0, name="x"), minigrad.scalar(-3.0, name="y")
    >>> f = x * y
    >>> f.backward()
    >>> print(draw(f).text(), end="")
    -12   by ×   grad 1
    ├─ x = 4   grad -3   receives -3 = 1 × (-3)
    └─ y = -3   grad 4   receives 4 = 1 × 4
    """
    if engine not in (*ENGINES, "auto"):
        raise ValueError(f"draw: engine {engine!r} is unknown: use {', '.join(ENGINES)} or auto")
    flat: list[Any] = []
    for root in roots:
        flat += root if isinstance(root, (list, tuple)) else [root]
    graph = read_graph(flat, max_nodes=max_nodes, depth=depth, around=around, radius=radius)
    return Drawing(
        graph, direction=direction, digits=digits, title=title, legend=legend, engine=engine
    )


class _CallableModule(ModuleType):
    __call__ = staticmethod(draw)


sys.modules[__name__].__class__ = _CallableModule
