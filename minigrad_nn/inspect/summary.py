"""A network as a table: what each layer gives, what it costs, and how much of the input it sees.

Start with `summary`.  `trace` watches one forward pass, `counting` and `receptive` read it,
`timing` measures where it is asked for, and `table` shows what came out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad
from minigrad import random
from minigrad.tensor import Tensor

from ..kernels import Geometry
from ..module import Module
from .receptive import Field, fields
from .table import Table
from .timing import Times, measure
from .trace import Call, Made, Trace, in_eval_mode, trace

__all__ = ["Row", "Summary", "Totals", "summary"]

LAYOUTS = ("channels_first", "channels_last")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A module of the network, with all that is inside of it.

    Attributes:
        path: of the module in the model; "" is the model itself.
        kind: its class.
        depth: how deep it lies: 0 for the model.
        leaf: whether no rows follow that lie inside of it.
        calls: how often it was called here; 0 if it was not, though it has parameters.
        output_shape: of the (first) result, without the batch if that is known.
        outputs: of all results.
        parameters: how many numbers are learned, without those that a row above has counted.
        trainable: how many of them are not frozen.
        shared: whether a row above has counted some of its parameters.
        multiply_adds: products that are added up.
        activation_bytes: memory of the results of all operations.
        receptive_field: how many places of the input an element of the result sees, by axis;
            padding included. None where there are no axes, or it is not known.
        jump: how many places of the input two neighbours of the result are apart, by axis.
        sees_all: whether each element sees the whole input.
        seconds, backward_seconds: measured, or None.
        warnings: of windows that do not fit exactly.
    """

    path: str
    kind: str
    depth: int
    leaf: bool
    calls: int
    output_shape: Shape
    outputs: tuple[Shape, ...]
    parameters: int
    trainable: int
    shared: bool
    multiply_adds: int
    activation_bytes: int
    receptive_field: tuple[float, ...] | None
    jump: tuple[float | None, ...] | None
    sees_all: bool
    seconds: float | None
    backward_seconds: float | None
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class Totals:
    """Of the whole network: what `Row` says, and the memory of what it holds.

    Attributes:
        parameters, trainable, multiply_adds, activation_bytes, seconds, backward_seconds: as
            in `Row`.
        parameter_bytes, buffer_bytes, input_bytes: memory of the parameters, of the buffers (such
            as running statistics), and of the input.
    """

    parameters: int
    trainable: int
    multiply_adds: int
    parameter_bytes: int
    buffer_bytes: int
    input_bytes: int
    activation_bytes: int
    seconds: float | None
    backward_seconds: float | None


class Summary(Table):
    """What `summary` found; printed it is a table, and so it is at the end of a notebook's cell.

    Attributes:
        title: the class of the model.
        batch: how many samples went in; None where the inputs were given.
        inputs: shapes of the inputs, without the batch if that is known.
        rows: a `Row` for each module, in the order of the calls.
        totals: of the whole network, a `Totals`.
        warnings: path and text, for each window that does not fit exactly.
    """

    def __init__(
        self,
        title: str,
        batch: int | None,
        inputs: tuple[Shape, ...],
        rows: tuple[Row, ...],
        totals: Totals,
        warnings: tuple[tuple[str, str], ...],
    ) -> None:
        self.title = title
        self.batch = batch
        self.inputs = inputs
        self.rows = rows
        self.totals = totals
        self.warnings = warnings

    def row(self, path: str) -> Row:
        """The first row of the module at this path.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(f"summary: there is no row of a module at {path!r}")

    def as_dict(self) -> dict[str, Any]:
        """As plain data, which JSON can hold."""
        return {
            "model": self.title,
            "batch": self.batch,
            "inputs": [list(shape) for shape in self.inputs],
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "totals": dataclasses.asdict(self.totals),
            "warnings": [list(pair) for pair in self.warnings],
        }


def summary(
    model: Module,
    input_shape: Sequence[Any] | None = None,
    *,
    inputs: Sequence[Any] | None = None,
    batch: int = 1,
    dtype: Any = None,
    depth: int | None = None,
    layout: str = "channels_first",
    time: bool = False,
    backward: bool = False,
    repeats: int = 5,
) -> Summary:
    """The layers of a network with shapes, parameters, multiply-adds, receptive fields and memory.

    The model is called once in `eval` mode, with the arithmetic of its large products left out, so
    it takes no time; data that decides what is computed is 0 then.  The model stays as it is: its
    mode, buffers and gradients, and the random generators.

    Multiply-adds are the products of convolutions, linear layers and matrix products.  A module
    that is called in a loop is one row; parameters that are used again count once.

    Args:
        model: what to look at.
        input_shape: of one sample, such as `(3, 224, 224)`; a list of shapes for several inputs.
        inputs: or what to call the model with, tensors and others; shapes are then told in full,
            since the batch may be in any axis.
        batch: how many samples of `input_shape` go in; costs are of all of them.
        dtype: of the inputs; the parameters' by default. Integers for a network that begins with an
            embedding; one for each input if it is a list.
        depth: how deep rows go: 0 for the whole, 1 for its parts; None for all.
        layout: how shapes are written: "channels_first" as they are, or "channels_last".
        time: measure forward passes, as they are computed in `eval` mode.
        backward: measure backward passes too, from the sum of all outputs.
        repeats: of how many passes the median is taken.

    Raises:
        TypeError: no input, or the model gives no tensor.
        ValueError: an argument out of its range.

    >>> import minigrad_nn as nn
    >>> conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3))
    >>> found = summary(conv, (1, 28, 28))
    >>> [(row.path, row.output_shape, row.parameters) for row in found.rows[1:]]
    [('0', (3, 26, 26), 30), ('1', (3, 24, 24), 84)]
    >>> found.row("1").receptive_field, found.totals.multiply_adds
    ((5, 5), 64908)
    """
    if layout not in LAYOUTS:
        raise ValueError(f"summary: layout must be one of {LAYOUTS}, got {layout!r}")
    if depth is not None and depth < 0:
        raise ValueError(f"summary: depth must be at least 0, or None for all, got {depth}")
    if repeats < 1:
        raise ValueError(f"summary: repeats must be at least 1, got {repeats}")
    given = _inputs(model, input_shape, inputs, batch, dtype)
    tensors = [value for value in given if isinstance(value, Tensor)]
    with _unchanged(model), in_eval_mode(model), np.errstate(all="ignore"):
        found = trace(model, *given, passes=0, dry=True, who="summary")
        times = measure(model, given, backward, repeats) if time or backward else None
    samples = None if inputs is not None else batch
    return _Reader(model, found, times, depth, layout, samples).read(tensors)


# --- what goes in, and what stays ----------------------------------------------------------------


def _inputs(model: Module, input_shape: Any, inputs: Any, batch: int, dtype: Any) -> list[Any]:
    if (input_shape is None) == (inputs is None):
        raise TypeError("summary: give either input_shape, such as (3, 224, 224), or inputs")
    if inputs is not None:
        return [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if batch < 1:
        raise ValueError(f"summary: batch must be at least 1, got {batch}")
    shapes = [input_shape] if all(isinstance(n, (int, np.integer)) for n in input_shape) else (
        list(input_shape)
    )  # fmt: skip
    weights = [p for p in model.parameters() if p.dtype.kind == "f"]
    usual = weights[0].dtype if weights else np.dtype(np.float32)
    dtypes = list(dtype) if isinstance(dtype, (list, tuple)) else [dtype] * len(shapes)
    if len(dtypes) != len(shapes):
        raise ValueError(
            f"summary: dtype has {len(dtypes)} entries for {len(shapes)} inputs; give one for each"
        )
    found = []
    for shape, kind in zip(shapes, dtypes, strict=True):
        if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
            raise ValueError(f"summary: a shape must be integers from 0, got {shape!r}")
        zeros = minigrad.tensor(np.zeros((batch, *shape), kind or usual))
        found.append(zeros.to(weights[0].device) if weights else zeros)
    return found


@contextmanager
def _unchanged(model: Module) -> Iterator[None]:
    """Have buffers, gradients and generators after the block as they were before it."""
    modules = list(model.modules())
    generators = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, random.Generator)
    }
    states = [(generator, generator.get_state()) for generator in generators.values()]
    buffers = [(buffer, buffer.numpy().copy()) for buffer in model.buffers()]
    grads = [(parameter, parameter._grad) for parameter in model.parameters()]
    try:
        for parameter, _ in grads:
            parameter._grad = None
        with random.preserved():
            yield
    finally:
        for parameter, grad in grads:
            parameter._grad = grad
        for buffer, before in buffers:
            if not np.array_equal(buffer.numpy(), before, equal_nan=before.dtype.kind == "f"):
                buffer.assign(before, "summary")
        for generator, state in states:
            generator.set_state(state)


# --- from calls to rows --------------------------------------------------------------------------


@dataclass
class _Cost:
    """Of some calls together."""

    multiply_adds: int = 0
    bytes: int = 0
    seconds: float = 0.0
    backward: float = 0.0


class _Reader:
    """Makes rows of a trace."""

    def __init__(
        self,
        model: Module,
        found: Trace,
        times: Times | None,
        depth: int | None,
        layout: str,
        batch: int | None,
    ) -> None:
        self._model = model
        self._found = found
        self._times = times
        self._depth = math.inf if depth is None else depth
        self._last = layout == "channels_last"
        self._batch = batch
        self._fields = fields(found)
        windows = any("geometry" in made.params for made in found.operations)
        self._field_of = self._fields if windows else lambda maker: None
        self._seen: set[int] = set()
        self._called = {id(call.module) for call in found.calls}
        self._clocks: dict[int, tuple[float, float | None]] = {}
        if times is not None and times.paths == tuple(call.path for call in found.calls):
            backward = times.backward or (None,) * len(times.paths)
            for call, one, other in zip(found.calls, times.forward, backward, strict=True):
                self._clocks[id(call)] = (one, other)

    def read(self, tensors: Sequence[Tensor]) -> Summary:
        """The rows, and what they make together."""
        root = self._found.root
        rows = tuple(self._rows([root], 0))
        cost = _cost([root])
        parameters = list(self._model.parameters())
        totals = Totals(
            sum(p.size for p in parameters),
            sum(p.size for p in parameters if p.requires_grad),
            cost.multiply_adds,
            sum(p._data.nbytes for p in parameters),
            sum(b._data.nbytes for b in self._model.buffers()),
            sum(t._data.nbytes for t in tensors),
            cost.bytes,
            None if self._times is None else self._times.whole,
            None if self._times is None else self._times.whole_backward,
        )
        warnings = dict.fromkeys(
            (call.path, text) for call in self._found.calls for text in _misfits(call)
        )
        inputs = tuple(self._written(shape) for shape in self._found.inputs)
        title = type(self._model).__name__
        return Summary(title, self._batch, inputs, rows, totals, tuple(warnings))

    def _rows(self, calls: list[Call], depth: int) -> Iterator[Row]:
        """The row of some calls of a module that are alike, and those of what is inside."""
        last = calls[-1]
        inner = [part for call in calls for part in call.parts if isinstance(part, Call)]
        groups: dict[tuple, list[Call]] = {}
        for call in inner:
            groups.setdefault((call.path, call.key, tuple(call.shapes)), []).append(call)
        idle = list(self._idle(last.module, last.path))
        open_ = depth < self._depth and bool(groups or idle)
        field = self._field_of(last.gave[0]) if last.gave else None
        clocks = [self._clocks[id(call)] for call in calls if id(call) in self._clocks]
        cost = _cost(calls)
        yield self._row(
            last.path,
            last.module,
            depth,
            leaf=not open_,
            calls=len(calls),
            outputs=tuple(self._written(shape) for shape in last.shapes),
            cost=cost,
            field=field,
            seconds=sum(c[0] for c in clocks) if clocks else None,
            backward=sum(c[1] or 0.0 for c in clocks)
            if clocks and clocks[0][1] is not None
            else None,
            warnings=tuple(dict.fromkeys(text for call in calls for text in _misfits(call))),
        )
        if open_:
            for group in groups.values():
                yield from self._rows(group, depth + 1)
            for path, module in idle:
                yield self._row(path, module, depth + 1)
        self._seen.update(id(p) for p in last.module.parameters())

    def _row(
        self,
        path: str,
        module: Module,
        depth: int,
        leaf: bool = True,
        calls: int = 0,
        outputs: tuple[Shape, ...] = (),
        cost: _Cost | None = None,
        field: Field | None = None,
        seconds: float | None = None,
        backward: float | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Row:
        cost = cost or _Cost()
        inside = list(module.parameters())
        new = [p for p in inside if id(p) not in self._seen]
        return Row(
            path,
            type(module).__name__,
            depth,
            leaf,
            calls,
            outputs[0] if outputs else (),
            outputs,
            sum(p.size for p in new),
            sum(p.size for p in new if p.requires_grad),
            len(new) < len(inside),
            cost.multiply_adds,
            cost.bytes,
            None if field is None else field.size,
            None if field is None else field.jump,
            field is not None and field.whole,
            seconds,
            backward,
            warnings,
        )

    def _idle(self, module: Module, path: str) -> Iterator[tuple[str, Module]]:
        """Parts with parameters of which nothing was called."""
        for name, child in module.named_children():
            place = f"{path}.{name}" if path else name
            if id(child) in self._called:
                continue
            if any(id(inner) in self._called for inner in child.modules()):
                yield from self._idle(child, place)  # a list, whose entries are called one by one
            elif any(id(p) not in self._seen for p in child.parameters()):
                yield place, child

    def _written(self, shape: Shape) -> Shape:
        """Without the batch, and in the order that is asked for."""
        if self._last and len(shape) > 2:
            shape = (shape[0], *shape[2:], shape[1])
        # A state of recurrent layers, which has the batch elsewhere, is told in full.
        return shape[1:] if shape[:1] == (self._batch,) else shape


def _cost(calls: Sequence[Call]) -> _Cost:
    total = _Cost()
    stack: list[Any] = list(calls)
    while stack:
        part = stack.pop()
        if isinstance(part, Made):
            total.multiply_adds += part.multiply_adds
            total.bytes += part.bytes
        else:
            stack += part.parts
    return total


_WINDOWS = ("conv", "conv_bias", "conv_bias_relu", "max_pool", "average_pool", "sum_pool")


def _misfits(call: Call) -> Iterator[str]:
    """What the exact check says of the windows of a call."""
    for made in call.parts:
        if isinstance(made, Made) and made.op in _WINDOWS:
            geometry: Geometry = made.params["geometry"]
            try:
                geometry.check_exact()
            except ValueError as error:
                text = str(error).partition("does not fit: ")[2]
                yield f"{text}; {_left_out(geometry)}"


def _left_out(geometry: Geometry) -> str:
    """What becomes of the remainder: lost, or only padding, or a window that stands out."""
    lost = 0
    for size, kernel, stride, (before, after), dilation, places in zip(
        geometry.size,
        geometry.kernel,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.output,
        strict=True,
    ):
        end = (places - 1) * stride + dilation * (kernel - 1) + 1 - before
        if end > size + after:
            return "the last window reaches beyond the input"
        lost = max(lost, size - end)
    if lost > 0:
        return f"the last {lost} of an axis lie behind the last window"
    return "only padding is left out"
