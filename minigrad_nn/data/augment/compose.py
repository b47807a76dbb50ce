"""`Compose`: several changes in a row."""

from __future__ import annotations

from minigrad.random import Generator

from ..dataset import Batch, Transform

__all__ = ["Compose"]


class Compose:
    """Transforms of a batch one after the other, each with random numbers of its own.

    Args:
        transforms: in the order in which they are done.
    """

    def __init__(self, *transforms: Transform) -> None:
        self.transforms = transforms

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """The batch after all of them."""
        for number, transform in enumerate(self.transforms):
            batch = transform(batch, generator.fork(number))
        return batch

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"
