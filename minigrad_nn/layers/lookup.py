"""Embedding and resizing layers, and modules by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minigrad_nn import functional as F
from minigrad_nn import init
from minigrad_nn.module import Module, Parameter

__all__ = ["Embedding", "ModuleDict", "Upsample"]


class Embedding(Module):
    """A learned vector for each number, such as for each character.

    Args:
        num_embeddings: how many numbers there are.
        embedding_dim: the length of a vector.
        padding_idx: a number whose vector is 0 and stays so.
        dtype: of the vectors.

    Raises:
        ValueError: padding_idx is no such number.

    >>> Embedding(65, 8)([[0, 64], [3, 3]]).shape
    (2, 2, 8)
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"Embedding: padding_idx {padding_idx} is none of {num_embeddings} numbers"
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter.zeros((num_embeddings, embedding_dim), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new vectors: standard normal numbers."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            table = np.array(self.weight.numpy())
            table[self.padding_idx] = 0.0
            self.weight.assign(table, "reset_parameters")

    def forward(self, x: Any) -> Any:
        """`(*x.shape, embedding_dim)`."""
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


class Upsample(Module):
    """Another size of `(N, C, *spatial)`; see `functional.interpolate`.

    Args:
        size: the new spatial size; one number, or one an axis.
        scale_factor: or by how much it grows.
        mode: "nearest", "linear", "bilinear" or "trilinear".
        align_corners: whether the centres of the outermost pixels stay where they are.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Any) -> Any:
        """`(N, C, *size)`."""
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        name = "size" if self.scale_factor is None else "scale_factor"
        return f"{name}={getattr(self, name)}, mode={self.mode!r}"


class ModuleDict(Module):
    """Modules by name, so that their parameters are found; they are called by you.

    Args:
        modules: a mapping, or pairs, of names and modules.

    >>> from minigrad_nn.layers import Linear, ReLU
    >>> heads = ModuleDict({"digit": Linear(4, 10), "sign": Linear(4, 2)})
    >>> list(heads), list(heads["sign"].state_dict())
    (['digit', 'sign'], ['weight', 'bias'])
    """

    def __init__(
        self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None
    ) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace several."""
        pairs = modules.items() if isinstance(modules, Mapping) else modules
        for name, module in pairs:
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ModuleDict: {name!r} must be a Module, got {type(module).__name__}")
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"ModuleDict: a name must be text without a dot, got {name!r}")
        taken = hasattr(type(self), name) or name in ("training", "_buffers", "_hooks")
        if taken and name not in self:
            raise ValueError(f"ModuleDict: {name!r} is a name of every module; choose another")
        setattr(self, name, module)

    def __getitem__(self, name: str) -> Module:
        found = dict(self.named_children())
        if name not in found:
            raise KeyError(f"ModuleDict has no {name!r}; it has {', '.join(found) or 'nothing'}")
        return found[name]

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in dict(self.named_children())

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.named_children()))

    def __len__(self) -> int:
        return len(dict(self.named_children()))

    def keys(self) -> Iterable[str]:
        """The names, in the order of their assignment."""
        return dict(self.named_children()).keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return dict(self.named_children()).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return dict(self.named_children()).items()
