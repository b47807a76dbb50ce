"""Runs the Python body of a compiled kernel and watches which iteration touches which element.

A race need not show when a kernel runs: on a quiet machine two threads may never meet.  But a
kernel that Numba compiled still has the Python function that it was written as.  That is run here,
one iteration of each `prange` after the other, on arrays that write down every access.  If two
iterations touch one element, and one of them writes, their order decides the result: that is a
race, found the same way each time and on any machine.  An index beyond an array is found likewise,
before compiled code can write there.

Numba is not imported: compiled functions are known by their `py_func`, the rest by its name.
"""

from __future__ import annotations

import linecache
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CellType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

__all__ = ["Body", "Enough", "Outside", "Watch"]

THREADS = 64
"""As many threads a body sees that asks for its thread: iteration i is said to run on i % 64."""

LIMIT = 20_000
"""Accesses that are watched in one run; what comes after them is not looked at."""

# Functions of arrays that read no element, and those that write into their first argument.
SHAPES_ONLY = {
    "empty_like", "full_like", "ndim", "ones_like", "result_type", "shape", "size", "zeros_like",
}  # fmt: skip
WRITERS = {"copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"}

_INTEGERS = (int, np.integer)


class Outside(IndexError):
    """An index lies outside of its array."""


class Enough(Exception):
    """As much was seen as was asked for."""


class Watch:
    """What is written down during one run of a body.

    Attributes:
        loops, iterations, accesses: how many of each were watched.
        iteration: which is running, or None outside of parallel loops.
        race: the first time that two iterations touched one element and one of them wrote it, in
            words; None if there was none.
    """

    def __init__(self, codes: set[CodeType], backwards: bool = False, limit: int = LIMIT) -> None:
        self.loops = self.iterations = self.accesses = 0
        self.race: str | None = None
        self.iteration: int | None = None
        self._codes = codes
        self._backwards = backwards
        self._limit = limit
        self._threaded = False
        self._writers: dict[int, int] = {}
        self._readers: dict[int, tuple[int, ...]] = {}
        self._names: list[tuple[str, np.ndarray]] = []
        self._kept: list[np.ndarray] = []

    def array(self, array: np.ndarray, name: str) -> Tracked:
        """An array of the caller's, watched; `name` is what messages call it."""
        self._names.append((name, array))
        return self.track(array)

    def track(self, array: np.ndarray) -> Tracked:
        """Watch an array.  It is kept, so that no other array is given its memory."""
        self._kept.append(array)
        found = array.view(Tracked)
        found._watch, found._born = self, self.moment
        return found

    @property
    def moment(self) -> tuple[int, int] | None:
        """Which iteration of which loop is running."""
        return None if self.iteration is None else (self.loops, self.iteration)

    # --- what a body finds in the place of Numba's functions -------------------------------------

    def prange(self, *limits: int) -> Iterator[int]:
        """Numba's `prange`; loops inside of a parallel one are no parallel loops."""
        steps = range(*map(int, limits))
        if self.iteration is not None:
            yield from steps
            return
        self.loops += 1
        self._writers.clear()
        self._readers.clear()
        try:
            for i in reversed(steps) if self._backwards else steps:
                self.iteration = i
                self.iterations += 1
                yield i
        finally:
            self.iteration = None

    def thread(self) -> int:
        """Numba's `get_thread_id`."""
        self._threaded = True
        return 0 if self.iteration is None else self.iteration % THREADS

    # --- accesses --------------------------------------------------------------------------------

    def _who(self) -> int:
        assert self.iteration is not None
        return self.iteration % THREADS if self._threaded else self.iteration

    def _count(self, number: int) -> None:
        self.accesses += number
        if self.accesses > self._limit:
            raise Enough

    def read(self, places: Sequence[int]) -> None:
        """These addresses are read."""
        self._count(len(places))
        if self.iteration is None:
            return
        who = self._who()
        for place in places:
            writer = self._writers.get(place, who)
            if writer != who:
                self._clash(place, f" {who} reads", f", which {{0}} {writer} writes")
            readers = self._readers.get(place, ())
            if len(readers) < 2 and who not in readers:  # one of two is another than who writes
                self._readers[place] = (*readers, who)

    def write(self, places: Sequence[int]) -> None:
        """These addresses are written."""
        self._count(len(places))
        if self.iteration is None:
            return
        who = self._who()
        for place in places:
            writer = self._writers.setdefault(place, who)
            if writer != who:
                first, second = sorted((who, writer))
                self._clash(place, f"s {first} and {second} both write", "")
            for reader in self._readers.get(place, ()):
                if reader != who:
                    self._clash(place, f" {reader} reads", f", which {{0}} {who} writes")

    def _clash(self, place: int, before: str, behind: str) -> None:
        if self.race is None:
            what = "thread" if self._threaded else "iteration"
            words = f"{what}{before} {self.name(place)}{behind.format(what)}"
            self.race = f"a race in a prange: {words} ({self.line()})"

    def name(self, place: int) -> str:
        """An address in words: element and array."""
        for name, array in self._names:
            offset = place - _address(array)
            if 0 <= offset < array.nbytes:
                index = np.unravel_index(offset // array.itemsize, array.shape)
                return f"element {[int(i) for i in index]} of {name}"
        for array in self._kept:
            offset = place - _address(array)
            if array.base is None and 0 <= offset < array.nbytes:
                index = np.unravel_index(offset // array.itemsize, array.shape)
                return f"element {[int(i) for i in index]} of an array that it makes"
        return "an element of an array that it makes"

    def owner(self, array: np.ndarray) -> str:
        """What messages call the array that this one is, or is a part of."""
        for name, known in self._names:
            if array.size and 0 <= _address(array) - _address(known) < max(known.nbytes, 1):
                return name if array.size == known.size else f"a part of {name}"
        return "an array"

    def line(self) -> str:
        """The line of the body that is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code not in self._codes:
            frame = frame.f_back
        if frame is None:
            return "line unknown"
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
        return f"line {frame.f_lineno}: {text.strip()}".removesuffix(": ")


# --- arrays that tell ----------------------------------------------------------------------------


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _places(array: np.ndarray) -> np.ndarray:
    """The address of each element."""
    found = np.full(array.shape, _address(array), np.int64)
    for axis, (size, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        shape = [1] * array.ndim
        shape[axis] = size
        found += (np.arange(size, dtype=np.int64) * stride).reshape(shape)
    return found


def _plain(value: Any) -> Any:
    """The same without anybody watching, also inside of tuples and lists."""
    if isinstance(value, Tracked):
        return value.view(np.ndarray)
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value] if isinstance(value, list) else tuple(map(_plain, value))
    return value


def _tracked(value: Any) -> Iterator[Tracked]:
    if isinstance(value, Tracked):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tracked(part)


class Tracked(np.ndarray):
    """An array that tells its `Watch` which elements are read and written."""

    _watch: Any = None
    _born: Any = None

    def __array_finalize__(self, obj: Any) -> None:
        self._watch = getattr(obj, "_watch", None)
        self._born = None if self._watch is None else self._watch.moment

    def _told(self, result: Any, *sources: Any) -> Any:
        """A result, watched; where it is no view of what it came from, that was read."""
        parts = [result] if isinstance(result, np.ndarray) else result
        arrays = [_plain(a) for a in parts] if isinstance(parts, (tuple, list)) else []
        for source in _tracked(sources):
            plain = _plain(source)
            if not any(isinstance(a, np.ndarray) and np.may_share_memory(a, plain) for a in arrays):
                self._watch.read(_places(plain).ravel().tolist())
        if isinstance(result, np.ndarray):
            return self._watch.track(_plain(result))
        if isinstance(result, (tuple, list)):
            return tuple(self._told(part) for part in result)
        return result

    def _element(self, key: Any) -> int | None:
        """The address of the one element that an index of integers means; None for other indices.

        Raises:
            IndexError: there is no such element.
        """
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) != self.ndim or not all(isinstance(p, _INTEGERS) for p in parts):
            return None
        address = _address(self)
        for part, size, stride in zip(parts, self.shape, self.strides, strict=True):
            if not -size <= part < size:
                raise IndexError
            address += (int(part) + size * (part < 0)) * stride
        return address

    def _outside(self, key: Any, verb: str) -> Outside:
        return Outside(
            f"it {verb} [{_index(key)}] of {self._watch.owner(self)}, whose shape is "
            f"{self.shape} ({self._watch.line()})"
        )

    def __getitem__(self, key: Any) -> Any:
        if self._watch is None:
            return super().__getitem__(key)
        for part in _tracked(key):
            self._watch.read(_places(part).ravel().tolist())
        key = _plain(key)
        try:
            place = self._element(key)
            plain = self.view(np.ndarray)
            found = plain[key]
        except IndexError:
            raise self._outside(key, "reads") from None
        if place is not None:
            self._watch.read([place])
        elif found.size and not np.may_share_memory(found, plain):  # a copy; a view reads nothing
            self._watch.read(np.ravel(_places(self)[key]).tolist())
        return self._watch.track(found) if isinstance(found, np.ndarray) else found

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._watch is None:
            super().__setitem__(key, value)
            return
        for part in _tracked((key, value)):
            self._watch.read(_places(part).ravel().tolist())
        key = _plain(key)
        try:
            place = self._element(key)
            places = [place] if place is not None else np.ravel(_places(self)[key]).tolist()
        except IndexError:
            raise self._outside(key, "writes") from None
        self._watch.write(places)
        self.view(np.ndarray)[key] = _plain(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", ())
        watch = next(a._watch for a in _tracked((*inputs, *out, *options.values())))
        for part in _tracked((*inputs, *options.values())):
            watch.read(_places(part).ravel().tolist())
        for part in _tracked((*out, *(inputs[:1] if method == "at" else ()))):
            watch.write(_places(part).ravel().tolist())
        if out:
            options["out"] = _plain(out)
        options = {name: _plain(value) for name, value in options.items()}
        found = getattr(ufunc, method)(*_plain(inputs), **options)
        if out:
            return out[0] if len(out) == 1 else out
        if isinstance(found, tuple):
            return tuple(watch.track(a) if isinstance(a, np.ndarray) else a for a in found)
        return watch.track(found) if isinstance(found, np.ndarray) else found

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        every = (*args, *options.values())
        watch = next(a._watch for a in _tracked(every))
        written = [options["out"]] if "out" in options else []
        if function.__name__ in WRITERS:
            written.append(args[0])
        for part in _tracked(written):
            watch.write(_places(part).ravel().tolist())
        plain = {name: _plain(value) for name, value in options.items()}
        found = function(*_plain(args), **plain)
        first = next(iter(_tracked(every)))
        if function.__name__ in SHAPES_ONLY:
            return first._told(found)
        return first._told(found, *(a for a in _tracked(every) if all(a is not w for w in written)))

    @property
    def flat(self) -> Any:
        """All elements in a row."""
        return self.reshape(-1)


def _index(key: Any) -> str:
    parts = key if isinstance(key, tuple) else (key,)
    return ", ".join(":" if isinstance(p, slice) else str(p) for p in parts)


def _reading(name: str) -> Callable:
    """A method of arrays that NumPy computes without asking `Tracked`."""

    def method(self: Tracked, *args: Any, **options: Any) -> Any:
        plain = {key: _plain(value) for key, value in options.items()}
        found = getattr(self.view(np.ndarray), name)(*_plain(args), **plain)
        return found if self._watch is None else self._told(found, self, *args)

    return method


def _writing(name: str) -> Callable:
    def method(self: Tracked, *args: Any, **options: Any) -> Any:
        if self._watch is not None:
            self._watch.write(_places(self).ravel().tolist())
        return getattr(self.view(np.ndarray), name)(*_plain(args), **options)

    return method


def _reducing(name: str) -> Callable:
    """`total += x`.  On an array from outside of the loop Numba makes it a reduction: each thread
    adds to its own copy.  (`total[0] += x` it does not.)
    """
    usual = getattr(np.ndarray, name)

    def method(self: Tracked, other: Any) -> Any:
        watch = self._watch
        if watch is None or watch.iteration is None or self._born == watch.moment:
            return usual(self, other)
        for part in _tracked(other):
            watch.read(_places(part).ravel().tolist())
        getattr(operator, name.strip("_"))(self.view(np.ndarray), _plain(other))
        return self

    return method


for _name in (
    "argmax", "argmin", "argsort", "astype", "choose", "compress", "copy", "cumprod", "cumsum",
    "dot", "flatten", "item", "nonzero", "ravel", "repeat", "reshape", "searchsorted", "take",
    "tobytes", "tolist", "trace",
):  # fmt: skip
    setattr(Tracked, _name, _reading(_name))
for _name in ("fill", "partition", "put", "sort"):
    setattr(Tracked, _name, _writing(_name))
for _name in ("__iadd__", "__isub__", "__imul__", "__itruediv__"):
    setattr(Tracked, _name, _reducing(_name))


# --- functions as they were written --------------------------------------------------------------


class Body:
    """A compiled kernel, or a Python function that calls one, as what it was written as.

    Attributes:
        compiled: whether anything in it is compiled; if not there is no need to watch it.
    """

    def __init__(self, fn: Callable) -> None:
        self._fn = fn
        self.compiled = False
        self._codes: set[CodeType] = set()
        self._watch: Watch | None = None
        self._functions: dict[tuple[Any, bool], FunctionType] = {}
        self._module = getattr(fn, "__module__", None)
        self._function = self.replaced(fn, True)

    def run(
        self, arguments: Sequence[Any], names: Sequence[str], backwards: bool = False
    ) -> tuple[Any, Watch]:
        """Call it, its arrays watched; gives its result and what was seen.

        The result is None where the body does too much to be watched to its end.

        Raises:
            Outside: it leaves an array.
        """
        self._watch = watch = Watch(self._codes, backwards)
        given = [
            watch.array(a, name) if isinstance(a, np.ndarray) else a
            for a, name in zip(arguments, names, strict=True)
        ]
        try:
            return _plain(self._function(*given)), watch
        except Enough:
            return None, watch

    def replaced(self, value: Any, parallel: bool) -> Any:
        """What stands in the place of a value that a body refers to."""
        written = getattr(value, "py_func", None)
        if isinstance(written, FunctionType):
            self.compiled = True
            options = getattr(value, "targetoptions", None)
            parallel = parallel if options is None else bool(options.get("parallel"))
            return self._rewritten(written, parallel)
        if isinstance(value, ModuleType):
            return _Module(value, self, parallel)
        home = str(getattr(value, "__module__", None))
        if home.partition(".")[0] == "numba":
            return self._of_numba(value, parallel)
        if home.partition(".")[0] == "numpy":
            return self._of_numpy(value)
        if isinstance(value, FunctionType) and (home == self._module or value is self._fn):
            return self._rewritten(value, parallel)
        return value

    def _of_numba(self, value: Any, parallel: bool) -> Any:
        name = getattr(value, "__name__", None)
        if name == "prange":
            return lambda *limits: self._watch.prange(*limits) if parallel else range(*limits)  # type: ignore[union-attr]
        if name in ("get_thread_id", "_get_thread_id"):
            return lambda: self._watch.thread()  # type: ignore[union-attr]
        if name in ("set_num_threads", "set_parallel_chunksize"):
            return lambda number: 0
        return (lambda: THREADS) if name == "get_num_threads" else value

    def _rewritten(self, function: FunctionType, parallel: bool) -> FunctionType:
        """The same function, in a world where arrays are watched."""
        found = self._functions.get((function, parallel))
        if found is not None:
            return found
        cells = tuple(CellType() for _ in function.__closure__ or ())
        found = FunctionType(
            function.__code__, dict(function.__globals__), function.__name__,
            function.__defaults__, cells,
        )  # fmt: skip
        found.__kwdefaults__ = function.__kwdefaults__
        self._functions[function, parallel] = found
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            if old != CellType():  # a name that is not bound yet
                cell.cell_contents = self.replaced(old.cell_contents, parallel)
        for code in _codes(function.__code__):
            self._codes.add(code)
            for name in code.co_names:
                if name not in function.__globals__:
                    continue
                value = function.__globals__[name]
                found.__globals__[name] = self.replaced(value, parallel)
                if isinstance(value, ModuleType):
                    called = (getattr(value, part, None) for part in code.co_names)
                    self.compiled |= any(hasattr(part, "py_func") for part in called)
        return found

    def _of_numpy(self, value: Any) -> Any:
        """A function of NumPy, whose new arrays are watched as well."""
        if isinstance(value, (type, np.ufunc)) or not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            found = value(*args, **options)
            fresh = isinstance(found, np.ndarray) and not isinstance(found, Tracked)
            return self._watch.track(found) if fresh else found  # type: ignore[union-attr]

        return call


class _Module:
    """A module as a body sees it."""

    def __init__(self, module: ModuleType, body: Body, parallel: bool) -> None:
        self._parts = module, body, parallel

    def __getattr__(self, name: str) -> Any:
        module, body, parallel = self._parts
        return body.replaced(getattr(module, name), parallel)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
