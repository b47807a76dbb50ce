"""What stands in the boxes of a module graph: names, shapes, and numbers that can be compared."""

from __future__ import annotations

from minigrad.draw.scene import shape_text
from minigrad.draw.style import shorten

from .tree import METRICS, Part

__all__ = ["amount", "describe", "lines_of", "metric_line"]


def amount(value: float, metric: str) -> str:
    """A number with its unit, short.

    >>> amount(85162752, "multiply_adds"), amount(450, "parameters")
    ('85.2 M multiply-adds', '450 parameters')
    >>> amount(602112, "bytes"), amount(0.00123, "seconds")
    ('602 kB', '1.23 ms')
    """
    if metric == "seconds":
        for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
            if value >= scale or unit == "µs":
                return f"{value / scale:.3g} {unit}"
    for letter, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # So that 999.7 k is not shown as 1e+03 k.
        if value >= 0.9995 * scale and (letter != "k" or value >= 9999.5 or metric == "bytes"):
            short = f"{value / scale:.3g} {letter}"
            break
    else:
        short = f"{int(value):,}"
    if metric == "bytes":
        return f"{short}B" if short[-1].isalpha() else f"{short} B"
    return f"{short} {METRICS[metric]}"


def metric_line(part: Part, metric: str, total: float) -> str:
    """A part's number of one metric, and its share of the whole."""
    value = getattr(part, metric)
    share = f" · {100 * value / total:.0f} %" if total and 0 < value < total else ""
    return amount(value, metric) + share if value else ""


def lines_of(part: Part) -> list[tuple[list[str], float]]:
    """The lines of a closed box: for each what it may say, and its font size."""
    called = f" × {part.calls}" if part.calls > 1 else ""
    lines = [([f"{part.title}{called}  {part.name}".rstrip()], 15.0)]
    if part.details and part.kind == "module" and not part.children:
        lines.append(([shorten(part.details, 40)], 11.0))
    if part.shape:
        lines.append(([shape_text(part.shape)], 12.0))
    options = [metric_line(part, metric, 2.0 * getattr(part, metric)) for metric in METRICS]
    if any(options) and part.kind != "operation":
        lines.append((options, 11.0))
    return lines


def describe(part: Part) -> str:
    """A part in one sentence, for tooltips and those who do not see the picture."""
    words = [part.title]
    if part.path:
        words[0] += f" {part.path}"
    if part.calls > 1:
        words.append(f"{part.calls} calls")
    if part.settings:
        words.append(part.settings)
    if part.shape:
        words.append(f"gives {shape_text(part.shape)}")
    words += [amount(getattr(part, m), m) for m in METRICS if getattr(part, m)]
    return ", ".join(words)
