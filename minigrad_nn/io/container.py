"""Named arrays and text in a safetensors file: written in one step, and checked whole when read.

The format is a length, a JSON header, and bytes: reading it can run nothing.  We add a digest of
everything, so that a flipped bit is told instead of trained on; files of other programs have none,
and are read as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import write_atomically

__all__ = ["CheckpointError", "read_file", "widened", "write_file"]

Arrays = dict[str, NDArray[Any]]
HEADER_LIMIT = 100_000_000
"""Bytes; the limit that the format's own library has."""
DIGEST = "sha256"
# NumPy's types for those of the format; bfloat16 has none, and is read as its bits.
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
    "C64": "<c8",
}


class CheckpointError(ValueError):
    """A checkpoint is damaged, is of another kind, or does not fit; nothing was loaded from it."""


def write_file(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]
) -> Path:
    """Write a safetensors file atomically.

    Args:
        path: where; folders above it are made.
        arrays: by name, of a dtype that the format has (no object, string or complex128 arrays).
        texts: metadata by name; `sha256` is added.

    Raises:
        TypeError: an array of another dtype.
        OSError: it cannot be written; what stood there is unchanged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    # Contiguous and little-endian; `ascontiguousarray` would give a single number an axis.
    plain = {
        name: np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        for name, array in arrays.items()
    }
    if "__metadata__" in plain:
        raise ValueError("an array cannot be named __metadata__: the format uses that name itself")
    try:
        content = save(plain, {**texts, DIGEST: _digest(plain, texts)})
    except (SafetensorError, KeyError) as error:
        kinds = sorted({str(array.dtype) for array in plain.values()})
        raise TypeError(f"{path}: arrays of {', '.join(kinds)} cannot be saved: {error}") from error
    return write_atomically(path, content)


def read_file(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """Arrays and texts of a safetensors file; the arrays are fresh and may be written.

    Numbers in bfloat16 come as float32, which holds them exactly.

    Raises:
        CheckpointError: it is no such file, is cut off, or its digest is wrong.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, deserialize

    content = _content(path)
    texts = _texts(path, content)
    try:
        arrays = {name: _array(path, name, **entry) for name, entry in deserialize(content)}
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    digest = texts.pop(DIGEST, None)
    ours = "minigrad" in texts
    if (ours or digest is not None) and digest != _digest(arrays, texts):
        raise CheckpointError(
            f"{path} is damaged: its content does not match its checksum; use an older copy"
        )
    return arrays, texts


def _array(
    path: str | os.PathLike[str], name: str, dtype: str, shape: list[int], data: bytes
) -> NDArray[Any]:
    """One array, from its bytes."""
    if dtype not in DTYPES:
        raise CheckpointError(
            f"{path}: {name} has numbers of type {dtype}, which NumPy has not; convert them to F32"
        )
    array = np.frombuffer(data, DTYPES[dtype]).reshape(shape)
    return widened(array) if dtype == "BF16" else np.array(array)


def widened(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers in bfloat16, given as 16-bit integers, as float32: it only has more zeros behind.

    >>> widened(np.array([0x3F80, 0xC040], np.uint16))
    array([ 1., -3.], dtype=float32)
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _content(path: str | os.PathLike[str]) -> bytes:
    """The whole file, if its first bytes can be those of a safetensors file of its size."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is no ordinary file")
        head = file.read(8)
        room = min(HEADER_LIMIT, status.st_size - 8)
        if len(head) < 8 or not 2 <= struct.unpack("<Q", head)[0] <= room:
            raise CheckpointError(
                f"{path} is no safetensors file, or is cut off ({status.st_size} bytes)"
            )
        return head + file.read()


def _texts(path: str | os.PathLike[str], content: bytes) -> dict[str, str]:
    """The metadata of the header."""
    (size,) = struct.unpack("<Q", content[:8])
    try:
        header = json.loads(content[8 : 8 + size].decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is not valid: {error}") from None
    texts = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(v, str) for v in texts.values()):
        raise CheckpointError(f"{path} is damaged: its header holds no text metadata")
    return texts


def _digest(arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> str:
    """A hash of all names, dtypes, shapes, bits and texts."""
    digest = hashlib.sha256()
    for key, text in sorted(texts.items()):
        digest.update(repr((key, text)).encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
