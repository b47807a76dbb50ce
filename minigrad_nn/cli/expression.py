"""Formulas from the command line, read as a syntax tree and never evaluated by Python."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import minigrad

from .errors import InputError

__all__ = ["compute"]

LONGEST = 2_000
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: minigrad.add,
    ast.Sub: minigrad.subtract,
    ast.Mult: minigrad.multiply,
    ast.Div: minigrad.divide,
    ast.Pow: minigrad.power,
}
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, minigrad.abs),
    "cos": (1, minigrad.cos),
    "exp": (1, minigrad.exp),
    "log": (1, minigrad.log),
    "max": (2, minigrad.maximum),
    "min": (2, minigrad.minimum),
    "pow": (2, minigrad.power),
    "relu": (1, minigrad.relu),
    "sigmoid": (1, minigrad.sigmoid),
    "sin": (1, minigrad.sin),
    "sqrt": (1, minigrad.sqrt),
    "square": (1, minigrad.square),
    "tan": (1, minigrad.tan),
    "tanh": (1, minigrad.tanh),
}


def compute(text: str, values: Mapping[str, float]) -> minigrad.Scalar:
    """The scalar graph of a formula.

    Args:
        text: a formula with `+ - * / **`, brackets and the functions above; before it there may be
            steps that give names to parts, as in `q = x + y; q * z`.
        values: of the variables.

    Raises:
        InputError: it is no such formula, or a variable has no value or is not used.

    >>> compute("(x + y) * z", {"x": -2, "y": 5, "z": -4}).data
    -12.0
    """
    if len(text) > LONGEST:
        raise InputError(f"the formula has {len(text)} characters; {LONGEST} are the most")
    try:
        steps = ast.parse(text.strip(), mode="exec").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        words = error.msg if isinstance(error, SyntaxError) else "it is nested too deep"
        raise InputError(f"{_short(text)} is no formula: {words}") from None
    names: dict[str, Any] = {name: minigrad.scalar(v, name=name) for name, v in values.items()}
    used: set[str] = set()
    result: Any = None
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        match step:
            case ast.Expr(value=value) if last:
                result = _value(value, names, used)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name not in names:
                result = names[name] = _value(value, names, used)
                if isinstance(result, minigrad.Scalar) and result.name is None:
                    result.name = name
                if last:
                    used.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                raise InputError(f"{name} is given twice")
            case _:
                raise InputError(
                    f"{_short(ast.unparse(step))}: steps are `name = formula`, and the last is a "
                    "formula"
                )
    if not isinstance(result, minigrad.Scalar):
        raise InputError(f"{_short(text)} has no variable: name one, as in x**2 x=3")
    unused = [name for name in names if name not in used]
    if unused:
        raise InputError(f"the formula does not use {', '.join(unused)}")
    return result


def _value(node: ast.expr, names: Mapping[str, Any], used: set[str]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(number)
        case ast.Name(id=name) if name in names:
            used.add(name)
            return names[name]
        case ast.Name(id=name) if name in FUNCTIONS:
            raise InputError(f"{name} is a function: write {name}(...)")
        case ast.Name(id=name):
            raise InputError(f"{name} has no value: add {name}=NUMBER")
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -_number(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return minigrad.negative(_value(operand, names, used))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, names, used)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, names, used), _value(right, names, used))
        case ast.BinOp(op=ast.BitXor()):
            raise InputError(f"{_short(ast.unparse(node))}: a power is written **")
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            wanted, function = FUNCTIONS[name]
            if len(args) != wanted:
                raise InputError(f"{name} takes {wanted} argument(s), got {len(args)}")
            return function(*[_value(argument, names, used) for argument in args])
        case ast.Call(func=ast.Name(id=name)):
            raise InputError(f"{name} is no function here; there are {', '.join(FUNCTIONS)}")
    raise InputError(
        f"{_short(ast.unparse(node))} is no part of a formula: there are numbers, names, "
        f"+ - * / **, brackets, and {', '.join(FUNCTIONS)}"
    )


def _number(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{str(value)[:20]}... is too large") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
