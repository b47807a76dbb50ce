"""How much of the input each result of a forward pass sees: receptive fields, through any graph.

A convolution of extent `e` and stride `s` on a map with the jump `j` makes the window `(e - 1) * j`
longer and the jump `s * j` (Araujo and others, "Computing receptive fields of convolutional neural
networks", Distill, 2019).  Where branches meet the window is the union, and an axis that is summed
or mixed is swept as a whole.  The statistics of normalisation layers do not count: every pixel has
the same small part in them.

`windows` holds the algebra, `rules` what each operation does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..trace import Made, Trace
from .rules import RULES, Unknown
from .windows import State, Window, constant, picture

__all__ = ["Field", "fields"]


@dataclass(frozen=True)
class Field:
    """What an element of a result sees of the input, by spatial axis of the input.

    Attributes:
        size: how many places, those in the padding included.
        jump: how many places of the input two neighbours of the result are apart; None where all
            elements of the result see the same.
        start: the first place that the first element sees; negative in the padding.
        whole: whether every element sees the whole input.
    """

    size: tuple[int | float, ...]
    jump: tuple[int | float | None, ...]
    start: tuple[int | float, ...]
    whole: bool


def fields(found: Trace) -> Callable[[Any], Field | None]:
    """The receptive fields of a forward pass.

    Returns:
        A function of what made a tensor (an operation of the trace, or the number of an input). It
        gives the field on the first input that the tensor sees; None where there is no spatial
        one, or an operation on the way is not known here.
    """
    states: dict[Any, State | None] = {
        number: picture(number, shape) for number, shape in enumerate(found.inputs)
    }
    for made in found.operations:
        states[made] = _state_of(made, states)

    def field_of(maker: Any) -> Field | None:
        state = states.get(maker)
        if state is None or not state.windows:
            return None
        for axis in range(len(state.axes)):
            state, _ = state.single(axis)
        number = min(key[0] for key in state.windows)
        spatial = found.inputs[number][2:]
        windows = [state.windows.get((number, axis)) for axis in range(len(spatial))]
        if any(window is None for window in windows):
            return None
        return _field([w for w in windows if w is not None], spatial)

    return field_of


def _state_of(made: Made, states: dict[Any, State | None]) -> State | None:
    given = []
    for source, shape in zip(made.arguments, made.shapes, strict=True):
        state = constant(shape) if source is None else states.get(source)
        if state is None:
            return None
        if state.shape != shape:  # another view of the memory of a result
            state = state.forgotten(state.all_parts(), shape)
        given.append(state)
    if 0 in made.shape or not any(state.windows for state in given):
        return constant(made.shape)
    if made.op not in RULES:
        return None
    try:
        return RULES[made.op](made, given)
    except Unknown:
        return None


def _field(windows: Sequence[Window], spatial: Sequence[int]) -> Field:
    sizes, jumps, starts = [], [], []
    whole = True
    for window, length in zip(windows, spatial, strict=True):
        start, size = window.start, window.size
        moving = [jump for part, jump in window.jumps.items() if part.size > 1]
        if not moving:  # at the border of the input there is nothing more to see
            end = min(start + size, Fraction(length))
            start = max(start, Fraction(0))
            size = end - start
        whole = whole and not moving and size >= length
        sizes.append(_plain(size))
        starts.append(_plain(start))
        jumps.append(_plain(min(moving, key=abs)) if moving else None)
    return Field(tuple(sizes), tuple(jumps), tuple(starts), whole)


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)
