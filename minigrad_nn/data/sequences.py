"""Many short texts as samples: padded to the longest of a batch, with their lengths.

Three forms, after what is to be learned: `Lines` (the next token of each text), `LabelledTexts` (a
class for each), and `TextPairs` (another text for each).  `BucketSampler` puts texts of similar
length into a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .dataset import Batch, Index
from .vocabulary import Characters, Vocabulary

__all__ = [
    "END",
    "IGNORED",
    "PAD",
    "START",
    "LabelledTexts",
    "Lines",
    "TextPairs",
    "pad_sequences",
]

PAD, START, END = SPECIALS = ("<pad>", "<start>", "<end>")
IGNORED = -100
"""The padding of targets: `cross_entropy` leaves it out of the mean."""


def pad_sequences(
    sequences: Sequence[ArrayLike], value: int = 0
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sequences of numbers as one array, each filled up to the longest.

    Args:
        sequences: N arrays of numbers, each (length,).
        value: that fills up.

    Returns:
        The array (N, T), and the lengths (N,).

    Raises:
        ValueError: a sequence with another number of axes.

    >>> padded, lengths = pad_sequences([[1, 2, 3], [4]])
    >>> padded.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if wrong := [array.shape for array in arrays if array.ndim != 1]:
        raise ValueError(f"pad_sequences needs sequences of shape (length,), got shape {wrong[0]}")
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    kinds = [array.dtype for array in arrays if array.size] or [np.dtype(np.int64)]
    shape = (len(arrays), int(lengths.max(initial=0)))
    padded = np.full(shape, value, dtype=np.result_type(*kinds))
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded, lengths


class _Texts:
    """Texts of any length, their numbers, and a way to pad some of them."""

    def __init__(self, texts: Sequence[str], vocabulary: Vocabulary | None) -> None:
        self.texts = list(texts)
        if vocabulary is None:
            vocabulary = Characters.of(self.texts, SPECIALS)
        if missing := [token for token in SPECIALS if token not in vocabulary.specials]:
            raise ValueError(
                f"the vocabulary needs the special tokens {SPECIALS}, {missing} are missing; "
                "Characters.of(texts, specials=SPECIALS) has them"
            )
        self.vocabulary = vocabulary
        self.pad, self.start, self.end = map(vocabulary.number, SPECIALS)
        # One array and where each text begins in it: small, and quick to send to a worker.
        encoded = [vocabulary.encode(text) for text in self.texts]
        self.lengths = np.array([len(numbers) for numbers in encoded], dtype=np.int64)
        """Of each text in tokens, (N,)."""
        self._ids = np.concatenate([np.arange(0), *encoded])
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.texts)

    def padded(
        self, chosen: NDArray[np.int64], value: int, start: bool = False, end: bool = False
    ) -> NDArray[np.int64]:
        """Some texts, (n, T), with a start or an end token, filled up with a value."""
        lengths = self.lengths[chosen][:, None]
        places = np.arange(int(lengths.max(initial=0)) + start + end) - start
        where = np.clip(self._starts[chosen][:, None] + places, 0, max(len(self._ids) - 1, 0))
        inside = (places >= 0) & (places < lengths)
        found = np.full(inside.shape, value)
        found[inside] = self._ids[where[inside]]
        if start:
            found[:, 0] = self.start
        if end:
            found[np.arange(len(chosen)), lengths[:, 0] + start] = self.end
        return found


def _chosen(size: int, index: Index) -> tuple[NDArray[np.int64], bool]:
    """An index as an array of them, and whether it was a single one."""
    chosen = np.arange(size)[index]
    return np.atleast_1d(chosen), chosen.ndim == 0


def _batch(arrays: Sequence[NDArray[Any]], single: bool) -> Batch:
    return tuple(array[0] if single else array for array in arrays)


class Lines:
    """Separate texts, such as names, for predicting each next character.

    A sample's inputs are a start token and the text, its targets are the text and an end token; the
    targets of padding are -100, which `cross_entropy` ignores.

    Args:
        texts: N of them.
        vocabulary: with the special tokens "<pad>", "<start>" and "<end>"; None for these and the
            characters of the texts.
        lengths: whether a batch has the lengths, too.

    Raises:
        ValueError: a vocabulary without the special tokens, or without one of a text.

    >>> lines = Lines(["ab", "b"], lengths=True)
    >>> for array in lines[:]:
    ...     print(array.tolist())
    [[1, 3, 4], [1, 4, 0]]
    [[3, 4, 2], [4, 2, -100]]
    [3, 2]
    """

    def __init__(
        self, texts: Sequence[str], vocabulary: Vocabulary | None = None, *, lengths: bool = False
    ) -> None:
        self._texts = _Texts(texts, vocabulary)
        self.texts = self._texts.texts
        self.vocabulary = self._texts.vocabulary
        self.lengths = self._texts.lengths + 1
        """Of each sample's inputs, (N,), with the start token."""
        self._give_lengths = bool(lengths)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Index) -> Batch:
        """Inputs and targets, each (n, T), and the lengths (n,) if they are wanted.

        A single index gives (T,) and a number.
        """
        chosen, single = _chosen(len(self), index)
        arrays = [
            self._texts.padded(chosen, self._texts.pad, start=True),
            self._texts.padded(chosen, IGNORED, end=True),
        ]
        if self._give_lengths:
            arrays.append(self.lengths[chosen])
        return _batch(arrays, single)

    def source(self, index: int) -> str:
        """The text of a sample, for messages about it."""
        return repr(self.texts[index])


class LabelledTexts:
    """Texts and a class for each.

    Args:
        texts: N of them.
        labels: (N,), class numbers.
        vocabulary: with the special tokens "<pad>", "<start>" and "<end>"; None for these and the
            characters of the texts.

    Raises:
        ValueError: labels of another length or kind; a vocabulary without the special tokens, or
            without one of a text.

    >>> for array in LabelledTexts(["ab", "b"], [1, 0])[:]:
    ...     print(array.tolist())
    [[3, 4], [4, 0]]
    [2, 1]
    [1, 0]
    """

    def __init__(
        self, texts: Sequence[str], labels: ArrayLike, vocabulary: Vocabulary | None = None
    ) -> None:
        self._texts = _Texts(texts, vocabulary)
        self.texts = self._texts.texts
        self.vocabulary = self._texts.vocabulary
        self.lengths = self._texts.lengths
        """Of each text, (N,)."""
        self.labels = np.asarray(labels) if len(self.texts) else np.arange(0)
        if self.labels.shape != (len(self.texts),) or self.labels.dtype.kind not in "iu":
            raise ValueError(
                f"LabelledTexts needs one class number for each of {len(self.texts)} texts, got "
                f"{self.labels.dtype} of shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Index) -> Batch:
        """Texts (n, T), their lengths (n,) and labels (n,); a single index gives (T,), numbers."""
        chosen, single = _chosen(len(self), index)
        ids = self._texts.padded(chosen, self._texts.pad)
        return _batch([ids, self.lengths[chosen], self.labels[chosen]], single)

    def source(self, index: int) -> str:
        """The text of a sample, for messages about it."""
        return repr(self.texts[index])


class TextPairs:
    """Texts and what each is to be turned into, for an encoder and a decoder.

    The decoder is given a start token and the target, and learns the target and an end token.

    Args:
        sources, targets: N texts each.
        source_vocabulary, target_vocabulary: each with the special tokens "<pad>", "<start>" and
            "<end>"; None for these and the characters of the texts.

    Raises:
        ValueError: different numbers of texts; a vocabulary without the special tokens, or without
            one of a text.

    >>> for array in TextPairs(["ab", "b"], ["x", "yx"])[:]:
    ...     print(array.tolist())
    [[3, 4], [4, 0]]
    [2, 1]
    [[1, 3, 0], [1, 4, 3]]
    [[3, 2, -100], [4, 3, 2]]
    """

    def __init__(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        source_vocabulary: Vocabulary | None = None,
        target_vocabulary: Vocabulary | None = None,
    ) -> None:
        self._sources = _Texts(sources, source_vocabulary)
        self._targets = _Texts(targets, target_vocabulary)
        self.sources, self.targets = self._sources.texts, self._targets.texts
        if len(self.sources) != len(self.targets):
            raise ValueError(
                f"TextPairs needs a target for each source, got {len(self.sources)} sources and "
                f"{len(self.targets)} targets"
            )
        self.source_vocabulary = self._sources.vocabulary
        self.target_vocabulary = self._targets.vocabulary
        self.lengths = self._sources.lengths
        """Of each source, (N,)."""

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Index) -> Batch:
        """Sources (n, S), their lengths (n,), the decoder's inputs (n, T) and targets (n, T).

        A single index gives (S,), a number, (T,) and (T,).
        """
        chosen, single = _chosen(len(self), index)
        arrays = [
            self._sources.padded(chosen, self._sources.pad),
            self.lengths[chosen],
            self._targets.padded(chosen, self._targets.pad, start=True),
            self._targets.padded(chosen, IGNORED, end=True),
        ]
        return _batch(arrays, single)

    def source(self, index: int) -> str:
        """The texts of a sample, for messages about it."""
        return f"{self.sources[index]!r} -> {self.targets[index]!r}"
