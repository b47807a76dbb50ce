"""Random numbers that a step draws while it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import effects


class Drawn(np.ndarray):
    """Random numbers that the step drew while it was recorded: others at each replay.

    They are good for operations on tensors.  Reading them in Python would make them constants.
    """

    plain: Any

    def __array_finalize__(self, obj: Any) -> None:
        if isinstance(obj, Drawn):  # a part of it, another shape, a copy
            _refuse_drawn()
            self.plain = self.view(np.ndarray)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        _refuse_drawn()
        outs = settings.get("out")
        if outs is not None:
            settings["out"] = tuple(np.asarray(out) for out in outs)
        return getattr(ufunc, method)(*map(_bare, inputs), **settings)


def _bare(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, Drawn) else value


def _refuse_drawn() -> None:
    effects.refuse(
        "random numbers are used in Python here, and a replay would use today's for ever: make a "
        "tensor of them, minigrad.tensor(...), and compute with that"
    )


def _refusing(name: str) -> Callable:
    inherited = getattr(np.ndarray, name)

    def method(self: Drawn, *args: Any, **settings: Any) -> Any:
        _refuse_drawn()
        return inherited(self, *args, **settings)

    return method


for _name in (
    "__bool__ __int__ __float__ __index__ __iter__ __contains__ __str__ __repr__ __format__ "
    "item tolist argmax argmin argsort tobytes nonzero"
).split():
    setattr(Drawn, _name, _refusing(_name))
