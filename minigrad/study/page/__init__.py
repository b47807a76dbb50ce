"""A stepping as one offline HTML page, and as a still picture for a notebook.

`data` reads everything that the page says out of the stepping, `picture` marks the parts of the
drawing so that each step can show and hide them, `template` and `script` are the page itself.
The page loads nothing, and its content policy forbids it.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from minigrad.draw.style import clean
from minigrad.study.page.data import page_data, snapshot_graph
from minigrad.study.page.picture import marked_picture, still_picture
from minigrad.study.page.script import SCRIPT
from minigrad.study.page.template import PAGE, STYLE

__all__ = ["page", "snapshot"]


def page(s: Any, title: str | None = None, **region: Any) -> str:
    """The whole backward pass of a `Stepping` as a page; see `Stepping.html`."""
    data, graph = page_data(s, region)
    picture, data["links"] = marked_picture(graph)
    heading = clean(title or f"Backprop from {s.names[s.root]}")
    data["title"] = heading
    # In a script only "</" could end it, and "<!--" change its meaning.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return PAGE.format(
        title=escape(heading), style=STYLE, picture=picture, script=SCRIPT, data=text
    )


def snapshot(s: Any) -> str:
    """Where a `Stepping` stands now, as HTML for a notebook: the picture and the words."""
    from minigrad.draw.graph import GraphTooLarge

    words = f'<pre style="font-size:15px;line-height:1.45">{escape(clean_lines(str(s)))}</pre>'
    try:
        picture = still_picture(*snapshot_graph(s))
    except GraphTooLarge as error:
        return words + f"<p>{escape(str(error))}</p>"
    return f'<div style="overflow:auto">{picture}</div>{words}'


def clean_lines(text: str) -> str:
    """Text whose lines stay lines, and that may stand in XML."""
    return "\n".join(clean(line) for line in text.split("\n"))
