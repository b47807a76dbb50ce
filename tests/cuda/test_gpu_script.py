"""`benchmarks/gpu.py` says why it does nothing without a card, and can be rehearsed without one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def script():
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_card_it_says_why(monkeypatch, capsys):
    gpu = script()
    monkeypatch.setattr(gpu, "child", lambda *a: (0, "False: there is none\n", ""))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    assert capsys.readouterr().out == "no card can be used here: False: there is none\n"


def test_a_part_that_hangs_is_ended():
    gpu = script()
    code, out, _ = gpu.child(
        [sys.executable, "-c", "import time; print('{\"a\": 1}', flush=True); time.sleep(60)"],
        2,
        {},
    )
    assert gpu.lines(code, out, "") == [{"a": 1}, {"failed": "took too long"}]


def test_the_table_relates_kernels_to_ceilings_and_peers_to_ours(capsys):
    script().table(
        {
            "kernels": [
                {"kernel": "ceiling: copy", "gbs": 2000.0},
                {"kernel": "relu", "milliseconds": 1.0, "gbs": 1000.0, "tflops": 0.0},
            ],
            "steps": [
                {
                    "network": "rnn",
                    "peer": "minigrad float32",
                    "milliseconds": 2.0,
                    "memory_mb": 1.0,
                },
                {"network": "rnn", "peer": "torch eager", "milliseconds": 3.0, "memory_mb": 1.0},
            ],
            "tests": {"ok": True, "summary": "9 passed"},
        }
    )
    out = capsys.readouterr().out
    assert "1000.0 GB/s   50%" in out and "ratio   1.50" in out and "tests: 9 passed" in out


@pytest.mark.full
def test_rehearsal(tmp_path):
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda, which brings the simulator, is not installed")
    done = subprocess.run(
        [
            sys.executable,
            SCRIPT,
            "--rehearse",
            "--only",
            "kernels",
            "steps",
            "--json",
            tmp_path / "j",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "j").read_text())
    assert {r["kernel"].split()[0] for r in found["kernels"]} >= {"product", "conv", "batch_norm"}
    assert [r["peer"] for r in found["steps"]] == ["minigrad float32", "minigrad TF32"]
