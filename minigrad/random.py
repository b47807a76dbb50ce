"""Random numbers: one place for seeds, streams that can be saved, replayed and split.

A `Generator` draws from Philox, a counter-based generator: its numbers are a function of a key
(from a seed) and a position, so its whole state is these two.  `get_state` gives it as plain data
that JSON can hold, and `set_state` continues from there with the very same bits.

Streams are split by key, not by position: `Generator(0).fork("shuffle", 3)` is the same stream
however much was drawn before, and independent of every other key.  An epoch, a worker or a layer
takes its numbers from a fork and never disturbs another.

The functions of this module are the methods of one default generator, which `manual_seed` sets.  It
starts from seed 0: a program run twice prints the same.  All results are NumPy arrays.  The bits of
a stream never change; how NumPy shapes them into normal numbers may change with its version.

>>> from minigrad import random
>>> generator = random.manual_seed(7)
>>> state = random.get_state()
>>> first = random.normal((2, 3))
>>> random.set_state(state)
>>> bool((random.normal((2, 3)) == first).all())
True
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minigrad import backend
from minigrad.effects import drawing

__all__ = [
    "Generator",
    "as_generator",
    "bernoulli",
    "default_generator",
    "fork",
    "get_state",
    "integers",
    "manual_seed",
    "normal",
    "permutation",
    "preserved",
    "random",
    "set_state",
    "uniform",
]

Shape = int | Sequence[int]
Key = int | str

_ALGORITHM = "philox4x64-10"
_SEED_LIMIT = 2**64
_WORDS_LIMIT = 2**256  # more than anyone draws, and less than where Philox begins again
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _shape(shape: Shape) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, Sequence) else (shape,)))
    except TypeError:
        raise TypeError(
            f"shape must be an integer or a sequence of integers, got {shape!r}"
        ) from None
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape must have no negative size, got {sizes}")
    return sizes


def _float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    found = np.dtype(dtype)
    if found not in _FLOATS:
        raise TypeError(f"dtype must be float32 or float64, got {found}; convert with .astype()")
    return found


def _check_out(out: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array; give a copy")


def _check_keys(keys: Sequence[Key]) -> tuple[Key, ...]:
    checked: list[Key] = []
    for key in keys:
        if isinstance(key, bool | np.bool_) or not isinstance(key, int | np.integer | str):
            raise TypeError(f"a key of a stream must be an integer or a string, got {key!r}")
        checked.append(key if isinstance(key, str) else int(key))
    return tuple(checked)


class Generator:
    """A stream of random numbers, from a seed and a path of keys.

    Drawing and saving take a lock, so threads may share one; which thread gets which numbers is
    then a matter of timing.  Threads that must replay take a `fork` each.

    Args:
        seed: `0 <= seed < 2**64`; None takes a fresh one from the operating system (`.seed` tells).

    Raises:
        TypeError, ValueError: a seed that is no such integer.

    >>> a = Generator(0)
    >>> a.integers(5, 0, 10).tolist() == Generator(0).integers(5, 0, 10).tolist()
    True
    """

    def __init__(self, seed: SupportsIndex | None = None) -> None:
        if seed is None:
            import secrets

            number = secrets.randbits(64)
        else:
            try:
                number = operator.index(seed)
            except TypeError:
                raise TypeError(f"seed must be an integer or None, got {seed!r}") from None
            if not 0 <= number < _SEED_LIMIT:
                raise ValueError(f"seed must be in [0, 2**64), got {number}")
        self._lock = threading.RLock()
        self._seed = number
        self._path: tuple[Key, ...] = ()
        self._made: np.random.Generator | None = None

    def _numpy(self) -> np.random.Generator:
        """NumPy's generator, made at the first use: numpy.random is a fifth of numpy's import."""
        if self._made is None:
            self._made = np.random.Generator(np.random.Philox(key=self._philox_key()))
        return self._made

    def _philox_key(self) -> int:
        """128 bits from the seed and the path: the same on every machine."""
        import hashlib  # numpy.random, loaded at the same time, needs it anyway

        # Quotes tell 1 from "1" and ("a", "b") from ("a, b",); the hash makes streams independent.
        text = ascii((_ALGORITHM, self._seed, self._path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")

    @property
    def seed(self) -> int:
        """The seed that this stream, or the one that it was forked from, began with."""
        return self._seed

    @property
    def path(self) -> tuple[Key, ...]:
        """The keys that led from the seed to this stream; empty for the first."""
        return self._path

    def __repr__(self) -> str:
        fork = f".fork({', '.join(map(repr, self._path))})" if self._path else ""
        return f"Generator({self._seed}){fork}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_state, (self.get_state(),)

    # --- streams and states ------------------------------------------------------------------

    def fork(self, *keys: Key) -> Generator:
        """The independent stream that belongs to `keys`, at its beginning.

        It depends on the seed and the keys only, not on what was drawn: forking by the same keys
        twice gives the same numbers twice.

        Args:
            keys: one or more integers or strings, such as `"shuffle", epoch`.

        Raises:
            TypeError, ValueError: no key, or a key of another type.

        >>> Generator(3).fork("worker", 1)
        Generator(3).fork('worker', 1)
        """
        if not keys:
            raise ValueError("fork needs at least one key, for example fork('worker', 0)")
        child = Generator(self._seed)
        child._path = (*self._path, *_check_keys(keys))
        return child

    def spawn(self, count: int) -> list[Generator]:
        """`count` independent streams: the forks by the keys 0 to `count - 1`."""
        return [self.fork(number) for number in range(count)]

    def get_state(self) -> dict[str, Any]:
        """The state as plain data, which survives JSON: a new dictionary that drawing leaves alone.

        `words` counts the 64-bit words drawn so far, and `half` is the unused half of the last one
        where only 32 bits of it were needed, else None.
        """
        with self._lock:
            words, half = 0, None
            if self._made is not None:
                inner: Any = self._made.bit_generator.state
                counter = enumerate(inner["state"]["counter"])
                blocks = sum(int(word) << 64 * place for place, word in counter)
                words = 4 * blocks - (4 - inner["buffer_pos"])
                half = int(inner["uinteger"]) if inner["has_uint32"] else None
            return {
                "algorithm": _ALGORITHM,
                "seed": self._seed,
                "path": list(self._path),
                "words": words,
                "half": half,
            }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `get_state` gave, with the very same bits.

        Raises:
            TypeError, ValueError: not such a state; the message names the field.  The generator is
                then unchanged.
        """
        _check_state(state)
        blocks, rest = divmod(state["words"], 4)
        with self._lock:
            self._seed, self._path, self._made = state["seed"], tuple(state["path"]), None
            bits: Any = self._numpy().bit_generator
            inner = bits.state
            inner["state"]["counter"] = [blocks >> 64 * place & 2**64 - 1 for place in range(4)]
            inner["has_uint32"] = int(state["half"] is not None)
            inner["uinteger"] = state["half"] or 0
            bits.state = inner
            bits.random_raw(rest)

    # --- numbers -----------------------------------------------------------------------------

    def _fill(
        self, method: str, shape: Shape, dtype: DTypeLike, out: NDArray[Any] | None
    ) -> NDArray[Any]:
        """A method of NumPy's generator, into `out` of any memory layout."""
        sizes, kind = _shape(shape), _float_dtype(dtype)
        if out is None:
            out = np.empty(sizes, kind)
        else:
            _check_out(out, sizes, kind)
        with self._lock:
            if out.flags.c_contiguous and out.flags.aligned:
                getattr(self._numpy(), method)(dtype=kind, out=out)
            else:
                out[...] = getattr(self._numpy(), method)(sizes, dtype=kind)
        return out

    @drawing
    def random(
        self,
        shape: Shape = (),
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
        like: Any = None,
    ) -> NDArray[Any]:
        """Uniform numbers in [0, 1), multiples of 2**-24 (float32) or 2**-53 (float64).

        Args:
            shape: an integer or a sequence of them.
            dtype: float32 or float64.
            out: an array of that shape and dtype to fill and return.
            like: a raw array; the numbers, which are the same on every device, lie on its device.

        Raises:
            TypeError, ValueError: another dtype; an `out` that does not match or is read-only.
        """
        draw = None if like is None else getattr(backend.device_of(like).module, "philox", None)
        if draw is not None and out is None:
            return self._drawn_there(draw, _shape(shape), _float_dtype(dtype))
        found = self._fill("random", shape, dtype, out)
        return found if like is None else backend.beside(found, like)

    def _drawn_there(self, draw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """The numbers of `random` drawn by a device itself, from the key and the place."""
        count, per_word = math.prod(shape), 2 if dtype.itemsize == 4 else 1
        with self._lock:
            state = self.get_state()
            half = state["half"] if per_word == 2 and count else None
            behind = 0 if half is None else 1
            found = draw(self._philox_key(), state["words"], shape, dtype, behind)
            if half is not None:
                found.reshape(-1)[0] = dtype.type((half >> 8) * 2.0**-24)
                state["half"] = None
            whole, odd = divmod(count - behind, per_word)
            state["words"] += whole
            self.set_state(state)
            if odd:
                word = int(self._numpy().bit_generator.random_raw())
                self.set_state(state | {"words": state["words"] + 1, "half": word >> 32})
        return found

    @drawing
    def uniform(
        self,
        shape: Shape = (),
        low: float = 0.0,
        high: float = 1.0,
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Uniform numbers in [low, high); all equal `low` where `low == high`.

        Rounding never lets a number reach `high`.  Other arguments as for `random`.

        Raises:
            ValueError: bounds that are not finite, or `high < low`.
        """
        kind = _float_dtype(dtype).type
        with np.errstate(over="ignore"):  # told below
            first, last = kind(low), kind(high)
            width = last - first
        if not (np.isfinite(first) and np.isfinite(last) and np.isfinite(width)):
            raise ValueError(f"low and high must be finite {kind.__name__}, got {low} and {high}")
        if width < 0:
            raise ValueError(f"high must not be below low, got low={low} and high={high}")
        result = self.random(shape, dtype=dtype, out=out)
        result *= width
        result += first
        largest = kind(1) - np.finfo(kind).epsneg
        if width > 0 and largest * width + first >= last:
            np.minimum(result, np.nextafter(last, first), out=result)
        return result

    @drawing
    def normal(
        self,
        shape: Shape = (),
        mean: float = 0.0,
        std: float = 1.0,
        *,
        dtype: DTypeLike = np.float32,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Normally distributed numbers of the given mean and standard deviation.

        Other arguments as for `random`.

        Raises:
            ValueError: a negative or infinite `std`, or an infinite `mean`.
        """
        if not (np.isfinite(mean) and np.isfinite(std) and std >= 0):
            raise ValueError(f"normal needs a finite mean and std >= 0, got {mean} and {std}")
        result = self._fill("standard_normal", shape, dtype, out)
        if std != 1.0:
            result *= result.dtype.type(std)
        if mean != 0.0:
            result += result.dtype.type(mean)
        return result

    @drawing
    def integers(
        self, shape: Shape, low: int, high: int, *, dtype: DTypeLike = np.int64
    ) -> NDArray[Any]:
        """Whole numbers in [low, high), each equally likely.

        Raises:
            TypeError, ValueError: `dtype` is no integer type or does not hold the range; an empty
                range.
        """
        kind = np.dtype(dtype)
        if kind.kind not in "iu":
            raise TypeError(f"dtype must be an integer type, got {kind}")
        if low >= high:
            raise ValueError(f"integers needs low < high, got low={low} and high={high}")
        limits = np.iinfo(kind)
        if low < limits.min or high - 1 > limits.max:
            raise ValueError(f"{kind} does not hold all of [{low}, {high}); choose a wider dtype")
        with self._lock:
            return self._numpy().integers(low, high, _shape(shape), dtype=kind.type)

    @drawing
    def permutation(self, count: int) -> NDArray[np.int64]:
        """The numbers 0 to `count - 1` in random order, each order equally likely: (count,)."""
        (size,) = _shape(count)
        with self._lock:
            return self._numpy().permutation(size).astype(np.int64, copy=False)

    @drawing
    def bernoulli(
        self,
        shape: Shape,
        p: float = 0.5,
        *,
        dtype: DTypeLike = np.bool_,
        out: NDArray[Any] | None = None,
        like: Any = None,
    ) -> NDArray[Any]:
        """A mask that is true with probability `p`, to a resolution of 2**-24.

        Args:
            shape: an integer or a sequence of them.
            p: in [0, 1]; 0 gives none and 1 gives all.
            dtype: bool, or any number type for zeros and ones.
            out: an array of that shape and dtype to fill and return.
            like: a raw array, on whose device the mask is made.

        Raises:
            TypeError, ValueError: a `p` outside [0, 1]; an `out` that does not match.
        """
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p must be in [0, 1], got {p}")
        sizes, kind = _shape(shape), np.dtype(dtype)
        if kind.kind not in "biuf":
            raise TypeError(f"dtype must be bool or a number type, got {kind}")
        if out is not None:
            _check_out(out, sizes, kind)
        elif like is None:
            out = np.empty(sizes, kind)
        else:
            out = backend.device_of(like).module.empty(sizes, kind)
        np.less(self.random(sizes, like=like), p, out=out, casting="unsafe")
        return out


def _from_state(state: Mapping[str, Any]) -> Generator:
    """A new generator in a saved state; copying and unpickling come here."""
    generator = Generator(0)
    generator.set_state(state)
    return generator


def _check_state(state: Mapping[str, Any]) -> None:
    """Raise unless this is a state of a generator: it may come from a file."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a mapping from get_state(), got {type(state).__name__}")
    wanted = {"algorithm", "seed", "path", "words", "half"}
    if set(state) != wanted:
        raise ValueError(
            f"state must come from get_state(): missing fields {sorted(wanted - set(state))}, "
            f"unknown fields {sorted(map(str, set(state) - wanted))}"
        )
    if state["algorithm"] != _ALGORITHM:
        raise ValueError(f"state is of algorithm {state['algorithm']!r}, wanted {_ALGORITHM!r}")
    if not isinstance(state["path"], list | tuple):
        raise TypeError(f"state field 'path' must be a list of keys, got {state['path']!r}")
    _check_keys(state["path"])
    for name, limit in (("seed", _SEED_LIMIT), ("words", _WORDS_LIMIT), ("half", 2**32)):
        value = state[name]
        if name == "half" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"state field {name!r} must be an integer, got {value!r}")
        if not 0 <= value < limit:
            raise ValueError(f"state field {name!r} must be in [0, {limit}), got {value}")


# --- the default generator ---------------------------------------------------------------------

_default = Generator(0)

random = _default.random
uniform = _default.uniform
normal = _default.normal
integers = _default.integers
permutation = _default.permutation
bernoulli = _default.bernoulli
fork = _default.fork
get_state = _default.get_state
set_state = _default.set_state


def default_generator() -> Generator:
    """The one generator whose methods are the functions of this module."""
    return _default


def manual_seed(seed: SupportsIndex | None) -> Generator:
    """Start the default generator anew from `seed`, and return it.

    None takes a fresh seed from the operating system.  Everyone who holds the default generator
    sees the new stream.

    Raises:
        TypeError, ValueError: a seed that is neither None nor an integer in [0, 2**64).
    """
    _default.set_state(Generator(seed).get_state())
    return _default


def as_generator(source: Generator | SupportsIndex | None) -> Generator:
    """A generator from what a user may give: one itself, a seed, or None for the default one.

    >>> as_generator(5)
    Generator(5)
    """
    if isinstance(source, Generator):
        return source
    return _default if source is None else Generator(source)


@contextmanager
def preserved(state: Mapping[str, Any] | None = None) -> Iterator[Generator]:
    """Draw from the default generator inside the block, and have it as before after it.

    With a `state`, the block draws from that: what is computed a second time, as under
    `checkpoint`, sees the numbers of the first time.

    >>> state = get_state()
    >>> first = random(3)
    >>> with preserved(state):
    ...     again = random(3)
    >>> bool((first == again).all())
    True
    """
    before = _default.get_state()
    if state is not None:
        _default.set_state(state)
    try:
        yield _default
    finally:
        _default.set_state(before)
