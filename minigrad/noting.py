"""What work on NumPy's arrays does, noted call by call, so that it can be done again.

Inside of a notebook's `open()`, arrays are `Noted`: what NumPy computes with them is done, and
written down as a call with the *places* of the arrays that it read and wrote.  Compiled kernels,
and functions under `noted`, are written down as a whole.  What cannot be done again by calls alone
raises `NotRecorded`: reading a value, or an array of which nobody knows how it was made.  So all
arrays that work makes come from NumPy's operations on noted arrays, or from `empty`.

Who does the calls again puts arrays into the places: see `minigrad.replay.planned`.
"""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "Call",
    "NotRecorded",
    "Notebook",
    "Noted",
    "Owner",
    "Place",
    "bare",
    "empty",
    "full",
    "noted",
    "settings",
    "writable",
    "zeros",
]

F = TypeVar("F", bound=Callable[..., Any])


class NotRecorded(RuntimeError):
    """Work cannot be noted, to be done again as a whole: it looks at values, or moves them."""


settings: list[Callable[[], Any]] = []
"""What decides, besides arguments, which calls work makes: asked for by who does them again."""

books: dict[int, Notebook] = {}
"""Who notes what a thread does; empty nearly always."""


def current() -> Notebook | None:
    """The notebook of this thread, if there is one."""
    return books.get(get_ident()) if books else None


class Owner:
    """The memory of an array in noted work.

    Attributes:
        given: whether it is another array in each run, which the work does not make.
        kept: whether it is one that the work makes, and others keep.
        shape, dtype, nbytes: of the array that owns the memory.
        first, last: the times at which it was first and last in use.
    """

    __slots__ = ("dtype", "first", "given", "kept", "last", "nbytes", "shape")

    def __init__(self, given: bool, array: np.ndarray, time: int) -> None:
        self.given, self.kept = given, False
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        self.first = self.last = time


class Place(NamedTuple):
    """Where an array lies: so many bytes from the beginning of an owner's memory."""

    owner: Owner
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    def within(self, memory: np.ndarray, start: int = 0) -> np.ndarray:
        """The array at this place, where the owner's memory begins at that byte."""
        return np.ndarray(self.shape, self.dtype, memory, start + self.offset, self.strides)


class Call(NamedTuple):
    """One call: `function(*args, **keywords)`, with places for arrays, also in tuples and slices.

    Attributes:
        errors: NumPy's settings for floating-point errors; None where they do not matter.
    """

    function: Callable[..., Any]
    args: tuple
    keywords: dict[str, Any]
    errors: dict[str, Any] | None


class Notebook:
    """Calls that one thread makes, and the memory that they use.

    Attributes:
        calls: what was noted.
        time: how many calls, and other uses of memory, there were.
        strange: arrays of which it is not known how they were made, by their id.
    """

    def __init__(self, lasting: dict[int, np.ndarray], rehearsal: bool = False) -> None:
        """Memory of the arrays in `lasting`, by their id, is the same in all runs.

        In a rehearsal, so may be that of all arrays of which it is not known how they were made;
        they are kept in `strange`, also by their id.
        """
        self.calls: list[Call] = []
        self.time = 0
        self.strange: dict[int, np.ndarray] = {}
        self._lasting, self._rehearsal = lasting, rehearsal
        self._owners: dict[int, tuple[Owner, weakref.ref]] = {}
        self._since = 0
        self._held: list[np.ndarray] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Note what this thread does inside."""
        self._since = self.time
        books[get_ident()] = self
        try:
            yield
        finally:
            del books[get_ident()]

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Note nothing inside: it is noted as a whole."""
        del books[get_ident()]
        try:
            yield
        finally:
            books[get_ident()] = self

    # --- memory ----------------------------------------------------------------------------------

    def _know(self, given: bool, array: np.ndarray) -> Owner:
        key = id(array)
        owner = Owner(given, array, self.time)
        # An array of which only this book knows may die, and its memory be that of another one.
        gone = weakref.ref(array, lambda _: self._owners.pop(key, None))
        self._owners[key] = owner, gone
        return owner

    def owner(self, array: np.ndarray) -> tuple[Owner | None, np.ndarray]:
        """Whose memory an array lies in, as far as it is known, and the outermost array of it."""
        while True:
            found = self._owners.get(id(array))
            if found is not None:
                return found[0], array
            base: Any = array.base
            if base is not None and not isinstance(base, np.ndarray):
                # What presents another array's memory.
                base = getattr(base, "array", getattr(base, "base", None))
            if not isinstance(base, np.ndarray):
                return None, array
            array = base

    def knows(self, array: np.ndarray) -> bool:
        """Whether it is known how an array was made, or that it lasts."""
        owner, whole = self.owner(array)
        return owner is not None or id(whole) in self._lasting

    def place(self, array: np.ndarray, keep: bool = False) -> Any:
        """The place of an array, with `keep` of one that is kept by others; a lasting one itself.

        Raises:
            NotRecorded: it is not known how it was made.
        """
        if not array.size:
            return np.empty(array.shape, array.dtype)
        owner, whole = self.owner(array)
        if owner is None:
            if id(whole) in self._lasting:
                return array.view(np.ndarray)
            self.strange[id(whole)] = whole
            if self._rehearsal:
                return array.view(np.ndarray)
            raise NotRecorded(
                f"an array of shape {array.shape} and dtype {array.dtype} was made by other means "
                "than operations on the step's values"
            )
        owner.last = self.time
        owner.kept |= keep and not owner.given
        offset = _address(array) - _address(whole)
        return Place(owner, offset, array.shape, array.strides, array.dtype)

    def own(self, array: np.ndarray) -> Noted:
        """A new array, as one of which this book knows how it was made."""
        self._know(False, self.owner(array)[1])
        return array.view(Noted)

    def whole(self, array: np.ndarray) -> np.ndarray:
        """A noted array as NumPy's: the one that owns the memory, where it is all of that."""
        _, found = self.owner(array)
        alike = found.shape == array.shape and found.dtype == array.dtype
        if alike and found.strides == array.strides and type(found) is np.ndarray:
            return found
        return array.view(np.ndarray)

    def give(self, array: np.ndarray) -> tuple[Owner, np.ndarray]:
        """Take up an array that is another one in each run; gives what stands for it."""
        shown = np.asarray(_Presented(array, not array.flags.writeable))
        self._held.append(shown)
        return self._know(True, shown), shown

    # --- calls -----------------------------------------------------------------------------------

    def alone(self, array: np.ndarray) -> None:
        """Make sure that nobody else knows an array: it was made since `open`.

        Raises:
            NotRecorded: it was there before.
        """
        owner, _ = self.owner(array)
        if owner is None or owner.given or owner.first < self._since:
            raise NotRecorded("a gradient may have to be changed that is another array, too")

    def note(
        self, function: Callable[..., Any], args: tuple, keywords: dict[str, Any], exact: bool
    ) -> None:
        """Write a call down; it was made.  `exact` where floating-point errors may be told."""
        errors: Any = dict(np.geterr()) if exact else None
        places, named = self._placed(args), self._placed(keywords)
        self.calls.append(Call(function, places, named, errors))
        self.time += 1

    def _placed(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self.place(value)
        kind = type(value)
        if kind is tuple:
            return tuple([self._placed(part) for part in value])
        if kind is dict:
            return {name: self._placed(part) for name, part in value.items()}
        if kind is slice or kind is list:
            parts = value if kind is list else (value.start, value.stop, value.step)
            if any(isinstance(part, np.ndarray) for part in parts):
                raise NotRecorded(f"a {kind.__name__} of arrays is an argument")
        return value

    def made(self, function: Callable[..., Any], args: tuple, keywords: dict[str, Any]) -> Any:
        """Call a function of arrays that changes none but `out`, and note it; gives its result."""
        with self._aside():
            found = function(*bare(args), **bare(keywords))
        out = keywords.get("out")
        if out is not None:
            self.note(function, args, keywords, True)
            return out
        if not isinstance(found, (np.ndarray, np.generic)):
            raise NotRecorded(f"{_name(function)} gives a {type(found).__name__}")
        array = np.asarray(found)
        if self.knows(array):
            if _name(function) not in _VIEWS:
                raise NotRecorded(f"{_name(function)} gives an array that was there before")
            return array.view(Noted)  # nothing was computed
        found = self.own(array)
        self.note(_into, (array, function, args, keywords), {}, True)
        return found

    def done(self, function: Callable[..., Any], args: tuple, exact: bool) -> None:
        """Call a function that writes into some of its arguments, and note it: see `note`.

        Raises:
            NotRecorded: it gives something; what that was is unknown to the calls after it.
        """
        with self._aside():
            found = function(*bare(args))
        if found is not None:
            raise NotRecorded(f"{_name(function)} gives a {type(found).__name__}")
        self.note(function, args, {}, exact)


class _Presented:
    """An array's memory as that of another one, of which views know where they come from."""

    def __init__(self, array: np.ndarray, locked: bool) -> None:
        self.array = array
        shown = array.__array_interface__
        self.__array_interface__ = {**shown, "data": (shown["data"][0], locked)}


def writable(array: np.ndarray) -> np.ndarray:
    """An array's memory as a writable array: for kernels, which do not write to what they read.

    Numba has a type of its own for read-only arrays, and would compile each kernel again for it.
    """
    return array if array.flags.writeable else np.asarray(_Presented(array, False))


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _into(out: np.ndarray, function: Callable[..., Any], args: tuple, keywords: dict) -> None:
    out[...] = function(*args, **keywords)


def bare(value: Any) -> Any:
    """Noted arrays as NumPy's, also in tuples, lists and dictionaries."""
    if isinstance(value, Noted):
        return value.view(np.ndarray)
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([bare(part) for part in value])
    if kind is dict:
        return {name: bare(part) for name, part in value.items()}
    return value


def empty(shape: Any, dtype: Any) -> np.ndarray:
    """`numpy.empty` for results and scratch memory, which noted work may use."""
    found = np.empty(shape, dtype)
    if books:
        book = current()
        if book is not None:
            return book.own(found)
    return found


def zeros(shape: Any, dtype: Any) -> np.ndarray:
    """`numpy.zeros`, which noted work makes anew each time."""
    return full(shape, 0, dtype) if books else np.zeros(shape, dtype)


def full(shape: Any, value: Any, dtype: Any) -> np.ndarray:
    """`numpy.full`, which noted work makes anew each time."""
    found = empty(shape, dtype)
    found[...] = value
    return found


def noted(function: F) -> F:
    """Mark a function that writes into some of its arrays, and decides by values: one call.

    It gives None, and what it does depends on its arguments alone.
    """

    @functools.wraps(function)
    def wrapper(*args: Any) -> None:
        if books:
            book = current()
            if book is not None:
                book.done(function, args, True)
                return
        function(*args)

    return wrapper  # type: ignore[return-value]


# --- arrays --------------------------------------------------------------------------------------


class Noted(np.ndarray):
    """An array of which a notebook knows how it was made; elsewhere than in one, like any other."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        book = current()
        call = getattr(ufunc, method)
        out = keywords.pop("out", None)
        if book is None or method not in ("__call__", "reduce", "accumulate"):
            if book is not None:
                raise NotRecorded(f"{_name(ufunc)}.{method}")
            if out is not None:
                keywords["out"] = bare(out)
            return call(*bare(inputs), **bare(keywords))
        if any(isinstance(value, (list, tuple)) for value in inputs):
            raise NotRecorded(f"{_name(ufunc)} of a list")
        call = ufunc if method == "__call__" else call
        if out is None:
            found = call(*bare(inputs), **bare(keywords))
            many = isinstance(found, tuple)
            out = tuple([book.own(np.asarray(part)) for part in (found if many else (found,))])
            found = out if many else out[0]
        elif any(part is None for part in out):
            raise NotRecorded(f"{_name(ufunc)} with {len(out)} outputs, of which one is None")
        else:
            call(*bare(inputs), out=bare(out), **bare(keywords))
            found = out if len(out) > 1 else out[0]
        keywords["out"] = out
        book.note(call, inputs, keywords, True)
        return found

    def __array_function__(self, function: Any, kinds: Any, args: Any, keywords: Any) -> Any:
        book = current()
        if book is None or function in _ABOUT:
            return function(*bare(args), **bare(keywords))
        if function in _LIKE:
            found = book.own(np.empty_like(*bare(args[:1]), **_kept(keywords)))
            if _LIKE[function] is not None:
                value = _LIKE[function]
                found[...] = value if value is not ... else keywords.get("fill_value", *args[1:2])
            return found
        if function is np.copyto:
            args[0][...] = args[1]
            return None
        if function in _PURE:
            return book.made(function, args, keywords)
        raise NotRecorded(f"{_name(function)}")

    def __getitem__(self, key: Any) -> Any:
        book = current()
        if book is None:
            return super().__getitem__(key)
        if _chooses(key):
            raise NotRecorded("an index of booleans")
        return book.made(operator.getitem, (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        book = current()
        if book is None:
            super().__setitem__(key, value)
            return
        self.view(np.ndarray)[bare(key)] = bare(value)
        book.note(operator.setitem, (self, key, value), {}, True)

    def fill(self, value: Any) -> None:
        """As NumPy's, noted."""
        self[...] = value


def _chooses(key: Any) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(p, (np.ndarray, list)) and np.asarray(p).dtype == bool for p in parts)


def _kept(keywords: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if name in ("dtype", "shape", "order")}


def _pure(name: str) -> Callable[..., Any]:
    plain = getattr(np.ndarray, name)

    @functools.wraps(plain, assigned=("__name__",))
    def method(self: Noted, *args: Any, **keywords: Any) -> Any:
        book = current()
        if book is None:
            return plain(self, *args, **keywords)
        return book.made(plain, (self, *args), keywords)

    return method


def _refused(name: str) -> Callable[..., Any]:
    plain = getattr(np.ndarray, name)
    called = callable(plain)

    @functools.wraps(plain, assigned=("__name__",))
    def method(self: Noted, *args: Any, **keywords: Any) -> Any:
        if current() is not None:
            raise NotRecorded(f"reading or changing values by {name}")
        return plain(self, *args, **keywords) if called else plain.__get__(self)

    return method


for _method in (
    "reshape ravel flatten transpose swapaxes squeeze diagonal copy astype take repeat round clip "
    "cumsum cumprod argmax argmin sum prod max min mean var std any all trace conj dot"
).split():
    setattr(Noted, _method, _pure(_method))

for _method in (
    "__bool__ __float__ __int__ __complex__ __index__ __contains__ item tolist tobytes "
    "tofile dump dumps nonzero sort partition argsort argpartition put itemset resize setfield "
    "byteswap choose compress searchsorted __format__ __str__ __repr__ setflags"
).split():
    if hasattr(np.ndarray, _method):
        setattr(Noted, _method, _refused(_method))

for _method in ("flat", "ctypes", "data"):
    setattr(Noted, _method, property(_refused(_method)))

_PURE = {
    getattr(np, name)
    for name in (
        "reshape ravel transpose swapaxes moveaxis rollaxis expand_dims squeeze broadcast_to "
        "concatenate stack hstack vstack take take_along_axis where pad repeat tile roll clip flip "
        "rot90 sort argsort argmax argmin cumsum cumprod einsum tensordot dot inner outer trace "
        "tril triu diagonal sum prod max min mean var std any all round diff"
    ).split()
}
_VIEWS = set(
    "reshape ravel transpose swapaxes moveaxis rollaxis expand_dims squeeze broadcast_to diagonal "
    "flip rot90 getitem astype".split()
)
_ABOUT = {
    getattr(np, name)
    for name in (
        "shape ndim size result_type can_cast min_scalar_type may_share_memory shares_memory "
        "iscomplexobj isrealobj common_type"
    ).split()
}
_LIKE = {np.empty_like: None, np.zeros_like: 0, np.ones_like: 1, np.full_like: ...}
