"""`CudaArray`: an array in a card's memory, with NumPy's shapes, strides and views.

NumPy itself does the arithmetic of views: each array carries a *ghost*, a NumPy array of the same
shape, strides and dtype over an address at which there is nothing.  Slicing, transposing or
reshaping the ghost says what the view looks like; where it begins says how far the view lies from
the beginning of the block.  Nobody reads through a ghost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .allocator import Block

if TYPE_CHECKING:
    from .card import Card

_NOWHERE = 2**46
"""Where ghosts of whole blocks begin."""


class _Interface:
    """What NumPy asks of a stranger that says it is an array."""

    __slots__ = ("__array_interface__",)

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (_NOWHERE, False),
            "strides": None,
        }


def ghost_of(shape: Any, dtype: Any) -> np.ndarray:
    """A NumPy array of this shape and dtype over no memory, C-contiguous."""
    return np.asarray(_Interface(tuple(shape), np.dtype(dtype)))


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(map(int, shape)) if isinstance(shape, Sequence) else (int(shape),)


class CudaArray:
    """An array in a card's memory.  Made by `empty`, `from_numpy` and NumPy's functions.

    Attributes:
        card: the card that it lies on; each card has a subclass of its own.
        base: the array whose memory this one shares, None for its owner.
    """

    __slots__ = ("__weakref__", "_block", "_device_array", "_ghost", "base")

    card: ClassVar[Card]
    _block: Block
    _ghost: np.ndarray
    _device_array: Any
    base: CudaArray | None

    # --- making ----------------------------------------------------------------------------------

    @classmethod
    def empty(cls, shape: Any, dtype: Any = np.float32) -> Self:
        """An array that holds whatever was there.

        Raises:
            OutOfMemory: the card has no room.
            TypeError: a dtype of other things than real numbers and booleans.
        """
        dtype = np.dtype(dtype).newbyteorder("=")
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise TypeError(f"a card holds numbers of up to 64 bits and booleans, not {dtype}")
        ghost = ghost_of(_sizes(shape), dtype)
        what = f"an array of shape {ghost.shape} and {dtype}"
        return cls._over(cls.card.allocator.take(ghost.nbytes, what=what), ghost, None)

    @classmethod
    def from_numpy(cls, array: Any) -> Self:
        """A copy of a NumPy array, in C order."""
        source = np.asarray(array, order="C")
        new = cls.empty(source.shape, source.dtype)
        if new.size:
            source = source.astype(new.dtype, copy=False)
            with cls.card.driver:
                new.device_array.copy_to_device(source, stream=cls.card.stream)
        return new

    @classmethod
    def _over(cls, block: Block, ghost: np.ndarray, base: CudaArray | None) -> Self:
        new = object.__new__(cls)
        new._block = block
        new._ghost = ghost
        new._device_array = None
        new.base = base
        return new

    def _like(self, ghost: np.ndarray) -> Self:
        """A view of the same memory."""
        return self._over(self._block, ghost, self if self.base is None else self.base)

    def to_numpy(self) -> np.ndarray:
        """A copy in the host's memory; waits for what is being computed."""
        if not self._ghost.size:
            return np.empty(self.shape, self.dtype)
        whole = self if self._ghost.flags.c_contiguous else self.copy()
        found = np.empty(self.shape, self.dtype)
        with self.card.driver:
            whole.device_array.copy_to_host(found, stream=self.card.stream)
        self.card.driver.synchronise()
        return found

    # --- what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._ghost.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis."""
        return self._ghost.strides

    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype of the elements."""
        return self._ghost.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._ghost.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._ghost.size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._ghost.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._ghost.nbytes

    @property
    def flags(self) -> Any:
        """NumPy's flags: `c_contiguous`, `writeable`, ..."""
        return self._ghost.flags

    @property
    def offset(self) -> int:
        """Bytes from the beginning of the block to the first element."""
        return self._ghost.__array_interface__["data"][0] - _NOWHERE if self._ghost.size else 0

    @property
    def device_array(self) -> Any:
        """The same memory as Numba's array, which kernels take."""
        if self._device_array is None:
            block = self._block
            self._device_array = self.card.driver.view(
                block.memory, block.start + self.offset, self._ghost
            )
        return self._device_array

    def __len__(self) -> int:
        return len(self._ghost)

    def __repr__(self) -> str:
        body = np.array2string(self.to_numpy(), separator=", ", prefix="CudaArray(")
        return f"CudaArray({body}, dtype={self.dtype}, device={self.card.name})"

    # --- views -----------------------------------------------------------------------------------

    def view(self) -> Self:
        """The same memory."""
        return self._like(self._ghost.view())

    def reshape(self, *shape: Any) -> Self:
        """The same elements in another shape: a view where strides allow it, else a copy."""
        ghost = self._ghost.view()
        sizes = shape[0] if len(shape) == 1 else shape
        new = ghost_of(ghost.shape, ghost.dtype).reshape(sizes)  # says what is wrong with it
        try:
            ghost.shape = new.shape
        except AttributeError:
            return self.copy()._like(new)
        return self._like(ghost)

    def ravel(self) -> Self:
        """All elements in one axis, last axis fastest."""
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> Self:
        """The axes in another order, reversed by default."""
        return self._like(self._ghost.transpose(*axes))

    @property
    def T(self) -> Self:
        """All axes reversed."""
        return self._like(self._ghost.T)

    def swapaxes(self, axis1: int, axis2: int) -> Self:
        """Two axes exchanged."""
        return self._like(self._ghost.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> Self:
        """Without axes of size 1."""
        return self._like(self._ghost.squeeze(axis))

    # --- elements --------------------------------------------------------------------------------

    def copy(self, order: str = "C") -> Self:
        """A copy in C order."""
        new = self.empty(self.shape, self.dtype)
        if not self.size:
            return new
        if self.flags.c_contiguous:
            with self.card.driver:
                new.device_array.copy_to_device(self.device_array, stream=self.card.stream)
            return new
        host = self.transpose(_by_stride(self._ghost))
        raise NotImplementedError(f"a copy of strides {host.strides}")

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self.to_numpy().item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.to_numpy().tolist()


def _by_stride(ghost: np.ndarray) -> tuple[int, ...]:
    return tuple(sorted(range(ghost.ndim), key=lambda axis: -abs(ghost.strides[axis])))
