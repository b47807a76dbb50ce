"""What ends a command with a message instead of a traceback."""

from __future__ import annotations

__all__ = ["CommandError", "InputError"]


class CommandError(Exception):
    """It could not be done; the message says why and what to do."""

    code = 1


class InputError(CommandError):
    """An argument, or a file that it names, cannot be used."""

    code = 2
