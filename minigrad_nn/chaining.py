"""`chain`: modules one after the other, and what one kernel can do at once done at once.

A batch norm, the sum with a shortcut and a ReLU are three passes over memory, or one.  Models are
written as chains of modules; neighbours that one operation can compute are computed by it, with the
same numbers, wherever nobody could see the difference: while training, and where nothing is
recorded.  Each module is called by itself

- if it has hooks, or somebody watches, as `study` and `summary` do;
- in `eval` mode with a graph: that graph is there to be looked at, and has all of its operations.

A stage that is a chain itself, such as a `Sequential`, is opened: its ends have neighbours too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import get_ident
from typing import Any

from minigrad import backend
from minigrad.effects import note, recorders
from minigrad.observing import standing
from minigrad.ops.elementwise import add

__all__ = ["Plus", "activation_of", "chain", "rest"]


class Plus:
    """A stage of a chain that adds a value: `chain(x, conv, norm, Plus(x), relu)`.

    Args:
        value: a tensor.
        way: a module that the value goes through before it is added; None for none.
    """

    def __init__(self, value: Any, way: Any = None) -> None:
        self._value = value
        self._way = way

    def value(self) -> Any:
        """What is added; computed once."""
        if self._way is not None:
            self._value, self._way = self._way(self._value), None
        return self._value


def chain(x: Any, *stages: Any) -> Any:
    """Call modules one after the other, as `Sequential` does: `relu(norm(conv(x)))`.

    Args:
        x: what the first one gets.
        stages: modules, and `Plus(value)` where something is added.

    >>> import minigrad
    >>> from minigrad_nn.layers import Identity, ReLU
    >>> x = minigrad.tensor([-3.0, 1.0])
    >>> chain(x, Identity(), Plus(x), ReLU())
    tensor([0., 2.])
    """
    watched = bool(standing and get_ident() in standing) or backend.is_interposed()
    line = [(stage, ()) for stage in stages] if watched else list(_opened(stages))
    if recorders:
        for stage, within in line:
            for module in (stage, *within):
                if not isinstance(module, Plus):
                    note(module)
    flat = [stage for stage, _ in line]
    seen = [i for i, stage in enumerate(flat) if not _unseen(stage)]
    i, fresh = 0, False
    while i < len(flat):
        stage, within = line[i]
        i += 1
        while seen and seen[0] < i:
            del seen[0]
        try:
            if isinstance(stage, Plus):
                x, fresh = add(x, stage.value()), False
            elif watched or not _unseen(stage):
                x, fresh = stage(x), False
            else:
                taken, x = _together(stage, x, flat[i : seen[0] if seen else None], fresh)
                i += taken
                fresh = stage.makes_fresh()
        except Exception as error:
            for module in within:
                module.say_where(error)
            raise
    return x


def _together(stage: Any, x: Any, following: Sequence[Any], fresh: bool) -> tuple[int, Any]:
    """`Module.together`, whose errors say where they arose."""
    try:
        return stage.together(x, following, fresh)
    except Exception as error:
        stage.say_where(error)
        raise


def _opened(stages: Sequence[Any], within: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple]]:
    """Each stage, or those that it is a chain of itself; with the modules that it stands in."""
    for stage in stages:
        inside = None if isinstance(stage, Plus) or not _unseen(stage) else stage.chained()
        if inside is None:
            yield stage, within
        else:
            yield from _opened(inside, (stage, *within))


def _unseen(stage: Any) -> bool:
    """Whether nobody waits for what this stage in particular makes."""
    return isinstance(stage, Plus) or not (stage._hooks or "forward" in vars(stage))


def activation_of(stage: Any) -> str | None:
    """What an epilogue calls a stage that is an activation; a subclass may compute something else.

    >>> from minigrad_nn.layers import ReLU, Tanh
    >>> activation_of(ReLU()), activation_of(Tanh())
    ('relu', None)
    """
    return vars(type(stage)).get("epilogue")


def rest(following: Sequence[Any]) -> tuple[int, Plus | None, str | None]:
    """What an epilogue can take of the stages that follow: how many, what is added, an activation.

    >>> from minigrad_nn.layers import ReLU
    >>> rest([ReLU(), Plus(1.0)])
    (1, None, 'relu')
    """
    added = following[0] if following and isinstance(following[0], Plus) else None
    taken = int(added is not None)
    activation = activation_of(following[taken]) if len(following) > taken else None
    return taken + (activation is not None), added, activation
