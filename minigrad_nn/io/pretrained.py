"""Weights that others have trained, from safetensors or files of `torch.save`, read safely."""

from __future__ import annotations

import fnmatch
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from .container import HEADER_LIMIT, CheckpointError
from .torch_file import read_torch_file
from .weights import read_weights

if TYPE_CHECKING:
    from ..module import Module

__all__ = ["Loaded", "MismatchError", "load_pretrained", "read_pretrained"]

Rename = Mapping[str, str] | Callable[[str], str | None]
COUNTER = ".num_batches_tracked"
"""What batch norms of files from before PyTorch 0.4.1 do not have; it changes no output."""
SHOWN = 20


class Loaded(NamedTuple):
    """What `load_pretrained` did, as names of the model; `unexpected` are names of the file.

    Attributes:
        loaded: took their values from the file.
        missing: are not in the file, and stay as they are.
        unexpected: are in the file and not in the model.
        skipped: stay as they are because `skip` says so.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    skipped: list[str]


class MismatchError(CheckpointError):
    """Names or shapes of a file are not those of the model; nothing was loaded.

    Attributes:
        missing: names that the model has and the file has not.
        unexpected: names that the file has and the model has not.
        shapes: by name, the shape in the file and the shape in the model, where they differ.
    """

    def __init__(
        self,
        message: str,
        missing: list[str],
        unexpected: list[str],
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.unexpected = unexpected
        self.shapes = shapes


def read_pretrained(
    path: str | os.PathLike[str], key: str | None = None
) -> dict[str, NDArray[Any]]:
    """Arrays by name from safetensors or from a file of `torch.save`, whatever its name is.

    Nothing in the file is ever run: safetensors hold no code, and the pickle inside a `.pth` or
    `.pt` file is read as data (see `io/pickles.py`).  PyTorch is not needed.

    Args:
        path: the file.
        key: which part of a `.pth` checkpoint holds the tensors, such as "state_dict"; None where
            the file, or only one part of it, maps names to tensors.

    Returns:
        The arrays, perhaps read-only; numbers in bfloat16 as float32.

    Raises:
        CheckpointError: it is damaged, of another kind, or holds more than tensors and plain data:
            a whole model, for example, instead of its `state_dict()`.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    (size,) = struct.unpack("<Q", head.ljust(8, b"\xff"))
    # Safetensors begin with the size of a header; pickles with the opcode PROTO.
    if head.startswith(b"PK\x03\x04") or (head.startswith(b"\x80") and size > HEADER_LIMIT):
        return read_torch_file(path, key)
    if size > HEADER_LIMIT:
        raise CheckpointError(f"{path} is neither safetensors nor of torch.save, or is cut off")
    if key is not None:
        raise CheckpointError(f"{path} holds safetensors, which have no parts such as {key!r}")
    return read_weights(path)


def load_pretrained(
    model: Module,
    path: str | os.PathLike[str],
    *,
    strict: bool = True,
    rename: Rename | None = None,
    skip: str | Sequence[str] = (),
    key: str | None = None,
) -> Loaded:
    """Load weights that were trained elsewhere into a model: all that fit, or none.

    A big model is built faster for this inside `minigrad_nn.init.without_drawing()`.

    Args:
        model: of the same architecture; parameters keep their types, whatever the file has.
        path: safetensors, or a `.pth` or `.pt` file of `torch.save`; see `read_pretrained`.
        strict: every name must be in both; otherwise what one side lacks is left alone.  Shapes
            must always be the same.  How many batches a batch norm has seen may be missing: files
            from before PyTorch 0.4.1 do not say it, and no output depends on it.
        rename: how names in the file become the model's: beginnings to replace, of which the first
            that fits counts (`{"module.": ""}`, `{"": "backbone."}`), or a function of the name,
            which returns None for what is to be left out.
        skip: names of the model, with the wildcards `*`, `?` and `[...]`, that keep their values,
            such as a head for other classes: `"fc.*"`.
        key: which part of a `.pth` checkpoint holds the weights; see `read_pretrained`.

    Returns:
        The names, by what became of them.

    Raises:
        MismatchError: with the names that are missing and unexpected, and the shapes that differ.
        CheckpointError: the file cannot be read; see `read_pretrained`.
        ValueError: a pattern in `skip` that is no name of the model.
        TypeError: a `rename` that is neither, or gives no text.
        OSError: it cannot be read.

    >>> import tempfile
    >>> from minigrad_nn.io import save_weights
    >>> from minigrad_nn.layers import Linear
    >>> from minigrad_nn.module import Sequential
    >>> old, new = (Sequential(Linear(4, 3), Linear(3, classes)) for classes in (10, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_weights(f"{folder}/old.safetensors", old)
    ...     load_pretrained(new, path, skip="1.*").loaded
    ['0.weight', '0.bias']
    """
    found = _renamed(path, read_pretrained(path, key), rename)
    shapes = {name: tensor.shape for name, tensor in model._tensors()}
    kept = _matching(shapes, (skip,) if isinstance(skip, str) else skip)
    found = {name: array for name, array in found.items() if name not in kept}

    missing = [n for n in shapes if n not in found and n not in kept and not n.endswith(COUNTER)]
    unexpected = [name for name in found if name not in shapes]
    differing = {
        name: (array.shape, shapes[name])
        for name, array in found.items()
        if name in shapes and array.shape != shapes[name]
    }
    if differing or (strict and (missing or unexpected)):
        if not strict:
            missing, unexpected = [], []
        text = _told(missing, unexpected, differing)
        message = f"{path} does not fit {type(model).__name__}, and nothing was loaded:{text}"
        raise MismatchError(message, missing, unexpected, differing)
    try:
        model.load_state_dict(found, strict=False)
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the model: {error}") from error
    return Loaded([name for name in shapes if name in found], missing, unexpected, sorted(kept))


def _renamed(
    path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], rename: Rename | None
) -> dict[str, NDArray[Any]]:
    """The arrays under the model's names."""
    if rename is None:
        return arrays
    if not isinstance(rename, Mapping) and not callable(rename):
        raise TypeError(f"rename must be a mapping or a function, got {rename!r}")
    found: dict[str, NDArray[Any]] = {}
    for old, array in arrays.items():
        if isinstance(rename, Mapping):
            fitting = (start for start in rename if old.startswith(start))
            start = next(fitting, None)
            new = old if start is None else rename[start] + old.removeprefix(start)
        else:
            given = rename(old)
            if given is None:
                continue
            new = given
        if not isinstance(new, str):
            raise TypeError(f"rename: {old!r} must become text or None, got {new!r}")
        if new in found:
            raise CheckpointError(f"{path}: rename makes {new!r} of several names, also of {old!r}")
        found[new] = array
    return found


def _matching(names: Mapping[str, Any], patterns: Sequence[str]) -> set[str]:
    """The names that one of the patterns fits; each must fit one."""
    matching: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
        if not fitting:
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ValueError(f"skip: {pattern!r} fits no name of the model; its parts are {parts}")
        matching |= fitting
    return matching


def _told(
    missing: list[str],
    unexpected: list[str],
    differing: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    """What does not fit, and what might be done about it."""
    shapes = [f"{n}: {there} in the file, {here} here" for n, (there, here) in differing.items()]
    text = ""
    for title, lines in (
        ("missing in the file", missing),
        ("not in the model", unexpected),
        ("of another shape", shapes),
    ):
        if lines:
            text += f"\n  {title} ({len(lines)}):" + "".join(f"\n    {n}" for n in lines[:SHOWN])
            text += f"\n    ... and {len(lines) - SHOWN} more" * (len(lines) > SHOWN)
    advice = _advice(missing, unexpected)
    if advice:
        text += f"\n  the names fit with rename={advice}"
    if shapes:
        stems = {name.rpartition(".")[0] for name in differing}
        patterns = ", ".join(f'"{stem}.*"' if stem else '"*"' for stem in sorted(stems)[:3])
        text += f"\n  skip=({patterns},) leaves them as they are"
    return text


def _advice(missing: list[str], unexpected: list[str]) -> str:
    """The one change of beginnings after which all unexpected names fit, if there is one."""
    there = [name for name in unexpected if not name.endswith(COUNTER)]
    for wanted in missing[:1]:
        for name in there:
            if name.endswith(f".{wanted}"):
                start = name.removesuffix(wanted)
                if {n.removeprefix(start) for n in there} == set(missing):
                    return f'{{"{start}": ""}}'
            elif wanted.endswith(f".{name}"):
                start = wanted.removesuffix(name)
                if {start + n for n in there} == set(missing):
                    return f'{{"": "{start}"}}'
    return ""
