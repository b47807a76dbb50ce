"""Circuits to draw, and readers that take a picture apart again."""

import re
import xml.etree.ElementTree as ET

import minigrad as mg
from minigrad.draw.style import COLOURS

SVG = "{http://www.w3.org/2000/svg}"
ROLE = {colour: role for role, colour in COLOURS.items()}


def lecture_circuit():
    """f = (x + y) z at (-2, 5, -4)."""
    x, y, z = (mg.scalar(v, name=n) for v, n in ((-2.0, "x"), (5.0, "y"), (-4.0, "z")))
    q = x + y
    q.name = "q"
    f = q * z
    f.name = "f"
    return f


def shared_circuit():
    """A value used three times, twice by the same gate; a closed gate; constants."""
    x, y = mg.scalar(3.0, name="x"), mg.scalar(-2.0, name="y")
    q = x * y
    q.name = "q"
    f = q * q + q * x + y.max(0.5) - 1.0
    f.name = "f"
    return f


def neuron():
    names = {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}
    w0, x0, w1, x1, w2 = (mg.scalar(v, name=n) for n, v in names.items())
    return 1.0 / (1.0 + (-(w0 * x0 + w1 * x1 + w2)).exp())


def small_network():
    """linear + relu + mean on tensors; gives the loss and its parameters."""
    x = mg.linspace(-1.0, 1.0, 12).reshape(4, 3).detach()
    x.name = "x"
    w = mg.tensor([[0.5, -1.0], [0.25, 2.0], [1.0, 0.0]], requires_grad=True, name="w")
    b = mg.tensor([0.1, -0.1], requires_grad=True, name="b")
    loss = mg.relu(x @ w + b).mean()
    loss.name = "loss"
    return loss, w, b


CIRCUITS = [lecture_circuit, shared_circuit, neuron]


def parts(svg):
    """Per part of the picture: kind, node, edge, and its text as lists of (role, text) by line."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        if "data-node" not in group.attrib:
            continue
        lines = [
            [(ROLE[span.get("fill")], span.text) for span in text.iter(f"{SVG}tspan")]
            for text in group.iter(f"{SVG}text")
        ]
        edge = group.get("data-edge")
        found.append(
            (
                group.get("class"),
                int(group.get("data-node")),
                None if edge is None else int(edge),
                lines,
            )
        )
    return found


def all_text(svg):
    return "".join(ET.fromstring(svg).itertext())


def without_tags(dot):
    return re.sub(r"<[^>]*>", "", dot)
