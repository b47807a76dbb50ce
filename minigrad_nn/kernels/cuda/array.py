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


def refuse(what: str) -> NotImplementedError:
    """The error of a function that a card has not."""
    return NotImplementedError(
        f"{what} is not written for CUDA: compute it on the CPU, with "
        '.to("cpu") on tensors or .to_numpy() on arrays, or register a kernel with '
        "minigrad.backend.register_kernel"
    )


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


def _strides_of_view(ghost: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides with which the same memory has another shape; None where there are none.

    NumPy finds out by trying, and reads the memory to make the copy that it then refuses.
    """
    # The axes from the last to the first, those joined that follow each other without a gap.
    runs: list[tuple[int, int]] = []  # length, and bytes from one element to the next
    for length, stride in zip(ghost.shape[::-1], ghost.strides[::-1], strict=True):
        if length == 1:
            continue
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = runs[-1][0] * length, runs[-1][1]
        else:
            runs.append((length, stride))
    strides: list[int] = []
    left, stride = 1, ghost.itemsize
    for length in shape[::-1]:
        if length > 1 and left == 1:
            left, stride = runs.pop(0)
        if left % length:
            return None
        strides.append(stride)
        left, stride = left // length, stride * length
    return tuple(strides[::-1])


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(map(int, shape)) if isinstance(shape, Sequence) else (int(shape),)


class CudaArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in a card's memory.  Made by `empty`, `from_numpy` and NumPy's functions.

    Operators and NumPy's functions compute on the card (see `protocol`).  Nothing is moved between
    memories unless it is asked for, by `from_numpy`, `to_numpy`, or by writing a NumPy array into
    an index.

    Attributes:
        card: the card that it lies on; each card has a subclass of its own.
        base: the array whose memory this one shares, None for its owner.
    """

    __slots__ = ("__weakref__", "_block", "_device_array", "_ghost", "_span", "base")

    card: ClassVar[Card]
    _block: Block
    _ghost: np.ndarray
    _device_array: Any
    _span: tuple[Any, int] | None
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
            cls.card.leaving("copies from the host's memory")
            source = source.astype(new.dtype, copy=False)
            with cls.card.driver:
                new.span[0].copy_to_device(source.reshape(-1), stream=cls.card.stream)
        return new

    @classmethod
    def _over(cls, block: Block, ghost: np.ndarray, base: CudaArray | None) -> Self:
        new = object.__new__(cls)
        new._block = block
        new._ghost = ghost
        new._device_array = new._span = None
        new.base = base
        return new

    def _like(self, ghost: np.ndarray) -> Self:
        """A view of the same memory."""
        return self._over(self._block, ghost, self if self.base is None else self.base)

    def to_numpy(self) -> np.ndarray:
        """A copy in the host's memory; waits for what is being computed."""
        if not self._ghost.size:
            return np.empty(self.shape, self.dtype)
        self.card.leaving("reads values in the host's memory")
        whole = self if self._ghost.flags.c_contiguous else self.copy()
        found = np.empty(self.shape, self.dtype)
        with self.card.driver:
            whole.span[0].copy_to_host(found.reshape(-1), stream=self.card.stream)
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

    @property
    def span(self) -> tuple[Any, int]:
        """Numba's array of one axis over all memory from the lowest element to the highest one.

        And the place of the first element in it: kernels compute the other places from strides.
        """
        if self._span is None:
            ghost, block = self._ghost, self._block
            if ghost.flags.c_contiguous and ghost.ndim == 1:
                self._span = self.device_array, 0
            else:
                low, high = np.lib.array_utils.byte_bounds(ghost)
                count = (high - low) // ghost.itemsize
                whole = ghost_of((count,), ghost.dtype)
                memory = self.card.driver.view(block.memory, block.start + low - _NOWHERE, whole)
                first = ghost.__array_interface__["data"][0]
                self._span = memory, (first - low) // ghost.itemsize
        return self._span

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
        ghost = self._ghost
        sizes = shape[0] if len(shape) == 1 else shape
        new = ghost_of(ghost.shape, ghost.dtype).reshape(sizes)  # says what is wrong with it
        if ghost.flags.c_contiguous:
            return self._like(ghost.reshape(new.shape))
        strides = _strides_of_view(ghost, new.shape)
        if strides is None:
            return self.copy()._like(new)
        return self._like(np.lib.stride_tricks.as_strided(ghost, new.shape, strides))

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

    def __getitem__(self, key: Any) -> CudaArray:
        from . import index

        return index.getitem(self, key)

    def __setitem__(self, key: Any, values: Any) -> None:
        from . import index

        index.setitem(self, key, values)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def astype(self, dtype: Any, order: str = "K", copy: bool = True) -> CudaArray:
        """The same values in another dtype, a copy in C order.

        With `copy=False` it is itself where dtype and order are right: "C", or "K" for any.
        """
        from . import elementwise

        if not copy and self.dtype == np.dtype(dtype) and (order == "K" or self.flags.c_contiguous):
            return self
        return elementwise.assign(self.empty(self.shape, dtype), self)

    def copy(self, order: str = "C") -> Self:
        """A copy in C order."""
        from . import elementwise

        new = self.empty(self.shape, self.dtype)
        if self.size and self.flags.c_contiguous:
            self._copied_into(new)
        elif self.size:
            elementwise.assign(new, self)
        return new

    def _copied_into(self, new: CudaArray) -> None:
        """Copy the elements to another array of the same shape and dtype, both in C order."""
        there, here, stream, watch = new.span[0], self.span[0], self.card.stream, self.card.watch
        if watch is not None:
            watch.launched((new, self))
        with self.card.driver:
            self.card.driver.submit(lambda: there.copy_to_device(here, stream=stream))

    def fill(self, value: float) -> None:
        """Write one value everywhere."""
        from . import elementwise

        elementwise.assign(self, value)

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self.to_numpy().item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        return self.to_numpy().tolist()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "the truth value of an array with more than one element is ambiguous: use .any() "
                "or .all()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self.to_numpy().__index__()

    def sum(self, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> CudaArray:
        """Sum over axes."""
        return np.sum(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> CudaArray:
        """Mean over axes."""
        return np.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> CudaArray:
        """Largest element over axes."""
        return np.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> CudaArray:
        """Smallest element over axes."""
        return np.min(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> CudaArray:
        """Whether some element is true."""
        return np.any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> CudaArray:
        """Whether all elements are true."""
        return np.all(self, axis=axis, keepdims=keepdims)

    # --- other libraries -------------------------------------------------------------------------

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        """A DLPack capsule over the same memory; all work on it is done by then."""
        from . import interchange

        return interchange.export(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's number for CUDA, and the card's."""
        return 2, self.card.index

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where the memory lies and how it is arranged; all work on it is done by then."""
        from . import interchange

        return interchange.interface(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.card.index, self.to_numpy())

    # --- NumPy's protocols -----------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from . import protocol

        return protocol.array_ufunc(self, ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        from . import protocol

        return protocol.array_function(self, function, args, options)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(
            f"an array of {self.card.name} does not become a NumPy array by itself: call "
            ".to_numpy(), or .numpy() on a tensor"
        )


def _restored(index: int, array: np.ndarray) -> CudaArray:
    """An array that was pickled, on the card of the same number."""
    from .card import card

    return card(index).from_numpy(array)
