"""`capture`: record a step once, and replay it without the Python that led to it.

A step whose course is the same each time need not find its way again: calling modules, making
tensors and nodes, and sorting the graph cost more than the arithmetic where layers are small.
`tape` records what a step computes on raw arrays, `programs` writes it as straight-line Python, and
what stands here decides when a program may be replayed.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections import Counter
from collections.abc import Callable
from threading import RLock, get_ident
from typing import Any, overload

import numpy as np

from minigrad import backend, effects
from minigrad.effects import CaptureError
from minigrad.nodes import TensorNode
from minigrad.observing import standing
from minigrad.recording import is_recomputing, is_recording
from minigrad.replay.entries import Copy, Held, Made, Source, differs, is_past
from minigrad.replay.programs import Diverged, Program
from minigrad.replay.surroundings import Contents, Models, read_by_step, refuse_assignments
from minigrad.replay.tape import Recorder, recording
from minigrad.tensor import Tensor

__all__ = ["CaptureError", "Captured", "capture"]

_wrap = TensorNode.wrap


@overload
def capture(
    step: Callable, *, programs: int = 8, fallback: bool = False, graphs: bool = True
) -> Captured: ...
@overload
def capture(
    step: None = None, *, programs: int = 8, fallback: bool = False, graphs: bool = True
) -> Callable[[Callable], Captured]: ...
def capture(
    step: Any = None, *, programs: int = 8, fallback: bool = False, graphs: bool = True
) -> Any:
    """Record a step, and replay it as straight-line code; also a decorator.

    The first two calls run the step as it is, and are recorded; from the third on, what both
    computed alike is replayed, with the same bits: results, gradients, parameters, running
    statistics, random numbers.  There is one such program for each kind of call: shapes, dtypes
    and devices of the arrays, values of all other arguments, and whether a graph is recorded.

    What a replay does, and what it does not:

    - Parameters are read as they are then, and so are learning rates, since optimisers, schedules,
      running statistics and random numbers are called anew: generators advance as ever.
    - Label numbers and the like are checked anew.
    - Other shapes, another mode (`train()`, `eval()`), frozen or replaced parameters, or another
      value of a variable that the step reads: the step is recorded anew.
    - What reads a value of the step in Python while it is recorded (`if loss > 3`, `loss.item()`,
      `print`) is refused, naming the line: return it, and read it outside.
    - Python of your own is not run: a list that the step appends to stays as it is.
    - While somebody watches (`study`, forward hooks), the step runs as if it were not captured.

    The first two replays note what operations ask for.  From then on they are, on the CPU, calls of
    kernels and of NumPy without the way to them, in memory that is planned ahead; on a CUDA card,
    CUDA graphs, each launched as a whole.  What is called anew is called between them.

    Array arguments reach the step as tensors.  It returns tensors, plain values, or tuples, lists
    and dictionaries of them; the tensors are leaves, their graph is gone.

    Args:
        step: a function, such as one training step or a model's forward pass; called with tensors,
            arrays and hashable values, also in tuples, lists and dictionaries.
        programs: how many to keep; the one that was not used for longest goes first.
        fallback: run what cannot be captured as it is, with one warning, instead of raising.
        graphs: note what operations ask for; without, each replay goes the way of each operation.

    Raises:
        CaptureError: the step cannot be captured; it ran up to the line that the message names.

    >>> import minigrad
    >>> w = minigrad.tensor(3.0, requires_grad=True, name="w")
    >>> @minigrad.capture
    ... def step(x):
    ...     w.zero_grad()
    ...     loss = (w * x).sum()
    ...     loss.backward()
    ...     return loss
    >>> for i in range(4):
    ...     loss = step(minigrad.tensor([1.0, i]))
    >>> loss, w.grad
    (tensor(12.), tensor(4.))
    >>> step
    <captured step: 1 program, 2 recordings, 2 replays>
    """
    if step is None:
        return functools.partial(capture, programs=programs, fallback=fallback, graphs=graphs)
    return Captured(step, programs, fallback, graphs)


class Captured:
    """A captured step: see `capture`.

    Attributes:
        recordings, replays: how often it ran as it is, recorded, and how often a program ran.
        reasons: why it was recorded, and how often for each reason.
    """

    def __init__(self, step: Callable, programs: int, fallback: bool, graphs: bool = True) -> None:
        if not callable(step):
            raise TypeError(f"capture: step must be a function, got a {type(step).__name__}")
        if programs < 1:
            raise ValueError(f"capture: programs must be at least 1, got {programs}")
        functools.update_wrapper(self, step, updated=())
        self._step = step
        self._most = programs
        self._fallback = fallback
        self._graphs = graphs
        self._lock = RLock()
        refuse_assignments(step)
        self.reset()

    def reset(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs: dict[Any, list[Program]] = {}
            self._traces: dict[Any, tuple[Recorder, int]] = {}
            self._refused: str | None = None
            self._unreplayed = 0
            self.recordings = self.replays = 0
            self.reasons: Counter[str] = Counter()

    def __repr__(self) -> str:
        counts = (
            (sum(map(len, self._programs.values())), "program"),
            (self.recordings, "recording"),
            (self.replays, "replay"),
        )
        told = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts)
        return f"<captured {getattr(self, '__name__', 'step')}: {told}>"

    @property
    def programs(self) -> list[Program]:
        """The programs, that used last at the end; `print` one to read it."""
        held = [program for found in self._programs.values() for program in found]
        return sorted(held, key=lambda program: program.used)

    @property
    def code(self) -> str:
        """The source of the program that was used last; empty before there is one."""
        return self.programs[-1].source if self._programs else ""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is not None:
            raise TypeError(
                "capture: a method is captured on its object: `self.step = capture(self.step)`"
            )
        return self

    # --- calling ---------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take one step."""
        ident = get_ident()
        if ident in effects.recorders:  # a part of another captured step
            return self._step(*args, **kwargs)
        tensors: list[Any] = []
        key = (
            _key(args, tensors, "argument"),
            _key(kwargs, tensors, "argument") if kwargs else (),
            is_recording(),
            backend.chosen_device(),
        )
        if self._refused is not None or backend.is_interposed() or ident in standing:
            return _detached(self._step(*_given(args, _as_tensor), **_given(kwargs, _as_tensor)))
        if is_recomputing():
            raise CaptureError("capture: a captured step cannot be a part of a checkpoint")
        reason = "the first call with arguments of these kinds"
        for program in self._programs.get(key, ()):
            misfit = program.misfit()
            if misfit is not None:
                reason = misfit
                continue
            try:
                found = program.replay([t._data for t in tensors], tensors)
            except Diverged:
                reason = "values decided otherwise"
                continue
            program.replays += 1
            self.replays += 1
            program.used = self.replays
            self._unreplayed = 0
            return found
        return self._record(key, args, kwargs, reason)

    def _record(self, key: Any, args: tuple, kwargs: dict, reason: str) -> Any:
        recorder = Recorder(read_by_step(self._step, (args, kwargs)))
        recorder.fallback = self._fallback
        past = [
            one for (of, _), (one, _) in list(self._traces.items()) if of == key and is_past(one)
        ]
        inputs = _Inputs(recorder)
        given, named = _given(args, inputs.tensor), _given(kwargs, inputs.tensor)
        try:
            with recording(recorder):
                found = self._step(*given, **named)
                recorder.result = _returned(found, recorder)
        finally:
            inputs.return_gradients()
        if recorder.watched is not None:
            return _detached(found)
        with self._lock:
            self.recordings += 1
            self._unreplayed += 1
            course = (key, tuple(decision.answer for decision in recorder.decisions))
            before, failures = self._traces.pop(course, (None, 0))
            if before is not None and before in past:
                before, failures = None, 0
            recorder.surroundings = [
                one
                for one in recorder.surroundings
                if not (isinstance(one[0], Contents) and id(one[0].of) in recorder.operands)
            ]
            recorder.state = Models(recorder.modules.values())
            told = recorder.spoiled
            self.reasons[reason if before is None else "the second recording"] += 1
            if told is None and before is not None:
                told = differs(before, recorder)
                if told is None and recorder.wrote:
                    told = f"{recorder.wrote[0]}, which a replay would not do"
                if told is None:
                    self._write(key, recorder, _argument_names(self._step, args, kwargs))
                elif failures == 0:  # what the first run made for later ones may explain it
                    told, failures = None, 1
                    self._traces[course] = recorder, 1
            elif told is None:
                self._traces[course] = recorder, failures
                while len(self._traces) > self._most:
                    del self._traces[next(iter(self._traces))]
            if told is not None:
                if not self._fallback:
                    raise CaptureError(told)
                self._refused = told
                warnings.warn(
                    f"this step cannot be captured and runs as it is: {told}",
                    RuntimeWarning,
                    stacklevel=3,
                )
            elif self._unreplayed == 2 * self._most + 4:
                warnings.warn(
                    f"{self!r} was recorded {self._unreplayed} times without a replay in between, "
                    f"so it only costs time; the last reason: {reason}",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return _detached(found, recorder)

    def _write(self, key: Any, recorder: Recorder, names: list[str]) -> None:
        program = Program(recorder, names, self._graphs)
        program.used = self.replays + 1
        self._programs[key] = [program, *self._programs.get(key, ())]
        held = self.programs
        for oldest in held[: max(0, len(held) - self._most)]:
            for kind, found in list(self._programs.items()):
                rest = [one for one in found if one is not oldest]
                if rest:
                    self._programs[kind] = rest
                else:
                    del self._programs[kind]


# --- arguments -----------------------------------------------------------------------------------


def _key(value: Any, tensors: list[Any], path: str) -> Any:
    """What a program depends on of an argument; its tensors are gathered on the way."""
    kind = type(value)
    if isinstance(value, Tensor):
        if value._requires and not value.is_leaf:
            raise CaptureError(
                f"capture: {path} was computed and requires a gradient, which would not flow "
                "through the captured step: pass it detached, or compute it inside"
            )
        if value._requires and value._node is not None and value._node.hooks:
            raise CaptureError(f"capture: {path} has hooks, which a replay would not call")
        if value._requires and any(value is one for one in tensors):
            raise CaptureError(
                f"capture: {path} is a tensor that requires a gradient and is passed twice; a "
                "captured step knows each by its place: pass it once"
            )
        data = value._data
        tensors.append(value)
        return (type(data), data.shape, data.dtype, value._requires)
    if kind is np.ndarray or backend.is_array(value):
        tensors.append(_Bare(value))
        return (kind, value.shape, value.dtype, None)
    if kind is tuple or kind is list or _is_named(value):
        return (kind, *[_key(part, tensors, path) for part in value])
    if kind is dict:
        return (
            dict,
            *[(name, _key(part, tensors, f"{path} {name!r}")) for name, part in value.items()],
        )
    try:
        hash(value)
        if "__eq__" in vars(kind) and any(
            isinstance(getattr(value, name, None), Tensor)
            for name in getattr(value, "__dataclass_fields__", ())
        ):
            raise TypeError  # tensors do not say whether they are equal
    except TypeError:
        raise TypeError(
            f"capture: {path} is a {kind.__name__}, which cannot be told apart from another: a "
            "step takes tensors, arrays and hashable values, also in tuples, lists and dictionaries"
        ) from None
    return (kind, repr(value) if kind is float else value)


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


class _Bare:
    """A raw array among the arguments."""

    __slots__ = ("_data",)

    def __init__(self, data: Any) -> None:
        self._data = data


class _Inputs:
    """The tensors that a step gets while it is recorded: views, so that each is known by itself."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def tensor(self, value: Any) -> Tensor:
        """What stands for an argument."""
        made = _wrap(value._data.view())
        slot = self._recorder.slot(made._data, "x")
        self._recorder.inputs.append(slot)
        if isinstance(value, Tensor):
            made.name = value.name
            if value._requires:
                made.requires_grad = True
                self._recorder.leaves[id(made)] = slot
                made._grad = value._grad
                self._pairs.append((value, made))
                self._recorder.given[id(value)] = value
        return made

    def return_gradients(self) -> None:
        """Give the arguments the gradients that what stood for them received."""
        for value, made in self._pairs:
            value._grad = made._grad


def _given(value: Any, make: Callable[[Any], Tensor]) -> Any:
    """Arguments with each array as what the step gets for it."""
    kind = type(value)
    if isinstance(value, Tensor):
        return make(value)
    if kind is np.ndarray or backend.is_array(value):
        return make(_Bare(value))
    if kind is tuple or kind is list:
        return kind([_given(part, make) for part in value])
    if _is_named(value):
        return kind(*[_given(part, make) for part in value])
    if kind is dict:
        return {name: _given(part, make) for name, part in value.items()}
    return value


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else _wrap(value._data)


def _argument_names(step: Any, args: tuple, kwargs: dict) -> list[str]:
    """A name for each array among the arguments, in order: that of its parameter."""
    step = getattr(step, "forward", step)  # a module
    try:
        bound = inspect.signature(step).bind(*args, **kwargs)
        taken = [*bound.args, *bound.kwargs.values()] == [*args, *kwargs.values()]
    except (TypeError, ValueError):
        taken = False
    names = []
    for i, value in enumerate([*args, *kwargs.values()]):
        held: list[Any] = []
        _key(value, held, "")
        name = "x"
        if i >= len(args):
            name = list(kwargs)[i - len(args)]
        elif taken:
            name = _parameter(step, i)
        names += [name] * len(held)
    return names


def _parameter(step: Callable, place: int) -> str:
    parameters = list(inspect.signature(step).parameters.values())
    return parameters[min(place, len(parameters) - 1)].name


# --- results -------------------------------------------------------------------------------------


def _detached(value: Any, recorder: Recorder | None = None) -> Any:
    """A result as replays give it: tensors are leaves, and numbers plain."""
    if isinstance(value, Tensor):
        lasts = value.is_leaf if recorder is None else id(value) in recorder.tensors
        return value if lasts else _wrap(value._data)
    if isinstance(value, effects.Live):
        return value.plain
    if isinstance(value, dict):
        return {name: _detached(part, recorder) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_detached(part, recorder) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _returned(value: Any, recorder: Recorder) -> Any:
    """What a program returns in the place of a result, as references."""
    if isinstance(value, Tensor):
        found = recorder.find(value._data)
        if found is None or isinstance(found, Source):
            recorder.see(value)
            return Held(value)
        return Copy(found) if isinstance(found, Held) else Made(found)
    if backend.is_array(value):
        raise CaptureError(
            "capture: the step returned a raw array; return a tensor, and take its .numpy() outside"
        )
    if isinstance(value, dict):
        return {name: _returned(part, recorder) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_returned(part, recorder) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return recorder.reference(value)
