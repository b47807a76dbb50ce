"""Reads the files of `torch.save` without PyTorch, and nothing from them but tensors.

Since version 1.6 such a file is a zip archive: a pickle that describes tensors, and one member for
the bytes of each storage.  Before, it was five pickles in a row and then the storages.  The pickles
are read as data (`pickles.py`), members must lie uncompressed in the file, and every tensor must
lie inside its storage, so arrays are views of the bytes that were read and take no more memory.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .container import CheckpointError, widened
from .pickles import Known, read_pickle, shown

__all__ = ["read_torch_file"]

# NumPy's code for the elements of each storage; bfloat16 has none, and is read as its bits.
KINDS = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}
MAGIC = 0x1950A86A20F9469CFC6C
"""The number that files before version 1.6 begin with."""
MAX_AXES = 64
MAX_ELEMENTS = 1 << 59
"""Of an array that NumPy can describe, at up to 8 bytes each."""


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of elements somewhere in the file, as the pickle describes it."""

    kind: str
    key: str
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * np.dtype(KINDS[self.kind]).itemsize


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A strided view of a storage that holds all of it."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch_file(
    path: str | os.PathLike[str], key: str | None = None
) -> dict[str, NDArray[Any]]:
    """Arrays by name from a file of `torch.save`, as read-only views of the bytes that were read.

    Args:
        path: the file, in the zip format or the one before it.
        key: which part of a checkpoint holds the tensors, such as "state_dict"; None where the
            file, or only one part of it, maps names to tensors.

    Returns:
        Arrays of the types that they were saved with; bfloat16 as float32, which holds its values
        exactly.

    Raises:
        CheckpointError: it is damaged, holds something else than tensors and plain data, or has no
            such part.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise CheckpointError(f"{path} is no ordinary file")
        content = file.read()
    try:
        value, array_of = (_zipped if content[:2] == b"PK" else _in_a_row)(content)
        arrays: dict[_Storage, NDArray[Any]] = {}
        state = {}
        for name, tensor in _state(value, key).items():
            if tensor.storage not in arrays:
                arrays[tensor.storage] = array_of(tensor.storage)
            state[name] = _view(arrays[tensor.storage], tensor)
        return state
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _state(value: Any, key: str | None) -> dict[str, _Tensor]:
    """The tensors by name in what the file holds, or in one part of it."""

    def has_tensors(part: Any) -> bool:
        return type(part) is dict and any(type(item) is _Tensor for item in part.values())

    if type(value) is not dict:
        raise CheckpointError(
            "it holds no names with tensors, such as torch.save(model.state_dict(), path) writes, "
            f"but {'a single tensor' if type(value) is _Tensor else shown(value)}"
        )
    parts = [name for name, part in value.items() if has_tensors(part)]
    listed = ", ".join(map(shown, parts[:10])) + ", ..." * (len(parts) > 10)
    if key is None and not has_tensors(value):
        if not parts:
            raise CheckpointError("it holds no names with tensors")
        if len(parts) > 1:
            raise CheckpointError(f"several of its parts hold tensors; choose the key: {listed}")
        (key,) = parts
    if key is not None:
        if key not in parts:
            found = f"these have: {listed}" if parts else "none has"
            raise CheckpointError(f"it has no part {key!r} with tensors; {found}")
        value = value[key]
    for name, item in value.items():
        if type(name) is not str or type(item) is not _Tensor:
            raise CheckpointError(f"its entry {shown(name)} is no named tensor, but {shown(item)}")
    return value


def _view(array: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """The elements of a tensor, whose place in the storage has been checked."""
    if 0 in tensor.size:
        return np.zeros(tensor.size, array.dtype)
    # The stride of an axis of one element means nothing, and may be any number.
    pairs = zip(tensor.size, tensor.stride, strict=True)
    strides = tuple(0 if n == 1 else step * array.itemsize for n, step in pairs)
    return np.lib.stride_tricks.as_strided(
        array[tensor.offset :], tensor.size, strides, writeable=False
    )


def _array(content: bytes, start: int, storage: _Storage, order: str) -> NDArray[Any]:
    """The elements of a storage, whose bytes are known to be there."""
    dtype = np.dtype(order + KINDS[storage.kind])
    array = np.frombuffer(content, dtype, storage.count, start)
    if storage.kind == "BFloat16Storage":
        return widened(array)
    return array != 0 if storage.kind == "BoolStorage" else array


# --- what the pickles may build ------------------------------------------------------------------


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """`(storage, offset, size, stride)`, and further arguments that say nothing about values."""
    if len(arguments) not in (4, 6, 7):
        raise CheckpointError(f"it has a tensor with {len(arguments)} arguments")
    storage, offset, size, stride, *rest = arguments
    if type(storage) is not _Storage or type(size) is not tuple or type(stride) is not tuple:
        raise CheckpointError("it has a tensor without storage, size or stride")
    if not all(map(_is_size, (offset, *size, *stride))) or len(size) != len(stride):
        raise CheckpointError("it has a tensor whose offset, size or stride are no sizes")
    if len(rest) == 3 and rest[2]:
        raise CheckpointError("it has a tensor that is marked as conjugate or negative")
    if len(size) > MAX_AXES or math.prod(max(n, 1) for n in size) > MAX_ELEMENTS:
        raise CheckpointError("it has a tensor of more axes or elements than an array can have")
    if 0 not in size:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if last >= storage.count:
            of = size if len(size) <= 8 else f"{len(size)} axes"
            raise CheckpointError(
                f"it has a tensor of {of} that reaches beyond its storage of {storage.count}"
            )
    return _Tensor(storage, offset, size, stride)


def _parameter(arguments: tuple[Any, ...]) -> _Tensor:
    """`(tensor, requires_grad, hooks)`."""
    if len(arguments) != 3 or type(arguments[0]) is not _Tensor:
        raise CheckpointError("it has a parameter without a tensor")
    return arguments[0]


def _numbers(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """A `torch.Size`: `((n, m, ...),)`."""
    if len(arguments) != 1 or type(arguments[0]) is not tuple:
        raise CheckpointError("it has a size that is none")
    return arguments[0]


def _mapping(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """An `OrderedDict`, which is filled afterwards; Python 2 gave it a list of pairs instead."""
    pairs = arguments[0] if len(arguments) == 1 else []
    found: dict[str, Any] = {}
    if len(arguments) > 1 or type(pairs) is not list:
        raise CheckpointError("it has a mapping that was not written by torch.save")
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2 or type(pair[0]) is not str:
            raise CheckpointError("it has a mapping that is not made of names and values")
        if pair[0] in found:
            raise CheckpointError(f"it has the name {shown(pair[0])} twice")
        found[pair[0]] = pair[1]
    return found


KNOWN = {
    ("collections", "OrderedDict"): Known("OrderedDict", _mapping),
    ("torch", "Size"): Known("Size", _numbers),
    ("torch._utils", "_rebuild_tensor"): Known("tensor", _tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Known("tensor", _tensor),
    ("torch._utils", "_rebuild_parameter"): Known("parameter", _parameter),
    **{("torch", kind): Known(kind) for kind in KINDS},
}


def _storage(identity: Any) -> _Storage:
    """A persistent id: `("storage", kind, key, device, count)`."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise CheckpointError("it refers to something that is no storage")
    _, kind, key, _, count, *view = identity
    if type(kind) is not Known or kind.name not in KINDS or type(key) is not str:
        raise CheckpointError("it refers to a storage without a type or a name")
    if not _is_size(count):
        raise CheckpointError(f"it refers to a storage of {shown(count)} elements")
    if view not in ([], [None]):
        raise CheckpointError("it refers to a part of a storage; save it with a newer PyTorch")
    return _Storage(kind.name, key, count)


# --- the two formats -----------------------------------------------------------------------------

Arrays = Callable[[_Storage], NDArray[Any]]


def _zipped(content: bytes) -> tuple[Any, Arrays]:
    """The value in a zip archive, and what gives the arrays of its storages."""
    members = _members(content)
    tops = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(tops) != 1:
        raise CheckpointError("it is a zip archive, but not one of torch.save")
    top = tops[0].removesuffix("data.pkl")
    start, size = members.get(f"{top}byteorder", (0, 0))
    order = {b"": "<", b"little": "<", b"big": ">"}.get(content[start : start + size])
    if order is None:
        raise CheckpointError("it does not say in which order its bytes are")

    def array_of(storage: _Storage) -> NDArray[Any]:
        name = f"{top}data/{storage.key}"
        if name not in members:
            raise CheckpointError(f"the storage {shown(storage.key)} is missing")
        start, size = members[name]
        if size != storage.nbytes:
            raise CheckpointError(
                f"the storage {shown(storage.key)} has {size} bytes instead of {storage.nbytes}"
            )
        return _array(content, start, storage, order)

    start, size = members[tops[0]]
    value, end = read_pickle(content[start : start + size], 0, KNOWN, _storage)
    if end != size:
        raise CheckpointError("there is something behind its pickle")
    return value, array_of


def _members(content: bytes) -> dict[str, tuple[int, int]]:
    """Where each member of a zip archive begins, and how long it is.

    Members lie in the file as they are: torch.save does not compress, and what is not unpacked
    cannot be a bomb.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as e:
        raise CheckpointError(f"its zip archive is damaged or cut off: {shown(str(e))}") from None
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise CheckpointError("it is a TorchScript archive; save the model's state_dict instead")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(f"its member {shown(entry.filename)} is compressed or encrypted")
    if sum(entry.file_size for entry in entries) > len(content):
        raise CheckpointError("its zip archive is damaged: it claims to hold more than it has")
    members: dict[str, tuple[int, int]] = {}
    for entry in entries:
        name, at, size = entry.filename, entry.header_offset, entry.file_size
        header = content[at : at + 30] if at >= 0 else b""
        if len(header) < 30 or not header.startswith(b"PK\x03\x04") or entry.compress_size != size:
            raise CheckpointError(f"its member {shown(name)} is damaged")
        start = at + 30 + sum(struct.unpack("<HH", header[26:30]))
        if start + size > len(content) or name in members:
            raise CheckpointError(f"its member {shown(name)} is cut off, or is there twice")
        # PyTorch can be told to leave the checksum out, and writes 0.
        whole = memoryview(content)[start : start + size]
        if entry.CRC and zlib.crc32(whole) != entry.CRC:
            raise CheckpointError(f"its member {shown(name)} does not match its checksum")
        members[name] = start, size
    return members


def _in_a_row(content: bytes) -> tuple[Any, Arrays]:
    """The value in a file from before version 1.6, and what gives the arrays of its storages."""
    declared: dict[str, _Storage] = {}

    def storage(identity: Any) -> _Storage:
        found = _storage(identity)
        if declared.setdefault(found.key, found) != found:
            raise CheckpointError(f"the storage {shown(found.key)} is described twice")
        return found

    magic, end = read_pickle(content, 0, {}, storage)
    if magic != MAGIC or type(magic) is not int:
        raise CheckpointError("it is no file of torch.save")
    _, end = read_pickle(content, end, {}, storage)
    system, end = read_pickle(content, end, {}, storage)
    little = system.get("little_endian") if type(system) is dict else None
    if type(little) is not bool:
        raise CheckpointError("it does not say in which order its bytes are")
    order = "<" if little else ">"
    value, end = read_pickle(content, end, KNOWN, storage)
    keys, end = read_pickle(content, end, {}, storage)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise CheckpointError("it has no list of its storages")
    places: dict[str, int] = {}
    for key in keys:
        if key not in declared or key in places:
            raise CheckpointError(f"the storage {shown(key)} belongs to no tensor")
        count = content[end : end + 8]
        places[key] = end = end + 8
        if int.from_bytes(count, "little" if little else "big") != declared[key].count:
            raise CheckpointError(f"the storage {shown(key)} has another size, or is cut off")
        end += declared[key].nbytes
        if end > len(content):
            raise CheckpointError("it is cut off")
    if end != len(content):
        raise CheckpointError("there is something behind its storages")

    def array_of(storage: _Storage) -> NDArray[Any]:
        if storage.key not in places:
            raise CheckpointError(f"the storage {shown(storage.key)} is missing")
        return _array(content, places[storage.key], storage, order)

    return value, array_of
