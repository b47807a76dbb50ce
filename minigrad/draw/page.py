"""One offline HTML page: the picture to pan and zoom, and a table with all its numbers.

The page loads nothing: no script, style, font or picture comes from elsewhere, and its content
policy forbids it.  The table is the text alternative; pointing at a row marks its node.
"""

from __future__ import annotations

from html import escape

from minigrad.draw.graph import NOT_NEEDED, Graph, GraphNode
from minigrad.draw.scene import value_words
from minigrad.draw.style import clean
from minigrad.draw.text import describe_edge

__all__ = ["page"]


def page(graph: Graph, svg: str, title: str | None = None) -> str:
    """The page as text.

    Args:
        graph: the numbers for the table.
        svg: the picture.
        title: heading of the page.
    """
    heading = escape(clean(title or "Computation graph"))
    # In HTML the name space of SVG goes without saying.
    picture = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    rows = "\n".join(_row(graph, node) for node in graph.nodes)
    return _PAGE.format(title=heading, style=_STYLE, picture=picture, rows=rows, script=_SCRIPT)


def _row(graph: Graph, node: GraphNode) -> str:
    names = {n.id: n.name or f"#{n.id}" for n in graph.nodes}
    made = node.kind
    if node.op:
        inputs = ", ".join(names[edge.source] for edge in graph.inputs(node.id))
        made = f"{node.op}({inputs})" + (f" [{node.symbol}]" if node.constants else "")
    if node.value is not None:
        value = repr(node.value)
    else:
        value = f"{value_words(node)} {node.statistic or ''}".strip()
    if node.gradient is not None:
        gradient = repr(node.gradient)
    elif node.gradient_norm is not None:
        gradient = f"norm {node.gradient_norm!r}"
    else:
        gradient = "none needed" if node.gradient_state == NOT_NEEDED else node.gradient_state
    uses = [
        f"through {names[edge.target]}: {describe_edge(edge)}"
        for edge in graph.consumers(node.id)
        if graph.scalar and edge.differentiable
    ]
    cells = [names[node.id], made, value, gradient]
    row = "".join(f"<td>{escape(clean(cell))}</td>" for cell in cells)
    lines = "<br>".join(escape(clean(use)) for use in uses)
    return f'<tr data-node="{node.id}" tabindex="0">{row}<td>{lines}</td></tr>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p id="help">Drag or use the arrow keys to move, the wheel or <kbd>+</kbd> and <kbd>-</kbd> to
zoom, <kbd>0</kbd> to see everything. Point at anything for its numbers in full.</p>
<div id="view" tabindex="0" aria-describedby="help">
{picture}</div>
<h2>All numbers</h2>
<div class="scroll">
<table>
<thead><tr><th>node</th><th>made by</th><th>value</th><th>gradient</th>
<th>contributions to it</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
body { font-family: "DejaVu Sans", Verdana, Geneva, sans-serif; margin: 1rem; color: #1c1c1c;
  background: #fff; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; }
#view { height: 65vh; border: 1px solid #8a8a8a; overflow: hidden; touch-action: none;
  cursor: grab; }
#view:focus { outline: 3px solid #1d5fc4; }
#view svg { width: 100%; height: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { border: 1px solid #c4c4c4; padding: 0.25rem 0.5rem; text-align: left;
  vertical-align: top; }
tr:hover, tr:focus { background: #fff6d6; outline: none; }
.marked rect, .marked circle, .marked path { stroke: #1d5fc4; stroke-width: 4; }
"""

_SCRIPT = """
"use strict";
const view = document.getElementById("view"), svg = view.querySelector("svg");
const whole = svg.getAttribute("viewBox").split(" ").map(Number);
let box = whole.slice();
function show() { svg.setAttribute("viewBox", box.join(" ")); }
function zoom(factor, x, y) {
  const width = Math.min(whole[2] * 4, Math.max(whole[2] / 400, box[2] * factor));
  factor = width / box[2];
  box = [x - (x - box[0]) * factor, y - (y - box[1]) * factor, width, box[3] * factor];
  show();
}
function at(event) {
  const point = new DOMPoint(event.clientX, event.clientY);
  return point.matrixTransform(svg.getScreenCTM().inverse());
}
view.addEventListener("wheel", event => {
  event.preventDefault();
  const p = at(event);
  zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, p.x, p.y);
}, { passive: false });
let held = null;
view.addEventListener("pointerdown", event => {
  held = at(event); view.setPointerCapture(event.pointerId);
});
view.addEventListener("pointermove", event => {
  if (held === null) return;
  const p = at(event);
  box[0] += held.x - p.x; box[1] += held.y - p.y; show();
});
for (const end of ["pointerup", "pointercancel"])
  view.addEventListener(end, () => { held = null; });
view.addEventListener("keydown", event => {
  const step = 0.1, x = box[0] + box[2] / 2, y = box[1] + box[3] / 2;
  const actions = {
    "+": () => zoom(1 / 1.25, x, y), "=": () => zoom(1 / 1.25, x, y), "-": () => zoom(1.25, x, y),
    "0": () => { box = whole.slice(); show(); },
    ArrowLeft: () => { box[0] -= step * box[2]; show(); },
    ArrowRight: () => { box[0] += step * box[2]; show(); },
    ArrowUp: () => { box[1] -= step * box[3]; show(); },
    ArrowDown: () => { box[1] += step * box[3]; show(); },
  };
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
for (const row of document.querySelectorAll("tr[data-node]")) {
  const parts = svg.querySelectorAll(`g[data-node="${row.dataset.node}"]`);
  const mark = on => parts.forEach(part => part.classList.toggle("marked", on));
  for (const event of ["mouseenter", "focus"]) row.addEventListener(event, () => mark(true));
  for (const event of ["mouseleave", "blur"]) row.addEventListener(event, () => mark(false));
}
"""
