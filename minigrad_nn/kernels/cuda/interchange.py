"""Arrays of a card, shared with other libraries without a copy: DLPack, CUDA's array interface.

Both say where the memory lies, how it is arranged, and who keeps it alive.  DLPack's structures are
written with `ctypes`: there is no library of ours to compile.  See the specifications "DLPack: Open
In Memory Tensor Structure" and "CUDA Array Interface (Version 3)".
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .array import CudaArray, ghost_of
from .card import Card, card

__all__ = ["export", "from_dlpack", "from_interface", "interface"]

ON_CPU, ON_CUDA = 1, 2
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_KINDS = {code: kind for kind, code in _CODES.items()}


class _Tensor(ctypes.Structure):
    """DLTensor, with its DLDevice and DLDataType written out."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    """DLManagedTensor: a tensor, and what to call when its user has done with it."""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_python = ctypes.pythonapi
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = _python.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, _Destructor],
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _python)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _python)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_SetName", _python)
)
FRESH, USED = b"dltensor", b"used_dltensor"  # names of capsules, which must outlive them

# What others use now: the structure's address, and all that must live as long.
_lent: dict[int, tuple[Any, ...]] = {}


@_Deleter
def _give_back(address: int) -> None:
    _lent.pop(address, None)


@_Destructor
def _forget(capsule: int) -> None:
    """A capsule that nobody took: its structure goes with it."""
    if _is_valid(capsule, FRESH):
        _give_back(_pointer_of(capsule, FRESH))


def export(x: CudaArray) -> Any:
    """A DLPack capsule of an array, whose memory it keeps alive; the card has done with it."""
    x.card.synchronise()
    shape = (ctypes.c_int64 * x.ndim)(*x.shape)
    strides = (ctypes.c_int64 * x.ndim)(*(s // x.itemsize for s in x.strides))
    managed = _Managed(
        tensor=_Tensor(
            data=x._block.address + x.offset,
            device_type=ON_CUDA,
            device_id=x.card.index,
            ndim=x.ndim,
            code=_CODES[x.dtype.kind],
            bits=8 * x.itemsize,
            lanes=1,
            shape=shape,
            strides=strides,
            byte_offset=0,
        ),
        context=None,
        deleter=_give_back,
    )
    address = ctypes.addressof(managed)
    _lent[address] = (managed, shape, strides, x)
    return _new_capsule(address, FRESH, _forget)


class _Borrowed:
    """Memory of another library, as a block: it is held as long as an array uses it."""

    __slots__ = ("__weakref__", "_owner", "address", "memory", "nbytes", "start")

    def __init__(self, on: Card, address: int, nbytes: int, owner: Any) -> None:
        self.memory = on.driver.adopt(address, nbytes, owner)
        self.address, self.nbytes, self.start = address, nbytes, 0
        self._owner = owner

    def used_on(self, stream: Any) -> None:
        """Its library sees to that."""


class _Taken:
    """A structure that was taken over from a capsule: deleted when it is not used any more."""

    def __init__(self, address: int) -> None:
        self.managed = _Managed.from_address(address)
        self._address = address

    def __del__(self) -> None:
        if self.managed.deleter:
            self.managed.deleter(self._address)


def _adopted(
    on: Card, address: int, shape: tuple[int, ...], dtype: Any, strides: Any, owner: Any
) -> CudaArray:
    """An array over memory at an address; `strides` in bytes, None for C order."""
    whole = ghost_of(shape, dtype)
    if strides is None or not whole.size:
        return on.array_type._over(_Borrowed(on, address, whole.nbytes, owner), whole, None)
    # As far as it reaches below its first element and above it.
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    below = -sum(r for r in reach if r < 0)
    nbytes = below + sum(r for r in reach if r > 0) + whole.itemsize
    all_of_it = ghost_of((nbytes,), np.uint8)
    first = all_of_it[below : below + whole.itemsize].view(whole.dtype)
    ghost = np.lib.stride_tricks.as_strided(first, shape, strides)
    return on.array_type._over(_Borrowed(on, address - below, nbytes, owner), ghost, None)


def from_dlpack(source: Any) -> CudaArray:
    """An array over the memory of another library's, which `__dlpack__` describes.

    Raises:
        BufferError: it does not lie on a card, or holds something else than numbers.
    """
    kind, index = source.__dlpack_device__()
    if kind != ON_CUDA:
        raise BufferError(
            "from_dlpack: the array does not lie on a CUDA card; "
            "minigrad.tensor(numpy.from_dlpack(x)).to('cuda') copies it there"
        )
    capsule = source.__dlpack__()
    at = id(capsule)
    if not _is_valid(at, FRESH):
        raise BufferError("from_dlpack: the capsule was used before, or is of a newer kind")
    taken = _Taken(_pointer_of(at, FRESH))
    _rename(at, USED)
    t = taken.managed.tensor
    if t.lanes != 1 or t.code not in _KINDS:
        raise BufferError(f"from_dlpack: elements of DLPack's type {t.code} are not known here")
    dtype = np.dtype(bool) if t.code == _CODES["b"] else np.dtype(f"{_KINDS[t.code]}{t.bits // 8}")
    shape = tuple(t.shape[i] for i in range(t.ndim))
    strides = None
    if t.strides:
        strides = tuple(t.strides[i] * dtype.itemsize for i in range(t.ndim))
    return _adopted(card(index), (t.data or 0) + t.byte_offset, shape, dtype, strides, taken)


def interface(x: CudaArray) -> dict[str, Any]:
    """What `__cuda_array_interface__` gives; the array must live as long as it is used."""
    x.card.synchronise()
    return {
        "shape": x.shape,
        "typestr": x.dtype.str,
        "data": (x._block.address + x.offset if x.size else 0, not x.flags.writeable),
        "strides": None if x.flags.c_contiguous else x.strides,
        "stream": None,
        "version": 3,
    }


def from_interface(source: Any, on: Card | None = None) -> CudaArray:
    """An array over the memory that `__cuda_array_interface__` of another library describes.

    Args:
        source: an array of another library; it is held as long as the result lives.
        on: the card on which it lies, which the interface does not say; the first by default.
    """
    told = source.__cuda_array_interface__
    if told.get("mask") is not None:
        raise BufferError("from_interface: arrays with a mask are not known here")
    on = on or card(0)
    if told.get("stream"):  # another library's work on it may be under way
        on.synchronise()
    return _adopted(
        on, told["data"][0], tuple(told["shape"]), told["typestr"], told.get("strides"), source
    )
