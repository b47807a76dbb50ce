"""Where things are kept between runs: downloads and compiled code, and the user's own data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder", "data_folder"]


def cache_folder() -> Path:
    """MINIGRAD_CACHE_DIR if it is set, else `minigrad` in the user's cache folder.

    The folder need not exist yet.
    """
    if named := os.environ.get("MINIGRAD_CACHE_DIR"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "minigrad"


def data_folder() -> Path | None:
    """The folder that MINIGRAD_DATA names, or None if it is not set."""
    named = os.environ.get("MINIGRAD_DATA")
    return Path(named).expanduser() if named else None
