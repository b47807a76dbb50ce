"""What a captured step depends on besides its arguments, and whether it is still the same."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad import backend, effects


class Models:
    """The settings of modules as they are now; looked at again only where some setting changed.

    And the kernels of devices: programs call them by themselves.
    """

    def __init__(self, called: Iterable[Any]) -> None:
        found = {id(module): module for part in called for module in part.modules()}
        self.modules = list(found.values())
        self._settings = [_settings(module) for module in self.modules]
        self._seen = effects.changes()
        self._kernels = backend.registrations

    def changed(self) -> str | None:
        """What is no longer as it was; None if nothing is."""
        seen = effects.changes()
        if seen == self._seen:
            return None
        if self._kernels != backend.registrations:
            return "a kernel was registered"
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
    if isinstance(holder, (Size, Contents)):
        return holder.now()
    if not isinstance(holder, types.CellType):
        return getattr(holder, key, None)
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


def read_by_step(step: Any, given: Any = ()) -> list[tuple[Any, Any, Any]]:
    """What a step reads from outside of itself; a replay holds only while it is the same.

    Args:
        step: a function, a method, or an object that is called.
        given: its arguments, of which objects may be among, with attributes of their own.

    Returns:
        Where each value is held (a dictionary, a list, a cell or an object), under which key, and
        the value.
    """
    return _Reader((step, given)).found


def read_by_module(module: Any) -> list[tuple[Any, Any, Any]]:
    """What the code of a user's own module reads besides its attributes, and what is in these."""
    if not _is_users(type(module).__module__):
        return []
    return _Reader((type(module).forward, _Parts(module))).found


class _Parts:
    """What a module's attributes hold: `Models` looks at the attributes themselves."""

    def __init__(self, module: Any) -> None:
        self.module = module


_PLAIN = (bool, int, float, str, type(None))
_MANY, _DEPTH = 64, 4
_GROWING = {"append", "appendleft", "extend", "insert", "pop", "popleft", "remove"}


class _Reader:
    """A search for all that some code can reach by the names that stand in it."""

    def __init__(self, roots: Any) -> None:
        self.found: list[tuple[Any, Any, Any]] = []
        self._names: dict[str, None] = {}
        self._met: dict[int, Any] = {}
        self._sized: list[Any] = []
        self._parts: list[tuple[Any, Any, Any]] = []
        self._stores = False
        self._objects: list[tuple[Any, int, set[str]]] = []
        for root in roots:
            self._visit(root, _DEPTH)
        looking = True
        while looking:  # names lead to objects, and objects to functions with more names
            looking = False
            for one in list(self._objects):
                looking = self._look(*one) or looking
        if not _GROWING & self._names.keys():  # what the step itself makes longer is let be
            self.found += [(Size(one), "the size of a list", len(one)) for one in self._sized]
        if not self._stores:
            self.found += self._parts

    def _hold(self, holder: Any, key: Any, value: Any, depth: int) -> None:
        if not isinstance(value, types.ModuleType):
            self.found.append((holder, key, value))
        self._visit(value, depth)

    def _visit(self, value: Any, depth: int) -> None:
        if isinstance(value, _PLAIN) or not depth or id(value) in self._met:
            return
        self._met[id(value)] = value
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self._visit(value.__func__, depth)
            self._visit(value.__self__, depth)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._visit(part, depth)
        elif type(value) in (list, dict, set, tuple):
            self._container(value, depth)
        elif isinstance(value, property):
            self._visit(value.fget, depth)
        elif isinstance(value, _Parts):
            for part in vars(value.module).values():
                if not isinstance(part, types.MethodType):
                    self._visit(part, depth - 1)
            self._objects.append((type(value.module), depth - 1, set()))
        elif isinstance(value, np.ndarray):
            if value.size <= _MANY and value.dtype != object:
                holder = Contents(value)
                self.found.append((holder, "what is in an array", holder.now()))
        elif hasattr(value, "requires_grad"):
            return
        elif hasattr(value, "modules") and not isinstance(value, (type, types.ModuleType)):
            return
        else:
            self._objects.append((value, depth - 1, set()))
            self._visit(getattr(value, "__wrapped__", None), depth)  # such as a captured step
            called = getattr(type(value), "__call__", None)  # noqa: B004
            if not isinstance(value, type) and isinstance(called, types.FunctionType):
                self._visit(called, depth)

    def _function(self, function: types.FunctionType) -> None:
        if not _is_users(function.__module__):
            return
        for kind in ("ATTR", "METHOD"):
            self._names.update(_names(function, kind))
        self._stores = self._stores or any(
            line.opname == "STORE_SUBSCR"
            for code in _codes(function.__code__)
            for line in dis.get_instructions(code)
        )
        for holder, name, value in _read_by(function):
            self._hold(holder, name, value, _DEPTH)
        defaults = function.__defaults__
        if defaults:
            self._hold(function, "__defaults__", defaults, _DEPTH)
        if function.__kwdefaults__:
            self._visit(function.__kwdefaults__, _DEPTH)

    def _container(self, value: Any, depth: int) -> None:
        if type(value) in (list, dict, set) and depth < _DEPTH + 1:
            self._sized.append(value)
        if len(value) > _MANY:
            return
        if type(value) is dict:
            items: Any = list(value.items())
        else:
            items = list(enumerate(value))
        for key, part in items:
            if type(value) in (list, dict) and type(part) in _PLAIN:
                self.found.append((value, key, part))
            elif type(value) in (list, dict) and not isinstance(part, np.ndarray):
                self._parts.append((value, key, part))
            self._visit(part, depth - 1)

    def _look(self, value: Any, depth: int, done: set[str]) -> bool:
        """Follow the names that came up since the last look; whether there were any."""
        new = [name for name in self._names if name not in done]
        done.update(new)
        own = getattr(value, "__dict__", None)
        kind = value if isinstance(value, type) else type(value)
        if isinstance(value, types.ModuleType) and not _is_users(value.__name__):
            return False
        if isinstance(value, type) and not _is_users(value.__module__):
            return False
        for name in new:
            if isinstance(own, dict) and name in own:
                self._hold(own, name, own[name], depth)
                continue
            if isinstance(value, types.ModuleType) or not _is_users(kind.__module__):
                continue
            raw = inspect.getattr_static(kind, name, None)
            if isinstance(raw, (staticmethod, classmethod)):
                raw = raw.__func__
            if isinstance(raw, (types.FunctionType, property)):
                self._visit(raw, _DEPTH)
            elif isinstance(raw, functools.cached_property):
                self._visit(raw.func, _DEPTH)
            elif isinstance(raw, types.MemberDescriptorType):
                if kind is not value:
                    self._hold(value, name, getattr(value, name, None), depth)
            elif raw is not None and not hasattr(type(raw), "__get__"):
                self._hold(value, name, raw, depth)
        return bool(new)


class Size:
    """The holder of a container's size."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of

    def now(self) -> int:
        """The size now."""
        return len(self.of)


class Contents:
    """The holder of what is in an array that the step can only read in Python."""

    __slots__ = ("of",)

    def __init__(self, of: Any) -> None:
        self.of = of

    def now(self) -> str:
        """The bytes now."""
        return repr(self.of.tobytes())


def _is_users(module: str | None) -> bool:
    """Whether code of this module is the user's: neither ours nor Python's nor a package's."""
    top = (module or "").partition(".")[0]
    if top in _OURS or (top in sys.stdlib_module_names and top != "__main__"):
        return False
    return "site-packages" not in (getattr(sys.modules.get(top), "__file__", None) or "")


_OURS = {"minigrad", "minigrad_nn", "numpy", "builtins"}


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
