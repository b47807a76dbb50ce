"""The pictures that README and docs show are those that their script makes."""

import importlib.util
import re
from pathlib import Path

import pytest

from minigrad.draw import draw

DOCS = Path(__file__).parent.parent.parent / "docs"
spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
make_pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_pictures)


def without_tooltips(svg):
    """Tooltips have all digits, of which the last may depend on the machine's `exp`."""
    return re.sub(r"<(title|desc)>.*?</\1>", "", svg)


@pytest.mark.parametrize("name", make_pictures.PICTURES)
def test_a_checked_in_picture_is_up_to_date(name):
    made = make_pictures.PICTURES[name]().svg()
    stored = (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert without_tooltips(made) == without_tooltips(stored), "run python docs/make_pictures.py"


def test_the_first_picture_of_readme_is_that_of_its_first_example(tmp_path, monkeypatch):
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert "docs/pictures/circuit.svg" in readme
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert draw(names["f"]).graph == make_pictures.circuit().graph


def test_no_checked_in_drawing_is_left_over():
    stored = {path.stem for path in (DOCS / "pictures").glob("*.svg")}
    assert set(make_pictures.PICTURES) <= stored


def test_the_lecture_circuit_has_the_numbers_of_the_lecture():
    graph = make_pictures.chain_rule().graph
    assert {n.name: (n.value, n.gradient) for n in graph.nodes} == {
        "x": (-2.0, -4.0),
        "y": (5.0, -4.0),
        "z": (-4.0, 3.0),
        "q": (3.0, -4.0),
        "f": (-12.0, 1.0),
    }
    product = make_pictures.product().graph
    assert {n.name: (n.value, n.gradient) for n in product.nodes} == {
        "x": (4.0, -3.0),
        "y": (-3.0, 4.0),
        "f": (-12.0, 1.0),
    }
