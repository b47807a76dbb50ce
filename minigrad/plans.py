"""What an op keeps for its backward pass, and its rules as one call, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from minigrad.errors import GraphError

if TYPE_CHECKING:
    from minigrad.core import Node, Op


class Saved:
    """What a node kept for its rules, by name: `saved.x`, `saved.y`, `saved.axis`."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this op saves no {name!r}; it saves {', '.join(self.__dict__)}")


class Plan:
    """For one op and one pattern of needed gradients: what to save, and the rules as one call."""

    __slots__ = ("gather", "pull", "save")

    def __init__(self, save: tuple[int, ...], pull: Callable) -> None:
        self.save = save
        """Positions in (*inputs, *outputs) to keep."""
        self.gather: Callable[[tuple], tuple] = _gather(save)
        """What to keep of (*inputs, *outputs)."""
        self.pull = pull
        """`pull(node, g, saved) -> contributions`."""


def _gather(save: tuple[int, ...]) -> Callable[[tuple], tuple]:
    if len(save) > 1:
        return itemgetter(*save)
    return (lambda values: (values[save[0]],)) if save else (lambda values: ())


def _no_rule(node: Node, g: Any, saved: tuple) -> Sequence:
    raise GraphError(f"{node.op.name} was declared without rules: no gradient can pass it")


def make_plan(op: Op, needs: tuple[bool, ...]) -> Plan:
    """What `op` saves and how it pulls when just these inputs need a gradient."""
    if op.variadic:
        names = op.inputs[:-1]
        stem = op.inputs[-1][1:]
        inputs = (*names, *(f"{stem}{i}" for i in range(len(needs) - len(names))))
    else:
        inputs = op.inputs
    slots = {name: i for i, name in enumerate((*inputs, *op.outputs))}

    if op.backward is None and not op.rules:
        return Plan((), _no_rule)
    if op.backward is None:
        wanted = _names_used(op, needs)
        save = tuple(i for name, i in slots.items() if name in wanted)
        values = {name: f"saved[{save.index(i)}]" for name, i in slots.items() if i in save}
        for i, name in enumerate(inputs):
            values[f"{name}_shape"] = f"shape_of(node.inputs[{i}])"
        return Plan(save, compile_pull(op, needs, values))

    if op.like is not None:
        save = tuple(range(len(inputs))) + tuple(
            i for name, i in slots.items() if name in op.saves and i >= len(inputs)
        )
    elif op.variadic:
        save = tuple(i for name, i in slots.items() if name.rstrip("0123456789") in op.saves)
    else:
        save = tuple(i for name, i in slots.items() if name in op.saves)
    kept = [name for name, i in slots.items() if i in save]
    shapes = {f"{name}_shape": i for i, name in enumerate(inputs)}
    backward = op.backward

    def pull(node: Node, g: Any, saved: tuple) -> Sequence:
        values = dict(zip(kept, saved, strict=True))
        values.update(
            (name, shape_of(node.inputs[i])) for name, i in shapes.items() if name in op.saves
        )
        if op.variadic:
            values["shapes"] = [shape_of(source) for source in node.inputs]
        found = backward(Saved(**{**op.defaults, **node.params}, **values), g, needs)
        if len(found) != len(needs):
            raise GraphError(
                f"{op.name}: its backward returned {len(found)} gradient(s) for {len(needs)} "
                "input(s); return one for each, None where `needs` is False"
            )
        return found

    return Plan(save, pull)


def shape_of(source: Any) -> tuple[int, ...]:
    """The shape of an input: its node's, or () for a Python constant."""
    return getattr(source, "shape", ())


def _names_used(op: Op, needs: tuple[bool, ...]) -> set[str]:
    used: set[str] = set()
    for rule, need in zip(op.rules, needs, strict=True):
        if need:
            used.update(rule.__code__.co_varnames[1 : rule.__code__.co_argcount])
    return used


def compile_pull(op: Op, needs: tuple[bool, ...], values: dict[str, str]) -> Callable:
    """Write `pull` for a list of rules: each called with the gradient and the values it names.

    The source is built from the parameter names of the rules, as `dataclasses` builds `__init__`,
    so that a gate costs one call and no look-up of names.
    """
    terms = []
    for i, (rule, need) in enumerate(zip(op.rules, needs, strict=True)):
        if not need:
            terms.append("None")
            continue
        names = rule.__code__.co_varnames[1 : rule.__code__.co_argcount]
        # A name that is no value of the op is one of its static parameters.
        args = [values[name] if name in values else _parameter(op, name) for name in names]
        terms.append(f"rule{i}({', '.join(['g', *args])})")
    head = "node, g, saved=()"
    source = f"def pull({head}):\n    return ({', '.join(terms)},)\n"
    scope: dict[str, Any] = {f"rule{i}": rule for i, rule in enumerate(op.rules)}
    scope["shape_of"] = shape_of
    scope["defaults"] = op.defaults
    exec(compile(source, f"<rules of {op.name}>", "exec"), scope)
    return scope["pull"]


def _parameter(op: Op, name: str) -> str:
    if name in op.defaults:
        return f"node.params.get({name!r}, defaults[{name!r}])"
    return f"node.params[{name!r}]"
