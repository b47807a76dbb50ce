"""The rule of a gate as text: as it stands in the source, and with its numbers filled in."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minigrad.core import Node, Op
from minigrad.draw.style import format_number
from minigrad.nodes import OutputNode
from minigrad.study.nodes import named_values, op_name

__all__ = ["filled_rule", "rule_note", "rule_text"]


def rule_text(op: Op, position: int) -> str:
    """How the gradient of one input is computed, as the op's declaration says it.

    Args:
        op: of the gate.
        position: of the input, from 0.

    Returns:
        The expression of the rule, or, for an op whose backward pass shares work between its
        inputs, what that says of itself; empty where the source is not at hand.

    >>> import minigrad
    >>> rule_text(minigrad.multiply, 0), rule_text(minigrad.sigmoid, 0)
    ('g × b', 'g × (y × (1.0 - y))')
    """
    if op.backward is not None:
        words = (op.backward.__doc__ or "").strip().partition("\n")[0]
        return words or f"the backward pass of {op.name}"
    if position >= len(op.rules):
        return ""
    found = _expression(op.rules[position])
    return "" if found is None else _readable(ast.unparse(found))


def rule_note(op: Op, position: int) -> str:
    """What the helpers say of themselves that a rule calls; empty if it calls none.

    >>> import minigrad
    >>> rule_text(minigrad.power, 0)
    'g × slope_in_base(a, b)'
    >>> rule_note(minigrad.power, 0)
    'slope_in_base(a, b): b × a**(b - 1), and 0 for a**0 at a = 0'
    """
    if op.backward is not None or position >= len(op.rules):
        return ""
    rule = op.rules[position]
    found = _expression(rule)
    notes = []
    for node in () if found is None else ast.walk(found):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = rule.__globals__.get(node.func.id)
            words = (getattr(helper, "__doc__", None) or "").strip().partition("\n")[0].rstrip(".")
            if node.func.id.startswith("_") and words:
                notes.append(_readable(f"{ast.unparse(node)}: {words}"))
    return "; ".join(notes)


def filled_rule(node: Node, position: int, g: Any, digits: int = 4) -> str:
    """The same rule with the values of one gate in the place of names.

    Numbers stand for themselves, arrays are given by their shape.

    Args:
        node: the gate.
        position: of the input, from 0.
        g: the gate gradient.
        digits: significant digits.

    >>> import minigrad
    >>> f = minigrad.scalar(4.0) * minigrad.scalar(-3.0)
    >>> filled_rule(f, 0, 1.0)
    '1 × (-3)'
    """
    op = node.op
    if op.backward is not None or position >= len(op.rules) or isinstance(node, OutputNode):
        return ""
    found = _expression(op.rules[position])
    if found is None:
        return ""
    values = {**op.defaults, **named_values(node), "g": g}
    # A copy, since the parsed source is kept.
    tree = ast.parse(ast.unparse(found), mode="eval")
    return _readable(ast.unparse(_Fill(values, digits).visit(tree)))


def gate_words(node: Node) -> str:
    """The op of a gate for a heading; what an output of several is called."""
    if isinstance(node, OutputNode):
        return f"output {node.index} of {op_name(node)}"
    return op_name(node)


def _readable(text: str) -> str:
    """As a formula: with a sign for the product, and helpers without their underscore."""
    return re.sub(r"(?<![\w.])_+(?=\w+\()", "", text.replace(" * ", " × "))


class _Fill(ast.NodeTransformer):
    """Puts values in the place of names."""

    def __init__(self, values: dict[str, Any], digits: int) -> None:
        self.values = values
        self.digits = digits

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.values:
            return node
        return ast.Name(self.words(self.values[node.id]))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        node.left, node.right = _signed(node.left), _signed(node.right)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        node.operand = _signed(node.operand)
        return node

    def words(self, value: Any) -> str:
        value = getattr(value, "_data", value)
        if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
            value = next(v for v in value if isinstance(v, np.ndarray))
        if isinstance(value, bool) or value is None:
            return str(value)
        if isinstance(value, (int, float)) or (np.shape(value) == () and _is_number(value)):
            return format_number(float(value), self.digits)
        shape = getattr(value, "shape", None)
        if shape is not None and not isinstance(value, type):
            return "⟨" + "×".join(map(str, shape)) + "⟩"
        text = str(value)
        return text if len(text) <= 24 else "…"


def _signed(node: ast.expr) -> ast.expr:
    """A negative number among signs stands in brackets."""
    if isinstance(node, ast.Name) and node.id.startswith("-"):
        return ast.Name(f"({node.id})")
    return node


def _is_number(value: Any) -> bool:
    return isinstance(value, (np.number, np.ndarray)) and value.dtype.kind in "fiu"


# --- source of a lambda --------------------------------------------------------------------------


def _expression(rule: Callable) -> ast.expr | None:
    """What a lambda, or a function of one `return`, computes; None without its source."""
    code = rule.__code__
    source = "".join(linecache.getlines(code.co_filename, rule.__globals__))
    places = [p for p in code.co_positions() if None not in p and p[3] != p[2]]
    if not source or not places:
        return None
    return _find(source, code.co_name, max(places, key=_extent))


def _extent(place: tuple) -> tuple[int, int]:
    line, last, start, stop = place
    return (last - line, stop - start)


@lru_cache(maxsize=512)
def _find(source: str, name: str, place: tuple[int, int, int, int]) -> ast.expr | None:
    line, last, start, stop = place
    best: ast.expr | None = None
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Lambda) and name == "<lambda>":
            body: ast.expr | None = node.body
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            final = node.body[-1]
            body = final.value if isinstance(final, ast.Return) else None
        else:
            continue
        if body is None or body.end_lineno is None or body.end_col_offset is None:
            continue
        around = (body.lineno, body.col_offset) <= (line, start) and (last, stop) <= (
            body.end_lineno,
            body.end_col_offset,
        )
        # Lambdas nest: the innermost around the instruction is the rule itself.
        if around and (
            best is None
            or (body.lineno, body.col_offset)
            >= (
                best.lineno,
                best.col_offset,
            )
        ):
            best = body
    return best


@lru_cache(maxsize=32)
def _parsed(source: str) -> ast.AST:
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])
