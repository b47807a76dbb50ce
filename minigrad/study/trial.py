"""Puts a kernel on trial: every check that `bench_kernel` makes before it measures.

Shapes are drawn by Hypothesis and shrunk where a check fails.  Arrays lie inside red zones: memory
whose reading spoils the result and whose writing shows.  The body of a compiled kernel is watched
(`bodies`) before its compiled code runs for the first time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minigrad.check import GradientError, KinkError, check_gradients
from minigrad.core import GraphError, Op, Variable
from minigrad.study.bodies import Body, Outside, Watch
from minigrad.tensor import Tensor, tensor

__all__ = ["KernelCheck", "Trial"]

ZONE = 512
"""Numbers in a red zone, on each side of an array."""

SIZES = (1, 2, 3, 5, 8, 16, 17, 33)
"""Sizes that axes are drawn from: odd ones, powers of two, and one more than those."""

REPEATS = 12
"""So often a kernel is run on the same input, to see whether it always gives the same."""

LOOSE = 1000.0
"""By so much more may two orders of a loop's iterations differ: a sum is rounded differently."""


@dataclass(frozen=True, slots=True)
class KernelCheck:
    """One thing that was checked.

    Attributes:
        name: "values", "bounds", "inputs", "races", "deterministic" or "gradient".
        passed: whether it holds; None if it could not be checked here.
        text: what was found, with the smallest shapes where it fails.
    """

    name: str
    passed: bool | None
    text: str


class _Wrong(AssertionError):
    """A check that failed, in words."""


class Trial:
    """One kernel, its reference, and how to call them."""

    def __init__(
        self,
        fn: Callable,
        like: Callable,
        shapes: list[tuple[str, ...]],
        out: bool,
        dtype: np.dtype,
        rtol: float | None,
        values: Callable | None,
    ) -> None:
        self.fn = fn
        self.like = like
        self.shapes = shapes
        self.out = out
        self.dtype = dtype
        self.rtol = rtol if rtol is not None else (1e-9 if dtype.itemsize >= 8 else 1e-4)
        self.values = values or (lambda rng, shape: rng.normal(size=shape))
        self.letters = {n for shape in shapes for n in shape if not n.isdigit()}
        self.large: dict[str, int] = {}
        self.body = Body(fn)

    def checks(self, backward: Callable | None, examples: int) -> list[KernelCheck]:
        """Every check.  A kernel whose body leaves its arrays is not run at all."""
        outside, races = self.watched()
        if outside is not None:
            others = ("values", "inputs", "deterministic", "gradient")
            text = "not run, since it leaves its arrays"
            found = [KernelCheck(name, None, text) for name in others]
            return [found[0], KernelCheck("bounds", False, outside), found[1], races, *found[2:]]
        values = _over_shapes("values", self.check_values, self, examples)
        return [
            self._at_large(values) if values.passed else values,
            _over_shapes("bounds", self.check_bounds, self, examples),
            _over_shapes("inputs", self.check_inputs, self, examples),
            races,
            self.deterministic(),
            self.gradient(backward, examples),
        ]

    def make(self, sizes: Mapping[str, int], seed: int) -> list[np.ndarray]:
        """Inputs for these sizes."""
        rng = np.random.default_rng(seed)
        return [
            np.asarray(self.values(rng, tuple(_size(n, sizes) for n in shape)), self.dtype)
            for shape in self.shapes
        ]

    def wanted(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """What the reference gives."""
        return _array(self.like(*inputs))

    def call(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """What the kernel gives."""
        return self.guarded(inputs, 0)[0]

    def guarded(
        self, inputs: Sequence[np.ndarray], kind: int, like: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[_Zone]]:
        """What the kernel gives inside red zones, and the zones: inputs, then output.

        It is never called otherwise before it has passed: a write that goes astray ends in a zone,
        and not in memory of somebody else.
        """
        zones = [_Zone(a.shape, a.dtype, kind) for a in inputs]
        for zone, a in zip(zones, inputs, strict=True):
            zone.array[...] = a
        given = [zone.array for zone in zones]
        if not self.out:
            return _array(self.fn(*given)), zones
        like = self.wanted(inputs) if like is None else like
        zones.append(_Zone(like.shape, like.dtype, kind))
        self.fn(*given, zones[-1].array)
        return zones[-1].array, zones

    def timed(self, inputs: Sequence[np.ndarray]) -> Callable:
        """The bare kernel on these inputs, for the measurement."""
        if not self.out:
            return partial(self.fn, *inputs)
        return partial(self.fn, *inputs, np.zeros_like(self.wanted(inputs)))

    def compare(
        self, found: np.ndarray, wanted: np.ndarray, rtol: float | None = None
    ) -> str | None:
        """How a result differs, in words."""
        rtol = self.rtol if rtol is None else rtol
        if found.shape != wanted.shape:
            return f"its result has shape {found.shape} instead of {wanted.shape}"
        if not wanted.size:
            return None
        with np.errstate(all="ignore"):
            scale = float(np.max(np.abs(wanted), initial=0.0)) or 1.0
            distance = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        bad = ~(distance <= rtol * scale) & ~(np.isnan(found) & np.isnan(wanted))
        if not bad.any():
            return None
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        return (
            f"{int(bad.sum())} of {bad.size} elements differ, first {list(place)}: "
            f"{found[place]!s} instead of {wanted[place]!s}"
        )

    # --- looking into it -------------------------------------------------------------------------

    def watched(self) -> tuple[str | None, KernelCheck]:
        """What its body does wrong, before compiled code runs: how it leaves an array, or None;
        and whether iterations of its parallel loops stand in each other's way.
        """
        if not self.body.compiled:
            text = "nothing compiled to look into: only runs that differ would show one"
            return None, KernelCheck("races", None, text)
        loops = iterations = 0
        race = None
        for sizes in self._some_sizes():
            try:
                with np.errstate(all="ignore"):
                    there, watch = self._run_body(sizes)
                    race = watch.race
                    if race is None and watch.loops:
                        back, watch = self._run_body(sizes, backwards=True)
                        race = watch.race or self._depends_on_order(there, back)
            except Outside as error:
                text = f"{error} (at {_sizes(sizes)})"
                return text, KernelCheck("races", None, "not looked at, since it leaves its arrays")
            except Exception as error:  # not all that can be compiled runs in Python
                text = f"its Python body cannot be watched, it raises {_words(error)}"
                return None, KernelCheck("races", None, text)
            if race is not None:
                return None, KernelCheck("races", False, f"{race} (at {_sizes(sizes)})")
            loops += watch.loops
            iterations += watch.iterations
        if not loops:
            return None, KernelCheck("races", None, "no loop of prange ran")
        text = f"{iterations:,} iterations of prange did not touch each other's elements"
        return None, KernelCheck("races", True, text)

    def _some_sizes(self) -> Iterator[dict[str, int]]:
        """Sizes for watching: all equal, and mixed, small ones first."""
        letters = sorted(self.letters)
        rng = np.random.default_rng(0)
        found = [dict.fromkeys(letters, size) for size in SIZES]
        found += [dict(zip(letters, rng.choice(SIZES, len(letters)), strict=True)) for _ in SIZES]
        found = [{letter: int(size) for letter, size in sizes.items()} for sizes in found]
        found.sort(key=lambda sizes: math.prod(sizes.values()))
        yield from (sizes for i, sizes in enumerate(found) if sizes not in found[:i])

    def _run_body(self, sizes: Mapping[str, int], backwards: bool = False) -> tuple[Any, Watch]:
        arrays = self.make(sizes, 0)
        names = [f"input {i}" for i in range(len(arrays))]
        if self.out:
            like = self.wanted(arrays)
            arrays.append(np.full(like.shape, _poison(like.dtype, 0), like.dtype))
            names.append("its output")
        found, watch = self.body.run(arrays, names, backwards)
        return arrays[-1] if self.out else found, watch

    def _depends_on_order(self, there: Any, back: Any) -> str | None:
        if there is None or back is None:  # too much to be watched to its end
            return None
        words = self.compare(_array(back), _array(there), self.rtol * LOOSE)
        if words is None:
            return None
        return f"the iterations of a prange depend on each other: in another order {words}"

    # --- running it ------------------------------------------------------------------------------

    def _at_large(self, values: KernelCheck) -> KernelCheck:
        """The values once more, at the size of the measurement."""
        try:
            with np.errstate(all="ignore"):
                self.check_values(self.large, 0)
        except Exception as error:  # whatever a kernel raises is reported
            text = str(error) if isinstance(error, _Wrong) else f"it raises {_words(error)}"
            return KernelCheck("values", False, f"{text} (at {_sizes(self.large)})")
        return values

    def check_values(self, sizes: Mapping[str, int], seed: int) -> str:
        """The result is the reference's."""
        inputs = self.make(sizes, seed)
        words = self.compare(self.call(inputs), self.wanted(inputs))
        if words is not None:
            raise _Wrong(words)
        return "equal to the reference"

    def check_bounds(self, sizes: Mapping[str, int], seed: int) -> str:
        """Nothing outside of the arrays is read or written."""
        results = []
        inputs = self.make(sizes, seed)
        wanted = self.wanted(inputs)
        for kind in (0, 1):  # two kinds of poison: what is read outside makes the results differ
            result, zones = self.guarded(inputs, kind, wanted)
            for number, zone in enumerate(zones):
                side = zone.written()
                if side:
                    what = "its output" if number == len(inputs) else f"input {number}"
                    raise _Wrong(f"it writes {side} the memory of {what}")
            results.append(np.array(result))
        if self.compare(results[0], results[1]) is not None:
            raise _Wrong("it reads outside of its arrays: what lies there changes the result")
        return "inside its arrays"

    def check_inputs(self, sizes: Mapping[str, int], seed: int) -> str:
        """The inputs are not written."""
        inputs = self.make(sizes, seed)
        _, zones = self.guarded(inputs, 0)
        for number, (zone, a) in enumerate(zip(zones, inputs, strict=False)):  # and an output
            if zone.array.tobytes() != a.tobytes():
                raise _Wrong(f"it changes input {number}")
        return "left as they are"

    def deterministic(self) -> KernelCheck:
        """Whether the same input gives the same bits, small and large, and on any number of
        threads what the reference gives.
        """
        settings = list(_thread_settings()) if self.body.compiled else []
        bits = set()
        for sizes in (dict.fromkeys(self.letters, 17), self.large):
            inputs = self.make(sizes, 1)
            for number, chunk in [(None, None), *settings]:
                runs = REPEATS if number is None else REPEATS // 3
                where = _sizes(sizes) + ("" if number is None else f" on {number} threads")
                try:
                    with _threads(number, chunk):
                        result = np.array(self.call(inputs))
                        first = result.tobytes()
                        others = sum(self.call(inputs).tobytes() != first for _ in range(runs - 1))
                    words = number and self.compare(result, self.wanted(inputs))
                except Exception as error:  # whatever a kernel raises is reported
                    return KernelCheck("deterministic", False, f"it raises {_words(error)}")
                if others:
                    text = f"{others} of {runs - 1} runs differ at {where}: a race?"
                    return KernelCheck("deterministic", False, text)
                if words:
                    return KernelCheck("deterministic", False, f"{words} (at {where})")
                if sizes is self.large:
                    bits.add(first)
        text = f"{REPEATS} equal runs, up to {_sizes(self.large)}"
        numbers = sorted({number for number, _ in settings})
        if len(numbers) > 1:
            text += f", on {', '.join(map(str, numbers))} threads"
            text += " too" if len(bits) == 1 else "; between those, rounded differently"
        return KernelCheck("deterministic", True, text)

    def gradient(self, backward: Callable | None, examples: int) -> KernelCheck:
        """Whether the gradient is the derivative, if the kernel has one."""
        if self.dtype.kind != "f":
            return KernelCheck("gradient", None, f"{self.dtype} has none")
        if backward is not None:
            return _over_shapes(
                "gradient", lambda sizes, seed: self._hold(backward, sizes, seed), self, examples
            )
        if self.out:
            return KernelCheck("gradient", None, "none given: pass backward=")
        inputs = [tensor(a, requires_grad=True) for a in self.make(self._small(), 2)]
        if not _takes_tensors(self.fn, inputs):
            return KernelCheck("gradient", None, "none: a plain kernel; pass backward=")
        try:
            found = check_gradients(self.fn, *inputs, order=1, directions=4)
        except (GradientError, KinkError, GraphError) as error:
            return KernelCheck("gradient", False, _words(error))
        return KernelCheck("gradient", True, f"{found.compared} derivatives equal differences")

    def _small(self) -> dict[str, int]:
        return {letter: 2 + i for i, letter in enumerate(sorted(self.letters))}

    def _hold(self, backward: Callable, sizes: Mapping[str, int], seed: int) -> str:
        inputs = self.make(sizes, seed)
        given = [tensor(a, requires_grad=True) for a in inputs]
        y = self.like(*given)
        if not isinstance(y, Tensor):
            raise _Wrong("like gives no Tensor for Tensors: write it with minigrad's functions")
        g = np.random.default_rng(seed + 1).normal(size=y.shape).astype(y.dtype)
        y.backward(g)
        found = backward(g, *inputs)
        found = found if isinstance(found, (tuple, list)) else (found,)
        if len(found) != len(inputs):
            raise _Wrong(f"it gives {len(found)} gradients for {len(inputs)} inputs")
        for number, (part, t) in enumerate(zip(found, given, strict=True)):
            wanted = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
            words = self.compare(_array(part), wanted)
            if words is not None:
                raise _Wrong(f"by input {number}: {words}")
        return "that of the reference"


def _takes_tensors(fn: Callable, inputs: list[Tensor]) -> bool:
    if isinstance(fn, Op):
        return True
    try:
        found = fn(*inputs)
    except Exception:  # a plain kernel says so in its own words, and that is no fault
        return False
    return isinstance(found, Variable) and bool(found.requires_grad)


# --- threads -------------------------------------------------------------------------------------


def _thread_settings() -> Iterator[tuple[int, int]]:
    """Numbers of threads and sizes of chunks that Numba can be told, if somebody has loaded it."""
    numba = sys.modules.get("numba")
    most = getattr(getattr(numba, "config", None), "NUMBA_NUM_THREADS", 0)
    for number in sorted({1, 2, most}):
        if number <= most:
            yield from ((number, chunk) for chunk in (0, 1))


@contextmanager
def _threads(number: int | None, chunk: int | None) -> Iterator[None]:
    """Compiled code runs on so many threads inside."""
    if number is None:
        yield
        return
    numba: Any = sys.modules["numba"]
    before = numba.get_num_threads(), numba.get_parallel_chunksize()
    numba.set_num_threads(number)
    numba.set_parallel_chunksize(chunk)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        numba.set_parallel_chunksize(before[1])


# --- shapes by Hypothesis ------------------------------------------------------------------------


def _over_shapes(name: str, check: Callable, bench: Trial, examples: int) -> KernelCheck:
    """Run a check on many sizes; a failure is shrunk to the smallest ones."""
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st
    except ImportError as error:
        raise ImportError(
            'bench_kernel draws shapes by Hypothesis: pip install "minigrad[test]"'
        ) from error

    letters = sorted(bench.letters)
    last: dict[str, Any] = {}
    words: dict[str, str] = {}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(st.tuples(*[st.sampled_from(SIZES) for _ in letters]), st.integers(0, 3))
    def run(drawn: tuple[int, ...], seed: int) -> None:
        sizes = dict(zip(letters, drawn, strict=True))
        try:
            with np.errstate(all="ignore"):
                words["passed"] = check(sizes, seed)
        except Exception as error:
            last.update(sizes=sizes, error=error)
            raise

    try:
        run()
    except Exception:  # whatever a kernel raises is reported
        found = last["error"]
        text = str(found) if isinstance(found, _Wrong) else f"it raises {_words(found)}"
        return KernelCheck(name, False, f"{text} (at {_sizes(last['sizes'])})")
    return KernelCheck(name, True, words["passed"])


# --- red zones -----------------------------------------------------------------------------------


def _poison(dtype: np.dtype, kind: int) -> Any:
    if dtype.kind == "f":
        return np.nan if kind == 0 else np.finfo(dtype).max / 7
    if dtype.kind in "iu":
        return np.iinfo(dtype).max // (3 + kind)
    return kind == 0


class _Zone:
    """An array in the middle of memory that nobody may touch."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, kind: int) -> None:
        size = int(np.prod(shape))
        self.buffer = np.full(size + 2 * ZONE, _poison(dtype, kind), dtype)
        self.array = self.buffer[ZONE : ZONE + size].reshape(shape)
        self.before = self.buffer[:ZONE].tobytes()

    def written(self) -> str:
        """Which side was written: "before" or "behind", or ""."""
        if self.buffer[:ZONE].tobytes() != self.before:
            return "before"
        return "behind" if self.buffer[-ZONE:].tobytes() != self.before else ""


# --- words ---------------------------------------------------------------------------------------


def _size(name: str, sizes: Mapping[str, int]) -> int:
    return int(name) if name.isdigit() else sizes[name]


def _array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _words(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line[:160]}"


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "a single number"
