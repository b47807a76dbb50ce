"""Reads IDX files, the format of MNIST: a header of sizes, then numbers in big-endian order.

A file is never trusted.  Its header is checked against limits before anything is allocated, no more
is unpacked than the header declares, and what is missing or left over is an error: a truncated
download, a wrong file or a small archive that unpacks to gigabytes is told, not read.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataFileError

__all__ = ["IdxError", "read_idx"]

# Third byte of the file: the type of its numbers.
DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_AXES = 8
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


class IdxError(DataFileError):
    """A file that is not the IDX file that it should be; the message names it."""


def read_idx(
    path: str | os.PathLike[str], *, max_bytes: int = 1 << 30, sha256: str | None = None
) -> NDArray[Any]:
    """The array that an IDX file holds, gzipped or not (told by its content, not by its name).

    Args:
        path: the file.
        max_bytes: refuse a file that declares more than this many bytes of numbers.
        sha256: the checksum, in hexadecimal, of the unpacked file.  It does not depend on how the
            file was compressed.

    Returns:
        An array that owns its memory, in the machine's byte order, of the file's dtype and shape.

    Raises:
        FileNotFoundError: there is no such file.
        IdxError: anything about the content is not as it should be.
    """
    path = Path(path)
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
        try:
            return _read(path, stream, max_bytes, sha256)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IdxError(f"{path} is a damaged gzip file ({error}); fetch it again") from error


def _read(path: Path, stream: IO[bytes], max_bytes: int, sha256: str | None) -> NDArray[Any]:
    start = _exactly(path, stream, 4, "the magic number")
    if start[:2] != b"\0\0" or start[2] not in DTYPES:
        known = ", ".join(f"{code:#04x}" for code in DTYPES)
        raise IdxError(
            f"{path} begins with {start.hex(' ')}; an IDX file begins with 00 00, a type ({known}) "
            "and the number of axes"
        )
    axes = start[3]
    if not 1 <= axes <= MAX_AXES:
        raise IdxError(f"{path} declares {axes} axes; 1 to {MAX_AXES} are read")
    header = _exactly(path, stream, 4 * axes, "the sizes")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    dtype = DTYPES[start[2]]
    length = math.prod(shape) * dtype.itemsize
    if length > max_bytes:
        raise IdxError(
            f"{path} declares shape {shape} of {dtype.name}: {length} bytes, more than the limit "
            f"of {max_bytes}; raise max_bytes if that is right"
        )
    body = _exactly(path, stream, length, f"shape {shape} of {dtype.name}")
    if stream.read(1):  # this also has gzip check its own sum
        raise IdxError(f"{path} goes on after the {length} bytes of its shape {shape}")
    if sha256 is not None:
        digest = hashlib.sha256(start)
        digest.update(header)
        digest.update(body)
        if digest.hexdigest() != sha256:
            raise IdxError(
                f"{path} has checksum {digest.hexdigest()} (SHA-256, unpacked), wanted {sha256}: "
                "it is another file than it should be; fetch it again"
            )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _exactly(path: Path, stream: IO[bytes], length: int, what: str) -> bytearray:
    """`length` bytes; memory grows with what really arrives, not with what a header promises."""
    content = bytearray()
    while len(content) < length:
        part = stream.read(min(_CHUNK, length - len(content)))
        if not part:
            raise IdxError(f"{path} ends after {len(content)} of {length} bytes of {what}")
        content += part
    return content
