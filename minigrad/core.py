"""Operations, the nodes that they leave behind, and the backward walk over those nodes.

This file knows neither NumPy nor `Tensor`: it is the chain rule on any kind of value.  Start here.

An `Op` says how to compute a value and, for each input, one *rule*: the gradient that flows back
along that edge.  Applying an op to variables records a `Node`.  `walk` visits the nodes from the
output to the leaves and adds up, for each node, what flows into it.  In the words of the
lectures: a gate receives the *gate gradient* df/dq, multiplies it by its *local gradient* dq/dx,
and hands the product, the *contribution*, to its input.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count
from operator import attrgetter
from threading import RLock
from typing import Any

from minigrad.effects import recorders
from minigrad.errors import GraphError
from minigrad.observing import passage, standing
from minigrad.plans import Plan, Saved, compile_pull, make_plan, shape_of
from minigrad.recording import enable_grad, is_recording, no_grad, paused

__all__ = [
    "GraphError",
    "Node",
    "Op",
    "Saved",
    "Variable",
    "enable_grad",
    "is_recording",
    "no_grad",
    "op",
    "paused",
    "shape_of",
]

next_seq = count(1).__next__
"""The creation number of the next node.  Inputs are older than what is computed from them, so
descending creation number is a topological order and no search for one is needed."""

_creation_number = attrgetter("seq")

last_set = 0
"""Creation number at the last time that a scalar leaf was set: any gate that is newer is fresh."""


# --- variables and nodes -------------------------------------------------------------------------


class Variable:
    """What an op can be applied to with a record: `Scalar` and `Tensor`."""

    __slots__ = ()
    _data: Any
    requires_grad: Any
    item: Any
    detach: Any

    @classmethod
    def apply(cls, op: Op, args: tuple, params: dict) -> Any:
        """Compute `op` on `args` and record it."""
        raise NotImplementedError  # each kind of variable has its own


class Node:
    """One application of an op: where its inputs came from, and what its rules need.

    A node never refers to its own output, and nothing refers to the nodes that come after it, so
    there are no reference cycles: a graph is freed as soon as its last output is.

    Attributes:
        op: the operation; None for a leaf.
        inputs: one entry an argument: its node, or the plain value of a Python constant.
        needs: one bool an argument: whether a gradient flows along that edge.
        params: the op's static parameters.
        seq: the creation number.
        requires_grad: whether a gradient reaches this node at all.
        name: what the user calls it.
        hooks: functions of this node's whole gradient, called by the walk.
    """

    __slots__ = ()
    op: Any  # an Op, or None
    inputs: tuple
    needs: Any  # tuple[bool, ...]; scalars compute it
    params: Mapping[str, Any]
    seq: int
    requires_grad: bool
    name: str | None
    hooks: list[Callable] | None
    shape: tuple[int, ...]
    dtype: Any
    keeps_grad: bool
    """Whether the gradient is to stay readable: at leaves, and where the user asked for it."""

    def pull(self, g: Any, needs: tuple[bool, ...], record: bool, closed: bool) -> Sequence:
        """Contributions to the inputs, given this node's gradient: one an argument, or None.

        `record` asks for variables; `closed` says that some gate downstream may be closed, so
        that a zero in `g` must give a zero, however steep the slope.
        """
        raise NotImplementedError  # each kind of node has its own

    def merge(self, total: Any, contribution: Any, owned: set[Node]) -> Any:
        """This node's gradient so far, with one more contribution.

        `total` is None at first.  `owned` holds the nodes whose total is a buffer of the walk's
        own: only such a buffer may be written in place.
        """
        raise NotImplementedError

    def receive(self, g: Any, record: bool, owned: bool) -> None:
        """Keep the finished gradient where the user can read it (leaves; others on request)."""

    def release(self) -> None:
        """Forget what only the rules needed."""


# --- ops -----------------------------------------------------------------------------------------


class Op:
    """A named operation: its forward computation and how gradients flow back through it.

    Most ops are made by the short form, `op`.  This is the full form, for several outputs and for
    backward passes that share work between their results.

    Args:
        name: shown in pictures and messages.
        forward: computes on raw arrays; positional arguments are the op's inputs, keywords its
            static parameters.  With several outputs it returns a tuple.
        inputs: names of the inputs; a last name that starts with `*` takes any number.
        backward: `backward(saved, g, needs) -> gradients`, one an input (None where `needs` is
            False), in differentiable ops.  With several outputs `g` is a tuple, with None for an
            output that received nothing.
        saves: names of inputs and outputs to keep.  A name that ends in `_shape` costs nothing:
            write `x_shape` to have the shape of `x`.
        outputs: names of the outputs.
        differentiable: which outputs carry gradient; all by default.
        scalar: computes on Python floats; None where the op has no meaning on one number.
        like: for a fused op, the plain composition that it equals.  It is specification, test
            oracle, and the derivative under `create_graph`; every input is then saved.
        gate: "elementwise" where a zero gate gradient must give a zero contribution although the
            local gradient may be infinite or NaN there; "selects" where the op closes gates
            (`where`, `maximum`, indexing, ...); None elsewhere.
        view: whether the output may share memory with the first input.
    """

    def __init__(
        self,
        name: str,
        forward: Callable,
        *,
        inputs: Sequence[str],
        backward: Callable | None = None,
        saves: Sequence[str] = (),
        outputs: Sequence[str] = ("y",),
        differentiable: Sequence[bool] | None = None,
        scalar: Callable | None = None,
        like: Callable | None = None,
        gate: str | None = None,
        view: bool = False,
        rules: Sequence[Callable] = (),
    ) -> None:
        self.name = name
        self.forward = forward
        self.inputs = tuple(inputs)
        self.variadic = bool(self.inputs) and self.inputs[-1].startswith("*")
        self.outputs = tuple(outputs)
        self.differentiable = tuple(differentiable or [True] * len(self.outputs))
        self.backward = backward
        self.saves = tuple(saves)
        self.rules = tuple(rules)
        self.scalar = scalar
        self.like = like
        self.selects = gate == "selects"
        self.elementwise = gate == "elementwise"
        self.view = view
        self.multiple = len(self.outputs) > 1
        self.arity = -1 if self.variadic else len(self.inputs)
        self.defaults: dict[str, Any] = getattr(forward, "__kwdefaults__", None) or {}
        self._plans: dict[tuple[bool, ...], Plan] = {}
        self._scalar_pulls: dict[tuple[tuple[bool, ...], bool], Callable] = {}
        if isinstance(forward, types.FunctionType):
            self.__doc__ = forward.__doc__ or self.__doc__
        self.__name__ = name

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> str | tuple:
        raise TypeError(f"op {self.name} cannot be pickled: graphs are not saved, only data is")

    def __copy__(self) -> Op:
        return self

    def __deepcopy__(self, memo: dict) -> Op:
        return self  # a declaration, not data: a module that holds one can be copied

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As an attribute of a class, an op is a method: its first input is the instance."""
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Apply to Tensors or Scalars with a record; to raw arrays or numbers without one.

        Raises:
            TypeError: too many or too few arguments, or a keyword that the op does not have.
        """
        # NumPy's own functions would write into what stands behind their arguments.
        if len(args) != self.arity >= 0:
            raise TypeError(
                f"{self.name} takes {self.arity} argument(s), {', '.join(self.inputs)}; "
                f"{len(args)} given"
            )
        if params and hasattr(self.forward, "nin"):
            raise TypeError(f"{self.name} has no keyword argument {', '.join(params)}")
        for arg in args:
            if isinstance(arg, Variable):
                return arg.apply(self, args, params)
        return compute(self, args, params)

    def plan(self, needs: tuple[bool, ...]) -> Plan:
        """What to save and how to pull when just these inputs need a gradient; made once."""
        found = self._plans.get(needs)
        if found is None:
            found = self._plans[needs] = make_plan(self, needs)
        return found

    def scalar_pull(self, needs: tuple[bool, ...], record: bool) -> Callable:
        """The contributions of a scalar gate as one function `(node, g)`, compiled once."""
        found = self._scalar_pulls.get((needs, record))
        if found is None:
            end = "" if record else "._data"
            values = {name: f"node.inputs[{i}]{end}" for i, name in enumerate(self.inputs)}
            values["y"] = f"node{end}"
            found = compile_pull(self, needs, values)
            self._scalar_pulls[needs, record] = found
        return found


def compute(op: Op, args: tuple, params: dict) -> Any:
    """Compute on raw values; `backend` puts its gate here when arrays are first in play."""
    if op.scalar is not None and not params:
        for arg in args:
            if not isinstance(arg, (float, int)):
                break
        else:
            return op.scalar(*args)
    return execute(op, args, params)


def execute(op: Op, args: Sequence, params: dict, out: Any = None) -> Any:
    """Run the forward computation of `op`; replaced by `minigrad.backend` when it is loaded."""
    return op.forward(*args, **params)


def raw(value: Any) -> Any:
    """The plain value of a variable; anything else as it is.

    For the parts of a rule that are constant almost everywhere, such as which element is larger.
    """
    return value._data if isinstance(value, Variable) else value


def op(
    name: str,
    forward: Callable,
    *rules: Callable,
    scalar: Callable | None = None,
    inputs: str | None = None,
    gate: str | None = None,
    view: bool = False,
) -> Op:
    """Declare an op: its forward on arrays and one rule for each input.

    A rule gets the gate gradient `g` and returns the contribution to its input.  Its further
    parameter names say what it needs, and only that is kept in memory: `y` is the output, an
    input goes by its name in `forward` (for NumPy's ufuncs `x`, or `a` and `b`), `x_shape` is the
    shape of `x`, any other name is a static (keyword) parameter.  Written with minigrad's own
    functions and operators, a rule can be differentiated again.  A contribution may still have
    the broadcast shape: that is undone afterwards, in one place.

    Args:
        name: shown in pictures and messages.
        forward: a function of arrays; keyword-only parameters are static.
        rules: one for each input, in order.
        scalar: the same on Python floats, for `Scalar`; None if there is no such thing.
        inputs: names of the inputs, where the signature of `forward` does not say them.
        gate, view: see `Op`.

    Raises:
        TypeError: a rule is no plain function.
        ValueError: the number of rules is not the number of inputs, a rule takes no gradient, or
            it names something that the op does not have.

    >>> import minigrad, numpy as np
    >>> cube = minigrad.op("cube", lambda x: x**3, lambda g, x: g * 3 * x**2)
    >>> x = minigrad.tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    """
    if inputs is not None:
        names = tuple(inputs.split())
    elif hasattr(forward, "nin"):
        names = ("x",) if forward.nin == 1 else ("a", "b")
    else:
        parameters = inspect.signature(forward).parameters.values()
        names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    if len(rules) != len(names):
        raise ValueError(
            f"op {name}: its inputs are {', '.join(names)}, so it takes {len(names)} rule(s), "
            f"one for each in this order; {len(rules)} given"
        )
    known = {"y", *names, *(f"{n}_shape" for n in names), *_static(forward)}
    for i, rule in enumerate(rules):
        if not isinstance(rule, types.FunctionType):
            raise TypeError(f"op {name}: rule {i} must be a lambda or def, got {rule!r}")
        wanted = rule.__code__.co_varnames[: rule.__code__.co_argcount]
        if wanted[:1] != ("g",):
            raise ValueError(f"op {name}: the first parameter of a rule is the gate gradient `g`")
        for unknown in wanted[1:]:
            if unknown not in known:
                raise ValueError(
                    f"op {name}: rule {i} asks for `{unknown}`; it can have "
                    f"{', '.join(sorted(known))}"
                )
    return Op(name, forward, inputs=names, rules=rules, scalar=scalar, gate=gate, view=view)


def _static(forward: Callable) -> tuple[str, ...]:
    """Names of the static parameters of a forward function."""
    if not isinstance(forward, types.FunctionType):
        return ()
    code = forward.__code__
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


# --- the backward walk ---------------------------------------------------------------------------


def collect(roots: Iterable[Node], ends: Collection[Node] = ()) -> list[Node]:
    """All nodes that a gradient from `roots` can reach, newest first; no recursion.

    Args:
        roots: where to start.
        ends: nodes to stop at, a set where there are any.

    Raises:
        GraphError: a leaf was set since a gate used it.
    """
    stack = list(dict.fromkeys(roots))
    seen = set(stack)
    order = []
    while stack:
        node = stack.pop()
        order.append(node)
        if ends and node in ends:
            continue
        for source, need in zip(node.inputs, node.needs):  # noqa: B905 - a third faster
            if need and source not in seen:
                seen.add(source)
                stack.append(source)
    order.sort(key=_creation_number, reverse=True)
    if order and order[-1].seq < last_set:
        check_fresh(order)
    return order


def leading_to(order: Sequence[Node], wanted: set[Node]) -> set[Node]:
    """Of the nodes in `order` (newest first), those through which a wanted node is reached."""
    useful = set()
    for node in reversed(order):
        if node in wanted or any(
            need and source in useful for source, need in zip(node.inputs, node.needs, strict=True)
        ):
            useful.add(node)
    return useful


def check_fresh(order: Iterable[Node]) -> None:
    """Tell that a leaf is younger than what was computed from it: its value was set since.

    Raises:
        GraphError: one of the nodes has such an input.
    """
    for node in order:
        for source, need in zip(node.inputs, node.needs, strict=True):
            if need and source.seq > node.seq:
                raise GraphError(
                    f"{source!r} was changed after {node.op.name} had used it, so the gradient of "
                    f"{node.op.name} would be wrong: compute the graph again before backward()"
                )


_handing_over = RLock()


def _references(held: list[Any], i: int) -> int:
    """How many references there are to one object of a list, in CPython; elsewhere 0."""
    return _count(held[i])


_count: Callable[[Any], int] = getattr(sys, "getrefcount", lambda held: 0)
# What `_references` gives for an object to which only the list refers.
_ALONE = _references([object()], 0) or -1


def hand_over(
    receivers: Sequence[Any], gradients: list[Any], receive: Callable[[Any, Any, bool], None]
) -> None:
    """`receive(receiver, gradient, mine)` for each; `mine` where only the list refers to it.

    By one thread at a time, since adding to a leaf's gradient is reading and then writing it.
    What nobody else refers to needs no copy.
    """
    with _handing_over:
        for i, receiver in enumerate(receivers):
            mine = _references(gradients, i) == _ALONE
            receive(receiver, gradients[i], mine)


Observer = Callable[[Sequence[Node], dict[Node, Any]], Iterable[Node]]


def walk(
    seeds: Sequence[tuple[Node, Any]],
    *,
    wanted: Sequence[Node] | None = None,
    record: bool = False,
    release: bool = False,
    order: Sequence[Node] | None = None,
    stop: bool = False,
    observe: Observer | None = None,
) -> list[Any]:
    """Send gradients from the roots back through the graph.

    Args:
        seeds: pairs of a root and the gradient to start with.
        wanted: nodes whose gradient is returned, and nothing else is touched; without it, every
            leaf receives its gradient (and every node that was asked to retain its own).
        record: compute with variables, so that the gradients have a graph of their own.
        release: forget saved values as the walk passes.
        order: what `collect` gave for these roots, if it is known.
        stop: go no further than the wanted nodes, so that what is returned are the partial
            derivatives by them; otherwise one wanted node may act through another.
        observe: gets the order and the table of gradients, and returns the order again, usually
            as a generator that looks at the table between two nodes.

    Returns:
        The gradient of each wanted node, None where nothing flowed.
    """
    targets = None if wanted is None else set(wanted)
    if order is None:
        order = collect([node for node, _ in seeds], targets if stop and targets else ())
    useful = set() if targets is None else leading_to(order, targets)
    table: dict[Node, Any] = {}
    owned: set[Node] = set()
    results: dict[Node, Any] = {}
    finished: list[Node] = []
    gradients: list[Any] = []
    contributions: Sequence[Any] = ()
    # Where any gate of the graph can close, a zero stays a zero, however steep the slope; asked of
    # the whole graph, so that nothing depends on the order in which its parts were made.
    closed = any(node.op is not None and node.op.selects for node in order)
    for node, g in seeds:
        table[node] = node.merge(table.get(node), g, owned)
    through = passage() if standing or recorders else None
    steps: Iterable[Node] = order if observe is None else observe(order, table)
    if through is not None:
        steps = through.observe(steps, table)

    for node in steps:
        g = table.pop(node, None)
        if g is None:
            continue
        if node.hooks:
            for hook in list(node.hooks):
                replaced = hook(g)
                g = g if replaced is None else replaced
            owned.discard(node)  # a hook may have kept what it saw
        if targets is None:
            if node.keeps_grad:
                finished.append(node)
                gradients.append(g)
            needs = node.needs
        else:
            if node in targets:
                results[node] = g
                if stop:
                    continue
            needs = tuple(
                need and source in useful
                for source, need in zip(node.inputs, node.needs, strict=True)
            )
        if True in needs:
            if through is not None:
                through.send(node, g, needs, record, closed, table, owned)
            else:
                contributions = node.pull(g, needs, record, closed)
                for source, contribution in zip(node.inputs, contributions):  # noqa: B905
                    if contribution is not None:
                        table[source] = source.merge(table.get(source), contribution, owned)
            if release:
                node.release()
    # Handed over at the end, so that a walk which fails half-way has changed no gradient.
    g, contribution, contributions = None, None, ()

    def receive(node: Node, g: Any, mine: bool) -> None:
        if through is not None:
            through.receive(node, g, record, mine or node in owned)
        else:
            node.receive(g, record, mine or node in owned)

    hand_over(finished, gradients, receive)
    return [] if wanted is None else [results.get(node) for node in wanted]
