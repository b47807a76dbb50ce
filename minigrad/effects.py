"""What a step does besides computing, told to whoever records it (see `minigrad.capture`).

A captured step is replayed without running its Python.  So whatever is no operation must say what
it is: an `effect` is called again at each replay, at its place; an array that follows from shapes
alone is a `constant`; a choice that hangs on values is `decided`, and is asked anew; reading a
value is refused.  Nobody records nearly always, and then each of these asks whether a dictionary
is empty.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any, NoReturn, TypeVar

__all__ = [
    "CaptureError",
    "Live",
    "aside",
    "constant",
    "current",
    "decided",
    "effect",
    "value",
    "writing",
]

F = TypeVar("F", bound=Callable[..., Any])

recorders: dict[int, Any] = {}
"""Who records a step, by thread; empty nearly always."""

_changes = [0]


class CaptureError(RuntimeError):
    """A step cannot be captured: a replay could not be trusted to do what the step does."""


def current() -> Any:
    """The recorder of this thread where what happens is to be recorded, else None."""
    found = recorders.get(get_ident())
    return None if found is None or found.busy else found


def effect(function: F) -> F:
    """Mark a function that writes state, checks values or makes values without operations.

    While a step is recorded, a call of it becomes one line of the program, and what it computes
    inside is not looked at; each replay calls it again.  Its arguments may be tensors, raw arrays,
    numbers and constant objects, also in tuples, lists and dictionaries; it returns None, or raw
    arrays and numbers, which are then known as values of the step.

    >>> @effect
    ... def count(state):
    ...     state["steps"] += 1
    >>> state = {"steps": 0}
    >>> count(state)
    >>> state["steps"]
    1
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if recorders:
            recorder = current()
            if recorder is not None:
                return recorder.effect(function, args, kwargs)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def drawing(function: F) -> F:
    """Mark an `effect` that gives users new random numbers: one array, see `tape.Drawn`."""
    draws.add(function)
    return effect(function)


draws: set[Callable] = set()
pure: set[Callable] = set()
"""Effects that look at nothing but their arguments and write nothing: see `value`."""


def value(function: F) -> F:
    """Mark an `effect` that only computes or checks, from nothing but its arguments."""
    pure.add(function)
    return effect(function)


writers: set[Callable] = set()
"""Effects that look at, and write, nothing but elements of arrays: see `writing`."""
asides: set[Callable] = set()
"""Effects that look at no elements of arrays, and write none: see `aside`."""


def writing(function: F) -> F:
    """Mark an `effect` that only computes with arrays, and writes only into elements of them.

    They are its arguments, as they are or as what tensors hold.  So where a device can note its
    launches (CUDA graphs), a replay asks for these again without calling the function.  What it
    wrote to it says by `backend.written`.
    """
    writers.add(function)
    return effect(function)


def aside(function: F) -> F:
    """Mark an `effect` that looks at no elements of arrays and writes none, such as `zero_grad`.

    So a replay may call it before operations that stood before it, though not before other effects.
    """
    asides.add(function)
    return effect(function)


def decided(question: Callable[..., Any], *values: Any) -> Any:
    """`question(*values)`, a plain answer on which the course of the step depends.

    A replay asks it before anything else is done, and where the answer is another, that course is
    recorded too; so the question must look at nothing but its values, which must be the step's
    arguments, or follow from them by calls under `effect`.
    """
    if recorders:
        recorder = current()
        if recorder is not None:
            return recorder.decided(question, values)
    return question(*values)


def constant(array: Any) -> Any:
    """Say of a new array that it follows from shapes and settings alone; returns it."""
    if recorders:
        recorder = current()
        if recorder is not None:
            recorder.constant(array)
    return array


def alias(copy: Any, array: Any) -> Any:
    """Say of a copy that it holds what `array` holds; returns it."""
    if recorders:
        recorder = current()
        if recorder is not None:
            recorder.alias(copy, array)
    return copy


def seen(tensor: Any) -> Any:
    """A tensor's array, which is used as it is, without an operation."""
    if recorders:
        recorder = current()
        if recorder is not None:
            recorder.see(tensor)
    return tensor._data


def refuse(message: str) -> None:
    """Tell whoever records that a replay could not do what happens here."""
    recorder = current()
    if recorder is not None:
        recorder.refuse(message)


def reading(tensor: Any, how: str) -> None:
    """Refuse that the value of a tensor is read while a step is recorded.

    Raises:
        CaptureError: just then.
    """
    if recorders:
        recorder = current()
        if recorder is not None:
            recorder.reading(tensor, how)


def note(module: Any) -> None:
    """Say that a module computes now: its settings decide what it computes."""
    recorder = current()
    if recorder is not None:
        recorder.note(module)


def changed(what: str) -> None:
    """Say that something on which the course of a step may depend is no longer what it was."""
    _changes[0] += 1
    recorder = current()
    if recorder is not None:
        recorder.wrote.append(f"{user_line()}: {what}")


def changes() -> int:
    """How often `changed` was called."""
    return _changes[0]


_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OWN = (
    *(os.path.join(_HERE, name, "") for name in ("minigrad", "minigrad_nn")),
    os.path.join("site-packages", "numpy", ""),
)


def user_line() -> str:
    """`file:line` of the innermost code that is not minigrad's, and the line itself."""
    import linecache

    frame = sys._getframe(1)
    while frame.f_back is not None and _is_own(frame.f_code.co_filename):
        frame = frame.f_back
    name, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(name, line).strip()
    return f"{name}:{line}" + (f" (`{text}`)" if text else "")


def _is_own(name: str) -> bool:
    if name.startswith("<"):
        return name.startswith(("<rules", "<captured", "<frozen", "<__array"))
    return name.startswith(_OWN[:-1]) or _OWN[-1] in name


class Live(float):
    """A number that an effect gave while a step was recorded: another one at each replay.

    It may be returned, and be an operand of a tensor.  Computing with it in Python would make it a
    constant without a word, so that is refused.
    """

    __slots__ = ("plain",)
    plain: Any

    def __new__(cls, value: Any) -> Live:
        """The number `value`, which stays readable as `plain`."""
        found = super().__new__(cls, value)
        found.plain = value
        return found


def _refusing(name: str) -> Callable:
    inherited = getattr(float, name)

    def method(self: Live, *others: Any) -> Any:
        if others and hasattr(others[0], "requires_grad"):
            return NotImplemented  # the tensor's own operator takes it as it is
        recorder = current()
        if recorder is not None:
            recorder.refuse(
                "a number that changes from step to step is used in Python here, and a replay "
                "would use today's for ever: return it from the step, or compute with tensors"
            )
        return inherited(self, *others)

    return method


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs "
    "lt le gt ge eq ne bool int float round trunc floor ceil format str repr hash"
).split():
    if hasattr(float, f"__{_name}__"):
        setattr(Live, f"__{_name}__", _refusing(f"__{_name}__"))


def refused(message: str) -> NoReturn:
    """Raise `CaptureError`, with the line of the user's code at which it is."""
    raise CaptureError(f"{user_line()}: {message}")
