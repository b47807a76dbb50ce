"""Whether operations are recorded on the graph: a switch for each thread."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

paused: set[int] = set()
"""Identifiers of the threads that record nothing now.  Empty nearly always, which is the one
thing that the fast path asks."""


def is_recording() -> bool:
    """Whether operations of this thread are recorded on the graph."""
    return not paused or get_ident() not in paused


class _Recording:
    """Switches recording for one thread: a context manager and a decorator."""

    _paused: bool
    _before: list[bool]

    def __new__(cls, function: Callable | None = None) -> Any:
        """A switch; or, as a decorator without brackets, the decorated function."""
        switch = super().__new__(cls)
        switch._before = []
        return switch if function is None else switch(function)

    def __enter__(self) -> None:
        ident = get_ident()
        self._before.append(ident in paused)
        (paused.add if self._paused else paused.discard)(ident)

    def __exit__(self, *exc_info: object) -> None:
        (paused.add if self._before.pop() else paused.discard)(get_ident())

    def __call__(self, function: Callable) -> Callable:
        """Decorate a function or a generator function: its own body runs inside the context.

        Raises:
            TypeError: it is no function, or an asynchronous one.
        """
        mode = type(self)
        if not callable(function):
            raise TypeError(
                f"{mode.__name__} decorates functions, got {type(function).__name__}; as a context "
                f"it is written `with {mode.__name__}():`"
            )
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{mode.__name__} holds for a thread, which an async function shares with others "
                f"while it waits: write `with {mode.__name__}():` inside it, around no await"
            )
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                # Recording is switched only while the body runs, never while it is suspended.
                body = function(*args, **kwargs)
                resume: Callable[[], Any] = functools.partial(next, body)
                while True:
                    try:
                        with mode():
                            value = resume()
                    except StopIteration as stop:
                        return stop.value
                    try:
                        sent = yield value
                    except GeneratorExit:
                        with mode():
                            body.close()
                        raise
                    except BaseException as error:
                        resume = functools.partial(body.throw, error)
                    else:
                        resume = functools.partial(body.send, sent)

            return generator

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with mode():
                return function(*args, **kwargs)

        return wrapper


class no_grad(_Recording):
    """Record nothing: inside, results require no gradient and keep nothing alive.

    A context manager and a decorator, also of generators.  It holds for the current thread only
    and ends when an exception flies.

    >>> import minigrad
    >>> x = minigrad.scalar(3.0)
    >>> with minigrad.no_grad():
    ...     (x * x).requires_grad
    False
    """

    _paused = True


class enable_grad(_Recording):
    """Record again inside `no_grad`; a context manager and a decorator."""

    _paused = False


_differentiated: set[int] = set()
"""Identifiers of the threads that run a function for `grad` or one of its relatives now."""


@contextmanager
def differentiation() -> Iterator[None]:
    """Mark what runs inside as a function to be differentiated."""
    ident = get_ident()
    outermost = ident not in _differentiated
    _differentiated.add(ident)
    try:
        yield
    finally:
        if outermost:
            _differentiated.discard(ident)


def refuse_number(variable: Any) -> None:
    """Tell that a variable is made a number inside a function that is being differentiated.

    `math.exp(x)` does so, and the gradient would be 0 without a word.

    Raises:
        TypeError: just then.
    """
    if _differentiated and get_ident() in _differentiated and variable.requires_grad:
        raise TypeError(
            "a variable that is differentiated by would become a plain number here, without a "
            "gradient: use minigrad's functions instead of those of math, or take .item() if the "
            "number is to be a constant"
        )


recomputing: set[int] = set()
"""Identifiers of the threads that compute something for the second time now."""


def is_recomputing() -> bool:
    """Whether this thread repeats a computation for a backward pass (see `checkpoint`).

    What a forward pass does besides computing, such as updating running statistics, is then done
    already.
    """
    return get_ident() in recomputing


@contextmanager
def recomputation() -> Iterator[None]:
    """Mark what runs inside as a repetition."""
    ident = get_ident()
    outermost = ident not in recomputing
    recomputing.add(ident)
    try:
        yield
    finally:
        if outermost:
            recomputing.discard(ident)
