"""Bring your own kernel: is it right, does it stay inside its arrays, and how fast is it?

    report = study.bench_kernel(my_matmul, like=numpy.matmul, shapes="n k, k m")
    print(report)

A kernel is a function of arrays that returns an array, or that writes into its last argument
(`out=True`).  It is held to a reference on shapes that Hypothesis draws and shrinks; inside red
zones, memory whose reading spoils the result and whose writing shows; several times over, on
several numbers of threads; and, where it has a gradient, to its derivative.  If it was compiled by
Numba, its Python body is run first, with every access watched: so a race is found for sure, and not
when two threads happen to meet.  Only then is it timed, beside the reference and the built-in.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any

import numpy as np

from minigrad.study.trial import KernelCheck, Trial, _array

__all__ = ["KernelCheck", "KernelReport", "KernelTiming", "bench_kernel"]

BUDGET = 0.2
"""Seconds of measuring for each function that is timed."""

ROOMS = ("minigrad", "minigrad_nn.functional", "minigrad_nn.kernels")
"""Where built-in functions are looked for, as far as they are loaded."""


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """How fast one of the functions is, at the shapes of the measurement.

    Attributes:
        name: "kernel", "reference", "built-in", or what else it was compared with.
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
        timings: of the kernel, the reference, the built-in and others; empty if the kernel was
            rejected.
        builtin: which function of minigrad is the built-in, or why there is none.
    """

    name: str
    checks: list[KernelCheck] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    bytes: int = 0
    operations: int | None = None
    timings: list[KernelTiming] = field(default_factory=list)
    builtin: str = ""

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
        if over not in seconds:
            raise KeyError(f"timed were {', '.join(seconds) or 'none'}, not {over!r}")
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
            lines.append(f"built-in: {self.builtin}")
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
        against: other functions to time, by name.  The built-in comes by itself: the public
            function of minigrad (and of minigrad_nn, if it is loaded) that is the reference, or
            has its name or the kernel's, takes the same inputs and gives the same result.  Name
            one `"built-in"` to choose it.
        examples: how many shapes to try.
        values: makes the values of an input from a generator and a shape; normal ones by default.

    Raises:
        ValueError: shapes or a formula that cannot be read.
        ImportError: Hypothesis is missing.

    >>> def double(x):
    ...     return x + x
    >>> report = bench_kernel(double, like=lambda x: 2 * x, shapes="n m", at={"n": 8, "m": 8})
    >>> report.passed, [check.name for check in report.checks]
    (True, ['values', 'bounds', 'inputs', 'races', 'deterministic', 'gradient'])
    """
    trial = Trial(fn, like, _read_shapes(shapes), out, np.dtype(dtype), rtol, values)
    formula = _read_formula(operations, trial.letters)
    unknown = set(at or {}) - trial.letters
    if unknown:
        raise ValueError(
            f"bench_kernel: at names {', '.join(sorted(unknown))}, which shapes {shapes!r} lack"
        )
    report = KernelReport(getattr(fn, "__name__", None) or type(fn).__name__)
    trial.large = sizes = {letter: (at or {}).get(letter, 256) for letter in sorted(trial.letters)}
    report.checks = trial.checks(backward, examples)

    inputs = trial.make(sizes, 0)
    report.shapes = [a.shape for a in inputs]
    if not report.passed:
        return report
    result = trial.call(inputs)
    report.bytes = sum(a.nbytes for a in inputs) + result.nbytes
    if formula is not None:
        report.operations = int(eval(formula, {"__builtins__": {}}, dict(sizes)))
    others: dict[str, Callable] = {
        "kernel": trial.timed(inputs),
        "reference": lambda: like(*inputs),
    }
    given = dict(against or {})
    if "built-in" in given:
        report.builtin = f"{_name(given['built-in'])}, as given"
    else:
        report.builtin, found = _find_builtin(trial, inputs)
        if found is not None:
            given = {"built-in": found, **given}
    for name, other in given.items():
        others[name] = partial(other, *inputs)
    for name, seconds in _measure(others).items():
        rate = None if report.operations is None else report.operations / seconds / 1e9
        report.timings.append(KernelTiming(name, seconds, report.bytes / seconds / 1e9, rate))
    return report


# --- the built-in --------------------------------------------------------------------------------


def _name(function: Callable) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _find_builtin(trial: Trial, inputs: Sequence[np.ndarray]) -> tuple[str, Callable | None]:
    """The public function that does what the kernel does, and in words which, or why none."""
    rooms = {room: sys.modules[room] for room in ROOMS if room in sys.modules}
    public = {
        f"{room}.{name}": vars(module)[name]
        for room, module in rooms.items()
        for name in module.__all__
        if callable(vars(module).get(name))
    }
    for full, function in public.items():
        if function is trial.like:
            return f"{full}, which is the reference", function
    names = dict.fromkeys(n for n in (_name(trial.like), _name(trial.fn)) if n.isidentifier())
    wanted = trial.wanted(inputs)
    problems = []
    for name in names:
        for room in rooms:
            function = public.get(f"{room}.{name}")
            if function is None or function is trial.fn:
                continue
            try:
                with np.errstate(all="ignore"):
                    different = trial.compare(_array(function(*inputs)), wanted)
            except Exception as error:  # it is another function, with other arguments
                problems.append(
                    f"{room}.{name} does not take these inputs ({type(error).__name__})"
                )
                continue
            if different is None:
                return f"{room}.{name}", function
            problems.append(f"{room}.{name} gives something else")
    if not problems:
        called = f" is called {' or '.join(names)}" if names else ": neither function has a name"
        problems.append(f"no public function of {' or '.join(rooms)}{called}")
    return f"none: {'; '.join(problems)}; name one by against={{'built-in': ...}}", None


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


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"
