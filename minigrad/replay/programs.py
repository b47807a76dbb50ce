"""A recorded step as straight-line Python: written, compiled, and readable.

What a `Recorder` wrote down becomes the source of one function of raw arrays.  Each value is a
variable that is deleted after its last use, so a replay holds no more memory than the step did.
"""

from __future__ import annotations

import itertools
import keyword
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import backend, effects
from minigrad.core import hand_over
from minigrad.nodes import MultipleNode, TensorNode
from minigrad.replay.entries import Copy, Entry, Held, Made, Slot, Source
from minigrad.replay.surroundings import Contents, Size
from minigrad.replay.tape import Recorder
from minigrad.tensor import Tensor

# Here a CUDA graph would begin: a program launches the same kernels on the same parameters each
# time, so its run could be captured by the driver, given buffers that stay where they are.

_COMMENT, _WIDTH = 72, 100
"""The column at which shapes stand, and how wide a line may be."""


class Diverged(Exception):
    """A question of the step has another answer now; nothing was done yet."""


def _kind(array: Any) -> str:
    return type(array).__name__


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


class Program:
    """One course of a step, for arguments of one kind.

    Attributes:
        source: the Python that a replay runs.
        replays: how often it ran.
    """

    def __init__(self, recorder: Recorder, inputs: Sequence[str]) -> None:
        self.replays = self.used = 0
        writer = _Writer(recorder, inputs)
        self.source = writer.source
        self.run: Callable[..., Any] = _compiled(self.source, writer.names.scope)["replay"]
        self._models = recorder.state
        tensors = _tensors(recorder, self._models.modules).values()
        self._holds = _guard(tensors, recorder.surroundings)

    def __str__(self) -> str:
        return self.source

    def misfit(self) -> str | None:
        """Why it may not be replayed now; None where it may."""
        return self._models.changed() or self._holds()


def _tensors(recorder: Recorder, modules: Iterable[Any]) -> dict[int, tuple[Any, Any, bool]]:
    """Lasting tensors with their arrays: those that the step used, and all of its modules."""
    found = dict(recorder.tensors)
    for module in modules:
        for tensor in vars(module).values():
            if isinstance(tensor, Tensor):
                found.setdefault(id(tensor), (tensor, tensor._data, tensor._requires))
    return found


def _guard(tensors: Iterable[tuple], surroundings: Sequence[tuple]) -> Callable[[], str | None]:
    """A compiled function that tells which lasting value is another now, or None."""
    names = Names()
    lines = ["def holds():"]
    for tensor, array, requires in tensors:
        t, a = names.bind(tensor, "t"), names.bind(array, "a")
        label = f"the tensor {tensor.name}" if tensor.name else f"a tensor of shape {array.shape}"
        lines.append(f"    if {t}._data is not {a} or {t}._requires is not {requires}:")
        lines.append(f"        return {f'{label} holds another array, or requires_grad changed'!r}")
        if requires:
            lines.append(f"    if {t}._node is not None and {t}._node.hooks:")
            lines.append(f"        return {f'{label} has hooks now'!r}")
    for holder, key, value in surroundings:
        h, v = names.bind(holder, "h"), names.bind(value, "k")
        now = f"{h}.cell_contents"
        if isinstance(holder, dict):
            now = f"{h}.get({names.bind(key, 'key')})"
        elif isinstance(holder, list):
            now = f"{h}[{key}] if {key} < len({h}) else None"
        elif isinstance(holder, (Size, Contents)):
            now = f"{h}.now()"
        elif not isinstance(holder, types.CellType):
            now = f"getattr({h}, {key!r}, None)"
        name = names.fresh("now")
        test = f"{name} is not {v}"
        if isinstance(value, (int, float, str)):
            test += f" and (type({name}) is not type({v}) or {name} != {v})"
        lines.append(f"    {name} = {now}")
        lines.append(f"    if {test}:")
        lines.append(f"        return {f'{key} is another now'!r}")
    lines.append("    return None")
    return _compiled("\n".join(lines) + "\n", names.scope)["holds"]


def _compiled(source: str, scope: dict[str, Any]) -> dict[str, Any]:
    import linecache

    name = f"<captured step {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), scope)
    return scope


_numbers = itertools.count(1)


class _Writer:
    """Writes one program."""

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
        self._order = self._ordered()
        last: dict[int, int] = {}
        for place, entry in enumerate(self._order):
            for number in _slots_of((entry.args, entry.params)):
                last[number] = place
        for number in _slots_of(self._recorder.result):
            last[number] = len(self._order)
        for slot in self._recorder.inputs:
            last[slot.number] = len(self._order)  # the caller holds them anyway
        return last

    def _ordered(self) -> list[Entry]:
        """Entries in order, those that decide first; no looks at gradients that nobody uses."""
        entries = self._recorder.entries
        makers = {out.number: e for e in entries for out in e.outs if out is not None}
        first: set[int] = set()
        given = {slot.number for slot in self._recorder.inputs}

        def settle(reference: Any, where: str) -> None:
            if _has_source(reference):
                raise effects.CaptureError(f"{where}: {_DECIDED}")
            for number in _slots_of(reference):
                if number in given:
                    continue
                entry = makers[number]
                if entry.kind != "effect" or entry.function not in effects.pure:
                    raise effects.CaptureError(f"{where}: {_DECIDED}")
                first.add(id(entry))
                settle((entry.args, entry.params), where)

        for decision in self._recorder.decisions:
            settle(decision.args, decision.where)
        used = {n for e in entries for n in _slots_of((e.args, e.params))}
        used.update(_slots_of(self._recorder.result))
        entries = [e for e in entries if e.kind != "grad" or e.outs[0].number in used]
        ahead = [e for e in entries if id(e) in first]
        asked = [
            Entry("decide", "decide", d.question, d.args, {}, (), d.answer, d.where)
            for d in self._recorder.decisions
        ]
        return ahead + asked + [e for e in entries if id(e) not in first]

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
        for place, entry in enumerate(self._order):
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
        self._hand(waiting, len(self._order))
        self._indent = "    "
        self._line(f"return {self._result(self._recorder.result)}")

    def _forget(self, place: int, *entries: Entry) -> None:
        gone: dict[str, None] = {}
        for entry in entries:
            for number in _slots_of((entry.args, entry.params)):
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
        live = any(_slots_of(entry.params))
        function = _gate(entry, live)
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


def _slots_of(reference: Any) -> Iterable[int]:
    """Numbers of the slots in a nested reference."""
    if isinstance(reference, Slot):
        yield reference.number
    elif isinstance(reference, Made):
        yield from _slots_of(reference.of)
    elif isinstance(reference, dict):
        for part in reference.values():
            yield from _slots_of(part)
    elif isinstance(reference, (tuple, list)) and not isinstance(reference, Source):
        for part in reference:
            yield from _slots_of(part)


def _has_source(reference: Any) -> bool:
    if isinstance(reference, (Source, Slot)):
        return isinstance(reference, Source)
    if isinstance(reference, dict):
        return any(map(_has_source, reference.values()))
    return isinstance(reference, (tuple, list)) and any(map(_has_source, reference))


# --- what programs call --------------------------------------------------------------------------


def _gate(entry: Entry, live: bool) -> Callable:
    """The rules of one gate as a function of its gradient and of what it kept."""
    op, kind, inputs, needs, closed = entry.about
    closed = closed and kind is not MultipleNode
    kept = [i for i, out in enumerate(entry.outs) if out is not None]
    one = kept[0] if len(kept) == 1 else None

    def node_with(params: dict) -> Any:
        node = object.__new__(TensorNode)
        node.op, node.plan, node.params = op, entry.function, params
        node.inputs, node.needs = inputs, needs
        return node

    def chosen(found: Sequence) -> Any:
        return found[one] if one is not None else tuple([found[i] for i in kept])

    if live:
        return lambda g, *saved, params: chosen(node_with(params).pull_raw(g, saved, needs, closed))
    pull = node_with(_resolved(entry.params)).pull_raw
    if one is not None:
        return lambda g, *saved: pull(g, saved, needs, closed)[one]
    return lambda g, *saved: chosen(pull(g, saved, needs, closed))


def _resolved(reference: Any) -> Any:
    """The value of a reference without slots."""
    if isinstance(reference, Held):
        return reference.value
    if isinstance(reference, Source):
        return reference.tensor._data
    if isinstance(reference, dict):
        return {key: _resolved(part) for key, part in reference.items()}
    return type(reference)(map(_resolved, reference))


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
