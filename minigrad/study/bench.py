"""Bring your own kernel: is it right, does it stay inside its arrays, and how fast is it?

    report = study.bench_kernel(my_matmul, like=numpy.matmul, shapes="n k, k m")
    print(report)

A kernel is a function of arrays that returns an array, or that writes into its last argument
(`out=True`).  It is held to a reference on shapes that Hypothesis draws and shrinks; inside red
zones, memory whose reading spoils the result and whose writing shows; several times over, for
races; and, where it has a gradient, to its derivative.  Only then is it timed.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any

import numpy as np

from minigrad.check import GradientError, KinkError, check_gradients
from minigrad.core import GraphError, Op, Variable
from minigrad.tensor import Tensor, tensor

__all__ = ["KernelCheck", "KernelReport", "KernelTiming", "bench_kernel"]

ZONE = 512
"""Numbers in a red zone, on each side of an array."""

SIZES = (1, 2, 3, 5, 8, 16, 17, 33)
"""Sizes that axes are drawn from: odd ones, powers of two, and one more than those."""

REPEATS = 12
"""So often a kernel is run on the same input, to see whether it always gives the same."""

BUDGET = 0.2
"""Seconds of measuring for each function that is timed."""


@dataclass(frozen=True, slots=True)
class KernelCheck:
    """One thing that was checked.

    Attributes:
        name: "values", "bounds", "inputs", "deterministic" or "gradient".
        passed: whether it holds; None if it could not be checked here.
        text: what was found, with the smallest shapes where it fails.
    """

    name: str
    passed: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """How fast one of the functions is, at the shapes of the measurement.

    Attributes:
        name: "kernel", "reference", or what else it was compared with.
        seconds: of one call, the median.
        bandwidth: bytes of inputs and output over the time, in GB/s.
        rate: operations over the time, in GFLOP/s; None if nobody said how many there are.
    """

    name: str
    seconds: float
    bandwidth: float
    rate: float | None


@dataclass
class KernelReport:
    """What `bench_kernel` found.

    Attributes:
        name: of the kernel.
        checks: everything that was checked.
        shapes: at which the times were taken.
        bytes: of all inputs and the output there.
        operations: there, as the formula says; None without one.
        timings: of the kernel, the reference and others; empty if the kernel was rejected.
    """

    name: str
    checks: list[KernelCheck] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    bytes: int = 0
    operations: int | None = None
    timings: list[KernelTiming] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed is not False for check in self.checks)

    def check(self, name: str) -> KernelCheck:
        """The check of this name.

        Raises:
            KeyError: there is none.
        """
        found = [check for check in self.checks if check.name == name]
        if not found:
            raise KeyError(f"the checks are {', '.join(c.name for c in self.checks)}, not {name!r}")
        return found[0]

    def speedup(self, over: str = "reference") -> float:
        """How many times faster the kernel is than another function.

        Raises:
            KeyError: that was not timed.
        """
        seconds = {timing.name: timing.seconds for timing in self.timings}
        return seconds[over] / seconds["kernel"]

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "REJECTED"
        lines = [f"{self.name}: {verdict}"]
        marks = {True: "ok  ", False: "FAIL", None: "-   "}
        width = max(len(check.name) for check in self.checks)
        lines += [f"  {marks[c.passed]}  {c.name.ljust(width)}  {c.text}" for c in self.checks]
        if self.timings:
            lines.append(f"at {', '.join(_shape(s) for s in self.shapes)}: {self.bytes:,} bytes")
            if self.operations is not None:
                lines[-1] += f", {self.operations:,} operations"
            for timing in self.timings:
                rate = "" if timing.rate is None else f"  {timing.rate:8.2f} GFLOP/s"
                ratio = timing.seconds / self.timings[0].seconds
                lines.append(
                    f"  {timing.name.ljust(12)} {timing.seconds * 1e6:10.1f} µs  "
                    f"{timing.bandwidth:7.2f} GB/s{rate}  {ratio:6.2f} × the kernel's time"
                )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def bench_kernel(
    fn: Callable,
    like: Callable,
    shapes: str,
    *,
    out: bool = False,
    backward: Callable | None = None,
    dtype: Any = np.float64,
    rtol: float | None = None,
    at: Mapping[str, int] | None = None,
    operations: str | None = None,
    against: Mapping[str, Callable] | None = None,
    examples: int = 40,
    values: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] | None = None,
) -> KernelReport:
    """Check a kernel of your own against a reference, and measure it.

    Args:
        fn: the kernel: of arrays, or an op or function of Tensors.
        like: what it is to equal, on arrays.  Where gradients are checked, written with
            minigrad's own functions (which take arrays too).
        shapes: of its inputs, a letter or word for each size, a comma between inputs:
            `"n k, k m"`; numbers stand for themselves, and `""` for a single number.
        out: the kernel writes into a last argument, an array of the result's shape and dtype,
            instead of returning it.  Only then can a write outside of the result be seen: memory
            that a kernel makes for itself has no red zone.
        backward: `backward(g, *inputs) -> gradients`, one an input, if the kernel is plain and
            has one; it is held to the derivative of `like`.
        dtype: of the inputs.
        rtol: accepted difference relative to the largest element; by default 1e-9 in float64 and
            1e-4 in float32.
        at: sizes for the measurement, by letter; 256 for those not named.
        operations: how many additions and multiplications there are, as a formula of the
            letters: `"2*n*k*m"`.
        against: other functions to time, by name.
        examples: how many shapes to try.
        values: makes the values of an input from a generator and a shape; normal ones by default.

    Raises:
        ValueError: shapes or a formula that cannot be read.
        ImportError: Hypothesis is missing.

    >>> def double(x):
    ...     return x + x
    >>> report = bench_kernel(double, like=lambda x: 2 * x, shapes="n m", at={"n": 8, "m": 8})
    >>> report.passed, [check.name for check in report.checks]
    (True, ['values', 'bounds', 'inputs', 'deterministic', 'gradient'])
    """
    bench = _Bench(fn, like, _read_shapes(shapes), out, np.dtype(dtype), rtol, values)
    formula = _read_formula(operations, bench.letters)
    unknown = set(at or {}) - bench.letters
    if unknown:
        raise ValueError(
            f"bench_kernel: at names {', '.join(sorted(unknown))}, which shapes {shapes!r} lack"
        )
    report = KernelReport(getattr(fn, "__name__", None) or type(fn).__name__)
    sizes = {letter: (at or {}).get(letter, 256) for letter in sorted(bench.letters)}
    bench.large = sizes
    for name, check in (
        ("values", bench.check_values),
        ("bounds", bench.check_bounds),
        ("inputs", bench.check_inputs),
    ):
        report.checks.append(_over_shapes(name, check, bench, examples))
    report.checks.append(bench.deterministic())
    report.checks.append(bench.gradient(backward, examples))

    inputs = bench.make(sizes, 0)
    report.shapes = [a.shape for a in inputs]
    if not report.passed:
        return report
    result = bench.call(inputs)
    report.bytes = sum(a.nbytes for a in inputs) + result.nbytes
    if formula is not None:
        report.operations = int(eval(formula, {"__builtins__": {}}, dict(sizes)))
    others: dict[str, Callable] = {
        "kernel": bench.timed(inputs),
        "reference": lambda: like(*inputs),
    }
    for name, other in (against or {}).items():
        others[name] = partial(other, *inputs)
    for name, seconds in _measure(others).items():
        rate = None if report.operations is None else report.operations / seconds / 1e9
        report.timings.append(KernelTiming(name, seconds, report.bytes / seconds / 1e9, rate))
    return report


class _Wrong(AssertionError):
    """A check that failed, in words."""


class _Bench:
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

    def compare(self, found: np.ndarray, wanted: np.ndarray) -> str | None:
        """How a result differs, in words."""
        if found.shape != wanted.shape:
            return f"its result has shape {found.shape} instead of {wanted.shape}"
        if not wanted.size:
            return None
        with np.errstate(all="ignore"):
            scale = float(np.max(np.abs(wanted), initial=0.0)) or 1.0
            distance = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        bad = ~(distance <= self.rtol * scale) & ~(np.isnan(found) & np.isnan(wanted))
        if not bad.any():
            return None
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        return (
            f"{int(bad.sum())} of {bad.size} elements differ, first {list(place)}: "
            f"{found[place]!s} instead of {wanted[place]!s}"
        )

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
        """Whether the same input gives the same bits, small and large."""
        for sizes in (dict.fromkeys(self.letters, 17), self.large):
            inputs = self.make(sizes, 1)
            try:
                first = self.call(inputs).tobytes()
                others = sum(self.call(inputs).tobytes() != first for _ in range(REPEATS - 1))
            except Exception as error:  # whatever a kernel raises is reported
                return KernelCheck("deterministic", False, f"it raises {_words(error)}")
            if others:
                text = f"{others} of {REPEATS - 1} runs differ at {_sizes(sizes)}: a race?"
                return KernelCheck("deterministic", False, text)
        return KernelCheck(
            "deterministic", True, f"{REPEATS} equal runs, up to {_sizes(self.large)}"
        )

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


# --- shapes by Hypothesis ------------------------------------------------------------------------


def _over_shapes(name: str, check: Callable, bench: _Bench, examples: int) -> KernelCheck:
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


# --- reading and measuring -----------------------------------------------------------------------


def _read_shapes(text: str) -> list[tuple[str, ...]]:
    shapes = [tuple(part.split()) for part in text.split(",")]
    for shape in shapes:
        for name in shape:
            if not re.fullmatch(r"[A-Za-z_]\w*|\d+", name):
                raise ValueError(
                    f"bench_kernel: {name!r} in shapes {text!r} is neither a name nor a number; "
                    'write such as "n k, k m"'
                )
    return shapes


def _read_formula(text: str | None, letters: set[str]) -> Any:
    if text is None:
        return None
    names = set(re.findall(r"[A-Za-z_]\w*", text))
    if names - letters or not re.fullmatch(r"[\w\s+*/()-]+", text):
        raise ValueError(
            f"bench_kernel: operations {text!r} must be a formula of {', '.join(sorted(letters))}"
        )
    return compile(text, "<operations>", "eval")


def _size(name: str, sizes: Mapping[str, int]) -> int:
    return int(name) if name.isdigit() else sizes[name]


def _array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _measure(functions: Mapping[str, Callable]) -> dict[str, float]:
    """Median seconds of each, measured in turns, so that all see the same machine."""
    counts, found = {}, {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        once = max(time.perf_counter() - start, 1e-7)
        counts[name] = max(1, int(BUDGET / 10 / once))
        found[name] = [once]
    for _ in range(9):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                function()
            found[name].append((time.perf_counter() - start) / counts[name])
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def _words(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line[:160]}"


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "a single number"


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"
