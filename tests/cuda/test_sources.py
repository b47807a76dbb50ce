"""What Numba's simulator would not notice in the source of a kernel, found by reading it.

The simulator tells shared arrays apart by the line they are made on: two on one line are one
array there, silently, and so are those of a helper that is called twice.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "minigrad_nn" / "kernels" / "cuda"
MADE = "shared.array("


def violations(path: str, text: str) -> Iterator[str]:
    """Lines that make two shared arrays, and helpers or loops that make one."""
    # Read as lines, so that the texts of generated kernels count too.
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(MADE) > 1:
            yield f"{path}:{number}: two shared arrays on one line"
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            marks = [ast.unparse(mark).split("(")[0] for mark in function.decorator_list]
            inside = [n for n in function.body if MADE in ast.unparse(n)]
            if inside and any(mark.split(".")[-1] == "helper" for mark in marks):
                yield f"{path}:{function.lineno}: a helper that makes a shared array"
        kinds = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp)
        if isinstance(function, kinds) and MADE in ast.unparse(function):
            yield f"{path}:{function.lineno}: a loop that makes shared arrays"


def test_each_shared_array_has_a_line_of_its_own():
    files = sorted(FOLDER.glob("*.py"))
    assert len(files) > 5
    assert [v for f in files for v in violations(f.name, f.read_text())] == []


@pytest.mark.parametrize(
    "text",
    [
        "def k():\n    a, b = cuda.shared.array(2, f), cuda.shared.array(3, f)\n",
        "def k():\n    a = [cuda.shared.array(2, f) for _ in range(2)]\n",
        "@helper\ndef h():\n    a = cuda.shared.array(2, f)\n",
        "def k():\n    for i in range(2):\n        a = cuda.shared.array(2, f)\n",
    ],
)
def test_a_planted_one_is_found(text):
    assert len(list(violations("k.py", text))) == 1
