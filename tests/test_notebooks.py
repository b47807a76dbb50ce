"""The notebooks in examples/ run, cell by cell, and what they show can be shown.

They run without Jupyter: the last expression of a cell is asked for the forms in which a notebook
would show it.  `python tests/test_notebooks.py` runs them and writes their outputs into them.
"""

import ast
import contextlib
import io
import json
import linecache
import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def shown(value):
    """What a notebook would show of a value, by type."""
    if hasattr(value, "_repr_mimebundle_"):
        return {k: v for k, v in value._repr_mimebundle_().items() if k != "text/html"}
    forms = {"text/plain": str(value) if type(value).__str__ is not object.__str__ else repr(value)}
    if hasattr(value, "savefig"):
        import base64

        buffer = io.BytesIO()
        value.savefig(buffer, format="png", dpi=80)
        forms["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    elif hasattr(value, "_repr_html_"):
        forms["text/html"] = value._repr_html_()
    return forms


def run_cell(source, number, namespace):
    """Run one cell; gives its outputs as a notebook holds them."""
    name = f"<cell {number}>"
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    outputs = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
    if value is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": shown(value),
            }
        )
    return outputs


def run_notebook(path, write=False):
    """Run all cells in an empty folder, and write their outputs into the file if asked to."""
    import matplotlib

    matplotlib.use("agg")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    number = 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                number += 1
                cell["outputs"] = run_cell("".join(cell["source"]), number, namespace)
                cell["execution_count"] = number
    if write:
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    return notebook


@pytest.mark.full
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_something(path):
    cells = [c for c in run_notebook(path)["cells"] if c["cell_type"] == "code"]
    pictures = [
        kind
        for cell in cells
        for output in cell["outputs"]
        for kind in output.get("data", {})
        if kind in ("image/svg+xml", "image/png", "text/html")
    ]
    assert len(cells) >= 3 and len(pictures) >= 2


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} >= {"backprop", "inside_lenet5"}


def test_a_cell_that_fails_is_found():
    with pytest.raises(ZeroDivisionError):
        run_cell("x = 1\nx / 0", 1, {})
    assert run_cell("x = 3\nprint('p')\nx + 1", 1, {}) == [
        {"output_type": "stream", "name": "stdout", "text": "p\n"},
        {
            "output_type": "execute_result",
            "execution_count": 1,
            "metadata": {},
            "data": {"text/plain": "4"},
        },
    ]


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.path.insert(0, str(ROOT))
    for notebook in NOTEBOOKS:
        run_notebook(notebook, write=True)
        print(notebook)
