"""Two small corpora of English: plays by Shakespeare as one text, and a list of names."""

from __future__ import annotations

from .files import find_file
from .sequences import SPECIALS, Lines
from .text import Text
from .vocabulary import Characters

__all__ = ["Names", "Shakespeare"]

SHAKESPEARE = (
    "tinyshakespeare.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
)
NAMES = (
    "names.txt",
    "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
    ("https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",),
)
# Where each part of Shakespeare begins and ends.
PARTS = {
    "train": (0.0, 0.8),
    "validation": (0.8, 0.9),
    "test": (0.9, 1.0),
    "train+validation": (0.0, 0.9),
    "all": (0.0, 1.0),
}
# Which of any ten names in a row belong to a part.
TENTHS = {
    "train": range(8),
    "validation": range(8, 9),
    "test": range(9, 10),
    "train+validation": range(9),
    "all": range(10),
}


class Shakespeare(Text):
    """1,115,394 characters from plays by Shakespeare, 65 of them different, cut by position.

    `tinyshakespeare.txt` is looked for in the folder that MINIGRAD_DATA names, then in the cache
    folder, then downloaded (this needs the extra `data`); it is checked against its checksum.

    Args:
        split: `"train"` (the first 80 %), `"validation"` (the next 10 %), `"test"` (the last
            10 %), `"train+validation"` (the first 90 %), or `"all"`.  The vocabulary is always that
            of the whole text.

    Raises:
        ValueError: another split.
        FileNotFoundError: the file is nowhere; the message says what to put where.
        DataFileError: the file in MINIGRAD_DATA is damaged or another one.

    Source: A. Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015.
    """

    def __init__(self, split: str = "train") -> None:
        _check_split(split)
        whole = Text(find_file(*SHAKESPEARE).read_text(encoding="ascii"))
        part = whole.part(*PARTS[split])
        super().__init__(part.text, whole.vocabulary)
        self.split = split


class Names(Lines):
    """29,494 first names in lower case letters, as lines of characters.

    `names.txt` is looked for in the folder that MINIGRAD_DATA names, then in the cache folder, then
    downloaded (this needs the extra `data`); it is checked against its checksum.

    Args:
        split: `"train"` (8 of every 10 names), `"validation"` (the ninth), `"test"` (the tenth),
            `"train+validation"`, or `"all"`.  The file is sorted by how common names are, so
            every part has common and rare ones.  A name that stands in it twice counts once: no
            name is in two parts.
        lengths: whether a batch has the lengths, too.

    Raises:
        ValueError: another split.
        FileNotFoundError: the file is nowhere; the message says what to put where.
        DataFileError: the file in MINIGRAD_DATA is damaged or another one.

    Source: A. Karpathy, "makemore", 2022, from a list of the U.S. Social Security
    Administration.
    """

    def __init__(self, split: str = "train", *, lengths: bool = False) -> None:
        _check_split(split)
        names = dict.fromkeys(find_file(*NAMES).read_text(encoding="ascii").split())
        chosen = [name for number, name in enumerate(names) if number % 10 in TENTHS[split]]
        super().__init__(chosen, Characters.of(names, SPECIALS), lengths=lengths)
        self.split = split


def _check_split(split: str) -> None:
    if split not in PARTS:
        raise ValueError(f"split must be one of {', '.join(PARTS)}, got {split!r}")
