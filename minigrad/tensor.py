"""`Tensor`: an array on the graph, with NumPy's manners and PyTorch's names.

A tensor is a value.  Operations give new tensors; nothing changes one in place but `assign` (and
through it the optimisers and the loading of weights), and a graph that still needs the old value
says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import backend, effects
from minigrad.convert import as_array, as_own_array
from minigrad.core import (
    GraphError,
    Node,
    Op,
    Variable,
    enable_grad,
    is_recording,
    paused,
    walk,
)
from minigrad.nodes import Leaf, MultipleNode, OutputNode, TensorNode
from minigrad.operators import Operators, explained
from minigrad.ops import index as indexing
from minigrad.ops import shape as shaping
from minigrad.recording import refuse_number

__all__ = ["Tensor", "tensor"]

_new = object.__new__


class Tensor(Operators, Variable):
    """An n-dimensional array that knows where it came from; made by `tensor` and by operations.

    Attributes:
        requires_grad: whether gradients flow to or through it.
        grad: its gradient, a tensor, once `backward` has run; None before.
        name: for pictures and messages.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_name", "_node", "_requires")

    # NumPy must not take `ndarray * tensor` apart elementwise: it would fall off the graph.
    __array_ufunc__ = None

    def __init__(
        self,
        data: Any,
        dtype: Any = None,
        requires_grad: bool = False,
        name: str | None = None,
    ) -> None:
        self._data = backend.settled(as_own_array(data, dtype))
        self._grad: Tensor | None = None
        self._name = name
        self._node: Any = None
        self._requires = False
        if requires_grad:
            self.requires_grad = True

    # --- what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype of the elements."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def device(self) -> str:
        """Where the elements lie: "cpu", "cuda:0", ..."""
        return backend.device_of(self._data).name

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return shaping.transpose(self)

    @property
    def name(self) -> str | None:
        """What pictures and messages call it."""
        return self._name

    @name.setter
    def name(self, name: str | None) -> None:
        self._name = name
        if self._node is not None:
            self._node.name = name

    @property
    def node(self) -> Any:
        """The node of the graph that stands for this tensor; a leaf's is made on first use."""
        if self._node is None:
            self._node = Leaf(self._data, self._requires, self, self._name)
        return self._node

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self._node is None or self._node.op is None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through it."""
        return self._requires

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        if not self.is_leaf:
            if not flag:
                raise GraphError(
                    f"this tensor was computed by {self._node.op.name}; take `.detach()` to have "
                    "its value without a gradient"
                )
            return
        if flag and self.dtype.kind != "f":
            raise TypeError(
                f"only tensors of floats can require a gradient, this one is {self.dtype}; "
                "convert it with .astype(minigrad.float32)"
            )
        if bool(flag) != self._requires:
            self._requires = bool(flag)
            self._node = None
            if flag:
                # The leaf is there from the start, older than anything computed from it.
                self._node = Leaf(self._data, True, self, self._name)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    # --- its elements ----------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The elements as a read-only view; copied from another device."""
        effects.reading(self, "numpy()")
        view = backend.device_of(self._data).to_numpy(self._data).view()
        view.flags.writeable = False
        return view

    @property
    def data(self) -> np.ndarray:
        """The elements as a read-only view.  Setting it is `assign`."""
        return self.numpy()

    @data.setter
    def data(self, value: Any) -> None:
        self.assign(value)

    def assign(self, value: Any, writer: str = "assign") -> Tensor:
        """Write new elements into this leaf, in place, outside of any graph.

        A backward pass that still needs the old elements raises.

        Args:
            value: broadcast to this tensor's shape and cast to its dtype.
            writer: who writes, for that message.

        Raises:
            GraphError: this tensor was computed, so its value follows from others.
            ValueError: the shape does not fit, or the tensor is a view of another's memory.
        """
        if not self.is_leaf:
            raise GraphError(
                f"assign: this tensor was computed by {self._node.op.name}; only leaves can be "
                "written. For a changed copy on the graph use t.at[index].set(values)"
            )
        if self._data.base is not None or not self._data.flags.writeable:
            raise ValueError(
                "assign: this tensor shares its memory with another; assign to that one, or to a "
                ".copy()"
            )
        value = value._data if isinstance(value, Tensor) else backend.array_of(value)
        try:
            fits = np.broadcast_shapes(value.shape, self.shape) == self.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"assign: shape {value.shape} does not fit shape {self.shape}")
        backend.overwrite(effects.seen(self), value, writer)
        return self

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            ValueError: there are more elements, or none.
        """
        if self.size != 1:
            raise ValueError(f"item: needs exactly one element, this tensor has shape {self.shape}")
        effects.reading(self, "item()")
        return self._data.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.numpy().tolist()

    def copy(self) -> Tensor:
        """A leaf with a copy of the elements, on no graph."""
        return _wrap(backend.copied(effects.seen(self)))

    def detach(self) -> Tensor:
        """The same elements, cut off from the graph; memory is shared."""
        return _wrap(backend.viewed(effects.seen(self)))

    def to(self, device: str) -> Tensor:
        """On another device; itself where it lies there already.

        Raises:
            ValueError: there is no such device.
        """
        target = backend.get_device(device)
        if target.name == self.device:
            return self
        return _transfer(self, device=device)

    # --- gradients -------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """The gradient, or None as long as none was computed.

        Leaves that require one keep it, adding up over backward passes.  An interior tensor keeps
        none unless `retain_grad()` was called before `backward()`; then it shows the last one.
        """
        if self._grad is None and not self.is_leaf and not self._node.keeps_grad:
            warnings.warn(
                f"this tensor was computed by {self._node.op.name}, so it is no leaf and its .grad "
                "is not kept: call .retain_grad() on it before backward()",
                UserWarning,
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    @effects.effect
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value if isinstance(value, Tensor) else tensor(value, self.dtype)
            if value.shape != self.shape:
                raise ValueError(f"grad: shape {value.shape} is not the tensor's {self.shape}")
        self._grad = value

    @effects.aside
    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._grad = None

    def retain_grad(self) -> Tensor:
        """Keep the gradient of this interior tensor too; call it before `backward()`."""
        if not self._requires:
            raise GraphError("retain_grad: no gradient flows through a tensor that requires none")
        if not self.is_leaf:
            import weakref

            self._node.keeps_grad = True
            self._node.owner = weakref.ref(self)
        return self

    def receive_grad(self, g: Any, owned: bool, accumulate: bool) -> None:
        """Take over a finished gradient from a walk (the engine calls this)."""
        # Never share memory: a gradient that is not the walk's own buffer is copied.
        if isinstance(g, Tensor):
            g = _wrap(g._data.copy(), g._node if g._requires else None)
        else:
            unshared = owned and g.base is None and not isinstance(g, np.generic)
            g = _wrap(g if unshared else np.copy(g))
        self._grad = g if self._grad is None or not accumulate else self._grad + g

    def register_hook(self, hook: Callable[[Tensor], Any]) -> Callable[[], None]:
        """Call `hook(gradient)` in each backward pass when this tensor's gradient is complete.

        Args:
            hook: gets a tensor; what it returns, unless None, takes the gradient's place.

        Returns:
            A function that removes the hook.
        """
        if not callable(hook):
            raise TypeError(f"register_hook: needs a function, got {type(hook).__name__}")
        if not self._requires:
            raise GraphError("register_hook: no gradient flows to a tensor that requires none")
        node = self.node
        # The hook must not hold the node: that would be a cycle.
        shape, dtype = node.shape, node.dtype

        def on_raw(g: Any) -> Any:
            found = hook(g if isinstance(g, Tensor) else _wrap(backend.array_of(g)))
            if found is None:
                return None
            found = found if isinstance(found, Tensor) else tensor(found, dtype)
            if found.shape != shape:
                raise ValueError(
                    f"a hook returned a gradient of shape {found.shape} for a tensor of shape "
                    f"{shape}"
                )
            if found.dtype != dtype:
                found = shaping.astype(found, dtype)
            return found if isinstance(g, Tensor) else found._data

        if node.hooks is None:
            node.hooks = []
        hooks = node.hooks
        hooks.append(on_raw)
        return lambda: hooks.remove(on_raw) if on_raw in hooks else None

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf that it came from.

        Args:
            gradient: what flows in, of this tensor's shape; 1 for a single element.
            retain_graph: keep the saved values for another pass; by default as `create_graph`.
            create_graph: record the backward pass too, so that `.grad` can be differentiated.

        Raises:
            GraphError: nothing here requires a gradient, the graph was freed, or a value that it
                needs was changed in place.
            ValueError: several elements and no gradient given, or one of another shape.
        """
        if not self._requires:
            raise GraphError(
                "backward: this tensor depends on nothing that requires a gradient; make a leaf "
                "with requires_grad=True and compute outside of no_grad()"
            )
        seed = self.seed(gradient, create_graph)
        retain = create_graph if retain_graph is None else retain_graph
        with np.errstate(all="ignore"):
            if create_graph:
                with enable_grad():
                    walk([(self.node, seed)], record=True, release=not retain)
            else:
                walk([(self.node, seed)], release=not retain)

    def seed(self, gradient: Any = None, record: bool = False) -> Any:
        """The gradient to start a walk with, checked: raw, or a tensor where that is recorded."""
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: a tensor of shape {self.shape} has {self.size} elements; pass the "
                    "gradient that flows in, or reduce it to one number first, e.g. .sum()"
                )
            ones = backend.device_of(self._data).from_numpy(np.ones(self.shape, self.dtype))
            value = effects.constant(ones)
        else:
            given = gradient._data if isinstance(gradient, Tensor) else backend.array_of(gradient)
            value = backend.beside(given, self._data)
            if value.shape != self.shape:
                raise ValueError(
                    f"backward: the gradient has shape {value.shape}, the tensor {self.shape}"
                )
            value = value.astype(self.dtype, copy=False)
        if not record:
            return value
        return gradient if isinstance(gradient, Tensor) else _wrap(value)

    # --- recording -------------------------------------------------------------------------------

    @classmethod
    def apply(cls, op: Op, args: tuple, params: dict) -> Any:
        """Compute an op on tensors, arrays and numbers, and record it if a gradient is needed."""
        arrays = []
        inputs: list[Any] = []
        needs = []
        for arg in args:
            if isinstance(arg, Tensor):
                arrays.append(arg._data)
                inputs.append(arg)
                needs.append(arg._requires)
            else:
                if isinstance(arg, Variable):
                    raise TypeError(f"{op.name}: a Scalar and a Tensor do not mix; use tensor(...)")
                arg = as_array(arg) if isinstance(arg, (list, tuple)) else arg
                arrays.append(arg)
                inputs.append(arg)
                needs.append(False)
        try:
            data = backend.execute(op, arrays, params)
        except (ValueError, IndexError) as error:
            raise explained(error, op, arrays) from None
        except backend.MixedDevices as error:
            raise error.named(args) from None
        record = True in needs and (not paused or is_recording())
        if op.multiple:
            return _multiple(op, inputs, needs, arrays, params, data, record)
        if isinstance(data, (np.generic, float, int)):
            data = np.asarray(data)
        elif not hasattr(data, "dtype"):
            raise TypeError(
                f"{op.name}: its forward returned a {type(data).__name__}, not an array"
            )
        if not record or not op.differentiable[0]:
            return _wrap(data)
        for i, x in enumerate(inputs):
            if x.__class__ is np.ndarray and x.flags.writeable and i in op.plan(tuple(needs)).save:
                arrays[i] = effects.alias(x.copy(), x)  # its owner may write into it
        nodes = tuple([_source(x) for x in inputs])
        return _wrap(data, TensorNode(op, nodes, tuple(needs), params, (*arrays, data), data))

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), separator=", ", prefix="tensor(")
        extra = "" if self.dtype in _plain_dtypes else f", dtype={self.dtype}"
        extra += f", name={self._name!r}" if self._name else ""
        extra += ", requires_grad=True" if self._requires else ""
        return f"tensor({body}{extra})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is not defined; use .any() or .all()"
            )
        effects.reading(self, "bool()")
        return bool(self._data.item())

    def __float__(self) -> float:
        refuse_number(self)
        return float(self.item())

    def __int__(self) -> int:
        refuse_number(self)
        return int(self.item())

    def __index__(self) -> int:
        if self.ndim or self.dtype.kind not in "iu":
            raise TypeError("only an integer tensor without axes can be used as an index")
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._requires:
            raise TypeError(
                "NumPy would take this tensor off the graph; use minigrad's own functions, or "
                ".detach() first"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.copy()._data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __deepcopy__(self, memo: dict) -> Tensor:
        if not self.is_leaf:
            raise GraphError("only a leaf can be copied: take `.detach()` of a computed tensor")
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__((self._data.copy(), self._requires, self._name))
        twin._grad = None if self._grad is None else self._grad.copy()
        return twin

    def __getstate__(self) -> tuple:
        if not self.is_leaf:
            raise GraphError("only a leaf can be pickled: take `.detach()` of a computed tensor")
        return (self._data, self._requires, self._name)

    def __setstate__(self, state: tuple) -> None:
        data, requires_grad, name = state
        # Pickle's newest protocol gives arrays that borrow their memory.
        data = data if data.base is None else data.copy()
        self._data, self._grad, self._name = data, None, name
        self._node, self._requires = None, False
        self.requires_grad = requires_grad

    # --- indexing --------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.getitem(self, index=indexing.raw_index(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "tensors do not change in place: write `t = t.at[index].set(values)` for a changed "
            "copy on the graph, or `t.assign(values)` for a leaf outside of it"
        )

    @property
    def at(self) -> indexing.At:
        """Functional writes: `t.at[i].set(v)`, `.add(v)`, `.multiply(v)` give changed copies."""
        return indexing.At(self)


# --- making tensors ------------------------------------------------------------------------------

_plain_dtypes = (np.dtype(np.float32), np.dtype(np.bool_))


def tensor(
    data: Any, dtype: Any = None, requires_grad: bool = False, name: str | None = None
) -> Tensor:
    """Make a leaf; the data is copied.

    Args:
        data: a number, nested lists of numbers, or an array.
        dtype: a NumPy dtype; by default float32 for Python numbers (bool for booleans), and the
            array's own for arrays.
        requires_grad: whether gradients flow to it; floats only.
        name: for pictures and messages.

    Raises:
        TypeError: the data is not made of numbers, or integers are to require a gradient.

    >>> import minigrad
    >>> x = minigrad.tensor([[1, 2], [3, 4]], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([[2., 4.],
            [6., 8.]])
    """
    return Tensor(data, dtype, requires_grad, name)


def _wrap(data: Any, node: Node | None = None) -> Tensor:
    """A tensor of a raw array, without a copy."""
    t = _new(Tensor)
    t._data = data
    t._grad = t._name = None
    t._node = node
    t._requires = node is not None
    return t


TensorNode.wrap = staticmethod(_wrap)


# --- recording -----------------------------------------------------------------------------------


def _source(x: Any) -> Any:
    """What stands for an argument in the graph: its node, or a Python constant as it is."""
    if isinstance(x, Tensor):
        return x._node or x.node
    if x is None or isinstance(x, (int, float)):
        return x
    return Leaf(as_array(x), False, None, None)


def _multiple(
    op: Op, inputs: list, needs: list, arrays: list, params: dict, outputs: tuple, record: bool
) -> tuple[Tensor, ...]:
    if not record:
        return tuple(_wrap(backend.array_of(data)) for data in outputs)
    nodes = tuple(_source(x) for x in inputs)
    node = MultipleNode(op, nodes, tuple(needs), params, (*arrays, *outputs), outputs)
    return tuple(
        _wrap(data, OutputNode(node, i, data) if differentiable else None)
        for i, (data, differentiable) in enumerate(zip(outputs, op.differentiable, strict=True))
    )


def _transfer_raw(x: Any, *, device: str) -> Any:
    return backend.get_device(device).from_numpy(backend.device_of(x).to_numpy(x))


_transfer: Op = Op(
    "to",
    _transfer_raw,
    inputs=("x",),
    saves=("x",),
    backward=lambda saved, g, needs: [
        _transfer(g, device=backend.device_of(getattr(saved.x, "_data", saved.x)).name)
    ],
)
