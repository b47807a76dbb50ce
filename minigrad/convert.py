"""What users hand over, as raw arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import is_array
from minigrad.core import GraphError, Variable, raw
from minigrad.effects import Live, constant, reading, recorders, seen, value


def as_array(data: Any, dtype: Any = None) -> Any:
    """`data` as a raw array: float32 from Python numbers, NumPy's own dtype from arrays.

    Raises:
        TypeError: `data` is no array of numbers.
        GraphError: a list of variables, one of which requires a gradient.
    """
    if isinstance(data, Variable) and isinstance(data._data, float):
        raise TypeError("tensor: data is a Scalar; take its `.data`")
    if isinstance(data, Variable):
        array = data._data
    elif isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    elif is_array(data):
        array = data
    elif hasattr(data, "__array__") and not isinstance(data, (list, tuple)):
        array = np.asarray(data)
    else:
        try:
            array = np.asarray(_without_tensors(data))
        except ValueError as error:
            raise TypeError(f"tensor: data does not form an array: {error}") from None
        if dtype is None and array.dtype.kind in "iuf":
            array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"tensor: data must be numbers or booleans, got {type(data).__name__} of dtype "
            f"{array.dtype}"
        )
    return array if dtype is None else array.astype(dtype, copy=False)


def as_own_array(data: Any, dtype: Any = None) -> Any:
    """As `as_array`, in memory that nobody else has."""
    if recorders and (isinstance(data, (Variable, np.ndarray, np.generic)) or is_array(data)):
        if isinstance(data, Variable):
            seen(data)
        return _own(raw(data), dtype)
    array = as_array(data, dtype)
    fresh = isinstance(data, (list, tuple, bool, int, float)) and array.base is None
    return constant(array if fresh else array.copy())


@value
def _own(array: Any, dtype: Any) -> Any:
    """A copy of an array, which a captured step makes each time."""
    return as_array(array, dtype).copy()


def _without_tensors(data: Any) -> Any:
    if recorders and isinstance(data, Variable):
        reading(data, "tensor([...])")
    if isinstance(data, Live):
        return float(data)  # refused where it would become a constant of a captured step
    if isinstance(data, (list, tuple)):
        return [_without_tensors(part) for part in data]
    if isinstance(data, Variable) and data.requires_grad:
        raise GraphError(
            "tensor: the list holds a variable that requires a gradient, and copying its value "
            "would cut it off the graph; join variables with minigrad.stack, or .detach() them"
        )
    return data._data if isinstance(data, Variable) else data
