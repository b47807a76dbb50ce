"""Paints a scene that has been laid out, as SVG text.

Only presentation attributes are used, no style sheet, identifiers or scripts, so that any number
of drawings can stand on one page.  Each part carries a `<title>`, which browsers show as a
tooltip, with the numbers in full.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape, quoteattr

from minigrad.draw.graph import NOT_KEPT, Graph
from minigrad.draw.layout import Layout, Point
from minigrad.draw.scene import GAP, SMALL, Box, Line, Link, Scene, Span
from minigrad.draw.style import COLOURS, FONT_FAMILY, clean, text_width
from minigrad.draw.text import describe, describe_edge, summary

__all__ = ["paint"]

MARGIN = 14.0
ARROW = 7.5


def paint(scene: Scene, layout: Layout, title: str | None = None, legend: bool = True) -> str:
    """The picture as SVG.

    Args:
        scene: what to paint.
        layout: where it stands.
        title: a heading above the picture.
        legend: say below the picture what its colours mean.
    """
    top = MARGIN + (28 if title else 0)
    lines = _legend(scene.graph) if legend else []
    widest = max([line.width for line in lines], default=0.0)
    if title:
        widest = max(widest, text_width(clean(title), 17))
    left, upper, right, lower = _extent(scene, layout)
    width = max(right - left, widest) + 2 * MARGIN
    bottom = sum(line.height for line in lines) + (14 if lines else 0)
    height = lower - upper + top + MARGIN + bottom
    shift = ((width - right - left) / 2, top - upper)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" '
        f"aria-label={quoteattr(clean(title or 'Computation graph'))} "
        f'font-family="{FONT_FAMILY}">',
        f"<desc>{escape(clean(summary(scene.graph)))}</desc>",
        f'<rect width="{_n(width)}" height="{_n(height)}" fill="{COLOURS["paper"]}"/>',
    ]
    if title:
        heading = Line((Span(clean(title), "name"),), 17)
        out.append(_text(heading, width / 2, MARGIN + 14, "middle"))
    out.append(f'<g transform="translate({_n(shift[0])} {_n(shift[1])})">')
    for link, path in zip(scene.links, layout.paths, strict=True):
        out += _link(scene, link, path)
    for box, centre in zip(scene.boxes, layout.centres, strict=True):
        out += _box(scene, box, centre)
    out.append("</g>")
    y = height - bottom - MARGIN + 14
    for line in lines:
        out.append(_text(line, width / 2, y + line.size, "middle"))
        y += line.height
    out.append("</svg>")
    return "\n".join(out) + "\n"


# --- parts ---------------------------------------------------------------------------------------


def _legend(graph: Graph) -> list[Line]:
    def line(*spans: tuple[str, str]) -> Line:
        return Line(tuple(Span(text, role) for text, role in spans), SMALL)

    gap = (" \u2003 ", "muted")
    if graph.scalar:
        return [
            line(
                ("value", "value"), gap, ("gradient", "gradient"), (" = ", "muted"),
                ("gate gradient", "gradient"), (" × ", "muted"), ("local gradient", "local"),
            )
        ]  # fmt: skip
    lines = [
        line(
            ("shape, dtype, mean ± standard deviation", "value"),
            gap,
            ("norm of the gradient", "gradient"),
        )
    ]
    if any(node.gradient_state == NOT_KEPT for node in graph.nodes):
        lines.append(line(("other gradients were not kept: see retain_grad()", "muted")))
    return lines


def _link(scene: Scene, link: Link, path: tuple[Point, ...]) -> list[str]:
    points = list(path)
    colour = COLOURS["muted" if link.dashed else "wire"]
    head = ""
    if link.arrow:
        tip = points[-1]
        before = next((p for p in reversed(points[:-1]) if math.dist(p, tip) > 0.5), points[0])
        length = math.dist(before, tip) or 1.0
        dx, dy = (tip[0] - before[0]) / length, (tip[1] - before[1]) / length
        base = (tip[0] - ARROW * dx, tip[1] - ARROW * dy)
        corners = [
            tip,
            (base[0] - dy * ARROW * 0.42, base[1] + dx * ARROW * 0.42),
            (base[0] + dy * ARROW * 0.42, base[1] - dx * ARROW * 0.42),
        ]
        head = f'<polygon points="{" ".join(map(_p, corners))}" fill="{colour}"/>'
        points[-1] = base
    curve = f"M{_p(points[0])}"
    for i in range(1, len(points), 3):
        curve += " C" + " ".join(map(_p, points[i : i + 3]))
    dash = ' stroke-dasharray="4 3"' if link.dashed else ""
    out = [f'<path d="{curve}" fill="none" stroke="{colour}" stroke-width="1.4"{dash}/>']
    return [*out, head] if head else out


def _extent(scene: Scene, layout: Layout) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is painted: a wire's box is roomier than its text."""
    xs = [p[0] for path in layout.paths for p in path]
    ys = [p[1] for path in layout.paths for p in path]
    for box, (x, y) in zip(scene.boxes, layout.centres, strict=True):
        half = (box.width / 2, box.height / 2)
        near = far = half[1] if scene.direction == "LR" else half[0]
        if box.kind in ("wire", "branch"):
            sides = []
            for lines in (box.before, box.after):
                if scene.direction == "LR":
                    sides.append(sum(line.height for line in lines) + GAP)
                else:
                    sides.append(max((line.width for line in lines), default=0.0) + GAP + 2)
            near, far = sides
        if scene.direction == "LR":
            xs += [x - half[0], x + half[0]]
            ys += [y - near, y + far]
        else:
            xs += [x - near, x + far]
            ys += [y - half[1], y + half[1]]
    return min(xs, default=0.0), min(ys, default=0.0), max(xs, default=0.0), max(ys, default=0.0)


def _box(scene: Scene, box: Box, centre: Point) -> list[str]:
    node = scene.graph.nodes[box.node]
    tip = describe(node)
    if box.edge is not None:
        edge = describe_edge(scene.graph.edges[box.edge])
        tip = edge if box.kind == "branch" else f"{tip}; {edge}"
    if box.kind == "stub":
        tip = box.label[0].text
    data = f'data-node="{box.node}"' + (f' data-edge="{box.edge}"' if box.edge is not None else "")
    out = [f'<g class="{box.kind}" {data}>', f"<title>{escape(clean(tip))}</title>"]
    if box.kind in ("wire", "branch"):
        out += _wire(scene, box, centre)
    else:
        out += _solid(box, centre)
    out.append("</g>")
    return out


def _solid(box: Box, centre: Point) -> list[str]:
    x, y = centre
    outline = f'stroke="{COLOURS["outline"]}" stroke-width="1.4"'
    out = []
    if box.kind == "leaf" and not box.label:
        out.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="4" fill="{COLOURS["outline"]}"/>')
    elif box.kind == "gate" and box.width == box.height:
        out.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(box.width / 2)}" '
            f'fill="{COLOURS["gate"]}" {outline}/>'
        )
    elif box.kind != "stub":
        radius = box.height / 2 if box.kind == "gate" and len(box.label) == 1 else 7.0
        out.append(
            f'<rect x="{_n(x - box.width / 2)}" y="{_n(y - box.height / 2)}" '
            f'width="{_n(box.width)}" height="{_n(box.height)}" rx="{_n(radius)}" '
            f'fill="{COLOURS["gate" if box.kind == "gate" else "leaf"]}" {outline}/>'
        )
    if not box.label:
        return out
    # The baseline that centres capitals and signs lies about 0.36 sizes below the middle.
    line_y = y - sum(line.height for line in box.label) / 2
    for line in box.label:
        out.append(_text(line, x, line_y + line.height / 2 + 0.36 * line.size, "middle"))
        line_y += line.height
    return out


def _wire(scene: Scene, box: Box, centre: Point) -> list[str]:
    x, y = centre
    stroke = f'stroke="{COLOURS["wire"]}" stroke-width="1.4"'
    out = []
    if scene.direction == "LR":
        ends = (x - box.width / 2, y), (x + box.width / 2, y)
        top = y - GAP - sum(line.height for line in box.before)
        for line in box.before:
            out.append(_text(line, x, top + line.size, "middle"))
            top += line.height
        top = y + GAP
        for line in box.after:
            out.append(_text(line, x, top + line.size, "middle"))
            top += line.height
    else:
        ends = (x, y - box.height / 2), (x, y + box.height / 2)
        for lines, side, anchor in ((box.before, -1, "end"), (box.after, 1, "start")):
            top = y - sum(line.height for line in lines) / 2
            for line in lines:
                out.append(_text(line, x + side * (GAP + 2), top + line.size, anchor))
                top += line.height
    (x1, y1), (x2, y2) = ends
    out.append(f'<path d="M{_n(x1)},{_n(y1)} L{_n(x2)},{_n(y2)}" {stroke}/>')
    if box.end:
        out.append(f'<circle cx="{_n(x2)}" cy="{_n(y2)}" r="3" fill="{COLOURS["wire"]}"/>')
    return out


def _text(line: Line, x: float, y: float, anchor: str) -> str:
    spans = "".join(
        f'<tspan fill="{COLOURS[span.role]}">{escape(clean(span.text))}</tspan>'
        for span in line.spans
    )
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(line.size)}" text-anchor="{anchor}" '
        f'xml:space="preserve">{spans}</text>'
    )


def _n(number: float) -> str:
    """A coordinate to two decimals, without trailing zeros or a negative zero."""
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _p(point: Point) -> str:
    return f"{_n(point[0])},{_n(point[1])}"
