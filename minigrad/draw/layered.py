"""Our own layered layout, for when no Graphviz is at hand.

The steps are those of Sugiyama, Tagawa and Toda (1981): put boxes into layers so that all wires
run forward, order each layer so that few wires cross, then choose positions that keep wires
straight.  Positions along the direction of the picture are called *along*, the others *across*.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from minigrad.draw.layout import LAYER_GAP, NODE_GAP, Layout, Point
from minigrad.draw.scene import Scene

__all__ = ["place"]

SWEEPS = 16
RELAXATIONS = 40
STRAIGHTENINGS = 20
SPINE = 12.0
"""How much more than others the data's way through a network should be straight."""
EFFORT = 300_000
"""Slots times relaxations: large pictures are improved less often."""


@dataclass
class _Slot:
    """A box in its layer, or a dummy that keeps a place for a wire that passes through."""

    layer: int
    along: float
    across: float
    box: int | None
    before: list[tuple[int, float]] = field(default_factory=list)
    after: list[tuple[int, float]] = field(default_factory=list)
    position: float = 0.0


def place(scene: Scene) -> Layout:
    """Place a scene without the help of any program."""
    if not scene.boxes:
        return Layout(0.0, 0.0, (), (), "builtin")
    slots, routes = _slots(scene)
    layers = _order(slots)
    _settle(slots, layers, NODE_GAP[scene.direction])
    starts, ends = _columns(slots, layers, LAYER_GAP[scene.direction])

    low = min(s.position - s.across / 2 for s in slots)
    for slot in slots:
        slot.position -= low
    extent = max(s.position + s.across / 2 for s in slots)
    middles = [(a + b) / 2 for a, b in zip(starts, ends, strict=True)]
    centres = [(middles[s.layer], s.position) for s in slots if s.box is not None]
    paths = _paths(scene, slots, routes, starts, ends, middles)
    size = (ends[-1], extent)
    if scene.direction == "TB":
        size = size[::-1]
        centres = [c[::-1] for c in centres]
        paths = [tuple(p[::-1] for p in path) for path in paths]
    return Layout(*size, tuple(centres), tuple(paths), "builtin")


# --- layers and dummies --------------------------------------------------------------------------


def _slots(scene: Scene) -> tuple[list[_Slot], list[list[int]]]:
    """One slot a box, in the order of boxes, then the dummies; and the slots along each link."""
    layer = _layers(scene)
    sideways = scene.direction == "LR"
    slots = [
        _Slot(layer[i], *((b.width, b.height) if sideways else (b.height, b.width)), i)
        for i, b in enumerate(scene.boxes)
    ]
    routes = []
    for link in scene.links:
        route = [link.source]
        for between in range(layer[link.source] + 1, layer[link.target]):
            slots.append(_Slot(between, 0.0, 4.0, None))
            route.append(len(slots) - 1)
        route.append(link.target)
        routes.append(route)
        for a, b in pairwise(route):
            # Long wires should be straight first of all.
            weight = 1.0 + 3.0 * (slots[a].box is None) + 3.0 * (slots[b].box is None)
            weight += SPINE * link.spine
            slots[a].after.append((b, weight))
            slots[b].before.append((a, weight))
    return slots, routes


def _layers(scene: Scene) -> list[int]:
    """The layer of each box: as late as its users allow, so that inputs stand by their gate."""
    waiting = [0] * len(scene.boxes)
    sources = defaultdict(list)
    for link in scene.links:
        waiting[link.source] += 1
        sources[link.target].append(link.source)
    height = [0] * len(scene.boxes)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    while ready:
        target = ready.pop()
        for source in sources[target]:
            height[source] = max(height[source], height[target] + 1)
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    top = max(height)
    return [top - h for h in height]


# --- the order within a layer --------------------------------------------------------------------


def _order(slots: list[_Slot]) -> list[list[int]]:
    """For each layer its slots in order, chosen to have few crossings."""
    layers = _first_order(slots)
    best, fewest = [list(layer) for layer in layers], _crossings(slots, layers)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        forward = sweep % 2 == 0
        for i in range(len(layers)) if forward else range(len(layers) - 1, -1, -1):
            j = i - 1 if forward else i + 1
            if not 0 <= j < len(layers):
                continue
            layers[i] = _sorted_by(slots, layers[i], layers[j], forward)
        count = _crossings(slots, layers)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
    return best


def _sorted_by(
    slots: list[_Slot], layer: list[int], neighbours: list[int], forward: bool
) -> list[int]:
    """A layer in the order of the mean places of its neighbours in the next one."""
    rank = {slot: r for r, slot in enumerate(neighbours)}
    keys = {}
    for place_now, slot in enumerate(layer):
        near = slots[slot].before if forward else slots[slot].after
        known = [rank[other] for other, _ in near]
        # What has no neighbour there stays where it is.
        keys[slot] = (sum(known) / len(known) if known else place_now, place_now)
    return sorted(layer, key=keys.__getitem__)


def _first_order(slots: list[_Slot]) -> list[list[int]]:
    """Visit from the results back through the arguments, in their order: trees do not cross."""
    layers: list[list[int]] = [[] for _ in range(max(s.layer for s in slots) + 1)]
    seen = set()
    stack = [i for i, s in enumerate(slots) if not s.after][::-1]
    while stack:
        slot = stack.pop()
        if slot in seen:
            continue
        seen.add(slot)
        layers[slots[slot].layer].append(slot)
        stack.extend(other for other, _ in reversed(slots[slot].before))
    return layers


def _crossings(slots: list[_Slot], layers: list[list[int]]) -> int:
    total = 0
    for layer, following in pairwise(layers):
        rank = {slot: r for r, slot in enumerate(following)}
        seen: list[int] = []
        for slot in layer:
            ends = sorted(rank[other] for other, _ in slots[slot].after)
            for end in ends:
                total += len(seen) - bisect_left(seen, end + 1)
            for end in ends:
                insort(seen, end)
    return total


# --- positions -----------------------------------------------------------------------------------


def _settle(slots: list[_Slot], layers: list[list[int]], gap: float) -> None:
    """Move each slot towards the mean of its neighbours, keeping order and distance."""
    for layer in layers:
        at = 0.0
        for slot in layer:
            slots[slot].position = at + slots[slot].across / 2
            at += slots[slot].across + gap
    apart = [
        [(slots[a].across + slots[b].across) / 2 + gap for a, b in pairwise(layer)]
        for layer in layers
    ]
    for turn in range(max(4, min(RELAXATIONS, EFFORT // len(slots)))):
        for i in range(len(layers)) if turn % 2 == 0 else range(len(layers) - 1, -1, -1):
            wishes = [_wish(slots, (slot,)) for slot in layers[i]]
            placed = spread([w for w, _ in wishes], [m for _, m in wishes], apart[i])
            for slot, position in zip(layers[i], placed, strict=True):
                slots[slot].position = position
    _straighten(slots, layers, apart)


def _wish(slots: list[_Slot], block: Sequence[int]) -> tuple[float, float]:
    """The mean of what a block of slots is linked to, outside of itself, and its weight."""
    inside = set(block)
    total = weight = 0.0
    for slot in block:
        for other, w in slots[slot].before + slots[slot].after:
            if other not in inside:
                total += w * slots[other].position
                weight += w
    if not weight:
        return slots[block[0]].position, 0.1
    return total / weight, weight


def _straighten(slots: list[_Slot], layers: list[list[int]], apart: list[list[float]]) -> None:
    """Draw gates and their wires, and long wires, as straight lines wherever there is room."""
    below: dict[int, tuple[int, float]] = {}
    above: dict[int, tuple[int, float]] = {}
    for layer, distances in zip(layers, apart, strict=True):
        for a, b, distance in zip(layer, layer[1:], distances, strict=False):
            below[b] = (a, distance)
            above[a] = (b, distance)
    blocks = _blocks(slots)
    for _ in range(STRAIGHTENINGS):
        for block in blocks:
            least = max(
                (slots[below[s][0]].position + below[s][1] for s in block if s in below),
                default=-math.inf,
            )
            most = min(
                (slots[above[s][0]].position - above[s][1] for s in block if s in above),
                default=math.inf,
            )
            if least <= most + 1e-9:
                wished = max(least, min(most, _wish(slots, block)[0]))
                for slot in block:
                    slots[slot].position = wished


def _blocks(slots: list[_Slot]) -> list[list[int]]:
    """Chains of slots with nothing else between them, which should lie on one line."""
    chained: dict[int, int] = {}
    for i, slot in enumerate(slots):
        if len(slot.after) == 1:
            ((other, weight),) = slot.after
            if len(slots[other].before) == 1 or weight > SPINE:
                chained[i] = other
    starts = set(range(len(slots))) - set(chained.values())
    blocks = []
    for start in sorted(starts):
        block = [start]
        while block[-1] in chained:
            block.append(chained[block[-1]])
        blocks.append(block)
    return blocks


def spread(wished: list[float], weights: list[float], apart: list[float]) -> list[float]:
    """The positions nearest to the wished ones, by weighted squares, that keep their distances.

    Pool adjacent violators: shifted by the distances this is isotonic regression.

    >>> spread([0.0, 0.0], [1.0, 1.0], [10.0])
    [-5.0, 5.0]
    """
    offset, offsets = 0.0, [0.0]
    for distance in apart:
        offset += distance
        offsets.append(offset)
    pools: list[tuple[float, float, int]] = []
    for wish, weight, shift in zip(wished, weights, offsets, strict=True):
        mean, mass, count = wish - shift, weight, 1
        while pools and pools[-1][0] > mean:
            other, other_mass, other_count = pools.pop()
            mean = (mean * mass + other * other_mass) / (mass + other_mass)
            mass, count = mass + other_mass, count + other_count
        pools.append((mean, mass, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + shift for mean, shift in zip(means, offsets, strict=True)]


def _columns(
    slots: list[_Slot], layers: list[list[int]], gap: float
) -> tuple[list[float], list[float]]:
    """Where each layer starts and ends; steep wires get more room."""
    starts, ends = [], []
    at = 0.0
    for layer in layers:
        width = max(slots[slot].along for slot in layer)
        starts.append(at)
        ends.append(at + width)
        steepest = max(
            (
                abs(slots[slot].position - slots[other].position)
                for slot in layer
                for other, _ in slots[slot].after
            ),
            default=0.0,
        )
        at += width + gap + min(44.0, 0.22 * steepest)
    return starts, ends


# --- wires ---------------------------------------------------------------------------------------


def _paths(
    scene: Scene,
    slots: list[_Slot],
    routes: list[list[int]],
    starts: list[float],
    ends: list[float],
    middles: list[float],
) -> list[tuple[Point, ...]]:
    angles = _angles(scene, slots, routes, starts, ends)
    paths = []
    for i, route in enumerate(routes):
        first, last = slots[route[0]], slots[route[-1]]
        box = scene.boxes[route[-1]]
        dot = scene.boxes[route[0]].kind == "leaf" and not scene.boxes[route[0]].label
        half = 0.0 if dot else first.along / 2
        points = [(middles[first.layer] + half, first.position)]
        for a, b in pairwise(route):
            _straight(points, (ends[slots[a].layer], slots[a].position))
            begin, end = starts[slots[b].layer], ends[slots[b].layer]
            if b != route[-1]:
                _curve(points, (begin, slots[b].position))
                _straight(points, (end, slots[b].position))
            elif box.kind == "gate" and box.width == box.height:
                _into_circle(
                    points, (middles[last.layer], last.position), box.width / 2, angles[i], begin
                )
            else:
                y = last.position
                if box.kind == "gate":
                    room = 0.35 * last.across
                    y += max(-room, min(room, 9.0 * math.tan(angles[i])))
                _curve(points, (begin, y))
                _straight(points, (middles[last.layer] - last.along / 2, y))
        paths.append(tuple(points))
    return paths


def _into_circle(
    points: list[Point], centre: Point, radius: float, angle: float, begin: float
) -> None:
    """Lead a wire to a round gate, towards its centre, beside whatever shares its column."""
    cos, sin = math.cos(angle), math.sin(angle)
    entry = (centre[0] - radius * cos, centre[1] + radius * sin)
    (x, y), pull = points[-1], 0.6 * (entry[0] - points[-1][0])
    bend = [(x + pull, y), (entry[0] - pull * cos, entry[1] + pull * sin), entry]
    # From where the column begins the wire must keep to the gate's own band.
    if all(
        px <= begin or abs(py - centre[1]) < radius + 10 for px, py in _sampled([points[-1], *bend])
    ):
        points += bend
        return
    _curve(points, (min(begin, entry[0]), entry[1]))
    _straight(points, entry)


def _sampled(curve: list[Point]) -> Iterator[Point]:
    """Points on a cubic Bézier curve."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = curve
    for i in range(1, 20):
        t = i / 20
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
        yield (a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3)


def _angles(
    scene: Scene,
    slots: list[_Slot],
    routes: list[list[int]],
    starts: list[float],
    ends: list[float],
) -> dict[int, float]:
    """The angle at which each wire reaches its target: as it comes, but apart from the others."""
    arriving = defaultdict(list)
    for i, route in enumerate(routes):
        last, before = slots[route[-1]], slots[route[-2]]
        room = starts[last.layer] - ends[before.layer] + last.along / 2
        angle = math.atan2(before.position - last.position, 1.2 * room)
        arriving[route[-1]].append((before.position, angle, i))
    angles = {}
    for wires in arriving.values():
        wires.sort()
        count = len(wires)
        least = min(0.7, 2.0 / count)
        wished = [max(-1.0, min(1.0, angle)) for _, angle, _ in wires]
        weights = [1.0 + 50.0 * scene.links[i].spine for _, _, i in wires]
        placed = spread(wished, weights, [least] * (count - 1))
        for (_, _, i), angle in zip(wires, placed, strict=True):
            angles[i] = max(-1.2, min(1.2, angle))
    return angles


def _straight(points: list[Point], to: Point) -> None:
    (x, y), (x2, y2) = points[-1], to
    if math.dist(points[-1], to) > 0.01:
        points += [(x + (x2 - x) / 3, y + (y2 - y) / 3), (x + (x2 - x) / 1.5, y + (y2 - y) / 1.5)]
        points.append(to)


def _curve(points: list[Point], to: Point) -> None:
    (x, y), (x2, y2) = points[-1], to
    middle = (x + x2) / 2
    points += [(middle, y), (middle, y2), to]
