"""What stands in the picture: gates, leaves and labelled pieces of wire, with their sizes.

A graph becomes boxes and links between them.  Each value is a piece of wire with text on both
sides: the value before it (above, or left where the picture runs downwards) and the gradient
after it.  Where one gate uses a value, the same piece of wire tells how that gradient came about,
`gate gradient × local gradient`; where several do, each branch tells its own and the gradient is
their sum.  A layout then only has to place boxes of known size, whichever program does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from minigrad.draw.graph import COMPUTED, NOT_KEPT, NOT_NEEDED, Graph, GraphEdge, GraphNode
from minigrad.draw.style import enclosed, format_number, shorten, text_width

__all__ = ["Box", "Line", "Link", "Scene", "Span", "make_scene"]

TEXT = 15.0
SMALL = 11.0
SIGN = 19.0
LEADING = 1.28
"""Distance of two lines, in font sizes."""
GAP = 4.0
"""Between a wire and its text."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text in one colour; `role` is a key of `style.COLOURS`."""

    text: str
    role: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text."""

    spans: tuple[Span, ...]
    size: float

    @property
    def text(self) -> str:
        """The line without its colours."""
        return "".join(span.text for span in self.spans)

    @property
    def width(self) -> float:
        """Width in points."""
        return text_width(self.text, self.size)

    @property
    def height(self) -> float:
        """Height in points, with the space to the next line."""
        return self.size * LEADING


@dataclass(frozen=True, slots=True)
class Box:
    """Something that a layout places.

    Attributes:
        kind: "leaf", "gate", "wire" (a value), "branch" (one use of a value) or "stub" (what is
            left out of the picture).
        width, height: in points.
        node: id of the graph node that it shows; for a branch, the node whose value runs there.
        edge: index in `Graph.edges` of the use that it tells about, or None.
        label: lines inside a leaf or a gate.
        before, after: lines on the two sides of a wire.
        end: whether a wire leads out of the picture here.
    """

    kind: str
    width: float
    height: float
    node: int
    edge: int | None = None
    label: tuple[Line, ...] = ()
    before: tuple[Line, ...] = ()
    after: tuple[Line, ...] = ()
    end: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A wire from one box (its index) to another.

    `spine` marks the data's way through a network, which should be straight.
    """

    source: int
    target: int
    arrow: bool = False
    dashed: bool = False
    spine: bool = False


@dataclass(frozen=True)
class Scene:
    """Boxes and links, ready to be laid out.

    Attributes:
        direction: "LR" (left to right) or "TB" (top to bottom).
    """

    graph: Graph
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    direction: str
    digits: int


def make_scene(graph: Graph, direction: str = "LR", digits: int = 4) -> Scene:
    """Decide what stands in the picture of a graph.

    Args:
        graph: what to show.
        direction: "LR" or "TB".
        digits: significant digits of numbers.
    """
    boxes: list[Box] = []
    links: list[Link] = []
    exits: list[int] = []
    gates: dict[int, int] = {}
    places = {(e.source, e.target, e.position): i for i, e in enumerate(graph.edges)}

    def add(box: Box) -> int:
        boxes.append(box)
        return len(boxes) - 1

    for node in graph.nodes:
        start = add(_gate(node) if node.kind == "gate" else _leaf(node))
        if node.kind == "gate":
            gates[node.id] = start
        uses = graph.consumers(node.id)
        single = uses[0] if _tells_all(graph, node, uses) else None
        before = _value_lines(node, digits)
        after = _gradient_lines(graph, node, single, digits)
        edge = None
        if single is not None:
            edge = places[single.source, single.target, single.position]
        end = not uses and not node.hidden_consumers
        exits.append(add(_wire("wire", direction, node.id, edge, before, after, end)))
        links.append(Link(start, exits[-1]))

    for i, edge_data in enumerate(graph.edges):
        source = graph.nodes[edge_data.source]
        exit_box = exits[source.id]
        if graph.scalar and edge_data.differentiable and boxes[exit_box].edge != i:
            after = _use_lines(source, edge_data, digits)
            branch = add(_wire("branch", direction, source.id, i, (), after, False))
            links.append(Link(exit_box, branch))
            exit_box = branch
        # On tensors a gate's first argument is the data; weights and labels come from the side.
        spine = not graph.scalar and edge_data.position == 0
        links.append(Link(exit_box, gates[edge_data.target], arrow=True, spine=spine))

    for node in graph.nodes:
        if node.hidden_inputs:
            stub = add(_stub(node.id, node.hidden_inputs))
            links.append(Link(stub, gates[node.id], arrow=True, dashed=True))
        if node.hidden_consumers:
            stub = add(_stub(node.id, node.hidden_consumers))
            links.append(Link(exits[node.id], stub, dashed=True))
    return Scene(graph, tuple(boxes), tuple(links), direction, digits)


def _tells_all(graph: Graph, node: GraphNode, uses: list[GraphEdge]) -> bool:
    """Whether the value's own piece of wire can tell about its one use too."""
    if not graph.scalar or len(uses) != 1 or node.hidden_consumers or node.is_root:
        return False
    if not uses[0].differentiable:
        return False
    return node.gradient is None or graph.explains(node.id)


# --- text ----------------------------------------------------------------------------------------


def _line(size: float, *spans: tuple[str, str]) -> Line:
    return Line(tuple(Span(text, role) for text, role in spans), size)


def _value_lines(node: GraphNode, digits: int) -> tuple[Line, ...]:
    name = shorten(node.name, 24) if node.name and node.kind == "gate" else ""
    if node.value is not None:
        spans = [(format_number(node.value, digits), "value")]
        if name:
            spans.insert(0, (f"{name} = ", "name"))
        lines = [_line(TEXT, *spans)]
        if node.changed:
            lines.append(_line(SMALL, ("changed since its use", "muted")))
        return tuple(lines)
    if not node.shape and node.statistic:
        spans = [(f"{name} = ", "name")] if name else []
        spans.append((node.statistic, "value"))
        return (_line(TEXT, *spans), _line(SMALL, (node.dtype or "", "value")))
    lines = [_line(TEXT, (name, "name"))] if name else []
    lines.append(_line(12.0, (value_words(node), "value")))
    if node.statistic:
        lines.append(_line(SMALL, (node.statistic, "value")))
    return tuple(lines)


def value_words(node: GraphNode) -> str:
    """What is known of a tensor without its values: shape and dtype."""
    if node.outputs > 1:
        return f"{node.outputs} outputs"
    return f"{shape_text(node.shape)} {node.dtype or ''}".strip()


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as the lectures write it.

    >>> shape_text((64, 1, 28, 28)), shape_text((10,)), shape_text(())
    ('64 × 1 × 28 × 28', '10', 'scalar')
    """
    return " × ".join(str(n) for n in shape) if shape else "scalar"


def _gradient_lines(
    graph: Graph, node: GraphNode, single: GraphEdge | None, digits: int
) -> tuple[Line, ...]:
    if node.gradient_state in (NOT_NEEDED, NOT_KEPT):
        return ()
    if node.gradient_state != COMPUTED:
        lines = [_line(SMALL + 1, (node.gradient_state, "muted"))]
    elif node.gradient is not None:
        lines = [_line(TEXT, (format_number(node.gradient, digits), "gradient"))]
    elif node.gradient_norm is not None:
        norm = format_number(node.gradient_norm, digits)
        lines = [_line(12.0, (f"\u2016grad\u2016 {norm}", "gradient"))]
    else:
        lines = [_line(12.0, ("grad", "gradient"))]
    if single is not None:
        lines.append(_factors(single, digits))
    elif node.gradient is not None and graph.scalar:
        flows = [e.contribution for e in graph.consumers(node.id) if e.contribution is not None]
        if graph.explains(node.id):
            if 1 < len(flows) <= 4:
                first, *others = (format_number(flow, digits) for flow in flows)
                terms = " + ".join([first, *map(enclosed, others)])
                lines.append(_line(SMALL, ("= ", "muted"), (terms, "gradient")))
            else:
                lines.append(_line(SMALL, (f"= sum of {len(flows)}", "muted")))
        elif flows and not node.is_root:
            lines.append(_line(SMALL, ("with other uses or passes", "muted")))
    return tuple(lines)


def _use_lines(source: GraphNode, edge: GraphEdge, digits: int) -> tuple[Line, ...]:
    lines = []
    if edge.contribution is not None:
        lines.append(_line(13.0, (format_number(edge.contribution, digits), "gradient")))
    lines.append(_factors(edge, digits))
    return tuple(lines)


def _factors(edge: GraphEdge, digits: int) -> Line:
    """`= gate gradient × local gradient`, with a question mark for what is not known."""
    gate, local = ("?", "muted"), ("?", "muted")
    if edge.gate_gradient is not None:
        gate = (format_number(edge.gate_gradient, digits), "gradient")
    if edge.local_gradient is not None:
        local = (enclosed(format_number(edge.local_gradient, digits)), "local")
    return _line(SMALL, ("= ", "muted"), gate, (" × ", "muted"), local)


# --- boxes ---------------------------------------------------------------------------------------


def _leaf(node: GraphNode) -> Box:
    if not node.name:
        return Box("leaf", 12.0, 12.0, node.id)
    label = _line(16.0, (shorten(node.name, 24), "name"))
    return Box("leaf", max(32.0, label.width + 20), 30.0, node.id, label=(label,))


def _gate(node: GraphNode) -> Box:
    sign = _line(SIGN if len(node.symbol) <= 2 else 15.0, (shorten(node.symbol, 28), "name"))
    params = [f"{name}={text}" for name, text in node.params]
    lines = [sign, *(_line(SMALL, (shorten(text, 28), "muted")) for text in params)]
    width = max(line.width for line in lines)
    if len(lines) == 1 and width <= 26:
        return Box("gate", 38.0, 38.0, node.id, label=(sign,))
    height = sum(line.height for line in lines) + 14
    return Box("gate", width + 22, max(34.0, height), node.id, label=tuple(lines))


def _wire(
    kind: str,
    direction: str,
    node: int,
    edge: int | None,
    before: tuple[Line, ...],
    after: tuple[Line, ...],
    end: bool,
) -> Box:
    width = max((line.width for line in before + after), default=0.0)
    sides = [sum(line.height for line in side) for side in (before, after)]
    if direction == "LR":
        # The same room on both sides keeps the wire in the middle of its box.
        size = (max(width + 14, 34.0), 2 * (max(sides) + GAP))
    else:
        size = (2 * (width + GAP + 4), max(*sides, 22.0) + 10)
    return Box(kind, *size, node, edge=edge, before=before, after=after, end=end)


def _stub(node: int, count: int) -> Box:
    line = _line(SMALL, (f"… {count} more", "muted"))
    return Box("stub", line.width + 12, 22.0, node, label=(line,))
