"""Compiled kernels on disk: kept, private, recovered when broken, done without when impossible."""

import os
import pickle
import subprocess
import sys
import time

import pytest

from minigrad_nn.kernels.cpu import cache

# `gather` is the smallest kernel; the last line says how often it was compiled and loaded.
SCRIPT = """
import sys
import numpy as np
from minigrad_nn import kernels
from minigrad_nn.kernels.cpu import cache, pool
x, i = np.arange(6.0).reshape(1, 1, 6), np.array([[[5, 0, 3]]])
assert kernels.gather(x, i).tolist() == [[[5, 0, 3]]]
stats = pool.gather_kernel.variant(parallel=True).stats
print(sum(stats.cache_misses.values()), sum(stats.cache_hits.values()))
print(cache.why_not())
"""


def start(folder, *options):
    environment = {**os.environ, "MINIGRAD_CACHE_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, *options, "-c", SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    counts, why = out.splitlines()
    return tuple(map(int, counts.split())), why, err


def entries(folder):
    return [p for p in folder.glob("kernels/*/*") if not p.name.startswith(("new-", "probe-"))]


def test_processes_that_start_at_once_then_one_that_finds_and_one_that_recovers(tmp_path):
    together = [start(tmp_path) for _ in range(2)]
    for process in together:
        (misses, hits), why, _ = finish(process)
        assert misses + hits == 1 and why == "None"
    (entry,) = entries(tmp_path)
    assert [p.name for p in entry.parent.iterdir()] == [entry.name], "nothing half-written is left"
    assert finish(start(tmp_path))[0] == (0, 1)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    assert finish(start(tmp_path))[0] == (1, 0)
    assert cache.read_entry(entry) is not None and finish(start(tmp_path))[0] == (0, 1)


def test_an_entry_that_cannot_be_unpickled_is_compiled_anew_with_a_warning(tmp_path):
    # Seen through the cache itself: the digest is right, the content is not a kernel.
    class Context:
        def refresh(self):
            pass

    kept = cache.KernelCache(test_a_digest_finds_a_changed_byte, "parallel", tmp_path)
    for content in (b"not a pickle", pickle.dumps(("too", "few"))):
        cache.write_entry(kept.path("signature"), content)
        with pytest.warns(RuntimeWarning, match="could not be loaded"):
            assert kept.load_overload("signature", Context()) is None
        assert not kept.path("signature").exists()


def test_without_a_folder_kernels_still_run(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    counts, why, err = finish(start(blocker))
    assert counts == (1, 0) and str(blocker) in why
    assert "RuntimeWarning: MINIGRAD_CACHE_DIR" in err


def test_a_digest_finds_a_changed_byte(tmp_path):
    path = tmp_path / "entry"
    cache.write_entry(path, b"code")
    assert cache.read_entry(path) == b"code"
    content = path.read_bytes()
    for broken in (content[:-1], content[:-1] + b"x", content[:10], b"", b"\0" * len(content)):
        path.write_bytes(broken)
        assert cache.read_entry(path) is None
        assert not path.exists(), "a broken entry is removed"
    assert cache.read_entry(path) is None


def test_what_cannot_be_written_leaves_no_trace(tmp_path):
    cache.write_entry(tmp_path / "missing" / "entry", b"code")
    (tmp_path / "folder").mkdir()
    cache.write_entry(tmp_path / "folder", b"code")  # a folder stands where the file should
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")


@posix
def test_a_new_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "new"))
    folder = cache.open_folder()
    assert folder == tmp_path / "new" / "kernels" / cache.key()
    for path in (folder, folder.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


@posix
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_folder_that_is_open_to_others_is_refused(tmp_path, mode):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(cache.Unusable, match=f"open to others .mode {mode:o}.*chmod 700"):
        cache.private_folder(tmp_path / "open")


@posix
def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(cache.Unusable, match="is not a folder"):
        cache.private_folder(tmp_path / "link")
    entry = tmp_path / "mine" / "entry"
    cache.write_entry(entry, b"code")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(cache.Unusable, match="belongs to user .*, not to 12345"):
        cache.private_folder(tmp_path / "mine")
    assert cache.read_entry(entry) is None


def test_the_key_follows_sources_and_options(tmp_path, monkeypatch):
    usual = cache.key()
    cache.key.cache_clear()
    monkeypatch.setattr(cache.config, "BOUNDSCHECK", 0 if cache.config.BOUNDSCHECK else 1)
    checked = cache.key()
    cache.key.cache_clear()
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cpu" / "cache.py"))
    (tmp_path / "cpu").mkdir()
    (tmp_path / "geometry.py").write_text("one = 1")
    first = cache.key()
    cache.key.cache_clear()
    (tmp_path / "geometry.py").write_text("one = 2")
    second = cache.key()
    cache.key.cache_clear()
    assert len({usual, checked, first, second}) == 4
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "array.py").write_text("one = 3")
    assert cache.key() == second  # that code is no part of it
    cache.key.cache_clear()


def test_folders_that_nobody_uses_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    root = tmp_path / "kernels"
    root.mkdir(mode=0o700)
    old, recent, other = (root / name for name in ("0" * 24, "1" * 24, "not ours"))
    for path in (old, recent, other):
        path.mkdir()
    past = time.time() - cache.KEEP_SECONDS - 10
    os.utime(old, (past, past))
    os.utime(other, (past, past))
    cache.open_folder()
    assert not old.exists() and recent.exists() and other.exists()
