"""What is checked, as functions of float64 arrays: the user's function, its gradient, and so on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.core import Variable, enable_grad
from minigrad.scalar import Constant, Scalar
from minigrad.tensor import Tensor
from minigrad.transforms import gradients


class Arguments:
    """The inputs of a check: which are differentiated, and how variables are made of arrays."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self.inputs = list(inputs)
        arrays = any(isinstance(x, (Tensor, np.ndarray)) for x in inputs)
        self.scalars = not arrays
        self.places: list[int] = []
        self.points: list[np.ndarray] = []
        self.names: list[str] = []
        self.devices: list[str] = []
        for i, x in enumerate(inputs):
            if not _is_differentiated(x, self.scalars):
                continue
            data = x.data if isinstance(x, (Scalar, Tensor)) else x
            self.places.append(i)
            self.points.append(np.array(data, np.float64))
            name = getattr(x, "name", None)
            self.names.append(f"input {i}" + (f" ({name!r})" if name else ""))
            self.devices.append(x.device if isinstance(x, Tensor) else backend.cpu.name)
        if not self.places:
            given = ", ".join(_describe(x) for x in inputs) or "none"
            raise TypeError(
                "check_gradients: needs at least one input of floats (a tensor, an array, or "
                f"scalars only) to differentiate by; given: {given}"
            )

    def variable(self, array: np.ndarray, device: str | None = None) -> Any:
        """A new leaf with these values."""
        if self.scalars:
            return Scalar(float(array))
        leaf = Tensor(array)
        if device not in (None, leaf.device):
            leaf = leaf.to(str(device))
        return leaf.requires_grad_()

    def variables(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """New leaves: one for each differentiated input, and for each gradient that flows in."""
        devices = [*self.devices, *[None] * (len(arrays) - len(self.devices))]
        return [self.variable(a, d) for a, d in zip(arrays, devices, strict=True)]


def _is_differentiated(x: Any, scalars: bool) -> bool:
    if isinstance(x, (Tensor, np.ndarray)):
        return x.dtype.kind == "f"
    return scalars and isinstance(x, (Scalar, float))


def _describe(x: Any) -> str:
    dtype = getattr(x, "dtype", None)
    return type(x).__name__ if dtype is None else f"{type(x).__name__} of {dtype}"


class Level:
    """Something to check: a function from variables to a list of variables."""

    arguments: Arguments
    names: list[str]
    """What its variables are called: its outputs too, if it is a gradient."""

    def build(self, variables: list[Any], record: bool) -> list[Any]:
        """The outputs; on the graph if `record` asks for it (or in any case)."""
        raise NotImplementedError  # the function itself, or its gradient

    def evaluate(self, points: Sequence[np.ndarray], record: bool = False) -> list[np.ndarray]:
        """The outputs as arrays."""
        with enable_grad(), np.errstate(all="ignore"):
            outputs = self.build(self.arguments.variables(points), record)
        return [np.array(out.data, np.float64) for out in outputs]


class Function(Level):
    """The user's function of all inputs, as a function of the differentiated ones."""

    def __init__(self, f: Callable, arguments: Arguments) -> None:
        self.f = f
        self.arguments = arguments
        self.names = arguments.names

    def build(self, variables: list[Any], record: bool) -> list[Any]:
        inputs = list(self.arguments.inputs)
        for place, variable in zip(self.arguments.places, variables, strict=True):
            inputs[place] = variable
        found = self.f(*inputs)
        outputs = list(found) if isinstance(found, (tuple, list)) else [found]
        for out in outputs:
            if not isinstance(out, Variable):
                raise TypeError(
                    "check_gradients: the function must return tensors or scalars, but it "
                    f"returned {_describe(out)}"
                )
        floats = [o for o in outputs if isinstance(o, Scalar) or o.dtype.kind == "f"]
        if not floats:
            raise TypeError("check_gradients: the function returns no floats to differentiate")
        for out in floats:
            if isinstance(out, Tensor) and out.dtype != np.float64:
                raise TypeError(
                    f"check_gradients: the inputs are float64, but the function returns "
                    f"{out.dtype}; differences need double precision, so let it keep the dtype "
                    "of its inputs"
                )
        return floats


class Gradient(Level):
    """The gradient of a level below, as a function of its variables and of what flows in."""

    def __init__(self, below: Level, count: int, names: Sequence[str] = ()) -> None:
        self.below = below
        self.names = list(names)
        self.count = count
        self.arguments = below.arguments

    def build(self, variables: list[Any], record: bool) -> list[Any]:
        inputs, flows = variables[: self.count], variables[self.count :]
        outputs = self.below.build(inputs, True)
        live = [(o, g) for o, g in zip(outputs, flows, strict=True) if o.requires_grad]
        if not live:
            return [Constant(0.0) if isinstance(x, Scalar) else x.detach() * 0.0 for x in inputs]
        return gradients(
            [out for out, _ in live], inputs, [g for _, g in live], create_graph=record
        )


def check_pure(function: Function, points: list[np.ndarray]) -> None:
    """Tell a function that cannot be checked by differences here.

    Raises:
        ValueError: it gives other values the second time, or values that are not finite.
    """
    first, second = function.evaluate(points), function.evaluate(points)
    same = len(first) == len(second) and all(
        a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )
    if not same:
        raise ValueError(
            "check_gradients: the function returned other values the second time; it must depend "
            "on its inputs only, so fix its random numbers and let it keep no state"
        )
    for i, out in enumerate(first):
        if not np.isfinite(out).all():
            where = tuple(int(n) for n in np.argwhere(~np.isfinite(out))[0])
            raise ValueError(
                f"check_gradients: output {i} is {out[where]} at element {where}; choose inputs "
                "at which the function is finite"
            )
