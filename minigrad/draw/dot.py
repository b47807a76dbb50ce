"""The picture as DOT text, for the `graphviz` programs and everything else that reads DOT.

The text stands on its own: it has the colours, the numbers and the labels of the picture.  Labels
are HTML-like, since only these hold two colours.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from minigrad.draw.scene import Box, Line, Scene
from minigrad.draw.style import COLOURS, FONT_FAMILY, clean
from minigrad.draw.text import describe, describe_edge

__all__ = ["dot_source", "graphviz_package"]


def graphviz_package() -> Any:
    """The `graphviz` package.

    Raises:
        ImportError: it is missing, with what to install.
    """
    try:
        import graphviz
    except ImportError as error:
        raise ImportError(
            "DOT is written by the Python package `graphviz`, which is not installed: "
            "pip install graphviz (it comes with minigrad; the Graphviz program is not needed)"
        ) from error
    return graphviz


def dot_source(scene: Scene, title: str | None = None) -> str:
    """The scene as DOT text; the same scene gives the same text.

    Raises:
        ImportError: the `graphviz` package is missing.
    """
    graphviz = graphviz_package()
    dot = graphviz.Digraph(
        "minigrad",
        graph_attr={
            "rankdir": scene.direction,
            "ranksep": "0.2",
            "nodesep": "0.25",
            "bgcolor": COLOURS["paper"],
            "fontname": FONT_FAMILY,
            "labelloc": "t",
            "ordering": "in",
        },
        node_attr={"fontname": FONT_FAMILY, "color": COLOURS["outline"], "fontsize": "15"},
        edge_attr={"color": COLOURS["wire"], "arrowsize": "0.7"},
    )
    if title:
        dot.attr(label=graphviz.escape(clean(title)))
    for i, box in enumerate(scene.boxes):
        dot.node(f"b{i}", **_attributes(scene, box, graphviz.escape))
    out, into = {"LR": (":e", ":w"), "TB": (":s", ":n")}[scene.direction]
    for link in scene.links:
        extra = {} if link.arrow else {"dir": "none"}
        if link.dashed:
            extra["style"] = "dashed"
        target = f"b{link.target}"
        if scene.boxes[link.target].kind != "gate":
            target += into
        dot.edge(f"b{link.source}{out}", target, **extra)
    return dot.source


def _attributes(scene: Scene, box: Box, quote: Any) -> dict[str, str]:
    node = scene.graph.nodes[box.node]
    tip = describe(node)
    if box.kind == "branch" and box.edge is not None:
        tip = describe_edge(scene.graph.edges[box.edge])
    attributes = {"tooltip": quote(clean(tip))}
    if box.kind in ("wire", "branch"):
        return attributes | {"shape": "plain", "label": _wire_label(box, scene.direction)}
    if box.kind == "leaf" and not box.label:
        return attributes | {"shape": "point"}
    label = f"<{'<BR/>'.join(_html(line) for line in box.label)}>"
    if box.kind == "stub":
        return attributes | {"shape": "plaintext", "label": label}
    fill = COLOURS["gate" if box.kind == "gate" else "leaf"]
    attributes |= {"label": label, "style": "filled,rounded", "fillcolor": fill}
    if box.kind == "gate" and box.width == box.height:
        size = f"{box.width / 72:.3f}"
        return attributes | {
            "shape": "circle", "style": "filled", "fixedsize": "true", "width": size
        }  # fmt: skip
    return attributes | {"shape": "box"}


def _wire_label(box: Box, direction: str) -> str:
    """A table with the wire as its rule, in the middle, so that edges meet it."""
    table = '<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">'
    if direction == "LR":
        # The shorter side is filled up with blank lines of the same height.
        above = [_blank(line) for line in box.after[len(box.before) :]]
        below = [_blank(line) for line in box.before[len(box.after) :]]
        rows = [*above, *map(_html, box.before), None, *map(_html, box.after), *below]
        body = "".join("<HR/>" if r is None else f"<TR><TD>{r}</TD></TR>" for r in rows)
        return f"<{table}{body if len(rows) > 1 else '<TR><TD> </TD></TR>'}</TABLE>>"
    width = max(20.0, *(line.width + 4 for line in box.before + box.after), 0.0)
    cells = "<VR/>".join(
        f'<TD WIDTH="{width:.0f}">{"<BR/>".join(map(_html, lines)) or " "}</TD>'
        for lines in (box.before, box.after)
    )
    return f"<{table}<TR>{cells}</TR></TABLE>>"


def _blank(line: Line) -> str:
    return f'<FONT POINT-SIZE="{line.size:g}"> </FONT>'


def _html(line: Line) -> str:
    return "".join(
        f'<FONT COLOR="{COLOURS[span.role]}" POINT-SIZE="{line.size:g}">'
        f"{escape(clean(span.text)) or ' '}</FONT>"
        for span in line.spans
    )
