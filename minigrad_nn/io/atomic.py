"""Writes files so that a reader, or a crash, finds all of a file or none of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: str | os.PathLike[str], chunks: bytes | Iterable[bytes]) -> Path:
    """Put a file in its place in one step, durable when this returns.

    The content goes to a hidden file beside it, is flushed to the disk, and only then takes the
    name; what stood there before is kept whole until that moment.

    Args:
        path: where the file shall stand; folders above it are made.
        chunks: the content, whole or in pieces.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written; whatever stood there is unchanged and nothing is left beside.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(waiting, "xb") as file:
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(waiting, path)
    except BaseException:
        with contextlib.suppress(OSError):
            waiting.unlink()
        raise
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """Make a rename durable too, where the system can (Windows cannot open folders)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
