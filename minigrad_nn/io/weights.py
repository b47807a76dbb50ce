"""Weights alone: a model's state under torchvision's names, for others to read and to share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .container import CheckpointError, read_file, write_file

if TYPE_CHECKING:
    from ..module import Module

__all__ = ["load_weights", "read_weights", "save_weights"]

KIND = "weights"


def save_weights(path: str | os.PathLike[str], model: Module) -> Path:
    """Write a model's parameters and buffers as safetensors, atomically.

    Their names and shapes are those of `model.state_dict()`, which are torchvision's.

    Raises:
        OSError: it cannot be written; what stood there is unchanged.
    """
    return write_file(path, model.state_dict(), {"minigrad": KIND, "version": "1"})


def read_weights(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Arrays by name from weights of this or any other program, or from a checkpoint's `model`.

    Raises:
        CheckpointError: it is no safetensors file, or is damaged.
        OSError: it cannot be read.
    """
    arrays, texts = read_file(path)
    if texts.get("minigrad") != "checkpoint":
        return arrays
    stem = "model/"
    found = {k.removeprefix(stem): a for k, a in arrays.items() if k.startswith(stem)}
    if not found:
        raise CheckpointError(f"{path} is a checkpoint without a model")
    return found


def load_weights(
    path: str | os.PathLike[str], model: Module, strict: bool = True
) -> Mapping[str, list[str]]:
    """Load weights into a model: all that fit, or none.

    Args:
        path: a file of `save_weights`, safetensors of another program, or a checkpoint.
        model: of the same architecture.
        strict: every name must be in both; otherwise those of one side only are left alone.

    Returns:
        The names that were `"missing"` from the file, and those that were `"unexpected"`.

    Raises:
        CheckpointError: damaged, or names or shapes do not fit; the model is unchanged.
        OSError: it cannot be read.
    """
    arrays = read_weights(path)
    own = model.state_dict()
    try:
        model.load_state_dict(arrays, strict=strict)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit the model: {error}") from error
    return {
        "missing": [name for name in own if name not in arrays],
        "unexpected": [name for name in arrays if name not in own],
    }
