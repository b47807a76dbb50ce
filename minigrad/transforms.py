"""Functions of functions: gradients, Jacobians, Hessians and their products, nested at will.

All of them run the function on the graph and walk it.  A transform called inside another, or on
tensors that require a gradient, returns results that can be differentiated again; at the top
level it returns plain values and leaves every `.grad` alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad import backend, random
from minigrad.core import (
    GraphError,
    Node,
    Op,
    Variable,
    collect,
    enable_grad,
    is_recording,
    next_seq,
    raw,
    walk,
)
from minigrad.effects import constant, value
from minigrad.nodes import Leaf, MultipleNode, OutputNode
from minigrad.ops import shape
from minigrad.recording import differentiation, recomputation
from minigrad.scalar import Constant, Scalar
from minigrad.tensor import Tensor, _wrap, tensor

__all__ = [
    "checkpoint",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "value_and_grad",
    "vjp",
]


def gradients(
    outputs: Any,
    inputs: Any,
    output_gradients: Any = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> list[Any]:
    """The gradients of outputs by chosen inputs, returned; no `.grad` is touched.

    Args:
        outputs: one tensor or scalar, or several.
        inputs: the variables to differentiate by, leaves or not; one, or several.
        output_gradients: one for each output; 1 for outputs with a single element.
        retain_graph: keep what the graph saved; by default as `create_graph`.
        create_graph: give the results a graph of their own.

    Returns:
        One gradient an input; zeros for an input that the outputs do not depend on.

    Raises:
        GraphError: an output requires no gradient, or the graph was freed.
        TypeError: an input is no variable.
        ValueError: there are more or fewer gradients than outputs.
    """
    single = not isinstance(outputs, (list, tuple))
    outs = [outputs] if single else list(outputs)
    given = [None] * len(outs)
    if output_gradients is not None:
        alone = single and not isinstance(output_gradients, (list, tuple))
        given = [output_gradients] if alone else list(output_gradients)
    if len(given) != len(outs):
        raise ValueError(f"gradients: {len(outs)} output(s), but {len(given)} output_gradients")
    # A tensor alone would come apart into its rows, which nothing depends on.
    inputs = [inputs] if isinstance(inputs, Variable) else list(inputs)
    for x in inputs:
        if not isinstance(x, Variable):
            raise TypeError(f"gradients: an input is a {type(x).__name__}, not a tensor or scalar")
    for out in outs:
        if not isinstance(out, Variable) or not out.requires_grad:
            raise GraphError("gradients: an output depends on nothing that requires a gradient")
    seeds = [(_node(out), _seed(out, g, create_graph)) for out, g in zip(outs, given, strict=True)]
    retain = create_graph if retain_graph is None else retain_graph
    return _gradients(seeds, inputs, create_graph, release=not retain)


def _node(variable: Any) -> Node:
    return variable.node if isinstance(variable, Tensor) else variable


def _seed(out: Any, g: Any, record: bool) -> Any:
    if isinstance(out, Tensor):
        return out.seed(g, record)
    value = 1.0 if g is None else g
    if not record:
        return float(value)
    return value if isinstance(value, Scalar) else Constant(value)


def _gradients(
    seeds: list, inputs: Sequence, record: bool, release: bool, order: list[Node] | None = None
) -> list[Any]:
    nodes = [_node(x) for x in inputs]
    with np.errstate(all="ignore"):
        if record:
            with enable_grad():
                found = walk(seeds, wanted=nodes, record=True, release=release, order=order)
        else:
            found = walk(seeds, wanted=nodes, release=release, order=order)
    return [_result(g, x) for g, x in zip(found, inputs, strict=True)]


def _result(g: Any, x: Any) -> Any:
    if isinstance(x, Scalar):
        return Constant(0.0 if g is None else g) if not isinstance(g, Scalar) else g
    if g is None:
        return _wrap(constant(np.zeros(x.shape, x.dtype)))
    return g if isinstance(g, Tensor) else _wrap(_copy(g))


@value
def _copy(g: Any) -> Any:
    return np.copy(g)


def _function(name: str, f: Any) -> None:
    if not callable(f):
        raise TypeError(
            f"{name}: needs a function, got {type(f).__name__}; the result is a function again, "
            f"as in {name}(f)(x)"
            + (", or take minigrad.gradients(y, x)" if isinstance(f, Variable) else "")
        )


# --- running a function on the graph -------------------------------------------------------------


class _Trace:
    """One run of a function with chosen arguments as fresh variables of the graph."""

    def __init__(self, name: str, f: Callable, argnums: Any, args: tuple, kwargs: dict) -> None:
        self.single = isinstance(argnums, (int, np.integer))
        self.positions = (int(argnums),) if self.single else tuple(argnums)
        for i in self.positions:
            if not -len(args) <= i < len(args):
                raise ValueError(f"{name}: argnums {argnums}, but {len(args)} argument(s) given")
        self.outer = is_recording()
        self.start = next_seq()
        arguments = list(args)
        with enable_grad():
            for i in self.positions:
                arguments[i] = _fresh(name, i, args[i])
            self.inputs = [arguments[i] for i in self.positions]
            # A plain number among tensors is a plain number to them too.
            self.plain = [isinstance(args[i], (int, float)) for i in self.positions]
            with differentiation():
                self.output = f(*arguments, **kwargs)
        if not isinstance(self.output, (Variable, float, int, np.ndarray, np.generic)):
            raise TypeError(
                f"{name}: the function must return one tensor or scalar, but it returned a "
                f"{type(self.output).__name__}"
            )
        if name == "grad" and np.size(raw(self.output)) != 1:
            raise ValueError(
                f"grad: the function must return one number, but it returned shape "
                f"{np.shape(raw(self.output))}; reduce it, e.g. with .sum(), or use jacobian"
            )

    def gradients(self, g: Any = None, retain: bool = False) -> tuple:
        """The gradients by the chosen arguments, differentiable if anything outside needs it."""
        out = self.output
        if not isinstance(out, Variable) or not out.requires_grad:
            return tuple(_plain(_result(None, x), p) for x, p in self._pairs())
        order = collect([_node(out)])
        # A node older than the trace belongs to a graph outside: the result must join it.
        record = self.outer and order[-1].seq < self.start
        record = record or (isinstance(g, Variable) and g.requires_grad)
        seeds = [(_node(out), _seed(out, g, record))]
        # A recorded pass leads through the nodes of this graph: they keep what they saved.
        release = not (retain or record)
        found = _gradients(seeds, self.inputs, record, release, order)
        return tuple(_plain(x, p) for x, p in zip(found, self.plain, strict=True))

    def _pairs(self) -> Iterator:
        return zip(self.inputs, self.plain, strict=True)

    def value(self) -> Any:
        """The output, cut off unless a graph outside needs it."""
        out = self.output
        if not isinstance(out, Variable):
            return out
        if out.requires_grad and self.outer and collect([_node(out)])[-1].seq < self.start:
            return out
        if isinstance(out, Tensor):
            return out.detach()
        return out.item() if True in self.plain else out.detach()

    def pack(self, values: tuple) -> Any:
        """One value for an integer `argnums`, a tuple for several."""
        return values[0] if self.single else values


def _plain(value: Any, was_number: bool) -> Any:
    return value.item() if was_number and not value.requires_grad else value


def _fresh(name: str, position: int, x: Any) -> Any:
    """A new variable of the graph with the value of an argument, connected to it if it was one."""
    if isinstance(x, Scalar):
        return x + 0.0 if x.requires_grad else Scalar(x.item(), x.name)
    if isinstance(x, bool) or not isinstance(x, (int, float)):
        t = x if isinstance(x, Tensor) else tensor(x)
        if t.dtype.kind != "f":
            raise TypeError(
                f"{name}: argument {position} is of dtype {t.dtype}; only floats can be "
                "differentiated by"
            )
        return shape.identity(t) if t.requires_grad else t.detach().requires_grad_()
    return Scalar(float(x))


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the value of `f` and its gradient.

    Args:
        f: returns a scalar or a tensor with one element.
        argnums: by which positional argument, or several; for several the gradient is a tuple.

    >>> value_and_grad(lambda x: x**3)(2.0)
    (8.0, 12.0)
    """
    _function("value_and_grad", f)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> tuple:
        trace = _Trace("grad", f, argnums, args, kwargs)
        found = trace.pack(trace.gradients(retain=True))
        return trace.value(), found

    return wrapper


def grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the gradient of `f`; apply it again for the next order.

    Args:
        f: returns a scalar or a tensor with one element.
        argnums: by which positional argument, or several; for several the result is a tuple.

    Raises:
        ValueError: `f` returned several elements (use `jacobian`), or `argnums` names no argument.

    >>> grad(grad(lambda x: x**3))(2.0)
    12.0
    """
    _function("grad", f)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("grad", f, argnums, args, kwargs)
        return trace.pack(trace.gradients())

    return wrapper


def vjp(f: Callable, *args: Any) -> tuple[Any, Callable]:
    """The value of `f` and a function from a gradient of the output to those of the arguments.

    Returns:
        `(value, pull)`, where `pull(v)` gives a tuple: v-transposed times the Jacobian by each
        argument.  It can be called several times.

    >>> import minigrad
    >>> value, pull = vjp(lambda x: x * x, minigrad.tensor([1.0, 2.0]))
    >>> pull([1.0, 10.0])
    (tensor([ 2., 40.]),)
    """
    trace = _Trace("vjp", f, tuple(range(len(args))), args, {})
    return trace.value(), lambda v: trace.gradients(v, retain=True)


def jvp(f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of `f` and its directional derivative: the Jacobian times the tangents.

    The backward pass is linear in the gradient that comes in; differentiating it by that gradient
    gives the forward derivative, so no second set of rules is needed.

    Args:
        f: a function of as many arguments as there are primals.
        primals: where to differentiate.
        tangents: the direction, one of the shape of each primal.

    Raises:
        TypeError: primals or tangents are no list or tuple.
        ValueError: a tangent has another shape than its primal.

    >>> jvp(lambda x: x**2, [3.0], [1.0])
    (9.0, 6.0)
    """
    for name, given in ("primals", primals), ("tangents", tangents):
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"jvp: {name} must be a list with one entry an argument of f, got "
                f"{type(given).__name__}: write [x] for one argument"
            )
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: {len(primals)} primal(s), but {len(tangents)} tangent(s)")
    for i, (p, t) in enumerate(zip(primals, tangents, strict=True)):
        if np.shape(raw(p)) != np.shape(raw(t)):
            raise ValueError(
                f"jvp: tangent {i} has shape {np.shape(raw(t))}, its primal {np.shape(raw(p))}"
            )
    trace = _Trace("jvp", f, tuple(range(len(primals))), tuple(primals), {})
    out = trace.output
    plain = all(trace.plain) and isinstance(out, Scalar)
    if not isinstance(out, Variable) or not out.requires_grad:
        zero = 0.0 if not isinstance(out, Tensor) else _wrap(np.zeros(out.shape, out.dtype))
        return trace.value(), zero
    with enable_grad():
        if isinstance(out, Tensor):
            dummy: Any = _wrap(np.zeros(out.shape, out.dtype)).requires_grad_()
        else:
            dummy = Scalar(0.0)
        found = _gradients([(_node(out), dummy)], trace.inputs, True, release=False)
        product: Any = None
        for g, t in zip(found, tangents, strict=True):
            if g.requires_grad:
                term = g * t if isinstance(g, Scalar) else (g * tensor_like(t, g)).sum()
                product = term if product is None else product + term
    if product is None:
        result = _result(None, out)
    else:
        order = collect([_node(product)])
        record = trace.outer and order[-1].seq < trace.start
        (result,) = _gradients(
            [(_node(product), _seed(product, None, record))], [dummy], record, not record, order
        )
    return trace.value(), _plain(result, plain)


def tensor_like(value: Any, model: Tensor) -> Tensor:
    """`value` as a tensor of the model's dtype; a tensor stays what it is."""
    return value if isinstance(value, Tensor) else tensor(value, model.dtype)


def jacobian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns all derivatives of `f`'s output by an argument.

    The result has the shape of the output followed by that of the argument; a tuple of them for
    several arguments.

    >>> import minigrad
    >>> jacobian(lambda x: x * x)(minigrad.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    _function("jacobian", f)

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("jacobian", f, argnums, args, kwargs)
        out = trace.output
        if not isinstance(out, (Tensor, np.ndarray)):
            return trace.pack(trace.gradients())
        rows = []
        for i in range(out.size):
            unit = np.zeros(out.size, out.dtype)
            unit[i] = 1
            rows.append(trace.gradients(unit.reshape(out.shape), retain=True))
        columns = []
        for k, x in enumerate(trace.inputs):
            shaped = out.shape + x.shape
            if rows:
                columns.append(shape.stack([row[k] for row in rows]).reshape(shaped))
            else:
                columns.append(_wrap(np.zeros(shaped, x.dtype)))
        return trace.pack(tuple(columns))

    return wrapper


def hessian(f: Callable, argnum: int = 0) -> Callable:
    """A function that returns all second derivatives of `f` by one argument.

    >>> import minigrad
    >>> hessian(lambda x: (x**3).sum())(minigrad.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    _function("hessian", f)
    return jacobian(grad(f, argnum), argnum)


def hvp(f: Callable, x: Any, v: Any) -> Any:
    """The Hessian of `f` at `x` times the vector `v`, without forming the Hessian.

    Pearlmutter, "Fast exact multiplication by the Hessian", 1994, by two backward passes.

    >>> import minigrad
    >>> hvp(lambda x: (x**3).sum(), minigrad.tensor([1.0, 2.0]), minigrad.tensor([1.0, 1.0]))
    tensor([ 6., 12.])
    """

    def along(y: Any) -> Any:
        g = grad(f)(y)
        return g * v if isinstance(g, Scalar) else (g * v).sum()

    return grad(along)(x)


# --- recomputing instead of storing --------------------------------------------------------------


def checkpoint(f: Callable) -> Callable:
    """A function like `f` that stores nothing inside and computes again when backward comes.

    Gradients flow to its arguments and to whatever `f` refers to besides (its weights).  Random
    numbers drawn from the default generator come out the same the second time, and running
    statistics are updated by the first run alone.  Only the memory
    of the segment between backward passes is saved: `f` runs twice.

    Args:
        f: from tensors to a tensor or a tuple of tensors; it must compute the same each time.

    >>> import minigrad
    >>> x = minigrad.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda t: t.square().square())(x).sum().backward()
    >>> x.grad
    tensor([ 4., 32.])
    """

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not is_recording():
            return f(*args, **kwargs)
        before = random.default_generator().get_state()
        start = next_seq()
        outputs = f(*args, **kwargs)
        many = isinstance(outputs, tuple)
        outs = outputs if many else (outputs,)
        if isinstance(outputs, (list, dict, Scalar)):
            raise TypeError(
                f"checkpoint: the function must return a tensor or a tuple of tensors, but it "
                f"returned a {type(outputs).__name__}"
            )
        live = [o for o in outs if isinstance(o, Tensor) and o.requires_grad]
        if not live:
            return outputs
        outer = _boundary([o.node for o in live], start)
        given = [arg._data for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor)]

        def again(seq: int) -> list[Tensor]:
            _check_unwritten(given, outer, seq)
            after = random.default_generator().get_state()
            random.default_generator().set_state(before)
            try:
                with enable_grad(), recomputation():
                    found = f(*args, **kwargs)
            finally:
                random.default_generator().set_state(after)
            found = found if isinstance(found, tuple) else (found,)
            return [o for o in found if isinstance(o, Tensor) and o.requires_grad]

        node = CheckpointNode(outer, [o._data for o in live], again)
        numbers = iter(range(len(live)))
        packed = tuple(
            _wrap(o._data, OutputNode(node, next(numbers), o._data))
            if isinstance(o, Tensor) and o.requires_grad
            else o
            for o in outs
        )
        return packed if many else packed[0]

    return wrapper


def _boundary(roots: list[Node], start: int) -> list[Node]:
    """The nodes older than `start` that the graph of `roots` begins at, and nothing behind them."""
    seen = set(roots)
    stack = list(seen)
    outer = []
    while stack:
        node = stack.pop()
        if node.seq < start:
            outer.append(node)
            continue
        for source, need in zip(node.inputs, node.needs, strict=True):
            if need and source not in seen:
                seen.add(source)
                stack.append(source)
    return outer


def _listed(shapes: list) -> str:
    return ", ".join(map(str, shapes)) or "none"


def _check_unwritten(arrays: list, nodes: list[Node], seq: int) -> None:
    """Tell that an argument or a weight of a checkpoint was changed in place since."""
    owners = [node.owner() for node in nodes if isinstance(node, Leaf) and node.owner is not None]
    for array in [*arrays, *(owner._data for owner in owners if owner is not None)]:
        writer = backend.writer_since(array, seq)
        if writer is not None:
            raise GraphError(
                f"backward through checkpoint: a value of shape {array.shape} that it computes "
                f"from was changed in place by {writer} since; call backward() before the change"
            )


_CHECKPOINT = Op("checkpoint", lambda *x: x, inputs=("*x",), outputs=("*y",))


class CheckpointNode(MultipleNode):
    """A whole segment of the graph as one node, which is computed again in the backward pass."""

    __slots__ = ("again",)

    def __init__(self, outer: list, data: list, again: Callable[[int], list[Tensor]]) -> None:
        super().__init__(_CHECKPOINT, tuple(outer), (True,) * len(outer), {}, (), data)
        self.again = again

    def pull(self, g: Any, needs: tuple[bool, ...], record: bool, closed: bool) -> Sequence:
        outputs = self.again(self.seq)
        shapes = [out.shape for out in outputs]
        if shapes != self.shapes:
            raise GraphError(
                "backward through checkpoint: the function must compute the same again, but it "
                f"returned {len(shapes)} tensor(s) of shape {_listed(shapes)}, and "
                f"{len(self.shapes)} the first time, of shape {_listed(self.shapes)}"
            )
        seeds = [(o.node, gi) for o, gi in zip(outputs, g, strict=True) if gi is not None]
        wanted = [node for node, need in zip(self.inputs, needs, strict=True) if need]
        found = iter(walk(seeds, wanted=wanted, record=record, release=not record, stop=True))
        return [next(found) if need else None for need in needs]
