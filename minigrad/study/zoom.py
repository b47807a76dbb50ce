"""From a tensor operation to the scalar graph of one of its output elements.

One output pixel of a convolution is a sum of products; one softmax entry is a quotient of
exponentials.  `zoom(y, index)` writes that out with Scalars, from the very values that the
operation saw: a graph to draw, to step through and to explain, whose gradients are the tensor's.

How an operation is written out is its *expansion*, a function of a `Cell`.  Those of the engine's
operations stand in `expansions`; others are added by `register_zoom`.  For an op of a package that
nobody has registered, the module `<package>.inspect.zoom` is imported, which may do so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import GraphError, Node, Op, next_seq, raw, shape_of
from minigrad.draw import Drawing, draw
from minigrad.draw.style import format_number
from minigrad.nodes import OutputNode
from minigrad.scalar import Constant, Scalar, scalar
from minigrad.study.nodes import input_names, label, node_of, op_name
from minigrad.tensor import Tensor, tensor

__all__ = ["Cell", "Zoom", "register_zoom", "zoom"]

Index = tuple[int, ...]

MAX_GATES = 20_000
"""A scalar graph that would have more gates is refused."""

MAX_LEVELS = 150
"""So many operations deep an element is written out, unless `depth` says less."""

_expansions: dict[str, Callable[[Cell], Scalar]] = {}


def register_zoom(*op_names: str) -> Callable:
    """Declare how one output element of an op is computed: a decorator of a function of a `Cell`.

    >>> @register_zoom("halve")
    ... def _halve(cell):
    ...     return cell.read(0, cell.index) * 0.5
    """

    def register(expand: Callable[[Cell], Scalar]) -> Callable[[Cell], Scalar]:
        for name in op_names:
            _expansions[name] = expand
        return expand

    return register


class Cell:
    """One output element of an op, on the way to being written out with Scalars.

    Attributes:
        op: the op.
        params: its static parameters, defaults included.
        index: which element of the output.
        output: which output, of an op that has several.
        shape: of that output.
        shapes: of each input.
    """

    def __init__(
        self,
        op: Op,
        params: dict[str, Any],
        index: Index,
        output: int,
        shape: Index,
        shapes: list[Index],
        array: Callable[[int], Any],
        read: Callable[[int, Index], Scalar],
    ) -> None:
        self.op = op
        self.params = params
        self.index = index
        self.output = output
        self.shape = shape
        self.shapes = shapes
        self._array = array
        self._read = read

    def read(self, position: int, index: Sequence[Any] = ()) -> Scalar:
        """One element of an input, as a Scalar."""
        return self._read(position, tuple(int(i) for i in index))

    def spread(self, position: int) -> Scalar:
        """The element of an input that meets this output element where shapes broadcast."""
        shape = self.shapes[position]
        last = self.index[len(self.index) - len(shape) :]
        return self.read(position, [0 if n == 1 else i for i, n in zip(last, shape, strict=True)])

    def array(self, position: int) -> Any:
        """The raw values of an input, for what is no variable: indices, conditions, targets."""
        return self._array(position)


class Zoom:
    """One element of a tensor as a scalar graph; made by `zoom`.

    Attributes:
        value: the element: a `Scalar`, whose graph leads to the elements that it was computed of.
        node: of the tensor.
        index: of the element.
        exact: the element as the tensor has it, or None if it was not at hand.
    """

    def __init__(
        self, node: Node, index: Index, value: Scalar, leaves: dict, exact: float | None
    ) -> None:
        self.node = node
        self.index = index
        self.value = value
        self.exact = exact
        self._leaves: dict[tuple[Node, Index], Scalar] = leaves

    @property
    def leaves(self) -> list[Scalar]:
        """The elements that it was computed of."""
        return list(self._leaves.values())

    @property
    def sources(self) -> list[Node]:
        """The nodes of the tensors that these are elements of."""
        return list(dict.fromkeys(node for node, _ in self._leaves))

    def field(self, x: Any) -> list[Index]:
        """The receptive field in a Tensor (or node): which of its elements were read, in order."""
        node = node_of(x, "field")
        return sorted(index for source, index in self._leaves if source is node)

    def leaf(self, x: Any, *index: int) -> Scalar:
        """The Scalar that stands for one element of a Tensor (or node).

        Raises:
            KeyError: that element was not read.
        """
        key = (node_of(x, "leaf"), index)
        if key not in self._leaves:
            raise KeyError(f"leaf: element {index} does not go into this value")
        return self._leaves[key]

    def backward(self, gradient: float = 1.0) -> None:
        """Backprop through the scalar graph."""
        self.value.backward(gradient)

    def gradients(self, x: Any) -> np.ndarray:
        """The gradient of this element by a whole Tensor (or node): 0 outside of its field.

        Raises:
            ValueError: `backward` was not called.
        """
        node: Any = node_of(x, "gradients")
        found = np.zeros(node.shape)
        for (source, index), leaf in self._leaves.items():
            if source is node and leaf.requires_grad:
                if leaf.grad is None:
                    raise ValueError("gradients: call backward() of this zoom first")
                found[index] = leaf.grad
        return found

    def draw(self, **options: Any) -> Drawing:
        """A picture of the scalar graph; the options are those of `minigrad.draw`."""
        return draw(self.value, **options)

    def _repr_html_(self) -> str:
        return self.draw(max_nodes=400)._repr_html_()

    def __repr__(self) -> str:
        return f"<Zoom into {op_name(self.node)}{list(self.index)}: {len(self._leaves)} leaves>"

    def __str__(self) -> str:
        name = self.node.name or op_name(self.node)
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        lines = [
            f"{name}{place} = {format_number(self.value.data, 6)}, by {op_name(self.node)} from"
        ]
        for source in self.sources:
            field = self.field(source)
            title = self._leaves[source, field[0]].name or "?"
            title = title.partition("[")[0]
            shape = " × ".join(map(str, source.shape)) or "scalar"
            what = "element" if len(field) == 1 else "elements"
            lines.append(f"  {title} ({shape}): {len(field)} {what}{_extent(field)}")
        return "\n".join(lines)


def _extent(field: list[Index]) -> str:
    """Where the elements lie, if they fill a box."""
    if not field or not field[0]:
        return ""
    sides = [sorted({index[axis] for index in field}) for axis in range(len(field[0]))]
    if int(np.prod([len(side) for side in sides])) != len(field):
        return ""
    if any(side[-1] - side[0] + 1 != len(side) for side in sides):
        return ""
    spans = [str(s[0]) if len(s) == 1 else f"{s[0]}:{s[-1] + 1}" for s in sides]
    return f", [{', '.join(spans)}]"


def zoom(y: Any, *index: Any, depth: int | None = 1, max_gates: int = MAX_GATES) -> Zoom:
    """Write one element of a tensor out as a scalar graph.

    Args:
        y: a Tensor that an operation made.
        index: of the element, one integer an axis, as arguments or as one tuple.
        depth: how many operations to write out: 1 for the one that made `y`, so that its inputs'
            elements are the leaves; None for all, back to the leaves of the tensor graph.
        max_gates: a scalar graph with more gates is refused.

    Raises:
        TypeError: `y` is no Tensor.
        ValueError: it is a leaf, an index is out of range, an op has no expansion, values were
            not kept, or there are too many gates; with advice.
        GraphError: a value was changed in place since.

    >>> import minigrad
    >>> a = minigrad.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, name="a")
    >>> b = minigrad.tensor([[5.0], [6.0]], name="b")
    >>> z = zoom(a @ b, 1, 0)
    >>> print(z)
    matmul[1, 0] = 39, by matmul from
      a (2 × 2): 2 elements, [1, 0:2]
      b (2 × 1): 2 elements, [0:2, 0]
    >>> z.backward()
    >>> z.gradients(a)
    array([[0., 0.],
           [5., 6.]])
    """
    if not isinstance(y, Tensor):
        raise TypeError(f"zoom: y must be a Tensor, got a {type(y).__name__}")
    if y.is_leaf:
        raise ValueError(
            "zoom: this tensor is a leaf: no recorded operation made it; compute it from a tensor "
            "with requires_grad=True, outside of no_grad()"
        )
    if depth is not None and (not isinstance(depth, int) or depth < 1):
        raise ValueError(f"zoom: depth must be a positive integer or None, got {depth!r}")
    if len(index) == 1 and isinstance(index[0], (tuple, list)):
        index = tuple(index[0])
    place = _checked_index(y, index)
    writer = _Writer(y, MAX_LEVELS if depth is None else depth, max_gates, depth is None)
    value = writer.element(y.node, place)
    return Zoom(y.node, place, value, writer.leaves, float(y._data[place]))


def _checked_index(y: Tensor, index: tuple) -> Index:
    if len(index) != y.ndim:
        raise ValueError(
            f"zoom: y has shape {y.shape}, so an element has {y.ndim} indices; got {index}"
        )
    for axis, (i, n) in enumerate(zip(index, y.shape, strict=True)):
        if not isinstance(i, (int, np.integer)) or not -n <= i < n:
            raise ValueError(f"zoom: index {i!r} of axis {axis} is none of 0 to {n - 1}")
    return tuple(int(i) % n for i, n in zip(index, y.shape, strict=True))


class _Writer:
    """Writes elements of nodes out, each once."""

    def __init__(self, y: Tensor, depth: int, max_gates: int, whole: bool) -> None:
        self.leaves: dict[tuple[Node, Index], Scalar] = {}
        self._done: dict[tuple[Node, Index], Scalar] = {}
        self._values = _Values(y)
        self._max_gates = max_gates
        self._first = 0
        self._names: dict[Node, str] = {}
        self._open = self._within(y.node, depth, whole)

    def _within(self, root: Node, depth: int, whole: bool) -> set[Node]:
        """The gates that are less than `depth` operations away from the root."""
        found: set[Node] = set()
        level = [root]
        for _ in range(depth):
            following: list[Node] = []
            for node in level:
                if node.op is None or node in found:
                    continue
                found.add(node)
                base = node.inputs[0] if isinstance(node, OutputNode) else node
                names = input_names(base.op, len(base.inputs))
                for name, source in zip(names, base.inputs, strict=True):
                    if isinstance(source, Node):
                        # A value on the way goes by what made it: another `x` would mislead.
                        made = name if source.op is None else op_name(source)
                        self._names.setdefault(source, source.name or made)
                        following.append(source)
            level = following
            if not level:
                return found
        if whole and any(node.op is not None and node not in found for node in level):
            raise ValueError(
                f"zoom: the graph is more than {MAX_LEVELS} operations deep; give depth= to write "
                "out the last ones only"
            )
        return found

    def element(self, node: Node, index: Index) -> Scalar:
        key = (node, index)
        found = self._done.get(key)
        if found is None:
            if node in self._open:
                found = self._expanded(node, index)
            else:
                found = self.leaves[key] = self._leaf(node, index)
            self._done[key] = found
            if len(self._done) > self._max_gates:
                raise self._too_many()
        return found

    def _leaf(self, node: Any, index: Index) -> Scalar:
        value = float(self._values.of(node)[index])
        place = f"[{','.join(map(str, index))}]" if index else ""
        name = f"{self._names.get(node, node.name or 'x')}{place}"
        return scalar(value, name) if node.requires_grad else Constant(value, name)

    def _expanded(self, node: Any, index: Index) -> Scalar:
        output = 0
        shape = node.shape
        if isinstance(node, OutputNode):
            output, node = node.index, node.inputs[0]
        sources = node.inputs
        shapes = [shape_of(source) for source in sources]

        def array(position: int) -> Any:
            return self._values.of(sources[position])

        def read(position: int, place: Index) -> Scalar:
            source = sources[position]
            if isinstance(source, Node):
                return self.element(source, place)
            return Constant(float(source))

        params = {**node.op.defaults, **node.params}
        cell = Cell(node.op, params, index, output, shape, shapes, array, read)
        before = next_seq()
        found = expand(cell)
        # Each gate takes a number, and its constants may.
        if next_seq() - before > 2 * self._max_gates:
            raise self._too_many()
        return found

    def _too_many(self) -> ValueError:
        return ValueError(
            f"zoom: the scalar graph of this element would have more than {self._max_gates:,} "
            "gates; give a smaller depth=, or a larger max_gates= if you can wait"
        )


def expand(cell: Cell) -> Scalar:
    """Write one cell out by the expansion of its op.

    Raises:
        ValueError: there is none.
    """
    op = cell.op
    expansion = _expansion_of(op)
    if expansion is not None:
        return expansion(cell)
    if op.like is not None:
        return _by_composition(cell)
    if op.scalar is not None and not cell.params:
        return op(*[cell.spread(i) for i in range(len(cell.shapes))])
    raise ValueError(
        f"zoom: nobody has said how one element of {op.name} is computed; do so with "
        f'@register_zoom("{op.name}"), or zoom into a tensor before or after it'
    )


def _expansion_of(op: Op) -> Callable[[Cell], Scalar] | None:
    import minigrad.study.expansions  # noqa: F401 - registers those of the engine

    if op.name not in _expansions:
        functions = [op.forward, *op.rules, op.backward]
        packages = {str(getattr(f, "__module__", None) or "").partition(".")[0] for f in functions}
        for package in sorted(packages - {"", "minigrad", "numpy", "_operator", "__main__"}):
            name = f"{package}.inspect.zoom"
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is None or not name.startswith(error.name):
                    raise
    return _expansions.get(op.name)


def _by_composition(cell: Cell) -> Scalar:
    """A fused op by the plain composition that it equals, which is written out in its place."""
    given = []
    for position, shape in enumerate(cell.shapes):
        array = cell.array(position)
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            given.append(tensor(array, requires_grad=True))
        else:
            given.append(array)
        del shape
    made = cell.op.like(*given, **cell.params)  # type: ignore[misc]
    y = made[cell.output] if isinstance(made, tuple) else made
    positions = {t.node: i for i, t in enumerate(given) if isinstance(t, Tensor)}
    writer = _Inner(y, cell, positions)
    return writer.element(y.node, cell.index)


class _Inner(_Writer):
    """Writes a composition out; what it reads are elements of the fused op's inputs."""

    def __init__(self, y: Tensor, cell: Cell, positions: dict[Node, int]) -> None:
        super().__init__(y, MAX_LEVELS, MAX_GATES, True)
        self._cell = cell
        self._positions = positions

    def _leaf(self, node: Any, index: Index) -> Scalar:
        if node in self._positions:
            return self._cell.read(self._positions[node], index)
        return super()._leaf(node, index)


class _Values:
    """The raw values of nodes: kept by a tensor or by a rule, or else computed again."""

    def __init__(self, y: Tensor) -> None:
        self._found: dict[Any, Any] = {y.node: y._data}
        self._kept: dict[Node, Any] = {}
        self._used: dict[Node, int] = {}  # the number of the first gate that used it
        stack: list[Any] = [y.node]
        seen = set(stack)
        while stack:
            node = stack.pop()
            self._remember(node)
            for source in node.inputs:
                if not isinstance(source, Node):
                    continue
                self._used[source] = min(node.seq, self._used.get(source, node.seq))
                if source not in seen:
                    seen.add(source)
                    stack.append(source)

    def _remember(self, node: Any) -> None:
        """What the rules of a node have kept of its inputs and of itself."""
        if node.op is None or not node.saved:
            return
        count = len(node.inputs)
        for position, array in zip(node.plan.save, node.saved, strict=True):
            if not isinstance(array, np.ndarray) or backend.writer_since(array, node.seq):
                continue
            if position < count:
                if isinstance(node.inputs[position], Node):
                    self._kept.setdefault(node.inputs[position], array)
            elif not node.op.multiple:
                self._kept.setdefault(node, array)

    def of(self, node: Any) -> Any:
        """The values of a node; a plain argument is its own value."""
        if not isinstance(node, Node):
            return node
        stack = [node]
        while stack:
            latest = stack[-1]
            if latest not in self._found:
                value = self._at_hand(latest)
                if value is None:
                    unknown = [
                        source
                        for source in latest.inputs
                        if isinstance(source, Node) and source not in self._found
                    ]
                    if unknown:
                        stack.extend(unknown)
                        continue
                    value = self._computed(latest)
                self._found[latest] = value
            stack.pop()
        return self._found[node]

    def _at_hand(self, node: Any) -> Any:
        """Values that somebody keeps; None where they must be computed."""
        if node in self._kept:
            return self._kept[node]
        owner = node.owner() if node.owner is not None else None
        if owner is not None:
            writer = backend.writer_since(owner._data, self._used[node])
            if node.op is None and writer is not None:
                raise GraphError(
                    f"zoom: {label(node)} was changed in place by {writer} since; compute the "
                    "graph again"
                )
            return owner._data
        if node.op is None:
            raise ValueError(
                f"zoom: the values of an argument of shape {node.shape} were not kept: it is a "
                "plain array or a tensor that is gone. Make a tensor of it and hold on to it"
            )
        return None

    def _computed(self, node: Any) -> Any:
        if isinstance(node, OutputNode):
            return self._found[node.inputs[0]][node.index]
        arrays = [
            self._found[source] if isinstance(source, Node) else source for source in node.inputs
        ]
        found = backend.execute(node.op, [raw(a) for a in arrays], dict(node.params))
        return found if node.op.multiple else np.asarray(found)
