"""Drills: classic mistakes of those who write backprop, planted on purpose.

`sabotage` makes the engine err as people do, in this thread and only inside the context;
`study.diagnose` has to name the mistake.  `FAULTS` lists them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from minigrad.core import Node
from minigrad.nodes import MultipleNode, OutputNode, TensorNode, _fit, _shut
from minigrad.observing import Interposer, stand
from minigrad.scalar import Scalar
from minigrad.study.nodes import Selector, dense, named_values, selects
from minigrad.tensor import Tensor

__all__ = ["FAULTS", "Fault", "sabotage"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake that can be planted and named.

    Attributes:
        name: for `sabotage` and in a diagnosis.
        mistake: what was done wrong.
        remedy: what to do instead.
    """

    name: str
    mistake: str
    remedy: str


class Planted(Interposer):
    """A fault in place.

    Attributes:
        count: how often it has changed something so far.
    """

    usual: ClassVar[Sequence[str]] = ("*",)
    """At which ops it stands if nobody says where."""

    def __init__(self, at: Selector | None) -> None:
        self.count = 0
        self.selected = selects(self.usual if at is None else at)


class WrongRule(Planted):
    """A fault of single gates: it changes what they hand on."""

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        usual = list(proceed(node, g, needs, record, closed))
        special = isinstance(node, (OutputNode, MultipleNode))
        if record or special or not self.selected(node):
            return usual
        wrong = self.wrong(node, g, usual, needs, closed)
        for a, b in zip(usual, wrong, strict=True):
            self.count += not same(a, b)
        return wrong

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        """The wrong contributions, from the right ones."""
        raise NotImplementedError


def same(a: Any, b: Any) -> bool:
    """Whether two contributions are equal, element by element."""
    if a is None or b is None:
        return a is b
    a, b = dense(a), dense(b)
    return np.shape(a) == np.shape(b) and np.array_equal(a, b, equal_nan=True)


class NoUnbroadcast(WrongRule):
    """Leaves contributions in the shape of the gate's output."""

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        if not isinstance(node, TensorNode):
            return usual
        found = node.plan.pull(node, g, node._values())
        wrong = []
        for c, right in zip(found, usual, strict=True):
            broad = isinstance(c, np.ndarray) and right is not None and c.shape != right.shape
            if broad and closed and node.op.elementwise:
                c = _shut(g, c)
            wrong.append(c.astype(right.dtype) if broad else right)
        return wrong


class Overwrite(Planted):
    """Keeps only the last contribution into a node."""

    def merge(
        self, proceed: Callable, source: Any, total: Any, contribution: Any, owned: set
    ) -> Any:
        if total is None or isinstance(source, MultipleNode) or not self.selected(source):
            return proceed(source, total, contribution, owned)
        self.count += 1
        owned.discard(source)
        return proceed(source, None, contribution, owned)


class NoTopologicalOrder(Planted):
    """Visits nodes depth first, each when it is first met."""

    def observe(self, order: Sequence, table: dict) -> Iterable:
        order = list(order)
        inside = set(order)
        seen: set[Node] = set()
        wrong: list[Node] = []
        for root in order:
            stack = [root]
            while stack:
                node = stack.pop()
                if node in seen:
                    continue
                seen.add(node)
                wrong.append(node)
                pairs = zip(node.inputs, node.needs, strict=True)
                stack += reversed([s for s, need in pairs if need and s in inside])
        early: set[Node] = set()
        passed: set[Node] = set()
        for node in wrong:
            passed.add(node)
            early |= {source for source in node.inputs if source in passed}
        self.count += len(early)
        return wrong


class ForgotZeroGrad(Planted):
    """Adds the gradient of the step before, although the program has forgotten it."""

    def __init__(self, at: Selector | None) -> None:
        super().__init__(at)
        self._kept: dict[Node, Any] = {}

    def receive(self, proceed: Callable, node: Any, g: Any, record: bool, owned: bool) -> None:
        before = gradient_of(node)
        proceed(node, g, record, owned)
        if node.op is not None or not self.selected(node):
            return
        fresh = before is None or not np.any(before)
        if fresh and node in self._kept and np.any(self._kept[node]):
            self.count += 1
            _set_gradient(node, gradient_of(node) + self._kept[node])
        self._kept[node] = gradient_of(node)


class StaleValue(WrongRule):
    """Uses the values that were saved in the first step for ever after."""

    def __init__(self, at: Selector | None) -> None:
        super().__init__(at)
        self._first: dict[tuple, Any] = {}
        self._numbers: Counter = Counter()

    def observe(self, order: Sequence, table: dict) -> Iterable:
        self._numbers.clear()
        return order

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        values = saved_values(node)
        place = (node.op, *map(np.shape, values), node.needs)
        self._numbers[place] += 1
        first = self._first.setdefault((place, self._numbers[place]), values)
        return pull_with(node, g, needs, closed, first)


class WrongSign(WrongRule):
    """Turns the sign of the contribution to the last input."""

    usual = ("subtract", "negative", "divide", "cos", "arccos")

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        return [*usual[:-1], None if usual[-1] is None else -dense(usual[-1])]


class WrongFactor(WrongRule):
    """Forgets a constant factor: the 2 of a square, the 1/n of a mean; doubles where asked to."""

    usual = ("square", "power", "mean")

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        factor = {"square": 0.5, "power": 0.5}.get(node.op.name, 2.0)
        if node.op.name == "mean":
            factor = np.prod(node.inputs[0].shape) / max(1, np.prod(node.shape))
        return [None if c is None else _scaled(dense(c), factor) for c in usual]


def _scaled(c: Any, factor: float) -> Any:
    return c * factor if isinstance(c, float) else (c * factor).astype(c.dtype)


class WrongAxis(WrongRule):
    """Spreads the gradient of a reduction along a neighbouring axis."""

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        if not _reduces(node) or usual[0] is None:
            return usual
        axis = node.params["axis"][0]
        c = dense(usual[0])
        return [along_other_axis(c, axis, (axis + 1) % c.ndim)]


def _reduces(node: Any) -> bool:
    """Whether a gate reduces along some of several axes."""
    axis = node.params.get("axis")
    return isinstance(axis, tuple) and len(axis) > 0 and len(node.inputs[0].shape) > 1


def along_other_axis(c: np.ndarray, axis: int, other: int) -> np.ndarray:
    """A contribution laid out along the wrong axis; squeezed into shape where it does not fit."""
    return np.ascontiguousarray(c.swapaxes(axis, other)).reshape(c.shape)


class MissingTranspose(WrongRule):
    """Multiplies by a matrix that should have been transposed."""

    usual = ("matmul",)

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        if node.op.name != "matmul":
            return usual
        values = named_values(node)
        return [
            None if c is None else untransposed(node, g, position, values)
            for position, c in enumerate(usual)
        ]


def untransposed(node: Any, g: Any, position: int, values: dict[str, Any]) -> Any:
    """A contribution of matmul without the transpose; the usual one for vectors."""
    other = values["ba"[position]]
    if g.ndim < 2 or other.ndim < 2 or len(node.inputs[position].shape) < 2:
        return node.pull(g, node.needs, False, False)[position]
    flat = other.reshape(*other.shape[:-2], other.shape[-1], other.shape[-2])
    found = g @ flat if position == 0 else flat @ g
    return _fit(found, node.inputs[position], node.op, position)


class DetachedBranch(WrongRule):
    """Passes nothing to the last of several inputs; where asked to, to none of them."""

    def __init__(self, at: Selector | None) -> None:
        super().__init__(at)
        self._all = at is not None

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        if self._all:
            return [None] * len(usual)
        live = [i for i, c in enumerate(usual) if c is not None]
        cut = live[-1] if len(live) > 1 else None
        return [None if i == cut else c for i, c in enumerate(usual)]


class ForgotGateGradient(WrongRule):
    """Hands on the local gradient alone."""

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        return list(node.pull(ones_like(g), needs, False, closed))


def ones_like(g: Any) -> Any:
    """A gate gradient of ones."""
    return 1.0 if type(g) is float else np.ones_like(g)


class GateLeftOpen(WrongRule):
    """Lets the gradient through a closed ReLU."""

    usual = ("relu", "clip")

    def wrong(self, node: Any, g: Any, usual: list, needs: tuple, closed: bool) -> list:
        return [g] if len(usual) == 1 and np.shape(g) == np.shape(dense(usual[0])) else usual


# --- reading and replacing what the engine keeps -------------------------------------------------


def gradient_of(node: Any) -> Any:
    """The `.grad` of a leaf as a number or a copy of the array; None if there is none."""
    if isinstance(node, Scalar):
        return None if node.grad is None else float(node.grad)
    owner = _owner(node)
    return None if owner is None or owner._grad is None else owner._grad._data.copy()


def _set_gradient(node: Any, value: Any) -> None:
    if isinstance(node, Scalar):
        node.grad = value
    elif (owner := _owner(node)) is not None:
        owner._grad = Tensor(value)


def _owner(node: Any) -> Tensor | None:
    return None if node.owner is None else node.owner()


def saved_values(node: Any) -> tuple:
    """What a gate's rules read, copied: inputs and output of a scalar, saved arrays of a tensor."""
    if isinstance(node, Scalar):
        return (*[source._data for source in node.inputs], node._data)
    return tuple(np.array(value) for value in node._values())


def pull_with(node: Any, g: Any, needs: tuple, closed: bool, values: tuple) -> list:
    """The contributions of a gate as they would be with other saved values."""
    if isinstance(node, Scalar):
        inputs = [SimpleNamespace(_data=value) for value in values[:-1]]
        gate = SimpleNamespace(inputs=inputs, _data=values[-1])
        flows = node.op.scalar_pull(node.needs, False)(gate, g)
        return [None if f is None else (f if g else 0.0) for f in flows]
    kept = node.saved
    node.saved = values
    try:
        return list(node.pull(g, needs, False, closed))
    finally:
        node.saved = kept


# --- the list ------------------------------------------------------------------------------------

_PLANTS: dict[str, type[Planted]] = {
    "no_unbroadcast": NoUnbroadcast,
    "overwrite_instead_of_add": Overwrite,
    "no_topological_order": NoTopologicalOrder,
    "forgot_zero_grad": ForgotZeroGrad,
    "wrong_axis": WrongAxis,
    "stale_value": StaleValue,
    "wrong_sign": WrongSign,
    "wrong_factor": WrongFactor,
    "missing_transpose": MissingTranspose,
    "detached_branch": DetachedBranch,
    "forgot_gate_gradient": ForgotGateGradient,
    "gate_left_open": GateLeftOpen,
}

_WORDS = {
    "no_unbroadcast": (
        "a gradient keeps the broadcast shape instead of being summed to its argument's shape",
        "sum the contribution over the axes along which the argument was repeated",
    ),
    "overwrite_instead_of_add": (
        "a value that is used twice keeps only the last contribution",
        "add contributions (`+=`), do not assign them: several uses are a sum in the chain rule",
    ),
    "no_topological_order": (
        "a gate passed its gradient on before all of it had arrived",
        "visit a node only after everything that uses it, for example newest first",
    ),
    "forgot_zero_grad": (
        "the gradient of the last step is still there and the new one is added to it",
        "forget the gradients at the start of each step: zero_grad()",
    ),
    "wrong_axis": (
        "the gradient of a reduction is spread along the wrong axis",
        "put the axis that was reduced back as size 1, then broadcast",
    ),
    "stale_value": (
        "a rule uses a value saved in an earlier step",
        "save what the rule needs in this forward pass, and nothing longer than one pass",
    ),
    "wrong_sign": (
        "a contribution has the wrong sign",
        "write down the local gradient again, or check it by finite differences",
    ),
    "wrong_factor": (
        "a contribution is off by a constant factor",
        "look for a forgotten exponent, 1/n or chain-rule factor",
    ),
    "missing_transpose": (
        "a matrix that the rule of a product should have transposed is not",
        "for y = a @ b: the gradient of a is g @ b.T, that of b is a.T @ g",
    ),
    "detached_branch": (
        "nothing flows along an edge whose local gradient is not zero",
        "hand a contribution to every input, and do not cut the value off the graph",
    ),
    "forgot_gate_gradient": (
        "the local gradient is handed on without the gate gradient",
        "multiply by what flows in: contribution = gate gradient × local gradient",
    ),
    "gate_left_open": (
        "the gradient passes where the forward pass had cut the value off",
        "multiply by 0 where the input was below the threshold",
    ),
    "wrong_shape": (
        "a contribution has a shape that its argument does not have",
        "a gradient has the shape of the value that it belongs to",
    ),
    "wrong_sum": (
        "the gradient of a node is not the sum of the contributions into it",
        "add up every contribution once",
    ),
    "wrong_rule": (
        "a contribution is not the gate gradient times the local gradient",
        "write down the local gradient again, or check it by finite differences",
    ),
}

FAULTS: dict[str, Fault] = {name: Fault(name, *words) for name, words in _WORDS.items()}
"""All that `diagnose` can name; the first twelve can be planted by `sabotage`."""


@contextmanager
def sabotage(name: str, at: Selector | None = None) -> Iterator[Planted]:
    """Plant a classic mistake: inside, backward passes of this thread are wrong in that way.

    Args:
        name: one of `no_unbroadcast`, `overwrite_instead_of_add`, `no_topological_order`,
            `forgot_zero_grad`, `wrong_axis`, `stale_value`, `wrong_sign`, `wrong_factor`,
            `missing_transpose`, `detached_branch`, `forgot_gate_gradient`, `gate_left_open`.
        at: which gates (leaves, for `forgot_zero_grad`) err, a selector as for
            `override_backward`; by default where people make that mistake.

    Yields:
        The planted fault; its `count` says how often it changed something.  Not every program
        shows every mistake.

    Raises:
        ValueError: an unknown name.

    >>> import minigrad
    >>> x = minigrad.scalar(3.0)
    >>> with sabotage("overwrite_instead_of_add"):
    ...     (x * x).backward()
    >>> x.grad
    3.0
    """
    if name not in _PLANTS:
        raise ValueError(f"sabotage: unknown fault {name!r}; there are {', '.join(_PLANTS)}")
    with stand(_PLANTS[name](at)) as planted:
        yield planted
