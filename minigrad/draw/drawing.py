"""`Drawing`: one picture in all the forms in which it can be looked at or kept."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from minigrad.draw.dot import dot_source
from minigrad.draw.engines import lay_out, to_png
from minigrad.draw.graph import Graph
from minigrad.draw.layout import Layout
from minigrad.draw.page import page
from minigrad.draw.scene import Scene, make_scene
from minigrad.draw.svg import paint
from minigrad.draw.text import text_tree

__all__ = ["Drawing"]

SUFFIXES = (".svg", ".png", ".dot", ".html", ".txt")


class Drawing:
    """A picture of a computation graph, as it was when it was drawn.

    In a notebook it shows itself; `save` writes it to a file.

    Attributes:
        graph: everything that the picture shows, as data.
        direction: "LR", left to right, or "TB", top to bottom.
        digits: significant digits of numbers.
        title: a heading, or None.
        legend: whether the picture says what its colours mean.
        engine: which program places it, see `draw`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        direction: str | None = None,
        digits: int = 4,
        title: str | None = None,
        legend: bool = True,
        engine: str = "auto",
    ) -> None:
        if direction is None:
            direction = "LR" if graph.scalar else "TB"
        if direction not in ("LR", "TB"):
            raise ValueError(
                f"draw: direction must be 'LR' (left to right) or 'TB' (top to bottom), "
                f"got {direction!r}"
            )
        if not isinstance(digits, int) or not 1 <= digits <= 17:
            raise ValueError(f"draw: digits must be an integer from 1 to 17, got {digits!r}")
        self.graph = graph
        self.direction = direction
        self.digits = digits
        self.title = title
        self.legend = legend
        self.engine = engine
        self._scene: Scene | None = None
        self._layout: Layout | None = None

    def __repr__(self) -> str:
        return f"<Drawing of {len(self.graph.nodes)} nodes and {len(self.graph.edges)} edges>"

    @property
    def scene(self) -> Scene:
        """Gates, leaves and pieces of wire, with their sizes and labels."""
        if self._scene is None:
            self._scene = make_scene(self.graph, self.direction, self.digits)
        return self._scene

    @property
    def layout(self) -> Layout:
        """Where everything stands; `layout.engine` says which program placed it."""
        if self._layout is None:
            self._layout = lay_out(self.scene, self.engine)
        return self._layout

    @property
    def dot(self) -> str:
        """DOT text with all labels and colours; the same graph gives the same text."""
        return dot_source(self.scene, self.title)

    def svg(self) -> str:
        """SVG text."""
        return paint(self.scene, self.layout, self.title, self.legend)

    def png(self, scale: float = 2.0) -> bytes:
        """A PNG file.

        Args:
            scale: pixels per point; 2 is sharp on a slide.

        Raises:
            DrawingError: there is nothing here that makes pixels, with what to install.
        """
        if not scale > 0:
            raise ValueError(f"draw: scale must be positive, got {scale!r}")
        return to_png(self.svg(), self.dot, scale)

    def html(self) -> str:
        """One page that needs no network: the picture to pan and zoom, and all its numbers."""
        return page(self.graph, self.svg(), self.title)

    def text(self) -> str:
        """The graph as a tree of text, for a terminal."""
        return text_tree(self.graph, self.digits)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture; the suffix says how: .svg, .png, .dot, .html or .txt.

        The file appears whole or not at all.

        Returns:
            The path.

        Raises:
            ValueError: another suffix.
            DrawingError: a PNG, and there is nothing here that makes pixels.
            OSError: the file cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".svg":
            content = self.svg().encode()
        elif suffix == ".png":
            content = self.png()
        elif suffix == ".dot":
            content = self.dot.encode()
        elif suffix == ".html":
            content = self.html().encode()
        elif suffix == ".txt":
            content = self.text().encode()
        else:
            raise ValueError(
                f"draw: cannot save as {path.name!r}: the name must end in {', '.join(SUFFIXES)}"
            )
        write_atomically(path, content)
        return path

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        # As HTML the tooltips work, and a wide picture scrolls.
        return f'<div style="overflow:auto">{self.svg()}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {
            "text/html": self._repr_html_(),
            "image/svg+xml": self.svg(),
            "text/plain": self.text(),
        }


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that no reader sees half of it."""
    waiting = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(waiting, "xb") as file:
            file.write(content)
        os.replace(waiting, path)
    finally:
        waiting.unlink(missing_ok=True)
