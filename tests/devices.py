"""A second device for tests: arrays of another type, in a memory of their own.

There is one real device where most tests run, so this one stands in for another: whatever treats
its arrays as NumPy's fails, and kernels can be planted that compute a little differently.
"""

from collections.abc import Callable, Iterable

import numpy as np

import minigrad as mg
from minigrad import backend

NAME = "fake:0"


class FakeArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in a memory of its own, with as little of NumPy's protocols as rules need."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        assert method == "__call__" and not any(isinstance(x, np.ndarray) for x in inputs)
        there = [x._there if isinstance(x, FakeArray) else x for x in inputs]
        if "out" in options:  # a sum in place
            options["out"] = tuple(x._there for x in options["out"])
        return FakeArray(ufunc(*there, **options))

    def __array_function__(self, function, types, args, options):
        assert types == (FakeArray,)
        there = [x._there if isinstance(x, FakeArray) else x for x in args]
        found = function(*there, **options)
        return FakeArray(found) if isinstance(found, np.ndarray) else found

    def __init__(self, array):
        self._there = np.asarray(array)

    @property
    def shape(self):
        return self._there.shape

    @property
    def dtype(self):
        return self._there.dtype

    @property
    def ndim(self):
        return self._there.ndim

    @property
    def size(self):
        return self._there.size

    base = None


class Functions:
    """NumPy's functions that make arrays, for fake ones."""

    def __getattr__(self, name: str) -> Callable:
        return lambda *args, **options: FakeArray(getattr(np, name)(*args, **options))


def kernel_of(op: mg.Op) -> Callable:
    """A kernel that computes as the op does, but on fake arrays only."""

    def kernel(*args, **params):
        assert not any(isinstance(a, np.ndarray) for a in args)
        there = [a._there if isinstance(a, FakeArray) else a for a in args]
        return FakeArray(op.forward(*there, **params))

    return kernel


def register_fake(ops: Iterable[mg.Op]) -> str:
    """Make the device known, with kernels for these ops; gives its name.

    Call `keep_registries` before.
    """
    device = backend.Device(
        NAME, FakeArray, lambda a: FakeArray(a.copy()), lambda a: a._there.copy(), Functions()
    )
    backend.register_device(device)
    for op in ops:
        backend.register_kernel(op.name, NAME, kernel_of(op))
    return NAME


def keep_registries(monkeypatch) -> None:
    """What is registered from here on is gone again after the test."""
    for registry in ("_devices", "_device_of_type", "_kernels", "_cpu_kernels"):
        monkeypatch.setattr(backend, registry, dict(getattr(backend, registry)))
