"""A forward pass as a tree of boxes: loops rolled up, repeated blocks gathered, wires lifted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from minigrad.draw.scene import shape_text
from minigrad.draw.style import gate_symbol

from ...module import Module
from ..trace import Made, Trace

__all__ = ["METRICS", "Part", "Wires", "build", "walk"]

METRICS = {
    "multiply_adds": "multiply-adds",
    "parameters": "parameters",
    "bytes": "bytes of results",
    "seconds": "measured time",
}
"""What a box can be coloured by."""


@dataclass(eq=False)
class Wires:
    """How the children of a part are connected.

    Attributes:
        links: (from, to, recurrent) by position among the children; recurrent ones run from one
            round of a loop to the next.
        inward: which children take something from outside.
        outward: which children give something to outside.
        rows: for each child in which row it stands, from 0.
    """

    links: list[tuple[int, int, bool]] = field(default_factory=list)
    inward: list[int] = field(default_factory=list)
    outward: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Part:
    """A box: a module, an operation, an input or output, or a row of equal modules.

    Attributes:
        kind: "module", "operation", "repeat", "input" or "output".
        title: what it is: `Conv2d`, `relu`, `Block × 12`.
        name: what its parent calls it, or "".
        path: of the module in the whole model.
        shape: of its (first) result, without the batch.
        children: what is inside; empty for what cannot be opened.
        calls: how often it ran: more than 1 where a loop is rolled up.
        settings: of a layer, as its `repr` says them.
        details: the shape of its weights or window, and what is not usual of it.
        multiply_adds, bytes, seconds: of all its calls together.
        weights: ids and sizes of the parameters inside.
    """

    kind: str
    title: str
    name: str = ""
    path: str = ""
    shape: tuple[int, ...] = ()
    children: list[Part] = field(default_factory=list)
    calls: int = 1
    settings: str = ""
    details: str = ""
    multiply_adds: int = 0
    bytes: int = 0
    seconds: float = 0.0
    weights: dict[int, int] = field(default_factory=dict)
    wires: Wires = field(default_factory=Wires)
    made: list[Made] = field(default_factory=list)
    key: tuple = ()

    @property
    def parameters(self) -> int:
        """How many numbers are learned inside, each counted once."""
        return sum(self.weights.values())

    def signature(self) -> tuple:
        """Equal for modules that are built alike and get inputs of one shape."""
        inside = tuple(child.signature() for child in self.children)
        return (self.kind, self.title, self.shape, self.settings, self.parameters, inside)


def walk(part: Part) -> Iterable[Part]:
    """A part and all inside it, parents first."""
    stack = [part]
    while stack:
        latest = stack.pop()
        yield latest
        stack.extend(reversed(latest.children))


def build(found: Trace, rolled: bool = True, repeats: bool = True) -> Part:
    """The tree of a forward pass.

    Args:
        found: the pass.
        rolled: show a loop once, with wires that run back, instead of each of its rounds.
        repeats: gather equal modules that follow each other.
    """
    root = _part(found.root)
    inputs = [Part("input", "input", shape=shape[1:]) for shape in found.inputs]
    output = Part("output", "output", shape=found.root.shape[1:])
    # An operation's place in time tells a wire that runs back.
    if rolled:
        root.children = _roll(root.children)
    whole = Part("module", root.title, shape=root.shape, path="", settings=root.settings)
    # A model that is one layer is a box of its own.
    body = root.children or [root]
    whole.children = [*inputs, *body, output]
    _simplify(whole)
    owner: dict[Any, Part] = dict(enumerate(inputs))
    for part in walk(whole):
        for made in part.made:
            owner[made] = part
    order = {made: i for i, made in enumerate(found.operations)}
    edges = [
        (owner[source], part, _is_recurrent(source, made, order, owner))
        for part in walk(whole)
        for made in part.made
        for source in made.sources
        if source in owner
    ]
    edges += [(owner[made], output, False) for made in found.outputs if made in owner]
    if repeats:
        _gather(whole, edges)
    _connect(whole, edges)
    _total(whole)
    return whole


def _is_recurrent(source: Any, made: Made, order: dict, owner: dict) -> bool:
    """Whether a wire leads from one round of a rolled loop to a later one."""
    if not isinstance(source, Made):
        return False
    giver, taker = owner[source], owner[made]
    if giver is taker:
        return True
    # Where the giver's first round comes after the taker's, the wire can only run back.
    return min(order[m] for m in giver.made) > min(order[m] for m in taker.made)


def _part(thing: Any) -> Part:
    if isinstance(thing, Made):
        return Part(
            "operation",
            gate_symbol(thing.op) if len(gate_symbol(thing.op)) > 1 else thing.op,
            shape=thing.shape[1:],
            multiply_adds=thing.multiply_adds,
            bytes=thing.bytes,
            seconds=thing.seconds,
            weights=dict(thing.parameters),
            made=[thing],
            key=("operation", *thing.key, thing.op),
        )
    module: Module = thing.module
    part = Part(
        "module",
        type(module).__name__,
        name=thing.path.rpartition(".")[2],
        path=thing.path,
        shape=thing.shape[1:],
        settings=module.extra_repr(),
        details=_details(module),
        key=("module", thing.path, *thing.key),
    )
    part.children = [
        child for child in map(_part, thing.parts) if child.kind != "module" or child.children
    ]
    return part


def _details(module: Module) -> str:
    weight = getattr(module, "weight", None) if "weight" in vars(module) else None
    kernel = vars(module).get("kernel_size")
    words = []
    if weight is not None:
        words.append(shape_text(weight.shape))
    elif kernel is not None:
        words.append(shape_text(kernel) if isinstance(kernel, tuple) else f"{kernel} × {kernel}")
    for name, usual in (("stride", (1, kernel, None)), ("padding", (0,)), ("groups", (1,))):
        value = vars(module).get(name, usual[0])
        if not any(value is u or value == u for u in usual):
            words.append(f"{name} {value}")
    return ", ".join(words) or module.extra_repr()


def _roll(children: list[Part]) -> list[Part]:
    """One part for all rounds of a loop: the same module, or the same place in the source."""
    groups: dict[tuple, list[Part]] = {}
    for child in children:
        groups.setdefault(child.key, []).append(child)
    found = []
    for group in groups.values():
        first = group[0]
        first.calls = len(group)
        for other in group[1:]:
            first.multiply_adds += other.multiply_adds
            first.bytes += other.bytes
            first.seconds += other.seconds
            first.weights |= other.weights
            first.made += other.made
        first.children = _roll([inner for part in group for inner in part.children])
        found.append(first)
    return found


def _simplify(part: Part) -> None:
    """A module of a single operation, such as a layer, is one closed box."""
    for child in part.children:
        _simplify(child)
        if child.kind == "module" and len(child.children) == 1:
            (inner,) = child.children
            if inner.kind == "operation":
                for name in ("multiply_adds", "bytes", "seconds", "weights", "made"):
                    setattr(child, name, getattr(inner, name))
                child.calls = max(child.calls, inner.calls)
                child.children = []


def _total(part: Part) -> None:
    for child in part.children:
        _total(child)
        part.multiply_adds += child.multiply_adds
        part.bytes += child.bytes
        part.seconds += child.seconds
        part.weights |= child.weights


# --- repeats -------------------------------------------------------------------------------------


def _gather(part: Part, edges: list) -> None:
    """Put equal modules that follow each other, each fed by the one before, into one box."""
    for child in part.children:
        _gather(child, edges)
    places = _places(part)
    feeds: dict[int, set[int]] = defaultdict(set)
    for source, target, _ in edges:
        i, j = places.get(source), places.get(target)
        if i is not None and j is not None and i != j:
            feeds[j].add(i)
    found: list[Part] = []
    run: list[int] = []

    def close() -> None:
        members = [part.children[i] for i in run]
        if len(members) > 1:
            first, last = members[0], members[-1]
            found.append(
                Part(
                    "repeat",
                    f"{first.title} × {len(members)}",
                    name=f"{first.name} … {last.name}" if first.name else "",
                    path=first.path,
                    shape=last.shape,
                    children=members,
                )
            )
        else:
            found.extend(members)
        run.clear()

    for i, child in enumerate(part.children):
        same = (
            run
            and child.kind == "module"
            and feeds[i] == {run[-1]}
            and child.signature() == part.children[run[-1]].signature()
        )
        if run and not same:
            close()
        run.append(i)
    close()
    if len(found) > 1 or (found and found[0].kind != "repeat"):
        part.children = found


def _places(part: Part) -> dict[Part, int]:
    """In which child of a part each inner part lies."""
    return {inner: i for i, child in enumerate(part.children) for inner in walk(child)}


# --- wires ---------------------------------------------------------------------------------------


def _connect(root: Part, edges: list) -> None:
    """Lift each edge to the level where its ends lie in different children of one part."""
    chains: dict[Part, list[tuple[Part, int]]] = {root: []}
    for part in walk(root):
        for i, child in enumerate(part.children):
            chains[child] = [*chains[part], (part, i)]
    found: dict[Part, tuple[dict, set, set]] = {
        part: ({}, set(), set()) for part in chains if part.children
    }
    for source, target, recurrent in edges:
        above, below = chains[source], chains[target]
        level = 0
        while level < min(len(above), len(below)) - 1 and above[level] == below[level]:
            level += 1
        common, i = above[level]
        j = below[level][1]
        links = found[common][0]
        if i != j or recurrent:
            key = (i, j, recurrent or i >= j)
            links[key] = None
        for part, place in above[level + 1 :]:
            found[part][2].add(place)
        for part, place in below[level + 1 :]:
            found[part][1].add(place)
    for part, (links, inward, outward) in found.items():
        part.wires = Wires(list(links), sorted(inward), sorted(outward))
        part.wires.rows = _rows(len(part.children), part.wires)


def _rows(count: int, wires: Wires) -> list[int]:
    """Each child below all that it takes something from; children stand in the order of time."""
    rows = [0] * count
    for j in range(count):
        for i, k, recurrent in wires.links:
            if k == j and not recurrent:
                rows[j] = max(rows[j], rows[i] + 1)
    # What only later rows need moves down to them: a loop's rounds then stand side by side.
    for i in reversed(range(count)):
        later = [rows[k] for j, k, recurrent in wires.links if j == i and not recurrent]
        if later and i not in wires.outward:
            rows[i] = max(rows[i], min(later) - 1)
    return rows
