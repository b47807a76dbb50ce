"""A recorded step as straight-line Python: how it is written.

What a `Recorder` wrote down becomes the source of one function of raw arrays.  Each value is a
variable that is deleted after its last use, so a replay holds no more memory than the step did.
The same lines also become a function each, for replays in pieces (see `stretches`).
"""

from __future__ import annotations

import itertools
import keyword
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import backend, effects, nodes
from minigrad.core import Op, hand_over
from minigrad.nodes import MultipleNode, TensorNode
from minigrad.replay.entries import Copy, Entry, Held, Made, Slot, Source
from minigrad.replay.tape import Recorder
from minigrad.tensor import Tensor

_COMMENT, _WIDTH = 72, 100
"""The column at which shapes stand, and how wide a line may be."""


class Diverged(Exception):
    """A question of the step has another answer now; nothing was done yet."""


class Names:
    """Readable names for values and functions, each used once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.scope: dict[str, Any] = {}
        self._taken = set(taken)
        self._of: dict[int, str] = {}

    def fresh(self, hint: str) -> str:
        """A name that is not in use, like the hint."""
        hint = re.sub(r"\W+", "_", hint).strip("_") or "value"
        hint = f"_{hint}" if hint[0].isdigit() or keyword.iskeyword(hint) else hint
        for number in itertools.count(1):
            name = hint if number == 1 else f"{hint}_{number}"
            if name not in self._taken:
                self._taken.add(name)
                return name
        raise AssertionError

    def bind(self, value: Any, hint: str) -> str:
        """The name of a constant of the program."""
        found = self._of.get(id(value))
        if found is None:
            found = self._of[id(value)] = self.fresh(hint)
            self.scope[found] = value
        return found


def compiled(source: str, scope: dict[str, Any]) -> dict[str, Any]:
    """A scope of constants with the functions of a source in it, which tracebacks can show."""
    import linecache

    name = f"<captured step {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), scope)
    return scope


_numbers = itertools.count(1)


class Writer:
    """Writes one program.

    Attributes:
        source: the program as a function `replay`.
        order: its entries, in the order of the source.
        names: the constants of the source, by name.
    """

    def __init__(self, recorder: Recorder, inputs: Sequence[str]) -> None:
        self._recorder = recorder
        self._counts: dict[str, Any] = {}
        self._slots: dict[int, str] = {}
        self.names = Names(
            {"leaves", "wrap", "asarray", "errstate", "hand", "slice", "replay", "gradients"}
        )
        self.names.scope.update(
            hand=hand,
            wrap=TensorNode.wrap,
            asarray=np.asarray,
            errstate=np.errstate,
            Diverged=Diverged,
        )
        self._paths = self._named()
        arguments = []
        for slot, name in zip(recorder.inputs, inputs, strict=True):
            self._slots[slot.number] = self.names.fresh(name)
            arguments.append(self._slots[slot.number])
        self._lines: list[str] = []
        self._indent = "    "
        self._last = self._last_uses()
        self._body()
        tail = f"def replay({', '.join([*arguments, 'leaves'])}):"
        self.source = "\n".join([tail, *self._lines]) + "\n"

    def _named(self) -> dict[int, str]:
        """Paths of parameters and buffers, by the first module that was called."""
        found: dict[int, str] = {}
        for module in self._recorder.modules.values():
            for named in (module.named_parameters, module.named_buffers):
                for path, tensor in named():
                    name = re.sub(r"(^|\.)(\d)", r"\1layer\2", path)
                    found.setdefault(id(tensor), name)
                    found.setdefault(id(tensor._data), name)  # where it is used as it is
        return found

    # --- what is needed, and how long ------------------------------------------------------------

    def _last_uses(self) -> dict[int, int]:
        self.order = self._ordered()
        last: dict[int, int] = {}
        for place, entry in enumerate(self.order):
            for number in slots_of((entry.args, entry.params)):
                last[number] = place
        for number in slots_of(self._recorder.result):
            last[number] = len(self.order)
        for slot in self._recorder.inputs:
            last[slot.number] = len(self.order)  # the caller holds them anyway
        return last

    def _ordered(self) -> list[Entry]:
        """Entries in order, those that decide first; no looks at gradients that nobody uses."""
        entries = self._recorder.entries
        makers = {out.number: e for e in entries for out in e.outs if out is not None}
        first: set[int] = set()
        given = {slot.number for slot in self._recorder.inputs}

        def settle(reference: Any, where: str) -> None:
            if has_source(reference):
                raise effects.CaptureError(f"{where}: {_DECIDED}")
            for number in slots_of(reference):
                if number in given:
                    continue
                entry = makers[number]
                if entry.kind != "effect" or entry.function not in effects.pure:
                    raise effects.CaptureError(f"{where}: {_DECIDED}")
                first.add(id(entry))
                settle((entry.args, entry.params), where)

        for decision in self._recorder.decisions:
            settle(decision.args, decision.where)
        used = {n for e in entries for n in slots_of((e.args, e.params))}
        used.update(slots_of(self._recorder.result))
        entries = [e for e in entries if e.kind != "grad" or e.outs[0].number in used]
        ahead = [e for e in entries if id(e) in first]
        asked = [
            Entry("decide", "decide", d.question, d.args, {}, (), d.answer, d.where)
            for d in self._recorder.decisions
        ]
        return ahead + asked + [e for e in entries if id(e) not in first]

    # --- in pieces -------------------------------------------------------------------------------

    def piece(self, name: str, entry: Entry) -> str:
        """One entry as a function of `leaves` and its values, which gives a tuple of new ones."""
        values = map(self._name, _unique(entry.args, entry.params))
        self._lines, self._indent = [], "    "
        self._entry(entry)
        outs = "".join(f"{self._name(out)}, " for out in entry.outs if out is not None)
        head = f"def {name}({', '.join(['leaves', *values])}):"
        return "\n".join([head, *self._lines, f"    return ({outs})"]) + "\n"

    def leaves_piece(self, name: str, entries: Sequence[Entry]) -> str:
        """A function of `leaves` that gives those which receive gradients in these entries."""
        leaves = ", ".join(self._leaf(entry.args[0]) for entry in entries)
        return f"def {name}(leaves):\n    return [{leaves}]\n"

    def result_piece(self, name: str) -> str:
        """What the step returns as a function of `leaves` and the values in it."""
        result = self._recorder.result
        values = map(self._name, _unique(result))
        head = f"def {name}({', '.join(['leaves', *values])}):"
        return f"{head}\n    return {self._result(result)}\n"

    # --- references ------------------------------------------------------------------------------

    def _name(self, slot: Slot) -> str:
        found = self._slots.get(slot.number)
        if found is None:
            counter = self._counts.setdefault(slot.name, itertools.count(1))
            found = self._slots[slot.number] = self.names.fresh(f"{slot.name}{next(counter)}")
        return found

    def _write(self, reference: Any) -> str:
        if isinstance(reference, Slot):
            return self._name(reference)
        if isinstance(reference, Source):
            tensor = reference.tensor
            return self.names.bind(tensor._data, self._paths.get(id(tensor)) or tensor.name or "w")
        if isinstance(reference, Made):
            return f"wrap({self._write(reference.of)})"
        if isinstance(reference, Held):
            return self._held(reference.value)
        if isinstance(reference, dict):
            return "{" + ", ".join(f"{k!r}: {self._write(v)}" for k, v in reference.items()) + "}"
        parts = ", ".join(map(self._write, reference))
        if type(reference) is list:
            return f"[{parts}]"
        return f"({parts},)" if len(reference) == 1 else f"({parts})"

    def _held(self, value: Any) -> str:
        if value is None or value is Ellipsis or type(value) in (bool, int, str):
            return repr(value)
        if type(value) is float and np.isfinite(value):
            return repr(value)
        if type(value) is slice:
            parts = (value.start, value.stop, value.step)
            if all(part is None or type(part) is int for part in parts):
                return repr(value)
        if isinstance(value, Tensor):
            hint = self._paths.get(id(value)) or value.name or "w"
            return self.names.bind(value, f"{hint}_tensor")
        if backend.is_array(value):
            return self.names.bind(value, self._paths.get(id(value), "constant"))
        if isinstance(value, np.dtype):
            return self.names.bind(value, value.name)
        return self.names.bind(value, getattr(value, "__name__", type(value).__name__).lower())

    # --- lines -----------------------------------------------------------------------------------

    def _line(self, text: str, shapes: Sequence = ()) -> None:
        text = self._indent + text
        told = ", ".join(str(shape) for shape in shapes)
        self._lines.append(f"{text:<{_COMMENT}}  # {told}" if told else text)

    def _list(self, head: str, parts: Iterable[str], tail: str) -> None:
        """A list on one line, or on as many as it takes."""
        parts = list(parts)
        line = f"{head}{', '.join(parts)}{tail}"
        if len(self._indent + line) <= _WIDTH:
            self._line(line)
            return
        self._line(head)
        rows = textwrap.wrap(", ".join(parts), _WIDTH - 4 - len(self._indent))
        self._lines.extend(f"{self._indent}    {row}" for row in rows)
        self._line(tail)

    def _body(self) -> None:
        walking = False
        waiting: list[Entry] = []
        for place, entry in enumerate(self.order):
            if entry.kind not in ("hand", "grad") and (waiting or walking):
                self._hand(waiting, place)
                waiting = []
            if entry.kind == "hand":
                waiting.append(entry)
                continue
            if entry.kind == "grad" and waiting:
                self._hand(waiting, place)
                waiting = []
            if entry.kind == "begin":
                same = len({how for _, how in entry.about}) == 1
                how = {"all": entry.about[0][1]} if same else dict(entry.about)
                settings = ", ".join(f"{k}={v!r}" for k, v in how.items())
                self._line(f"with errstate({settings}):")
                self._indent = " " * 8
            elif entry.kind == "end":
                walking = True
                continue
            else:
                if walking and entry.kind != "grad":
                    walking, self._indent = False, "    "
                self._entry(entry)
            self._forget(place, entry)
        self._hand(waiting, len(self.order))
        self._indent = "    "
        self._line(f"return {self._result(self._recorder.result)}")

    def _forget(self, place: int, *entries: Entry) -> None:
        gone: dict[str, None] = {}
        for entry in entries:
            for number in slots_of((entry.args, entry.params)):
                if self._last[number] <= place:
                    gone[self._slots[number]] = None
            for out in entry.outs:
                if out is not None and out.number not in self._last:
                    gone[self._name(out)] = None
        if gone:
            names = ", ".join(gone)
            for row in textwrap.wrap(names, _WIDTH - 4 - len(self._indent)):
                self._line(f"del {row.rstrip(',')}")

    def _hand(self, waiting: list[Entry], place: int) -> None:
        """Leaves receive their gradients, all together."""
        if not waiting:
            return
        leaves = [self._leaf(entry.args[0]) for entry in waiting]
        gradients = [self._write(entry.args[1]) for entry in waiting]
        self._list("gradients = [", gradients, "]")
        self._forget(place - 1, *[entry._replace(args=entry.args[1:]) for entry in waiting])
        self._list("hand([", leaves, "], gradients)")
        self._line("del gradients")

    def _leaf(self, reference: Any) -> str:
        if isinstance(reference, Source):
            return self._held(reference.tensor)
        return f"leaves[{self._recorder.inputs.index(reference)}]"

    def _entry(self, entry: Entry) -> None:
        outs = ["_" if out is None else self._name(out) for out in entry.outs]
        args = [self._write(reference) for reference in entry.args]
        if entry.kind == "sum":
            self._line(f"{outs[0]} = {args[0]} + {args[1]}", entry.shapes)
        elif entry.kind == "add":
            self._line(f"{outs[0]} = {args[0]}; {outs[0]} += {args[1]}", entry.shapes)
        elif entry.kind in ("spread", "onto", "scatter"):
            function = self.names.bind(_SPREAD[entry.kind], entry.kind)
            args = args[1:] if entry.kind == "spread" else args
            self._line(f"{outs[0]} = {function}({', '.join(args)})", entry.shapes)
        elif entry.kind == "grad":
            reference = entry.args[0]
            leaf = self._leaf(reference)
            self._line(f"{outs[0]} = {leaf}._grad._data", entry.shapes)
        elif entry.kind == "decide":
            question = self.names.bind(entry.function, entry.function.__name__)
            asked = f"{question}({', '.join(args)})"
            if isinstance(entry.about, (bool, np.bool_)):
                self._line(f"if not {asked}:" if entry.about else f"if {asked}:")
            else:
                self._line(f"if {asked} != {self._held(entry.about)}:")
            self._line("    raise Diverged")
        elif entry.kind == "pull":
            self._pull(entry, args)
        else:
            self._call(entry, outs, args)

    def _pull(self, entry: Entry, args: list[str]) -> None:
        live = any(slots_of(entry.params))
        kinds = {self._recorder.kinds.get(out.number) for out in entry.outs if out is not None}
        unseen = all((there := backend.device_of_type(k)) and there.graphs for k in kinds)
        function = _gate(entry, live, unseen)
        outs = [self._name(out) for out in entry.outs if out is not None]
        name = self.names.bind(function, f"pull_{entry.name}")
        more = [f"params={self._write(entry.params)}"] if live else []
        given = ", ".join(outs) if outs else "_"
        self._line(f"{given} = {name}({', '.join([*args, *more])})", entry.shapes)

    def _call(self, entry: Entry, outs: list[str], args: list[str]) -> None:
        hint = entry.name.split(".")[-1].strip("_")
        settings = [f"{key}={self._write(value)}" for key, value in entry.params.items()]
        owner = entry.args[0].value if entry.args and isinstance(entry.args[0], Held) else None
        method = getattr(type(owner), hint, None)
        if method is not None and getattr(method, "__wrapped__", None) is entry.function:
            called, args = f"{args[0]}.{hint}", args[1:]  # as one would write it
        else:
            called = self.names.bind(entry.function, hint)
        call = f"{called}({', '.join([*args, *settings])})"
        if entry.kind == "effect":
            many = entry.about
            if not many and outs == ["_"]:
                self._line(call)
                return
            shapes = [shape for shape in entry.shapes if shape]
            self._line(
                f"{', '.join(outs)}{',' if many and len(outs) == 1 else ''} = {call}", shapes
            )
            return
        numbers = entry.about[1]
        if len(outs) == 1 and not entry.about[0].multiple:
            self._line(f"{outs[0]} = {f'asarray({call})' if numbers[0] else call}", entry.shapes)
            return
        self._line(f"{', '.join(outs)}{',' if len(outs) == 1 else ''} = {call}", entry.shapes)
        for out, number in zip(outs, numbers, strict=True):
            if number:
                self._line(f"{out} = asarray({out})")

    def _result(self, reference: Any) -> str:
        if isinstance(reference, Held):
            return self._held(reference.value)
        if isinstance(reference, Slot):
            return self._name(reference)
        if isinstance(reference, Made):
            return f"wrap({self._write(reference.of)})"
        if isinstance(reference, Copy):
            return f"wrap({self._write(reference.of)}.copy())"
        if isinstance(reference, dict):
            return "{" + ", ".join(f"{k!r}: {self._result(v)}" for k, v in reference.items()) + "}"
        parts = ", ".join(map(self._result, reference))
        if type(reference) is list:
            return f"[{parts}]"
        if hasattr(reference, "_fields"):
            kind = type(reference)
            return f"{self.names.bind(kind, kind.__name__)}({parts})"
        return f"({parts},)" if len(reference) == 1 else f"({parts})"


_DECIDED = (
    "which way the step goes here depends on a value that the step computes, so a replay cannot "
    "know it beforehand"
)


def slots_of(reference: Any) -> Iterable[int]:
    """Numbers of the slots in a nested reference."""
    if isinstance(reference, Slot):
        yield reference.number
    elif isinstance(reference, Made):
        yield from slots_of(reference.of)
    elif isinstance(reference, dict):
        for part in reference.values():
            yield from slots_of(part)
    elif isinstance(reference, (tuple, list)) and not isinstance(reference, Source):
        for part in reference:
            yield from slots_of(part)


def _unique(*references: Any) -> list[Slot]:
    """The slots in references, each once, in the order in which `slots_of` gives their numbers."""
    return [Slot(number) for number in dict.fromkeys(slots_of(references))]


def has_source(reference: Any) -> bool:
    """Whether a nested reference leads to the array of a lasting tensor."""
    if isinstance(reference, (Source, Slot)):
        return isinstance(reference, Source)
    if isinstance(reference, dict):
        return any(map(has_source, reference.values()))
    return isinstance(reference, (tuple, list)) and any(map(has_source, reference))


# --- what programs call --------------------------------------------------------------------------


def _gate(entry: Entry, live: bool, unseen: bool) -> Callable:
    """The rules of one gate as a function of its gradient and of what it kept.

    With `unseen`, no value is looked at to see whether a closed gate must be told from others.
    """
    op, kind, inputs, needs, closed = entry.about
    closed = closed and kind is not MultipleNode
    plan = entry.function
    if closed and unseen and op.elementwise:
        plan, closed = _Shutting(plan), False
    kept = [i for i, out in enumerate(entry.outs) if out is not None]
    one = kept[0] if len(kept) == 1 else None

    def node_with(params: dict) -> Any:
        node = object.__new__(TensorNode)
        node.op, node.plan, node.params = op, plan, params
        node.inputs, node.needs = inputs, needs
        return node

    def chosen(found: Sequence) -> Any:
        return found[one] if one is not None else tuple([found[i] for i in kept])

    if live:
        return lambda g, *saved, params: chosen(node_with(params).pull_raw(g, saved, needs, closed))
    pull = node_with(resolved(entry.params)).pull_raw
    if one is not None:
        return lambda g, *saved: pull(g, saved, needs, closed)[one]
    return lambda g, *saved: chosen(pull(g, saved, needs, closed))


class _Shutting:
    """Rules of an op of which a closed gate passes nothing, not even NaN (as `nodes` has it)."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan

    def pull(self, node: Any, g: Any, saved: tuple) -> list[Any]:
        """What the rules give, 0 where the gate gradient is 0 and that is no finite number."""
        return [_shut(g, found) for found in self._plan.pull(node, g, saved)]


def _shut(g: Any, found: Any) -> Any:
    if not backend.is_array(found) or found.dtype.kind != "f":
        return found
    if found.shape != g.shape:
        return nodes._shut(g, found)
    return backend.execute(_SHUT, [g, found], {})


_SHUT = Op(
    "shut",
    lambda g, x: np.where((g == 0) & ~np.isfinite(x), x.dtype.type(0), x),
    inputs=("g", "x"),
    differentiable=(False,),
)


def resolved(reference: Any) -> Any:
    """The value of a reference without slots."""
    if isinstance(reference, Held):
        return reference.value
    if isinstance(reference, Source):
        return reference.tensor._data
    if isinstance(reference, dict):
        return {key: resolved(part) for key, part in reference.items()}
    return type(reference)(map(resolved, reference))


def _spread(contribution: Any) -> Any:
    total = contribution.zeros()
    contribution.add_to(total)
    return total


def _onto(total: Any, contribution: Any) -> Any:
    return _scatter(total.copy(), contribution)


def _scatter(total: Any, contribution: Any) -> Any:
    contribution.add_to(total)
    return total


_SPREAD = {"spread": _spread, "onto": _onto, "scatter": _scatter}


def hand(leaves: list[Any], gradients: list[Any]) -> None:
    """Add finished gradients to the leaves; what only the list refers to is not copied."""
    hand_over(leaves, gradients, lambda leaf, g, mine: leaf.receive_grad(g, mine, accumulate=True))
