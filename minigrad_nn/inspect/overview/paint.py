"""Paints a module graph as SVG: boxes inside boxes, darker where more is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.sax.saxutils import escape, quoteattr

from minigrad.draw.style import COLOURS, FONT_FAMILY, clean, text_width

from .layout import HEAD, LINE, Placed, place
from .tree import METRICS, Part, walk
from .words import describe, lines_of, metric_line

__all__ = ["colour_of", "paint", "share_of"]

MARGIN = 16.0
TOP = 56.0
BOLD = 1.15
"""Bold text is wider than the same in plain by about this."""


def share_of(part: Part, metric: str, total: float) -> float:
    """How dark a box is, from 0 to 1: the root of its share, so that small ones are told apart."""
    return math.sqrt(getattr(part, metric) / total) if total else 0.0


def colour_of(share: float) -> tuple[str, str]:
    """Paper and ink for a share: from near white with black to dark blue with white."""
    light, dark = (246, 248, 252), (11, 60, 140)
    mixed = [round(a + (b - a) * share) for a, b in zip(light, dark, strict=True)]
    return f"#{mixed[0]:02x}{mixed[1]:02x}{mixed[2]:02x}", "#ffffff" if share > 0.55 else "#1c1c1c"


def paint(
    root: Part, is_open: Callable[[Part], bool], metric: str = "multiply_adds", title: str = ""
) -> str:
    """The picture as SVG.

    Args:
        root: the tree.
        is_open: which parts show what is inside.
        metric: a key of `METRICS`, what the colour says.
        title: the heading.
    """
    placed = place(root, is_open)
    total = float(getattr(root, metric))
    subtitle = f"darker: more {METRICS[metric]}"
    if any(again for part in walk(root) for *_, again in part.wires.links):
        subtitle += " \u2003 dashed: to the next round of a loop"
    widest = max(BOLD * text_width(clean(title), 19), text_width(subtitle, 12))
    width = max(placed.width, widest) + 2 * MARGIN
    height = placed.height + TOP + MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}" height="{height:.1f}" '
        f'viewBox="0 0 {width:.1f} {height:.1f}" role="img" '
        f'aria-label={quoteattr(clean(title))} font-family="{FONT_FAMILY}">',
        f"<desc>{escape(clean(describe(root)))}</desc>",
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="{COLOURS["paper"]}"/>',
        _text(title, width / 2, 24, 19, "#1c1c1c", bold=True),
        _text(subtitle, width / 2, 43, 12, COLOURS["muted"]),
        f'<g transform="translate({(width - placed.width) / 2:.1f} {TOP})">',
    ]
    _inside(placed, metric, total, out)
    return "\n".join([*out, "</g>", "</svg>"]) + "\n"


def _inside(placed: Placed, metric: str, total: float, out: list[str]) -> None:
    for path, again in placed.wires:
        dash = ' stroke-dasharray="6 4"' if again else ""
        colour = COLOURS["gradient"] if again else COLOURS["wire"]
        out.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        x, y = (float(v) for v in path.rpartition(" ")[2].split(","))
        corners = f"{x:.1f},{y:.1f} {x - 3.4:.1f},{y - 8:.1f} {x + 3.4:.1f},{y - 8:.1f}"
        out.append(f'<polygon points="{corners}" fill="{colour}"/>')
    for x, y, inner in placed.inside:
        out.append(f'<g transform="translate({x:g} {y:g})" data-path={quoteattr(inner.part.path)}>')
        out.append(f"<title>{escape(clean(describe(inner.part)))}</title>")
        if inner.open:
            out.append(
                f'<rect width="{inner.width}" height="{inner.height}" rx="10" fill="#3b4252" '
                f'fill-opacity="0.045" stroke="{COLOURS["outline"]}" stroke-width="1.3"/>'
            )
            heading = f"{inner.part.title}  {inner.part.name}".rstrip()
            out.append(_text(heading, 12, HEAD / 2 + 5, 14, "#1c1c1c", "start", True))
            _inside(inner, metric, total, out)
        else:
            _closed(inner, metric, total, out)
        out.append("</g>")


def _closed(box: Placed, metric: str, total: float, out: list[str]) -> None:
    part = box.part
    share = share_of(part, metric, total)
    fill, ink = colour_of(share)
    outline = f'stroke="{COLOURS["outline"]}" stroke-width="1.4"'
    size = f'width="{box.width}" height="{box.height}"'
    if part.kind == "repeat" or part.children:
        # A box that holds more looks like a pile.
        for shift in (7, 3.5) if part.kind == "repeat" else (3.5,):
            out.append(f'<rect x="{shift}" y="{shift}" {size} rx="7" fill="{fill}" {outline}/>')
    if part.kind in ("input", "output"):
        fill, radius = COLOURS["leaf"], 0.0
    else:
        radius = box.height / 2 if part.kind == "operation" else 7.0
    out.append(f'<rect {size} rx="{radius}" fill="{fill}" {outline}/>')
    lines = [
        (options[0] if len(options) == 1 else metric_line(part, metric, total), points)
        for options, points in lines_of(part)
    ]
    # A box that has none of this metric has no last line: the others stand in its middle.
    y = 6.0 if lines[-1][0] else (box.height - (len(lines) - 1) * LINE) / 2
    for i, (text, points) in enumerate(lines):
        if text:
            middle, base = box.width / 2, y + LINE / 2 + 0.36 * points
            out.append(_text(text, middle, base, points, ink, bold=i == 0))
        y += LINE
    value = getattr(part, metric)
    if total and value and part.kind not in ("input", "output"):
        # The share as a length too, for those who do not see the colour.
        room = box.width - 16
        bar = room * value / total
        out.append(
            f'<rect x="8" y="{box.height - 6:.1f}" width="{room:.1f}" height="3" fill="{ink}" '
            f'fill-opacity="0.15"/><rect x="8" y="{box.height - 6:.1f}" width="{bar:.1f}" '
            f'height="3" fill="{ink}"/>'
        )


def _text(
    text: str, x: float, y: float, size: float, colour: str, anchor: str = "middle",
    bold: bool = False,
) -> str:  # fmt: skip
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
        f'fill="{colour}"{weight} xml:space="preserve">{escape(clean(text))}</text>'
    )
