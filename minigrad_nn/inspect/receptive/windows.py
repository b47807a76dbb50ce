"""Intervals of the input that move with the place of an element, and axes that keep their order.

The window of an element along one axis of the input begins at `start + sum of jump * index` and is
`size` long.  Reshaping groups and splits axes, so an axis is a product of parts, and a window moves
with the index of each part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

__all__ = [
    "Axis",
    "Part",
    "State",
    "Window",
    "aligned",
    "axis_of",
    "constant",
    "picture",
    "size_of",
    "stepped",
]


class Part:
    """An axis, or a factor of one: reshaping groups and splits axes without mixing their places."""

    def __init__(self, size: int) -> None:
        self.size = size


@dataclass(frozen=True)
class Window:
    """An interval along an axis of the input that moves by `jumps` with the index of each part."""

    start: Fraction
    size: Fraction
    jumps: dict[Part, Fraction] = field(default_factory=dict)

    def swept(self, parts: Iterable[Part]) -> Window:
        """What is seen from all places along some parts together."""
        start, size, jumps = self.start, self.size, dict(self.jumps)
        for part in parts:
            way = jumps.pop(part, Fraction(0)) * (part.size - 1)
            start, size = start + min(way, Fraction(0)), size + abs(way)
        return Window(start, size, jumps)

    def moved(self, part: Part, new: Part | None, offset: Any, step: Any) -> Window:
        """With `offset + step * index of new` in the place of the index of a part."""
        jump = self.jumps.get(part)
        if jump is None:
            return self
        jumps = {p: j for p, j in self.jumps.items() if p is not part}
        if new is not None and step:
            jumps[new] = jump * Fraction(step)
        return Window(self.start + jump * Fraction(offset), self.size, jumps)

    def widened(self, part: Part, places: Any) -> Window:
        """Seen from so many more neighbours behind each place along a part."""
        way = self.jumps.get(part, Fraction(0)) * Fraction(places)
        return replace(self, start=self.start + min(way, Fraction(0)), size=self.size + abs(way))

    def united(self, other: Window) -> Window:
        """Both together."""
        first, second = (self, other) if self.size >= other.size else (other, self)
        low = high = Fraction(0)
        for part in {*first.jumps, *second.jumps}:
            apart = second.jumps.get(part, Fraction(0)) - first.jumps.get(part, Fraction(0))
            low += min(apart * (part.size - 1), Fraction(0))
            high += max(apart * (part.size - 1), Fraction(0))
        start = min(first.start, second.start + low)
        end = max(first.start + first.size, second.start + second.size + high)
        return Window(start, end - start, first.jumps)


Axis = tuple[Part, ...]
Key = tuple[int, int]


@dataclass(frozen=True)
class State:
    """A tensor: the parts of its axes, and a window for each axis of an input that it sees."""

    axes: tuple[Axis, ...]
    windows: dict[Key, Window] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(size_of(axis) for axis in self.axes)

    def each(self, change: Callable[[Window], Window], axes: Iterable[Axis]) -> State:
        """Other axes, and all windows changed."""
        return State(tuple(axes), {key: change(w) for key, w in self.windows.items()})

    def swept(self, axis: int, size: int) -> State:
        """An axis that is mixed, and has another size afterwards."""
        axis %= len(self.axes)
        parts = self.axes[axis]
        return self.put(axis, axis_of(size), lambda w: w.swept(parts))

    def forgotten(self, parts: Sequence[Part], shape: Sequence[int]) -> State:
        """Parts that are mixed, in a tensor whose axes have nothing to do with those before."""
        return self.each(lambda w: w.swept(parts), constant(shape).axes)

    def put(
        self, axis: int, parts: Axis, change: Callable[[Window], Window] = lambda w: w
    ) -> State:
        """Another axis in the place of one."""
        return self.each(change, (*self.axes[:axis], parts, *self.axes[axis + 1 :]))

    def single(self, axis: int) -> tuple[State, Part]:
        """With an axis as one part, and that part.

        What was split before comes together again, and copies beside each other stand between
        their originals; in any other order a place along the axis says nothing.
        """
        parts = self.axes[axis]
        if len(parts) == 1:
            return self, parts[0]
        new = Part(size_of(parts))
        if not parts:
            return self.put(axis, (new,)), new
        inner = [size_of(parts[i + 1 :]) for i in range(len(parts))]

        def even(window: Window) -> bool:
            jumps = [window.jumps.get(part, Fraction(0)) for part in parts]
            split = all(jump == jumps[-1] * n for jump, n in zip(jumps, inner, strict=True))
            return split or not any(jumps[1:])

        def change(window: Window) -> Window:
            kept = {p: j for p, j in window.jumps.items() if p not in parts[1:]}
            window = replace(window, jumps=kept)
            return window.moved(parts[0], new, 0, Fraction(1, inner[0]))

        if all(even(window) for window in self.windows.values()):
            return self.put(axis, (new,), change), new
        return self.put(axis, (new,), lambda w: w.swept(parts)), new

    def all_parts(self) -> list[Part]:
        """The parts of all axes, in order."""
        return [part for axis in self.axes for part in axis]


def size_of(parts: Axis) -> int:
    """How many places an axis has."""
    return math.prod(part.size for part in parts)


def axis_of(size: int) -> Axis:
    """A new axis that no window moves with; one of size 1 has no part."""
    return () if size == 1 else (Part(size),)


def constant(shape: Sequence[int]) -> State:
    """A tensor that sees nothing of the input."""
    return State(tuple(axis_of(size) for size in shape))


def picture(number: int, shape: Sequence[int]) -> State:
    """An input `(N, C, *spatial)`: each pixel sees itself."""
    state = State(tuple((Part(size),) for size in shape))
    windows = {
        (number, axis): Window(Fraction(0), Fraction(1), {state.axes[axis + 2][0]: Fraction(1)})
        for axis in range(len(shape) - 2)
    }
    return State(state.axes, windows)


def aligned(states: Sequence[State], shape: Sequence[int]) -> State:
    """Tensors that are broadcast to one shape and meet there, element by element."""
    states = [state for state in states if state.windows]
    states = [replace(s, axes=((),) * (len(shape) - len(s.axes)) + s.axes) for s in states]
    axes: list[Axis] = []
    for place, size in enumerate(shape):
        found = {state.axes[place] for state in states if size_of(state.axes[place]) == size}
        if size == 1 or len(found) == 1:
            axes.append(next(iter(found), ()))
            continue
        common = Part(size)
        axes.append((common,))
        for i, state in enumerate(states):
            if size_of(state.axes[place]) == size:
                one, part = state.single(place)
                move = partial(Window.moved, part=part, new=common, offset=0, step=1)
                states[i] = one.put(place, (common,), move)
    windows: dict[Key, Window] = {}
    for state in states:
        for key, window in state.windows.items():
            windows[key] = windows[key].united(window) if key in windows else window
    return State(tuple(axes), windows)


def stepped(state: State, axis: int, size: int, wider: Any, offset: Any, step: Any) -> State:
    """An axis read in windows: of `wider` more places, from `offset` on, `step` apart."""
    state, part = state.single(axis)
    new = axis_of(size)

    def change(window: Window) -> Window:
        wide = window.widened(part, wider)
        return wide.moved(part, new[0] if new else None, offset, step)

    return state.put(axis, new, change)
