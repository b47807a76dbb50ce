"""The tests of `tests/cuda/device`, in Numba's simulator, in a process of its own.

The simulator must be chosen before Numba is imported, and then no kernel of the CPU can be tested
in the same process.  On a machine with a card, `pytest tests/cuda/device` runs the same tests on
it.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "device"
ROOT = FOLDER.parent.parent.parent


def simulate(*arguments: str) -> str:
    """Run pytest in the simulator; gives its output.

    Raises:
        AssertionError: a test failed there, or none ran.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        reason = "numba-cuda, which brings the simulator, is not installed"
        if os.environ.get("MINIGRAD_REQUIRE_CUDA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout), done.stdout[-2000:]
    return done.stdout


def test_in_the_simulator():
    out = simulate(str(FOLDER))
    assert "skipped" not in out


@pytest.mark.full
def test_in_the_simulator_at_length():
    simulate("-m", "full", str(FOLDER))


def test_a_failure_there_is_a_failure_here(tmp_path):
    (tmp_path / "test_planted.py").write_text("def test_planted():\n    assert False\n")
    with pytest.raises(AssertionError, match="test_planted"):
        simulate(str(tmp_path / "test_planted.py"))
