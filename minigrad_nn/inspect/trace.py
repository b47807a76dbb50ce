"""Watches one forward pass of a module: which call made which operation, of what, how costly.

It stands at the gate through which every operation goes (`minigrad.backend.interpose`), so it sees
them whether or not they are recorded, and tells what was made of what by the arrays themselves.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median
from threading import get_ident
from types import CodeType
from typing import Any

import numpy as np

import minigrad
from minigrad import backend
from minigrad.tensor import Tensor

from ..module import Module
from .counting import is_view, multiply_adds, stand_in

__all__ = ["Call", "Made", "Trace", "Watcher", "in_eval_mode", "tensors_in", "trace", "watched"]


@dataclass(eq=False)
class Made:
    """One operation of the forward pass.

    Attributes:
        op: its name.
        key: where in the source it stands: equal for the rounds of a loop.
        shape: of the result.
        arguments: what it took: an operation, the number of an input, or None for parameters and
            constants.
        shapes: of its arguments.
        params: its static parameters.
        constants: arguments that are constant matrices, by position.
        parameters: ids and sizes of the parameters that it took.
        multiply_adds: products of two numbers that are added up.
        bytes: of the result; 0 where it shares the memory of an argument.
        seconds: of the computation, the median over the measured passes.
    """

    op: str
    key: tuple
    shape: tuple[int, ...]
    arguments: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    params: Mapping[str, Any]
    constants: dict[int, np.ndarray]
    parameters: dict[int, int]
    multiply_adds: int
    bytes: int
    seconds: float = 0.0

    @property
    def sources(self) -> list[Any]:
        """The operations and inputs whose results it took."""
        return [source for source in self.arguments if source is not None]


@dataclass(eq=False)
class Call:
    """One call of a module, with what happened inside, in order.

    Attributes:
        path: of the module in the model.
        module: it.
        key: as for `Made`.
        parts: calls and operations inside.
        given: what its tensors were made by, as in `Made.arguments`.
        gave: the same of what came out.
        shapes: of the tensors that came out.
        seconds: the time that it took, with all inside.
    """

    path: str
    module: Module
    key: tuple
    parts: list[Any] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)
    gave: list[Any] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first tensor that came out."""
        return self.shapes[0] if self.shapes else ()


@dataclass(eq=False)
class Trace:
    """A forward pass.

    Attributes:
        root: the call of the whole model.
        inputs: shapes of the tensors that went in.
        outputs: the operations whose results came out.
        operations: all, in order.
        calls: all, in the order in which they began.
    """

    root: Call
    inputs: list[tuple[int, ...]]
    outputs: list[Any]
    operations: list[Made]
    calls: list[Call]


_OWN = tuple(
    os.path.dirname(str(package.__file__)) + os.sep
    for package in (minigrad, sys.modules[__name__.partition(".")[0]])
)

_SMALL = 1 << 20
"""Constant matrices of at most so many elements are kept: those that resize pictures."""


class _Arrays:
    """Who made which array; an array that is gone is forgotten."""

    def __init__(self) -> None:
        self._makers: dict[int, tuple[Callable[[], Any], Any]] = {}

    def put(self, array: Any, maker: Any) -> None:
        try:
            reference: Callable[[], Any] = weakref.ref(array)
        except TypeError:  # an array type without weak references is held instead
            reference = _Held(array)
        self._makers[id(array)] = (reference, maker)

    def get(self, array: Any) -> Any:
        """The maker of an array, or of the one whose memory it shows; None if it is unknown."""
        while array is not None:
            reference, maker = self._makers.get(id(array), (None, None))
            if reference is not None and reference() is array:
                return maker
            array = getattr(array, "base", None)
        return None


class _Held:
    def __init__(self, array: Any) -> None:
        self._array = array

    def __call__(self) -> Any:
        return self._array


class Watcher:
    """Is told of the calls of modules, by `watched`.

    Attributes:
        stack: the calls that are going on; the first one stays, so that it can be taken from there.
        calls: all, in the order in which they began.
        made: who made which array.
    """

    def __init__(self) -> None:
        self.stack: list[Call] = []
        self.calls: list[Call] = []
        self.made = _Arrays()


class _Gatekeeper(Watcher):
    """Sees the operations of its thread besides."""

    def __init__(self, model: Module, dry: bool) -> None:
        super().__init__()
        self.operations: list[Made] = []
        self._dry = dry
        self._thread = get_ident()
        self._inside: list[int] | None = None
        self._parameters = {id(p._data): p for p in model.parameters()}

    def execute(self, proceed: Callable, op: Any, args: Sequence, params: dict) -> Any:
        """Stands in the way of computation, takes the time, and writes down what was made."""
        if get_ident() != self._thread:
            return proceed(op, args, params)
        if self._inside is not None:  # an operation that is made of others
            found = proceed(op, args, params)
            shapes = [np.shape(arg) for arg in args]
            self._inside.append(multiply_adds(op.name, shapes, np.shape(found), params))
            return found
        found = stand_in(op, args, params) if self._dry else None
        seconds = 0.0
        inside: list[int] = []
        if found is None:
            self._inside = inside
            start = time.perf_counter()
            try:
                found = proceed(op, args, params)
            finally:
                self._inside = None
            seconds = time.perf_counter() - start
        if isinstance(found, (np.generic, float, int)):
            found = np.asarray(found)  # so that it can be told from equal numbers
        self._write_down(op, args, params, found, seconds, sum(inside))
        return found

    def _write_down(
        self, op: Any, args: Sequence, params: dict, found: Any, seconds: float, inside: int
    ) -> None:
        results = found if isinstance(found, tuple) else (found,)
        sources, parameters, constants = [], {}, {}
        for position, arg in enumerate(args):
            parameter = self._parameters.get(id(arg))
            source = None if parameter is not None else self.made.get(arg)
            if parameter is not None:
                parameters[id(parameter)] = parameter.size
            elif source is None and np.ndim(arg) == 2 and np.size(arg) <= _SMALL:
                constants[position] = arg
            sources.append(source)
        if not parameters and all(source is None for source in sources):
            return  # among constants: nothing that the input or a weight has to do with
        shape = np.shape(results[0])
        shapes = tuple(np.shape(arg) for arg in args)
        made = Made(
            op.name,
            _place(),
            shape,
            tuple(sources),
            shapes,
            params,
            constants,
            parameters,
            multiply_adds(op.name, shapes, shape, params) or inside,
            0 if is_view(op, params) else sum(_bytes(r) for r in results),
            seconds,
        )
        for result in results:
            self.made.put(result, made)
        self.operations.append(made)
        if self.stack:
            self.stack[-1].parts.append(made)


def _bytes(array: Any) -> int:
    return int(np.prod(array.shape)) * array.dtype.itemsize


def _place() -> tuple:
    """The instruction of the user's code, or of a module's `forward`, that is at work."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_OWN) or frame.f_code.co_name == "forward":
            break
        frame = frame.f_back
    # Once a loop is hot, the interpreter may enter a call from behind the instruction itself; what
    # stands there in the source is the same.
    return (frame.f_code, *_positions(frame.f_code)[frame.f_lasti // 2])


@lru_cache(maxsize=1024)
def _positions(code: CodeType) -> list[tuple]:
    """Lines and columns of each instruction; its number where they were not kept."""
    return [(i,) if None in p else p for i, p in enumerate(code.co_positions())]


@contextmanager
def watched(model: Module, watcher: Watcher) -> Iterator[None]:
    """Tell the watcher of each call of a module inside."""
    replaced = []
    try:
        for path, module in model.named_modules():
            before = vars(module).get("forward")
            module.__dict__["forward"] = _telling(watcher, path, module, module.forward)
            replaced.append((module, before))
        yield
    finally:
        for module, before in replaced:
            if before is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = before


def _telling(watcher: Watcher, path: str, module: Module, forward: Callable) -> Callable:
    def told(*args: Any, **kwargs: Any) -> Any:
        call = Call(path, module, _place())
        call.given = [watcher.made.get(t._data) for t in tensors_in((args, kwargs))]
        watcher.calls.append(call)
        if watcher.stack:
            watcher.stack[-1].parts.append(call)
        watcher.stack.append(call)
        start = time.perf_counter()
        try:
            output = forward(*args, **kwargs)
        finally:
            call.seconds = time.perf_counter() - start
            if len(watcher.stack) > 1:
                watcher.stack.pop()
        found = list(tensors_in(output))
        call.shapes = [t.shape for t in found]
        call.gave = [watcher.made.get(t._data) for t in found]
        return output

    return told


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a value: itself, or those in its lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)


@contextmanager
def in_eval_mode(model: Module) -> Iterator[None]:
    """Have the whole model in `eval` mode inside the block, and every module as before after it."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def trace(
    model: Module, *inputs: Any, passes: int = 3, dry: bool = False, who: str = "overview"
) -> Trace:
    """Watch forward passes of a model, in `eval` mode; its state does not change.

    Args:
        model: what to call.
        inputs: tensors and whatever else it is called with.
        passes: over how many passes the times are taken; one more comes first, to warm up.
        dry: leave out the arithmetic of convolutions and matrix products, whose results are then
            zeros: shapes and costs are the same, and large networks take no time.
        who: begins the messages.

    Raises:
        TypeError: no tensor is among the inputs, or the model gives none.
    """
    found: list[Trace] = []
    with in_eval_mode(model), minigrad.no_grad():
        for _ in range(passes + 1):
            found.append(_once(model, inputs, dry, who))
    *_, last = found
    times = found[1:] or [last]
    for alike in ("operations", "calls"):
        rounds = [getattr(one, alike) for one in times]
        if len({len(one) for one in rounds}) == 1:
            for same in zip(*rounds, strict=True):
                same[-1].seconds = median(one.seconds for one in same)
    return last


def _once(model: Module, inputs: Sequence[Any], dry: bool, who: str) -> Trace:
    # Arrays of their own, so that two inputs that are one tensor are told apart.
    given = [v.detach().copy() if isinstance(v, Tensor) else v for v in inputs]
    tensors = list(tensors_in(given))
    if not tensors:
        raise TypeError(f"{who}: give the model's input as a tensor, such as zeros of its shape")
    watcher = _Gatekeeper(model, dry)
    for number, tensor in enumerate(tensors):
        watcher.made.put(tensor._data, number)
    with watched(model, watcher), backend.interpose(watcher.execute):
        output = model(*given)
    made = [watcher.made.get(t._data) for t in tensors_in(output)]
    outputs = [one for one in made if one is not None]
    if not watcher.stack or not outputs:
        raise TypeError(f"{who}: the model gave no tensor that was computed from its inputs")
    root, shapes = watcher.stack[0], [t.shape for t in tensors]
    return Trace(root, shapes, outputs, watcher.operations, watcher.calls)
