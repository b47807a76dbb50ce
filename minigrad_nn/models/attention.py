"""Soft attention: a weight for each place, and the average of what stands there by these weights.

Sources: D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align
and translate", 2014 (additive); M. Luong, H. Pham, C. Manning, "Effective approaches to
attention-based neural machine translation", 2015 (dot).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.core import raw
from minigrad.effects import value
from minigrad.ops.elementwise import tanh, where
from minigrad.ops.linalg import matmul
from minigrad.ops.shape import reshape, swapaxes

from .. import functional as F
from ..layers import Linear
from ..module import Module

__all__ = ["AdditiveAttention", "DotAttention"]


def _attend(scores: Any, keys: Any, mask: Any) -> tuple[Any, Any]:
    if mask is not None:
        scores = where(_spread(raw(mask)), scores, -1e9)
    weights = F.softmax(scores, -1)
    return matmul(weights, keys), weights


@value
def _spread(mask: Any) -> Any:
    """`(N, places)` for all queries."""
    return np.asarray(mask)[:, None, :]


class AdditiveAttention(Module):
    """Places answer a query by a small network: `score = v . tanh(W query + U key + b)`.

    Args:
        query_size, key_size: of a query, and of what stands at a place.
        width: of that network.

    >>> import minigrad
    >>> queries, keys = minigrad.ones((2, 3, 8)), minigrad.ones((2, 5, 6))
    >>> context, weights = AdditiveAttention(8, 6, width=16)(queries, keys)
    >>> context.shape, weights.shape
    ((2, 3, 6), (2, 3, 5))
    """

    def __init__(self, query_size: int, key_size: int, width: int) -> None:
        super().__init__()
        self.query = Linear(query_size, width, bias=False)
        self.key = Linear(key_size, width)
        self.score = Linear(width, 1, bias=False)

    def remember(self, keys: Any) -> Any:
        """What does not depend on the query, `(N, S, width)`: needed once for all steps."""
        return self.key(keys)

    def forward(
        self, query: Any, keys: Any, mask: Any = None, remembered: Any = None
    ) -> tuple[Any, Any]:
        """The average that each query gets to see, and its weights.

        Args:
            query: `(N, T, query_size)`.
            keys: `(N, S, key_size)`, what stands at the places; a single row serves all queries.
            mask: booleans `(N, S)`, which places there are; all of them if None.
            remembered: `remember(keys)`, where it is known already.

        Returns:
            Averages `(N, T, key_size)` and weights `(N, T, S)`, which add up to 1.
        """
        there = self.remember(keys) if remembered is None else remembered
        asked = self.query(query)
        asked = reshape(asked, (*asked.shape[:2], 1, asked.shape[2]))
        there = reshape(there, (there.shape[0], 1, *there.shape[1:]))
        scores = self.score(tanh(asked + there))
        return _attend(reshape(scores, scores.shape[:3]), keys, mask)


class DotAttention(Module):
    """Places answer a query by what they have in common with it: `score = query . key`.

    It has no parameters, and queries and keys have the same size.
    """

    def remember(self, keys: Any) -> Any:
        """The keys themselves, turned: `(N, size, S)`."""
        return swapaxes(keys, 1, 2)

    def forward(
        self, query: Any, keys: Any, mask: Any = None, remembered: Any = None
    ) -> tuple[Any, Any]:
        """As `AdditiveAttention.forward`."""
        turned = self.remember(keys) if remembered is None else remembered
        return _attend(matmul(query, turned), keys, mask)
