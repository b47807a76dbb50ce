"""The project as a whole: what importing it loads, and what its files may not contain."""

import ast
import json
import re
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


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_an_example_is_a_page():
    """At most 100 lines, beginning with what it shows."""
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 100, f"{path.name} is longer than a page"
        assert ast.get_docstring(ast.parse(text)), f"{path.name} does not say what it shows"


def test_a_record_of_results_names_the_command_that_made_it():
    """Every run in `examples/results` has the command, a program of `examples/`, and its date."""
    records = sorted((ROOT / "examples" / "results").glob("*.json"))
    assert records

    def runs(value):
        if not isinstance(value, dict):
            return
        if "command" in value:
            yield value
        for part in value.values():
            yield from runs(part)

    names = {f"examples/{path.name}" for path in EXAMPLES}
    for path in records:
        found = list(runs(json.loads(path.read_text(encoding="utf-8"))))
        assert found, f"{path.name} does not say how it was made"
        for run in found:
            program, *_ = run["command"].removeprefix("python ").split()
            assert program in names, f"{path.name}: {run['command']}"
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"]), path.name
