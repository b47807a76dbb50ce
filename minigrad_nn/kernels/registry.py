"""Which package computes for which kind of array, and its loading when the first kernel is called.

A device is known by the type of its arrays. Its package holds one function for each kernel of
`minigrad_nn.kernels`, of the same name; it is imported when the first kernel call needs it, so
importing `minigrad_nn.kernels` loads no compiler.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Device:
    """A kind of array and the package whose kernels compute on it.

    Attributes:
        name: how error messages call it.
        array_type: the class of its arrays.
        package: the dotted name of the package that holds its kernels.
        dtypes: the element types of the arrays it computes on.
    """

    name: str
    array_type: type
    package: str
    dtypes: tuple[Any, ...]

    def load(self) -> ModuleType:
        """Import the package (the first time only)."""
        found = _loaded.get(self.package)
        if found is None:
            found = _loaded[self.package] = importlib.import_module(self.package)
        return found


_loaded: dict[str, ModuleType] = {}
_devices: dict[type, Device] = {}


def register(device: Device) -> None:
    """Make a device known. The same array type again replaces it."""
    _devices[device.array_type] = device


def device_of(name: str, array: Any) -> Device:
    """The device of an array.

    Raises:
        TypeError: no device is registered for it; `name` is what the message calls it.
    """
    device = _known(array)
    if device is not None:
        return device
    known = ", ".join(kind.__name__ for kind in _devices)
    raise TypeError(f"{name} must be an array of a known device ({known}), got {type(array)}")


def _known(array: Any) -> Device | None:
    kind = type(array)
    found = _devices.get(kind)
    if found is None:  # an array of a subclass?
        found = next((_devices[base] for base in kind.__mro__ if base in _devices), None)
    return found


def offers(kernel: str, array: Any) -> bool:
    """Whether the device of an array has this kernel for its element type."""
    device = _known(array)
    return device is not None and array.dtype in device.dtypes and hasattr(device.load(), kernel)


def find(kernel: str, **arrays: Any) -> Callable[..., Any]:
    """The function that computes `kernel` for these arrays; arguments that are None are skipped.

    Raises:
        TypeError: arrays of different devices, of different element types, or of an element type
            that the device does not compute with.
        NotImplementedError: the device has no such kernel.
    """
    first = ""
    device = kind = dtype = None
    for name, array in arrays.items():
        if array is None:
            continue
        if type(array) is kind and array.dtype is dtype:
            continue  # as nearly all are
        here = device_of(name, array)
        if device is None:
            first, device, kind, dtype = name, here, type(array), array.dtype
            if dtype not in device.dtypes:
                wanted = " or ".join(str(np.dtype(t)) for t in device.dtypes)
                raise TypeError(
                    f"{kernel}: {name} must be {wanted}, got {dtype}; convert it with astype"
                )
        elif here is not device:
            raise TypeError(
                f"{kernel}: all arrays must be on one device, but {first} is on {device.name} and "
                f"{name} on {here.name}"
            )
        elif array.dtype != dtype:
            raise TypeError(
                f"{kernel}: all arrays must have one element type, but {first} has {dtype} and "
                f"{name} {array.dtype}"
            )
    if device is None:
        raise TypeError(f"{kernel}: no array was given")
    function = getattr(device.load(), kernel, None)
    if function is None:
        raise NotImplementedError(f"{kernel} is not written for {device.name}")
    return function


register(
    Device(
        "the CPU",
        np.ndarray,
        "minigrad_nn.kernels.cpu",
        (np.dtype(np.float32), np.dtype(np.float64)),
    )
)
