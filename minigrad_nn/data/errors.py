"""What the errors about files of data have in common."""

from __future__ import annotations

__all__ = ["DataFileError"]


class DataFileError(ValueError):
    """A file that is not what it should be; the message names it and says what to do."""
