"""Surgery on the backward pass: another rule for chosen gates, while the forward pass stays.

Guided backprop (Springenberg et al., "Striving for simplicity", 2015), the deconvnet (Zeiler and
Fergus, "Visualizing and understanding convolutional networks", 2014), the straight-through
estimator (Bengio et al., "Estimating or propagating gradients through stochastic neurons", 2013)
and gradient reversal (Ganin and Lempitsky, "Unsupervised domain adaptation by backpropagation",
2015) are a rule each, and stand here ready.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.core import Node, Variable, raw
from minigrad.nodes import OutputNode, TensorNode, _fit
from minigrad.observing import Interposer, stand
from minigrad.ops.elementwise import where
from minigrad.scalar import Constant, Scalar
from minigrad.study.nodes import Selector, input_names, label, named_values, selects

__all__ = [
    "Override",
    "deconvnet",
    "gradient_reversal",
    "guided_backprop",
    "override_backward",
    "straight_through",
]


# --- rules ---------------------------------------------------------------------------------------


def guided_backprop(g: Any, y: Any) -> Any:
    """For a ReLU: what is positive flows back, and only through open gates."""
    return where(_both(raw(g) > 0, raw(y) > 0), g, 0.0)


def deconvnet(g: Any) -> Any:
    """For a ReLU: what is positive flows back, through open and closed gates alike."""
    return where(raw(g) > 0, g, 0.0)


def straight_through(g: Any) -> Any:
    """For `sign`, `floor` and their like: flow back as if the gate were not there."""
    return g


def gradient_reversal(strength: float = 1.0) -> Callable:
    """A rule for any gate: what it would hand on, turned around and scaled.

    >>> import minigrad
    >>> x = minigrad.scalar(2.0)
    >>> with override_backward("square", gradient_reversal(0.5)):
    ...     (x * 3.0).square().backward()
    >>> x.grad
    -18.0
    """

    def rule(usual: Any) -> Any:
        if isinstance(usual, tuple):
            return tuple(None if part is None else part * -strength for part in usual)
        return usual * -strength

    return rule


def _both(a: Any, b: Any) -> Any:
    return (a and b) if isinstance(a, bool) else a & b


# --- the operation -------------------------------------------------------------------------------


@contextmanager
def override_backward(selector: Selector, rule: Callable) -> Iterator[Override]:
    """Inside, backward passes of this thread use `rule` at the selected gates.

    The forward pass is not touched.  It may run before or inside; a value that the op does not
    keep for its own rule is at hand only if the forward pass runs inside too.

    Args:
        selector: which gates: the name of an op, node, variable or module, or a pattern of one
            (`"relu"`, `"h*"`); an op; a Scalar or Tensor; a function of a node; a list of these.
        rule: from the gate gradient `g` to the contribution to the input; for a gate with several
            inputs a tuple of one each, or None where nothing flows.  As in a declared op, its
            parameter names say what it gets: `g`, the op's inputs (`x`, or `a` and `b`), output
            `y`, shapes (`x_shape`) and static parameters; besides `usual`, what the gate's own
            rule gives, and `node`.  Written in minigrad's functions it works under
            `create_graph` as well.

    Yields:
        An `Override`, whose `count` says how many gates were operated on.

    Raises:
        TypeError: the selector is none; in the backward pass, the rule asks for a value that the
            gate does not have, or returns the wrong number of contributions.
        GraphError: in the backward pass, a contribution has a shape that does not fit.

    >>> import minigrad
    >>> x = minigrad.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (minigrad.relu(x) * minigrad.tensor([1.0, -1.0, 1.0])).sum()
    >>> with override_backward("relu", guided_backprop):
    ...     y.backward()
    >>> x.grad
    tensor([0., 0., 1.])
    """
    with stand(Override(selector, rule)) as override:
        try:
            yield override
        finally:
            override.values.clear()


class Override(Interposer):
    """Puts a rule in the place of others.

    Attributes:
        count: gates of backward passes that were operated on.
        values: what selected gates of forward passes inside computed with, by node.
    """

    def __init__(self, selector: Selector, rule: Callable) -> None:
        self.count = 0
        self.values: dict[Node, tuple] = {}
        self._selected = selects(selector)
        self._rule = rule
        self._names = list(inspect.signature(rule).parameters)
        self._wanted = set(self._names) - {"g", "node", "usual"}
        self._walked: set[Node] = set()
        self._off = False

    def recorded(self, node: Any, values: tuple) -> None:
        if not self._wanted or isinstance(node, Scalar) or node.op is None or not values:
            return
        if self._selected(node) and not self._wanted <= _names(node):
            self.values[node] = values

    def observe(self, order: Sequence, table: dict) -> Iterable:
        # What was walked and is not walked again is done with.
        if self._walked:
            here = set(order := list(order))
            for node in [node for node in self._walked if node not in here]:
                self.values.pop(node, None)
                self._walked.discard(node)
        return order

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        if self._off or isinstance(node, OutputNode) or not self._selected(node):
            if record and node.op.like is not None:
                # The composition that stands for a fused op is no part of the user's graph.
                return self._untouched(proceed, node, g, needs, record, closed)
            return proceed(node, g, needs, record, closed)
        self.count += 1
        if node in self.values:
            self._walked.add(node)
        values: dict[str, Any] = {"g": g, "node": node}
        if self._wanted:
            values = self._known(node, record) | values
        if "usual" in self._names:
            usual = tuple(self._untouched(proceed, node, g, needs, record, closed))
            values["usual"] = usual[0] if len(usual) == 1 else usual
        missing = [name for name in self._names if name not in values]
        if missing:
            raise TypeError(
                f"override_backward: the rule asks for {', '.join(missing)}, but {label(node)} has "
                f"{', '.join(sorted(values))}; run the forward pass inside the context too, and "
                "all its inputs and outputs are there"
            )
        found = self._rule(*[values[name] for name in self._names])
        count = len(node.inputs)
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        if len(found) != count:
            raise TypeError(
                f"override_backward: the rule returned {len(found)} contribution(s) for "
                f"{label(node)}, which has {count} inputs; return a tuple of {count}"
            )
        return [
            None if not need or flow is None else _fitted(flow, node, position, record)
            for position, (flow, need) in enumerate(zip(found, needs, strict=True))
        ]

    def _untouched(self, proceed: Callable, *args: Any) -> Sequence:
        before, self._off = self._off, True
        try:
            return proceed(*args)
        finally:
            self._off = before

    def _known(self, node: Any, record: bool) -> dict[str, Any]:
        values = named_values(node, record)
        names = (*input_names(node.op, len(node.inputs)), *node.op.outputs)
        for name, value in zip(names, self.values.get(node, ()), strict=False):
            if name not in values:
                values[name] = value
        return values


def _names(node: Any) -> set[str]:
    """What the gate of a tensor has at hand for a rule without our help."""
    inputs = input_names(node.op, len(node.inputs))
    names = (*inputs, *node.op.outputs)
    kept = {names[i] for i in node.plan.save}
    return kept | set(node.params) | {f"{name}_shape" for name in inputs}


def _fitted(flow: Any, node: Any, position: int, record: bool) -> Any:
    """A contribution as the walk adds it up: of the input's kind, shape and dtype."""
    source = node.inputs[position]
    if isinstance(node, Scalar):
        if record:
            return flow if isinstance(flow, Scalar) else Constant(flow)
        return float(raw(flow))
    if record and not isinstance(flow, Variable):
        flow = TensorNode.wrap(np.asarray(flow, source.dtype))
    return _fit(flow if record else raw(flow), source, node.op, position)
