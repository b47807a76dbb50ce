"""Reuse of what a network has learned: freezing, learning rates by layer, new heads, features.

`transfer` does what the lecture's three cases want; the functions before it are its parts.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .layers import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Linear,
)
from .module import Module

__all__ = [
    "Transferred",
    "features",
    "freeze",
    "layerwise_groups",
    "replace_head",
    "transfer",
    "unfreeze",
]

CONVOLUTIONS = (Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
FEW, MANY = 500, 1000
"""Labels a class below which a dataset is tiny, and above which it is large (the lecture's)."""


def freeze(model: Module, *patterns: str) -> list[str]:
    """Stop parts of a model from learning.

    Their parameters get no gradients.  Modules that are frozen as a whole also stay in `eval` mode,
    whatever `model.train()` says: batch norm keeps the statistics that it has learned.

    Args:
        model: the model.
        patterns: paths of parameters or modules, where `*` stands for anything, such as
            `"features.*"`, `"layer4"` (all in it) or `"*.bias"`; none for the whole model.

    Returns:
        The paths of the parameters, in the model's order.

    Raises:
        ValueError: a pattern that nothing in the model matches.

    >>> import minigrad_nn as nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> freeze(model, "0")
    ['0.weight', '0.bias']
    """
    return _set(model, patterns, frozen=True)


def unfreeze(model: Module, *patterns: str) -> list[str]:
    """Let parts of a model learn again; the inverse of `freeze`, with the same arguments."""
    return _set(model, patterns, frozen=False)


def _set(model: Module, patterns: Sequence[str], frozen: bool) -> list[str]:
    names = _matching(model, patterns)
    parameters = dict(model.named_parameters())
    for name in names:
        parameters[name].requires_grad = not frozen
    for module in model.modules():
        own = list(module.parameters())
        if own:
            module.frozen = not any(p.requires_grad for p in own)
    # What has no parameters, such as dropout, does as the module around it.
    for module in model.modules():
        if module.frozen:
            for part in module.modules():
                part.frozen = True
        else:
            for child in module.children():
                if next(child.parameters(), None) is None:
                    for part in child.modules():
                        part.frozen = False
        module.train(module.training)
    return names


def _matching(model: Module, patterns: Sequence[str]) -> list[str]:
    """Paths of the parameters that a pattern names, or that lie in a module that one names."""
    names = [name for name, _ in model.named_parameters()]
    wanted: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if _names(pattern, name)}
        if not found:
            paths = [*names, *(path for path, _ in model.named_modules() if path)]
            near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.4)
            advice = f"; near are {', '.join(near)}" if near else ""
            raise ValueError(
                f"no parameter of this {type(model).__name__} is, or lies in, {pattern!r}{advice}"
            )
        wanted |= found
    return [name for name in names if name in wanted or not patterns]


def _names(pattern: str, name: str) -> bool:
    """Whether a pattern matches a path, or the path of something around it."""
    parts = name.split(".")
    return any(
        fnmatch.fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1)
    )


def layerwise_groups(
    model: Module, lr: float, decay: float = 0.5, layers: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """Parameter groups whose learning rates fall from the last layer to the first.

    Layer k from the end learns at `lr · decay^k`: what the first layers see is useful for any
    picture, so they change least (Howard and Ruder, "Universal language model fine-tuning", 2018,
    section 3.2).  Frozen parameters are left out.

    Args:
        model: the model.
        lr: of the last layer.
        decay: from layer to layer, in (0, 1].
        layers: patterns as for `freeze`, from the first layer to the last; None takes the model's
            direct parts that have parameters, in their order.

    Returns:
        Groups for an optimiser, first layer first: `optim.SGD(layerwise_groups(model, 0.1))`.

    Raises:
        ValueError: a number out of its range, a pattern that matches nothing, or parameters that
            no layer has.

    >>> import minigrad_nn as nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> [group["lr"] for group in layerwise_groups(model, 0.1)]
    [0.05, 0.1]
    """
    if not 0 < lr < math.inf:
        raise ValueError(f"layerwise_groups: lr must be a positive number, got {lr}")
    if not 0 < decay <= 1:
        raise ValueError(f"layerwise_groups: decay must be in (0, 1], got {decay}")
    parameters = dict(model.named_parameters())
    if layers is None:
        # A parameter of the model itself is a layer of its own.
        layers = dict.fromkeys(name.split(".")[0] for name in parameters)
    held: set[str] = set()
    groups: list[list[str]] = []
    for pattern in layers:
        names = [name for name in _matching(model, [pattern]) if name not in held]
        held.update(names)
        groups.append([name for name in names if parameters[name].requires_grad])
    left = [name for name, p in parameters.items() if name not in held and p.requires_grad]
    if left:
        raise ValueError(
            f"layerwise_groups: no layer has {', '.join(left[:3])}{', ...' if left[3:] else ''}; "
            "add a pattern for it, or freeze it"
        )
    groups = [names for names in groups if names]
    return [
        {"params": [parameters[name] for name in names], "lr": lr * decay ** (len(groups) - 1 - k)}
        for k, names in enumerate(groups)
    ]


def _heads(model: Module, head: str | None) -> list[str]:
    """Paths of the layers that give the classes."""
    modules = dict(model.named_modules())
    if head is not None:
        if not isinstance(modules.get(head), (Linear, *CONVOLUTIONS)):
            found = type(modules[head]).__name__ if head in modules else "nothing"
            near = [path for path, m in modules.items() if isinstance(m, (Linear, *CONVOLUTIONS))]
            raise ValueError(
                f"head must be the path of a fully connected or convolutional layer, {head!r} is "
                f"{found}; the last ones are {', '.join(near[-3:])}"
            )
        return [head]
    declared = getattr(type(model), "heads", None)
    if declared is not None:
        return [path for path in declared if path in modules]
    learned = [(path, m) for path, m in modules.items() if _own_parameters(m)]
    if not learned or not isinstance(learned[-1][1], (Linear, *CONVOLUTIONS)):
        kind = type(learned[-1][1]).__name__ if learned else "nothing"
        raise ValueError(
            f"the last layer of this {type(model).__name__} with parameters is {kind}, no fully "
            "connected or convolutional layer: say which one is the head with head='path'"
        )
    return [learned[-1][0]]


def _own_parameters(module: Module) -> bool:
    inside = {id(p) for part in module.children() for p in part.parameters()}
    return any(id(p) not in inside for p in module.parameters())


def replace_head(model: Module, classes: int, head: str | None = None) -> list[str]:
    """Give a model a new last layer for other classes, with new weights; all else stays.

    Weights are drawn from the default generator (`minigrad.random.manual_seed`).

    Args:
        model: the model; it is changed.
        classes: how many.
        head: the path of the layer; None finds it: what the model's class names as `heads` (the
            auxiliary ones of GoogLeNet too), else the last layer with parameters.

    Returns:
        The paths of the new layers.

    Raises:
        ValueError: classes below 1, or no such layer.

    >>> from minigrad_nn.models import resnet20
    >>> model = resnet20(classes=10)
    >>> replace_head(model, 3), model.fc.weight.shape
    (['fc'], (3, 64))
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"replace_head: classes must be a whole number from 1, got {classes!r}")
    paths = _heads(model, head)
    modules = dict(model.named_modules())
    for path in paths:
        parent, _, name = path.rpartition(".")
        if not path:
            raise ValueError("replace_head: the model is its own head; make a new layer instead")
        setattr(modules[parent], name, _like(modules[path], classes))
    return paths


def _like(layer: Any, classes: int) -> Module:
    """A new layer with other outputs, where the old one was."""
    settings: dict[str, Any] = dict(bias=layer.bias is not None, dtype=layer.weight.dtype)
    new: Module
    if isinstance(layer, Linear):
        new = Linear(layer.in_features, classes, **settings)
    else:
        names = ("kernel_size", "stride", "padding", "dilation", "output_padding")
        settings |= {name: getattr(layer, name) for name in names if hasattr(layer, name)}
        new = type(layer)(layer.in_channels, classes, **settings)
    new.train(layer.training)
    return new.to(layer.weight.device)


def features(model: Module, x: Any, layer: str | None = None) -> Any:
    """What a model knows of its inputs before it decides: the input of its last layer.

    With AlexNet these are the lecture's "fc7 features": 4096 numbers that describe a picture well
    enough for another classifier.

    Args:
        model: the model; call `model.eval()` first, so that nothing is random.
        x: a batch.
        layer: the path of a module whose first input is wanted; None for the head.

    Returns:
        The first argument of that module.

    Raises:
        ValueError: no such module, or one that the model does not call.

    >>> import minigrad
    >>> from minigrad_nn.models import resnet20
    >>> features(resnet20().eval(), minigrad.zeros((2, 3, 32, 32))).shape
    (2, 64)
    """
    modules = dict(model.named_modules())
    path = _heads(model, None)[-1] if layer is None else layer
    if path not in modules:
        near = difflib.get_close_matches(path, modules, n=3)
        raise ValueError(f"features: there is no module {path!r}; near are {', '.join(near)}")
    seen: list[Any] = []
    remove = modules[path].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    try:
        model(x)
    finally:
        remove()
    if not seen:
        raise ValueError(f"features: the model did not call {path!r} for this input")
    return seen[-1]


class Transferred(NamedTuple):
    """What `transfer` did.

    Attributes:
        case: "tiny", "small" or "large".
        heads: paths of the new layers.
        learning: paths of the parameters that learn.
        frozen: paths of those that do not.
    """

    case: str
    heads: list[str]
    learning: list[str]
    frozen: list[str]


def transfer(
    model: Module,
    classes: int,
    labels_per_class: int | None = None,
    *,
    case: str | None = None,
    last: int = 2,
    head: str | None = None,
) -> Transferred:
    """Prepare a trained model for another task, by how much there is to learn from.

    ======= ================= ==========================================================
    case    labels a class    what learns
    ======= ================= ==========================================================
    tiny    less than 500     the new head; all transferred weights are frozen
    small   500 to 1,000      the new head and the last convolutional layers
    large   more than 1,000   the entire network, which starts from transferred weights
    ======= ================= ==========================================================

    Source: lecture 003, "Transfer learning".

    Args:
        model: with its weights, as from `load_pretrained`; it is changed.
        classes: of the new task.
        labels_per_class: chooses the case.
        case: or say it.
        last: how many convolutional layers learn in the small case, with all that comes after the
            first of them, in the order in which the model names its parts.
        head: as for `replace_head`.

    Returns:
        What learns and what is frozen.

    Raises:
        ValueError: neither or both of labels_per_class and case, or a value out of its range.

    >>> from minigrad_nn.models import resnet20
    >>> done = transfer(resnet20(), classes=5, labels_per_class=50)
    >>> done.case, done.learning
    ('tiny', ['fc.weight', 'fc.bias'])
    """
    if (labels_per_class is None) == (case is None):
        raise ValueError("transfer: give either labels_per_class or case")
    if labels_per_class is not None:
        if labels_per_class < 1:
            raise ValueError(
                f"transfer: labels_per_class must be at least 1, got {labels_per_class}"
            )
        few, many = labels_per_class < FEW, labels_per_class > MANY
        case = "tiny" if few else "large" if many else "small"
    if case not in ("tiny", "small", "large"):
        raise ValueError(f"transfer: case must be 'tiny', 'small' or 'large', got {case!r}")
    if last < 1:
        raise ValueError(f"transfer: last must be at least 1, got {last}")
    heads = replace_head(model, classes, head)
    unfreeze(model)
    if case != "large":
        freeze(model)
        unfreeze(model, *heads)
    if case == "small":
        unfreeze(model, *_from_last(model, last, heads))
    named = list(model.named_parameters())
    return Transferred(
        case,
        heads,
        [name for name, p in named if p.requires_grad],
        [name for name, p in named if not p.requires_grad],
    )


def _from_last(model: Module, last: int, heads: Sequence[str]) -> list[str]:
    """Parameters from the convolution on that is `last` from the end, heads left out."""
    convolutions = [
        path
        for path, module in model.named_modules()
        if isinstance(module, CONVOLUTIONS) and path not in heads
    ]
    if not convolutions:
        raise ValueError(
            f"transfer: this {type(model).__name__} has no convolutional layer below its head; "
            "choose case='tiny' or 'large', or use freeze and unfreeze"
        )
    first = convolutions[-min(last, len(convolutions))]
    names = [name for name, _ in model.named_parameters()]
    start = next(i for i, name in enumerate(names) if name.startswith(f"{first}."))
    return names[start:]
