"""Where caches and data are looked for."""

from pathlib import Path

import pytest

from minigrad_nn.folders import cache_folder, data_folder


@pytest.mark.parametrize(
    "platform, variables, wanted",
    [
        ("linux", {}, "home/.cache/minigrad"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/minigrad"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "home/Library/Caches/minigrad"),
        ("win32", {}, "home/AppData/Local/minigrad"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/minigrad"),
        ("linux", {"MINIGRAD_CACHE_DIR": "~/mine", "XDG_CACHE_HOME": "/x"}, "home/mine"),
    ],
)
def test_cache_folder(monkeypatch, tmp_path, platform, variables, wanted):
    for name in ("MINIGRAD_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == tmp_path / wanted


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    assert data_folder() is None
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    assert data_folder() == Path(tmp_path)
