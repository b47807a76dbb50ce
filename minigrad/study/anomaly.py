"""Anomaly mode: where NaN or infinity is first born, in the forward or in the backward pass.

Inside `anomalies()` every result and every contribution is looked at.  A value is *born* where
the op made it out of finite ones; what only passes it on is not to blame.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Node, Op
from minigrad.observing import Interposer, stand
from minigrad.scalar import Scalar
from minigrad.study.nodes import dense, input_names, label, named_values, on_host
from minigrad.study.record import NOT_RECORDED, user_line

__all__ = ["Anomaly", "AnomalyError", "anomalies"]

KINDS = ("nan", "inf")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """The birth of a value that is no finite number.

    Attributes:
        kind: "nan" or "inf".
        phase: "forward", or "backward".
        op: name of the op that made it; in the backward pass, whose rule did.
        how: what happened, in words: computed, came in as an argument, or arose as a sum.
        inputs: name and a few words on the values of each thing that it was made of.
        where: the source line: of the op in the forward pass; in the backward pass if the graph
            was built under `study.recording()`.
        node: in the backward pass the gate, or the node whose gradient is a sum; else None.
        argument: in the backward pass, the name of the input that the contribution was for.
    """

    kind: str
    phase: str
    op: str
    how: str
    inputs: tuple[tuple[str, str], ...]
    where: str
    node: Node | None = None
    argument: str | None = None

    def __str__(self) -> str:
        word = "NaN" if self.kind == "nan" else "infinity"
        lines = [f"{word} was born in the {self.phase} pass of {self.op}: {self.how}"]
        lines += [f"  {name}: {words}" for name, words in self.inputs]
        lines.append(f"  line: {self.where}")
        return "\n".join(lines)


class AnomalyError(FloatingPointError):
    """NaN or infinity was born; `.anomaly` says where."""

    def __init__(self, anomaly: Anomaly) -> None:
        super().__init__(str(anomaly))
        self.anomaly = anomaly


@contextmanager
def anomalies(stop: bool = True, kinds: Sequence[str] = KINDS) -> Iterator[list[Anomaly]]:
    """Find where NaN or infinity is born, in this thread.

    A step on small tensors takes twice as long inside, one on large ones about a sixth more, and
    one on scalars nine times (`benchmarks/study.py`); outside of it nothing is left of it.

    Args:
        stop: raise at the first; otherwise go on and collect them all.
        kinds: what to look for, "nan", "inf" or both.  A mask of minus infinity is no fault:
            look for "nan" alone then.

    Yields:
        A list that fills with what is found.

    Raises:
        AnomalyError: something was born, at the place where that happened.
        ValueError: an unknown kind.

    >>> import minigrad
    >>> x = minigrad.tensor([4.0, 0.0], requires_grad=True)
    >>> with anomalies():
    ...     y = minigrad.sqrt(x).sum()
    ...     y.backward()
    Traceback (most recent call last):
        ...
    minigrad.study.anomaly.AnomalyError: infinity was born in the backward pass of sqrt: its rule \
for x gave 1 of 2 inf
      gate gradient: 1 … 1, shape (2,)
      y: 0 … 2, shape (2,)
      line: not recorded
    """
    wanted = tuple(kinds)
    if not wanted or set(wanted) - set(KINDS):
        raise ValueError(f"anomalies: kinds must be out of {', '.join(KINDS)}, got {kinds!r}")
    watch = _Watch(stop, wanted)
    with backend.interpose(watch.computed), stand(watch):
        yield watch.found


class _Watch(Interposer):
    """Looks at all results and contributions of one thread."""

    outermost = True

    def __init__(self, stop: bool, kinds: tuple[str, ...]) -> None:
        self.found: list[Anomaly] = []
        self._stop = stop
        self._kinds = kinds
        self._thread = get_ident()
        self._pulling = 0

    def _report(self, anomaly: Anomaly) -> None:
        self.found.append(anomaly)
        if self._stop:
            raise AnomalyError(anomaly)

    # --- forward ---------------------------------------------------------------------------------

    def computed(self, proceed: Callable, op: Op, args: Sequence, params: dict) -> Any:
        """Look at a computation on arrays: all of them pass here, recorded or not."""
        if self._pulling or get_ident() != self._thread:
            return proceed(op, args, params)
        with np.errstate(all="ignore"):  # NumPy's warning says less than what follows
            result = proceed(op, args, params)
        for value in result if isinstance(result, tuple) else (result,):
            kind = _sick(value, self._kinds)
            if kind is not None:
                self._born_forward(kind, op, args, value)
                break
        return result

    def recorded(self, node: Any, values: tuple) -> None:
        """Scalars have no arrays, but each of their gates is recorded."""
        if isinstance(node, Scalar) and node.op is not None and not self._pulling:
            kind = _sick(values[-1], self._kinds)
            if kind is not None:
                self._born_forward(kind, node.op, values[:-1], values[-1])

    def _born_forward(self, kind: str, op: Op, args: Sequence, result: Any) -> None:
        names = input_names(op, len(args))
        sick = [n for n, arg in zip(names, args, strict=True) if _sick(arg, self._kinds)]
        if sick and self.found:
            return  # what was found before has come here
        how = f"it computed {_words(result)} from finite numbers"
        if sick:
            how = f"{_words(result)}, since {', '.join(sick)} came in like that"
        inputs = tuple((n, _describe(a)) for n, a in zip(names, args, strict=True))
        line = user_line(sys._getframe(1))
        self._report(Anomaly(kind, "forward", op.name, how, inputs, line))

    # --- backward --------------------------------------------------------------------------------

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        self._pulling += 1
        try:
            found = proceed(node, g, needs, record, closed)
        finally:
            self._pulling -= 1
        if self._pulling:  # inside of a rule that walks a graph of its own only its result counts
            return found
        for position, flow in enumerate(found):
            kind = None if flow is None else _sick_gradient(flow, self._kinds)
            if kind is not None:
                if not _sick_gradient(g, self._kinds):
                    self._rule_bore(kind, node, g, position, flow)
                elif not self.found:
                    how = f"its gate gradient was given as {_words(_first(g))}"
                    self._gradient_born(kind, node, how)
                break
        return found

    def merge(
        self, proceed: Callable, source: Any, total: Any, contribution: Any, owned: set
    ) -> Any:
        alone = total is None or self._pulling > 0
        found = proceed(source, total, contribution, owned)
        if alone or self.found:
            return found
        kind = _sick_gradient(found, self._kinds)
        if kind is not None and not _sick_gradient(contribution, self._kinds):
            how = f"adding up the contributions to {label(source)} gave {_words(_first(found))}"
            self._gradient_born(kind, source, how)
        return found

    def _rule_bore(self, kind: str, node: Any, g: Any, position: int, flow: Any) -> None:
        name = input_names(node.op, len(node.inputs))[position]
        known = named_values(node)
        inputs = [("gate gradient", _describe(_first(g)))]
        inputs += [
            (key, _describe(value))
            for key, value in known.items()
            if key not in node.params and not key.endswith("_shape")
        ]
        how = f"its rule for {name} gave {_words(_first(flow))}"
        self._gradient_born(kind, node, how, tuple(inputs), name)

    def _gradient_born(
        self,
        kind: str,
        node: Any,
        how: str,
        inputs: tuple[tuple[str, str], ...] = (),
        argument: str | None = None,
    ) -> None:
        origin = getattr(node, "origin", None)
        line = NOT_RECORDED if origin is None else str(origin)
        name = "a leaf" if node.op is None else node.op.name
        self._report(Anomaly(kind, "backward", name, how, inputs, line, node, argument))


# --- looking at values ---------------------------------------------------------------------------


def _sick(value: Any, kinds: tuple[str, ...]) -> str | None:
    """Which of `kinds` is among the elements; None for healthy values."""
    if isinstance(value, (float, np.floating)):
        if math.isfinite(value):
            return None
        kind = "nan" if value != value else "inf"
        return kind if kind in kinds else None
    value = on_host(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return None
    # One pass over memory, and no array of booleans: the sum of healthy numbers is healthy,
    # but for an overflow, which is looked at again.
    with np.errstate(all="ignore"):
        total = np.add.reduce(value, axis=None)
    if np.isfinite(total):
        return None
    if "nan" in kinds and np.isnan(value).any():
        return "nan"
    return "inf" if "inf" in kinds and np.isinf(value).any() else None


def _sick_gradient(value: Any, kinds: tuple[str, ...]) -> str | None:
    if isinstance(value, (list, tuple)):
        return next((k for part in value if (k := _sick_gradient(part, kinds))), None)
    if hasattr(value, "add_to"):  # an indexed gradient: zero elsewhere
        return _sick(value.g, kinds)
    return _sick(getattr(value, "_data", value), kinds)


def _first(value: Any) -> Any:
    """The elements of a gradient, of the first part that is not healthy."""
    if isinstance(value, (list, tuple)):
        parts = [part for part in value if part is not None and not isinstance(part, int)]
        return _first(next((p for p in parts if _sick_gradient(p, KINDS)), parts[0]))
    return on_host(dense(value))


def _words(value: Any) -> str:
    """How many of its elements are NaN and infinite."""
    array = np.asarray(on_host(value))
    counts = [("nan", int(np.isnan(array).sum())), ("inf", int(np.isinf(array).sum()))]
    found = [f"{n} of {array.size} {name}" for name, n in counts if n]
    if array.size == 1:
        found = [name for name, n in counts if n]
    return " and ".join(found)


def _describe(value: Any) -> str:
    """Range, shape and what is not finite of a value."""
    value = getattr(value, "_data", value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    array = np.asarray(on_host(value))
    if array.ndim == 0:
        return repr(array.item())
    words = f"shape {array.shape}"
    if array.size == 0 or array.dtype.kind not in "fiu":
        return words
    healthy = array[np.isfinite(array)]
    if healthy.size < array.size:
        words = f"{_words(array)}, {words}"
    return f"{healthy.min():.4g} … {healthy.max():.4g}, {words}" if healthy.size else words
