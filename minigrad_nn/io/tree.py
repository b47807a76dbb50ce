"""Turns states (nested plain data with arrays in it) into named arrays and one JSON text, and back.

Arrays keep their bits.  Floats survive JSON bit for bit, and what JSON lacks is tagged: a mapping
with one key that begins with `$` stands for an array, a tuple, a float that is not finite, or a
mapping whose keys are not all plain strings.  Nothing else is accepted, so nothing in a file can
make anything happen but data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .container import CheckpointError

__all__ = ["pack", "unpack"]

MAX_DEPTH = 50
KINDS = "biuf"
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(state: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], str]:
    """Named arrays, and JSON text with their names in it.

    An array is named by the keys that lead to it: `model/c1.weight`.

    Args:
        state: mappings with strings or integers as keys, lists, tuples, numbers, strings, bools,
            None, and arrays of numbers or bools.  NumPy numbers become Python numbers.

    Raises:
        TypeError: something else, named by its place.
        ValueError: nested too deep.

    >>> arrays, text = pack({"step": 3, "model": {"weight": np.zeros(2)}})
    >>> list(arrays), text
    (['model/weight'], '{"step": 3, "model": {"weight": {"$array": "model/weight"}}}')
    """
    arrays: dict[str, NDArray[Any]] = {}
    return arrays, json.dumps(_encode(state, (), arrays), allow_nan=False)


def _encode(value: Any, path: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> Any:
    if len(path) > MAX_DEPTH:
        raise ValueError(f"state is nested deeper than {MAX_DEPTH} at {'/'.join(path)[:80]}...")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in KINDS:
            raise TypeError(
                f"state {'/'.join(path)}: an array of dtype {value.dtype} cannot be saved, only "
                "numbers and bools"
            )
        name = stem = "/".join(path)
        count = 1
        while name in arrays:  # keys may hold a slash of their own
            count += 1
            name = f"{stem}~{count}"
        arrays[name] = value
        return {"$array": name}
    if isinstance(value, list | tuple):
        items = [_encode(v, (*path, str(i)), arrays) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        pairs = []
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise TypeError(f"state {'/'.join(path)}: key {key!r} is no string or integer")
            pairs.append((key, _encode(item, (*path, str(key)), arrays)))
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        return {"$items": [list(pair) for pair in pairs]}
    raise TypeError(
        f"state {'/'.join(path)}: a {type(value).__name__} cannot be saved; states hold mappings, "
        "lists, tuples, numbers, strings, None and NumPy arrays"
    )


def unpack(arrays: Mapping[str, NDArray[Any]], text: str) -> dict[str, Any]:
    """The state that `pack` was given, from a file that nobody trusts.

    Raises:
        CheckpointError: the text is no such JSON, names an array that is not there, or leaves one
            out.
    """
    try:
        parsed = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its state is not valid JSON: {error}") from None
    left = dict(arrays)
    state = _decode(parsed, left, 0)
    if not isinstance(state, dict):
        raise CheckpointError(f"its state is a {type(state).__name__}, wanted a mapping")
    if left:
        raise CheckpointError(f"its state does not mention the arrays {sorted(left)[:5]}")
    return state


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _decode(value: Any, left: dict[str, NDArray[Any]], depth: int) -> Any:
    if depth > 2 * MAX_DEPTH:  # a tag is a level too
        raise CheckpointError("its state is nested too deep")
    depth += 1
    if isinstance(value, list):
        return [_decode(item, left, depth) for item in value]
    if not isinstance(value, dict):
        return value
    tags = [key for key in value if key.startswith("$")]
    if not tags:
        return {key: _decode(item, left, depth) for key, item in value.items()}
    tag, content = tags[0], value[tags[0]]
    if len(value) == 1:
        if tag == "$array" and isinstance(content, str) and content in left:
            return left.pop(content)
        if tag == "$float" and isinstance(content, str) and content in NOT_FINITE:
            return NOT_FINITE[content]
        if tag == "$tuple" and isinstance(content, list):
            return tuple(_decode(item, left, depth) for item in content)
        if tag == "$items" and isinstance(content, list):
            return _mapping(content, left, depth)
    raise CheckpointError(f"its state has a damaged entry {str(value)[:80]}")


def _mapping(pairs: list[Any], left: dict[str, NDArray[Any]], depth: int) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in pairs:
        match pair:
            case [str() | int() as key, item] if not isinstance(key, bool) and key not in result:
                result[key] = _decode(item, left, depth)
            case _:
                raise CheckpointError(f"its state has a damaged pair {str(pair)[:80]}")
    return result
