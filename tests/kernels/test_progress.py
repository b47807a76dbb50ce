"""The line that tells what is being compiled: after a second, and only where it is read."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from numba import prange

from minigrad_nn.kernels.cpu import cache, progress
from minigrad_nn.kernels.cpu.compile import Kernel


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stderr(monkeypatch):
    monkeypatch.delenv("MINIGRAD_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_spent", 2.0)
    monkeypatch.setattr(progress, "_began", None)
    found = Terminal()
    # pytest puts standard error of its own into `sys` between a fixture and its test.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=found))
    return found


def test_a_terminal_sees_one_line_that_is_cleared(stderr):
    progress.begins("some_kernel")
    shown = stderr.getvalue()
    assert "some_kernel (2 s so far)" in shown and "\n" not in shown
    progress.ends()
    assert stderr.getvalue().endswith("\r\x1b[K")
    assert progress._spent >= 2.0


def test_the_first_second_is_silent(stderr, monkeypatch):
    monkeypatch.setattr(progress, "_spent", 0.5)
    progress.begins("some_kernel")
    progress.ends()
    assert stderr.getvalue() == ""


def test_files_see_nothing_unless_asked_for(stderr, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=file))
    progress.begins("some_kernel")
    progress.ends()
    assert file.getvalue() == ""
    monkeypatch.setenv("MINIGRAD_PROGRESS", "1")
    progress.begins("some_kernel")
    progress.ends()
    assert file.getvalue().count("\n") == 1 and "some_kernel" in file.getvalue()


def test_zero_switches_it_off(stderr, monkeypatch):
    monkeypatch.setenv("MINIGRAD_PROGRESS", "0")
    progress.begins("some_kernel")
    progress.ends()
    assert stderr.getvalue() == ""


def test_compiling_tells_and_loading_does_not(stderr, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)

    def twice(x):
        for i in prange(len(x)):
            x[i] *= 2

    for wanted in (True, False):
        stderr.seek(0)
        stderr.truncate()
        made, x = Kernel(twice), np.ones(3)
        made(x)
        assert (x == 2).all()
        assert ("twice" in stderr.getvalue()) == wanted
