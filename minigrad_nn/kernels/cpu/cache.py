"""Compiled kernels on disk: where they lie, who may have written them, and what to do when broken.

Numba's own cache keeps an index file beside numbered data files. Two processes that compile at
once can leave an index that points at the other one's code, a changed callee in another module is
not noticed, and a truncated entry raises. Entries are pickles, so a folder that others can write
would let them run code here. This cache has none of that:

- One file holds one function for one signature; its name is a hash of both. It is written beside
  its place and moved there in one step, so a reader sees all of it or nothing.
- It begins with a digest of the rest. What does not match is removed and compiled again.
- The folder's name is a hash of all sources of the kernels but CUDA's, the versions of Python,
  NumPy, Numba and llvmlite, the processor, and Numba's compile options: nothing stale can be found.
- The folder belongs to the user alone (mode 0700), or it is not used.
- Where nothing can be written, kernels are compiled in each process. Nothing here ever fails an
  import.

The folder is `$MINIGRAD_CACHE_DIR/kernels`, or `minigrad/kernels` in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import platform
import shutil
import stat
import sys
import tempfile
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from . import progress

MAGIC = b"minigrad kernel 1\n"
# Folders of other sources or versions that nobody has used for this long are removed.
KEEP_SECONDS = 60 * 24 * 3600


class Unusable(Exception):
    """Why a folder cannot serve as a cache."""


def root_folder() -> Path:
    """Where the caches of all versions lie: see the head of this file."""
    named = os.environ.get("MINIGRAD_CACHE_DIR")
    if named:
        return Path(named).expanduser() / "kernels"
    if sys.platform == "darwin":
        base = Path("~/Library/Caches").expanduser()
    elif sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path("~/AppData/Local").expanduser()
    else:
        xdg = os.environ.get("XDG_CACHE_HOME")
        base = Path(xdg) if xdg else Path("~/.cache").expanduser()
    return base / "minigrad" / "kernels"


@lru_cache(maxsize=1)
def key() -> str:
    """A hash of everything that compiled code depends on."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        if package / "cuda" in path.parents:
            continue  # other machine code, which is not kept here
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    options = {
        name: getattr(config, name, None)
        for name in ("BOUNDSCHECK", "OPT", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")
    }
    versions = (
        sys.version,
        platform.machine(),
        np.__version__,
        numba.__version__,
        llvmlite.__version__,
        cpu_target.target_context.codegen().magic_tuple(),
        sorted(options.items()),
    )
    digest.update(repr(versions).encode())
    return digest.hexdigest()[:24]


def private_folder(path: Path) -> None:
    """Make sure that `path` is a folder that only this user can write, making it if need be.

    Raises:
        Unusable: it cannot be made or written, or others could have written it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise Unusable(f"{path} is not a folder")
        if os.name == "posix":
            if status.st_uid != os.getuid():
                raise Unusable(f"{path} belongs to user {status.st_uid}, not to {os.getuid()}")
            if status.st_mode & 0o077:
                raise Unusable(
                    f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):o}); "
                    f"make it private with: chmod 700 {path}"
                )
        handle, probe = tempfile.mkstemp(prefix="probe-", dir=path)
        os.close(handle)
        os.unlink(probe)
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror or error}") from None


def open_folder() -> Path:
    """The folder of this process's cache.

    Raises:
        Unusable: says why there is none.
    """
    try:
        root = root_folder()
    except RuntimeError as error:  # no home folder can be found
        raise Unusable(str(error)) from None
    private_folder(root)
    path = root / key()
    fresh = not path.exists()
    private_folder(path)
    with contextlib.suppress(OSError):
        os.utime(path)
        if fresh:
            _remove_old(root, path)
    return path


@lru_cache(maxsize=1)
def folder() -> Path | None:
    """The folder of this process's cache, or None; `why_not()` then says why.

    A folder that MINIGRAD_CACHE_DIR asks for and that cannot be used is warned about.
    """
    try:
        return open_folder()
    except Unusable as reason:
        _reasons.append(str(reason))
        if os.environ.get("MINIGRAD_CACHE_DIR"):
            warnings.warn(
                f"MINIGRAD_CACHE_DIR: {reason}; kernels are compiled anew in each process",
                RuntimeWarning,
                stacklevel=2,
            )
        return None


_reasons: list[str] = []


def why_not() -> str | None:
    """Why compiled kernels are not kept, or None where they are."""
    return None if folder() is not None else _reasons[-1]


def _remove_old(root: Path, current: Path) -> None:
    for path in root.iterdir():
        if path != current and len(path.name) == len(current.name) and path.is_dir():
            if time.time() - path.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def write_entry(path: Path, content: bytes) -> None:
    """Put a file in its place in one step; where that fails, leave no trace and say nothing.

    A full disk costs the time of compiling once more, not the program.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix="new-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + hashlib.sha256(content).digest() + content)
        os.replace(temporary, path)
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def read_entry(path: Path) -> bytes | None:
    """The content of an entry, or None if there is none, or it is broken (then it is removed)."""
    try:
        with open(path, "rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            head = file.read(len(MAGIC) + 32)
            content = file.read()
    except OSError:
        return None
    if head == MAGIC + hashlib.sha256(content).digest():
        return content
    drop_entry(path)
    return None


def drop_entry(path: Path) -> None:
    """Remove an entry; if it is gone already, so much the better."""
    with contextlib.suppress(OSError):
        path.unlink()


class KernelCache:
    """The cache of one kernel, with the methods that Numba's dispatchers call on theirs."""

    def __init__(self, py_func: Any, variant: str, home: Path) -> None:
        """A cache for `py_func`, compiled with the options that `variant` names."""
        self._name = f"{py_func.__module__}.{py_func.__qualname__}.{variant}"
        self._kernel = py_func.__name__
        self._home = home
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """The folder, as text."""
        return str(self._home)

    def path(self, signature: Any) -> Path:
        """The file of one signature."""
        text = f"{self._name}\0{signature!r}"
        short = self._name.split(".")[-2]
        return self._home / f"{short}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code for a signature, or None, whatever is wrong with the entry."""
        if not self._enabled:
            return None
        target_context.refresh()
        path = self.path(sig)
        content = read_entry(path)
        if content is None:
            progress.begins(self._kernel)
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(content))
        except Exception as error:
            # Whatever an entry with a right digest raises, it was written by something else.
            warnings.warn(
                f"compiled kernel {path} could not be loaded ({error!r}) and is compiled anew",
                RuntimeWarning,
                stacklevel=2,
            )
            drop_entry(path)
            progress.begins(self._kernel)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled code for a signature."""
        progress.ends()
        # Code that holds addresses of this process cannot be kept.
        if self._enabled and not data.lifted and not data.library.has_dynamic_globals:
            write_entry(self.path(sig), dumps(data._reduce()))

    def enable(self) -> None:
        """Use the cache."""
        self._enabled = True

    def disable(self) -> None:
        """Use it no longer."""
        self._enabled = False

    def flush(self) -> None:
        """Remove every entry of this kernel."""
        for path in self._home.glob(f"{self._name.split('.')[-2]}-*"):
            drop_entry(path)
