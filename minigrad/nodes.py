"""The nodes of tensor graphs: what an application of an op keeps, and how gradients meet there.

Three chores that every rule would otherwise repeat stand here, once: broadcasting is undone and
the gradient cast to its argument's dtype (`_fit`), a closed gate passes nothing (`_shut`), and
gradients are added up without ever writing into an array that somebody else may hold (`merge`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from minigrad import backend, noting
from minigrad.core import GraphError, Node, Op, Variable, next_seq, paused, walk
from minigrad.noting import Noted
from minigrad.observing import recorded
from minigrad.ops import elementwise, shape
from minigrad.ops.index import IndexedGradient

_VALUES = (Variable, type(None))
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class TensorNode(Node):
    """One application of an op to tensors.

    Besides what every `Node` has:

    Attributes:
        plan: what the op saves and how it pulls, for just these needs.
        saved: the raw arrays that the rules need; None once they are freed.
        shape, dtype: of the output.
        owner: a weak reference to the tensor that shows this node's gradient, if one does.
        origin: where in the source it was made; there only if `study.recording()` saw it.
    """

    __slots__ = (
        "dtype",
        "hooks",
        "inputs",
        "keeps_grad",
        "name",
        "needs",
        "op",
        "origin",
        "owner",
        "params",
        "plan",
        "saved",
        "seq",
        "shape",
    )
    requires_grad = True
    owner: Any
    wrap: ClassVar[Callable[..., Any]]
    """Makes a tensor of a raw array and its node; `minigrad.tensor` puts it here."""

    def __init__(
        self, op: Op, inputs: tuple, needs: tuple[bool, ...], params: dict, values: tuple, data: Any
    ) -> None:
        plan = op.plan(needs)
        self.op = op
        self.inputs = inputs
        self.needs = needs
        self.params = params
        self.plan = plan
        self.saved: tuple | None = plan.gather(values)
        self.shape = data.shape
        self.dtype = data.dtype
        self.hooks = self.name = self.owner = None
        self.keeps_grad = False
        self.seq = next_seq()
        if paused:
            recorded(self, values)

    def __repr__(self) -> str:
        return f"<node {self.op.name} {self.shape} {self.dtype}>"

    def pull(self, g: Any, needs: tuple[bool, ...], record: bool, closed: bool) -> Sequence:
        saved = self.saved
        if saved is None or self.seq < backend.last_write:
            saved = self._values()
        if not record:
            return self.pull_raw(g, saved, needs, closed)
        saved = self._as_variables(saved)
        if self.op.like is not None:
            return self._pull_like(g, needs, saved)
        found = self.plan.pull(self, g, saved)
        if closed and self.op.elementwise:
            found = [None if c is None else _shut(g, c) for c in found]
        # A rule that is constant may give a plain array.
        found = [c if isinstance(c, _VALUES) else self.wrap(backend.array_of(c)) for c in found]
        return [
            None if c is None or not need else _fit(c, source, self.op, i, g)
            for i, (c, need, source) in enumerate(zip(found, needs, self.inputs, strict=False))
        ]

    def pull_raw(self, g: Any, saved: tuple, needs: tuple[bool, ...], closed: bool) -> Sequence:
        """`pull` on raw arrays that are known to be fresh.

        Of the node it asks for `op`, `plan`, `params`, and the shapes and dtypes of `inputs`, so
        that a program of `minigrad.capture` can call it for a node that is no more.
        """
        op = self.op
        kernel = backend.pull_kernel(op, g)
        found = None if kernel is None else kernel(g, *saved)
        if found is None:
            found = self.plan.pull(self, g, saved)
        if closed and op.elementwise:
            found = [None if c is None else _shut(g, c) for c in found]
        fitted: list[Any] = []
        for c, need, source in zip(found, needs, self.inputs):  # noqa: B905 - the innermost loop
            if c is None or not need:
                fitted.append(None)
            elif c.__class__ is np.ndarray and c.shape == source.shape and c.dtype is source.dtype:
                fitted.append(c)
            else:
                fitted.append(_fit(c, source, op, len(fitted), g))
        return fitted

    def _values(self) -> tuple:
        if self.saved is None:
            raise GraphError(
                f"backward through {self.op.name}: this graph was walked before and its saved "
                "values are freed; pass retain_graph=True to the first backward(), or compute "
                "the graph again"
            )
        for array in self.saved:
            writer = backend.writer_since(array, self.seq)
            if writer is not None:
                raise GraphError(
                    f"backward through {self.op.name}: a value of shape {array.shape} that it "
                    f"saved was changed in place by {writer} since; call backward() before "
                    "the change, or compute the graph again after it"
                )
        return self.saved

    def _as_variables(self, saved: tuple) -> tuple:
        """Saved arrays as tensors, connected to the nodes that they came from."""
        count = len(self.inputs)
        variables = []
        for position, array in zip(self.plan.save, saved, strict=True):
            node: Node | None
            if position >= count:
                node = self.output(position - count, array)
            else:
                node = self.inputs[position] if self.needs[position] else None
            plain = array is None or isinstance(array, (int, float))
            variables.append(array if plain else self.wrap(array, node))
        return tuple(variables)

    def output(self, index: int, array: Any) -> Node | None:
        """The node that stands for the output of this number."""
        return self

    def _pull_like(self, g: Any, needs: tuple[bool, ...], saved: tuple) -> Sequence:
        """The rule of a fused op under create_graph: that of the composition it equals."""
        count = len(self.inputs)
        aliases = [
            shape.identity(value) if need else value
            for value, need in zip(saved[:count], needs, strict=True)
        ]
        outputs = self.op.like(*aliases, **self.params)
        if not isinstance(outputs, tuple):
            outputs, g = (outputs,), (g,)
        seeds = [(o.node, s) for o, s in zip(outputs, g, strict=True) if s is not None]
        wanted = [alias.node for alias, need in zip(aliases, needs, strict=True) if need]
        found = iter(walk(seeds, wanted=wanted, record=True))
        return [next(found) if need else None for need in needs]

    def merge(self, total: Any, contribution: Any, owned: set[Node]) -> Any:
        if total is None and contribution.__class__ is not IndexedGradient:
            return contribution
        if isinstance(contribution, IndexedGradient):
            if total is None:
                total = contribution.zeros()
            elif self not in owned:
                total = total.copy()
            contribution.add_to(total)
            owned.add(self)
        elif self in owned:
            total += contribution
        else:
            total = total + contribution
            if not isinstance(total, Variable) and total.shape:
                owned.add(self)
        return total

    def receive(self, g: Any, record: bool, owned: bool) -> None:
        tensor = None if self.owner is None else self.owner()
        if tensor is not None:
            tensor.receive_grad(g, owned, accumulate=False)

    def release(self) -> None:
        self.saved = None


class Leaf(Node):
    """Where a graph begins: a tensor that was not computed on it, or a constant."""

    __slots__ = ("dtype", "hooks", "name", "origin", "owner", "requires_grad", "seq", "shape")
    op = None
    inputs = ()
    needs = ()
    params = _NOTHING
    saved = ()
    keeps_grad = True

    def __init__(self, data: Any, requires_grad: bool, owner: Any, name: str | None) -> None:
        self.shape = getattr(data, "shape", ())
        self.dtype = getattr(data, "dtype", None)
        self.requires_grad = requires_grad
        self.owner = None if owner is None else weakref.ref(owner)
        self.name = name
        self.hooks = None
        self.seq = next_seq()
        if paused:
            recorded(self, (data,))

    def __repr__(self) -> str:
        kind = "leaf" if self.requires_grad else "constant"
        return f"<{kind} {self.name or ''} {self.shape} {self.dtype}>"

    merge = TensorNode.merge

    def receive(self, g: Any, record: bool, owned: bool) -> None:
        tensor = None if self.owner is None else self.owner()
        if tensor is not None:
            tensor.receive_grad(g, owned, accumulate=True)


class MultipleNode(TensorNode):
    """One application of an op with several outputs; each output is an `OutputNode` of its own."""

    __slots__ = ("shapes",)

    def __init__(
        self, op: Op, inputs: tuple, needs: tuple[bool, ...], params: dict, values: tuple, data: Any
    ) -> None:
        self.shapes = [array.shape for array in data]
        super().__init__(op, inputs, needs, params, values, data[0])

    def output(self, index: int, array: Any) -> Node | None:
        return OutputNode(self, index, array) if self.op.differentiable[index] else None

    def merge(self, total: Any, contribution: Any, owned: set[Node]) -> Any:
        index, g = contribution
        total = [None] * len(self.shapes) if total is None else total
        total[index] = g if total[index] is None else total[index] + g
        return total

    def pull(self, g: Any, needs: tuple[bool, ...], record: bool, closed: bool) -> Sequence:
        return super().pull(tuple(g), needs, record, False)


_OUTPUT = Op("output", lambda x: x, inputs=("x",))


class OutputNode(TensorNode):
    """One output of a `MultipleNode`."""

    __slots__ = ("index",)

    def __init__(self, source: MultipleNode, index: int, data: Any) -> None:
        self.index = index  # first: who stands by sees the node while it is made
        super().__init__(_OUTPUT, (source,), (True,), {}, (), data)

    def pull(self, g: Any, needs: tuple[bool, ...], record: bool, closed: bool) -> Sequence:
        return [(self.index, g)]


def _fit(g: Any, source: Node, op: Op, position: int, gate: Any = None) -> Any:
    """Undo broadcasting and casting: a contribution in the shape and dtype of its argument.

    `gate` is the gate gradient that it came from: a plain number becomes an array beside it.
    """
    if isinstance(g, IndexedGradient):
        g.dtype = source.dtype
        return g
    if type(g) is float or type(g) is int:  # and no number that NumPy summed up by mistake
        gate = getattr(gate, "_data", gate)
        g = backend.device_of(gate).module.full(source.shape, g, source.dtype)
    if not hasattr(g, "dtype"):
        raise GraphError(
            f"{op.name}: the rule for its argument {position} returned a {type(g).__name__}, "
            "not an array or a tensor"
        )
    if g.shape != source.shape:
        try:
            fits = np.broadcast_shapes(g.shape, source.shape) == g.shape
        except ValueError:
            fits = False
        if not fits:
            raise GraphError(
                f"{op.name}: the rule for its argument {position} returned a gradient of shape "
                f"{g.shape}, but the argument has shape {source.shape}"
            )
        g = shape.sum_to(g, source.shape)
    if g.dtype != source.dtype:
        g = shape.astype(g, source.dtype)
    return g


@noting.noted
def _shut_here(g: Any, found: Any) -> None:
    """As `_shut`, in place."""
    if not np.isfinite(np.add.reduce(found, axis=None)):
        found[(g == 0) & ~np.isfinite(found)] = 0.0


def _shut(g: Any, contribution: Any) -> Any:
    """0 where the gate gradient is 0 and the contribution no finite number."""
    g, found = getattr(g, "_data", g), getattr(contribution, "_data", contribution)
    if type(found) is Noted and (book := noting.current()) is not None:
        if found is not g:
            book.alone(found)
            _shut_here(g, found)
        return contribution
    if np.isfinite(np.add.reduce(found, axis=None)):
        return contribution
    shut = (g == 0) & ~np.isfinite(found)
    return elementwise.where(shut, 0.0, contribution) if shut.any() else contribution
