"""Optimisers: gradient descent with momentum, Adam, AdamW, and gradient clipping.

They compute what PyTorch's of the same name compute.  A step writes into the parameters in place,
outside of any graph, and reports each write: a backward pass that still needs an old value raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigrad import backend
from minigrad.tensor import Tensor

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_", "clip_grad_value_"]


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

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.zero_grad()

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        writer = f"{self._name}.step"
        for group in self.param_groups:
            for p in group["params"]:
                if p._grad is None:
                    continue
                array = p._data
                state = self._state.get(id(p))
                if state is None:
                    state = self._state[id(p)] = {}
                self._update(array, p._grad._data, state, group)
                backend.written(array, writer)

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


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    `v = momentum * v + (1 - dampening) * g`, where the first v is g; then `p -= lr * v`, or with
    Nesterov's momentum `p -= lr * (g + momentum * v)` (Sutskever and others, "On the importance of
    initialization and momentum in deep learning", 2013).

    Args:
        params: tensors, or groups.
        lr: the learning rate, 0 or more.
        momentum: how much of the former direction stays, in [0, 1).
        dampening: how much of the new gradient is left out of it.
        weight_decay: this times the parameter is added to its gradient.
        nesterov: look ahead; it needs momentum and no dampening.

    >>> import minigrad
    >>> x = minigrad.tensor(4.0, requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1)
    >>> (x * x).backward()
    >>> optimizer.step()
    >>> print(f"{x.item():.2f}")
    3.20
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            dict(
                lr=lr,
                momentum=momentum,
                dampening=dampening,
                weight_decay=weight_decay,
                nesterov=nesterov,
            ),
        )

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["momentum"] >= 0.0:
            raise ValueError(f"SGD: momentum must be at least 0, got {group['momentum']}")
        if group["nesterov"] and (group["momentum"] == 0.0 or group["dampening"] != 0.0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and a dampening of 0")

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        momentum, decay = group["momentum"], group["weight_decay"]
        room = self._room(p, 0)
        if decay:
            g = np.add(np.multiply(p, decay, out=room), g, out=room)
        if momentum:
            v = state.get("momentum_buffer")
            if v is None:
                v = state["momentum_buffer"] = g.copy()
            else:
                v *= momentum
                share = 1.0 - group["dampening"]
                v += g if share == 1.0 else np.multiply(g, share, out=self._room(p, 1))
            if group["nesterov"]:
                ahead = self._room(p, 1)
                np.add(np.multiply(v, momentum, out=ahead), g, out=ahead)
                v = ahead
        else:
            v = g
        p -= np.multiply(v, group["lr"], out=room)


class Adam(Optimizer):
    """Adam: steps of about `lr` in each coordinate, whatever the size of its gradients.

    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Args:
        params: tensors, or groups.
        lr: the learning rate, 0 or more.
        betas: how much of the running mean of gradients, and of their squares, stays; in [0, 1).
        eps: added to the divisor.
        weight_decay: this times the parameter is added to its gradient.
    """

    decoupled = False
    """Whether weight decay shrinks the parameter itself, apart from the gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if len(group["betas"]) != 2 or not all(0.0 <= beta < 1.0 for beta in group["betas"]):
            raise ValueError(
                f"{self._name}: betas must be two numbers in [0, 1), got {group['betas']}"
            )
        if not group["eps"] >= 0.0:
            raise ValueError(f"{self._name}: eps must be at least 0, got {group['eps']}")

    def _update(self, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        lr, decay = group["lr"], group["weight_decay"]
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p), exp_avg_sq=np.zeros_like(p))
        state["step"] += 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        a, b = self._room(p, 0), self._room(p, 1)
        if decay and self.decoupled:
            p *= 1.0 - lr * decay
        elif decay:
            g = np.add(np.multiply(p, decay, out=b), g, out=b)
        mean *= beta1
        mean += np.multiply(g, 1.0 - beta1, out=a)
        square *= beta2
        square += np.multiply(np.multiply(g, g, out=a), 1.0 - beta2, out=a)
        # Both running means start at 0, which these factors undo.
        np.sqrt(square, out=a)
        a /= math.sqrt(1.0 - beta2 ** state["step"])
        a += group["eps"]
        np.divide(mean, a, out=a)
        a *= lr / (1.0 - beta1 ** state["step"])
        p -= a


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves: `p *= 1 - lr * weight_decay`.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.  Arguments as `Adam`.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


# --- clipping ------------------------------------------------------------------------------------


def _with_grad(parameters: Any) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in tensors if p._grad is not None]


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients down together so that their common norm is at most `max_norm`.

    Args:
        parameters: a tensor or several; those without a gradient are passed over.
        max_norm: above it, gradients are multiplied by `max_norm / (norm + 1e-6)`.
        norm_type: 2 for the Euclidean norm, `math.inf` for the largest magnitude, or another p.
        error_if_nonfinite: raise where the norm is infinite or NaN.

    Returns:
        The norm before.

    Raises:
        FloatingPointError: the norm is not finite, if that was asked for.
        ValueError: a `max_norm` below 0, or a `norm_type` that is not above it.
    """
    tensors = _with_grad(parameters)
    if not max_norm >= 0.0:
        raise ValueError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    if norm_type <= 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type}")
    norms = [_norm(p._grad._data, norm_type) for p in tensors if p._grad is not None]
    total = _norm(np.array(norms, np.float64), norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise FloatingPointError(f"clip_grad_norm_: the norm of the gradients is {total}")
    factor = max_norm / (total + 1e-6)
    # Written so that a norm of NaN is not taken for a small one.
    if not factor >= 1.0:
        for p in tensors:
            p.grad = p._grad.detach() * factor if p._grad is not None else None
    return total


def _norm(values: Any, p: float) -> float:
    if values.size == 0:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        if p == math.inf:
            return float(np.abs(values).max())
        if p == 2.0:
            flat = values.ravel()
            return math.sqrt(float(np.dot(flat, flat)))
        return float((np.abs(values) ** p).sum() ** (1.0 / p))


def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Limit every element of every gradient to `[-clip_value, clip_value]`."""
    if not clip_value >= 0.0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    for p in _with_grad(parameters):
        if p._grad is not None:
            p.grad = p._grad.detach().clip(-clip_value, clip_value)
