"""Where the boxes of a module graph stand: rows from top to bottom, boxes inside boxes.

The page does the same in the browser, each time that a box is opened or closed (`script`); a test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from minigrad.draw.style import text_width

from .tree import Part
from .words import lines_of

__all__ = ["CHANNEL", "COLUMN", "HEAD", "PAD", "ROW", "Placed", "closed_size", "place"]

PAD = 14.0
HEAD = 30.0
ROW = 30.0
"""Between two rows: room for wires."""
COLUMN = 22.0
CHANNEL = 14.0
"""Between two wires that run past boxes."""
LINE = 17.0


@dataclass
class Placed:
    """A box with its size, what is inside (relative to its corner), and the wires inside.

    Attributes:
        wires: SVG paths, each with whether it runs from one round of a loop to the next.
    """

    part: Part
    width: float
    height: float
    open: bool = False
    inside: list[tuple[float, float, Placed]] = field(default_factory=list)
    wires: list[tuple[str, bool]] = field(default_factory=list)


def closed_size(part: Part) -> tuple[float, float]:
    """Width and height of a closed box: room for each of its lines."""
    lines = lines_of(part)
    width = max(text_width(text, size) for options, size in lines for text in options)
    # The first line is bold, and wider than it is measured.
    width = max(width, 1.15 * text_width(lines[0][0][0], lines[0][1])) + 24
    return round(max(width, 64.0), 1), round(len(lines) * LINE + 13, 1)


def head_width(part: Part) -> float:
    """Width of the heading of an open box."""
    heading = f"{part.title}  {part.name}"
    return round(text_width(heading, 15.0) + 44, 1)


def place(part: Part, is_open: Callable[[Part], bool], root: bool = True) -> Placed:
    """Lay a part out, with the parts inside that are open."""
    if not part.children or not (root or is_open(part)):
        return Placed(part, *closed_size(part))
    kids = [place(child, is_open, False) for child in part.children]
    rows, wires = part.wires.rows, part.wires
    count, last = len(kids), max(rows)
    # Wires in and out are those of two ports, one above the first row and one below the last.
    links = [(i, j, again) for i, j, again in wires.links]
    links += [(-1, j, False) for j in wires.inward] + [(i, count, False) for i in wires.outward]
    row_of = [*rows, last + 1, -1]  # of the port below, and, at -1, of the port above
    members = [[k for k in range(count) if rows[k] == row] for row in range(last + 1)]
    widths = [sum(kids[k].width for k in m) + COLUMN * (len(m) - 1) for m in members]
    heights = [max(kids[k].height for k in m) if m else 0.0 for m in members]
    right = _channels(
        [link for link in links if not link[2] and row_of[link[1]] - row_of[link[0]] > 1], row_of
    )
    left = {link: n for n, link in enumerate(link for link in links if link[2])}

    content = max(widths)
    rights = max(right.values(), default=-1) + 1
    width = 2 * PAD + content + CHANNEL * (len(left) + rights)
    spare = 0.0 if root else max(0.0, head_width(part) - width)
    width += spare
    start = PAD + CHANNEL * len(left) + spare / 2
    middle = start + content / 2

    y = (PAD if root else HEAD) + (ROW if wires.inward else 0.0)
    tops = []
    for height in heights:
        tops.append(y)
        y += height + ROW
    bottom = y - ROW + (ROW if wires.outward else PAD)
    corners = [(0.0, 0.0)] * count
    for row, m in enumerate(members):
        x = middle - widths[row] / 2
        for k in m:
            corners[k] = (x, tops[row])
            x += kids[k].width + COLUMN

    found = Placed(part, round(width, 2), round(bottom, 2), True)
    found.inside = [
        (round(x, 2), round(y, 2), kid) for (x, y), kid in zip(corners, kids, strict=True)
    ]

    def leave(i: int) -> tuple[float, float, float]:
        """Where wires leave a child: across, at its lower edge, and that of its row."""
        if i < 0:
            edge = HEAD if not root else PAD
            return middle, edge, edge
        x, top = corners[i]
        return x + kids[i].width / 2, top + kids[i].height, tops[rows[i]] + heights[rows[i]]

    def enter(link: tuple[int, int, bool]) -> tuple[float, float]:
        j = link[1]
        if j == count:
            return middle, bottom
        x, top = corners[j]
        into = sorted(
            (other for other in links if other[1] == j),
            key=lambda other: (not other[2], other in right, row_of[other[0]], other[0]),
        )
        return x + kids[j].width * (into.index(link) + 1) / (len(into) + 1), top

    for link in links:
        sx, sy, edge = leave(link[0])
        tx, ty = enter(link)
        half = ROW / 2
        head = f"M{_n(sx)},{_n(sy)} L{_n(sx)},{_n(edge)}"
        if link[2]:
            x = start - CHANNEL * (left[link] + 0.5) - 2
            path = (
                f"{head} C{_n(sx)},{_n(edge + half)} {_n(x)},{_n(edge + half)} {_n(x)},{_n(edge)} "
                f"L{_n(x)},{_n(ty)} "
                f"C{_n(x)},{_n(ty - half)} {_n(tx)},{_n(ty - half)} {_n(tx)},{_n(ty)}"
            )
        elif link in right:
            x = start + content + CHANNEL * (right[link] + 0.5) + 2
            path = (
                f"{head} C{_n(sx)},{_n(edge + half)} {_n(x)},{_n(edge)} {_n(x)},{_n(edge + half)} "
                f"L{_n(x)},{_n(ty - half)} "
                f"C{_n(x)},{_n(ty)} {_n(tx)},{_n(ty - half)} {_n(tx)},{_n(ty)}"
            )
        else:
            path = f"{head} C{_n(sx)},{_n(edge + half)} {_n(tx)},{_n(ty - half)} {_n(tx)},{_n(ty)}"
        found.wires.append((path, link[2]))
    return found


def _channels(links: list, row_of: list[int]) -> dict:
    """A channel for each wire that runs past rows; wires that do not overlap share one."""
    found: dict = {}
    ends: list[int] = []
    for link in sorted(links, key=lambda k: (row_of[k[0]], row_of[k[1]], k[0], k[1])):
        free = next((n for n, end in enumerate(ends) if end <= row_of[link[0]]), len(ends))
        if free == len(ends):
            ends.append(0)
        ends[free] = row_of[link[1]]
        found[link] = free
    return found


def _n(number: float) -> str:
    return f"{number:.1f}"
