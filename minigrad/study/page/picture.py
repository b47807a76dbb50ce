"""The drawing of a stepping, with its parts marked so that a script can show them one by one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from minigrad.draw.drawing import Drawing
from minigrad.draw.graph import Graph
from minigrad.draw.style import COLOURS

__all__ = ["marked_picture", "still_picture"]

SVG = "http://www.w3.org/2000/svg"
LONG = 60
"""A graph of more nodes is drawn from top to bottom, as tensors' are elsewhere."""


def marked_picture(graph: Graph) -> tuple[str, dict[str, list[int]]]:
    """The SVG of a graph for the page, and for each edge the numbers of its pieces of wire.

    Each piece of wire has `data-link`; each text beside a wire the class `before` (values) or
    `after` (gradients), its row, and, on the number itself, `data-number`.
    """
    drawing = Drawing(graph, direction="LR" if len(graph.nodes) <= LONG else None, legend=False)
    root = ET.fromstring(drawing.svg())
    body = next(root.iter(f"{{{SVG}}}g"))
    links = 0
    for part in body:
        if part.tag == f"{{{SVG}}}path":
            part.set("data-link", str(links))
            links += 1
        elif part.tag == f"{{{SVG}}}polygon":
            part.set("data-link", str(links - 1))
    groups = [part for part in body if part.tag == f"{{{SVG}}}g"]
    for box, group in zip(drawing.scene.boxes, groups, strict=True):
        if box.kind not in ("wire", "branch"):
            continue
        texts = [part for part in group if part.tag == f"{{{SVG}}}text"]
        for i, text in enumerate(texts):
            after = i >= len(box.before)
            row = i - len(box.before) if after else i
            text.set("class", "after" if after else "before")
            text.set("data-row", str(row))
            if after and row == 0:
                for span in text:
                    if span.get("fill") == COLOURS["gradient"]:
                        span.set("data-number", "")
    # What is painted in the last state; the tooltips of other states would say too much.
    for group in groups:
        for title in group.findall(f"{{{SVG}}}title"):
            group.remove(title)
    root.set("id", "picture")
    ET.register_namespace("", SVG)
    picture = ET.tostring(root, encoding="unicode").replace(f' xmlns="{SVG}"', "", 1)
    return picture, _pieces(drawing)


def _pieces(drawing: Drawing) -> dict[str, list[int]]:
    """For each edge of the graph, which links of the scene are drawn for it."""
    scene = drawing.scene
    boxes = {box.edge: i for i, box in enumerate(scene.boxes) if box.edge is not None}
    wires = {box.node: i for i, box in enumerate(scene.boxes) if box.kind == "wire"}
    gates = {box.node: i for i, box in enumerate(scene.boxes) if box.kind == "gate"}
    found: dict[str, list[int]] = {}
    for i, edge in enumerate(drawing.graph.edges):
        own = boxes.get(i)
        wire = wires[edge.source]
        pairs = [(wire, own), (own, gates[edge.target]), (wire, gates[edge.target])]
        found[str(i)] = [
            j for j, link in enumerate(scene.links) if (link.source, link.target) in pairs
        ]
    return found


def still_picture(graph: Graph, focus: Any = None) -> str:
    """The SVG of a graph as it is, for a notebook; `focus` is the id of a gate to point out."""
    drawing = Drawing(graph, direction="LR" if len(graph.nodes) <= LONG else None)
    if focus is None:
        return drawing.svg()
    root = ET.fromstring(drawing.svg())
    for group in root.iter(f"{{{SVG}}}g"):
        if group.get("class") == "gate" and group.get("data-node") == str(focus):
            for shape in group:
                if shape.tag in (f"{{{SVG}}}circle", f"{{{SVG}}}rect"):
                    shape.set("stroke-width", "5")
                    shape.set("fill", "#ffd54a")
    ET.register_namespace("", SVG)
    return ET.tostring(root, encoding="unicode")
