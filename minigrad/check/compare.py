"""Differences of functions of arrays, compared with what their rules compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from minigrad.check.levels import Gradient, Level

_EPS = float(np.finfo(np.float64).eps)
_SHRINK = 8.0
_STEPS = 5
_ELEMENTWISE = 64
"""Up to this many elements of an input, each is checked on its own; beyond, random directions."""


class GradientError(AssertionError):
    """A gradient is not the derivative of its function."""

    __module__ = "minigrad.check"


class KinkError(GradientError):
    """The function has no derivative at the point, so there is nothing to compare with."""

    __module__ = "minigrad.check"


class Checker:
    """Compares one level after the other, and counts."""

    def __init__(
        self,
        rng: np.random.Generator,
        directions: int | None,
        rtol: float,
        atol: float,
        step: float,
        skip: bool,
    ) -> None:
        self.rng = rng
        self.directions = directions
        self.rtol, self.atol, self.step, self.skip = rtol, atol, step, skip
        self.largest, self.compared, self.kinks = 0.0, 0, 0

    def check(
        self, level: Level, points: list[np.ndarray], names: list[str], order: int, last: bool
    ) -> tuple[list[np.ndarray], list[str], Level]:
        """Check one order; returns what the next one is to check, and where."""
        outputs = level.evaluate(points)
        # Weights near 1 with random signs: one backward pass sees every output.
        weights = [self._signs(out.shape, 1.5) for out in outputs]
        if sum(w.size for w in weights) == 1:
            weights = [np.ones_like(w) for w in weights]
        gradient = Gradient(level, len(points), names)
        found = gradient.evaluate([*points, *weights])
        if not last:
            recorded = gradient.evaluate([*points, *weights], record=True)
            for name, plain, again in zip(names, found, recorded, strict=True):
                self._same_when_recorded(order, name, plain, again)
        for i, (name, slope) in enumerate(zip(names, found, strict=True)):
            place = _Place(order, name, slope, level, points, i, outputs, weights)
            self._check_input(place, points[i], flows=i >= len(level.arguments.points))
        flows = [f"the gradient that flows into output {i}" for i in range(len(outputs))]
        if order > 1:
            flows = [
                f"the gradient of order {order} that flows into that by {n}" for n in level.names
            ]
        return [*points, *weights], [*names, *flows], gradient

    def _signs(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        return self.rng.uniform(0.5, largest, shape) * self.rng.choice([-1.0, 1.0], shape)

    def _same_when_recorded(
        self, order: int, name: str, plain: np.ndarray, recorded: np.ndarray
    ) -> None:
        wrong = ~np.isclose(plain, recorded, rtol=self.rtol, atol=self.atol, equal_nan=True)
        if wrong.any():
            where = tuple(int(n) for n in np.argwhere(wrong)[0])
            raise GradientError(
                f"order {order}, {name}{_element(where)}: the rules give {plain[where]} in a plain "
                f"backward pass, but {recorded[where]} with create_graph=True"
            )

    def _check_input(self, place: _Place, point: np.ndarray, flows: bool) -> None:
        # Longer steps at larger values: what is lost in x + step stays the same in proportion.
        reach = np.maximum(1.0, np.abs(point))
        count = self.directions
        if flows:  # the gradient is linear in what flows in: one direction tells
            count = 1
        elif count is None and point.size > _ELEMENTWISE:
            count = 8
        if count is None or count >= point.size:
            for where in np.ndindex(point.shape):
                direction = np.zeros(point.shape)
                direction[where] = reach[where]
                self._accept(place, direction, self._compare(place, direction))
            return
        for _ in range(count):
            direction = reach * self._signs(point.shape, 1.0)
            found = self._compare(place, direction)
            if found.wrong:
                direction, found = self._narrow(place, direction, found)
            self._accept(place, direction, found)

    def _narrow(
        self, place: _Place, direction: np.ndarray, found: _Comparison
    ) -> tuple[np.ndarray, _Comparison]:
        """Halve a direction that disagrees until one element is left to name."""
        while np.count_nonzero(direction) > 1:
            where = np.flatnonzero(direction)
            halves = []
            for part in where[: len(where) // 2], where[len(where) // 2 :]:
                half = np.zeros(direction.size)
                half[part] = direction.ravel()[part]
                shaped = half.reshape(direction.shape)
                halves.append((shaped, self._compare(place, shaped)))
            worse = max(halves, key=lambda half: half[1].severity)
            if worse[1].severity == 0:
                return direction, found  # only together do they disagree
            direction, found = worse
        return direction, found

    def _compare(self, place: _Place, direction: np.ndarray) -> _Comparison:
        slope = float(np.vdot(place.gradient, direction))
        tried = []
        for n in range(_STEPS):
            found = place.differences(direction, self.step / _SHRINK**n)
            error = abs(found.slope - slope)
            limit = self.atol + self.rtol * max(abs(slope), abs(found.slope)) + found.noise
            if error <= limit:
                return _Comparison(slope, found, error / max(1.0, abs(slope)))
            if np.isfinite(found.slope):
                tried.append(found)
        if not tried:
            return _Comparison(slope, None, kink=bool(np.isfinite(slope)), wrong=True)
        # A smooth function looks straighter the closer one looks; a kink or jump does not.
        coarse, fine = tried[0], tried[-1]
        noise = 16 * fine.noise + self.atol
        bent = fine.bend > max(0.5 * coarse.bend, noise)
        jumps = abs(fine.slope) > max(0.5 * coarse.step / fine.step * abs(coarse.slope), noise)
        if len(tried) > 1 and (bent or jumps):
            low, high = sorted((fine.left, fine.right))
            slack = self.atol + self.rtol * max(abs(low), abs(high))
            kink = jumps or low - slack <= slope <= high + slack
            return _Comparison(slope, fine, abs(fine.slope - slope), kink=kink, wrong=True)
        # The best estimate is where two neighbouring steps agree most.
        best = min(pairwise(tried), key=lambda two: abs(two[0].slope - two[1].slope), default=None)
        chosen = best[0] if best else tried[0]
        return _Comparison(slope, chosen, abs(chosen.slope - slope), wrong=True)

    def _accept(self, place: _Place, direction: np.ndarray, found: _Comparison) -> None:
        if not found.wrong:
            self.compared += 1
            self.largest = max(self.largest, found.error)
            return
        if found.kink and self.skip:
            self.kinks += 1
            return
        where = np.argwhere(direction)
        if len(where) > 1:
            raise found.as_error(f"{place}, along a random direction", 1.0)
        single = tuple(int(n) for n in where[0])
        length = float(direction[single])
        for output, element in place.outputs_by_change(direction, found):
            alone = place.alone(output, element)
            again = self._compare(alone, direction)
            if again.wrong:
                raise again.as_error(f"{alone}{_element(single)}", length)
        raise found.as_error(f"{place}{_element(single)}", length)


class _Place:
    """One input of one level: its gradient by the rules, and the function around the point.

    The outputs are added up with weights, so that there is one number to differentiate.
    """

    def __init__(
        self,
        order: int,
        name: str,
        gradient: np.ndarray,
        level: Level,
        points: list[np.ndarray],
        index: int,
        outputs: list[np.ndarray],
        weights: list[np.ndarray],
        called: str = "the outputs, added up with random weights,",
    ) -> None:
        self.order, self.name, self.called = order, name, called
        self.gradient = gradient
        self.level, self.points, self.index = level, points, index
        self.outputs, self.weights = outputs, weights
        self.base, self.weight = _flat(outputs), _flat(weights)
        if len(self.base) == 1 and order == 1:
            self.called = "the output"

    def __str__(self) -> str:
        return f"order {self.order}, {self.called} by {self.name}"

    def at(self, direction: np.ndarray, t: float) -> list[np.ndarray]:
        """The outputs some way along a direction."""
        moved = list(self.points)
        moved[self.index] = moved[self.index] + t * direction
        return self.level.evaluate(moved)

    def differences(self, direction: np.ndarray, h: float) -> _Differences:
        """Slopes of the weighted sum along a direction, at one step."""
        right, left, near_right, near_left = (
            _flat(self.at(direction, t)) for t in (h, -h, h / 2, -h / 2)
        )
        # Outputs that do not move must not add their rounding to the sum.
        wide = np.dot(self.weight, right - left) / (2 * h)
        narrow = np.dot(self.weight, near_right - near_left) / h
        slope_left = np.dot(self.weight, self.base - near_left) * 2 / h
        slope_right = np.dot(self.weight, near_right - self.base) * 2 / h
        moved = (right != left) | (near_right != near_left)
        size = np.dot(np.abs(self.weight), np.abs(self.base) * moved)
        # Richardson: the errors of both are proportional to h squared and cancel.
        return _Differences(
            h,
            float((4 * narrow - wide) / 3),
            float(slope_left),
            float(slope_right),
            float(abs(slope_right - slope_left)),
            float(64 * _EPS * size / h),
        )

    def outputs_by_change(
        self, direction: np.ndarray, found: _Comparison
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Output elements to look at one by one for the one that is wrong, the likeliest first."""
        h = 1e-4 if found.numeric is None else found.numeric.step
        change = [
            np.abs(right - left)
            for right, left in zip(self.at(direction, h), self.at(direction, -h), strict=True)
        ]
        elements = [(k, where) for k, c in enumerate(change) for where in np.ndindex(c.shape)]
        elements.sort(key=lambda e: -np.nan_to_num(change[e[0]][e[1]], nan=np.inf))
        yield from elements[:_ELEMENTWISE]

    def alone(self, output: int, element: tuple[int, ...]) -> _Place:
        """The same place with this one output element and nothing else."""
        weights = [np.zeros_like(w) for w in self.weights]
        weights[output][element] = 1.0
        gradient = Gradient(self.level, len(self.points)).evaluate([*self.points, *weights])
        called = f"output {output}{_element(element)}"
        if self.order > 1:
            called = f"the gradient by {self.level.names[output]}{_element(element)}"
        return _Place(
            self.order,
            self.name,
            gradient[self.index],
            self.level,
            self.points,
            self.index,
            self.outputs,
            weights,
            called,
        )


class _Differences(NamedTuple):
    """Slopes at one step: from both sides, from the left, from the right, and how they differ."""

    step: float
    slope: float
    left: float
    right: float
    bend: float
    noise: float


class _Comparison(NamedTuple):
    """A slope by the rules beside one by differences, and what was concluded."""

    slope: float
    numeric: _Differences | None
    error: float = 0.0
    kink: bool = False
    wrong: bool = False

    @property
    def severity(self) -> float:
        """How much more this disagrees than another; 0 if it agrees."""
        if not self.wrong:
            return 0.0
        return self.error if self.error > 0 else np.inf

    def as_error(self, where: str, length: float) -> GradientError:
        """What to tell, with slopes for a step of 1."""
        given = self.slope / length
        numeric = self.numeric
        if numeric is None:
            blank = "the function is not finite on both sides of the point, however near"
            if np.isfinite(given):
                return KinkError(
                    f"{where}: {blank}, so the rules' {given} has nothing to be compared with; "
                    "move the point"
                )
            return GradientError(f"{where}: the rules give {given}, and {blank}; move the point")
        left, right = numeric.left / length, numeric.right / length
        if length < 0:
            left, right = right, left
        if self.kink:
            return KinkError(
                f"{where}: the function has a kink or a jump here, with slope {left:.6g} on the "
                f"left and {right:.6g} on the right; the rules choose {given:.6g}.  Move the "
                "point, or pass kinks='skip'"
            )
        expected = numeric.slope / length
        # Differences have about ten digits; more would be noise.
        shown = float(f"{expected:.10g}")
        shown = 0.0 if abs(expected) < 1e-9 * max(1.0, abs(given)) else shown
        factor = f", factor {given / shown:.6g}" if shown and given else ""
        return GradientError(
            f"{where}: the rules give {given}, but differences give {shown} "
            f"(off by {abs(given - shown):.6g}{factor})"
        )


def _element(where: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, where))}]" if where else ""


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])
