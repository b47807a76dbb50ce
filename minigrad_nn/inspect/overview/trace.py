"""Watches one forward pass of a module: which call made which operation, of what, how costly."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

import minigrad
from minigrad import backend
from minigrad.core import Node
from minigrad.nodes import OutputNode
from minigrad.observing import Interposer, stand
from minigrad.tensor import Tensor

from ...module import Module, Parameter

__all__ = ["Call", "Made", "Trace", "trace"]


@dataclass(eq=False)
class Made:
    """One operation of the forward pass.

    Attributes:
        op: its name.
        key: where in the source it stands: equal for the rounds of a loop.
        shape: of the result.
        sources: the operations and inputs whose results it took.
        parameters: ids and sizes of the parameters that it took.
        multiply_adds: products of two numbers that are added up.
        bytes: of the result.
        seconds: of the computation, the median over the measured passes.
    """

    op: str
    key: tuple
    shape: tuple[int, ...]
    sources: list[Any]
    parameters: dict[int, int]
    multiply_adds: int
    bytes: int
    seconds: float = 0.0


@dataclass(eq=False)
class Call:
    """One call of a module, with what happened inside, in order; `key` as for `Made`."""

    path: str
    module: Module
    key: tuple
    parts: list[Any] = field(default_factory=list)
    shape: tuple[int, ...] = ()


@dataclass(eq=False)
class Trace:
    """A forward pass.

    Attributes:
        root: the call of the whole model.
        inputs: shapes of the tensors that went in.
        outputs: the operations whose results came out.
        operations: all, in order.
    """

    root: Call
    inputs: list[tuple[int, ...]]
    outputs: list[Any]
    operations: list[Made]


_OWN = tuple(
    os.path.dirname(str(package.__file__)) + os.sep
    for package in (minigrad, sys.modules[__name__.partition(".")[0]])
)


class _Watcher(Interposer):
    """Stands beside recording, and knows which modules are being called."""

    def __init__(self, leaves: dict[Node, int]) -> None:
        self.stack: list[Call] = []
        self.operations: list[Made] = []
        self.seconds = 0.0
        self.made: dict[Node, Any] = dict(leaves)
        self._parameters: dict[Node, tuple[int, int]] = {}

    def execute(self, proceed: Callable, op: Any, args: Sequence, params: dict) -> Any:
        """Stands in the way of computation, and takes the time."""
        start = time.perf_counter()
        found = proceed(op, args, params)
        self.seconds = time.perf_counter() - start
        return found

    def recorded(self, node: Any, values: tuple) -> None:
        if node.op is None:
            return
        if isinstance(node, OutputNode):
            self.made[node] = self.made[node.inputs[0]]
            return
        sources, parameters = [], {}
        for source in node.inputs:
            if not isinstance(source, Node):
                continue
            reference = getattr(source, "owner", None) if source.op is None else None
            owner = None if reference is None else reference()
            if isinstance(owner, Parameter):
                parameters[id(owner)] = owner.size
            elif source in self.made:
                sources.append(self.made[source])
        found = Made(
            node.op.name,
            _place(),
            node.shape,
            sources,
            parameters,
            multiply_adds(node),
            int(np.prod(node.shape)) * node.dtype.itemsize,
            self.seconds,
        )
        self.made[node] = found
        self.operations.append(found)
        if self.stack:
            self.stack[-1].parts.append(found)


def _place() -> tuple:
    """The instruction of the user's code, or of a module's `forward`, that is at work."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_OWN) or frame.f_code.co_name == "forward":
            break
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_lasti)


def multiply_adds(node: Any) -> int:
    """How many products an operation adds up; 0 where it is not made of such sums."""
    size = int(np.prod(node.shape))
    name = node.op.name
    if name in ("conv", "conv_bias"):
        return size * int(np.prod(node.inputs[1].shape[1:]))
    if name in ("linear", "linear_bias", "matmul"):
        return size * int(node.inputs[0].shape[-1])
    return 0


@contextmanager
def _watched(model: Module, watcher: _Watcher) -> Iterator[None]:
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


def _telling(watcher: _Watcher, path: str, module: Module, forward: Callable) -> Callable:
    def told(*args: Any, **kwargs: Any) -> Any:
        call = Call(path, module, _place())
        if watcher.stack:
            watcher.stack[-1].parts.append(call)
        watcher.stack.append(call)
        try:
            output = forward(*args, **kwargs)
        finally:
            if len(watcher.stack) > 1:
                watcher.stack.pop()
        call.shape = next((t.shape for t in _tensors(output)), ())
        return output

    return told


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)


def trace(model: Module, *inputs: Any, passes: int = 3) -> Trace:
    """Watch forward passes of a model, in `eval` mode; its state does not change.

    Args:
        model: what to call.
        inputs: tensors and whatever else it is called with.
        passes: over how many passes the times are taken; one more comes first, to warm up.

    Raises:
        TypeError: no tensor is among the inputs, or the model gives none.
    """
    modes = [(module, module.training) for module in model.modules()]
    found: list[Trace] = []
    try:
        model.eval()
        with minigrad.enable_grad():
            for _ in range(passes + 1):
                found.append(_once(model, inputs))
    finally:
        for module, mode in modes:
            module.training = mode
    *_, last = found
    times = [t.operations for t in found[1:]] or [last.operations]
    if all(len(operations) == len(last.operations) for operations in times):
        for i, operation in enumerate(last.operations):
            operation.seconds = median(operations[i].seconds for operations in times)
    return last


def _once(model: Module, inputs: Sequence[Any]) -> Trace:
    given = [_fresh(value) for value in inputs]
    tensors = [value for value in given if isinstance(value, Tensor)]
    if not tensors:
        raise TypeError("overview: give the model's input as a tensor, such as zeros of its shape")
    watcher = _Watcher({t.node: i for i, t in enumerate(tensors)})
    # The first call stays on the stack, so that it can be taken from there.
    with _watched(model, watcher), stand(watcher), backend.interpose(watcher.execute):
        output = model(*given)
    outputs = [watcher.made.get(t.node) for t in _tensors(output) if t.node in watcher.made]
    if not watcher.stack or not outputs:
        raise TypeError("overview: the model gave no tensor that was computed from its inputs")
    return Trace(watcher.stack[0], [t.shape for t in tensors], outputs, watcher.operations)


def _fresh(value: Any) -> Any:
    """An input as a leaf of its own, so that what comes before the first weight is recorded."""
    if not isinstance(value, Tensor):
        return value
    return minigrad.tensor(value.numpy(), requires_grad=value.dtype.kind == "f", name=value.name)
