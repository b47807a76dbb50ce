"""Writes files as `torch.save` does, and as it never would: opcode by opcode, without PyTorch."""

import io
import pickle
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "i2": "ShortStorage",
    "i1": "CharStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
}


class Global(NamedTuple):
    """A name that a pickle asks for."""

    module: str
    name: str


class Call(NamedTuple):
    """A call of a function with arguments."""

    function: Any
    arguments: Any


class Refer(NamedTuple):
    """A persistent id."""

    identity: Any


class Code(NamedTuple):
    """Opcodes as they are."""

    code: bytes


def encode(value: Any) -> bytes:
    """Opcodes of protocol 2 that build a value."""
    match value:
        case Code(code):
            return code
        case Global(module, name):
            return pickle.GLOBAL + f"{module}\n{name}\n".encode()
        case Call(function, arguments):
            return encode(function) + encode(arguments) + pickle.REDUCE
        case Refer(identity):
            return encode(identity) + pickle.BINPERSID
        case None:
            return pickle.NONE
        case bool():
            return pickle.NEWTRUE if value else pickle.NEWFALSE
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return pickle.LONG1 + bytes([len(data)]) + data
        case float():
            return pickle.BINFLOAT + struct.pack(">d", value)
        case str():
            data = value.encode()
            return pickle.BINUNICODE + struct.pack("<I", len(data)) + data
        case tuple():
            return pickle.MARK + b"".join(map(encode, value)) + pickle.TUPLE
        case list():
            body = b"".join(map(encode, value))
            return pickle.EMPTY_LIST + pickle.MARK + body + pickle.APPENDS
        case dict():
            body = b"".join(encode(k) + encode(v) for k, v in value.items())
            return pickle.EMPTY_DICT + pickle.MARK + body + pickle.SETITEMS
    raise TypeError(value)


def dumps(value: Any) -> bytes:
    """A whole pickle."""
    return pickle.PROTO + b"\x02" + encode(value) + pickle.STOP


EMPTY = Call(Global("collections", "OrderedDict"), ())


def storage(key: str, count: int, kind: str = "FloatStorage", *rest: Any) -> Refer:
    return Refer(("storage", Global("torch", kind), key, "cpu", count, *rest))


def tensor(where: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Call:
    function = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(function, (where, offset, size, stride, *(rest or (False, EMPTY))))


def state(arrays: dict[str, np.ndarray], *rest: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What describes arrays, strided views included, and the bytes of their storages."""
    described, storages = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        offset //= array.itemsize
        strides = tuple(step // array.itemsize for step in array.strides)
        where = storage(str(key), base.size, KINDS[array.dtype.str[1:]], *rest)
        described[name] = tensor(where, offset if array.size else 0, array.shape, strides)
        storages[str(key)] = base.tobytes()
    return described, storages


def zipped(
    value: Any,
    storages: dict[str, bytes],
    order: bytes = b"little",
    extra: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A file of `torch.save` as it is since version 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", dumps(value))
        if order:
            archive.writestr("archive/byteorder", order)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return file.getvalue()


def in_a_row(
    value: Any,
    storages: dict[str, bytes],
    counts: dict[str, int],
    little: Any = True,
    magic: Any = MAGIC,
    keys: Any = None,
) -> bytes:
    """A file of `torch.save` as it was before."""
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
    head = b"".join(map(dumps, (magic, 1001, system, value, keys or list(storages))))
    order = "<q" if little else ">q"
    return head + b"".join(
        struct.pack(order, counts[key]) + content for key, content in storages.items()
    )


def in_a_row_of(arrays: dict[str, np.ndarray], little: bool = True) -> bytes:
    """The older file that holds these arrays."""
    described, storages = state(arrays, None)
    counts = {
        key: len(storages[key]) // array.itemsize
        for key, array in zip(storages, arrays.values(), strict=True)
    }
    return in_a_row(described, storages, counts, little)
