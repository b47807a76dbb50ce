"""The recorder of `minigrad.capture`: it writes down what one run of a step computes on raw arrays.

It stands at three gates: `backend.execute` for the operations, the backward walk for the rules, and
`effects` for what is neither.  Each leaves one `Entry`: a function, where its arguments come from,
and what it gave.  An array is known by being the very object that an earlier entry gave, an
argument of the step, or what a lasting tensor holds; anything else is suspect, and two runs of the
step must agree on it (see `differs`).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np

from minigrad import backend, effects
from minigrad.core import Node
from minigrad.effects import CaptureError, Live, refused, user_line
from minigrad.nodes import Leaf, MultipleNode, OutputNode, TensorNode
from minigrad.observing import Interposer
from minigrad.ops.index import IndexedGradient
from minigrad.replay.drawn import Drawn
from minigrad.replay.entries import Decision, Entry, Held, Made, Slot, Source, varies
from minigrad.replay.surroundings import read_by_module
from minigrad.tensor import Tensor


class Recorder(Interposer):
    """What one run of a step did."""

    def __init__(self, surroundings: Sequence[tuple] = ()) -> None:
        self.surroundings = list(surroundings)
        self.state: Any = None
        self.busy = 0
        self.entries: list[Entry] = []
        self.decisions: list[Decision] = []
        self.inputs: list[Slot] = []
        self.leaves: dict[int, Slot] = {}
        self.given: dict[int, Any] = {}
        self.operands: set[int] = set()
        self.tensors: dict[int, tuple[Any, Any, bool]] = {}
        self.modules: dict[int, Any] = {}
        self.watched: str | None = None
        self.spoiled: str | None = None
        self.fallback = False
        self.wrote: list[str] = []
        self.result: Any = None
        self.kinds: dict[int, type] = {}
        self._known: dict[int, tuple[Any, Any]] = {}
        self._numbers = count()
        self._lives: dict[int, tuple[Slot, Live]] = {}
        self._kept: list[Any] = []

    # --- what is known ---------------------------------------------------------------------------

    def slot(self, value: Any, name: str = "v") -> Slot:
        """A new slot, which this object is now known by."""
        found = Slot(next(self._numbers), name)
        self.kinds[found.number] = type(value)
        self._know(value, found)
        return found

    def _know(self, value: Any, reference: Any) -> None:
        try:
            held: Any = weakref.ref(value)
        except TypeError:
            self._kept.append(value)  # a number of NumPy's; its address must not be used again
            held = lambda: value  # noqa: E731
        self._known[id(value)] = (held, reference)

    def find(self, value: Any) -> Any:
        """The reference by which an object is known, or None."""
        found = self._known.get(id(value))
        return found[1] if found is not None and found[0]() is value else None

    def constant(self, array: Any) -> None:
        """Note an array that follows from shapes alone."""
        self._kept.append(array)
        self._know(array, Held(array, by_value=True))

    def alias(self, copy: Any, array: Any) -> None:
        """Note an array that holds what another one holds."""
        self._know(copy, self.reference(array))

    def see(self, tensor: Any) -> None:
        """Note a lasting tensor: its array is known by it from now on."""
        data = tensor._data
        if id(tensor) in self.given:
            self._refuse_given()
        if self.find(data) is None:
            if not tensor.is_leaf and tensor._requires:
                self.refuse(
                    "a tensor that was computed before the step, and requires a gradient, is used "
                    "in it: its graph is not part of the step; pass it as an argument, detached"
                )
            self.tensors[id(tensor)] = (tensor, data, tensor._requires)
            self._know(data, Source(tensor))

    def reference(self, value: Any, by_value: bool = False) -> Any:
        """Where a value comes from, as entries write it down."""
        if isinstance(value, Live):
            return self._lives[id(value)][0] if id(value) in self._lives else Held(value.plain)
        if isinstance(value, Tensor):
            self.see(value)
            found = self.find(value._data)
            return Held(value) if isinstance(found, Source) else Made(found)
        if backend.is_array(value) or isinstance(value, (np.ndarray, np.generic, IndexedGradient)):
            found = self.find(value)
            if found is None:
                self._kept.append(value)
                self.operands.add(id(value))
                plain = isinstance(value, np.generic)
                found = Held(value, by_value=by_value or plain)
            return found
        kind = type(value)
        if kind in (tuple, list):
            return kind(self.reference(part) for part in value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            parts = [self.reference(part) for part in value]
            if all(isinstance(part, Held) for part in parts):
                return Held(value)
            self.refuse(f"a {kind.__name__} that holds values of the step is an argument here")
        if kind is dict:
            return {key: self.reference(part) for key, part in value.items()}
        if kind is slice:
            for part in (value.start, value.stop, value.step):
                if isinstance(part, Live) or self.find(part) is not None:
                    self.refuse("a slice whose bounds are values of the step")
        return Held(value)

    # --- refusing --------------------------------------------------------------------------------

    def refuse(self, message: str) -> None:
        """What a replay could not do: an error; or, if the user wants that, no recording."""
        if not self.fallback:
            refused(message)
        if self.spoiled is None:
            self.spoiled = f"{user_line()}: {message}"

    def _refuse_given(self) -> None:
        self.refuse(
            "a tensor that requires a gradient is an argument of the step, and is used here from "
            "outside of it too, where another may be passed later: do one or the other"
        )

    def reading(self, tensor: Any, how: str) -> None:
        """Refuse that a value is read, unless it is always the same."""
        found = self.find(tensor._data)
        if isinstance(found, Held) and found.by_value:
            return
        what = "of the step" if isinstance(found, Slot) else "that steps may change"
        self.refuse(
            f"{how} reads the value of a tensor {what} while the step is recorded; a replay runs "
            "no Python and would not see it change. Return the tensor from the step and read it "
            "outside, or choose with where(...)"
        )

    # --- operations ------------------------------------------------------------------------------

    def execute(self, proceed: Callable, op: Any, args: Sequence, params: dict, out: Any) -> Any:
        """Compute an operation, and write it down."""
        given = self._arguments(args)
        references = tuple(
            self.reference(value, by_value=isinstance(original, (list, tuple)))
            for value, original in zip(args, given, strict=True)
        )
        settings = {name: self.reference(value) for name, value in params.items()}
        if any(map(_is_mask, params.values())) and any(map(varies, settings.values())):
            self.refuse(
                f"{op.name} by a mask of booleans gives as many elements as are true, so the shape "
                "of what follows changes from step to step: use where(...), or multiply"
            )
        plain = [_plain(value) for value in args]
        if isinstance(args, list):  # nodes must keep arrays, not what stands for them
            args[:] = [_plain(value) if isinstance(value, Drawn) else value for value in args]
        params = {name: _plain(value) for name, value in params.items()}
        target = None if out is None else self.reference(out)
        self.busy += 1
        try:
            found = proceed(op, plain, params) if out is None else proceed(op, plain, params, out)
        finally:
            self.busy -= 1
        if op.multiple:
            numbers = tuple(not backend.is_array(part) for part in found)
            found = tuple(backend.array_of(part) for part in found)
            outs = tuple(self.slot(part) for part in found)
            shapes = tuple(part.shape for part in found)
        else:
            numbers = (not backend.is_array(found),)
            found = backend.array_of(found)
            outs, shapes = (self.slot(found),), (found.shape,)
        function = backend.kernel_of(op, plain)
        about = (op, numbers)
        if target is not None:
            settings = {**settings, "out": target}
        self._add(Entry("op", op.name, function, references, settings, outs, about, "", shapes))
        return found

    def _arguments(self, arrays: Sequence) -> Sequence:
        """What an op was applied to, if it was applied to tensors, and not only arrays.

        Recording looks at its caller's frame, so that computing need not pass on what only
        recording wants to know.
        """
        frame = sys._getframe(4)  # past `execute` of this, and of `backend`
        gate = _GATES.get(frame.f_code)
        if gate is None or frame.f_locals[gate.arrays] is not arrays:
            return arrays
        args = [arg for name in gate.args for arg in gate.read(frame.f_locals[name])]
        for arg in args:
            if isinstance(arg, Tensor):
                self.see(arg)
        return args

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry._replace(where=user_line()))

    # --- effects ---------------------------------------------------------------------------------

    def effect(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Call an effect, and write the call down."""
        if self.given:
            for group in [g for one in args for g in getattr(one, "param_groups", ())]:
                if any(id(p) in self.given for p in group["params"]):
                    self._refuse_given()
        references = tuple(self.reference(value) for value in args)
        settings = {name: self.reference(value) for name, value in kwargs.items()}
        self.busy += 1
        try:
            found = function(*map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})
        finally:
            self.busy -= 1
        parts = found if isinstance(found, tuple) else (found,)
        values: list[Any] = []
        outs: list[Slot | None] = []
        shapes: list[tuple] = []
        for part in parts:
            if isinstance(part, (float, int)) and not isinstance(part, bool):
                live = Live(part)
                slot = Slot(next(self._numbers), "n")
                self._lives[id(live)] = (slot, live)
                values.append(live)
                outs.append(slot)
            elif backend.is_array(part):
                values.append(part)
                outs.append(self.slot(part))
            elif part is None or isinstance(part, np.generic):
                array = None if part is None else np.asarray(part)
                values.append(array)
                outs.append(None if part is None else self.slot(array))
            else:
                raise CaptureError(
                    f"the effect {function.__qualname__} returned a {type(part).__name__}; an "
                    "effect returns None, or raw arrays and numbers"
                )
            shapes.append(getattr(values[-1], "shape", ()))
        if function in effects.draws and values[0].__class__ is np.ndarray:
            drawn = values[0].view(Drawn)
            drawn.plain = values[0]
            self._kept.append(drawn)
            self._know(drawn, outs[0])
            values[0] = drawn
        many = isinstance(found, tuple)
        name = function.__qualname__
        self._add(
            Entry(
                *("effect", name, function, references, settings),
                *(tuple(outs), many, "", tuple(shapes)),
            )
        )
        return tuple(values) if many else values[0]

    def decided(self, question: Callable, values: tuple) -> Any:
        """Ask a question, and write the answer down."""
        references = tuple(self.reference(value) for value in values)
        self.busy += 1
        try:
            answer = question(*map(_plain, values))
        finally:
            self.busy -= 1
        if any(map(varies, references)):
            made = Decision(question, references, answer, len(self.entries), user_line())
            self.decisions.append(made)
        return answer

    def note(self, module: Any) -> None:
        """Note a part of the model: its settings decide what it computes."""
        if id(module) not in self.modules:
            self.surroundings += read_by_module(module)
        self.modules[id(module)] = module
        if module._hooks:
            self.watched = "a forward hook"

    # --- the walk --------------------------------------------------------------------------------

    def observe(self, order: Sequence, table: dict) -> Iterable:
        for node in order:
            if type(node) not in (Leaf, TensorNode, MultipleNode, OutputNode):
                self.refuse(
                    f"a gradient flows through {type(node).__name__.removesuffix('Node').lower()}, "
                    "which runs Python in the backward pass (checkpoint does, and scalars)"
                )
            if node.hooks:
                self.refuse(
                    f"{node.name or 'a tensor'} has hooks, which a replay would not call: remove "
                    "them, or do not capture the step"
                )
        errors = np.geterr()
        self._add(Entry("begin", "walk", None, (), {}, (), tuple(sorted(errors.items()))))
        yield from order
        self._add(Entry("end", "walk", None, (), {}, ()))

    def pull(
        self, proceed: Callable, node: Any, g: Any, needs: tuple, record: bool, closed: bool
    ) -> Sequence:
        if record:
            self.refuse(
                "gradients with a graph of their own, which a replay does not have: do without "
                "create_graph=True, and put no_grad() around grad(...) of what requires a gradient"
            )
        if type(node) is OutputNode:
            return proceed(node, g, needs, record, closed)
        saved = node.saved or ()
        if any(isinstance(value, Live) for value in saved):
            node.saved = tuple(map(_plain, saved))
        references = (self._gradient(g), *(self.reference(value) for value in saved))
        settings = {name: self.reference(value) for name, value in node.params.items()}
        self.busy += 1
        try:
            found = proceed(node, g, needs, record, closed)
        finally:
            self.busy -= 1
        outs = tuple(None if part is None else self.slot(part, "g") for part in found)
        shapes = tuple(getattr(part, "shape", ()) for part in found if part is not None)
        inputs = tuple(_spec(source) for source in node.inputs)
        about = (node.op, type(node), inputs, needs, closed)
        self._add(
            Entry("pull", node.op.name, node.plan, references, settings, outs, about, "", shapes)
        )
        return found

    def _gradient(self, g: Any) -> Any:
        return tuple(map(self._gradient, g)) if isinstance(g, list) else self.reference(g)

    def merge(
        self, proceed: Callable, source: Any, total: Any, contribution: Any, owned: set
    ) -> Any:
        if type(source) is MultipleNode:
            index, g = contribution
            before = None if total is None else total[index]
            found = proceed(source, total, contribution, owned)
            if before is not None:
                self._sum("sum", (before, g), found[index])
            return found
        lazy = isinstance(contribution, IndexedGradient)
        if total is None and not lazy:
            return proceed(source, total, contribution, owned)
        mine = source in owned
        given = (self._gradient(total), self._gradient(contribution))
        self.busy += 1
        try:
            found = proceed(source, total, contribution, owned)
        finally:
            self.busy -= 1
        kind = ("spread" if total is None else "scatter" if mine else "onto") if lazy else (
            "add" if mine else "sum")  # fmt: skip
        out = self.slot(found, "g")
        self._add(Entry(kind, kind, None, given, {}, (out,), None, "", (source.shape,)))
        return found

    def _sum(self, kind: str, parts: tuple, found: Any) -> None:
        given = tuple(self.reference(part) for part in parts)
        out = self.slot(found, "g")
        self._add(Entry(kind, kind, None, given, {}, (out,), None, "", (found.shape,)))

    def receive(self, proceed: Callable, node: Any, g: Any, record: bool, owned: bool) -> None:
        tensor = None if node.owner is None else node.owner()
        if type(node) is not Leaf:
            self.refuse("retain_grad() of a tensor of the step: a replay has no such tensor")
        given = self._gradient(g)
        self.busy += 1
        try:
            proceed(node, g, record, owned)
        finally:
            self.busy -= 1
        if tensor is None:
            return
        self.see(tensor)
        reference: Any = self.leaves.get(id(tensor))
        if reference is None and id(tensor) in self.tensors:
            reference = Source(tensor)
        if reference is None:
            self.refuse("a leaf that the step made receives a gradient: make it before the step")
        self._add(Entry("hand", "hand", None, (reference, given), {}, (), None))
        held = None if tensor._grad is None else tensor._grad._data
        if held is not None:
            out = self.slot(held, "g")
            shapes = (held.shape,)
            self._add(Entry("grad", "grad", None, (reference,), {}, (out,), None, "", shapes))


class Gate(NamedTuple):
    """Where operations are applied to tensors: names of its variables."""

    arrays: str
    args: tuple[str, ...]
    read: Callable[[Any], Sequence]


_GATES = {
    Tensor.apply.__func__.__code__: Gate("arrays", ("args",), tuple),  # type: ignore[attr-defined]
    Tensor.__add__.__code__: Gate("values", ("a", "b"), lambda one: (one,)),
}


def _plain(value: Any) -> Any:
    if isinstance(value, Drawn):
        return value.plain
    return value.plain if isinstance(value, Live) else value


def _spec(source: Any) -> Any:
    """Of an input, what the rules ask of its node."""
    if not isinstance(source, Node):
        return None
    return Spec(source.shape, source.dtype)


class Spec(NamedTuple):
    """Shape and dtype of an input: what is left of its node in a program."""

    shape: tuple[int, ...]
    dtype: Any


def _is_mask(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(getattr(part, "dtype", None) == np.bool_ and np.ndim(part) > 0 for part in parts)


class recording(AbstractContextManager):
    """Let a recorder see what this thread does."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> Recorder:
        effects.recorders[get_ident()] = self._recorder
        backend.attend(self._recorder, True)
        return self._recorder

    def __exit__(self, *failure: object) -> None:
        backend.attend(self._recorder, False)
        del effects.recorders[get_ident()]
