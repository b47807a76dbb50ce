"""Checkpoints: everything that training needs to go on bit-exactly, in one safetensors file."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import minigrad.random

from .container import CheckpointError, read_file, write_file
from .tree import pack, unpack

__all__ = ["Stateful", "load_checkpoint", "read_checkpoint", "save_checkpoint"]

KIND = "checkpoint"
VERSION = 1
RANDOM = "random"


@runtime_checkable
class Stateful(Protocol):
    """What has a state: modules, optimisers, schedules, loaders, generators of your own."""

    def state_dict(self) -> Mapping[str, Any]:
        """The state as plain data and arrays."""

    def load_state_dict(self, state: Any) -> Any:
        """Take over such a state, or raise and stay unchanged."""


def save_checkpoint(path: str | os.PathLike[str], **parts: Any) -> Path:
    """Write parts, and the state of the default random generator, into one file, atomically.

    Args:
        path: where; the name usually ends in `.safetensors`.
        parts: what to save, by a name of your choice: objects with a `state_dict`, or plain data
            (numbers, strings, lists, mappings, arrays).

    Returns:
        The path.

    Raises:
        TypeError, ValueError: a part that is neither; or it is named `random`.
        OSError: it cannot be written; an older checkpoint of that name is unchanged.

    >>> import tempfile
    >>> from minigrad_nn.data import ArrayDataset, Loader
    >>> loader = Loader(ArrayDataset([1, 2, 3]), batch_size=1)
    >>> _ = next(iter(loader))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(f"{folder}/run.safetensors", loader=loader, note="first try")
    ...     again = Loader(ArrayDataset([1, 2, 3]), batch_size=1)
    ...     load_checkpoint(path, loader=again)["note"]
    'first try'
    >>> again.batch
    1
    """
    if RANDOM in parts:
        raise ValueError("the name 'random' is taken: it holds the default generator's state")
    state = {
        name: part.state_dict() if isinstance(part, Stateful) else part
        for name, part in parts.items()
    }
    arrays, text = pack({**state, RANDOM: minigrad.random.get_state()})
    return write_file(path, arrays, {"minigrad": KIND, "version": str(VERSION), "state": text})


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The states in a checkpoint by name, checked, and loaded into nothing.

    Raises:
        CheckpointError: it is no checkpoint, is damaged, or was written by a newer version.
        OSError: it cannot be read.
    """
    arrays, texts = read_file(path)
    if texts.get("minigrad") != KIND or "state" not in texts:
        raise CheckpointError(
            f"{path} is no checkpoint of a training run, but "
            + ("other safetensors; load_weights reads weights" if arrays else "something else")
        )
    version = texts.get("version", "")
    if not version.isascii() or not version.isdecimal() or not 1 <= int(version) <= VERSION:
        raise CheckpointError(
            f"{path} has format version {version[:20]!r}; this minigrad reads versions 1 to "
            f"{VERSION}: install a newer one"
        )
    try:
        state = unpack(arrays, texts["state"])
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if RANDOM not in state:
        raise CheckpointError(f"{path} is damaged: the state of the random generator is missing")
    return state


def load_checkpoint(
    path: str | os.PathLike[str], *, restore_random: bool = True, **parts: Stateful
) -> dict[str, Any]:
    """Load parts from a checkpoint: all of them, or none.

    Args:
        path: a file of `save_checkpoint`.
        restore_random: also continue the default random generator from where it was.
        parts: objects to load, under the names that they were saved by.  What is in the file and
            not asked for is left alone.

    Returns:
        The other states in the file, by name, as data.

    Raises:
        CheckpointError: damaged, of another kind, without one of the parts, or one does not fit:
            whatever it is, every part is as it was before.
        TypeError: a part has no state.
        OSError: the file cannot be read.
    """
    for name, part in parts.items():
        if not isinstance(part, Stateful):
            raise TypeError(f"{name} is a {type(part).__name__}: it has no state to load into")
    state = read_checkpoint(path)
    missing = [name for name in parts if name not in state]
    if missing:
        raise CheckpointError(f"{path} holds no {', '.join(missing)}, but {', '.join(state)}")
    wanted: dict[str, Stateful] = dict(parts)
    if restore_random:
        wanted[RANDOM] = _DefaultGenerator()
    before = {name: copy.deepcopy(part.state_dict()) for name, part in wanted.items()}
    for name, part in wanted.items():
        try:
            part.load_state_dict(state[name])
        except Exception as error:
            # Whatever a file can make a part raise, none of the file must stay.
            for loaded, old in before.items():
                wanted[loaded].load_state_dict(old)
            raise CheckpointError(f"{path} does not fit: {name}: {error}") from error
    return {name: value for name, value in state.items() if name not in wanted}


class _DefaultGenerator:
    """The default random generator as a part with a state."""

    def state_dict(self) -> dict[str, Any]:
        return minigrad.random.get_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        minigrad.random.set_state(state)
