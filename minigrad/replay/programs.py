"""A recorded step that can be replayed: the Python that it became, and when that still holds."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigrad.replay.planned import Planned, planned_of
from minigrad.replay.stretches import Stretches, stretches_of
from minigrad.replay.surroundings import Contents, Size
from minigrad.replay.tape import Recorder
from minigrad.replay.writing import Diverged, Names, Writer, compiled
from minigrad.tensor import Tensor

__all__ = ["Diverged", "Program"]


class Program:
    """One course of a step, for arguments of one kind.

    Attributes:
        source: the Python that a replay runs.
        replays: how often it ran.
    """

    def __init__(self, recorder: Recorder, inputs: Sequence[str], graphs: bool = True) -> None:
        self.replays = self.used = 0
        writer = Writer(recorder, inputs)
        self.source = writer.source
        self.run: Callable[..., Any] = compiled(self.source, writer.names.scope)["replay"]
        self._models = recorder.state
        tensors = _tensors(recorder, self._models.modules).values()
        self._holds = _guard(tensors, recorder.surroundings)
        self._parts: Stretches | Planned | None = None
        if graphs:
            self._parts = stretches_of(writer, recorder) or planned_of(writer, recorder)

    def __str__(self) -> str:
        return self.source

    def __repr__(self) -> str:
        told = "nothing noted"
        for count, what in ((self.graphs, "graph"), (self.noted, "noted call")):
            if count:
                told = f"{count} {what}{'' if count == 1 else 's'} and {self.calls} others each"
        return f"<program: {self.replays} replays, {told}>"

    @property
    def graphs(self) -> int:
        """Of how many graphs of a device a replay consists.

        0 on the CPU; elsewhere until they are made, in its second replay.
        """
        return 0 if self._parts is None else self._parts.graphs

    @property
    def noted(self) -> int:
        """How many calls of kernels and of NumPy a replay makes at once, in planned memory.

        0 on a card; elsewhere until they are noted, in its second replay.
        """
        return 0 if self._parts is None else self._parts.noted

    @property
    def calls(self) -> int:
        """How much it calls besides, as the step did: what cannot be noted, or must not be."""
        return 0 if self._parts is None else self._parts.calls

    @property
    def nbytes(self) -> int:
        """Bytes of the memory that is planned for what the noted calls make, and use up."""
        return 0 if self._parts is None else self._parts.nbytes

    def replay(self, arrays: Sequence[Any], leaves: Sequence[Any]) -> Any:
        """Do what the step did, with these arrays, of these arguments.

        Raises:
            Diverged: a question has another answer; nothing was done.
        """
        if self._parts is not None:
            done, found = self._parts.run(arrays, leaves)
            if done:
                return found
        return self.run(*arrays, leaves)

    def misfit(self) -> str | None:
        """Why it may not be replayed now; None where it may."""
        return self._models.changed() or self._holds()


def _tensors(recorder: Recorder, modules: Iterable[Any]) -> dict[int, tuple[Any, Any, bool]]:
    """Lasting tensors with their arrays: those that the step used, and all of its modules."""
    found = dict(recorder.tensors)
    for module in modules:
        for tensor in vars(module).values():
            if isinstance(tensor, Tensor):
                found.setdefault(id(tensor), (tensor, tensor._data, tensor._requires))
    return found


def _guard(tensors: Iterable[tuple], surroundings: Sequence[tuple]) -> Callable[[], str | None]:
    """A compiled function that tells which lasting value is another now, or None."""
    names = Names()
    lines = ["def holds():"]
    for tensor, array, requires in tensors:
        t, a = names.bind(tensor, "t"), names.bind(array, "a")
        label = f"the tensor {tensor.name}" if tensor.name else f"a tensor of shape {array.shape}"
        lines.append(f"    if {t}._data is not {a} or {t}._requires is not {requires}:")
        lines.append(f"        return {f'{label} holds another array, or requires_grad changed'!r}")
        if requires:
            lines.append(f"    if {t}._node is not None and {t}._node.hooks:")
            lines.append(f"        return {f'{label} has hooks now'!r}")
    for holder, key, value in surroundings:
        h, v = names.bind(holder, "h"), names.bind(value, "k")
        now = f"{h}.cell_contents"
        if isinstance(holder, dict):
            now = f"{h}.get({names.bind(key, 'key')})"
        elif isinstance(holder, list):
            now = f"{h}[{key}] if {key} < len({h}) else None"
        elif isinstance(holder, (Size, Contents)):
            now = f"{h}.now()"
        elif not isinstance(holder, types.CellType):
            now = f"getattr({h}, {key!r}, None)"
        name = names.fresh("now")
        test = f"{name} is not {v}"
        if isinstance(value, (int, float, str)):
            test += f" and (type({name}) is not type({v}) or {name} != {v})"
        lines.append(f"    {name} = {now}")
        lines.append(f"    if {test}:")
        lines.append(f"        return {f'{key} is another now'!r}")
    lines.append("    return None")
    return compiled("\n".join(lines) + "\n", names.scope)["holds"]
