"""What a captured step depends on besides its arguments, and whether it is still the same."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from minigrad import effects


class Models:
    """The settings of modules as they are now; looked at again only where some setting changed."""

    def __init__(self, called: Iterable[Any]) -> None:
        found = {id(module): module for part in called for module in part.modules()}
        self.modules = list(found.values())
        self._settings = [_settings(module) for module in self.modules]
        self._seen = effects.changes()

    def changed(self) -> str | None:
        """What is no longer as it was; None if nothing is."""
        seen = effects.changes()
        if seen == self._seen:
            return None
        for module, before in zip(self.modules, self._settings, strict=True):
            now = _settings(module)
            for name in {**before, **now}:
                if name not in before or name not in now or not same(before[name], now[name]):
                    return f"{type(module).__name__}.{name} is another now"
        self._seen = seen
        return None


def _settings(module: Any) -> dict[str, Any]:
    """What a module's attributes are now; lists and dictionaries by what is in them."""
    return {name: _frozen(value) for name, value in vars(module).items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) < 64:
        return (type(value), *map(_frozen, value))
    if isinstance(value, dict) and len(value) < 64:
        return (dict, *((key, _frozen(part)) for key, part in value.items()))
    return value


def same(a: Any, b: Any) -> bool:
    """Whether it is the same object, or an equal number, text or tuple of such."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, (bool, int, float, str, np.dtype)) and a == b


def held_by(holder: Any, key: Any) -> Any:
    """What a variable holds: of a module, an object or a closure; None where there is none."""
    if isinstance(holder, dict):
        return holder.get(key)
    if isinstance(holder, list):
        return holder[key] if key < len(holder) else None
    try:
        return holder.cell_contents
    except ValueError:
        return None


# --- what a step reads besides -------------------------------------------------------------------


def _functions(step: Any) -> list[types.FunctionType]:
    """The Python function behind a step, and those of its own file that it can reach by name."""
    while isinstance(step, (functools.partial, types.MethodType)):
        step = step.func if isinstance(step, functools.partial) else step.__func__
    found: list[types.FunctionType] = []
    waiting = [step]
    while waiting:
        function = waiting.pop()
        if not isinstance(function, types.FunctionType) or function in found:
            continue
        if found and function.__module__ != found[0].__module__:
            continue
        found.append(function)
        waiting += [value for _, _, value in _read_by(function)]
    return found


def _codes(code: types.CodeType) -> list[types.CodeType]:
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [code, *[found for part in inner for found in _codes(part)]]


def _read_by(function: types.FunctionType) -> list[tuple[Any, str, Any]]:
    """Variables from outside that a function reads: where they are held, name and value."""
    found: list[tuple[Any, str, Any]] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((cell, name, cell.cell_contents))
        except ValueError:  # not set yet
            continue
    held = function.__globals__
    found += [(held, name, held[name]) for name in _names(function, "GLOBAL") if name in held]
    return found


def _names(function: types.FunctionType, kind: str) -> dict[str, None]:
    """Names that a function loads as a "GLOBAL", or as an attribute ("ATTR", "METHOD")."""
    return dict.fromkeys(
        line.argval
        for code in _codes(function.__code__)
        for line in dis.get_instructions(code)
        if line.opname == f"LOAD_{kind}"
    )


def read_by_step(step: Any) -> list[tuple[Any, Any, Any]]:
    """What a step reads from outside of itself; a replay holds only while it is the same.

    Returns:
        Where each value is held (a dictionary, a list or a cell), under which key, and the value.
    """
    functions = _functions(step)
    found = [one for function in functions for one in _read_by(function)]
    names = {name for f in functions for kind in ("ATTR", "METHOD") for name in _names(f, kind)}
    while isinstance(step, (functools.partial, types.MethodType)):
        if isinstance(step, types.MethodType):
            found += _inside(step.__self__, names)
        step = step.func if isinstance(step, functools.partial) else step.__func__
    found += [one for _, _, value in list(found) for one in _inside(value, names)]
    return [one for one in found if not isinstance(one[2], types.ModuleType)]


_PLAIN = (bool, int, float, str, type(None))


def _inside(value: Any, names: Collection[str], depth: int = 3) -> list[tuple[Any, Any, Any]]:
    """Numbers and texts in a list or dictionary; what an object holds under these names."""
    kind = type(value)
    if kind is list or kind is dict:
        if len(value) > 64 or not depth:
            return []
        items = list(enumerate(value)) if kind is list else list(value.items())
        found = [(value, key, part) for key, part in items if type(part) in _PLAIN]
        return found + [one for _, part in items for one in _inside(part, names, depth - 1)]
    if isinstance(value, (types.ModuleType, type, types.FunctionType)) or hasattr(value, "modules"):
        return []
    own = getattr(value, "__dict__", None)
    if not isinstance(own, dict):
        return []
    found = [(own, name, own[name]) for name in names if name in own]
    return found + [one for _, _, part in list(found) for one in _inside(part, names, depth - 1)]


def refuse_assignments(step: Any) -> None:
    """Refuse a step that assigns variables outside of itself, which a replay would not do.

    Raises:
        CaptureError: it does.
    """
    for function in _functions(step):
        code = function.__code__
        line = code.co_firstlineno
        for one in dis.get_instructions(code):
            line = one.starts_line if type(one.starts_line) is int else line
            if (
                one.opname == "STORE_GLOBAL"
                or (one.opname == "STORE_DEREF" and one.argval in code.co_freevars)
                or (one.opname == "STORE_ATTR" and one.argval not in _KNOWN)
            ):
                raise effects.CaptureError(
                    f"{code.co_filename}:{line}: {function.__name__} assigns {one.argval!r}, which "
                    "is outside of it; a replay runs no Python and would not: return the value "
                    "instead"
                )


_KNOWN = {"data", "grad", "name", "requires_grad"}
"""Attributes of tensors, of which a recorder hears."""
