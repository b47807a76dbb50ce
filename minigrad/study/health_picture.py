"""Pictures of the health of gradients, by matplotlib: along the depth, and over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from minigrad.draw.style import shorten

__all__ = ["plot_health", "plot_history"]

MARKS = {
    "dead relu": ("X", "#d8182c"),
    "saturated": ("s", "#8a3ffc"),
    "vanishing": ("v", "#1d5fc4"),
    "exploding": ("^", "#b35900"),
    "no gradient": ("X", "#d8182c"),
    "not finite": ("*", "#000000"),
}
"""The shape says the same as the colour."""

SHOWN = 24
"""So many names fit on an axis."""


def plot_health(found: Any, axes: Any = None) -> Any:
    """The norm of the gradient along the gates of a `Health`, from the loss down."""
    from matplotlib import pyplot as plt

    figure = None
    if axes is None:
        figure, axes = plt.subplots(figsize=(max(6.4, 0.5 * min(len(found.gates), SHOWN)), 4.8))
    values = [gate.gate_gradient for gate in found.gates]
    places = range(len(values))
    shown = [v if v > 0 and math.isfinite(v) else math.nan for v in values]
    axes.plot(places, shown, "-o", color="#3b4252", markersize=4, label="gate gradient")
    axes.set_yscale("log")
    by_name = {gate.name: i for i, gate in enumerate(found.gates)}
    drawn = set()
    for finding in found.findings:
        place = by_name.get(finding.where)
        if place is None:  # a leaf: marked at the last gate on its way
            way = found.way_to(finding.where)
            place = by_name.get(way[0][0].name) if way else None
        if place is None or math.isnan(shown[place]):
            continue
        mark, colour = MARKS.get(finding.kind, ("D", "#6b6b6b"))
        label = finding.kind if finding.kind not in drawn else None
        drawn.add(finding.kind)
        axes.plot([place], [shown[place]], mark, color=colour, markersize=12, label=label)
    step = max(1, math.ceil(len(values) / SHOWN))
    ticks = list(places)[::step]
    axes.set_xticks(ticks, [_label(found.gates[i]) for i in ticks], rotation=50, ha="right")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("norm of the gradient")
    axes.set_xlabel("from the loss down")
    axes.grid(True, axis="y", alpha=0.3)
    axes.legend(fontsize=9)
    figure = figure or axes.figure
    figure.tight_layout()
    return figure


def _label(gate: Any) -> str:
    words = gate.name if gate.op in gate.name else f"{gate.op} {gate.name}"
    return shorten(words, 22)


def plot_history(rows: Sequence[Mapping[str, Any]], axes: Any = None) -> Any:
    """Update-to-weight ratios and norms of gradients over time.

    Args:
        rows: each with `step`, `gradients` and `updates`, mappings from parameters to numbers.
        axes: two axes to draw on; new ones by default.
    """
    from matplotlib import pyplot as plt

    figure = None
    if axes is None:
        figure, axes = plt.subplots(1, 2, figsize=(12, 4.4), sharex=True, layout="constrained")
    names = list(rows[-1]["gradients"]) if rows else []
    styles = ["-", "--", "-.", ":"]
    map_ = plt.get_cmap("viridis")
    for axis, kind, title in (
        (axes[0], "gradients", "norm of the gradient"),
        (axes[1], "updates", "update / weight"),
    ):
        for i, name in enumerate(names):
            points = [(row["step"], row[kind].get(name, math.nan)) for row in rows]
            points = [(step, value) for step, value in points if value and math.isfinite(value)]
            if points:
                axis.plot(
                    *zip(*points, strict=True),
                    styles[i % len(styles)],
                    color=map_(0.75 * i / max(1, len(names) - 1)),
                    label=name,
                )
        if axis.lines:
            axis.set_yscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.grid(True, alpha=0.3)
    axes[1].axhline(1e-3, color="#6b6b6b", linewidth=1, linestyle=(0, (2, 4)))
    if len(names) <= SHOWN:
        figure = figure or axes[0].figure
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure or axes[0].figure
