"""`minigrad doctor`: it sees what is there, says what is missing, and never faints."""

import ctypes
import shutil

import pytest
from rich.console import Console

from minigrad_nn.cli import doctor, main


def facts(title):
    return {fact.name: fact for fact in dict(doctor.examine())[title]}


def test_the_report_has_all_its_parts(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for title in ("Versions", "Processor", "Threads", "CUDA", "Drawing", "Caches", "Data"):
        assert f"{title}\n" in text
    import numba
    import numpy

    assert f"numpy            {numpy.__version__}\n" in text
    assert f"numba            {numba.__version__}\n" in text
    assert "BLAS" in text and "layer" in text and "kernels" in text and "failed" not in text


def test_on_a_terminal_it_is_a_table(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "Console", lambda: Console(force_terminal=True, width=100))
    assert main(["doctor"]) == 0
    assert "\x1b[" in capsys.readouterr().out


def test_a_part_that_fails_stops_no_other(monkeypatch):
    def broken():
        raise RuntimeError("library of another processor")

    monkeypatch.setattr(doctor, "_cuda", broken)
    parts = dict(doctor.examine())
    assert parts["CUDA"] == [
        doctor.Fact("failed", "RuntimeError: library of another processor", doctor.MISSING)
    ]
    assert len(parts["Data"]) >= 3


def test_missing_packages_are_named_with_their_extra(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda package: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    versions, drawing = facts("Versions"), facts("Drawing")
    assert versions["matplotlib"].value == 'not installed: pip install "minigrad[plot]"'
    assert versions["numpy"].value == "missing, yet needed"
    assert "pip install" in drawing["PNG"].value and drawing["PNG"].state == doctor.MISSING
    assert drawing["builtin"].state == doctor.GOOD
    assert 'pip install "minigrad[data]"' in facts("Data")["digits"].value


class Driver:
    """What a CUDA driver's library answers."""

    def __init__(self, status=0):
        self.status = status

    def cuInit(self, flags):
        return self.status

    def cuGetErrorString(self, status, text):
        text._obj.value = b"no CUDA-capable device is detected"
        return 0

    def cuDriverGetVersion(self, number):
        number._obj.value = 13000
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device, index):
        return 0

    def cuDeviceGetName(self, name, size, device):
        ctypes.memmove(name, b"NVIDIA H100\0", 12)
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = 80 * 2**30
        return 0


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (None, ["not found: no libcuda on this machine, so no GPU is used"]),
        (Driver(100), ["found, but cuInit failed: no CUDA-capable device is detected (code 100)"]),
        (Driver(), ["for CUDA 13.0, 1 device(s)", "NVIDIA H100, 80 GiB"]),
    ],
)
def test_cuda_is_found_or_the_reason_is_told(library, words, monkeypatch):
    monkeypatch.setattr(doctor, "_cuda_library", lambda: library)
    found = [fact.value for fact in dict(doctor.examine())["CUDA"]]
    assert found[: len(words)] == words


def test_data_and_caches_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(b"")
    found = facts("Data")
    assert found["mnist"].value == f"1 of 4 files in {tmp_path / 'mnist'}"
    assert found["MINIGRAD_DATA"].value == str(tmp_path)
    monkeypatch.setattr("minigrad_nn.kernels.cpu.cache.folder", lambda: None)
    monkeypatch.setattr("minigrad_nn.kernels.cpu.cache.why_not", lambda: "the disk is full")
    assert facts("Caches")["kernels"].value.startswith("not kept: the disk is full")
