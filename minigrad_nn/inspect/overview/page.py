"""The module graph as one offline HTML page: boxes open and close, the colour can be chosen."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from minigrad.draw.style import clean

from . import layout
from .layout import closed_size, head_width
from .script import SCRIPT
from .tree import METRICS, Part, walk
from .words import amount, describe, lines_of, metric_line

__all__ = ["page", "page_data"]


def page(found: Any) -> str:
    """The page of an `Overview`."""
    data = page_data(found)
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    options = "".join(f'<option value="{m}">{words}</option>' for m, words in METRICS.items())
    rolled = '<label><input type="checkbox" id="unrolled"> unroll loops</label>'
    return PAGE.format(
        title=escape(clean(found.title)),
        style=STYLE,
        options=options,
        rolled=rolled if found.unrolled is not None else "",
        rows="\n".join(_rows(found.root, 0)),
        data=text,
        script=SCRIPT,
    )


def page_data(found: Any) -> dict[str, Any]:
    """What the page draws, as plain data."""
    trees = [found.root] + ([found.unrolled] if found.unrolled is not None else [])
    opened = [found.opened()]
    if found.unrolled is not None:
        opened.append(type(found)(found.unrolled, None, "").opened())
    return {
        "metrics": METRICS,
        "trees": [_tree(root, first) for root, first in zip(trees, opened, strict=True)],
        "sizes": {
            name.lower(): getattr(layout, name)
            for name in ("PAD", "HEAD", "ROW", "COLUMN", "CHANNEL", "LINE")
        },
    }


def _tree(root: Part, opened: set[Part]) -> list[dict[str, Any]]:
    parts = list(walk(root))
    ids = {part: i for i, part in enumerate(parts)}
    totals = {metric: float(getattr(root, metric)) for metric in METRICS}
    return [
        {
            "kind": part.kind,
            "title": part.title,
            "name": part.name,
            "path": part.path,
            "words": describe(part),
            "lines": [
                [
                    options
                    if len(options) == 1
                    else [metric_line(part, m, totals[m]) for m in METRICS],
                    size,
                ]
                for options, size in lines_of(part)
            ],
            "values": [getattr(part, metric) for metric in METRICS],
            "size": closed_size(part),
            "head": head_width(part),
            "children": [ids[child] for child in part.children],
            "links": part.wires.links,
            "inward": part.wires.inward,
            "outward": part.wires.outward,
            "rows": part.wires.rows,
            "open": part in opened,
        }
        for part in parts
    ]


def _rows(part: Part, depth: int) -> list[str]:
    """The table: every module, indented as it lies in the others."""
    found = []
    if part.kind not in ("input", "output"):
        name = escape(clean(f"{part.title} {part.name}".strip()))
        cells = [escape(clean(" × ".join(map(str, part.shape))))]
        cells += [amount(getattr(part, m), m) if getattr(part, m) else "" for m in METRICS]
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        found.append(
            f'<tr><th scope="row" style="padding-left:{0.5 + 1.2 * depth}em">{name}</th>{body}</tr>'
        )
    for child in part.children:
        found += _rows(child, depth + 1)
    return found


PAGE = """<!DOCTYPE html>
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
<header><h1>{title}</h1>
<nav aria-label="Picture">
<label>colour <select id="metric">{options}</select></label>
<button id="open">open all</button> <button id="close">close all</button>
{rolled}
<button id="fit">fit</button>
</nav></header>
<div id="view"><svg id="picture" role="group" aria-label="{title}"></svg></div>
<p id="words" aria-live="polite">Click a pile, or choose it with <kbd>Tab</kbd> and press
<kbd>Enter</kbd>, to open it; click its frame to close it. Drag or <kbd>&#8593;</kbd>
<kbd>&#8595;</kbd> to move, wheel or <kbd>+</kbd> <kbd>&#8722;</kbd> to zoom, <kbd>0</kbd> to
fit.</p>
<details id="numbers"><summary>All parts as a table</summary>
<table><thead><tr><th>part</th><th>result</th><th>multiply-adds</th><th>parameters</th><th>bytes</th>
<th>time</th></tr></thead><tbody>
{rows}
</tbody></table></details>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""

STYLE = """
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { font-family: "DejaVu Sans", Verdana, Geneva, sans-serif; color: #1c1c1c; background: #fff;
  display: flex; flex-direction: column; padding: 0.6rem 1rem; gap: 0.5rem;
  font-size: clamp(15px, 1.15vw, 20px); }
header { display: flex; justify-content: space-between; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 1.3em; margin: 0; }
nav { display: flex; gap: 0.6rem; align-items: center; flex-wrap: wrap; }
button, select { font: inherit; padding: 0.2em 0.6em; border: 2px solid #3b4252;
  background: #eef1f7; border-radius: 6px; }
:focus-visible { outline: 4px solid #1d5fc4; outline-offset: 1px; }
#view { flex: 1 1 auto; min-height: 300px; border: 1px solid #8a8a8a; border-radius: 6px;
  overflow: hidden; touch-action: none; cursor: grab; }
#picture { width: 100%; height: 100%; display: block; }
#words { margin: 0; min-height: 1.4em; }
g.box { cursor: pointer; }
g.box:focus { outline: none; }
g.box:focus > rect.frame, g.box:hover > rect.frame { stroke-width: 4; stroke: #d8182c; }
#numbers { max-height: 45vh; overflow: auto; flex: none; }
table { border-collapse: collapse; } th, td { border: 1px solid #c4c4c4; padding: 0.2em 0.6em; }
tbody th { font-weight: normal; } td { text-align: right; } th { text-align: left; }
kbd { border: 1px solid #8a8a8a; border-radius: 4px; padding: 0 0.35em; background: #f5f5f5; }
"""
