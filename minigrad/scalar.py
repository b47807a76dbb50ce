"""`Scalar`: one float on the graph, and the chain rule at its plainest.

A `Scalar` is at once a value and a node of the graph.  Its backward pass is the walk of
`core.walk` written out for floats: collect, sort by creation number, add up contributions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from operator import attrgetter
from threading import RLock
from types import MappingProxyType
from typing import Any, NamedTuple

from minigrad import core
from minigrad.core import (
    GraphError,
    Node,
    Op,
    Variable,
    check_fresh,
    enable_grad,
    is_recording,
    next_seq,
    paused,
    walk,
)
from minigrad.observing import recorded, standing
from minigrad.ops import elementwise as ops
from minigrad.recording import refuse_number

__all__ = ["Constant", "Edge", "Scalar", "scalar"]

_creation_number = attrgetter("seq")

_walking = RLock()
"""Walks add up gradients at the nodes, and threads may share leaves: one walk at a time."""
_new = object.__new__


class Edge(NamedTuple):
    """What flows along one edge of a scalar graph, from a gate back to one of its inputs.

    Attributes:
        source: the input.
        gate: the node that the op made of it.
        local_gradient: dq/dx, of the gate's output by this input.
        gate_gradient: df/dq, what came in from above; None before `backward`.
        contribution: their product, df/dq * dq/dx; None before `backward`.
    """

    source: Scalar
    gate: Scalar
    local_gradient: float
    gate_gradient: float | None
    contribution: float | None


# --- recording, specialised for floats -----------------------------------------------------------


def _number(value: Any) -> Any:
    return value._data if isinstance(value, Scalar) else value


def _variable(value: Any) -> Any:
    return value if value is None or isinstance(value, Scalar) else Constant(value)


def _gate(op: Op, inputs: tuple, value: float, pull: Callable) -> Scalar:
    y = _new(RecordedScalar if paused else Scalar)
    y._data = value
    y.op = op
    y.inputs = inputs
    y._pull = pull
    y.grad = y.hooks = y.name = None
    y.seq = next_seq()
    return y


def _applied(op: Op, a: Any, b: Any) -> Scalar:
    if not isinstance(a, (Scalar, Real)) or not isinstance(b, (Scalar, Real)):
        return NotImplemented
    return Scalar.apply(op, (a, b), {})


def _operator(op: Op, forward: Callable) -> Callable:
    """A binary operator of `Scalar`: `_gate` written out, since this is the innermost loop."""
    pull = op.scalar_pull((True, True), False)

    def method(self: Scalar, other: Any) -> Scalar:
        if other.__class__ is not Scalar or paused:
            return _applied(op, self, other)
        y = _new(Scalar)
        y._data = forward(self._data, other._data)
        y.op = op
        y.inputs = (self, other)
        y._pull = pull
        y.grad = y.hooks = y.name = None
        y.seq = next_seq()
        return y

    return method


def _checked_operator(op: Op) -> Callable:
    """A binary operator without short cuts."""

    def method(self: Scalar, other: Any) -> Scalar:
        return _applied(op, self, other)

    return method


class Scalar(Variable, Node):
    """A float on the graph.

    Attributes:
        data: the value.  On a leaf it can be set (a step of gradient descent); a graph that was
            built with the old value can then no longer be walked.
        grad: the gradient, a float; None as long as none was computed, which is not the same
            as 0.  Leaves add up over backward passes; any other node shows the last one.
        op: the gate that made it; None for a leaf.
        inputs: what the gate was applied to.
        name: for pictures and messages.

    >>> x, y = scalar(4.0, name="x"), scalar(-3.0, name="y")
    >>> f = x * y
    >>> f.backward()
    >>> x.grad, y.grad
    (-3.0, 4.0)
    """

    __slots__ = ("_data", "_pull", "grad", "hooks", "inputs", "name", "op", "seq")
    requires_grad = True
    keeps_grad = True
    params: Mapping[str, Any] = MappingProxyType({})
    shape = ()
    _pull: Callable

    # Values compare by number, yet stay usable in sets and as keys, by identity.
    __hash__ = object.__hash__

    def __init__(self, data: float, name: str | None = None) -> None:
        self._data = float(data)
        self.grad: Any = None
        self.op: Any = None
        self.inputs: tuple = ()
        self.name = name
        self.hooks: list | None = None
        self.seq = next_seq()
        if paused:
            recorded(self, (self._data,))

    @property
    def data(self) -> float:
        """The value."""
        return self._data

    @data.setter
    def data(self, value: float) -> None:
        if self.op is not None:
            raise GraphError(
                f"{self!r} was computed by {self.op.name}: its value follows from its inputs. "
                "Set the data of a leaf and compute again"
            )
        self._data = float(value)
        # A leaf that is younger than a gate which used it gives the change away.
        core.last_set = self.seq = next_seq()

    @property
    def needs(self) -> tuple[bool, ...]:
        """Along which edges a gradient flows: those that lead to no constant."""
        return tuple(source.requires_grad for source in self.inputs)

    @classmethod
    def apply(cls, op: Op, args: tuple, params: dict) -> Scalar:
        """Compute an op on scalars and numbers, and record it."""
        if op.scalar is None or params:
            given = f" with {', '.join(params)}" if params else ""
            raise TypeError(f"{op.name}{given} works on tensors, not on scalars: use tensor(...)")
        for i, arg in enumerate(args):
            if not isinstance(arg, (Scalar, Real)):
                raise TypeError(
                    f"{op.name}: argument {i} is a {type(arg).__name__}; a Scalar goes together "
                    "with Scalars and numbers only"
                )
        inputs = tuple([a if isinstance(a, Scalar) else Constant(a) for a in args])
        value = op.scalar(*[source._data for source in inputs])
        needs = tuple([source.requires_grad for source in inputs])
        if True not in needs or not is_recording():
            return Constant(value)
        y = _gate(op, inputs, value, op.scalar_pull(needs, False))
        if paused:
            recorded(y, (*[source._data for source in inputs], value))
        return y

    # --- the walk --------------------------------------------------------------------------------

    def backward(
        self,
        gradient: Any = 1.0,
        retain_graph: bool = True,
        create_graph: bool = False,
    ) -> None:
        """Compute the gradient of this value by every node that it came from.

        Args:
            gradient: the gradient to start with.
            retain_graph: accepted for likeness with tensors; scalar graphs are never freed.
            create_graph: give the gradients a graph of their own (they are Scalars then).

        Raises:
            GraphError: nothing here requires a gradient, or a leaf was changed since its use.
        """
        if create_graph:
            seed = gradient if isinstance(gradient, Scalar) else Constant(gradient)
            gates, leaves = _collect(self)
            with enable_grad():
                walk([(self, seed)], record=True, order=gates + leaves)
        elif standing:
            gates, leaves = _collect(self)
            walk([(self, float(gradient))], order=gates + leaves)
        else:
            _backward(self, float(gradient))

    def pull(self, g: Any, needs: tuple[bool, ...], record: bool, closed: bool = True) -> Sequence:
        if not record:
            values = self.op.scalar_pull(needs, False)(self, g)
            return values if g else [None if v is None else 0.0 for v in values]
        # A hook, and a rule that is constant, may give a plain number.
        g = _variable(g)
        values = [_variable(v) for v in self.op.scalar_pull(needs, True)(self, g)]
        if g._data == 0.0:
            # A closed gate passes nothing, even if its local gradient is infinite.
            return [v if v is None or math.isfinite(v._data) else Constant(0.0) for v in values]
        return values

    def merge(self, total: Any, contribution: Any, owned: set) -> Any:
        if total is None:
            # From 0.0 on, as the walk below does: 0.0 + -0.0 is 0.0.
            return contribution if isinstance(contribution, Scalar) else 0.0 + contribution
        return total + contribution

    def receive(self, g: Any, record: bool, owned: bool) -> None:
        self.grad = g if self.op is not None or self.grad is None else self.grad + g

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Call `hook(gradient)` when this node's gradient is complete; what it returns, unless
        None, takes its place.  Gives a function that removes the hook.

        Raises:
            TypeError: the hook cannot be called.
        """
        if not callable(hook):
            raise TypeError(f"register_hook: needs a function, got {type(hook).__name__}")
        if self.hooks is None:
            self.hooks = []
        hooks = self.hooks

        def entry(g: Any) -> Any:  # its own, so that one hook can be registered twice
            return hook(g)

        hooks.append(entry)
        return lambda: hooks.remove(entry) if entry in hooks else None

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def detach(self) -> Scalar:
        """The same value as a constant, cut off from the graph."""
        return Constant(self._data, self.name)

    def edges(self) -> list[Edge]:
        """The edges from this gate to its inputs, with local gradient, gate gradient and
        contribution; constants are left out, since no gradient flows to them.

        >>> x, y, z = scalar(-2.0), scalar(5.0), scalar(-4.0)
        >>> q = x + y
        >>> f = q * z
        >>> f.backward()
        >>> [(e.local_gradient, e.gate_gradient, e.contribution) for e in q.edges()]
        [(1.0, -4.0, -4.0), (1.0, -4.0, -4.0)]
        """
        if self.op is None:
            return []
        gate_gradient = None if self.grad is None else float(_number(self.grad))
        local = self.pull(1.0, self.needs, False)
        flows = (
            [None] * len(local)
            if gate_gradient is None
            else self.pull(gate_gradient, self.needs, False)
        )
        return [
            Edge(source, self, slope, gate_gradient, flow)
            for source, slope, flow in zip(self.inputs, local, flows, strict=True)
            if slope is not None
        ]

    # --- a number --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        parts = [repr(self._data)]
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        if self.grad is not None:
            parts.append(f"grad={float(_number(self.grad))!r}")
        return f"scalar({', '.join(parts)})"

    def __float__(self) -> float:
        refuse_number(self)
        return self._data

    def __bool__(self) -> bool:
        return self._data != 0.0

    def __format__(self, spec: str) -> str:
        return format(self._data, spec) if spec else repr(self)

    def item(self) -> float:
        """The value as a float."""
        return self._data

    def __eq__(self, other: object) -> bool:
        return self._data == _number(other) if isinstance(other, (Scalar, Real)) else False

    def __lt__(self, other: Any) -> bool:
        return self._data < _number(other)

    def __le__(self, other: Any) -> bool:
        return self._data <= _number(other)

    def __gt__(self, other: Any) -> bool:
        return self._data > _number(other)

    def __ge__(self, other: Any) -> bool:
        return self._data >= _number(other)

    def __deepcopy__(self, memo: dict) -> Scalar:
        if self.op is not None:
            raise GraphError("only a leaf can be copied: take `.detach()` of a computed value")
        copy = type(self)(self._data, self.name)
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> tuple:
        if self.op is not None:
            raise GraphError("only a leaf can be pickled: take `.detach()` of a computed value")
        return (type(self), (self._data, self.name))

    # --- operators and functions -----------------------------------------------------------------

    __add__ = _operator(ops.add, operator.add)
    __sub__ = _operator(ops.subtract, operator.sub)
    __mul__ = _operator(ops.multiply, operator.mul)
    __truediv__ = _operator(ops.divide, ops.ieee_divide)

    def __pow__(self, other: Any) -> Scalar:
        return _applied(ops.power, self, other)

    def __rpow__(self, other: Any) -> Scalar:
        return _applied(ops.power, other, self)

    def __neg__(self) -> Scalar:
        return Scalar.apply(ops.negative, (self,), {})

    def __pos__(self) -> Scalar:
        return self

    def __abs__(self) -> Scalar:
        return Scalar.apply(ops.abs, (self,), {})

    def __radd__(self, other: Any) -> Scalar:
        return _applied(ops.add, other, self)

    def __rsub__(self, other: Any) -> Scalar:
        return _applied(ops.subtract, other, self)

    def __rmul__(self, other: Any) -> Scalar:
        return _applied(ops.multiply, other, self)

    def __rtruediv__(self, other: Any) -> Scalar:
        return _applied(ops.divide, other, self)

    exp = ops.exp
    log = ops.log
    sqrt = ops.sqrt
    square = ops.square
    sin = ops.sin
    cos = ops.cos
    tan = ops.tan
    tanh = ops.tanh
    sigmoid = ops.sigmoid
    relu = ops.relu
    abs = ops.abs

    def pow(self, exponent: Any) -> Scalar:
        """This value to the power of another."""
        return ops.power(self, exponent)

    def max(self, other: Any) -> Scalar:
        """The larger of two; a tie shares the gradient."""
        return ops.maximum(self, other)

    def min(self, other: Any) -> Scalar:
        """The smaller of two; a tie shares the gradient."""
        return ops.minimum(self, other)


class RecordedScalar(Scalar):
    """A scalar made while someone observes, with room for where in the source that was.

    Room in every scalar would cost all of them 3 % of their speed.
    """

    __slots__ = ("origin",)


class Constant(Scalar):
    """A scalar that no gradient flows to: a plain number in a formula, or a detached value."""

    __slots__ = ()
    requires_grad = False

    # The fast operators of Scalar take it for granted that a gradient is wanted.
    __add__ = _checked_operator(ops.add)
    __sub__ = _checked_operator(ops.subtract)
    __mul__ = _checked_operator(ops.multiply)
    __truediv__ = _checked_operator(ops.divide)

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """Constants have no gradient to compute.

        Raises:
            GraphError: always.
        """
        raise GraphError(
            f"backward from {self!r}, which depends on no scalar that requires a gradient: "
            "build it from scalar(...) outside of no_grad()"
        )


def scalar(data: Any, name: str | None = None, requires_grad: bool = True) -> Scalar:
    """Make a leaf of a scalar graph.

    Args:
        data: any real number.
        name: what pictures and messages call it.
        requires_grad: False makes a constant.

    Raises:
        TypeError: `data` is not a real number.
    """
    if isinstance(data, Scalar) or not isinstance(data, Real):
        raise TypeError(
            f"scalar: data must be a real number, got {type(data).__name__}"
            + ("; take `.detach()` of a Scalar" if isinstance(data, Scalar) else "")
        )
    if not requires_grad:
        return Constant(float(data), name)
    return (RecordedScalar if paused else Scalar)(float(data), name)


# --- the walk, specialised for floats ------------------------------------------------------------


def _collect(root: Scalar) -> tuple[list[Scalar], list[Scalar]]:
    """The gates below `root` that gradients flow to, newest first, and the leaves.

    Raises:
        GraphError: a leaf was set since a gate used it.
    """
    seen = {root}
    stack = [root]
    gates = []
    leaves = []
    while stack:
        node = stack.pop()
        if node.op is None:
            leaves.append(node)
            continue
        gates.append(node)
        for source in node.inputs:
            if source not in seen and source.requires_grad:
                seen.add(source)
                stack.append(source)
    gates.sort(key=_creation_number, reverse=True)
    if gates and gates[-1].seq < core.last_set:
        check_fresh(gates)
    return gates, leaves


def _backward(root: Scalar, g: float) -> None:
    """The walk of `core.walk`, with each gradient added up at its node instead of in a table."""
    with _walking:
        gates, leaves = _collect(root)
        before = [leaf.grad for leaf in leaves]
        for node in gates:
            node.grad = 0.0
        for leaf in leaves:
            leaf.grad = 0.0
        root.grad = g
        try:
            for node in gates:
                g = node.grad
                if node.hooks:
                    g = node.grad = _hooked(node, g)
                if g:  # a closed gate passes nothing, however steep it is
                    for source, flow in zip(node.inputs, node._pull(node, g)):  # noqa: B905 - speed
                        if flow is not None:
                            source.grad += flow
            for leaf, old in zip(leaves, before, strict=True):
                g = _hooked(leaf, leaf.grad) if leaf.hooks else leaf.grad
                leaf.grad = g if old is None else old + g
        except BaseException:
            # A rule or hook that fails half-way has changed no leaf.
            for leaf, old in zip(leaves, before, strict=True):
                leaf.grad = old
            raise


def _hooked(node: Scalar, g: float) -> float:
    for hook in list(node.hooks or ()):
        replaced = hook(g)
        if replaced is not None:
            g = float(replaced)
    return g
