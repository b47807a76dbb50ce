"""A stepping in words: for a terminal, with rich's markup, and by typed commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.core import GraphError, Node
from minigrad.draw.style import format_number
from minigrad.study.contributions import Amount
from minigrad.study.rules import filled_rule, gate_words, rule_note, rule_text

__all__ = ["amount_words", "equation", "interact", "markup", "words"]

SMALL = 6
"""Arrays of up to so many elements are written out."""


def amount_words(value: Any, digits: int = 4) -> str:
    """A gradient: a number, few numbers, or shape and norm.

    >>> amount_words(0.5), amount_words(Amount((2, 3), 1.5))
    ('0.5', '2×3, norm 1.5')
    """
    if value is None:
        return "nothing"
    if not isinstance(value, Amount):
        return format_number(float(value), digits)
    if isinstance(value.values, (np.ndarray, np.generic)) and np.size(value.values) <= SMALL:
        array = np.asarray(value.values)
        if not array.ndim:
            return format_number(float(array), digits)
        if array.ndim == 1 and array.size:
            return f"[{', '.join(format_number(float(v), digits) for v in array)}]"
    shape = "×".join(map(str, value.shape)) or "scalar"
    return f"{shape}, norm {format_number(value.norm, digits)}"


def equation(gate: Node, names: dict[Node, str]) -> str:
    """A gate as `q = add(x, y)`."""
    arguments = ", ".join(argument_name(source, names) for source in gate.inputs)
    return f"{names[gate]} = {gate_words(gate)}({arguments})"


def argument_name(source: Any, names: dict[Node, str]) -> str:
    """What stands for an argument: its name, its number, or its shape."""
    if not isinstance(source, Node):
        return str(source)
    if source in names:
        return names[source]
    if source.name:
        return source.name
    value = getattr(source, "_data", None)
    return str(source.shape) if value is None else format_number(float(value))


def words(s: Any) -> str:
    """Where a stepping stands, as plain text."""
    return re.sub(r"(?<!\\)\[/?[a-z ]*\]", "", markup(s)).replace("\\[", "[")


def markup(s: Any) -> str:
    """The same with rich's markup: gradients red, local gradients blue, values green."""
    step = s.focus
    lines = []
    if step is None:
        seed = amount_words(s.start)
        lines.append(f"[bold]before step 1 of {len(s)}[/]")
        lines.append(f"  {s.names[s.root]} starts with the gradient [red]{_quoted(seed)}[/]")
    else:
        heading = f"step {s.position} of {len(s)}: {equation(step.gate, s.names)}"
        lines.append(f"[bold]{_quoted(heading)}[/]" + _line(step.gate))
        received = _quoted(amount_words(step.gate_gradient))
        lines.append(f"  gate gradient of {s.names[step.gate]}: [red]{received}[/]")
        for flow, total in zip(step.contributions, step.totals, strict=True):
            lines.append("  " + _flow(s, flow, total, step.completes(flow.source)))
            note = rule_note(flow.gate.op, flow.position)
            lines += [f"    with [blue]{_quoted(note)}[/]"] if note else []
    following = s.next
    if following is None:
        lines.append("[bold]the end[/]: all gradients are complete")
    else:
        lines.append(f"next: {_quoted(equation(following, s.names))}" + _line(following))
    return "\n".join(lines)


def _flow(s: Any, flow: Any, total: Any, complete: bool) -> str:
    name = s.names[flow.source]
    rule = rule_text(flow.gate.op, flow.position)
    result = amount_words(flow.contribution)
    parts = [f"to {name}:"]
    if rule:
        parts.append(f"[blue]{_quoted(rule)}[/] =")
    filled = ""
    if flow.local_gradient is not None:
        filled = filled_rule(flow.gate, flow.position, flow.gate_gradient)
    if filled and filled != result:
        parts.append(f"{_quoted(filled)} =")
    parts.append(f"[red]{_quoted(result)}[/];")
    state = "complete" if complete else "more to come"
    parts.append(f"{name} has received [red]{_quoted(amount_words(total))}[/], {state}")
    return " ".join(parts)


def _line(node: Node) -> str:
    origin = getattr(node, "origin", None)
    return "" if origin is None else f"   [green]{_quoted(f'{origin.place}  {origin.text}')}[/]"


def _quoted(text: str) -> str:
    """Text that rich is to show as it is."""
    return re.sub(r"\[(?=[a-z/@#])", r"\\[", text)


HELP = """\
Enter, s [n]   step: the next gate hands on its gradient
b [n]          back
t OP           step to the next gate of an op, such as: t relu
n NAME         step to the gate of a name, or until the leaf of that name is complete
i              step to NaN or infinity
g N            go to step N
p NAME         print the gradient of a node so far
w FILE         write the page, such as: w backprop.html
q              quit; `.grad` is filled only at the end"""


def interact(s: Any, read: Callable[[str], str], show: Callable[..., Any]) -> None:
    """Read commands until `q` or the end of input; what each does stands in `HELP`."""
    show(s)
    while True:
        try:
            line = read(f"({s.position}/{len(s)}) ")
        except EOFError:
            return
        command, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if command == "q":
            return
        try:
            _do(s, command, rest, show)
        except (ValueError, TypeError, IndexError, GraphError, OSError) as error:
            show(f"{type(error).__name__}: {error}")


def _do(s: Any, command: str, rest: str, show: Callable[..., Any]) -> None:
    if command == "p":
        found = [node for node, name in s.names.items() if rest in (name, node.name)]
        if not found:
            raise ValueError(f"no node is called {rest!r}; there are {', '.join(s.names.values())}")
        show(f"{rest}: {s.gradient(found[0])}")
        return
    if command == "w":
        show(str(s.save(rest)))
        return
    if command in ("", "s"):
        s.step(int(rest or 1))
    elif command == "b":
        s.back(int(rest or 1))
    elif command == "g":
        s.go(int(rest))
    elif command == "t":
        s.run_to(op=rest)
    elif command == "n":
        s.run_to(name=rest)
    elif command == "i":
        s.run_to(nonfinite=True)
    else:
        show(HELP)
        return
    show(s)
