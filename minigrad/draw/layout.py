"""Where the boxes of a scene stand and how its wires run, computed by Graphviz or by ourselves.

`layout_source` writes the scene as DOT in which every box has a fixed size and no text, so that
all Graphviz builds, also those without fonts or HTML labels, place it alike.  `read_plain` reads
the answer back.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from minigrad.draw.dot import graphviz_package
from minigrad.draw.scene import Scene

__all__ = ["Layout", "Point", "layout_source", "read_plain"]

Point = tuple[float, float]
LARGE = 500
"""Boxes from which on a quick layout is better than the best one."""

POINTS_PER_INCH = 72.0
NODE_GAP = {"LR": 14.0, "TB": 12.0}
LAYER_GAP = {"LR": 16.0, "TB": 22.0}


@dataclass(frozen=True)
class Layout:
    """Positions in points, y downwards, within a page of `width` by `height`.

    Attributes:
        centres: one a box.
        paths: one a link, as the points of a cubic Bézier curve: 1 + 3 k of them.
        engine: which program placed them: "dot", "wasm" or "builtin".
    """

    width: float
    height: float
    centres: tuple[Point, ...]
    paths: tuple[tuple[Point, ...], ...]
    engine: str


def layout_source(scene: Scene) -> str:
    """The scene as DOT for placing only.

    Raises:
        ImportError: the `graphviz` package is missing.
    """
    gap, layer_gap = NODE_GAP[scene.direction], LAYER_GAP[scene.direction]
    attributes = {
        "rankdir": scene.direction,
        "nodesep": _inches(gap),
        "ranksep": _inches(layer_gap),
        "ordering": "in",
    }
    if len(scene.boxes) > LARGE:
        # Graphviz would improve a large layout for minutes.
        attributes |= {"nslimit": "1", "nslimit1": "1", "mclimit": "0.1"}
    dot = graphviz_package().Digraph(
        "layout",
        graph_attr=attributes,
        node_attr={"shape": "box", "fixedsize": "true", "label": ""},
        edge_attr={"dir": "none"},
    )
    ports = {"LR": ("e", "w"), "TB": ("s", "n")}[scene.direction]
    for i, box in enumerate(scene.boxes):
        round_ = box.kind == "gate" and box.width == box.height
        shape = {"shape": "circle"} if round_ else {}
        dot.node(f"b{i}", width=_inches(box.width), height=_inches(box.height), **shape)
    for link in scene.links:
        # Wires leave and enter in the middle of a side; only a gate takes them from any angle.
        target = f"b{link.target}"
        if scene.boxes[link.target].kind != "gate":
            target += f":{ports[1]}"
        straight = link.spine or scene.boxes[link.source].kind in ("gate", "leaf")
        weight = "8" if straight else "2"
        dot.edge(f"b{link.source}:{ports[0]}", target, weight=weight)
    return dot.source


def _inches(points: float) -> str:
    return f"{points / POINTS_PER_INCH:.4f}"


def read_plain(text: str, scene: Scene, engine: str) -> Layout:
    """Read Graphviz' `plain` format.

    Raises:
        ValueError: the text is not the layout of this scene.
    """
    height = width = 0.0
    centres: dict[int, Point] = {}
    found: dict[tuple[int, int], list[tuple[Point, ...]]] = {}
    for row in text.splitlines():
        words = shlex.split(row)
        if not words:
            continue
        if words[0] == "graph":
            width, height = (float(w) * POINTS_PER_INCH for w in words[2:4])
        elif words[0] == "node":
            x, y = (float(w) * POINTS_PER_INCH for w in words[2:4])
            centres[int(words[1][1:])] = (x, height - y)
        elif words[0] == "edge":
            ends = int(words[1][1:].split(":")[0]), int(words[2][1:].split(":")[0])
            count = int(words[3])
            numbers = [float(w) * POINTS_PER_INCH for w in words[4 : 4 + 2 * count]]
            points = tuple(
                (x, height - y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)
            )
            found.setdefault(ends, []).append(points)
    if sorted(centres) != list(range(len(scene.boxes))):
        raise ValueError(f"the {engine} layout places {len(centres)} of {len(scene.boxes)} boxes")
    paths = []
    for link in scene.links:
        routes = found.get((link.source, link.target))
        if not routes or len(routes[0]) % 3 != 1:
            raise ValueError(f"the {engine} layout has no route for {link}")
        # Graphviz stops a little before a box; pieces of one wire must meet.
        route = list(routes.pop(0))
        route[0] = port(scene, link.source, centres[link.source], 1)
        if scene.boxes[link.target].kind != "gate":
            route[-1] = port(scene, link.target, centres[link.target], -1)
        paths.append(tuple(route))
    ordered = tuple(centres[i] for i in range(len(centres)))
    return Layout(width, height, ordered, tuple(paths), engine)


def port(scene: Scene, index: int, centre: Point, side: int) -> Point:
    """The middle of the side where wires leave (`side` 1) or enter (-1) a box."""
    box = scene.boxes[index]
    if box.kind == "leaf" and not box.label:
        return centre  # a dot, smaller than its box
    if scene.direction == "LR":
        return (centre[0] + side * box.width / 2, centre[1])
    return (centre[0], centre[1] + side * box.height / 2)
