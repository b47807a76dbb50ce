"""Where raw arrays are computed: one gate for every operation, devices, and writes in place.

`execute` is the only road from an op to an array.  A device is a kind of array together with the
kernels registered for it; NumPy arrays on the CPU are always there, other devices register
themselves.  `written` records the few writes in place that there are, so that a backward pass
over a value which has changed since is told instead of being wrong.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from minigrad import core, effects
from minigrad.noting import Noted, NotRecorded

__all__ = [
    "Device",
    "NotRecorded",
    "device",
    "execute",
    "register_device",
    "register_kernel",
    "written",
]


class Device(NamedTuple):
    """A kind of memory and the arrays that live there.

    Attributes:
        name: "cpu", "cuda:0", ...
        array_type: the class of its raw arrays.
        from_numpy: copies a NumPy array there.
        to_numpy: copies an array back.
        module: NumPy's functions for its arrays, as far as it has them.
        send: begins to copy a NumPy array there while the device computes, and gives a function
            that gives the array; None where no copy is needed.
        graphs: makes what notes the work of one captured step, so that it can be asked for again
            as a whole (see `minigrad.replay.stretches.Maker`); None where there is no such thing.
    """

    name: str
    array_type: type
    from_numpy: Callable[[np.ndarray], Any]
    to_numpy: Callable[[Any], np.ndarray]
    module: Any
    send: Callable[[np.ndarray], Callable[[], Any]] | None = None
    graphs: Callable[[], Any] | None = None


cpu = Device("cpu", np.ndarray, lambda array: array, lambda array: array, np)

_devices: dict[str, Device] = {"cpu": cpu}
_device_of_type: dict[type, Device] = {np.ndarray: cpu, Noted: cpu}
_kernels: dict[tuple[str, str], Callable] = {}
_cpu_kernels: dict[str, Callable] = {}
_pulls: dict[tuple[str, type], Callable] = {}

registrations = 0
"""How often a kernel was registered."""

# Values that any CPU kernel takes as they are; NumPy's weak promotion needs Python scalars raw.
_plain: frozenset[type] = frozenset(
    {np.ndarray, Noted, float, int, bool, np.float32, np.float64, np.int64, np.bool_, type(None)}
)


def register_device(device: Device) -> None:
    """Make a kind of array known; the same name again replaces the former."""
    _devices[device.name] = device
    _device_of_type[device.array_type] = device


def register_kernel(
    op_name: str, device_name: str, kernel: Callable | None = None, pull: Callable | None = None
) -> None:
    """Use `kernel` for the op of this name on this device, instead of the op's own forward.

    Args:
        op_name: the op.
        device_name: a device that is registered.
        kernel: computes what the op's forward computes; None leaves that as it is.
        pull: `pull(g, *saved) -> contributions` computes what the op's rules compute, where nobody
            records or watches them; for an op with one input.  It may return None, and the rules
            are used.
    """
    global registrations
    registrations += 1
    effects.changed(f"a kernel for {op_name} was registered")
    if kernel is not None:
        _kernels[op_name, device_name] = kernel
        if device_name == cpu.name:
            _cpu_kernels[op_name] = kernel
    if pull is not None:
        place = get_device(device_name)
        for kind in (place.array_type, Noted) if place is cpu else (place.array_type,):
            _pulls[op_name, kind] = pull


def pull_kernel(op: core.Op, g: Any) -> Callable | None:
    """The kernel that stands for the rules of `op`, for gradients of this kind, if there is one."""
    return None if _interposed else _pulls.get((op.name, type(g)))


# Packages that know a kind of device: asked when a device of that kind is first named.  Each has
# `open_device(number)`, which registers the device or says in a RuntimeError why it cannot.
_packages = {"cuda": "minigrad_nn.kernels.cuda"}


def package_of(kind: str) -> Any:
    """The package that opens devices of this kind, such as "cuda".

    Raises:
        ValueError: nobody knows this kind of device.
        ImportError: the package is not installed.
    """
    if kind not in _packages:
        raise ValueError(f"unknown kind of device {kind!r}; known: {', '.join(_packages)}")
    return importlib.import_module(_packages[kind])


def get_device(name: str) -> Device:
    """The device of this name; "cuda" is the first of its kind, "cuda:0".

    Raises:
        ValueError: there is no such device; the message says why not.
    """
    if name not in _devices:
        kind, _, number = str(name).partition(":")
        why = ""
        if kind in _packages and (number or "0").isdecimal():
            name = f"{kind}:{int(number or 0)}"
            if name not in _devices:
                try:
                    package_of(kind).open_device(int(number or 0))
                except (ImportError, RuntimeError, ValueError) as error:
                    why = f" ({error})"
        if name not in _devices:
            known = ", ".join(sorted(_devices))
            raise ValueError(f"unknown device {name!r}; known here: {known}{why}")
    return _devices[name]


def device_of(array: Any) -> Device:
    """The device on which a raw array lies; plain values count as the CPU's."""
    return _device_of_type.get(type(array), cpu)


def is_array(value: Any) -> bool:
    """Whether a value is a raw array of some device."""
    return type(value) in _device_of_type


def device_of_type(kind: Any) -> Device | None:
    """The device whose raw arrays are of this class, if there is one."""
    return _device_of_type.get(kind)


def array_of(value: Any) -> Any:
    """A raw array as it is, on whatever device; anything else as a NumPy array."""
    return value if type(value) in _device_of_type else np.asarray(value)


def beside(array: Any, like: Any) -> Any:
    """`array` on the device of `like`: itself where it lies there, else a copy.

    For what a rule makes of shapes and indices on the CPU: masks, tables, constants.
    """
    here, there = device_of(array), device_of(like)
    if here.name == there.name or not isinstance(array, here.array_type):
        return array
    return moved(array, there)


def on_cpu(array: Any) -> Any:
    """A raw array where NumPy can read it: itself, or a copy; anything else as it is."""
    place = _device_of_type.get(type(array), cpu)
    return array if place is cpu else moved(array, cpu)


@effects.value
def copied(array: Any) -> Any:
    """A copy of an array."""
    return array.copy()


@effects.value
def viewed(array: Any) -> Any:
    """Another array of the same memory."""
    return array.view()


@effects.value
def moved(array: Any, there: Device) -> Any:
    """A copy of an array on another device."""
    return there.from_numpy(device_of(array).to_numpy(array))


_chosen: ContextVar[Device] = ContextVar("device", default=cpu)


class device:
    """Make new tensors on a device, inside of `with` or from here on.

    Only where numbers become tensors does this count: what is computed lies where its arguments
    lie.  As a context it ends with the block; `device(name)` on its own changes nothing.

    Args:
        name: "cpu", "cuda" (the first card), "cuda:1", ...

    Raises:
        ValueError: there is no such device.

    >>> import minigrad
    >>> with minigrad.device("cpu"):
    ...     minigrad.zeros(2).device
    'cpu'
    """

    def __init__(self, name: str) -> None:
        self._device = get_device(name)
        self._tokens: list[Any] = []

    def __repr__(self) -> str:
        return f"device({self._device.name!r})"

    @property
    def name(self) -> str:
        """The device's full name."""
        return self._device.name

    def __enter__(self) -> device:
        self._tokens.append(_chosen.set(self._device))
        return self

    def __exit__(self, *failure: object) -> None:
        _chosen.reset(self._tokens.pop())


def chosen_device() -> str:
    """Where new tensors are made now."""
    return _chosen.get().name


def settled(array: Any) -> Any:
    """A new tensor's data on the device that `device` chose; what lies on another device stays."""
    chosen = _chosen.get()
    if chosen is cpu or not isinstance(array, np.ndarray):
        return array
    return moved(array, chosen)


_interposed: list[Callable] = []
_attending: list[Any] = []
"""Who wants to know of computations at all: each interposer, and each recorder of a step."""


@contextmanager
def interpose(wrapper: Callable[[Callable, core.Op, Sequence, dict], Any]) -> Iterator[None]:
    """Run every computation through `wrapper(proceed, op, args, params)` inside the context.

    This is where anomaly detection, tracing and counting stand.  Wrappers nest, the last one
    outermost; `proceed(op, args, params)` computes.
    """
    _interposed.append(wrapper)
    _attending.append(wrapper)
    try:
        yield
    finally:
        _attending.remove(wrapper)
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
    if _attending:
        return _attended(op, args, params, out)
    return _compute(op, args, params, out)


def _attended(op: core.Op, args: Sequence, params: dict, out: Any) -> Any:
    proceed: Callable = _compute
    for wrapper in _interposed:
        proceed = _wrapped(wrapper, proceed)
        out = None  # who watches takes no `out`
    recorder = effects.current()
    if recorder is not None:
        return recorder.execute(proceed, op, args, params, out)
    return proceed(op, args, params) if out is None else proceed(op, args, params, out)


def attend(recorder: Any, begins: bool) -> None:
    """Let a recorder of a step see every computation of its thread, or no longer."""
    if begins:
        _attending.append(recorder)
    else:
        _attending.remove(recorder)


def kernel_of(op: core.Op, args: Sequence) -> Callable:
    """The function that computes `op` on arguments of these kinds."""
    if any(type(arg) not in _plain for arg in args):
        return _kernel_for(op, args)
    return _cpu_kernels.get(op.name, op.forward)


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
        place = _device_of_type.get(type(arg))
        if place is not None:
            found.setdefault(place.name, i)
    if len(found) > 1:
        raise MixedDevices(op.name, found, [np.shape(arg) for arg in args])
    for name in found:
        return _kernels.get((op.name, name), op.forward)
    return op.forward


core.execute = execute


# --- writes in place -----------------------------------------------------------------------------

last_write = 0
"""Creation number at the last write in place: any node newer than this is fresh for sure."""

_writes: dict[int, tuple[int, str, weakref.ref]] = {}


def storage(array: Any) -> Any:
    """The array that owns the memory: views share their owner's fate."""
    while isinstance(getattr(array, "base", None), type(array)):
        array = array.base
    return array


def written(array: Any, writer: str) -> None:
    """Record that `array`'s memory was changed in place, by whom.

    Whoever writes into an array that a graph may have saved calls this.
    """
    global last_write
    if effects.recorders:
        effects.refuse(
            f"{writer} writes into an array here, outside of what a replay does again: put the "
            "write into a function under `minigrad.effects.effect`"
        )
    owner = storage(array)
    key = id(owner)
    last_write = core.next_seq()
    reference = weakref.ref(owner, lambda _: _writes.pop(key, None))
    _writes[key] = (last_write, writer, reference)


def writes_since(seq: int) -> list[tuple[Any, str]]:
    """Arrays that were changed in place after creation number `seq`, and by whom."""
    found = [(reference(), writer) for at, writer, reference in list(_writes.values()) if at > seq]
    return [(array, writer) for array, writer in found if array is not None]


def writer_since(array: Any, seq: int) -> str | None:
    """Who changed `array` in place after creation number `seq`; None if nobody did."""
    entry = _writes.get(id(storage(array)))
    return entry[1] if entry is not None and entry[0] > seq else None


@effects.writing
def overwrite(array: Any, values: Any, writer: str) -> None:
    """Write new elements into an array, from whatever device they are on."""
    array[...] = beside(values, array)
    written(array, writer)
