"""What each operation does to the windows of its arguments: one rule for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np

from ...functional.norm import FUSED
from ..trace import Made
from .windows import Axis, Part, State, Window, aligned, axis_of, size_of, stepped

__all__ = ["RULES", "Unknown"]


class Unknown(Exception):
    """A use of an operation of which it is not known what it sees."""


Rule = Callable[[Made, list[State]], State]

_ELEMENTWISE = frozenset(
    """abs add arccos arcsin arctan arctan2 astype broadcast_to ceil
    clip cos cosh divide elu equal erf exp expm1 floor floor_divide gelu greater greater_equal
    hardswish identity isfinite isinf isnan leaky_relu less less_equal log log10 log1p log2
    logaddexp logical_and logical_not logical_or maximum minimum multiply negative not_equal power
    prelu relu relu6 sigmoid sign silu sin sinh softplus sqrt square subtract tan tanh to
    where""".split()
)
_REDUCTIONS = frozenset("all any argmax argmin logsumexp max mean min norm prod sum".split())
_MIXING = frozenset("argsort cumsum log_softmax roll softmax".split())
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@_rule(*_ELEMENTWISE)
def _elementwise(made: Made, given: list[State]) -> State:
    return aligned(given, made.shape)


@_rule("batch_norm", "batch_norm_given", *(op.name for op in FUSED.values()))
def _batch_norm(made: Made, given: list[State]) -> State:
    """Of the vectors of the channels nothing is asked; a residual is the last argument."""
    return aligned(given[:: len(given) - 1] if "_add" in made.op else given[:1], made.shape)


@_rule(*_REDUCTIONS)
def _reduction(made: Made, given: list[State]) -> State:
    (state,) = given
    places = _places(made, len(state.axes))
    for place in places:
        state = state.swept(place, 1)
    if made.params.get("keepdims"):
        return state
    kept = tuple(parts for place, parts in enumerate(state.axes) if place not in places)
    return replace(state, axes=kept)


@_rule(*_MIXING)
def _mixing(made: Made, given: list[State]) -> State:
    (state,) = given
    for place in _places(made, len(state.axes)):
        state = state.swept(place, made.shape[place])
    return state


def _places(made: Made, ndim: int) -> list[int]:
    """The axes along which an operation works: all where it names none."""
    axis = made.params.get("axis")
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return [int(place) % ndim for place in axes]


@_rule("conv", "conv_bias", "conv_bias_relu", "max_pool", "average_pool", "sum_pool")
def _windowed(made: Made, given: list[State]) -> State:
    state, geometry = given[0], made.params["geometry"]
    if made.op.startswith("conv"):
        state = state.swept(1, made.shape[1])
    for i in range(geometry.axes):
        wider = geometry.dilation[i] * (geometry.kernel[i] - 1)
        before, stride = geometry.padding[i][0], geometry.stride[i]
        if wider or before or stride > 1:
            state = stepped(state, i + 2, made.shape[i + 2], wider, -before, stride)
    return state


@_rule("conv_input", "conv_input_bias")
def _transposed(made: Made, given: list[State]) -> State:
    """Each place of the result meets the inputs whose windows, if it were the input, hold it."""
    state, geometry = given[0].swept(1, made.shape[1]), made.params["geometry"]
    for i in range(geometry.axes):
        reach = geometry.dilation[i] * (geometry.kernel[i] - 1)
        before, stride = geometry.padding[i][0], geometry.stride[i]
        first = -((reach - before) // stride)
        step = Fraction(1, stride)
        state = stepped(state, i + 2, made.shape[i + 2], reach // stride, first, step)
    return state


@_rule("gather")
def _gathered(made: Made, given: list[State]) -> State:
    """Adaptive maxima: windows that differ by one place at most."""
    state = given[0]
    for place in range(2, len(made.shape)):
        n, m = size_of(state.axes[place]), made.shape[place]
        longest = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        state = stepped(state, place, m, longest - 1, 0, Fraction(n, m))
    return state


@_rule("scatter")
def _scattered(made: Made, given: list[State]) -> State:
    """Unpooling: a place sees the maximum that stood there."""
    state = given[0]
    for place in range(2, len(made.shape)):
        times = max(1, round(made.shape[place] / size_of(state.axes[place])))
        state = stepped(state, place, made.shape[place], 0, 0, Fraction(1, times))
    return state


@_rule("linear", "linear_bias")
def _linear(made: Made, given: list[State]) -> State:
    return given[0].swept(-1, made.shape[-1])


@_rule("read_rows")
def _embedded(made: Made, given: list[State]) -> State:
    return replace(given[1], axes=(*given[1].axes, axis_of(made.shape[-1])))


@_rule("matmul")
def _matmul(made: Made, given: list[State]) -> State:
    a, b = given
    if min(len(a.axes), len(b.axes)) < 2:
        raise Unknown
    left = _resampled(a, len(a.axes) - 1, made.constants.get(1), made.shape[-1])
    matrix = made.constants.get(0)
    right = _resampled(b, len(b.axes) - 2, None if matrix is None else matrix.T, made.shape[-2])
    return aligned([left, right], made.shape)


def _resampled(state: State, axis: int, matrix: np.ndarray | None, size: int) -> State:
    """An axis times a matrix `(places, new places)`; a constant one, which resizes, is looked at.

    Pictures are resized by a matrix in which only neighbours meet.
    """
    if matrix is None or not state.windows or (matrix == 0).all(axis=0).any():
        return state.swept(axis, size)
    first = (matrix != 0).argmax(axis=0)
    last = len(matrix) - 1 - (matrix[::-1] != 0).argmax(axis=0)
    centres = (np.arange(len(matrix)) @ matrix) / matrix.sum(axis=0)
    # At the borders the places are held back, so the step of most is taken.
    step = Fraction(float(np.median(np.diff(centres))) if size > 1 else 0.0)
    return stepped(state, axis, size, int((last - first).max()), int(first[0]), step)


@_rule("einsum")
def _einsum(made: Made, given: list[State]) -> State:
    *terms, out = made.params["terms"]
    found = []
    for term, state in zip(terms, given, strict=True):
        for place, name in enumerate(term):
            if name not in out:
                state = state.swept(place, 1)
        kept = dict(zip(term, state.axes, strict=True))
        found.append(replace(state, axes=tuple(kept.get(name, ()) for name in out)))
    return aligned(found, made.shape)


@_rule("reshape")
def _reshaped(made: Made, given: list[State]) -> State:
    (state,) = given
    rest = [part for part in state.all_parts() if part.size > 1]
    axes: list[Axis] = []
    for size in made.shape:
        taken: tuple[Part, ...] = ()
        while (missing := size // size_of(taken)) > 1:
            part = rest.pop(0)
            if missing % part.size and part.size % missing:
                # The elements are dealt out anew, without order.
                return state.forgotten(state.all_parts(), made.shape)
            if part.size > missing:
                outer, inner = Part(missing), Part(part.size // missing)
                state = state.each(partial(_split, part=part, outer=outer, inner=inner), state.axes)
                rest.insert(0, inner)
                part = outer
            taken = (*taken, part)
        axes.append(taken)
    return replace(state, axes=tuple(axes))


def _split(window: Window, part: Part, outer: Part, inner: Part) -> Window:
    jump = window.jumps.get(part)
    if jump is None:
        return window
    jumps = {p: j for p, j in window.jumps.items() if p is not part}
    return replace(window, jumps={**jumps, outer: jump * inner.size, inner: jump})


@_rule("transpose")
def _transpose(made: Made, given: list[State]) -> State:
    (state,) = given
    order = made.params["axes"] or range(len(state.axes))[::-1]
    return replace(state, axes=tuple(state.axes[int(place)] for place in order))


@_rule("flip")
def _flip(made: Made, given: list[State]) -> State:
    (state,) = given
    for place in _places(made, len(state.axes)):
        size = made.shape[place]
        state = stepped(state, place, size, 0, size - 1, -1)
    return state


@_rule("pad")
def _padded(made: Made, given: list[State]) -> State:
    (state,) = given
    for place, (before, after) in enumerate(made.params["width"]):
        if before or after:
            state = stepped(state, place, made.shape[place], 0, -int(before), 1)
    return state


@_rule("concatenate")
def _concatenated(made: Made, given: list[State]) -> State:
    """Parts side by side; small ones before and behind a large one are its padding."""
    place = made.params["axis"] % len(made.shape)
    sizes = [shape[place] for shape in made.shapes]
    seen = [state for state in given if state.windows]
    main = max(range(len(sizes)), key=sizes.__getitem__)
    moving = any(p in w.jumps for s in seen for w in s.windows.values() for p in s.axes[place])
    if moving and 2 * sizes[main] > made.shape[place] and given[main].windows:
        return stepped(given[main], place, made.shape[place], 0, -sum(sizes[:main]), 1)
    thin = [state.swept(place, 1) for state in given]
    one = list(made.shape)
    one[place] = 1
    return aligned(thin, one).put(place, axis_of(made.shape[place]))


@_rule("getitem")
def _indexed(made: Made, given: list[State]) -> State:
    (state,) = given
    index = made.params["index"]
    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = [p for p in parts if isinstance(p, (list, np.ndarray))]
    plain = all(
        p is None or p is Ellipsis or isinstance(p, (list, np.ndarray, slice)) for p in parts
    )
    if len(arrays) > 1 or (arrays and not plain):
        raise Unknown  # NumPy moves such axes to the front
    if any(np.asarray(a).dtype.kind not in "iu" for a in arrays):
        raise Unknown
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[at : at + 1] = [slice(None)] * (len(state.axes) - taken)
    axes: list[Axis] = []
    place = 0
    for part in parts:
        if part is None:
            axes.append(())
            continue
        if isinstance(part, slice) and part == slice(None):
            axes.append(state.axes[place])
        else:
            here = np.arange(size_of(state.axes[place]))
            picked = here[part if isinstance(part, slice) else np.asarray(part)]
            state, found = _picked(state, place, picked)
            axes += found
        place += 1
    return replace(state, axes=tuple(axes))


def _picked(state: State, place: int, places: np.ndarray) -> tuple[State, list[Axis]]:
    """Some places of an axis: those in an even order move on, any others are swept."""
    state, part = state.single(place)
    new = [axis_of(size) for size in np.shape(places)]
    step, steps = Fraction(0), np.diff(places, axis=-1) if np.ndim(places) else np.zeros(0)
    if np.size(places) == 0 or np.ndim(places) > 1 or not (all(steps >= 0) or all(steps <= 0)):
        return state.each(lambda w: w.swept([part]), state.axes), new
    first, last = int(np.ravel(places)[0]), int(np.ravel(places)[-1])
    if len(steps):
        step = Fraction(last - first, len(steps))
    index = new[0][0] if new and new[0] else None
    return state.each(lambda w: w.moved(part, index, first, step), state.axes), new
