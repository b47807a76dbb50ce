"""How a picture looks: colours, symbols of gates, numbers as text, and widths of text.

Values are dark green and stand above their wire, gradients are a lighter red and stand below it,
local gradients are blue.  The colours differ in lightness as well as in hue, and the place says
the same, so the picture can be read without telling red from green.
"""

from __future__ import annotations

import math
import unicodedata

__all__ = [
    "COLOURS",
    "FONT_FAMILY",
    "clean",
    "enclosed",
    "format_number",
    "gate_symbol",
    "text_width",
]

COLOURS = {
    "value": "#00572a",
    "gradient": "#d8182c",
    "local": "#1d5fc4",
    "name": "#1c1c1c",
    "muted": "#6b6b6b",
    "wire": "#4d4d4d",
    "gate": "#eef1f7",
    "outline": "#3b4252",
    "leaf": "#fff6d6",
    "paper": "#ffffff",
}
"""What each colour is for.  All text has a contrast of at least 4.5 to the paper."""

FONT_FAMILY = "DejaVu Sans, Verdana, Geneva, sans-serif"
"""DejaVu Sans comes with this package for PNG; Verdana has the same widths elsewhere."""

SYMBOLS = {
    "add": "+",
    "subtract": "\N{MINUS SIGN}",
    "multiply": "×",
    "divide": "÷",
    "negative": "neg",
    "power": "^",
    "square": "x²",
    "sqrt": "√",
    "abs": "|x|",
    "maximum": "max",
    "minimum": "min",
    "sigmoid": "σ",
    "matmul": "@",
    "sum": "Σ",
    "prod": "Π",
}
"""Signs for ops that have one; any other op goes by its name."""

_INFIX = {"add", "subtract", "multiply", "divide", "power"}


def format_number(value: float, digits: int = 4) -> str:
    """A number as short text with `digits` significant digits.

    >>> format_number(-12.0), format_number(0.196611933), format_number(1.5e-9)
    ('-12', '0.1966', '1.5e-9')
    """
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    if value == int(value) and abs(value) < 10 ** max(digits, 6):
        return str(int(value))
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def enclosed(number: str) -> str:
    """A number as it stands behind a sign: negative ones in brackets.

    >>> enclosed("2"), enclosed("-2")
    ('2', '(-2)')
    """
    return f"({number})" if number.startswith("-") else number


def gate_symbol(
    op: str, arity: int = 1, constants: tuple[tuple[int, float], ...] = (), digits: int = 4
) -> str:
    """What stands in a gate, with arguments that are plain numbers folded in.

    Args:
        op: name of the op.
        arity: how many arguments it was given, constants included.
        constants: (position, number) of each plain number among them.
        digits: significant digits of a folded number.

    >>> gate_symbol("multiply", 2), gate_symbol("multiply", 2, ((1, -1.0),))
    ('×', '× -1')
    >>> gate_symbol("divide", 2, ((0, 1.0),)), gate_symbol("maximum", 2, ((1, 0.0),))
    ('1/x', 'max(·, 0)')
    """
    sign = SYMBOLS.get(op, op)
    if not constants:
        return sign
    numbers = {position: format_number(number, digits) for position, number in constants}
    if arity == 2 and len(numbers) == 1 and op in _INFIX:
        ((position, number),) = numbers.items()
        if op in ("add", "multiply") or (position == 1 and op in ("subtract", "divide")):
            return f"{sign} {number}"
        if op == "power" and position == 1:
            return f"x{_SUPERSCRIPT[number]}" if number in _SUPERSCRIPT else f"x^{number}"
        if op == "divide":
            return f"{number}/x"
        return f"{number} {sign} ·"
    return f"{sign}({', '.join(numbers.get(i, '·') for i in range(arity))})"


_SUPERSCRIPT = {"2": "²", "3": "³", "4": "⁴", "5": "⁵", "-1": "⁻¹", "-2": "⁻²"}

# Advance widths of DejaVu Sans in thousandths of the font size: printable ASCII, then the rest
# that gates and labels use.  Text is measured without a font library, and the same everywhere.
_ASCII = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636,
    636, 636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698,
    770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732,
    684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635,
    634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592,
    525, 636, 337, 636, 838,
)  # fmt: skip
_OTHER = {
    "×": 838, "\N{MINUS SIGN}": 838, "÷": 838, "√": 637, "Σ": 632, "σ": 634, "∂": 517,
    "\N{DOUBLE VERTICAL LINE}": 500, "±": 838, "·": 318, "…": 1000, "∇": 669, "Π": 752, "²": 401,
    "³": 401, "μ": 636, "→": 838,
}  # fmt: skip


def text_width(text: str, size: float) -> float:
    """Width of one line of text in the picture's font at `size`, in the unit of `size`."""
    total = 0
    for character in text:
        code = ord(character)
        if 32 <= code < 127:
            total += _ASCII[code - 32]
        elif character in _OTHER:
            total += _OTHER[character]
        elif unicodedata.combining(character):
            continue
        else:
            # Full-width scripts fill a square; 0.7 is on the wide side for all others.
            total += 1000 if unicodedata.east_asian_width(character) in "WF" else 700
    return total * size / 1000


def shorten(text: str, limit: int = 32) -> str:
    """One line of at most `limit` characters, with control characters shown as spaces."""
    line = " ".join("".join(c if printable(c) else " " for c in text).split())
    if len(line) <= limit:
        return line
    return f"{line[: limit - 1]}…"


def printable(character: str) -> bool:
    """Whether a character may stand in XML text and has a shape of its own or is a space."""
    return character == " " or not unicodedata.category(character).startswith(("C", "Z"))


def clean(text: str) -> str:
    """Text that may stand in XML: what it cannot hold becomes a space."""
    return "".join(c if printable(c) or c == "\u2003" else " " for c in text)
