"""The project as a whole: what importing it loads, and what its files may not contain."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROBE = "import sys, minigrad; print(*sorted({name.split('.')[0] for name in sys.modules}))"


def modules_loaded_by_import() -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after `import minigrad`."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_import_minigrad_loads_the_engine_and_numpy_only():
    loaded = modules_loaded_by_import()
    assert {"minigrad", "numpy"} <= loaded
    heavy = {"numba", "llvmlite", "graphviz", "rich", "minigrad_nn", "scipy", "matplotlib"}
    assert not loaded & heavy


def test_packages_say_that_they_are_typed():
    for package in ("minigrad", "minigrad_nn"):
        assert (ROOT / package / "py.typed").is_file()
