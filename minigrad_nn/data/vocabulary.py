"""Vocabularies: text as numbers and back, by characters or by words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Characters", "Vocabulary", "Words"]


class Vocabulary:
    """Tokens and their numbers.  `Characters` and `Words` say what the tokens of a text are.

    The numbers of the special tokens, such as "<end>", come first.  They stand in no text, so
    `encode` never gives them and `decode` leaves them out.

    Args:
        tokens: each once, in the order of their numbers.
        specials: names of further tokens.

    Raises:
        ValueError: a token that comes twice, or none at all.
    """

    def __init__(self, tokens: Iterable[str], specials: Sequence[str] = ()) -> None:
        self.specials = tuple(specials)
        self.tokens = (*self.specials, *tokens)
        """All tokens in the order of their numbers, the special ones first."""
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if not self.tokens or len(self._numbers) < len(self.tokens):
            twice = sorted(token for token in self._numbers if self.tokens.count(token) > 1)
            raise ValueError(
                f"{type(self).__name__} needs one or more different tokens, got "
                + (f"{twice} more than once" if twice else "none")
            )

    @classmethod
    def of(cls, texts: str | Iterable[str], specials: Sequence[str] = ()) -> Self:
        """The vocabulary of all tokens in a text, or in several, sorted."""
        several = [texts] if isinstance(texts, str) else texts
        return cls(sorted({token for text in several for token in cls.split(text)}), specials)

    @staticmethod
    def split(text: str) -> Sequence[str]:
        """The tokens of a text."""
        raise NotImplementedError("use Characters or Words, or say in a subclass what tokens are")

    @staticmethod
    def join(tokens: Iterable[str]) -> str:
        """The text of tokens."""
        raise NotImplementedError("use Characters or Words, or say in a subclass what tokens are")

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (type(self), self.specials, self.tokens) == (
            type(other),
            other.specials,
            other.tokens,
        )

    def __hash__(self) -> int:
        return hash((type(self), self.tokens))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.tokens[:8])) + (", ..." if len(self) > 8 else "")
        return f"{type(self).__name__} of {len(self)} tokens: {shown}"

    def number(self, token: str) -> int:
        """The number of one token, a special one too.

        Raises:
            ValueError: it is not in the vocabulary.
        """
        try:
            return self._numbers[token]
        except KeyError:
            raise ValueError(f"{token!r} is not in the vocabulary: {self!r}") from None

    def encode(self, text: str) -> NDArray[np.int64]:
        """The numbers of the tokens of a text, (n,).

        Raises:
            ValueError: a token that is not in the vocabulary; the message says where.
        """
        first = len(self.specials)
        tokens = self.split(text)
        numbers = np.fromiter(
            (self._numbers.get(token, -1) for token in tokens), np.int64, len(tokens)
        )
        unknown = np.flatnonzero(numbers < first)  # the names of special tokens are unknown too
        if unknown.size:
            place = int(unknown[0])
            raise ValueError(
                f"{tokens[place]!r} at place {place} of the text is not in the vocabulary "
                f"({unknown.size} unknown tokens in all): {self!r}"
            )
        return numbers

    def decode(self, numbers: ArrayLike) -> str:
        """The text of token numbers, (n,), special tokens left out.

        Raises:
            TypeError, ValueError: numbers of another kind or shape, or outside of the vocabulary.
        """
        found: NDArray[Any] = np.asarray(numbers)
        if found.size == 0:
            return ""
        if found.dtype.kind not in "iu" or found.ndim != 1:
            raise TypeError(
                f"decode needs whole numbers of shape (n,), got {found.dtype} of shape "
                f"{found.shape}"
            )
        if found.min() < 0 or found.max() >= len(self):
            raise ValueError(
                f"decode needs numbers from 0 to {len(self) - 1}, got {found.min()} to "
                f"{found.max()}"
            )
        first = len(self.specials)
        return self.join(self.tokens[number] for number in found.tolist() if number >= first)


class Characters(Vocabulary):
    """A vocabulary of characters.

    >>> vocabulary = Characters.of("hello")
    >>> vocabulary.tokens
    ('e', 'h', 'l', 'o')
    >>> vocabulary.encode("hole").tolist()
    [1, 3, 2, 0]
    >>> vocabulary.decode([1, 0, 2, 2, 3])
    'hello'
    """

    def __init__(self, tokens: Iterable[str], specials: Sequence[str] = ()) -> None:
        super().__init__(tokens, specials)
        characters = self.tokens[len(self.specials) :]
        if long := [token for token in characters if len(token) != 1]:
            raise ValueError(f"Characters: tokens must be single characters, got {long[:5]}")

    @staticmethod
    def split(text: str) -> Sequence[str]:
        """The characters of a text."""
        return text

    @staticmethod
    def join(tokens: Iterable[str]) -> str:
        """The text of characters."""
        return "".join(tokens)


class Words(Vocabulary):
    """A vocabulary of words, which stand between white space in a text.

    >>> vocabulary = Words.of(["not bad", "not good"], specials=["<pad>"])
    >>> vocabulary.encode("good not").tolist()
    [2, 3]
    >>> vocabulary.decode([3, 1, 0])
    'not bad'
    """

    @staticmethod
    def split(text: str) -> Sequence[str]:
        """The words of a text."""
        return text.split()

    @staticmethod
    def join(tokens: Iterable[str]) -> str:
        """The text of words, with single spaces between them."""
        return " ".join(tokens)
