"""Formulas of scalar graphs, as text that Python reads and as LaTeX.

A `Formula` is a printed expression with how tightly it binds, so that it can stand inside another
with just the brackets that keep the order of the arithmetic: evaluated as it stands, with the
engine's own functions, a formula gives what the engine computed, to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from minigrad.core import Node
from minigrad.scalar import Scalar

__all__ = ["Formula", "apply", "formula", "number", "symbol"]

_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(1, 6)


class Formula(NamedTuple):
    """An expression in print.

    Attributes:
        text: in Python's syntax; functions are minigrad's of the same name.
        latex: the same for a page.
        binds: how tightly its outermost operation binds, from 1 (a sum) to 5 (one symbol).
    """

    text: str
    latex: str
    binds: int = _ATOM


def number(value: float) -> Formula:
    """A number with all its digits.

    >>> number(-0.5).text, number(1e-20).latex
    ('-0.5', '10^{-20}')
    """
    text = repr(float(value))
    mantissa, _, exponent = text.partition("e")
    latex = mantissa.replace("inf", r"\infty").replace("nan", r"\mathrm{NaN}")
    binds = _SIGN if text.startswith("-") else _ATOM
    if exponent:
        power = f"10^{{{int(exponent)}}}"
        latex = power if mantissa == "1" else rf"{mantissa} \cdot {power}"
        return Formula(text, latex, min(binds, _PRODUCT))
    return Formula(text, latex, binds)


def symbol(name: str) -> Formula:
    r"""A variable.

    >>> print(symbol("x1").latex, symbol("w").latex, symbol("loss").latex)
    x_{1} w \mathit{loss}
    """
    match = re.fullmatch(r"([A-Za-z])_?(\d+)", name)
    if match:
        return Formula(name, f"{match[1]}_{{{match[2]}}}")
    return Formula(name, name if len(name) == 1 else rf"\mathit{{{_escaped(name)}}}")


def slope(above: Formula, below: Formula) -> Formula:
    """The symbol for the derivative of one variable by another."""
    latex = rf"\frac{{\partial {above.latex}}}{{\partial {below.latex}}}"
    return Formula(f"∂{above.text}/∂{below.text}", latex)


def total(terms: list[Formula]) -> Formula:
    """A sum, added from left to right."""
    found = terms[0]
    for term in terms[1:]:
        found = apply("add", [found, term])
    return found


def formula(node: Scalar, known: Callable[[Node], Formula | None]) -> Formula:
    """What a node was computed by, down to what is `known`; other leaves stand as numbers."""
    found = known(node)
    if found is not None:
        return found
    if node.op is None:
        return number(node._data)
    return apply(node.op.name, [formula(source, known) for source in node.inputs])


_INFIX = {
    "add": ("+", "+", _SUM),
    "subtract": ("-", "-", _SUM),
    "multiply": ("*", r"\cdot", _PRODUCT),
}
_FUNCTIONS = {
    "sigmoid": r"\sigma",
    "log": r"\ln",
    "maximum": r"\max",
    "minimum": r"\min",
    "arcsin": r"\arcsin",
    "arccos": r"\arccos",
    "arctan": r"\arctan",
} | {name: "\\" + name for name in ("exp", "sin", "cos", "tan", "sinh", "cosh", "tanh")}


def apply(name: str, parts: list[Formula]) -> Formula:
    r"""An op applied to expressions; factors and exponents of exactly 1 are left out.

    >>> q = apply("add", [symbol("x"), number(-2.0)])
    >>> apply("multiply", [q, apply("multiply", [symbol("y"), symbol("z")])]).text
    '(x + (-2.0)) * (y * z)'
    >>> print(apply("divide", [q, symbol("y")]).latex)
    \frac{x + \left(-2.0\right)}{y}
    """
    if name == "multiply" and "1.0" in (parts[0].text, parts[1].text):
        return parts[1] if parts[0].text == "1.0" else parts[0]
    if name == "power" and parts[1].text == "1.0":
        return parts[0]
    if name in _INFIX:
        sign, latex_sign, binds = _INFIX[name]
        a, b = _inside(parts[0], binds), _inside(parts[1], binds + 1, _SIGN + 1)
        return Formula(f"{a.text} {sign} {b.text}", f"{a.latex} {latex_sign} {b.latex}", binds)
    if name == "divide":
        a, b = _inside(parts[0], _PRODUCT), _inside(parts[1], _PRODUCT + 1, _SIGN + 1)
        latex = rf"\frac{{{parts[0].latex}}}{{{parts[1].latex}}}"
        return Formula(f"{a.text} / {b.text}", latex, _PRODUCT)
    if name == "negative":
        a = _inside(parts[0], _POWER)
        return Formula(f"-{a.text}", f"-{a.latex}", _SIGN)
    if name == "power":
        a, b = _inside(parts[0], _ATOM), _inside(parts[1], _ATOM)
        return Formula(f"{a.text}**{b.text}", f"{a.latex}^{{{parts[1].latex}}}", _POWER)
    if name == "square":
        a = _inside(parts[0], _ATOM)
        # One symbol times itself is shorter; the engine multiplies as well.
        text = f"{a.text} * {a.text}" if parts[0].binds == _ATOM else f"square({parts[0].text})"
        binds = _PRODUCT if parts[0].binds == _ATOM else _ATOM
        return Formula(text, f"{a.latex}^{{2}}", binds)
    if name == "sqrt":
        return Formula(f"sqrt({parts[0].text})", rf"\sqrt{{{parts[0].latex}}}")
    if name == "abs":
        return Formula(f"abs({parts[0].text})", rf"\left|{parts[0].latex}\right|")
    inner = ", ".join(part.text for part in parts)
    latex_name = _FUNCTIONS.get(name, rf"\operatorname{{{_escaped(name)}}}")
    latex_inner = ", ".join(part.latex for part in parts)
    return Formula(f"{name}({inner})", rf"{latex_name}\left({latex_inner}\right)")


def _inside(part: Formula, least: int, signed: int = 0) -> Formula:
    """In brackets where it binds less than it must; a sign after an operation always is."""
    if part.binds >= least and not (signed and part.binds == _SIGN):
        return part
    return Formula(f"({part.text})", rf"\left({part.latex}\right)")


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")
