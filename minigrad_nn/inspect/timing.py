"""How long each module's call takes, forward and backward: the median over some passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import minigrad
from minigrad.observing import Interposer, stand

from ..module import Module
from .trace import Call, Watcher, tensors_in, watched

__all__ = ["Times", "measure"]


@dataclass(frozen=True)
class Times:
    """What was measured, in seconds.

    Attributes:
        paths: of the calls, in the order in which they began.
        forward: of each call, with all inside.
        backward: the same, from the operations that were recorded inside; empty if not asked for.
        whole: of a forward pass.
        whole_backward: of a backward pass, or None.
    """

    paths: tuple[str, ...]
    forward: tuple[float, ...]
    backward: tuple[float, ...]
    whole: float
    whole_backward: float | None


class _Clock(Interposer, Watcher):
    """Knows in which call each node was recorded, and how long its rules take."""

    def __init__(self) -> None:
        Watcher.__init__(self)
        self._calls: dict[Any, Call] = {}
        self.pulled: dict[Call, float] = {}

    def recorded(self, node: Any, values: tuple) -> None:
        if node.op is not None and self.stack:
            self._calls[node] = self.stack[-1]

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        start = time.perf_counter()
        found: Sequence = proceed(node, g, needs, record, closed)
        call = self._calls.get(node)
        if call is not None:
            self.pulled[call] = self.pulled.get(call, 0.0) + time.perf_counter() - start
        return found

    def inside(self, call: Call) -> float:
        """Of a call and all calls inside of it."""
        own = self.pulled.get(call, 0.0)
        return own + sum(self.inside(part) for part in call.parts if isinstance(part, Call))


def measure(model: Module, inputs: Sequence[Any], backward: bool, repeats: int) -> Times:
    """Call a model some times after one that warms up, in its present mode.

    Gradients are added to its parameters where `backward` is asked for: the gradient of the sum of
    all outputs.

    Raises:
        ValueError: no output depends on anything that requires a gradient.
    """
    rounds = [_once(model, inputs, backward) for _ in range(repeats + 1)][1:]
    first = rounds[0]
    alike = [one for one in rounds if one.paths == first.paths]
    backwards = [one.whole_backward for one in rounds if one.whole_backward is not None]
    return Times(
        first.paths,
        tuple(map(median, zip(*(one.forward for one in alike), strict=True))),
        tuple(map(median, zip(*(one.backward for one in alike), strict=True))),
        median(one.whole for one in rounds),
        median(backwards) if backwards else None,
    )


def _once(model: Module, inputs: Sequence[Any], backward: bool) -> Times:
    clock = _Clock()
    with watched(model, clock):
        if not backward:
            with minigrad.no_grad():
                model(*inputs)
            seconds = None
        else:
            with minigrad.enable_grad(), stand(clock):
                output = model(*inputs)
                ends = [t for t in tensors_in(output) if t.requires_grad]
                if not ends:
                    raise ValueError(
                        "summary: there is no backward pass to measure, since no output depends on "
                        "a parameter that requires a gradient"
                    )
                total = sum((t.sum() for t in ends[1:]), ends[0].sum())
                start = time.perf_counter()
                total.backward()
                seconds = time.perf_counter() - start
    return Times(
        tuple(call.path for call in clock.calls),
        tuple(call.seconds for call in clock.calls),
        tuple(clock.inside(call) for call in clock.calls) if backward else (),
        clock.calls[0].seconds,
        seconds,
    )
