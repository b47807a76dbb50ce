"""One long text for predicting the next token: windows of it, and streams for truncated BPTT.

A stream is read on from batch to batch, so that a recurrent network keeps its state between them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .dataset import Batch, Index, Transform
from .errors import DataFileError
from .loader import Loader
from .samplers import _count
from .vocabulary import Characters, Vocabulary

__all__ = ["Streams", "Text", "Windows"]


class Text:
    """A text and its numbers.

    Args:
        text: at least one token.
        vocabulary: that holds its tokens; None for the characters in it.

    Raises:
        ValueError: an empty text, or a token that is not in the vocabulary.

    >>> text = Text("to be or not to be")
    >>> train, test = text.part(0, 0.7), text.part(0.7, 1)
    >>> train.text, test.text
    ('to be or not', ' to be')
    >>> test.vocabulary is text.vocabulary
    True
    """

    def __init__(self, text: str, vocabulary: Vocabulary | None = None) -> None:
        if not text:
            raise ValueError("Text needs a text of at least one token, got an empty one")
        self.text = text
        self.vocabulary = Characters.of(text) if vocabulary is None else vocabulary
        self.ids = self.vocabulary.encode(text)
        """The numbers of the tokens, (n,)."""

    @classmethod
    def read(cls, path: str | os.PathLike[str], vocabulary: Vocabulary | None = None) -> Text:
        """The text of a file in UTF-8.

        Raises:
            OSError: it cannot be read.
            DataFileError: it is not in UTF-8, or empty.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path} is no text in UTF-8: {error}") from error
        if not text:
            raise DataFileError(f"{path} is empty")
        return Text(text, vocabulary)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} tokens, {len(self.vocabulary)} different"

    def part(self, start: float, stop: float) -> Text:
        """The text between two places, with the same vocabulary.

        Args:
            start, stop: fractions of the length, 0 <= start < stop <= 1.  Parts that share a
                place are next to each other.

        Raises:
            ValueError: other fractions, or a part without a token.
        """
        if not 0 <= start < stop <= 1:
            raise ValueError(f"part needs 0 <= start < stop <= 1, got {start} and {stop}")
        first, last = (int(len(self) * place) for place in (start, stop))
        tokens = self.vocabulary.split(self.text)[first:last]
        return Text(self.vocabulary.join(tokens), self.vocabulary)

    def windows(self, length: int) -> Windows:
        """All stretches of `length` tokens as samples, for a `Loader` that shuffles."""
        return Windows(self.ids, length)

    def streams(self, batch_size: int, length: int, **options: Any) -> Streams:
        """The text as `batch_size` streams side by side; options as of `Streams`."""
        return Streams(self.ids, batch_size, length, **options)


class Windows:
    """All stretches of a text: tokens, and for each the one that comes after it.

    Args:
        ids: (n,), the numbers of the tokens.
        length: T, of a stretch.

    Raises:
        TypeError, ValueError: a text without a single stretch and the token after it.

    >>> inputs, targets = Windows(np.arange(10, 20), length=3)[np.array([0, 6])]
    >>> inputs.tolist(), targets.tolist()
    ([[10, 11, 12], [16, 17, 18]], [[11, 12, 13], [17, 18, 19]])
    """

    def __init__(self, ids: ArrayLike, length: int) -> None:
        self.length = _count("length", length, least=1)
        self.ids = _ids(ids)
        if len(self.ids) <= self.length:
            raise ValueError(
                f"a text of {len(self.ids)} tokens has no {self.length} with one after them; give "
                "a smaller length"
            )

    def __len__(self) -> int:
        return len(self.ids) - self.length

    def __getitem__(self, index: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets, each (n, T); a single index gives (T,)."""
        starts = np.arange(len(self))[index][..., None]
        places = starts + np.arange(self.length)
        return self.ids[places], self.ids[places + 1]


class Streams(Loader):
    """A text cut into `batch_size` parts that are read side by side, `length` tokens at a time.

    Batches are inputs and targets, each `(T, N)`: the targets are the inputs one token later.  The
    first token of a batch in a stream comes right after the last one of the batch before, so a
    network keeps its state from batch to batch; where `streams.batch` is 1, which is the first
    batch of an epoch, it begins with a new one.  The last batch of an epoch may be shorter.  If the
    text does not divide evenly, fewer than `batch_size` tokens at its end are left out.

    It is a `Loader`: the order is always the same, and a position is saved and restored.

    Args:
        ids: (n,), the numbers of the tokens.
        batch_size: N, how many streams.
        length: T, the tokens of a stream in one batch: as far as gradients are followed back.
        drop_last: leave out a last batch that is shorter.
        options: `seed`, `transform` and those of the background workers, as for `Loader`.

    Raises:
        TypeError, ValueError: numbers below 1, or a text that is too short for one token a stream.

    >>> for inputs, targets in Streams(np.arange(9), batch_size=2, length=3):
    ...     print(inputs.T.tolist(), targets.T.tolist())
    [[0, 1, 2], [4, 5, 6]] [[1, 2, 3], [5, 6, 7]]
    [[3], [7]] [[4], [8]]
    """

    def __init__(
        self,
        ids: ArrayLike,
        batch_size: int,
        length: int,
        *,
        drop_last: bool = False,
        transform: Transform | None = None,
        **options: Any,
    ) -> None:
        self.length = _count("length", length, least=1)
        chunks = _Chunks(_ids(ids), _count("batch_size", batch_size, least=1), self.length)
        if drop_last and chunks.steps < self.length:
            raise ValueError(
                f"drop_last leaves no batch: a stream has {chunks.steps} tokens, a batch "
                f"{self.length}; choose a smaller length or batch_size"
            )
        super().__init__(chunks, batch_size, transform=transform, **options)
        self.drop_last = bool(drop_last)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(self._samples(), self.length)
        return whole + (rest > 0 and not self.drop_last)

    def _indices(self, order: NDArray[np.int64], number: int) -> Any:
        return number

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "length": self.length}


class _Chunks:
    """The batches of streams as the samples of a dataset.

    Its length is that of a stream, as that is what a position depends on.
    """

    def __init__(self, ids: NDArray[np.int64], batch_size: int, length: int) -> None:
        self.length = length
        self.steps = (len(ids) - 1) // batch_size
        if self.steps < 1:
            raise ValueError(
                f"a text of {len(ids)} tokens is too short for {batch_size} streams; give a "
                "smaller batch_size"
            )
        used = self.steps * batch_size
        # One row a token, one column a stream, so that a batch is a slice.
        self.inputs = np.ascontiguousarray(ids[:used].reshape(batch_size, -1).T)
        self.targets = np.ascontiguousarray(ids[1 : used + 1].reshape(batch_size, -1).T)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, number: int) -> Batch:
        rows = slice(number * self.length, (number + 1) * self.length)
        return self.inputs[rows].copy(), self.targets[rows].copy()  # a transform may change them


def _ids(ids: ArrayLike) -> NDArray[np.int64]:
    found = np.asarray(ids)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"ids must be whole numbers of shape (n,), got {found.dtype} of shape {found.shape}; "
            "vocabulary.encode(text) gives them"
        )
    return found.astype(np.int64, copy=False)
