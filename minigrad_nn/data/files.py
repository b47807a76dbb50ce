"""Finds the files of a dataset: a folder of the user's, a cache folder, else a verified download.

Every file is checked against a checksum wherever it comes from.  Without a network the error says
which files are missing and where to put them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..folders import cache_folder, data_folder
from .errors import DataFileError
from .idx import IdxError, read_idx

__all__ = ["IdxFile", "checksum", "find_file", "load_idx_files"]

_NO_POOCH = 'downloads need pooch, which is not installed: pip install "minigrad[data]"'


@dataclass(frozen=True)
class IdxFile:
    """One file of a dataset, as its publisher offers it.

    Attributes:
        name: of the archive, ending in `.gz`.
        shape: of the array in it.
        sha256: of the unpacked content, however it was compressed.
        archive_sha256: of the archive as it is downloaded.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    archive_sha256: str

    @property
    def names(self) -> tuple[str, str]:
        """The names that the file may have on disk: packed and unpacked."""
        return self.name, self.name.removesuffix(".gz")

    def read(self, path: Path) -> NDArray[Any]:
        """The array in a file, checksum and shape verified; IdxError if they are not right."""
        array = read_idx(path, sha256=self.sha256)
        if array.shape != self.shape:
            raise IdxError(f"{path} holds shape {array.shape}, wanted {self.shape}")
        return array


def load_idx_files(
    dataset: str, files: Sequence[IdxFile], mirrors: Sequence[str]
) -> list[NDArray[Any]]:
    """The arrays of a dataset's files, looked for in this order.

    1. `dataset`/ in the folder that MINIGRAD_DATA names; a file there that fails its checksum is an
       error, because someone put it there on purpose.
    2. `dataset`/ in the cache folder; a damaged file there is fetched anew.
    3. The mirrors, in turn, into the cache folder.

    Args:
        dataset: name of the sub-folder.
        files: what is needed.
        mirrors: addresses that a file's name is appended to.

    Raises:
        IdxError: a file in MINIGRAD_DATA is not what it should be.
        FileNotFoundError: files are missing and cannot be downloaded; the message lists them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    missing: list[IdxFile] = []
    reasons: list[str] = []
    given, cache = data_folder(), cache_folder() / dataset
    for file in files:
        array = None
        if given is not None and (path := _existing(given / dataset, file)):
            array = file.read(path)
        elif path := _existing(cache, file):
            try:
                array = file.read(path)
            except IdxError as error:
                reasons.append(str(error))
        if array is None and not missing:  # after a first failure the rest is only listed
            array = _download(file, mirrors, cache, reasons)
        if array is None:
            missing.append(file)
        else:
            arrays[file.name] = array
    if missing:
        raise FileNotFoundError(_advice(dataset, missing, mirrors, given, cache, reasons))
    return [arrays[file.name] for file in files]


def _existing(folder: Path, file: IdxFile) -> Path | None:
    return next((folder / name for name in file.names if (folder / name).is_file()), None)


def _download(
    file: IdxFile, mirrors: Sequence[str], folder: Path, reasons: list[str]
) -> NDArray[Any] | None:
    try:
        import pooch
    except ModuleNotFoundError:
        reasons.append(_NO_POOCH)
        return None
    for mirror in mirrors:
        try:
            path = pooch.retrieve(
                mirror + file.name, f"sha256:{file.archive_sha256}", fname=file.name, path=folder
            )
            return file.read(Path(path))
        except (OSError, ValueError) as error:  # no network, no such file; a wrong checksum
            reasons.append(f"{mirror}{file.name}: {error}")
    return None


def _advice(
    dataset: str,
    missing: Sequence[IdxFile],
    mirrors: Sequence[str],
    given: Path | None,
    cache: Path,
    reasons: Sequence[str],
) -> str:
    places = [f"  {cache}"]
    if given is not None:
        places.insert(0, f"  {given / dataset}  (from MINIGRAD_DATA)")
    else:
        places.append(f"  {dataset}{os.sep} in a folder that the variable MINIGRAD_DATA names")
    return "\n".join(
        [
            f"{dataset}: files are missing and could not be downloaded. Put these:",
            *(f"  {file.name}  (or unpacked: {file.names[1]})" for file in missing),
            "into one of these folders:",
            *places,
            "They are offered, each under its name, by:",
            *(f"  {mirror}" for mirror in mirrors),
            "What went wrong:",
            *(f"  {reason}" for reason in reasons),
        ]
    )


def checksum(path: Path, wanted: str | None = None) -> str:
    """The SHA-256 of a file in hexadecimal; DataFileError if another one was wanted."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted is not None and digest != wanted:
        raise DataFileError(
            f"{path} has checksum {digest} (SHA-256), wanted {wanted}: it is another file than it "
            "should be; fetch it again"
        )
    return digest


def find_file(name: str, sha256: str, urls: Sequence[str] = ()) -> Path:
    """The path of a dataset that is one file, looked for in the order of `load_idx_files`.

    Args:
        name: in the folder that MINIGRAD_DATA names, or in the cache folder.
        sha256: its checksum.
        urls: from where it can be downloaded; none if it is not offered.

    Raises:
        DataFileError: the file in MINIGRAD_DATA is another one.
        FileNotFoundError: it is missing and cannot be downloaded; the message says where to put it.
    """
    given, cache = data_folder(), cache_folder()
    reasons: list[str] = []
    if given is not None and (given / name).is_file():
        checksum(given / name, sha256)
        return given / name
    if (cache / name).is_file():
        try:
            checksum(cache / name, sha256)
            return cache / name
        except DataFileError as error:
            reasons.append(str(error))
    for url in urls:
        try:
            import pooch

            return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=cache))
        except ModuleNotFoundError:
            reasons.append(_NO_POOCH)
            break
        except (OSError, ValueError) as error:
            reasons.append(f"{url}: {error}")
    places = [f"  {cache}"]
    if given is not None:
        places.insert(0, f"  {given}  (from MINIGRAD_DATA)")
    else:
        places.append("  a folder that the variable MINIGRAD_DATA names")
    lines = [f"{name} is missing. Put it into one of these folders:", *places]
    if urls:
        lines += ["It is offered by:", *(f"  {url}" for url in urls)]
    lines.append(f"Its checksum is {sha256} (SHA-256).")
    if reasons:
        lines += ["What went wrong:", *(f"  {reason}" for reason in reasons)]
    raise FileNotFoundError("\n".join(lines))
