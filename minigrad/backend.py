"""Where raw arrays are computed: one gate for every operation, devices, and writes in place.

`execute` is the only road from an op to an array.  A device is a kind of array together with the
kernels registered for it; NumPy arrays on the CPU are always there, other devices register
themselves.  `written` records the few writes in place that there are, so that a backward pass
over a value which has changed since is told instead of being wrong.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minigrad import core

__all__ = ["Device", "execute", "register_device", "register_kernel", "written"]


class Device(NamedTuple):
    """A kind of memory and the arrays that live there.

    Attributes:
        name: "cpu", "cuda:0", ...
        array_type: the class of its raw arrays.
        from_numpy: copies a NumPy array there.
        to_numpy: copies an array back.
        module: NumPy's functions for its arrays, as far as it has them.
    """

    name: str
    array_type: type
    from_numpy: Callable[[np.ndarray], Any]
    to_numpy: Callable[[Any], np.ndarray]
    module: Any


cpu = Device("cpu", np.ndarray, lambda array: array, lambda array: array, np)

_devices: dict[str, Device] = {"cpu": cpu}
_device_of_type: dict[type, Device] = {np.ndarray: cpu}
_kernels: dict[tuple[str, str], Callable] = {}
_cpu_kernels: dict[str, Callable] = {}

# Values that any CPU kernel takes as they are; NumPy's weak promotion needs Python scalars raw.
_plain: frozenset[type] = frozenset(
    {np.ndarray, float, int, bool, np.float32, np.float64, np.int64, np.bool_, type(None)}
)


def register_device(device: Device) -> None:
    """Make a kind of array known; the same name again replaces the former."""
    _devices[device.name] = device
    _device_of_type[device.array_type] = device


def register_kernel(op_name: str, device_name: str, kernel: Callable) -> None:
    """Use `kernel` for the op of this name on this device, instead of the op's own forward."""
    _kernels[op_name, device_name] = kernel
    if device_name == cpu.name:
        _cpu_kernels[op_name] = kernel


def get_device(name: str) -> Device:
    """The device of this name.

    Raises:
        ValueError: no such device is registered.
    """
    if name not in _devices:
        raise ValueError(f"unknown device {name!r}; known here: {', '.join(sorted(_devices))}")
    return _devices[name]


def device_of(array: Any) -> Device:
    """The device on which a raw array lies; plain values count as the CPU's."""
    return _device_of_type.get(type(array), cpu)


_interposed: list[Callable] = []


@contextmanager
def interpose(wrapper: Callable[[Callable, core.Op, Sequence, dict], Any]) -> Iterator[None]:
    """Run every computation through `wrapper(proceed, op, args, params)` inside the context.

    This is where anomaly detection, tracing and counting stand.  Wrappers nest, the last one
    outermost; `proceed(op, args, params)` computes.
    """
    _interposed.append(wrapper)
    try:
        yield
    finally:
        _interposed.remove(wrapper)


def is_interposed() -> bool:
    """Whether anybody sees every computation now."""
    return bool(_interposed)


class MixedDevices(TypeError):
    """Arguments of one computation lie on different devices."""

    def __init__(self, op_name: str, found: dict[str, int], shapes: Sequence[tuple]) -> None:
        """The first argument on each device, by its number.

        Args:
            op_name: what was to be computed.
            found: the number of that argument, by the name of its device.
            shapes: of all arguments.
        """
        self._parts = op_name, found, shapes
        super().__init__(self._told([None] * len(shapes)))

    def _told(self, names: Sequence[str | None]) -> str:
        op_name, found, shapes = self._parts
        where = ", ".join(
            f"argument {i}{f' {names[i]!r}' if names[i] else ''} on {name}"
            for name, i in found.items()
        )
        sizes = " and ".join(str(shapes[i]) for i in found.values())
        return f"{op_name}: {where}; move them to one device first with `.to(...)` (shapes {sizes})"

    def named(self, arguments: Sequence) -> MixedDevices:
        """The same with the names of the tensors that have one."""
        self.args = (self._told([getattr(a, "name", None) for a in arguments]),)
        return self


def execute(op: core.Op, args: Sequence, params: dict, out: Any = None) -> Any:
    """Compute `op` on raw values: the one gate for all raw work.

    Args:
        op: the operation.
        args: raw arrays, all of one device, and Python numbers.
        params: static parameters.
        out: an array to write the result into, for kernels that take one.

    Raises:
        TypeError: the arrays lie on different devices, or the device has no such kernel.
    """
    if _interposed:
        proceed = _compute
        for wrapper in _interposed:
            proceed = _wrapped(wrapper, proceed)
        return proceed(op, args, params)
    return _compute(op, args, params, out)


def _wrapped(wrapper: Callable, proceed: Callable) -> Callable:
    return lambda op, args, params: wrapper(proceed, op, args, params)


def _compute(op: core.Op, args: Sequence, params: dict, out: Any = None) -> Any:
    forward = op.forward
    if _cpu_kernels:
        forward = _cpu_kernels.get(op.name, forward)
    for arg in args:
        if type(arg) not in _plain:
            forward = _kernel_for(op, args)
            break
    if out is not None:
        return forward(*args, out=out, **params)
    return forward(*args, **params)


def _kernel_for(op: core.Op, args: Sequence) -> Callable:
    found: dict[str, int] = {}
    for i, arg in enumerate(args):
        device = _device_of_type.get(type(arg))
        if device is not None:
            found.setdefault(device.name, i)
    if len(found) > 1:
        where = ", ".join(f"argument {i} on {name}" for name, i in found.items())
        raise TypeError(f"{op.name}: {where}; move them to one device first with `.to(...)`")
    for name in found:
        return _kernels.get((op.name, name), op.forward)
    return op.forward


core.execute = execute


# --- writes in place -----------------------------------------------------------------------------

last_write = 0
"""Creation number at the last write in place: any node newer than this is fresh for sure."""

_writes: dict[int, tuple[int, str, weakref.ref]] = {}


def _storage(array: Any) -> Any:
    """The array that owns the memory: views share their owner's fate."""
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


def written(array: Any, writer: str) -> None:
    """Record that `array`'s memory was changed in place, by whom.

    Whoever writes into an array that a graph may have saved calls this.
    """
    global last_write
    owner = _storage(array)
    key = id(owner)
    last_write = core.next_seq()
    reference = weakref.ref(owner, lambda _: _writes.pop(key, None))
    _writes[key] = (last_write, writer, reference)


def writer_since(array: Any, seq: int) -> str | None:
    """Who changed `array` in place after creation number `seq`; None if nobody did."""
    entry = _writes.get(id(_storage(array)))
    return entry[1] if entry is not None and entry[0] > seq else None
