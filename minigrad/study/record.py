"""Remembers where in the source each node was made, and which variable it was assigned to.

Nobody pays for this but who asks: inside `recording()` each new node looks up the stack for the
line of the user's code that made it.  The name comes from the source too: an expression that is
all of the right side of an assignment has the name on the left.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import local
from types import CodeType, FrameType
from typing import Any

from minigrad import core
from minigrad.core import Node
from minigrad.nodes import Leaf, OutputNode
from minigrad.observing import Interposer, stand
from minigrad.study.nodes import node_of

__all__ = ["NOT_RECORDED", "Origin", "Recording", "last_root", "origin", "recording", "where"]

_walked = local()

NOT_RECORDED = "not recorded"
"""What stands where a source line would, for nodes made outside of `recording()`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the source a node was made.

    Attributes:
        file: path of the source file, as Python knows it.
        line: number of the line, from 1.
        function: name of the function around it.
        text: the line; empty where the source is not at hand.
        variable: the name that the result was assigned to, if the source says so.
        module: path of the innermost module whose `forward` ran, from the outermost one
            ("features.0"); None outside of modules.
    """

    file: str
    line: int
    function: str
    text: str = ""
    variable: str | None = None
    module: str | None = None

    @property
    def place(self) -> str:
        """Name of the file and number of the line, joined by a colon."""
        return f"{os.path.basename(self.file)}:{self.line}"

    def __str__(self) -> str:
        inside = "" if self.function == "<module>" else f" in {self.function}"
        module = f" (module {self.module})" if self.module else ""
        return f"{self.place}{inside}{module}" + (f": {self.text}" if self.text else "")


def origin(value: Any) -> Origin | None:
    """Where a Scalar, Tensor or node was made; None if that was not recorded."""
    return getattr(node_of(value, "origin"), "origin", None)


def where(value: Any) -> str:
    """Where a Scalar, Tensor or node was made, as text; "not recorded" if nobody did.

    >>> import minigrad
    >>> where(minigrad.scalar(1.0) * 2.0)
    'not recorded'
    """
    found = origin(value)
    return NOT_RECORDED if found is None else str(found)


@contextmanager
def recording(names: bool = True) -> Iterator[Recording]:
    """Remember source line, variable and module of each node made inside, in this thread.

    Args:
        names: also give a node without a name that of the variable it is assigned to, so that
            pictures and messages show it.

    >>> import minigrad
    >>> with recording():
    ...     x = minigrad.scalar(3.0)
    ...     y = x * x + 1.0
    >>> y.name, origin(y).variable, origin(y).text
    ('y', 'y', 'y = x * x + 1.0')
    >>> origin(y.inputs[0]).line, y.inputs[0].name
    (3, None)
    """
    recorder = Recording(names)
    try:
        with stand(recorder):
            yield recorder
    finally:
        recorder.forget()


def last_root() -> Node | None:
    """Where this thread's last backward pass inside `recording()` began; None if there was none.

    It keeps that one graph alive until the next such pass.
    """
    return getattr(_walked, "root", None)


class Recording(Interposer):
    """Writes the origin into each new node.

    Attributes:
        count: how many nodes it has seen.
    """

    def __init__(self, names: bool = True) -> None:
        self.count = 0
        self._names = names
        self._inside = _packages()
        self._last: tuple[FrameType, Any] | None = None
        self._paths: dict[int, tuple[Any, dict[int, str]]] = {}

    def forget(self) -> None:
        """Let go of frames and modules."""
        self._last = None
        self._paths.clear()

    def observe(self, order: Sequence, table: dict) -> Iterable:
        _walked.root = order[0] if order else None
        return order

    def recorded(self, node: Any, values: tuple) -> None:
        self.count += 1
        if not hasattr(type(node), "origin"):  # plain numbers in a scalar formula
            return
        called, frame = _user_frame(sys._getframe(1), self._inside)
        if frame is None:
            return
        if self._last is not None and self._last[0] is called:
            # Several nodes of one call, such as `var`: the variable holds only the last of them.
            self._unname(self._last[1])
        held = _held(frame, node)
        variable = held or _assigned(frame, node)
        module = self._module(sys._getframe(1))
        node.origin = replace(_line(frame), variable=variable, module=module)
        if self._names and variable is not None and node.name is None:
            node.name = variable
            self._last = (called, None if held else node)
        else:
            self._last = (called, None)

    def _unname(self, node: Any) -> None:
        if node is not None:
            node.name = None
            node.origin = replace(node.origin, variable=None)

    def _module(self, frame: FrameType | None) -> str | None:
        """The path of the innermost module that computes, seen from the outermost one."""
        inner: Any = None
        outer: Any = None
        while frame is not None:
            code = frame.f_code
            if code.co_name in ("forward", "__call__") and code.co_argcount:
                owner = frame.f_locals.get(code.co_varnames[0])
                if owner is not outer and hasattr(owner, "named_modules"):
                    inner = owner if inner is None else inner
                    outer = owner
            frame = frame.f_back
        if inner is None:
            return None
        root, paths = self._paths.get(id(outer), (None, {}))
        if root is not outer or id(inner) not in paths:
            paths = {id(module): path for path, module in outer.named_modules()}
            self._paths[id(outer)] = (outer, paths)
        return paths.get(id(inner)) or None


def _packages() -> tuple[str, ...]:
    """Folders whose frames are the library's, not the user's."""
    files = [core.__file__, getattr(sys.modules.get("minigrad_nn"), "__file__", None)]
    return tuple(os.path.dirname(file) + os.sep for file in files if file)


def user_line(frame: FrameType) -> str:
    """The source line of the user's code that led to a frame of the library."""
    _, found = _user_frame(frame, _packages())
    return NOT_RECORDED if found is None else str(_line(found))


def _user_frame(frame: FrameType, inside: tuple[str, ...]) -> tuple[FrameType, FrameType | None]:
    """The nearest frame outside of the library, and the one that it called."""
    called: FrameType = frame
    outer: FrameType | None = frame
    while outer is not None and outer.f_code.co_filename.startswith(inside):
        called, outer = outer, outer.f_back
    return called, outer


def _line(frame: FrameType) -> Origin:
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line, frame.f_globals).strip()
    return Origin(file, line, frame.f_code.co_name, text)


# --- names from the source -----------------------------------------------------------------------

Place = tuple[int | None, int | None, int | None, int | None]


def _held(frame: FrameType, node: Node) -> str | None:
    """The variable that holds a leaf already: a constant's is made when it is first used."""
    owner = node.owner() if isinstance(node, Leaf) and node.owner is not None else None
    if owner is None:
        return None
    return next((name for name, value in frame.f_locals.items() if value is owner), None)


def _assigned(frame: FrameType, node: Node) -> str | None:
    """The variable that what `frame` computes right now will be assigned to."""
    places = _positions(frame.f_code)
    index = frame.f_lasti // 2
    if index >= len(places):
        return None
    names = _targets(frame.f_code.co_filename, _source(frame)).get(places[index])
    if names is None:
        return None
    if isinstance(node, OutputNode):
        return names[node.index] if 1 < len(names) > node.index else None
    return names[0] if len(names) == 1 else None


@lru_cache(maxsize=1024)
def _positions(code: CodeType) -> tuple[Place, ...]:
    """Where in the source each instruction stands: line, last line, column, last column."""
    return tuple((line, last, start, stop) for line, last, start, stop in code.co_positions())


def _source(frame: FrameType) -> str:
    return "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))


@lru_cache(maxsize=64)
def _targets(filename: str, source: str) -> dict[Place, list[str]]:
    """For each expression that is assigned: the names that it is assigned to."""
    found: dict[Place, list[str]] = {}

    def assign(target: ast.expr, value: ast.AST) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
                for part, expression in zip(target.elts, value.elts, strict=True):
                    assign(part, expression)
            else:
                names = [_name(part) for part in target.elts]
                found[_place(value)] = [name or "" for name in names]
        elif (name := _name(target)) is not None:
            found[_place(value)] = [name]

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a notebook's magic, or no source at all
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            assign(node.targets[0], node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            assign(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            assign(node.target, node)
    return found


def _name(target: ast.expr) -> str | None:
    if isinstance(target, ast.Name):
        return target.id
    return target.attr if isinstance(target, ast.Attribute) else None


def _place(node: Any) -> Place:
    return (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
