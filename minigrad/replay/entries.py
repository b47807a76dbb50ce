"""What a recorder writes down, and whether two runs of a step wrote the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad import backend
from minigrad.replay.surroundings import held_by, same
from minigrad.tensor import Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.dtype, np.generic)


class Slot(NamedTuple):
    """A value of the step by its number, and what to call it."""

    number: int
    name: str = "v"


class Held:
    """A value that lasts: the same object in every run; or equal, where it follows from shapes."""

    __slots__ = ("array", "by_value", "value")

    def __init__(self, value: Any, by_value: bool = False) -> None:
        self.value = value
        self.by_value = by_value
        self.array = backend.is_array(value)

    def alike(self, other: Held) -> bool:
        """Whether another run had the same."""
        a, b = self.value, other.value
        if a is b:
            return True
        if self.array or type(a) is not type(b):
            if not (self.by_value and other.by_value) or not self.array or not other.array:
                return False
            device = backend.device_of(a)
            a, b = device.to_numpy(a), backend.device_of(b).to_numpy(b)
            return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
        if isinstance(a, _PLAIN):
            return repr(a) == repr(b)
        if isinstance(a, Tensor):
            return False
        return bool(a == b)


class Source(NamedTuple):
    """The array of a lasting tensor."""

    tensor: Any


class Made(NamedTuple):
    """A tensor around a value of the step: how effects get theirs."""

    of: Any


class Copy(NamedTuple):
    """A tensor around a copy of a constant: what a step returns must not be written into."""

    of: Any


class Entry(NamedTuple):
    """One line of the program.

    Attributes:
        kind: "op", "pull", "effect", "sum", "add", "spread", "grad", "hand", "begin" or "end".
        name: what it is called.
        function: what is called.
        args, params: references to arguments: nested tuples, lists and dicts of `Slot`, `Held`,
            `Source` and `Made`.
        outs: the slots that it fills, None for what is not kept.
        about: what else describes it; alike in all runs.
        where: the user's line.
        shapes: of what it gives, for the reader.
    """

    kind: str
    name: str
    function: Any
    args: tuple
    params: dict[str, Any]
    outs: tuple
    about: Any = None
    where: str = ""
    shapes: tuple = ()


class Decision(NamedTuple):
    """What was asked of values, and the answer: a replay holds only where it is the same."""

    question: Callable
    args: tuple
    answer: Any
    after: int
    where: str


def varies(reference: Any) -> bool:
    """Whether a reference leads to values of the step."""
    if isinstance(reference, Slot):
        return True
    if isinstance(reference, (Source, Held)):
        return isinstance(reference, Source)
    if isinstance(reference, dict):
        return any(map(varies, reference.values()))
    return isinstance(reference, (tuple, list)) and any(map(varies, reference))


# --- two runs ------------------------------------------------------------------------------------


def differs(one: Any, other: Any) -> str | None:
    """Where two runs of a step did not do the same, told to the user; None if they did."""
    for a, b in zip(one.entries, other.entries, strict=False):
        if (a.kind, a.name) != (b.kind, b.name) or a.outs != b.outs:
            return f"{b.where}: {a.name} was computed here in one run, {b.name} in the next"
        if len(a.args) != len(b.args) or a.params.keys() != b.params.keys() or a.about != b.about:
            return f"{b.where}: {a.name} was computed in another way in each of two runs"
        if a.function is not b.function and a.kind in ("op", "effect"):
            return f"{b.where}: {a.name} was computed by another function in each of two runs"
        for i, (left, right) in enumerate(zip(a.args, b.args, strict=True)):
            if not alike(left, right):
                return f"{b.where}: argument {i} of {a.name} {_unlike(left, right)}"
        for name in a.params:
            if not alike(a.params[name], b.params[name]):
                return f"{b.where}: {name} of {a.name} {_unlike(a.params[name], b.params[name])}"
    if len(one.entries) != len(other.entries):
        return "one run did more than the next"
    if [d.answer for d in one.decisions] != [d.answer for d in other.decisions]:
        return "the step took one course in one run, and another in the next"
    if not alike(one.result, other.result):
        return f"what the step returned {_unlike(one.result, other.result)}"
    return None


def alike(a: Any, b: Any) -> bool:
    """Whether two references mean the same."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Held):
        return a.alike(b)
    if isinstance(a, Slot):
        return a == b
    if isinstance(a, Source):
        return a.tensor is b.tensor
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    return len(a) == len(b) and all(map(alike, a, b))


def _unlike(a: Any, b: Any) -> str:
    if isinstance(b, dict) and isinstance(a, dict):
        a, b = tuple(a.values()), tuple(b.values())
    if isinstance(b, (tuple, list)) and not isinstance(b, (Slot, Source)) and type(a) is type(b):
        for left, right in zip(a, b, strict=False):
            if not alike(left, right):
                return _unlike(left, right)
    if isinstance(b, Held) and b.array:
        return (
            "is an array that is made anew in each run, by other means than minigrad's operations; "
            "pass it to the step as an argument, or make it once, before"
        )
    if isinstance(a, Held) and isinstance(b, Held):
        return (
            f"was {a.value!r} in one run and {b.value!r} in the next; a replay would keep one of "
            "them: pass it to the step as a tensor or an argument"
        )
    return "came from elsewhere in each of two runs"


def is_past(one: Any) -> bool:
    """Whether what a run met is no longer what it was."""
    return (
        one.state.changed() is not None
        or any(t._data is not data or t._requires != r for t, data, r in one.tensors.values())
        or any(not same(value, held_by(*place)) for *place, value in one.surroundings)
    )
