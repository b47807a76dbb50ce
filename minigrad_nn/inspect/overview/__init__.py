"""A whole network as a picture that can be opened: modules, repeated blocks, operations.

Start with `overview`.  `trace` watches a forward pass, `tree` makes boxes of it, `layout` places
them, `paint` and `page` show them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from minigrad.draw.drawing import write_atomically
from minigrad.draw.engines import to_png
from minigrad.draw.graph import GraphTooLarge

from ...module import Module
from ..trace import trace
from .page import page
from .paint import paint
from .tree import METRICS, Part, build, walk
from .words import amount, describe

__all__ = ["METRICS", "Overview", "Part", "overview"]

MAX_PARTS = 4000
"""More boxes than this are refused, with advice."""

SHOWN = 26
"""About so many boxes are open at first."""


class Overview:
    """The graph of a model's modules; made by `overview`.

    Attributes:
        root: the tree of boxes, a `Part`; its numbers are those of the whole model.
        unrolled: the same with every round of each loop; None where there is no loop, or where
            that would be too many boxes.
        title: a heading.
    """

    def __init__(self, root: Part, unrolled: Part | None, title: str) -> None:
        self.root = root
        self.unrolled = unrolled
        self.title = title

    def __repr__(self) -> str:
        return f"<Overview of {self.title}: {sum(1 for _ in walk(self.root))} parts>"

    def part(self, path: str) -> Part:
        """The box of the module at this path, such as `"layer1.0.conv1"`.

        Raises:
            KeyError: there is none.
        """
        found = [p for p in walk(self.root) if p.kind == "module" and p.path == path]
        if not found:
            raise KeyError(f"overview: no module at {path!r} was called")
        return found[0]

    def opened(self) -> set[Part]:
        """What is open at first: level by level, as long as about 26 boxes are shown."""
        shown = len(self.root.children)
        found: set[Part] = set()
        level = list(self.root.children)
        while level:
            following = []
            for part in level:
                if part.kind == "module" and part.children and shown + len(part.children) <= SHOWN:
                    found.add(part)
                    shown += len(part.children)
                    following += part.children
            level = following
        return found

    def svg(
        self,
        colour: str = "multiply_adds",
        opened: Collection[str] | None = None,
        unrolled: bool = False,
    ) -> str:
        """The picture as SVG.

        Args:
            colour: what darker boxes have more of: "multiply_adds", "parameters", "bytes" or
                "seconds".
            opened: paths of the modules to open (with those around them); by default as many as
                give a picture of about 26 boxes.
            unrolled: show every round of a loop.

        Raises:
            ValueError: another colour, no such module, or nothing to unroll.
        """
        if colour not in METRICS:
            raise ValueError(
                f"overview: colour must be one of {', '.join(METRICS)}, not {colour!r}"
            )
        root = self.root
        if unrolled:
            if self.unrolled is None:
                raise ValueError("overview: there is no loop to unroll, or it is too long to show")
            root = self.unrolled
        if opened is None:
            chosen = Overview(root, None, "").opened()
        else:
            chosen = _around(root, opened)
        return paint(root, chosen.__contains__, colour, self.title)

    def png(self, scale: float = 2.0, **options: Any) -> bytes:
        """The picture as a PNG file, where `resvg-py` is installed; the options are those of `svg`.

        Raises:
            DrawingError: nothing here makes pixels.
        """
        return to_png(self.svg(**options), "", scale)

    def html(self) -> str:
        """One page that needs no network: boxes open and close, the colour can be chosen."""
        return page(self)

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the picture; the suffix says how: .svg, .png or .html.

        The options are those of `svg`.  The file appears whole or not at all.

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".svg":
            content = self.svg(**options).encode()
        elif path.suffix == ".png":
            content = self.png(**options)
        elif path.suffix == ".html":
            content = self.html().encode()
        else:
            raise ValueError(f"overview: the name must end in .svg, .png or .html, got {path.name}")
        write_atomically(path, content)
        return path

    def __str__(self) -> str:
        return "\n".join(_lines(self.root, 0))

    def _repr_html_(self) -> str:
        return f'<div style="overflow:auto">{self.svg()}</div>'


def _lines(part: Part, depth: int) -> Iterator[str]:
    if part.kind not in ("input", "output"):
        yield "  " * depth + describe(part)
        for child in part.children:
            if child.kind != "operation":
                yield from _lines(child, depth + 1)


def _around(root: Part, paths: Collection[str]) -> set[Part]:
    """The parts at these paths, and all that they lie in."""
    wanted = set(paths)
    found: set[Part] = set()
    seen: set[str] = set()

    def visit(part: Part, above: tuple[Part, ...]) -> None:
        if part.path in wanted and part.kind == "module" and part is not root:
            found.update((*above, part))
            seen.add(part.path)
        for child in part.children:
            visit(child, (*above, part))

    visit(root, ())
    if wanted - seen:
        raise ValueError(f"overview: no module at {', '.join(sorted(wanted - seen))} was called")
    return found


def overview(
    model: Module,
    *inputs: Any,
    inside: str | None = None,
    repeats: bool = True,
    title: str | None = None,
    passes: int = 3,
) -> Overview:
    """The graph of a model's modules, from forward passes that are watched.

    Each box is a module or an operation, with the shape of its result, its parameters,
    multiply-adds, bytes and measured time.  Equal modules that follow each other are one box
    (`Block × 12`), and a loop is rolled up; both can be opened.  The model runs in `eval` mode, and
    its state stays as it is.

    Args:
        model: what to look at.
        inputs: what to call it with; zeros of the right shape will do.
        inside: the path of a module, to show only what is inside of it.
        repeats: whether equal modules that follow each other become one box.
        title: a heading; the class of the model by default.
        passes: over how many passes the times are taken; 0 takes those of the only one.

    Raises:
        TypeError: no tensor among the inputs, or none came out.
        ValueError: there is no module at `inside`.
        GraphTooLarge: too many boxes, with advice.

    >>> import minigrad
    >>> import minigrad_nn as nn
    >>> block = lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    >>> model = nn.Sequential(nn.Linear(4, 8), block(), block(), block(), nn.Linear(8, 2))
    >>> found = overview(model, minigrad.zeros((1, 4)))
    >>> [part.title for part in found.root.children]
    ['input', 'Linear', 'Sequential × 3', 'Linear', 'output']
    >>> found.root.multiply_adds
    240
    """
    found = trace(model, *inputs, passes=passes)
    root = build(found, rolled=True, repeats=repeats)
    if inside is not None:
        chosen = [p for p in walk(root) if p.kind == "module" and p.path == inside and p.children]
        if not inside or not chosen:
            raise ValueError(f"overview: there is no module with parts inside at {inside!r}")
        root = chosen[0]
        root.wires.inward, root.wires.outward = [], []
    count = sum(1 for _ in walk(root))
    if count > MAX_PARTS:
        large = sorted(
            (p for p in walk(root) if p.kind == "module" and p.path and p.children),
            key=lambda p: -sum(1 for _ in walk(p)),
        )
        names = ", ".join(repr(p.path) for p in large[:3])
        raise GraphTooLarge(
            f"overview: {count:,} boxes are more than the {MAX_PARTS:,} that a picture holds; show "
            f"a part with inside=, such as {names or 'the path of a module'}"
        )
    rounds = max(part.calls for part in walk(root))
    unrolled = None
    if rounds > 1 and inside is None and len(found.operations) <= MAX_PARTS:
        unrolled = build(found, rolled=False, repeats=False)
    name = title or (type(model).__name__ if inside is None else f"{type(model).__name__}.{inside}")
    whole = f"{amount(root.parameters, 'parameters')}, "
    whole += amount(root.multiply_adds, "multiply_adds")
    return Overview(root, unrolled, f"{name}: {whole}")
