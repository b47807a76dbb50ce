"""Lines for people to read, which programs can read too: never wrapped, never coloured."""

from __future__ import annotations

from rich.console import Console

__all__ = ["say"]


def say(console: Console, line: str) -> None:
    """Print one line as it is, whatever the width of the terminal."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
