"""Unpacks tar archives of pictures and the like without trusting them.

Only regular files and folders come out of an archive, at places below the folder that was asked
for.  Links, devices, absolute names, `..`, a name that comes twice, and an archive that unpacks to
more than was allowed are errors, and then nothing is left behind.
"""

from __future__ import annotations

import importlib
import io
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..folders import cache_folder
from .errors import DataFileError
from .files import checksum

if TYPE_CHECKING:
    import tarfile

__all__ = ["ArchiveError", "extract"]

_CHUNK = 1 << 20
# How a packed file begins, and the module that unpacks it; few need them, so they are loaded late.
_MAGIC = {b"\xfd7zXZ\0": "lzma", b"\x1f\x8b": "gzip", b"BZh": "bz2"}
# Legal in a name on one system, a separator, a drive or an error on another.
_FORBIDDEN = set('\\:*?"<>|')


class ArchiveError(DataFileError):
    """An archive that is damaged or not safe to unpack; the message names it."""


def extract(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    max_bytes: int = 1 << 30,
    max_files: int = 1_000_000,
) -> Path:
    """Unpack a tar archive, once: a folder that is there already is returned as it is.

    The folder appears when everything is in it, whole or not at all, even if the program is
    stopped or two programs do the same at a time.  Owners, permissions and times in the archive are
    not taken over.

    Args:
        archive: a tar file, packed by xz, gzip, bzip2 or not at all (told by its content).
        folder: to make; None: one in the cache folder, named by the archive and its checksum.
        sha256: the checksum of the archive, in hexadecimal.
        max_bytes: the most that the archive may unpack to, the headers in it included.
        max_files: the most files and folders in it.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: there is no such archive.
        DataFileError: it has another checksum.
        ArchiveError: a damaged archive, one over the limits, or a member that is no regular file or
            folder below the folder.
    """
    import shutil
    import tempfile

    archive = Path(archive)
    if folder is not None:
        target = Path(folder)
        if sha256 is not None:
            checksum(archive, sha256)
    else:
        digest = checksum(archive, sha256)
        stem = archive.name.partition(".")[0] or "archive"
        target = cache_folder() / "archives" / f"{stem}-{digest[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _unpack(archive, made, max_bytes, max_files)
        made.chmod(0o755)  # mkdtemp made it for its owner only
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # else another program was faster, with the same content
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def _unpack(archive: Path, folder: Path, max_bytes: int, max_files: int) -> None:
    import tarfile

    count = 0
    with open(archive, "rb") as file:
        start = file.read(6)
        file.seek(0)
        packer = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
        module = None if packer is None else importlib.import_module(packer)
        stream: Any = file if module is None else module.open(file)
        damages = (OSError, EOFError, zlib.error, getattr(module, "LZMAError", OSError))
        bounded = _Bounded(stream, archive, max_bytes, damages)
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                for member in tar:
                    count += 1
                    if count > max_files:
                        raise ArchiveError(
                            f"{archive} holds more than {max_files} files and folders; raise "
                            "max_files if that is right"
                        )
                    _place(archive, tar, member, folder)
            if not count:
                raise ArchiveError(f"{archive} is no tar archive, or an empty one")
            # The end of the packed data carries its own sum: reading on has it checked.
            while bounded.read(_CHUNK):
                pass
        except ArchiveError:
            raise
        except (tarfile.TarError, ValueError) as error:  # ValueError: numbers, texts in headers
            raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{archive} is a damaged tar archive ({error}); fetch it again")


def _place(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member of an archive to its place."""
    import shutil
    import tarfile

    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    wrong = None
    if member.name.startswith("/"):
        wrong = "an absolute name"
    elif ".." in parts:
        wrong = "a name that leads out of the folder"
    elif any(ord(letter) < 32 or letter in _FORBIDDEN for letter in member.name):
        wrong = "a name with signs that not every system allows"
    elif member.issym() or member.islnk():
        wrong = f"a link, to {member.linkname!r}"
    elif not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        wrong = "no regular file or folder"
    elif member.issparse():
        wrong = "a file with holes"
    if wrong is not None:
        raise ArchiveError(f"{archive} holds {member.name!r}, {wrong}: it is not unpacked")
    path = folder.joinpath(*parts)
    try:
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None  # it is a regular file
        with open(path, "xb") as out:
            shutil.copyfileobj(content, out, _CHUNK)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive} holds {member.name!r} twice: it is not unpacked") from error
    if path.stat().st_size != member.size:
        raise ArchiveError(f"{archive} ends within {member.name!r}; fetch it again")


class _Bounded(io.RawIOBase):
    """A stream that gives no more than a number of bytes, however many there are."""

    def __init__(
        self,
        stream: IO[bytes],
        archive: Path,
        limit: int,
        damages: tuple[type[Exception], ...],
    ) -> None:
        self.stream, self.archive, self.limit, self.damages = stream, archive, limit, damages
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`."""
        left = self.limit - self.given + 1  # one more, to see that there is more
        try:
            content = self.stream.read(left if size < 0 else min(size, left))
        except self.damages as error:
            raise _damaged(self.archive, error) from error
        self.given += len(content)
        if self.given > self.limit:
            raise ArchiveError(
                f"{self.archive} unpacks to more than the limit of {self.limit} bytes; raise "
                "max_bytes if that is right"
            )
        return content
