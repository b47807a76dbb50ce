"""What all optimisers share: groups, steps and state.

They compute what PyTorch's of the same name compute.  A step writes into the parameters in place,
outside of any graph, and reports each write: a backward pass that still needs an old value raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.effects import aside, effect
from minigrad.tensor import Tensor
from minigrad_nn import kernels

__all__ = ["Optimizer"]

# A raw parameter, its gradient, and its state.
Entry = tuple[Any, Any, dict[str, Any]]
# Numbers from which one kernel for all parameters pays.
MANY = 1 << 16


class Optimizer:
    """What all optimisers share: groups of parameters with their settings, and a state for each.

    Args:
        params: tensors, or mappings `{"params": tensors, **settings}`, one a group.
        defaults: the settings of a group that does not give its own.

    Attributes:
        param_groups: one dict a group: "params", "lr" and the other settings; they may be changed
            between two steps.

    Raises:
        ValueError: no parameters, one twice, or a setting out of its range or unknown.
        TypeError: something that is no tensor, or a tensor that was computed.
    """

    kernel: str | None = None
    """The name of the kernel that moves many parameters at once, where there is one."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._state: dict[int, dict[str, Any]] = {}
        self._scratch: dict[tuple, Any] = {}
        entries: list[Any] = [params] if isinstance(params, (Tensor, Mapping)) else list(params)
        if not entries:
            raise ValueError(
                f"{self._name}: no parameters given; pass model.parameters(), and mind that a "
                "generator is empty after its first use"
            )
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name in ("step", "zero_grad"):
            if name in vars(cls):  # a captured step calls it anew in each replay
                setattr(cls, name, effect(vars(cls)[name]))

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with settings of their own, such as for layers that are unfrozen later."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(
                f'{self._name}: a group must be a mapping with "params", got {type(group).__name__}'
            )
        unknown = [key for key in group if key not in self.defaults and key != "params"]
        if unknown:
            raise ValueError(
                f"{self._name}: unknown setting(s) {', '.join(unknown)}; there are "
                f"{', '.join(self.defaults)}"
            )
        given = group["params"]
        tensors = [given] if isinstance(given, Tensor) else list(given)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in tensors:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{self._name}: a parameter must be a tensor, got {type(p).__name__}; of a "
                    "module pass module.parameters()"
                )
            if not p.is_leaf:
                raise TypeError(
                    f"{self._name}: a parameter of shape {p.shape} was computed; only leaves can "
                    "be optimised"
                )
            if id(p) in known:
                raise ValueError(f"{self._name}: a parameter of shape {p.shape} is given twice")
            known.add(id(p))
        settings = {**self.defaults, **group, "params": tensors}
        self._check(settings)
        self.param_groups.append(settings)

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "weight_decay"):
            if not group[name] >= 0.0:
                raise ValueError(f"{self._name}: {name} must be at least 0, got {group[name]}")

    @aside
    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.zero_grad()

    @effect
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        writer = f"{self._name}.step"
        for group in self.param_groups:
            entries = []
            for p in group["params"]:
                if p._grad is not None:
                    state = self._state.setdefault(id(p), {})
                    entries.append((p._data, p._grad._data, state))
            for array, g, state in self._update_together(entries, group):
                self._update(array, g, state, group)
            for array, _, _ in entries:
                backend.written(array, writer)

    def _update_together(self, entries: list[Entry], group: dict[str, Any]) -> list[Entry]:
        """Move what one kernel can move at once; returns what is left, to be moved one by one.

        The bits are the same either way, so it is a matter of speed: few numbers are not worth
        the loading of compiled code.
        """
        if self.kernel is None or sum(array.size for array, _, _ in entries) < MANY:
            return entries
        left: list[Entry] = []
        batches: dict[Any, list[Entry]] = {}
        for entry in entries:
            array, g, state = entry
            if (
                kernels.offers(self.kernel, array)
                and type(g) is type(array)
                and g.dtype == array.dtype
                and array.flags.c_contiguous
                and g.flags.c_contiguous
            ):
                batches.setdefault((array.dtype, self._age(state)), []).append(entry)
            else:
                left.append(entry)
        for batch in batches.values():
            self._update_batch(batch, group)
        return left

    def _age(self, state: dict[str, Any]) -> int:
        """What parameters must have in common to be moved by one kernel call."""
        return 0

    def _update_batch(self, batch: list[Entry], group: dict[str, Any]) -> None:
        """Move raw parameters in place by one kernel call, as `_update` would."""
        raise NotImplementedError  # each optimiser that names a kernel has its own

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one raw parameter in place; its gradient must stay as it is."""
        raise NotImplementedError  # each optimiser has its own

    def _room(self, like: Any, number: int) -> Any:
        """Memory of an array's shape that holds until the next parameter; kept between steps."""
        key = (like.dtype, type(like), number)
        found = self._scratch.get(key)
        if found is None or found.size < like.size:
            found = self._scratch[key] = np.empty_like(like.reshape(-1))
        return found[: like.size].reshape(like.shape)

    # --- saving ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Settings and state as plain data and copied arrays, parameters by their number.

        Returns:
            `{"state": {number: {name: number or array}}, "param_groups": [{..., "params":
            [numbers]}]}`.
        """
        state: dict[int, dict[str, Any]] = {}
        groups = []
        number = 0
        for group in self.param_groups:
            numbers = []
            for p in group["params"]:
                held = self._state.get(id(p))
                if held:
                    state[number] = {key: _saved(value) for key, value in held.items()}
                numbers.append(number)
                number += 1
            groups.append({**group, "params": numbers})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over settings and state that `state_dict` gave, for the same parameters.

        Raises:
            ValueError: it is the state of another kind of optimiser, or groups, numbers of
                parameters, or shapes differ; nothing is loaded then.
        """
        if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
            raise ValueError(
                f'{self._name}.load_state_dict: needs a mapping with "state" and "param_groups"'
            )
        groups = state["param_groups"]
        for group in groups:
            if set(group) != {*self.defaults, "params"}:
                raise ValueError(
                    f"{self._name}.load_state_dict: settings {sorted(group)} given, "
                    f"{sorted([*self.defaults, 'params'])} wanted: is it another optimiser's state?"
                )
        sizes = [len(group["params"]) for group in groups]
        own = [len(group["params"]) for group in self.param_groups]
        if sizes != own:
            raise ValueError(
                f"{self._name}.load_state_dict: groups with {sizes} parameters given, {own} wanted"
            )
        numbers = [number for group in groups for number in group["params"]]
        tensors = [p for group in self.param_groups for p in group["params"]]
        loaded: dict[int, dict[str, Any]] = {}
        for number, p in zip(numbers, tensors, strict=True):
            # A file may have turned the numbers into text.
            held = state["state"].get(number, state["state"].get(str(number)))
            if held is None:
                continue
            entry: dict[str, Any] = {}
            for key, value in held.items():
                shape = np.shape(value)
                if shape and shape != p.shape:
                    raise ValueError(
                        f"{self._name}.load_state_dict: {key} of parameter {number} has shape "
                        f"{shape}, the parameter {p.shape}"
                    )
                entry[key] = _loaded(value, p._data) if shape or key != "step" else int(value)
            loaded[id(p)] = entry
        self._state = loaded
        for group, given in zip(self.param_groups, groups, strict=True):
            group.update({key: value for key, value in given.items() if key != "params"})

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            settings = ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters, {settings}")
        return "\n".join([f"{self._name}(", *lines, ")"])


def _saved(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return value
    return np.array(backend.device_of(value).to_numpy(value))


def _loaded(value: Any, like: Any) -> Any:
    return backend.device_of(like).from_numpy(np.array(value, dtype=like.dtype))
